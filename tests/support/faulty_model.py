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
from atp.run import metadata

SCORE_BOUND, LOGIT_BOUND = 1e-5, 1e-4  # as in test_oracle.py
MARKED, ALSO_MARKED = "~", "|"
"""Tokens that stand in the prompt of one pair only."""


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
OTHER_SOURCE = "other source"
"""Instead of errors: the workers' atp is another one than the driver's."""
VARIABLE = "FAULTY_MODEL"


@dataclass
class Faulty:
    """A model in whose third layer something happens to the rows that hold a marked token."""

    fault: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    mark: str = MARKED

    def install(self) -> None:
        """Have every model that this process loads be such a one; called in a child."""
        proper = loading.load_model
        token = tiny.tokenizer().convert_tokens_to_ids(self.mark)

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


def in_workers(*errors: str) -> Callable[[], None]:
    """Return what makes a child a driver whose workers load a model with a fault at each mark."""
    support = str(Path(__file__).parent)
    environment = {VARIABLE: ",".join(errors), "PYTHONPATH": support}
    hook = {"worker_process_setup_hook": "faulty_model.install_named", "env_vars": environment}

    def prepare() -> None:
        os.environ["RAY_JOB_CONFIG_JSON_ENV_VAR"] = json.dumps({"runtime_env": hook})

    return prepare


def install_named() -> None:
    """Have this worker load a model with the faults that the environment names."""
    errors = os.environ[VARIABLE].split(",")
    if errors == [OTHER_SOURCE]:
        vars(metadata)["source_sha256"] = lambda: "0" * 64
        return
    for error, mark in zip(errors, (MARKED, ALSO_MARKED), strict=False):
        Faulty(IN_WORKERS[error], mark).install()


def assert_close(found: dict[str, Any], healthy: dict[str, Any]) -> None:
    """Two analyses of a pair, from batches of different make-up, are the same."""
    assert abs(found["logit_diff"] - healthy["logit_diff"]) <= LOGIT_BOUND
    scores = [
        {feature["id"]: feature["score"] for feature in analysis["top_features"]}
        for analysis in (found, healthy)
    ]
    largest = max(map(abs, scores[1].values()))
    for name in scores[0].keys() & scores[1].keys():
        assert abs(scores[0][name] - scores[1][name]) <= SCORE_BOUND * largest
    for name in scores[0].keys() ^ scores[1].keys():  # a tie at the end of the list
        score = scores[0].get(name) or scores[1].get(name)
        assert abs(abs(score) - min(map(abs, scores[1].values()))) <= SCORE_BOUND * largest
