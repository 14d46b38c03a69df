"""SharedPrefixes spell out what rows begin with, once each, and are used where that saves work."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atp.attribution.shared_prefixes import MIN_SAVING, find_shared_prefixes

# Few different tokens: many rows begin alike.
rows = st.lists(
    st.lists(st.integers(0, 1), min_size=1, max_size=24).map(tuple), min_size=1, max_size=12
)


@given(rows=rows, own=st.integers(1, 24))
def test_every_row_begins_with_its_stem(rows: list[tuple[int, ...]], own: int) -> None:
    own = min(own, max(map(len, rows)))
    width = max(map(len, rows))
    stems = find_shared_prefixes(rows, own)
    assert width - stems.columns >= own
    if not stems.columns:
        assert stems.computed == len(rows) * width
        return
    for row, which, length in zip(rows, stems.of_row, stems.lengths, strict=True):
        assert length == max(0, stems.columns - (width - len(row)))
        assert stems.tokens[which][:length] == row[:length]
    longest = max(map(len, stems.tokens))
    assert stems.computed == len(stems.tokens) * longest + len(rows) * (width - stems.columns)
    assert stems.computed <= (1 - MIN_SAVING) * len(rows) * width
    for i, one in enumerate(stems.tokens):
        assert not any(
            other[: len(one)] == one for other in stems.tokens[:i] + stems.tokens[i + 1 :]
        )


@given(rows=rows)
def test_no_other_number_of_columns_would_leave_less_to_compute(
    rows: list[tuple[int, ...]],
) -> None:
    """Of rows of one length; with several lengths, some that would be a little better are left."""
    width = min(map(len, rows))
    rows = [row[:width] for row in rows]
    best = find_shared_prefixes(rows, 1).computed
    for columns in range(1, width):
        distinct = {row[:columns] for row in rows}
        computed = len(distinct) * columns + len(rows) * (width - columns)
        assert best <= computed or computed > (1 - MIN_SAVING) * len(rows) * width


def test_rows_that_part_late_share_all_before() -> None:
    text = tuple(range(100))
    stems = find_shared_prefixes([(*text, 1, 2), (*text, 3, 4), (*text, 5, 6)], 1)
    assert stems.tokens == (text,)
    assert (stems.columns, stems.computed) == (100, 100 + 3 * 2)


def test_a_gain_that_is_not_worth_a_pass_is_left() -> None:
    assert find_shared_prefixes([(1, *range(50)), (1, *range(50, 100))], 1).columns == 0
