#!/usr/bin/env bash
# Write the lock files from pyproject.toml:
#     tools/lock.sh BIN [--upgrade]
# BIN is the bin folder of a virtual environment with uv and pip. Locked versions stay the same
# unless pyproject.toml forbids them; --upgrade takes the newest versions that it allows.
set -euo pipefail
bin=$(cd "$1" && pwd)
shift
cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Packages that the model libraries name but that atp's use of them never imports, and all that only
# these need: 117 MB installed. `make package` runs atp without them.
cat >"$folder/unused" <<'END'
babe                                      # SAELens: a tutorial
nltk                                      # SAELens: a tutorial
plotly                                    # SAELens: figures of synthetic data
plotly-express                            # SAELens: a tutorial; brings statsmodels
python-dotenv                             # SAELens: uploads to Neuronpedia
tenacity                                  # SAELens: nothing imports it
beartype                                  # TransformerLens: nothing imports it
fancy-einsum                              # TransformerLens: nothing imports it
transformers-stream-generator             # TransformerLens: Qwen 1; ships as source only
typeguard                                 # TransformerLens: nothing imports it
cwevals                                   # wandb: evaluation tables
opentelemetry-exporter-otlp-proto-http    # wandb: its own telemetry
opentelemetry-sdk                         # wandb: its own telemetry
END

# All packages must ship as wheels.
compile() { # OPTION...
    "$bin/uv" pip compile --quiet --python-version 3.11 --only-binary :all: --generate-hashes \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

# One resolution for all environments of tool.uv in pyproject.toml. The marker that stands for them
# is left out; a package that only some of them need would keep a marker of its own.
compile_for_all() { # LOCK OPTION...
    compile --universal --output-file "$@"
    sed -i -E "s/ ; python_full_version < '3.14' and [^;]+ == 'linux'( \\\\)?$/\1/" "$1"
}

# The dependencies of a run. The registry's torch for Linux is the CUDA build.
compile_for_all requirements.lock pyproject.toml --excludes "$folder/unused" "$@"

# The same versions with the CPU build of torch. Only pip's configuration has the place of that
# build, and uv does not read it. So pip downloads the wheels for uv. Where pip finds none for a
# Python, the lock keeps the hash that it has.
torch=$(sed -n 's/^torch==\([^ ]*\).*/\1+cpu/p' requirements.lock)
for python in 3.11 3.12 3.13; do
    "$bin/pip" download --quiet --no-deps --python-version "$python" --only-binary :all: \
        --dest .cache/wheels "torch==$torch" 2>/dev/null ||
        echo "pip finds no torch $torch for Python $python: does requirements-cpu.lock have its hash?"
done
sed -n 's/^\([^ #]*==[^ ]*\).*/\1/p' requirements.lock | grep -v '^torch==' >"$folder/pins"
echo "torch==$torch" >>"$folder/pins"
compile --python-platform x86_64-manylinux_2_28 pyproject.toml --output-file requirements-cpu.lock \
    --no-annotate --find-links .cache/wheels --constraints "$folder/pins" \
    --excludes "$folder/unused" "$@"

# What each extra adds to either of them. Ray's job server imports opentelemetry-sdk.
sed -i '/^opentelemetry-sdk /d' "$folder/unused"
sed -n 's/^\([^ #]*\)==.*/--no-emit-package=\1/p' requirements.lock >"$folder/present"
mapfile -t present <"$folder/present"
for extra in ray kuberay; do
    compile_for_all "requirements-$extra.lock" pyproject.toml --extra "$extra" --no-annotate \
        --constraints requirements.lock --excludes "$folder/unused" "${present[@]}" "$@"
    sed -i '/^$/,$d' "requirements-$extra.lock" # the list of what it leaves out
done

# The dependencies of checks and builds, with the same versions as above where they overlap.
for group in dev build; do
    compile_for_all "requirements-$group.lock" --group "$group" --no-annotate \
        --constraints requirements-cpu.lock --constraints requirements-kuberay.lock "$@"
done
