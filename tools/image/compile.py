"""Compile what atp loads; a step of the Dockerfile.

    python compile.py ROOT

atp was installed below ROOT, an image of the file system that is laid over the final one; there the
bytecode goes. The whole of the libraries' source would take four times the room, to no use.
Source and bytecode never change in an image, so that no time stamp need be compared, and the same
source gives the same bytes.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode, compile  # noqa: A004  (its name)

LATE = ("transformers.models.gemma2.modeling_gemma2", "sae_lens.loading.pretrained_sae_loaders")
"""What only a run loads."""


def loaded(root: Path) -> list[Path]:
    """Import atp, all of it, and return every source file that was loaded."""
    site = next(root.rglob("site-packages"))
    sys.path.insert(0, str(site))
    names = [module.name for module in pkgutil.walk_packages([str(site / "atp")], "atp.")]
    for name in (*LATE, *names):
        if name != "atp.__main__":
            importlib.import_module(name)
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    files.discard(__file__)
    return sorted(Path(file) for file in files if file.startswith("/") and file.endswith(".py"))


def compile_all(root: Path, files: list[Path]) -> None:
    """Write the bytecode of the files, where there is none yet."""
    for file in files:
        final = Path("/") / file.relative_to(root) if file.is_relative_to(root) else file
        bytecode = cache_from_source(str(final))
        if Path(bytecode).exists():
            continue  # the base has that of the standard library, or not
        target = root / bytecode.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = PycInvalidationMode.UNCHECKED_HASH
        compile(str(file), str(target), str(final), doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    top = Path(sys.argv[1]).resolve()
    if len(sys.argv) == 2:
        # In a process of its own: bytecode depends a little on what a process holds.
        listed = json.dumps([str(file) for file in loaded(top)])
        subprocess.run([sys.executable, __file__, top, "-"], input=listed, text=True, check=True)
    else:
        compile_all(top, [Path(name) for name in json.load(sys.stdin)])
