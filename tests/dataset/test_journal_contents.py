"""A line is read back as it was written, or known to be altered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atp.dataset.journal_contents import sealed, unsealed

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "crc32"), values))
def test_an_object_comes_back_from_its_line(entry: dict[str, object]) -> None:
    line = sealed(entry)

    assert line.count(b"\n") == 1
    assert unsealed(line) == entry


@given(st.dictionaries(st.text(), values, min_size=1), st.data())
def test_a_line_with_another_byte_anywhere_is_no_line(
    entry: dict[str, object], data: st.DataObject
) -> None:
    line = bytearray(sealed(entry))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= data.draw(st.integers(1, 255))

    assert unsealed(bytes(line)) is None


@given(st.dictionaries(st.text(), values), st.data())
def test_a_line_cut_anywhere_is_no_line(entry: dict[str, object], data: st.DataObject) -> None:
    line = sealed(entry)

    assert unsealed(line[: data.draw(st.integers(0, len(line) - 1))]) is None


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"[]\n", b'{"a": 1}\n'])
def test_json_without_a_seal_is_no_line(line: bytes) -> None:
    assert unsealed(line) is None
