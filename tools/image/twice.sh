#!/bin/sh
# Build the image twice from the same source, without any cache, and compare every file of atp and
# its dependencies, bytecode included, except for time stamps:
#     tools/image/twice.sh PYTHON [LOCK]
# Exit code 1: files differ. BASE and the other variables are those of build.sh.
set -eu
cd "$(dirname "$0")/../.."
. tools/image/engine.sh
python=$1 lock=${2:-requirements.lock}
engine=$(runner) || { echo "Neither docker nor podman works here." >&2 && exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

for build in 1 2; do
    BUILD_OPTIONS=--no-cache tools/image/build.sh "$python" "localhost/atp-build-$build" "$lock" \
        >"$folder/log" 2>&1 || { tail -n 40 "$folder/log" >&2 && exit 1; }
    "$engine" run --rm --network none --entrypoint sh "localhost/atp-build-$build" -c \
        'find /opt/atp /entrypoint.sh -type f -exec sha256sum {} + ; find /opt/atp -type l -printf "%p %l\n"' \
        >"$folder/unsorted"
    sort -k 2 "$folder/unsorted" >"$folder/$build"
    [ -s "$folder/$build" ]
    "$engine" rmi "localhost/atp-build-$build" >/dev/null
done
if ! diff "$folder/1" "$folder/2"; then
    exit 1
fi
echo "$(wc -l <"$folder/1") files are the same in both builds."
