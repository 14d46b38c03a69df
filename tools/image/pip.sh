#!/bin/sh
# pip for the stages that build the image, with the pip.conf and the certificates of the build
# secrets:
#     pip.sh ARGUMENT...
set -eu
if [ -s /run/secrets/pip.conf ]; then
    export PIP_CONFIG_FILE=/run/secrets/pip.conf
fi
if [ -s /run/secrets/certificates ]; then
    export PIP_CERT=/run/secrets/certificates
fi
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
exec /build/tools/bin/python -m pip "$@"
