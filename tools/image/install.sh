#!/bin/sh
# Make a virtual environment from a lock file, without pip in it; a step of the Dockerfile:
#     install.sh LOCK VENV WHEELS
# WHEELS is a folder for wheels that no index serves: the CPU build of torch.
set -eu
lock=$1 venv=$2 wheels=$3
got=$(mktemp -d)

# pip accepts only files whose hash is in the lock. A few packages ship as source only; they are
# built with the locked tools.
./pip.sh download --quiet --no-deps --require-hashes --no-build-isolation \
    --find-links "$wheels" --requirement "$lock" --dest "$got"
for source in "$got"/*.tar.gz; do
    ./pip.sh wheel --no-deps --no-index --no-build-isolation --wheel-dir "$got" "$source"
    rm "$source"
done

python3 -m venv --without-pip "$venv"
sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' "$lock" >"$got/names"
./pip.sh --python "$venv/bin/python" install --quiet --no-deps --no-index --no-compile \
    --find-links "$got" --requirement "$got/names"
rm -r "$got"
