"""atp: which features of a language model make it sycophantic.

The command line is `atp.cli.main`; a notebook uses the functions named here. They are imported on
first use, so that `import atp` and `atp --help` stay free of torch.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors and type checkers, which do not run the module
    from atp.api.ablation import ablate as ablate
    from atp.api.attribution import FileAnalysis as FileAnalysis
    from atp.api.attribution import attribute as attribute
    from atp.api.attribution import attribute_file as attribute_file
    from atp.api.effects import exact_effects as exact_effects
    from atp.api.generation import Response as Response
    from atp.api.generation import generate as generate
    from atp.api.loading import load_model as load_model
    from atp.api.loading import load_sae as load_sae
    from atp.api.result import Result as Result
    from atp.api.selection import Features as Features
    from atp.api.selection import select_features as select_features
    from atp.errors import AtpError as AtpError
    from atp.model.dictionaries.loading import Dictionary as Dictionary
    from atp.model.language_model import Model as Model

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

_HOMES = {
    "AtpError": "atp.errors",
    "Dictionary": "atp.model.dictionaries.loading",
    "Features": "atp.api.selection",
    "FileAnalysis": "atp.api.attribution",
    "Model": "atp.model.language_model",
    "Response": "atp.api.generation",
    "Result": "atp.api.result",
    "ablate": "atp.api.ablation",
    "attribute": "atp.api.attribution",
    "attribute_file": "atp.api.attribution",
    "exact_effects": "atp.api.effects",
    "generate": "atp.api.generation",
    "load_model": "atp.api.loading",
    "load_sae": "atp.api.loading",
    "select_features": "atp.api.selection",
}

if not TYPE_CHECKING:  # a checker would take every name for known

    def __getattr__(name: str) -> object:
        """Import a public name when it is first asked for."""
        if name in _HOMES:
            return getattr(import_module(_HOMES[name]), name)
        msg = f"module 'atp' has no attribute {name!r}"
        raise AttributeError(msg)

    def __dir__() -> list[str]:
        """Name what is public, imported or not."""
        return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
