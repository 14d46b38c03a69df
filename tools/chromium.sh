#!/bin/sh
# Make sure that Chromium is on PATH, for `make test-page`. Debian's is installed where the user may
# install packages.
set -eu
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then exit; fi
done
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "The tests of the report need Chromium on PATH: apt-get install chromium" >&2
    exit 1
fi
echo "Chromium is not on PATH: installing Debian's ..."
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends \
    chromium fonts-dejavu-core >/dev/null
