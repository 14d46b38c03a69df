"""The output folder is inspected without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest

from atp.check.output_folder import free_disk_bytes, inspect_folder
from atp.dataset import output
from atp.errors import SettingsError


@pytest.mark.parametrize("name", ["", "new", "new/deeper"])
def test_inspecting_a_folder_leaves_nothing_behind(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_text("")

    state = inspect_folder(tmp_path / name)

    assert state["writable"]
    assert state["held_by"] is None
    assert state["free_bytes"]
    assert [path.name for path in tmp_path.rglob("*")] == ["there"]


def test_a_folder_below_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(SettingsError, match="cannot be written to"):
        inspect_folder(tmp_path / "file" / "below")


def test_a_held_folder_names_its_holder_and_stays_held(tmp_path: Path) -> None:
    with output.held(tmp_path):
        assert inspect_folder(tmp_path)["held_by"]
        assert inspect_folder(tmp_path)["held_by"]
    assert inspect_folder(tmp_path)["held_by"] is None
    with output.held(tmp_path):
        pass


def test_the_free_space_is_known_for_a_folder_that_is_not_made_yet(tmp_path: Path) -> None:
    assert free_disk_bytes(tmp_path / "a" / "b")
