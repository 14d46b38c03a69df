"""Models in which something goes wrong at one pair.

The faults are below the product: in the modules of the Hugging Face model.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tiny
import torch

from atp.model import loading

MARKED = "~"
"""A token that stands in the prompt of one pair only."""


def broken(hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Be a layer with a fault of its own."""
    msg = "the layer broke"
    raise ArithmeticError(msg)


def too_large(hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Be a layer that needs more memory than there is."""
    raise torch.OutOfMemoryError


def not_a_number(hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Be a layer whose numbers are none."""
    return hidden.masked_fill(rows[:, None, None], torch.nan)


def deadly(hidden: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Be a layer that ends its process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return hidden


FAULTS = {"ArithmeticError": broken, "OOM": too_large, "Not finite": not_a_number}
"""By the error that the pair gets."""
IN_WORKERS = {**FAULTS, "Worker died": deadly}
"""Of a run on Ray."""
VARIABLE = "FAULTY_MODEL"


@dataclass
class Faulty:
    """A model in whose third layer something happens to the rows that hold the marked token."""

    fault: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def install(self) -> None:
        """Have every model that this process loads be such a one; called in a child."""
        proper = loading.load_model
        token = tiny.tokenizer().convert_tokens_to_ids(MARKED)

        def faulty(*arguments: Any, **named: Any) -> Any:
            model = proper(*arguments, **named)
            hf_model = model.bridge.original_model
            hf_model.get_input_embeddings().register_forward_pre_hook(look)
            hf_model.transformer.h[2].register_forward_hook(in_layer)
            return model

        def look(_module: Any, arguments: Any) -> None:
            self.rows = (arguments[0] == token).any(dim=1)

        def in_layer(_module: Any, _arguments: Any, output: Any) -> Any:
            if not self.rows.any():
                return output
            if isinstance(output, tuple):
                return (self.fault(output[0], self.rows), *output[1:])
            return self.fault(output, self.rows)

        loading.load_model = faulty


def in_workers(error: str) -> Callable[[], None]:
    """Return what makes a child a driver whose workers load such a model."""
    support = str(Path(__file__).parent)
    environment = {VARIABLE: error, "PYTHONPATH": support}
    hook = {"worker_process_setup_hook": "faulty_model.install_named", "env_vars": environment}

    def prepare() -> None:
        os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = json.dumps({"runtime_env": hook})

    return prepare


def install_named() -> None:
    """Have this worker load a model with the fault that the environment names."""
    Faulty(IN_WORKERS[os.environ[VARIABLE]]).install()
