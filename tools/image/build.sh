#!/bin/sh
# Build the container image:
#     tools/image/build.sh PYTHON NAME [LOCK]
# PYTHON has pip, which downloads the one wheel that public indices lack. NAME is the name of the
# image. LOCK is requirements.lock (torch for CUDA) or requirements-cpu.lock. Variables of the
# environment, all optional:
#     EXTRAS         ray or kuberay: an extra of pyproject.toml
#     ENGINE         docker, podman or buildah
#     BASE           another base image: Linux x86-64 with Python and its venv module
#     BASE_PYTHON    the Python of BASE, if it is not 3.13
#     PIP_CONF       a pip.conf for the build, with an index of your own; stays out of the image
#     CERTIFICATES   a file of certificates for pip; stays out of the image
#     BUILD_OPTIONS  more options for the engine, such as --no-cache
set -eu
cd "$(dirname "$0")/../.."
. tools/image/engine.sh
python=$1 name=$2 lock=${3:-requirements.lock}
engine=$(builder)

if [ "$lock" = requirements-cpu.lock ]; then
    torch=$(grep -o '^torch==[^ ]*' "$lock")
    "$python" -m pip download --quiet --no-deps --only-binary=:all: \
        --python-version "${BASE_PYTHON:=3.13}" --find-links .cache/wheels --dest .cache/wheels \
        "$torch" || {
        echo "pip finds no $torch for Python $BASE_PYTHON:" \
            "set PIP_EXTRA_INDEX_URL to PyTorch's index of CPU wheels." >&2
        exit 1
    }
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
if [ -n "$(git status --porcelain 2>/dev/null)" ]; then
    revision=$revision-changed
fi
set -- --tag "$name" --build-arg LOCK="$lock" --build-arg EXTRAS="${EXTRAS:-}" \
    --build-arg VERSION="$version" --build-arg REVISION="$revision"
[ -z "${BASE:-}" ] || set -- "$@" --build-arg BASE="$BASE"
[ -z "${PIP_CONF:-}" ] || set -- "$@" --secret id=pip.conf,src="$PIP_CONF"
certificates=${CERTIFICATES:-${PIP_CERT:-${SSL_CERT_FILE:-}}}
[ -z "$certificates" ] || set -- "$@" --secret id=certificates,src="$certificates"

case $engine in
    docker) export DOCKER_BUILDKIT=1 && set -- build "$@" ;;
    podman) set -- build --layers "$@" ;;
    # As root in a container, buildah can make neither namespaces nor networks; chroot needs none.
    buildah) export BUILDAH_ISOLATION="${BUILDAH_ISOLATION:-chroot}" && set -- build --layers "$@" ;;
esac
echo "Building $name with $engine from $lock; this takes a few minutes the first time ..."
# The shell must split BUILD_OPTIONS into words.
# shellcheck disable=SC2086
"$engine" "$@" ${BUILD_OPTIONS:-} .
