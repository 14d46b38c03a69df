"""The page of a real run, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from reports import Shown, command, page, scored

from atp.errors import ExitCode

TOO_LONG = "word " * 400  # the tiny models read 256 tokens


def questions() -> list[dict[str, Any]]:
    """Return the tiny questions; one pair is skipped, and one is too long for the model."""
    made = tiny.questions()
    made[3]["variations"][1]["response"] = made[3]["variations"][0]["response"]
    made[4]["variations"][2]["prompt"] += TOO_LONG
    made[4]["dataset"] = "others"
    return made


@pytest.fixture(scope="session")
def shown(
    tmp_path_factory: pytest.TempPathFactory,
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
) -> Shown:
    """The page of two runs with one SAE, the first with all that a run can measure."""
    folder = tmp_path_factory.mktemp("report")
    model = (f"--model={model_folder('llama')}", f"--sae={sae_folder()}")
    all_of_it = ("--exact=flagged", "--prompt-activations", "--position=all")
    failed = ExitCode.PAIRS_FAILED
    result = scored(folder / "all", questions(), *model, *all_of_it, code=failed)
    other = scored(folder / "base", questions(), *model, "--baseline=base", code=failed)
    labels = folder / "labels.csv"
    labels.write_text("feature,label\n39,praise for an argument\n", encoding="utf-8")
    command("features", result, "--resamples=100", f"--out={folder}")
    (features,) = folder.glob("atp_features_*.json")
    source = folder / "all/input.json"
    command("intervene", source, f"--features={features}", f"--out={folder}", *model, code=failed)
    (intervention,) = folder.glob("atp_intervention_*.json")
    made = page(
        folder / "report.html", result, other, intervention, options=(f"--labels={labels}",)
    )
    return Shown(made, result, intervention)
