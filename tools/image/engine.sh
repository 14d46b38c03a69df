# shellcheck shell=sh
# Sourced: finds out what can build and run containers here.

# builder: print docker, podman or buildah, whichever works first; ENGINE asks for one.
builder() {
    for name in ${ENGINE:-docker podman buildah}; do
        # A client alone is not enough: docker needs its daemon.
        if "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    echo "No container engine works here (${ENGINE:-docker, podman, buildah}); install one of them." >&2
    return 1
}

# runner: print docker or podman, whichever works first. buildah can run an image's commands, too,
# but neither its entry point nor named volumes, a read-only root or a stop.
runner() {
    for name in ${ENGINE:-docker podman}; do
        if [ "$name" != buildah ] && "$name" info >/dev/null 2>&1; then
            echo "$name"
            return
        fi
    done
    return 1
}

# pulled IMAGE: whether the runner or builder has it, or gets it.
pulled() {
    case $(builder) in
        docker) docker image inspect "$1" || docker pull --quiet "$1" ;;
        podman) podman image exists "$1" || podman pull --quiet "$1" ;;
        buildah) buildah inspect --type image "$1" || buildah pull --quiet "$1" ;;
    esac >/dev/null 2>&1
}
