"""What fails inside the model at one pair costs no other pair its result, nor the next start.

The faults are below the product: in the modules of the Hugging Face model.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from disturbed_runs import OUT, Job, Report, saved
from runs import analyses, events, of, read, without_times
from tiers import first_tier

from atp.errors import ExitCode
from atp.model import loading

SCORE_BOUND, LOGIT_BOUND = 1e-5, 1e-4  # as in test_oracle.py
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


FAULTS = {"ArithmeticError": broken, "OOM": too_large, "Not finite": not_a_number}
"""By the error that the pair gets."""


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


@pytest.mark.parametrize("error", first_tier(["OOM"], FAULTS))
def test_a_fault_at_a_random_pair_is_that_pairs_error_until_the_next_start(
    job_of: Callable[..., Job],
    tmp_path: Path,
    error: str,
    report: Report,
) -> None:
    seeds = range(10 if report.full else 1)
    for seed in seeds:
        chance = random.Random(f"{error} {seed}")  # noqa: S311  (which pair)
        marked = chance.randrange(36)
        job = job_of(12, "--save-interval=1", marked=(marked, MARKED))
        folder = tmp_path / str(seed)
        ended = job.run(folder, Faulty(FAULTS[error]).install)
        assert ended.code == ExitCode.PAIRS_FAILED, ended.err
        result = read(folder / ended.out.strip())
        assert result["metadata"]["atp"]["counts"]["error"] == 1
        found = list(analyses(result))
        assert found[marked]["error"] == error
        for index, (one, healthy) in enumerate(zip(found, job.analyses, strict=True)):
            if index != marked:
                assert_close(one, healthy)
        before = saved(folder)

        ended = job.run(folder)
        assert ended.code == ExitCode.OK
        (resumed,) = of("run.resume", events(ended.err))
        assert (resumed["done"], resumed["retried"]) == (35, 1)
        assert sum(batch["new"] for batch in of("batch.done", events(ended.err))) == 1
        assert saved(folder)[: len(before)] == before
        path = folder / OUT / Path(ended.out.strip()).name
        again = list(analyses(read(path)))
        assert again[:marked] + again[marked + 1 :] == found[:marked] + found[marked + 1 :]
        assert again[marked] == job.analyses[marked]
        if error == "Not finite":  # the batch was not taken apart: the very same numbers
            assert without_times(path) == job.expected
    report.figure(
        f"a fault in the model at a random pair: {error}",
        f"{len(seeds)} of {len(seeds)} cost no other pair, and the next start computes them",
        f"{len(seeds)} of {len(seeds)}",
    )
