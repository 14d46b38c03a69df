"""A file is written whole or not at all, and nothing else is left in its folder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from disk import files_limited_to

from atp.dataset.atomic import atomic_write, sync_folder
from atp.errors import ExitCode, SaveError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_file_appears_with_its_content_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "result.json"

    with atomic_write(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_content_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old")

    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert path.read_bytes() == b"new"


def test_a_new_file_is_not_there_until_the_end(tmp_path: Path) -> None:
    path = tmp_path / "result.json"

    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert not path.exists()

    assert path.exists()


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_midway_leaves_the_old_file_and_no_other(
    tmp_path: Path, failure: type[BaseException]
) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the n")
            raise failure

    with pytest.raises(failure):
        write()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_a_save_error_that_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write(bytes(100_000))

    with files_limited_to(1000), pytest.raises(SaveError) as caught:
        write()

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == ExitCode.SAVE_FAILED
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_a_save_error(tmp_path: Path) -> None:
    with (
        pytest.raises(SaveError, match="could not be written"),
        atomic_write(tmp_path / "no" / "x"),
    ):
        pass


def test_a_folder_in_the_place_of_the_file_is_a_save_error_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.mkdir()

    with pytest.raises(SaveError), atomic_write(path) as file:
        file.write(b"new")

    assert path.is_dir()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_result_is_as_readable_as_the_umask_says(tmp_path: Path, umask: int, mode: int) -> None:
    path = tmp_path / "result.json"
    before = os.umask(umask)
    try:
        with atomic_write(path) as file:
            file.write(b"new")
    finally:
        os.umask(before)

    assert path.stat().st_mode & 0o777 == mode


def test_the_umask_of_the_process_is_never_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other threads create files at the same time."""
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("os.umask was called"))

    with atomic_write(tmp_path / "result.json") as file:
        file.write(b"new")


def test_the_temporary_file_has_the_name_that_the_next_run_clears_away(tmp_path: Path) -> None:
    path = tmp_path / "atp_results_m.json"

    with atomic_write(path), atomic_write(path):  # two at a time have two files
        assert len(list(tmp_path.glob(".atp_results_m.json.*.tmp"))) == 2

    assert list(tmp_path.iterdir()) == [path]


def test_a_name_in_any_script_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "résultat 結果 {}.json"

    with atomic_write(path) as file:
        file.write(b"new")

    assert path.read_bytes() == b"new"


def test_syncing_a_folder_that_is_gone_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync_folder(tmp_path / "gone")
