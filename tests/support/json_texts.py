"""Any JSON text, for property tests: every kind of number, string and nesting."""

from __future__ import annotations

import json

from hypothesis import strategies as st

strings = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
string_texts = st.tuples(strings, st.booleans()).map(
    lambda drawn: json.dumps(drawn[0], ensure_ascii=drawn[1])
)
number_texts = st.one_of(
    st.integers().map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,4})?", fullmatch=True),
    st.sampled_from(
        [
            "1e400",
            "-0.0",
            "1.10",
            "-0",
            "1E5",
            "9" * 400,
            "18446744073709551616",
            "-9223372036854775809",
        ]
    ),
)
json_texts = st.recursive(
    st.one_of(string_texts, number_texts, st.sampled_from(["null", "true", "false"])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(lambda items: "[" + ", ".join(items) + "]"),
        st.dictionaries(strings, inner, max_size=4).map(
            lambda items: (
                "{" + ",".join(f"{json.dumps(key)}:{item}" for key, item in items.items()) + "}"
            )
        ),
    ),
    max_leaves=12,
)
