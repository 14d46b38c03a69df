#!/usr/bin/env bash
# Write the lock files from pyproject.toml:
#     tools/lock.sh BIN [--upgrade]
# BIN is the bin folder of a virtual environment with uv and pip. Locked versions stay the same
# unless pyproject.toml forbids them; --upgrade takes the newest versions that it allows.
set -euo pipefail
bin=$(cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() {
    "$bin/uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --custom-compile-command "make lock" "$@"
}

# The dependencies of a run. The registry's torch for Linux is the CUDA build.
compile pyproject.toml --output-file requirements.lock "$@"

# The same versions with the CPU build of torch. Only pip's configuration has the place of that
# build, and uv does not read it. So pip downloads the wheel for uv.
torch=$(sed -n 's/^torch==\([^ ]*\).*/\1+cpu/p' requirements.lock)
"$bin/pip" download --quiet --no-deps --dest .cache/wheels "torch==$torch"
constraints=.cache/constraints.txt
sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' requirements.lock | grep -v '^torch==' >"$constraints"
echo "torch==$torch" >>"$constraints"
compile pyproject.toml --output-file requirements-cpu.lock --no-annotate \
    --find-links .cache/wheels --constraints "$constraints" "$@"

# The dependencies of checks and builds, with the same versions as above where they overlap.
for group in dev build; do
    compile --group "$group" --output-file "requirements-$group.lock" --no-annotate \
        --constraints requirements-cpu.lock "$@"
done
