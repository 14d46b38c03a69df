"""atp: which features of a language model make it sycophantic.

The command line is `atp.cli.main`; a notebook uses the functions named here. They are imported on
first use, so that `import atp` and `atp --help` stay free of torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import Any

__version__ = version("atp-sycophancy")

_HOME_OF = {
    "load_model": "atp.model.loading",
    "load_sae": "atp.model.dictionaries.loading",
    "ablate": "atp.intervention.ablate",
    "attribute": "atp.api",
    "exact_effects": "atp.api",
    "select_features": "atp.features.aggregation",
}

__all__ = [
    "__version__",
    "ablate",
    "attribute",
    "exact_effects",
    "load_model",
    "load_sae",
    "select_features",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401  (functions of several types)
    """Import a public function when it is first asked for."""
    if name in _HOME_OF:
        return getattr(import_module(_HOME_OF[name]), name)
    msg = f"module 'atp' has no attribute {name!r}"
    raise AttributeError(msg)
