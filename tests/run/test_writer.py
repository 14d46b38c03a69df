"""What a run has found is on disk: as it comes, at intervals, at its end, and whatever ends it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from disk import files_limited_to
from structlog.testing import capture_logs

from atp.dataset.input_scan import scan_input
from atp.dataset.journal import SUFFIX, Journal
from atp.dataset.pairs import PairKey
from atp.errors import ExitCode, InputError, SaveError, StoppedError, UnavailableError
from atp.run import writer
from atp.run.writer import ResultWriter, catch_up

SKIPPED = {"skipped": "No differing tokens found in first 20 positions"}
FAILED = {"error": "OOM", "details": {"message": "no room"}}
KEYS = [PairKey(0, number) for number in range(1, 4)]
FACTS: dict[str, Any] = {
    "saes": [{"spec": "one"}, {"spec": "two"}],
    "model": {},
    "method": {},
    "settings": {"batch_tokens": 256},
    "input": {"sha256": ""},
    "versions": {},
    "source_sha256": "",
}
HEADER = {
    "results": ["one.json", "two.json"],
    "facts": FACTS,
    "fingerprint": "f" * 64,
    "started": "2026-01-31T12:00:00+00:00",
    "pairs": 3,
    "settings": {},
}
STOPPED = StoppedError(ExitCode.TERMINATED, "stopped.", "go on.")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """An input with three pairs."""
    flagged = {"template_type": "like", "prompt": "P", "response": "yes", "sycophancy_flag": 1}
    base = {"template_type": "", "prompt": "P", "response": "no"}
    path = tmp_path / "input.json"
    path.write_text(json.dumps({"results": [{"variations": [base, *[flagged] * 3]}]}))
    return path


@pytest.fixture
def result_writer(source: Path, tmp_path: Path) -> Iterator[ResultWriter]:
    """The result_writer of a run with two SAEs and a save interval of 2."""
    out = tmp_path / "out"
    out.mkdir()
    with Journal.create(out / f"run{SUFFIX}", HEADER) as journal:
        yield ResultWriter(scan_input(source), journal, n_saes=2, save_interval=2)


def told(path: Path) -> dict[str, Any]:
    """Return `metadata.atp` of a result file."""
    metadata: dict[str, Any] = json.loads(path.read_bytes())["metadata"]["atp"]
    return metadata


def names(logs: list[Any]) -> list[str]:
    """Return the events of log lines."""
    return [line["event"] for line in logs]


def test_one_analysis_stands_for_every_sae(result_writer: ResultWriter) -> None:
    assert result_writer.append([(KEYS[0], [SKIPPED]), (KEYS[1], [SKIPPED, FAILED])]) == 2

    assert result_writer.journal.analyses(KEYS[0]) == [SKIPPED, SKIPPED]
    assert result_writer.journal.analyses(KEYS[1]) == [SKIPPED, FAILED]
    assert result_writer.handled == 2
    assert result_writer.failed == 2  # an error, and one that was not tried


def test_a_pair_that_is_done_is_not_journalled_again(result_writer: ResultWriter) -> None:
    result_writer.append([(KEYS[0], [SKIPPED])])
    before = result_writer.journal.path.read_bytes()

    assert result_writer.append([(KEYS[0], [FAILED])]) == 0
    assert result_writer.journal.path.read_bytes() == before


def test_skips_and_errors_are_logged_by_their_place_without_details(
    result_writer: ResultWriter,
) -> None:
    with capture_logs() as logs:
        result_writer.append([(KEYS[0], [SKIPPED]), (KEYS[1], [FAILED])])

    assert logs == [
        {
            "event": "pair.skipped",
            "log_level": "info",
            "pair": "results[0].variations[1]",
            "reason": SKIPPED["skipped"],
        },
        {
            "event": "pair.error",
            "log_level": "warning",
            "pair": "results[0].variations[2]",
            "reason": "OOM",
        },
    ]


def test_nothing_is_journalled_once_the_input_was_changed(
    result_writer: ResultWriter, source: Path
) -> None:
    source.write_text(source.read_text() + "\n")

    with pytest.raises(InputError, match="changed during the run"):
        result_writer.append([(KEYS[0], [SKIPPED])])

    assert len(result_writer.journal) == 0


def test_a_save_comes_when_the_interval_is_full(result_writer: ResultWriter) -> None:
    with capture_logs() as logs:
        result_writer.append([(KEYS[0], [SKIPPED])])
        result_writer.save_if_due()
        assert "save.done" not in names(logs)
        result_writer.append([(KEYS[1], [SKIPPED])])
        result_writer.save_if_due()
        result_writer.save_if_due()

    (save,) = (line for line in logs if line["event"] == "save.done")
    header = result_writer.journal.path.read_bytes().splitlines(keepends=True)[0]
    assert save["bytes"] == result_writer.journal.path.stat().st_size - len(header)
    assert (save["done"], save["total"]) == (2, 3)


def test_after_a_slow_save_the_next_one_waits(
    result_writer: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "SAVE_SHARE", 1e-9)  # however short it was, it was slow
    with capture_logs() as logs:
        result_writer.append([(key, [SKIPPED]) for key in KEYS[:2]])
        result_writer.save_if_due()
        result_writer.append([(KEYS[2], [SKIPPED])])
        result_writer.unsaved = result_writer.save_interval
        result_writer.save_if_due()
        assert names(logs).count("save.done") == 1
        result_writer.pause_until = 0.0
        result_writer.save_if_due()

    assert names(logs).count("save.done") == 2


@pytest.mark.parametrize(("hours", "refreshed"), [(0, False), (1, True)])
def test_result_files_are_refreshed_when_the_run_is_long_enough_for_it(
    result_writer: ResultWriter, hours: int, *, refreshed: bool
) -> None:
    result_writer.began = time.monotonic() - 3600 * hours
    result_writer.refresh_seconds = 1.0
    result_writer.append([(key, [SKIPPED]) for key in KEYS[:2]])
    result_writer.save_if_due()

    assert all(path.exists() is refreshed for path in result_writer.paths)
    if refreshed:
        assert told(result_writer.paths[0])["complete"] is False
        assert told(result_writer.paths[0])["counts"]["pending"] == 1


def test_refreshes_take_no_more_than_their_share(result_writer: ResultWriter) -> None:
    result_writer.began = time.monotonic() - 3600
    result_writer.refreshed_seconds = writer.REFRESH_SHARE * 3600
    result_writer.refresh_seconds = 1.0
    result_writer.append([(key, [SKIPPED]) for key in KEYS[:2]])
    result_writer.save_if_due()

    assert not any(path.exists() for path in result_writer.paths)


def test_the_end_is_noted_only_when_no_pair_is_left(result_writer: ResultWriter) -> None:
    result_writer.append([(KEYS[0], [SKIPPED]), (KEYS[1], [FAILED])])
    result_writer.end()
    assert not result_writer.finished
    result_writer.append([(KEYS[1], [SKIPPED]), (KEYS[2], [SKIPPED])])
    result_writer.end()

    assert result_writer.finished
    assert [told(path)["complete"] for path in result_writer.paths] == [True, True]
    result_writer.paths[1].unlink()
    assert not result_writer.finished


@pytest.mark.parametrize("error", [STOPPED, UnavailableError("lost."), ZeroDivisionError()])
def test_whatever_ends_a_run_the_result_files_hold_what_is_journalled(
    result_writer: ResultWriter, error: BaseException
) -> None:
    result_writer.append([(KEYS[0], [SKIPPED])])
    with capture_logs() as logs:
        result_writer.save_on_failure(error)

    assert [told(path)["counts"]["skipped"] for path in result_writer.paths] == [1, 1]
    assert told(result_writer.paths[0])["complete"] is False
    stop = logs[-1]
    assert stop["event"] == "run.stop"
    assert stop["reason"] == ("SIGTERM" if error is STOPPED else type(error).__name__)
    assert (stop["done"], stop["total"], stop["at_once"]) == (1, 3, False)


def test_a_disk_that_failed_is_tried_again_only_for_a_first_result_file(
    result_writer: ResultWriter,
) -> None:
    error = SaveError("full.")
    result_writer.save_on_failure(error)
    first = [path.read_bytes() for path in result_writer.paths]
    result_writer.append([(KEYS[0], [SKIPPED])])
    result_writer.save_on_failure(error)

    assert [path.read_bytes() for path in result_writer.paths] == first


def test_a_stopped_run_that_cannot_save_says_so_by_its_error(result_writer: ResultWriter) -> None:
    with files_limited_to(20), capture_logs(), pytest.raises(SaveError) as caught:
        result_writer.save_on_failure(STOPPED)

    assert str(result_writer.paths[0]) in str(caught.value)
    assert not any(path.exists() for path in result_writer.paths)


def test_another_end_keeps_its_own_error_when_it_cannot_save(result_writer: ResultWriter) -> None:
    with files_limited_to(20), capture_logs() as logs:
        result_writer.save_on_failure(UnavailableError("lost."))

    assert names(logs)[-2:] == ["save.failed", "run.stop"]
    assert str(result_writer.paths[0]) in logs[-2]["message"]


def test_a_clock_that_was_set_back_ends_no_run_before_its_start(
    result_writer: ResultWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "now", lambda: "2025-01-01T00:00:00+00:00")
    result_writer.end()

    assert told(result_writer.paths[0])["finished"] == HEADER["started"]


def test_progress_tells_rate_and_time_left_once_there_is_one(result_writer: ResultWriter) -> None:
    assert result_writer.progress() == {
        "done": 0,
        "total": 3,
        "pairs_per_second": 0.0,
        "seconds_left": None,
    }
    result_writer.began = time.monotonic() - 4
    result_writer.append([(key, [SKIPPED]) for key in KEYS[:2]])

    progress = result_writer.progress()
    assert progress["pairs_per_second"] == pytest.approx(0.5, rel=0.05)
    assert progress["seconds_left"] == pytest.approx(2, rel=0.05)


# --- what a killed run has left behind


@pytest.fixture
def killed(source: Path, tmp_path: Path) -> Path:
    """The folder of a run that was killed when one pair was journalled."""
    folder = tmp_path / "killed"
    folder.mkdir()
    facts = {**FACTS, "input": {"sha256": scan_input(source).sha256}}
    with Journal.create(folder / f"run{SUFFIX}", {**HEADER, "facts": facts}) as journal:
        journal.add(KEYS[0], [SKIPPED, SKIPPED])
    return folder


def results(folder: Path) -> list[int]:
    """Return how many pairs each result file in a folder holds as skipped."""
    return [told(path)["counts"]["skipped"] for path in sorted(folder.glob("*.json"))]


def test_the_next_start_writes_the_result_files_of_a_killed_run(killed: Path, source: Path) -> None:
    catch_up(killed, scan_input(source))

    assert results(killed) == [1, 1]


def test_result_files_that_are_behind_the_journal_catch_up(killed: Path, source: Path) -> None:
    os.utime(killed / f"run{SUFFIX}", (0, 0))
    catch_up(killed, scan_input(source))
    before = [path.stat().st_mtime_ns for path in killed.glob("*.json")]
    catch_up(killed, scan_input(source))
    assert [path.stat().st_mtime_ns for path in killed.glob("*.json")] == before
    with Journal.reopen(killed / f"run{SUFFIX}") as journal:
        journal.add(KEYS[1], [SKIPPED, SKIPPED])
    catch_up(killed, scan_input(source))

    assert results(killed) == [2, 2]


@pytest.mark.parametrize("reason", ["another input", "ended", "damaged", "slow to write"])
def test_no_other_result_files_are_written(killed: Path, source: Path, reason: str) -> None:
    found = scan_input(source)
    if reason == "another input":
        source.write_text(source.read_text() + "\n")
        found = scan_input(source)
    elif reason == "ended":
        with Journal.reopen(killed / f"run{SUFFIX}") as journal:
            journal.end("now")
    elif reason == "damaged":
        (killed / f"run{SUFFIX}").write_bytes(b"{")
    else:
        found = replace(found, seconds=writer.CATCH_UP_SECONDS)
    catch_up(killed, found)

    assert results(killed) == []


def test_a_start_whose_result_file_cannot_catch_up_says_so(killed: Path, source: Path) -> None:
    (killed / HEADER["results"][0]).mkdir()

    with pytest.raises(SaveError) as caught:
        catch_up(killed, scan_input(source))

    assert HEADER["results"][0] in str(caught.value)


def test_a_journal_of_another_user_is_left_to_that_user(
    killed: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, which may run this, may do all

    catch_up(killed, scan_input(source))

    assert results(killed) == []
