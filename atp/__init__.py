"""atp: which features of a language model make it sycophantic.

The command line is `atp.cli.main`; a notebook uses the functions named here. They are imported on
first use, so that `import atp` and `atp --help` stay free of torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run the module
    from atp.api import AtpError as AtpError
    from atp.api import Dictionary as Dictionary
    from atp.api import Features as Features
    from atp.api import FileAnalysis as FileAnalysis
    from atp.api import Model as Model
    from atp.api import Response as Response
    from atp.api import Result as Result
    from atp.api import ablate as ablate
    from atp.api import attribute as attribute
    from atp.api import attribute_file as attribute_file
    from atp.api import exact_effects as exact_effects
    from atp.api import generate as generate
    from atp.api import load_model as load_model
    from atp.api import load_sae as load_sae
    from atp.api import select_features as select_features

__version__ = version("atp-sycophancy")

__all__ = [
    "AtpError",
    "Dictionary",
    "Features",
    "FileAnalysis",
    "Model",
    "Response",
    "Result",
    "__version__",
    "ablate",
    "attribute",
    "attribute_file",
    "exact_effects",
    "generate",
    "load_model",
    "load_sae",
    "select_features",
]

_WITHOUT_TORCH = {
    "AtpError": "atp.errors",
    "Features": "atp.features.aggregation",
    "select_features": "atp.features.aggregation",
}

if not TYPE_CHECKING:  # a checker would take every name for known

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name in __all__:
            return getattr(import_module(_WITHOUT_TORCH.get(name, "atp.api")), name)
        msg = f"module 'atp' has no attribute {name!r}"
        raise AttributeError(msg)

    def __dir__() -> list[str]:
        """Name what is public, imported or not."""
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
