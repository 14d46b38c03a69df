"""No hostile file causes a traceback, a hang or a silently wrong result; thousands are tried.

Each goes through the whole command, with a tiny model that is loaded once. `rules.py` says which
of them must be refused, and compares the results of the others with their input.

FUZZ_SEED=N tries the one file of that seed.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import tiny
from mutants import Base, mutant
from rules import RefusedError, check_result, questions_of

from atp.cli.main import main
from atp.config.settings import Settings
from atp.errors import ExitCode
from atp.run import setup

FIRST, REST, FULL = range(60), range(60, 300), range(300, 10_000)
"""Seeds of the files of `make test`, and of those that test-all and test-faults have besides."""
SECONDS = 20
"""Processor time that one file may take; most take a hundredth of a second."""
SHARE = 15
"""Files that a process takes on at a time."""
EXAMPLE = Path(__file__).parents[1] / "examples" / "smollm2" / "feedback.json"
PLACE = re.compile(
    r"line \d|byte \d|results\[\d+\]|top level|\"results\" list|metadata is not|: \S+ holds "
)
"""A place in the file; every refusal names one."""


class Hang(BaseException):
    """A file takes too long; no part of atp catches this exception."""


@dataclass(frozen=True)
class Fuzzer:
    """Runs the command on hostile files."""

    folder: Path
    bases: tuple[Base, ...]
    options: tuple[str, ...]

    def share(self, seeds: range) -> tuple[Counter[str], list[str], float]:
        """Run some files; return the counts of their outcomes, the faults, and the longest time."""
        outcome_counts: Counter[str] = Counter()
        faults, longest = [], 0.0
        for seed in seeds:
            began = time.monotonic()
            ending, data = mutant(seed, self.bases)
            path = self.folder / f"seed-{seed}{ending}"
            path.write_bytes(data)
            # The first alarm is for a process that waits forever, and for C code that hangs.
            faulthandler.dump_traceback_later(6 * SECONDS, exit=True)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            try:
                outcome_counts += self.outcomes(path, data)
            except (AssertionError, Hang) as fault:
                faults.append(f"{path}\n  FUZZ_SEED={seed} {str(fault)[:2000] or repr(fault)}")
            else:
                path.unlink()
                shutil.rmtree(path.with_suffix(".out"), ignore_errors=True)  # none where refused
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                faulthandler.cancel_dump_traceback_later()
            longest = max(longest, time.monotonic() - began)
        return outcome_counts, faults, longest

    def outcomes(self, path: Path, data: bytes) -> Counter[str]:
        """Run the command on a file and check its output; count the outcomes of the pairs."""
        lines = path.suffix == ".jsonl"
        out = path.with_suffix(".out")
        stdout, stderr = StringIO(), StringIO()
        with redirect_stdout(stdout), redirect_stderr(stderr):
            code = main(["run", str(path), f"--out={out}", *self.options])
        log = [json.loads(line) for line in stderr.getvalue().splitlines()]  # no traceback
        last = log[-1]
        why = ""
        try:
            _, questions = questions_of(data, lines=lines)
        except RefusedError as error:
            why = str(error) or "refused"
        if code == ExitCode.USAGE:
            assert why, f"refused without reason: {last['message'][:300]}"
            assert stdout.getvalue() == ""
            assert last["event"] == "atp.failed"
            line = last["message"]
            assert str(path) in line
            assert PLACE.search(line), line[:300]
            assert "\n" not in line
            assert len(line) < 500 + len(str(path)), "a long message"
            return Counter({"refused": 1})
        assert code in {ExitCode.OK, ExitCode.PAIRS_FAILED}, last
        assert not why, f"not refused: {why[:300]}"
        assert last["event"] == "run.done"
        (result,) = stdout.getvalue().splitlines()
        counts = check_result(
            data,
            Path(result).read_bytes(),
            lines=lines,
            failed=code == ExitCode.PAIRS_FAILED,
        )
        for prompt in _prompts(questions):
            assert prompt not in stderr.getvalue()
        return Counter({"processed": 1, **counts})


def _prompts(questions: list[Any]) -> Iterator[str]:
    """Yield the long prompts and responses, as a log line would write them."""
    for question in questions:
        for variation in question.get("variations"):
            for name in ("prompt", "response"):
                text = variation.get(name)
                if isinstance(text, str) and len(text) > 30:
                    yield json.dumps(text[:30])[1:-1]


def _hang(*_: object) -> None:
    raise Hang


@pytest.fixture(scope="module")
def fuzzer(
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Fuzzer]:
    """A fuzzer whose model is loaded once for all files."""
    folder = tmp_path_factory.mktemp("fuzz")
    model, sae = str(model_folder("gpt2")), str(sae_folder("standard"))
    options = (f"--model={model}", f"--sae={sae}", "--device=cpu", "--top-k=3")
    settings = Settings(input=EXAMPLE, out=folder, model=model, sae=(sae,), device="cpu")
    loaded = setup.load(settings, [sae])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setup, "load", lambda *_: loaded)
        patch.setenv("TOKENIZERS_PARALLELISM", "false")  # this process will be forked
        bases = _bases(folder, options)
        before = signal.signal(signal.SIGPROF, _hang)
        yield Fuzzer(folder, bases, options)
        signal.signal(signal.SIGPROF, before)


def _bases(folder: Path, options: tuple[str, ...]) -> tuple[Base, ...]:
    """Return the files to mutate: two inputs, one of them also as lines, and a result."""
    content = json.loads(EXAMPLE.read_bytes())
    del content["results"][3:]
    example = json.dumps(content, indent=2, ensure_ascii=False).encode()
    lines = "\n".join(json.dumps(each) for each in content["results"]).encode()
    small = {"metadata": {"model_name": "tiny"}, "results": tiny.questions(2)}
    path = folder / "base.json"
    path.write_text(json.dumps(small, ensure_ascii=False), encoding="utf-8")
    stdout = StringIO()
    with redirect_stdout(stdout), redirect_stderr(StringIO()):
        assert main(["run", str(path), f"--out={folder / 'base'}", *options]) == ExitCode.OK
    # A seed gives the same file wherever the tests run.
    result = Path(stdout.getvalue().strip()).read_bytes()
    result = result.replace(bytes(folder.parent), b"/data")
    return (
        (".json", example),
        (".jsonl", lines),
        (".json", path.read_bytes()),
        (".json", result),
        (".jsonl", "\n".join(json.dumps(each) for each in small["results"]).encode()),
    )


@pytest.mark.parametrize(
    "seeds",
    [FIRST, pytest.param(REST, marks=pytest.mark.slow), pytest.param(FULL, marks=pytest.mark.full)],
    ids=["first", "more", "all others"],
)
def test_every_hostile_file_is_refused_with_its_place_or_processed(
    fuzzer: Fuzzer, seeds: range, record_property: Callable[[str, object], None]
) -> None:
    one = os.environ.get("FUZZ_SEED")
    seeds = range(int(one), int(one) + 1) if one else seeds
    shares = [seeds[start : start + SHARE] for start in range(0, len(seeds), SHARE)]
    outcome_counts: Counter[str] = Counter()
    faults: list[str] = []
    longest = 0.0
    # In separate processes: a crash of C code costs one file, and both cores are used.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), context) as pool:
        try:
            for counts, of_share, seconds in pool.map(fuzzer.share, shares):
                outcome_counts += counts
                faults += of_share
                longest = max(longest, seconds)
        except BrokenProcessPool:
            left = sorted(str(path) for path in fuzzer.folder.glob("seed-*.json*"))
            faults.append(f"a process died or hung with one of {left}")
    print(dict(outcome_counts), f"longest {longest:.1f} s")  # noqa: T201  (figures, with -s)
    record_property("outcome_counts", dict(outcome_counts))
    assert not faults, "\n".join([f"{len(faults)} faults:", *faults[:50]])
    if not one:  # refused files and processed ones were tried
        assert outcome_counts["refused"] > len(seeds) / 4
        assert (
            min(outcome_counts["scored"], outcome_counts["skipped"], outcome_counts["error"])
            > len(seeds) / 20
        )
