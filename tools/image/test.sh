#!/bin/sh
# Build the CPU image, with Ray, and use it as a user would:
#     tools/image/test.sh BIN [PYTEST_ARGUMENT...]
# BIN is the bin folder of a virtual environment with the dependencies of the tests. On a Debian
# machine without an engine, the script installs Debian's buildah and podman. buildah builds the
# image. podman runs it with a read-only root, no network, no capabilities, named volumes and
# `stop`, which buildah does not support.
set -eu
cd "$(dirname "$0")/../.."
. tools/image/engine.sh
bin=$1
shift

if ! runner >/dev/null; then
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
        echo "Neither docker nor podman works here; install one of them." >&2
        exit 1
    fi
    echo "No container engine works here: installing Debian's buildah and podman ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
        buildah podman runc debootstrap >/dev/null
fi
engine=$(runner)

: "${BASE:=$(sed -n 's/^ARG BASE=\(..*\)/\1/p' Dockerfile)}"
if ! pulled "$BASE"; then
    echo "No registry serves $BASE here."
    # Debian's own base then, of the newest release for whose Python pip finds the CPU build.
    release=trixie BASE_PYTHON=3.13
    "$bin/python" -m pip download --quiet --no-deps --only-binary=:all: --python-version 3.13 \
        --dest .cache/wheels "$(grep -o '^torch==[^ ]*' requirements-cpu.lock)" >/dev/null 2>&1 ||
        release=bookworm BASE_PYTHON=3.11
    BASE=localhost/atp-base-$release
    pulled "$BASE" || tools/image/base.sh "$BASE" "$release"
    export BASE_PYTHON
fi
export BASE

# Some virtual machines have no systemd, no bridge and no cgroups of their own.
if [ "$engine" = podman ] && ! podman run --rm "$BASE" true >/dev/null 2>&1; then
    CONTAINERS_CONF=$PWD/tools/image/containers.conf
    export CONTAINERS_CONF
fi

# The tests check that no part of these secrets is in the image.
secrets=$(mktemp -d)
stray=$(mktemp ./hf_token.XXXXXX) # beside the sources, as in a user's clone
trap 'rm -rf "$secrets" "$stray"' EXIT
canary=hf_canary$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
printf '# %s\n' "$canary" | tee "$secrets/pip.conf" >"$stray"

image=localhost/atp-test
built_with=$engine
if [ "$engine" = podman ] && buildah info >/dev/null 2>&1; then
    built_with=buildah
fi
PIP_CONF=${PIP_CONF:-$secrets/pip.conf} HF_TOKEN=$canary ENGINE=$built_with EXTRAS=ray \
    tools/image/build.sh "$bin/python" "$image" requirements-cpu.lock >"$secrets/log" 2>&1 || {
    tail -n 40 "$secrets/log" >&2
    exit 1
}
if grep -q "$canary" "$secrets/log"; then
    echo "The log of the build holds the hub token." >&2
    exit 1
fi
IMAGE=$image IMAGE_ENGINE=$engine IMAGE_CANARY=$canary \
    "$bin/python" -m pytest tests/image -m image --numprocesses="${WORKERS:-auto}" --dist=worksteal "$@"
