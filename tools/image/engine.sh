# shellcheck shell=sh
# Other scripts source this file to find the engines that can build and run containers here.

# builder: print docker, podman or buildah, the first that works; ENGINE selects one.
builder() {
    for name in ${ENGINE:-docker podman buildah}; do
        # The client alone is not enough: docker needs its daemon.
        if "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "No container engine works here (${ENGINE:-docker, podman, buildah}); install one of them." >&2
    return 1
}

# runner: print docker or podman, the first that works. buildah can run commands of an image too,
# but it supports no entry point, named volume, read-only root or stop.
runner() {
    for name in ${ENGINE:-docker podman}; do
        if [ "$name" != buildah ] && "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    return 1
}

# pulled IMAGE: true if the builder has the image, or can pull it.
pulled() {
    case $(builder) in
        docker) docker image inspect "$1" || docker pull --quiet "$1" ;;
        podman) podman image exists "$1" || podman pull --quiet "$1" ;;
        buildah) buildah inspect --type image "$1" || buildah pull --quiet "$1" ;;
    esac >/dev/null 2>&1
}
