#!/bin/sh
# Make a virtual environment from a lock file, without pip in it; a step of the Dockerfile:
#     install.sh LOCK VENV WHEELS
# WHEELS is a folder for wheels that no index serves: the CPU build of torch.
set -eu
lock=$1 venv=$2 wheels=$3

python3 -m venv --without-pip "$venv"
./pip.sh --python "$venv/bin/python" install --quiet --no-deps --require-hashes \
    --only-binary :all: --no-compile --find-links "$wheels" --requirement "$lock"
