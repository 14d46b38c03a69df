#!/bin/sh
# Make a base image from Debian's packages, for a machine that can reach no registry:
#     tools/image/base.sh NAME [RELEASE]
# RELEASE is trixie (Python 3.13) or bookworm (Python 3.11).
# It needs root, debootstrap, and podman, buildah or docker. Unlike the Dockerfile's own base it is
# not pinned: it holds the packages that Debian serves today.
set -eu
cd "$(dirname "$0")/../.."
. tools/image/engine.sh
name=$1 release=${2:-trixie} engine=$(builder)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
echo "Making the base image $name from Debian $release; this takes a minute ..."
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$release" \
    "$root/base" >"$root/log" 2>&1 || { tail -n 20 "$root/log" >&2 && exit 1; }
rm -rf "$root"/base/var/cache/apt/archives/*.deb "$root"/base/var/lib/apt/lists/* \
    "$root"/base/var/log/*
if [ "$engine" = buildah ]; then
    container=$(buildah from scratch)
    tar -C "$root/base" -cf "$root/base.tar" .
    buildah add --quiet "$container" "$root/base.tar" / >/dev/null
    buildah commit --quiet --rm "$container" "$name"
else
    tar -C "$root/base" -c . | "$engine" import - "$name"
fi
