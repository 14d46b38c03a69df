"""The library: functions for notebooks, which run the same code as the commands."""

from atp.api.ablation import ablate
from atp.api.attribution import FileAnalysis, attribute, attribute_file
from atp.api.effects import exact_effects
from atp.api.generation import Response, generate
from atp.api.loading import load_model, load_sae
from atp.api.result import Result
from atp.errors import AtpError
from atp.features.aggregation import Features, select_features
from atp.model.dictionaries.loading import Dictionary
from atp.model.language_model import Model

__all__ = [
    "AtpError",
    "Dictionary",
    "Features",
    "FileAnalysis",
    "Model",
    "Response",
    "Result",
    "ablate",
    "attribute",
    "attribute_file",
    "exact_effects",
    "generate",
    "load_model",
    "load_sae",
    "select_features",
]
