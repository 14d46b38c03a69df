"""Fixtures: runs to disturb, the number of faults, and the table of findings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from disturbed_runs import OUT, Job, Report, undisturbed
from runs import write

from atp.model.language_model import Model

FIGURES = pytest.StashKey[list[tuple[str, str, str]]]()
"""What, target, found."""


@pytest.fixture(autouse=True)
def _runs_share_models(runs_share_models: None) -> None:
    """A fork need not load what the tests have loaded."""


@pytest.fixture(scope="session")
def report(request: pytest.FixtureRequest) -> Report:
    """Whether the full counts are asked for, and the table at the end."""
    table = request.config.stash.setdefault(FIGURES, [])
    return Report(bool(request.config.getoption("--full")), table)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what was found, as Markdown."""
    if not (config.getoption("--full") and FIGURES in config.stash):
        return
    terminalreporter.section("faults")
    for line in [("what", "target", "found"), ("---",) * 3, *sorted(config.stash[FIGURES])]:
        terminalreporter.write_line(f"| {' | '.join(line)} |")


@pytest.fixture(scope="session")
def job_of(
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
    sae_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Job]:
    """A function from a number of questions and options to the job of a tiny GPT-2 over them.

    Each question has three pairs.
    """
    loaded("gpt2")  # before a fork, which then has it
    made: dict[tuple[object, ...], Job] = {}
    sae = sae_folder("standard")

    def get(questions: int, *options: str, marked: tuple[tuple[int, str], ...] = ()) -> Job:
        key = (questions, options, marked)
        if key not in made:
            folder = tmp_path_factory.mktemp("job")
            asked = tiny.questions(questions)
            for pair, text in marked:  # a text at the end of its prompt
                asked[pair // 3]["variations"][1 + pair % 3]["prompt"] += text
            path = write(folder / "questions.json", asked)
            arguments = ["run", str(path), f"--model={model_folder('gpt2')}", f"--sae={sae}"]
            arguments += [f"--out={OUT}", "--device=cpu", "--batch-tokens=300", *options]
            made[key] = undisturbed(arguments, 3 * questions, folder / "undisturbed")
        return made[key]

    return get


@pytest.fixture
def demo_arguments(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The demo's model and SAE, for a run over an input that is still to be named."""
    monkeypatch.delenv("OMP_NUM_THREADS")  # set for the tiny models
    root = Path(__file__).parents[2]
    model = root / ".cache" / "models" / "SmolLM2-135M-Instruct"
    assert model.is_dir(), "make model obtains it"
    sae = root / "examples" / "smollm2" / "sae"
    return [f"--model={model}", f"--sae={sae}", "--chat-template", "--device=cpu", f"--out={OUT}"]
