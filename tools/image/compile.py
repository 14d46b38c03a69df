"""Compile the modules that atp loads; a step of the Dockerfile.

    python compile.py ROOT

atp is installed below ROOT, a tree of files that is later copied over the image's root. The
bytecode is written there. Only modules that atp loads are compiled: the bytecode of all library
source would take four times the space without use. Source and bytecode never change in an image,
so Python need not compare time stamps, and the same source gives the same bytes.
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
"""Modules that only a run loads."""

OF_RAY = (
    "ray._private.log_monitor",
    "ray._private.runtime_env.agent.main",
    "ray._private.workers.default_worker",
    "ray.autoscaler._private.monitor",
    "ray.dashboard.agent",
    "ray.dashboard.dashboard",
    "ray.scripts.scripts",
)
"""Modules that the processes of Ray load, where it is installed."""


def import_if_installed(name: str) -> None:
    """Import a module, unless it needs an extra that this image does not have."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise


def loaded(root: Path) -> list[Path]:
    """Import all modules of atp, and return every source file that was loaded."""
    site = next(root.rglob("site-packages"))
    sys.path.insert(0, str(site))
    names = [module.name for module in pkgutil.walk_packages([str(site / "atp")], "atp.")]
    for name in (*LATE, *OF_RAY, *names):
        if name != "atp.__main__":
            import_if_installed(name)
    files = {getattr(module, "__file__", None) or "" for module in list(sys.modules.values())}
    files.discard(__file__)
    return sorted(Path(file) for file in files if file.startswith("/") and file.endswith(".py"))


def compile_all(root: Path, files: list[Path]) -> None:
    """Write the bytecode of the files that have none yet."""
    for file in files:
        final = Path("/") / file.relative_to(root) if file.is_relative_to(root) else file
        bytecode = cache_from_source(str(final))
        if Path(bytecode).exists():
            continue  # some bases bring the bytecode of the standard library
        target = root / bytecode.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        mode = PycInvalidationMode.UNCHECKED_HASH
        compile(str(file), str(target), str(final), doraise=True, invalidation_mode=mode)


if __name__ == "__main__":
    top = Path(sys.argv[1]).resolve()
    if len(sys.argv) == 2:
        # A new process compiles, because bytecode depends a little on the state of its process.
        listed = json.dumps([str(file) for file in loaded(top)])
        subprocess.run([sys.executable, __file__, top, "-"], input=listed, text=True, check=True)
    else:
        compile_all(top, [Path(name) for name in json.load(sys.stdin)])
