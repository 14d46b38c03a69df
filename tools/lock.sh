#!/usr/bin/env bash
# Write the lock files from pyproject.toml:
#     tools/lock.sh BIN [--upgrade]
# BIN is the bin folder of a virtual environment that holds uv and pip. Locked versions stay as
# they are unless pyproject.toml forbids them; --upgrade takes the newest that it allows.
set -euo pipefail
bin=$(cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."

compile() {
    "$bin/uv" pip compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links \
        --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
        --custom-compile-command "make lock" "$@"
}

# What a run needs. The registry's torch for Linux is the CUDA build.
compile pyproject.toml --output-file requirements.lock "$@"

# The same versions with the CPU build of torch. uv does not read pip's configuration, which is
# what knows where that build is, so pip fetches the wheel for it.
torch=$(sed -n 's/^torch==\([^ ]*\).*/\1+cpu/p' requirements.lock)
"$bin/pip" download --quiet --no-deps --dest .cache/wheels "torch==$torch"
constraints=.cache/constraints.txt
sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' requirements.lock | grep -v '^torch==' >"$constraints"
echo "torch==$torch" >>"$constraints"
compile pyproject.toml --output-file requirements-cpu.lock --no-annotate \
    --find-links .cache/wheels --constraints "$constraints" "$@"

# What checking and building need, agreeing with the above where they overlap.
for group in dev build; do
    compile --group "$group" --output-file "requirements-$group.lock" --no-annotate \
        --constraints requirements-cpu.lock "$@"
done
