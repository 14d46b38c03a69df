#!/bin/sh
# Push the image `atp` to a registry, with its version as the tag:
#     tools/image/push.sh NAME
# NAME is the name in the registry, with the registry's host. Log in to the registry first.
set -eu
cd "$(dirname "$0")/../.."
. tools/image/engine.sh
engine=$(builder)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
"$engine" tag atp "$1:$version"
"$engine" push "$1:$version"
