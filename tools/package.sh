#!/usr/bin/env bash
# Build the wheel and the sdist into dist/, and try the wheel in a clean environment:
#     tools/package.sh BIN
# BIN is the bin folder of a virtual environment with the dependencies of the tests. It makes a tiny
# model and an SAE; the wheel's own environment, which has the locked dependencies of a run and
# nothing else, scores them. With SOURCE_URL=https://github.com/OWNER/NAME, the metadata name the
# repository and the README's links work on a package index. TAG is the tag of a release, if any.
set -euo pipefail
bin=$(cd "$1" && pwd)
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
if [[ ${TAG:-v$version} != "v$version" ]]; then
    echo "The tag is $TAG, and the version in pyproject.toml $version." >&2
    exit 1
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
lock=$("$bin/python" -c 'import torch; print("requirements" + "-cpu" * (torch.version.cuda is None) + ".lock")')

# The wheel is built from the sdist, so the sdist is known to be whole.
rm -f dist/*.tar.gz dist/*.whl
"$bin/python" -m hatchling build --target sdist --directory dist
"$bin/python" -m pip wheel --quiet --no-deps --no-index --no-build-isolation --wheel-dir dist dist/*.tar.gz
"$bin/python" tools/check_package.py dist

echo "Installing the wheel and $lock into a clean environment ..."
"$bin/python" -m venv "$folder/venv"
pip=("$folder/venv/bin/python" -m pip --disable-pip-version-check)
"${pip[@]}" install --quiet --no-compile --no-deps --require-hashes --only-binary :all: \
    --find-links .cache/wheels --requirement "$lock"
"${pip[@]}" install --quiet --no-compile --no-deps --no-index dist/*.whl

PYTHONPATH=tests/support "$bin/python" - "$folder" <<'END'
import json, sys
from pathlib import Path

import tiny

folder = Path(sys.argv[1])
tiny.save_model(folder / "tiny", "gpt2")
tiny.make_sae("standard").save_model(folder / "sae")
content = {"metadata": {"model_name": "tiny"}, "results": tiny.questions()}
(folder / "questions.json").write_text(json.dumps(content))
END
cd "$folder"
unset PYTHONPATH
export HF_HUB_OFFLINE=1 CUDA_VISIBLE_DEVICES=""
venv/bin/atp --help >/dev/null
result=$(venv/bin/atp run questions.json --model=tiny --sae=sae --out=results)
venv/bin/atp report "$result" --out=report.html >/dev/null # of files that are no modules
venv/bin/python - "$result" <<'END'
import json, sys
from importlib.metadata import version

import atp

counts = json.load(open(sys.argv[1]))["metadata"]["atp"]["counts"]
print("atp", version("atp-sycophancy"), "of", atp.__file__, "scored", counts)
sys.exit(counts["scored"] != 15)
END
