#!/usr/bin/env bash
# Make a virtual environment and install atp into it, with its dependencies:
#     tools/install.sh VENV PYTHON [LOCK]
# The default of LOCK is requirements.lock (torch for CUDA) if there is an NVIDIA GPU. Without a GPU
# it is requirements-cpu.lock if pip finds the CPU build of torch, which the public registry lacks;
# otherwise it is requirements.lock too.
set -euo pipefail
venv=$1 python=$2 lock=${3:-}
wheels=.cache/wheels

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
if [[ ! $version =~ ^3\.1[123]$ ]]; then
    echo "atp needs Python 3.11, 3.12 or 3.13, and $python is ${version:-no Python}: make install PYTHON=python3.13" >&2
    exit 1
fi
"$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check "$@"; }
mkdir -p "$wheels"

if [[ -z $lock ]]; then
    lock=requirements.lock
    if ! nvidia-smi >/dev/null 2>&1; then
        torch=$(grep -o '^torch==[^ ]*' requirements-cpu.lock)
        if pip download --no-deps --find-links "$wheels" --dest "$wheels" "$torch" &>/dev/null; then
            lock=requirements-cpu.lock
        else
            echo "pip finds no $torch here: installing the CUDA build, which runs on a CPU too (3 GB)."
        fi
    fi
fi

echo "Installing $lock into $venv; this takes a few minutes the first time ..."
# No compilation here: modules are compiled at their first import, and most are never imported.
install=(install --quiet --no-compile --no-deps --no-build-isolation)
pip "${install[@]}" --require-hashes --requirement requirements-build.lock
pip "${install[@]}" --require-hashes --find-links "$wheels" --requirement "$lock"
pip "${install[@]}" --editable .
