#!/bin/sh
# Push the image `atp`, or `atp:EXTRA`, to a registry, with its version as the tag:
#     tools/image/push.sh NAME [EXTRA]
# NAME is the name in the registry, with the registry's host. Log in to the registry first.
set -eu
cd "$(dirname "$0")/../.."
. tools/image/engine.sh
engine=$(builder)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=$1:$version${2:+-$2}
"$engine" tag "atp${2:+:$2}" "$tag"
"$engine" push "$tag"
