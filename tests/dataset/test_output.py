"""The output folder belongs to one run at a time, and no run takes the names of another."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from disk import files_limited_to
from filelock import FileLock
from structlog.testing import capture_logs

from atp.config.shard import Shard
from atp.dataset.output import (
    HOLDER_NAME,
    LOCK_NAME,
    held,
    holder,
    result_names,
    run_name,
    unsharded,
)
from atp.errors import BusyError, ExitCode, SaveError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)

TRY_TO_HOLD = """
import sys
from pathlib import Path
from atp.dataset.output import held
from atp.errors import BusyError
try:
    with held(Path(sys.argv[1])):
        print("held")
except BusyError:
    print("busy")
"""


def second_process(folder: Path) -> str:
    """Return "held" or "busy": whether another process can hold the folder now."""
    command = [sys.executable, "-c", TRY_TO_HOLD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "feedback"

    with held(folder):
        assert folder.is_dir()


def test_a_second_process_finds_the_folder_busy_until_it_is_released(tmp_path: Path) -> None:
    with held(tmp_path):
        assert second_process(tmp_path) == "busy"

    assert second_process(tmp_path) == "held"


def test_a_second_run_in_this_process_finds_the_folder_busy(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(BusyError) as caught, held(tmp_path):
        pass

    assert str(tmp_path) in str(caught.value)
    assert "--out" in caught.value.hint
    assert caught.value.exit_code == ExitCode.BUSY


def test_any_holder_of_the_lock_file_makes_the_folder_busy(tmp_path: Path) -> None:
    lock = FileLock(tmp_path / LOCK_NAME)
    with lock, pytest.raises(BusyError), held(tmp_path):
        pass

    with held(tmp_path):
        assert lock.lock_file


def test_the_folder_is_released_when_the_run_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), held(tmp_path):
        raise ZeroDivisionError

    assert second_process(tmp_path) == "held"


def test_two_folders_can_be_held_at_once(tmp_path: Path) -> None:
    with held(tmp_path / "a"), held(tmp_path / "b"):
        assert {path.name for path in tmp_path.iterdir()} == {"a", "b"}


def test_a_lock_file_left_by_a_dead_run_does_not_block(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).touch()

    assert second_process(tmp_path) == "held"


@pytest.mark.parametrize("below", ["", "sub", "sub/sub"])
def test_a_folder_that_cannot_be_made_is_a_settings_error(tmp_path: Path, below: str) -> None:
    regular = tmp_path / "file"
    regular.touch()

    with pytest.raises(SettingsError) as caught, held(regular / below):
        pass

    assert str(regular) in str(caught.value)
    assert "--out" in caught.value.hint
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "plain"),
    [
        ("google/gemma-2-9b-it", "gemma-2-9b-it"),
        ("gpt2", "gpt2"),
        ("folder/of/my model (v2).gguf", "my-model-v2-.gguf"),
        ("gpt2_small", "gpt2_small"),
        ("Модель", "-"),
        ("", "model"),
        ("folder/", "model"),
    ],
)
def test_a_run_is_named_for_its_model_and_the_time(tmp_path: Path, model: str, plain: str) -> None:
    assert run_name(tmp_path, model, NOON) == f"{plain}_20260131_120000"


def test_the_time_is_utc_now_by_default(tmp_path: Path) -> None:
    before = f"{datetime.now(UTC):m_%Y%m%d_%H%M%S}"
    name = run_name(tmp_path, "m")
    after = f"{datetime.now(UTC):m_%Y%m%d_%H%M%S}"

    assert before <= name <= after


@pytest.mark.parametrize(
    "taken",
    [
        "atp_results_m_20260131_120000.json",
        "atp_results_m_layer31-16k_20260131_120000.json",
        "atp_results_m_20260131_120000.journal.jsonl",
    ],
)
def test_a_name_that_is_taken_moves_on_by_a_second(tmp_path: Path, taken: str) -> None:
    (tmp_path / taken).touch()

    assert run_name(tmp_path, "m", NOON) == "m_20260131_120001"


def test_a_name_moves_on_past_every_run_and_into_the_next_day(tmp_path: Path) -> None:
    for second in (58, 59):
        (tmp_path / f"atp_results_m_20260131_2359{second}.json").touch()

    late = NOON.replace(hour=23, minute=59, second=58)
    assert run_name(tmp_path, "m", late) == "m_20260201_000000"


def test_files_of_other_models_and_times_take_no_name(tmp_path: Path) -> None:
    (tmp_path / "atp_results_n_20260131_120000.json").touch()
    (tmp_path / "atp_results_m_20260131_115959.json").touch()

    assert run_name(tmp_path, "m", NOON) == "m_20260131_120000"


def test_one_sae_needs_no_label() -> None:
    run = "gpt2_small_20260131_120000"

    assert result_names(run, ["layer1-16k"]) == ["atp_results_gpt2_small_20260131_120000.json"]


def test_each_of_several_saes_has_its_label_before_the_time() -> None:
    assert result_names("m_20260131_120000", ["layer9-16k", "layer20-16k"]) == [
        "atp_results_m_layer9-16k_20260131_120000.json",
        "atp_results_m_layer20-16k_20260131_120000.json",
    ]


def test_a_repeated_label_carries_its_number() -> None:
    assert result_names("m_20260131_120000", ["a", "b", "a"]) == [
        "atp_results_m_a-1_20260131_120000.json",
        "atp_results_m_b_20260131_120000.json",
        "atp_results_m_a-2_20260131_120000.json",
    ]


def test_a_shard_is_named_between_label_and_time(tmp_path: Path) -> None:
    run = run_name(tmp_path, "owner/m", NOON, Shard(0, 4))

    assert result_names(run, ["sae"]) == ["atp_results_m_shard0of4_20260131_120000.json"]
    names = result_names(run, ["a", "b_c"])
    assert names == [
        "atp_results_m_a_shard0of4_20260131_120000.json",
        "atp_results_m_b_c_shard0of4_20260131_120000.json",
    ]
    assert list(map(unsharded, names)) == ["atp_results_m_a", "atp_results_m_b_c"]
    (tmp_path / names[1]).touch()
    assert run_name(tmp_path, "m", NOON).endswith("_120001")


def test_the_names_of_a_run_are_taken_once_its_files_are_there(tmp_path: Path) -> None:
    run = run_name(tmp_path, "owner/m", NOON)
    for name in result_names(run, ["a", "b"]):
        (tmp_path / name).touch()

    assert run_name(tmp_path, "owner/m", NOON) != run


# --- who holds it


def test_a_second_run_learns_who_holds_the_folder(tmp_path: Path) -> None:
    with held(tmp_path):
        code = (
            "import sys; from pathlib import Path; from atp.dataset.output import held\n"
            "with held(Path(sys.argv[1])): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
        )
        who = holder(tmp_path)

    assert who is not None
    assert who.pid == os.getpid()
    assert f"process {os.getpid()} on {platform.node()}, since {who.started}" in done.stderr
    assert datetime.fromisoformat(who.started).tzinfo == UTC


def test_a_folder_that_was_released_has_no_holder(tmp_path: Path) -> None:
    with capture_logs() as log:
        with held(tmp_path):
            pass
        assert holder(tmp_path) is None
        with held(tmp_path):
            pass

    assert log == []


def test_a_folder_whose_holder_was_killed_is_taken_and_says_so(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from atp.dataset.output import held\n"
        "with held(Path(sys.argv[1])): print(os.getpid(), flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )

    with capture_logs() as log, held(tmp_path):
        pass

    (line,) = log
    assert (line["event"], line["log_level"]) == ("lock.taken", "warning")
    assert line["holder"].startswith(f"process {int(done.stdout)} on {platform.node()}, since ")


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff", b"3"])
def test_a_broken_note_of_the_holder_is_ignored(tmp_path: Path, note: bytes) -> None:
    (tmp_path / HOLDER_NAME).write_bytes(note)

    with capture_logs() as log, held(tmp_path):
        assert log == []


def test_a_full_disk_is_reported_when_the_folder_is_taken(tmp_path: Path) -> None:
    with files_limited_to(1), pytest.raises(SaveError) as caught, held(tmp_path):
        pass

    assert str(tmp_path) in str(caught.value)
    assert second_process(tmp_path) == "held"


def test_what_killed_runs_were_writing_is_cleared_away(tmp_path: Path) -> None:
    left_over = [tmp_path / ".atp_results_m.json.x1.tmp", tmp_path / f".{HOLDER_NAME}.x2.tmp"]
    mine = tmp_path / ".mine.tmp"
    for path in (*left_over, mine):
        path.touch()

    with held(tmp_path):
        assert not any(path.exists() for path in left_over)
        assert mine.exists()
