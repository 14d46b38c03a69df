"""Jobs to disturb, how often, and the table of what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from runs import write

FIGURES = pytest.StashKey[list[tuple[str, str, str]]]()
"""What, target, found."""

Record = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the full counts are asked for."""
    return bool(request.config.getoption("--full"))


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Record:
    """A function that adds a line to the table at the end: what, target, found."""
    table = request.config.stash.setdefault(FIGURES, [])
    return lambda what, target, found: table.append((what, target, found))


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
    sae_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Job]:
    """A function from a number of questions and options to the job of a tiny GPT-2 over them."""
    from jobs import OUT, Job, undisturbed  # noqa: PLC0415  (imports torch)

    made: dict[tuple[object, ...], Job] = {}
    sae = sae_folder("standard")

    def get(questions: int, *options: str) -> Job:
        key = (questions, *options)
        if key not in made:
            folder = tmp_path_factory.mktemp("job")
            path = write(folder / "questions.json", tiny.questions(questions))
            arguments = ["run", str(path), f"--model={model_folder('gpt2')}", f"--sae={sae}"]
            arguments += [f"--out={OUT}", "--device=cpu", "--batch-tokens=300", *options]
            made[key] = undisturbed(arguments, 3 * questions, folder / "undisturbed")
        return made[key]

    return get
