"""What a hub says of its files becomes paths of this machine: only what can be true is taken."""

from __future__ import annotations

from typing import Any

import pytest

from atp.model.hub.listing import HubFile, _is_sound

GIT, SHA256 = "a" * 40, "b" * 64


def test_files_as_the_hub_lists_them_are_taken() -> None:
    assert _is_sound(HubFile("config.json", 0, GIT, None))
    assert _is_sound(HubFile("layer_31/width_16k/params.npz", 9, SHA256, SHA256))


@pytest.mark.parametrize(
    ("name", "size", "blob"),
    [
        *((name, 9, GIT) for name in ("", "../x", "a/../b", "/etc/x", "a//b", "./a", "a\0b")),
        *(("x", size, GIT) for size in (-1, 1.5, "9", True)),
        *(("x", 9, blob) for blob in ("", "../x", "/x", GIT[1:], SHA256, GIT + "\n", 5)),
    ],
)
def test_what_could_leave_the_cache_is_refused(name: str, size: Any, blob: Any) -> None:
    assert not _is_sound(HubFile(name, size, blob, None))
