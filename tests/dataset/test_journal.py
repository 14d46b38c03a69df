"""Saved pairs are in the journal again, whatever a crash cut off after them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from disk import files_limited_to
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atp.dataset.journal import SUFFIX, Journal, journals, outcome
from atp.dataset.journal_contents import Damage, sealed, unsealed
from atp.dataset.pairs import PairKey
from atp.errors import ExitCode, SaveError

if TYPE_CHECKING:
    from pathlib import Path

HEADER = {"run": "m_20260131_120000", "fingerprint": "f" * 64, "started": "then"}
SCORED = [{"target_token": " да", "top_features": [{"id": "1", "score": 0.1}]}]
SKIPPED = [{"skipped": "No differing tokens found in first 20 positions"}]
FAILED = [{"error": "OOM", "details": {}}]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the journal of a test stands."""
    return tmp_path / f"atp_results_m{SUFFIX}"


reopened = Journal.reopen


def contents(path: Path) -> dict[PairKey, Any]:
    """Return every pair of a journal file with its analyses."""
    with reopened(path) as journal:
        keys = [PairKey(q, v) for q in range(4) for v in range(4)]
        found = {key: journal.analyses(key) for key in keys}
    return {key: analyses for key, analyses in found.items() if analyses is not None}


@pytest.mark.parametrize(
    ("analysis", "kind"), [(SCORED[0], "scored"), (SKIPPED[0], "skipped"), (FAILED[0], "error")]
)
def test_the_outcome_of_an_analysis_follows_from_its_field(
    analysis: dict[str, Any], kind: str
) -> None:
    assert outcome(analysis) == kind


def test_a_new_journal_is_empty_and_its_header_is_on_disk(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        assert unsealed(path.read_bytes()) == HEADER
        assert len(journal) == journal.done == 0
        assert journal.ended is None
        assert journal.analyses(PairKey(0, 0)) is None


def test_a_reopened_journal_holds_what_was_added(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 1), SCORED)
        journal.add(PairKey(2, 0), SKIPPED)

    with reopened(path) as journal:
        assert journal.header == HEADER
        assert len(journal) == journal.done == 2
        assert journal.analyses(PairKey(0, 1)) == SCORED
        assert journal.analyses(PairKey(2, 0)) == SKIPPED
        assert journal.analyses(PairKey(1, 1)) is None


def test_a_reopened_journal_continues_where_it_stopped(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 1), SCORED)
    with reopened(path) as journal:
        journal.add(PairKey(1, 1), SKIPPED)

    assert contents(path) == {PairKey(0, 1): SCORED, PairKey(1, 1): SKIPPED}


def test_saved_pairs_are_on_disk_before_the_journal_is_closed(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 1), SCORED)
        journal.save()

        line = unsealed(path.read_bytes().splitlines(keepends=True)[1])
        assert line is not None
        assert line["analyses"] == SCORED


def test_reading_between_two_additions_loses_neither(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
        assert journal.analyses(PairKey(0, 0)) == SCORED
        journal.add(PairKey(0, 1), SKIPPED)
        assert journal.analyses(PairKey(0, 0)) == SCORED
        assert journal.analyses(PairKey(0, 1)) == SKIPPED

    assert contents(path) == {PairKey(0, 0): SCORED, PairKey(0, 1): SKIPPED}


def test_all_analyses_come_in_input_order(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(10, 0), SKIPPED)
        journal.add(PairKey(2, 1), FAILED)
        journal.add(PairKey(2, 0), SCORED)

        assert list(journal.all_analyses()) == [SCORED, FAILED, SKIPPED]


def test_an_error_counts_as_tried_but_not_as_done(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), FAILED)
        journal.add(PairKey(0, 1), SKIPPED)

    with reopened(path) as journal:
        assert not journal.is_done(PairKey(0, 0))
        assert journal.is_done(PairKey(0, 1))
        assert not journal.is_done(PairKey(0, 2))
        assert (len(journal), journal.done) == (2, 1)


