# atp, with everything it needs except models and SAEs.
#     make image              with docker, podman or buildah, the first that works
#     docker build -t atp .   the same by hand
# BASE is a Linux with Python 3.11 to 3.13 and its venv module. All stages use it.
ARG BASE=python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

# The build tools, in their locked versions. The build may mount a pip.conf (for example with an
# index of your own) and certificates as secrets; they stay out of the image.
# hadolint ignore=DL3006
FROM ${BASE} AS tools
WORKDIR /build
# Only compile.py writes bytecode.
ENV PYTHONDONTWRITEBYTECODE=1
COPY requirements-build.lock tools/image/pip.sh ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=certificates \
    python3 -m venv tools \
    && ./pip.sh install --no-deps --require-hashes --requirement requirements-build.lock

# The dependencies of atp: nearly all of the image, unchanged until the lock changes.
FROM tools AS dependencies
# requirements-cpu.lock leaves out the packages that only a GPU needs.
ARG LOCK=requirements.lock
COPY ${LOCK} requirements.lock
COPY tools/image/install.sh ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=certificates \
    --mount=type=bind,target=/context \
    ./install.sh requirements.lock /opt/atp /context/.cache/wheels

# What an extra of pyproject.toml adds, in a layer of its own: EXTRAS=ray or EXTRAS=kuberay.
FROM dependencies AS extras
ARG EXTRAS=
COPY requirements-ray.lock requirements-kuberay.lock ./
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=certificates \
    mkdir extras && for extra in ${EXTRAS}; do \
        ./pip.sh --python /opt/atp/bin/python install --root extras --quiet --no-deps --no-compile \
            --require-hashes --only-binary :all: --no-warn-script-location \
            --requirement "requirements-${extra}.lock" || exit 1; \
    done

# atp itself, and the bytecode of all that it loads. Without it each start would compile for 15 s.
FROM dependencies AS atp
COPY --from=extras /build/extras /
COPY pyproject.toml README.md LICENSE source/
COPY tools/package_metadata.py source/tools/
COPY atp source/atp
COPY tools/image/compile.py ./
RUN ./pip.sh wheel --no-deps --no-index --no-build-isolation --wheel-dir wheels ./source \
    && ./pip.sh --python /opt/atp/bin/python install --root added --no-deps --no-index \
        --no-compile --no-warn-script-location --find-links wheels atp-sycophancy \
    && PYTHONHASHSEED=0 /opt/atp/bin/python compile.py added

# hadolint ignore=DL3006
FROM ${BASE}
# pip, setuptools and wheel are removed if the base has them: a batch tool does not need them. The
# folders of a volume are open to every user, as /tmp is, because a new volume copies them.
RUN if python3 -m pip --version >/dev/null 2>&1; then \
        python3 -m pip uninstall --yes --root-user-action=ignore pip setuptools wheel; \
    fi \
    && echo "atp:x:10001:10001:atp:/tmp:/usr/sbin/nologin" >>/etc/passwd \
    && echo "atp:x:10001:" >>/etc/group \
    && mkdir /data /data/input /data/results /data/cache \
    && chmod 1777 /data /data/input /data/results /data/cache
COPY --from=dependencies /opt/atp /opt/atp
COPY --from=extras /build/extras /
COPY --from=atp /build/added /
COPY --chmod=755 entrypoint.sh /

# A hub token may be mounted as a file at HF_TOKEN_PATH. USER is for libraries that ask for a user
# name: a uid that the user chose has none. The bytecode is complete, and no user could add to it.
# hadolint ignore=DL3064
ENV PATH=/opt/atp/bin:$PATH \
    HOME=/tmp \
    USER=atp \
    ATP_OUT=/data/results/feedback \
    HF_HOME=/data/cache/huggingface \
    HF_TOKEN_PATH=/run/secrets/hf_token \
    HF_HUB_DISABLE_TELEMETRY=1 \
    DO_NOT_TRACK=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /data
STOPSIGNAL SIGTERM
ENTRYPOINT ["/entrypoint.sh"]

# These come last, so that a new commit rebuilds nothing.
ARG VERSION=unknown
ARG REVISION=unknown
ARG BASE
LABEL org.opencontainers.image.title="atp" \
      org.opencontainers.image.description="Which features of a language model make it sycophantic" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="${BASE}"
