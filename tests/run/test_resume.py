"""A resumed run keeps its token budget; a run that is not resumed is named with the reason."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny
from runs import of, read, without_times, write

from atp.cli.main import main
from atp.errors import ExitCode
from atp.model import memory_model
from atp.run import metadata
from atp.scoring import scorer

BEGUN, OTHER = 1500, 400
"""Default budgets of the first start and of a later one, when other memory is free."""
BATCHES = 2
"""How many batches are done when the run is interrupted."""


@pytest.fixture
def arguments(
    model_folder: Callable[[str], Path], sae_folder: Callable[..., Path], tmp_path: Path
) -> list[str]:
    """A run of the tiny GPT-2 over 60 pairs, without a token budget."""
    path = write(tmp_path / "many.json", tiny.questions(20))
    return [
        "run",
        str(path),
        f"--model={model_folder('gpt2')}",
        f"--sae={sae_folder('standard')}",
        f"--out={tmp_path / 'out'}",
        "--device=cpu",
        "--save-interval=1",
    ]


@pytest.fixture
def default_budget(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that sets the budget which atp takes where the user does not say."""
    return lambda most: monkeypatch.setitem(memory_model.MAX_BATCH_TOKENS, "cpu", most)


@pytest.fixture
def interrupted(
    arguments: list[str],
    default_budget: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> list[dict[str, Any]]:
    """A run with the default budget that SIGTERM has stopped; its log."""
    proper, passes = scorer.capture, []

    def signalling(*args: Any, **how: Any) -> Any:
        passes.append(args)
        if len(passes) == BATCHES:
            signal.raise_signal(signal.SIGTERM)
        return proper(*args, **how)

    default_budget(BEGUN)
    with monkeypatch.context() as patch:
        patch.setattr(scorer, "capture", signalling)
        assert main(arguments) == ExitCode.TERMINATED
    log = events(capfd)
    assert len(of("batch.done", log)) == BATCHES
    return log


def events(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what a run has logged; puts its results into the last entry."""
    out, err = capfd.readouterr()
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    return [*lines, {"event": "stdout", "paths": out.splitlines()}]


def batches(log: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Return pairs and tokens of each batch."""
    return [(line["pairs"], line["tokens"]) for line in of("batch.done", log)]


def result(log: list[dict[str, Any]]) -> Path:
    """Return the result file that a run named."""
    (path,) = log[-1]["paths"]
    return Path(path)


def told(path: Path) -> dict[str, Any]:
    """Return `metadata.atp` of a result file."""
    metadata: dict[str, Any] = read(path)["metadata"]["atp"]
    return metadata


@pytest.mark.slow
def test_a_run_goes_on_with_its_own_budget_when_the_default_is_another_by_now(
    interrupted: list[dict[str, Any]],
    arguments: list[str],
    default_budget: Callable[[int], None],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    default_budget(OTHER)
    assert main(arguments) == ExitCode.OK
    log = events(capfd)
    (resumed,) = of("run.resume", log)
    assert resumed["done"] == sum(pairs for pairs, _ in batches(interrupted))
    (journal,) = (tmp_path / "out").glob("*.journal.jsonl")
    assert resumed["journal"] == str(journal)
    assert told(result(log))["settings"]["batch_tokens"] == BEGUN

    default_budget(BEGUN)
    assert main([*arguments, "--fresh"]) == ExitCode.OK
    whole = events(capfd)
    assert batches(interrupted) + batches(log) == batches(whole)
    expected = without_times(result(whole)).replace(b'"fresh": true', b'"fresh": false')
    assert without_times(result(log)) == expected

    default_budget(OTHER)
    assert main([*arguments, "--fresh"]) == ExitCode.OK
    other = events(capfd)
    assert told(result(other))["settings"]["batch_tokens"] == OTHER
    assert len(batches(other)) > len(batches(whole))


def test_the_budget_it_began_with_may_be_named(
    interrupted: list[dict[str, Any]],
    arguments: list[str],
    default_budget: Callable[[int], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    default_budget(OTHER)
    assert main([*arguments, f"--batch-tokens={BEGUN}"]) == ExitCode.OK
    log = events(capfd)
    (resumed,) = of("run.resume", log)
    assert resumed["done"] == sum(pairs for pairs, _ in batches(interrupted))


def test_another_budget_that_the_user_names_starts_anew(
    interrupted: list[dict[str, Any]],
    arguments: list[str],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (before,) = (tmp_path / "out").glob("*.journal.jsonl")
    held = before.read_bytes()
    assert main([*arguments, f"--batch-tokens={OTHER}"]) == ExitCode.OK
    log = events(capfd)
    assert of("run.resume", log) == []
    assert sum(pairs for pairs, _ in batches(log)) == 60
    assert told(result(log))["settings"]["batch_tokens"] == OTHER
    assert before.read_bytes() == held
    assert len(list((tmp_path / "out").glob("*.journal.jsonl"))) == 2


def test_a_finished_run_is_reported_whatever_the_default_is_by_now(
    arguments: list[str],
    default_budget: Callable[[int], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    default_budget(BEGUN)
    assert main(arguments) == ExitCode.OK
    first = result(events(capfd))
    default_budget(OTHER)
    assert main(arguments) == ExitCode.OK
    log = events(capfd)
    assert batches(log) == []
    assert result(log) == first


@pytest.mark.usefixtures("interrupted")
def test_an_unfinished_run_with_other_settings_is_named_and_left_alone(
    arguments: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (journal,) = (tmp_path / "out").glob("*.journal.jsonl")
    before = journal.read_bytes()
    assert main([*arguments, "--top-k=3"]) == ExitCode.OK
    (left,) = of("journal.not_resumed", events(capfd))
    assert left["journal"] == str(journal)
    assert left["reason"] == "its settings differ"
    assert journal.read_bytes() == before


@pytest.mark.usefixtures("interrupted")
def test_an_unfinished_run_of_another_version_is_named_and_left_alone(
    arguments: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "source_sha256", lambda: "of another version")
    assert main(arguments) == ExitCode.OK
    (left,) = of("journal.not_resumed", events(capfd))
    assert left["reason"] == "another version of atp wrote it"


@pytest.mark.usefixtures("interrupted")
def test_a_finished_run_or_a_fresh_start_warns_of_no_other_run(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--fresh"]) == ExitCode.OK
    assert not of("journal.not_resumed", events(capfd))
    assert main(arguments) == ExitCode.OK  # the fresh run is complete, and is resumed first
    assert not of("journal.not_resumed", events(capfd))