def test_an_error_of_one_sae_of_several_leaves_the_pair_to_do(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED + FAILED)

        assert not journal.is_done(PairKey(0, 0))


@pytest.mark.parametrize(
    ("first", "second", "done"),
    [(FAILED, SCORED, True), (SCORED, FAILED, False), (SCORED, SKIPPED, True)],
)
def test_a_later_line_of_the_same_pair_wins(
    path: Path, first: list[dict[str, Any]], second: list[dict[str, Any]], *, done: bool
) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), first)
        journal.add(PairKey(0, 0), second)
        before = (len(journal), journal.done, journal.analyses(PairKey(0, 0)))

    with reopened(path) as journal:
        assert before == (1, int(done), second)
        assert before == (len(journal), journal.done, journal.analyses(PairKey(0, 0)))
        assert journal.is_done(PairKey(0, 0)) is done


def test_the_end_is_remembered(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
        journal.end("now")
        assert journal.ended == "now"

    with reopened(path) as journal:
        assert journal.ended == "now"
        assert len(journal) == 1


def test_a_pair_after_the_end_means_that_the_run_continues(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.end("now")
        journal.add(PairKey(0, 0), SCORED)
        assert journal.ended is None

    with reopened(path) as journal:
        assert journal.ended is None


@pytest.mark.parametrize("last", ["pair", "end"])
def test_a_last_line_torn_at_any_byte_is_dropped_and_nothing_else(path: Path, last: str) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
        journal.save()
        whole = path.read_bytes()
        if last == "pair":
            journal.add(PairKey(1, 0), SCORED)
        else:
            journal.end("now")
    torn = path.read_bytes()

    for size in range(len(whole), len(torn)):
        path.write_bytes(torn[:size])
        with reopened(path) as journal:
            assert len(journal) == 1, size
            assert journal.ended is None, size
            journal.add(PairKey(2, 0), SKIPPED)
        assert contents(path) == {PairKey(0, 0): SCORED, PairKey(2, 0): SKIPPED}, size


def test_a_journal_cut_at_any_byte_of_its_last_three_lines_keeps_the_whole_ones(
    path: Path,
) -> None:
    added = [(PairKey(0, 0), FAILED), *((PairKey(1, n), SCORED) for n in range(3))]
    sizes = []
    with Journal.create(path, HEADER) as journal:
        for key, analyses in added:
            journal.add(key, analyses)
            sizes.append(path.stat().st_size)
    whole = path.read_bytes()

    for size in range(sizes[0], len(whole) + 1):
        path.write_bytes(whole[:size])
        kept = {key: each for (key, each), end in zip(added, sizes, strict=True) if end <= size}
        assert contents(path) == kept, size
        with reopened(path) as journal:
            journal.add(PairKey(2, 0), SKIPPED)
        assert contents(path) == {**kept, PairKey(2, 0): SKIPPED}, size
        assert Journal.inspect(path).damaged == [], size


@pytest.mark.parametrize("rubbish", [b"\x00" * 40, b'{"pair": [1,', b"\xff"])
def test_rubbish_after_a_power_cut_is_dropped(path: Path, rubbish: bytes) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
    with path.open("ab") as file:
        file.write(rubbish)

    with reopened(path) as journal:
        journal.add(PairKey(1, 0), SKIPPED)

    assert contents(path) == {PairKey(0, 0): SCORED, PairKey(1, 0): SKIPPED}


def test_a_journal_is_never_there_without_its_header(path: Path) -> None:
    with files_limited_to(20), pytest.raises(SaveError):
        Journal.create(path, HEADER)

    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("line", [b"", b"\n", b"[]\n", b"3\n", b'{"run": "m"}\n', b"{]\n", b"\xff"])
def test_a_journal_without_its_header_is_refused_and_stays_as_it_is(
    path: Path, line: bytes
) -> None:
    path.write_bytes(line)

    with pytest.raises(SaveError, match="first line") as caught:
        Journal.reopen(path)

    assert str(path) in str(caught.value)
    assert Journal.header_of(path) is None
    assert path.read_bytes() == line


# --- damage


@pytest.mark.parametrize("line", [2, 3, 4])
def test_a_damaged_line_is_named_and_costs_no_other_line(path: Path, line: int) -> None:
    keys = [PairKey(0, 1), PairKey(0, 2), PairKey(0, 3)]
    with Journal.create(path, HEADER) as journal:
        for key in keys:
            journal.add(key, SCORED)
    lines = path.read_bytes().splitlines(keepends=True)
    offset = sum(map(len, lines[: line - 1]))
    lines[line - 1] = lines[line - 1].replace(b"0.1", b"0.7")
    path.write_bytes(b"".join(lines))

    with reopened(path) as journal:
        assert journal.damaged == [Damage(line, offset)]
        assert journal.analyses(keys[line - 2]) is None
        assert len(journal) == 2
        journal.add(keys[line - 2], SKIPPED)

    assert contents(path) == {**dict.fromkeys(keys, SCORED), keys[line - 2]: SKIPPED}
    assert path.read_bytes().startswith(b"".join(lines))  # nobody tidies the evidence away


def test_rubbish_in_the_middle_is_named_and_what_follows_it_counts(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
        journal.add(PairKey(0, 1), SKIPPED)
    first, second, third = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + second + b"\x00" * 40 + b"\n" + third)

    with reopened(path) as journal:
        assert [damage.line for damage in journal.damaged] == [3]
    assert contents(path) == {PairKey(0, 0): SCORED, PairKey(0, 1): SKIPPED}


def test_a_line_that_is_altered_while_the_journal_is_open_is_not_read(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
        path.write_bytes(path.read_bytes().replace(b"0.1", b"0.7"))

        with pytest.raises(SaveError, match="altered"):
            journal.analyses(PairKey(0, 0))


def test_looking_into_a_journal_changes_nothing(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)
        journal.add(PairKey(0, 1), FAILED)
    torn = path.read_bytes() + b'{"pair":[0,'
    path.write_bytes(torn)

    found = Journal.inspect(path)

    assert found.header == HEADER
    assert set(found.offsets) == {PairKey(0, 0), PairKey(0, 1)}
    assert found.failed == {PairKey(0, 1)}
    assert (found.damaged, found.torn, found.ended) == ([], len(b'{"pair":[0,'), None)
    assert path.read_bytes() == torn


def test_a_torn_tail_stays_until_something_is_added(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), FAILED)
    whole, tail = path.read_bytes(), b'{"pair":[0,' + b"x" * 500
    path.write_bytes(whole + tail)

    with reopened(path) as journal:
        assert journal.torn == len(tail)
        journal.save()
        assert path.read_bytes() == whole + tail
        journal.add(PairKey(0, 0), SKIPPED)

    assert path.read_bytes().startswith(whole)
    assert Journal.inspect(path).torn == 0
    assert contents(path) == {PairKey(0, 0): SKIPPED}


# --- writing


def test_the_pairs_of_a_batch_are_written_all_or_none(path: Path) -> None:
    batch = [(PairKey(1, i), SCORED) for i in range(4)]
    journal = Journal.create(path, HEADER)
    journal.add(PairKey(0, 0), SCORED)
    before = path.read_bytes()

    with files_limited_to(len(before) + 150), pytest.raises(SaveError) as caught:
        journal.add_all(batch)

    needed = sum(len(sealed({"pair": list(key), "analyses": each})) for key, each in batch)
    assert f"{needed:,} bytes" in str(caught.value)
    assert "bytes are free" in str(caught.value)
    assert path.read_bytes() == before
    assert len(journal) == 1
    journal.add_all(batch)  # there is space again
    journal.close()
    assert contents(path) == {PairKey(0, 0): SCORED, **dict(batch)}


def test_a_killed_process_leaves_what_it_has_added_even_unsaved(path: Path) -> None:
    code = (
        "import os, sys, pathlib; from atp.dataset.journal import Journal; "
        "journal = Journal.create(pathlib.Path(sys.argv[1]), {'run': 'm'}); "
        "journal.add((0, 1), [{'skipped': 'x'}]); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    assert killed.returncode == -9
    assert contents(path) == {PairKey(0, 1): [{"skipped": "x"}]}


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_save_tells_that_the_folder_has_vanished(path: Path, how: str) -> None:
    folder = path.parent / "out"
    folder.mkdir()
    journal = Journal.create(folder / path.name, HEADER)
    journal.add(PairKey(0, 0), SCORED)
    if how == "deleted":
        shutil.rmtree(folder)
    else:
        folder.rename(path.parent / "elsewhere")

    with pytest.raises(SaveError, match="no longer exists") as caught:
        journal.save()

    assert str(folder / path.name) in str(caught.value)
    assert caught.value.exit_code == ExitCode.SAVE_FAILED
    journal.close()


def test_runs_are_ordered_by_their_number_whatever_the_clock_says(tmp_path: Path) -> None:
    for name, number in (("m_20260131", 1), ("m_20250131", 3), ("m_20270131", 2)):
        Journal.create(tmp_path / f"{name}{SUFFIX}", {"number": number}).close()
    (tmp_path / f"broken{SUFFIX}").write_bytes(b"{")

    found = journals(tmp_path)

    assert [header and header["number"] for _, header in found] == [3, 2, 1, None]


def test_a_journal_that_exists_is_not_overwritten(path: Path) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)

    with pytest.raises(SaveError):
        Journal.create(path, {})

    assert contents(path) == {PairKey(0, 0): SCORED}


def test_a_journal_in_a_missing_folder_is_a_save_error(tmp_path: Path) -> None:
    path = tmp_path / "none" / f"x{SUFFIX}"

    with pytest.raises(SaveError) as caught:
        Journal.create(path, HEADER)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.SAVE_FAILED


def test_a_journal_that_cannot_be_opened_is_a_save_error(path: Path) -> None:
    path.mkdir()

    with pytest.raises(SaveError) as caught:
        Journal.reopen(path)

    assert str(path) in str(caught.value)


@pytest.mark.parametrize("size", [10, 10_000], ids=["buffered", "beyond the buffer"])
def test_a_full_disk_is_a_save_error_and_what_was_saved_stands(path: Path, size: int) -> None:
    with Journal.create(path, HEADER) as journal:
        journal.add(PairKey(0, 0), SCORED)

    def go_on() -> None:
        with reopened(path) as journal:
            journal.add(PairKey(0, 1), [{"note": "x" * size}])
            journal.save()

    with files_limited_to(path.stat().st_size + 5), pytest.raises(SaveError) as caught:
        go_on()

    assert str(path) in str(caught.value)
    assert contents(path) == {PairKey(0, 0): SCORED}


json_values = st.one_of(
    st.none(), st.floats(allow_nan=False, allow_infinity=False), st.text("aé\n")
)
keys = st.builds(PairKey, st.integers(0, 3), st.integers(0, 3))
additions = st.lists(
    st.tuples(keys, st.lists(st.fixed_dictionaries({"note": json_values}), max_size=2)), max_size=6
)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(additions, st.data())
def test_a_journal_cut_anywhere_holds_exactly_its_whole_lines(
    tmp_path_factory: pytest.TempPathFactory,
    added: list[tuple[PairKey, list[dict[str, Any]]]],
    data: st.DataObject,
) -> None:
    path = tmp_path_factory.mktemp("journal") / f"x{SUFFIX}"
    sizes = []
    with Journal.create(path, HEADER) as journal:
        start = path.stat().st_size
        for key, analyses in added:
            journal.add(key, analyses)
            journal.save()
            sizes.append(path.stat().st_size)
    cut = data.draw(st.integers(start, sizes[-1] if sizes else start))
    path.write_bytes(path.read_bytes()[:cut])

    kept = [entry for entry, size in zip(added, sizes, strict=True) if size <= cut]
    assert contents(path) == dict(kept)
