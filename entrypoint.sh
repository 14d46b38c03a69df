#!/bin/sh
# The container starts this script. It runs an atp command, or `atp run` on the newest input of the
# volume.
#     docker run ... atp                    atp run
#     docker run ... atp --limit=5          atp run --limit=5
#     docker run ... atp check --json       any command of atp
# Before that it checks the facts about the container that atp cannot know: whether the volume is
# mounted and writable, and whether a GPU was passed in. exec makes atp process 1, which gets the
# signals.
set -eu
trap 'exit 143' TERM # until exec: process 1 ignores signals that it does not handle
trap 'exit 130' INT

readonly volume=/data
readonly oldest_driver=580.65 # for CUDA 13; the same as in atp/check/machine.py
readonly driver_file=/proc/driver/nvidia/version
readonly environment=/opt/atp # the virtual environment

escaped() { printf '%s' "$1" | LC_ALL=C tr '\000-\037\177-\377' '[ *]' | sed 's/[\\"]/\\&/g'; }

# say LEVEL EVENT MESSAGE HINT: print a line for a person on a terminal, otherwise JSON like the log
# of atp.
say() {
    if [ -t 2 ]; then
        printf 'atp: %s %s\n' "$3" "$4" >&2
        return
    fi
    printf '{"message": "%s", "hint": "%s", "event": "%s", "level": "%s", "timestamp": "%s"}\n' \
        "$(escaped "$3")" "$(escaped "$4")" "$2" "$1" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >&2
}

refuse() { # EXIT_CODE MESSAGE HINT
    say error container.refused "$2" "$3"
    exit "$1"
}

# value OPTION DEFAULT ARGUMENT...: print the value of an option on the command line.
value() {
    option=$1 found=$2
    shift 2
    while [ $# -gt 0 ]; do
        case $1 in
            "$option") found=${2-} ;;
            "$option"=*) found=${1#*=} ;;
        esac
        shift
    done
    printf '%s' "$found"
}

# on_volume PATH: true if PATH is below /data. Relative names are relative to /data.
on_volume() {
    case $1 in
        "$volume" | "$volume"/*) return 0 ;;
        /*) return 1 ;;
        *) [ "$(pwd)" = "$volume" ] ;;
    esac
}

check_mounted() { # PATH
    # PATH is on a mount if the volume is a mount, or a folder between the volume and PATH.
    path=$1
    while ! cut -d ' ' -f 5 /proc/self/mountinfo | grep -q -x -F -e "$path"; do
        case $path in
            "$volume"/*) path=${path%/*} ;;
            *) refuse 2 \
                "nothing is mounted at $volume: results would disappear with the container." \
                "Mount a volume or a folder: docker run -v data:$volume ..." ;;
        esac
    done
}

check_writable() {
    path=$1
    while [ ! -e "$path" ] && [ "$path" != / ]; do
        path=$(dirname -- "$path")
    done
    if [ -w "$path" ] && [ -x "$path" ]; then
        return
    fi
    refuse 2 "user $(id -u):$(id -g) may not write to $path, which belongs to $(stat -c %u:%g "$path")." \
        "Start the container with --user $(stat -c %u:%g "$path"), or change the owner of the folder on the host: chown -R $(id -u):$(id -g) FOLDER. No user can write to a volume that is mounted with :ro."
}

check_cache() {
    cache=${HF_HOME:-/tmp}
    if [ -e "$cache" ] && { [ ! -r "$cache" ] || [ ! -x "$cache" ]; }; then
        refuse 2 "user $(id -u):$(id -g) may not read the cache $cache, which belongs to $(stat -c %u:%g "$cache")." \
            "Make it readable on the host: chmod -R a+rX FOLDER."
    fi
}

check_token() {
    token=${HF_TOKEN_PATH:-}
    if [ -z "$token" ] || [ ! -e "$token" ]; then
        return
    elif [ -d "$token" ]; then # docker mounts a folder if the host has no such file
        say warning container.token "the hub token $token is a folder, not a file; no token is used." \
            "Mount the file that holds the token. If the file does not exist, docker makes a folder."
        unset HF_TOKEN_PATH
    elif [ ! -r "$token" ]; then
        say warning container.token \
            "user $(id -u):$(id -g) may not read the hub token in $token; no token is used." \
            "Make that user the owner of the file on the host: chown $(id -u) FILE, chmod 400 FILE."
        unset HF_TOKEN_PATH
    fi
}

# driver: print the release of the host's driver; nothing if there is none.
driver() {
    sed -n 's/^NVRM version:.*[^0-9.]\([0-9][0-9]*\.[0-9][0-9.]*\)[^0-9.].*/\1/p' \
        "$driver_file" 2>/dev/null || true
}

check_gpu() {
    set -- "$environment"/lib/python3*/site-packages/torch/lib/libtorch_cuda.so
    [ -e "$1" ] || return 0 # the CPU build cannot use a GPU
    release=$(driver)
    if [ ! -e /dev/nvidiactl ] && [ ! -e /dev/dxg ]; then
        why="this machine has no NVIDIA driver, or the container cannot see it"
        [ -z "$release" ] || why="the host's driver is $release, but no GPU was passed in"
        say warning container.gpu "no GPU is visible in this container: $why; the CPU computes." \
            "docker run --gpus all passes the GPUs in; the host needs NVIDIA's driver $oldest_driver or newer and its container toolkit. With --device=cpu this line does not appear."
    elif [ -n "$release" ] && [ "$(printf '%s\n' "$oldest_driver" "$release" |
        sort -t. -k1,1n -k2,2n | head -n 1)" != "$oldest_driver" ]; then
        refuse 3 "the host's NVIDIA driver $release is too old: CUDA 13 needs $oldest_driver or newer." \
            "Update the driver on the host, or pass --device=cpu."
    fi
}

check_input() {
    if [ -d "$volume/input" ] && { [ ! -r "$volume/input" ] || [ ! -x "$volume/input" ]; }; then
        refuse 2 "user $(id -u):$(id -g) may not read $volume/input." \
            "Make it readable on the host: chmod -R a+rX FOLDER."
    fi
    for file in "$volume"/input/*.json "$volume"/input/*.jsonl; do
        [ ! -f "$file" ] || return 0
    done
    say warning container.idle "nothing to do: $volume/input holds no *.json or *.jsonl file." \
        "Put a file of the model's responses there, or name a file: docker run ... atp run FILE"
    exit 0
}

plain=no
for argument in "$@"; do
    case $argument in
        --help | -h) exec atp "$@" ;;
    esac
done
case ${1-} in
    --version) exec atp "$@" ;;
    "" | -*) plain=yes && set -- run "$@" ;;
esac

case $1 in
    run | bench | merge | features | intervene | report)
        out=$(value --out "${ATP_OUT:-$volume/results/feedback}" "$@")
        case $out in
            *.html) out=$(dirname -- "$out") ;; # the page itself
        esac
        if on_volume "$out"; then
            case $out in
                /*) check_mounted "$out" ;;
                *) check_mounted "$volume/$out" ;;
            esac
        fi
        check_writable "$out"
        ;;
    fetch)
        if on_volume "${HF_HOME:-/tmp}"; then
            check_mounted "${HF_HOME:-/tmp}"
        fi
        check_writable "${HF_HOME:-/tmp}"
        ;;
esac
case $1 in
    run | bench | check | fetch | intervene) check_cache ;;
esac
for argument in "$@"; do # a file name, or the value of an option: atp decides
    case $argument in
        run | -*) ;;
        *) plain=no ;;
    esac
done
if [ $plain = yes ] && [ -z "${ATP_INPUT:-}" ]; then
    check_input
fi
case $1 in
    run | bench | check | intervene)
        if [ -z "$(value --device "${ATP_DEVICE:-}" "$@")" ]; then
            check_gpu
        fi
        ;;
esac
check_token
# Python needs a moment before it handles signals. Signals are blocked until then; without this,
# process 1 would lose them.
exec env --block-signal=TERM,INT atp "$@"
