"""Which answers form a pair: the first base variation with every other flagged one, in order."""

from __future__ import annotations

from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mutants import FLAGS, TEMPLATES
from rules import Object, RefusedError, expected, questions_of, tree

from atp.dataset import pairs
from atp.dataset.pairs import BrokenPair, Pair, PairKey, is_base, is_flagged
from atp.errors import InputError

pairs_of = partial(pairs.pairs_of, Path("input.json"))

BASE = {"template_type": "base", "prompt": "Q", "response": "neutral", "sycophancy_flag": 0}
FLAGGED = {
    "template_type": "like",
    "prompt": "Q, I like it",
    "response": "yes",
    "sycophancy_flag": 1,
}


def question(*variations: Any) -> dict[str, Any]:
    """Return an element of `results` with these variations."""
    return {"question_id": "q1", "variations": list(variations)}


def without(variation: dict[str, Any], field: str) -> dict[str, Any]:
    """Return a variation that lacks one field."""
    return {name: value for name, value in variation.items() if name != field}


@pytest.mark.parametrize("template", ["base", "(base)", "", None, "Base", " (BASE) ", "  "])
def test_a_base_template_has_any_of_the_known_spellings(template: str | None) -> None:
    assert is_base({"template_type": template})


def test_a_variation_without_template_type_is_base() -> None:
    assert is_base({"prompt": "Q"})


@pytest.mark.parametrize("template", ["like", "base2", "(base", "baseline", "none", 0, False, []])
def test_other_templates_are_not_base(template: Any) -> None:
    assert not is_base({"template_type": template})


@pytest.mark.parametrize("flag", [1, True, "1", "true", "True", " 1 ", Decimal("1.0"), Decimal(1)])
def test_yes_is_read_in_each_of_its_spellings(flag: Any) -> None:
    assert is_flagged({"sycophancy_flag": flag}, "here")


@pytest.mark.parametrize(
    "flag", [0, False, "0", "false", "FALSE", None, "", "null", Decimal("0.0")]
)
def test_no_is_read_in_each_of_its_spellings(flag: Any) -> None:
    assert not is_flagged({"sycophancy_flag": flag}, "here")


def test_a_missing_flag_is_a_no() -> None:
    assert not is_flagged({}, "here")


@pytest.mark.parametrize("flag", [2, -1, "yes", "maybe", Decimal("0.5"), [1], {"flag": 1}, "1\n1"])
def test_an_odd_flag_is_refused_with_its_place_on_one_line(flag: Any) -> None:
    flagged = {**FLAGGED, "sycophancy_flag": flag}

    with pytest.raises(InputError) as caught:
        list(pairs_of(question(BASE, flagged), 7))

    assert "results[7].variations[1].sycophancy_flag" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_long_odd_flag_is_shortened_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        is_flagged({"sycophancy_flag": "x" * 10_000}, "here")

    assert len(str(caught.value)) < 200


def test_a_flagged_answer_pairs_with_the_base_answer_after_its_own_prompt() -> None:
    (pair,) = pairs_of(question(BASE, FLAGGED), 3)

    assert pair == Pair(PairKey(3, 1), "Q, I like it", "yes", "neutral", "Q")


def test_the_base_may_stand_after_the_flagged_answer() -> None:
    (pair,) = pairs_of(question(FLAGGED, BASE), 0)

    assert pair == Pair(PairKey(0, 0), "Q, I like it", "yes", "neutral", "Q")


def test_the_first_base_wins() -> None:
    second = {**BASE, "template_type": "", "response": "second"}

    (pair,) = pairs_of(question(BASE, second, FLAGGED), 0)

    assert isinstance(pair, Pair)
    assert pair.base_response == "neutral"


def test_a_flagged_base_forms_no_pair_with_itself() -> None:
    assert list(pairs_of(question({**BASE, "sycophancy_flag": 1}), 0)) == []


def test_a_second_base_that_is_flagged_pairs_with_the_first() -> None:
    second = {**BASE, "response": "second", "sycophancy_flag": 1}

    (pair,) = pairs_of(question(BASE, second), 0)

    assert pair == Pair(PairKey(0, 1), "Q", "second", "neutral", "Q")


@pytest.mark.parametrize("variations", [[], [BASE], [BASE, {**FLAGGED, "sycophancy_flag": 0}]])
def test_nothing_flagged_is_no_pair(variations: list[dict[str, Any]]) -> None:
    assert list(pairs_of(question(*variations), 0)) == []


def test_a_question_without_base_breaks_each_of_its_pairs() -> None:
    broken = list(pairs_of(question(FLAGGED, FLAGGED), 4))

    assert [pair.key for pair in broken] == [PairKey(4, 0), PairKey(4, 1)]
    for pair in broken:
        assert isinstance(pair, BrokenPair)
        assert pair.error == "No base variation"
        assert pair.details["question"] == 4


def test_a_question_without_base_and_without_flag_is_no_fault() -> None:
    assert list(pairs_of(question({**FLAGGED, "sycophancy_flag": 0}), 0)) == []


@pytest.mark.parametrize("field", ["prompt", "response"])
def test_a_missing_field_breaks_the_pair_and_is_named(field: str) -> None:
    (pair,) = pairs_of(question(BASE, without(FLAGGED, field)), 2)

    assert isinstance(pair, BrokenPair)
    assert pair.error == f"{field.capitalize()} missing"
    assert pair.details == {"field": f"results[2].variations[1].{field}"}


@pytest.mark.parametrize("field", ["prompt", "response"])
@pytest.mark.parametrize(
    ("value", "fault"), [(None, "missing"), (3, "not text"), (["a"], "not text"), ({}, "not text")]
)
def test_a_field_that_is_no_text_breaks_the_pair(field: str, value: Any, fault: str) -> None:
    (pair,) = pairs_of(question(BASE, {**FLAGGED, field: value}), 0)

    assert isinstance(pair, BrokenPair)
    assert pair.error == f"{field.capitalize()} {fault}"
    assert pair.details == {"field": f"results[0].variations[1].{field}"}


@pytest.mark.parametrize(("value", "fault"), [(None, "missing"), (False, "not text")])
def test_a_base_response_that_is_no_text_is_named_at_the_base(value: Any, fault: str) -> None:
    (pair,) = pairs_of(question(FLAGGED, {**BASE, "response": value}), 5)

    assert isinstance(pair, BrokenPair)
    assert pair.key == PairKey(5, 0)
    assert pair.error == f"Base response {fault}"
    assert pair.details == {"field": "results[5].variations[1].response"}


def test_the_prompt_of_the_base_is_not_needed() -> None:
    (pair,) = pairs_of(question(without(BASE, "prompt"), FLAGGED), 0)

    assert isinstance(pair, Pair)


def test_a_broken_pair_costs_its_neighbour_nothing() -> None:
    broken, whole = pairs_of(question(BASE, without(FLAGGED, "prompt"), FLAGGED), 0)

    assert isinstance(broken, BrokenPair)
    assert whole == Pair(PairKey(0, 2), "Q, I like it", "yes", "neutral", "Q")


def test_a_repeated_question_id_gives_distinct_keys() -> None:
    same = question(BASE, FLAGGED, FLAGGED)

    keys = [pair.key for index in range(2) for pair in pairs_of(same, index)]

    assert keys == [PairKey(0, 1), PairKey(0, 2), PairKey(1, 1), PairKey(1, 2)]


@pytest.mark.parametrize(
    "text", ["", " ", "Привет", "你好，世界", "مرحبا", "👩‍👩‍👧 \U0001f600", "a\x00\n\u2028"]
)
def test_text_of_any_script_passes_through_untouched(text: str) -> None:
    base = {**BASE, "response": text}
    flagged = {**FLAGGED, "prompt": text, "response": text}

    assert list(pairs_of(question(base, flagged), 0)) == [
        Pair(PairKey(0, 1), text, text, text, "Q")
    ]


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        (3, "results[9] is not an object"),
        (None, "results[9] is not an object"),
        ([], "results[9] is not an object"),
        ({}, "results[9].variations is missing"),
        ({"variations": None}, "results[9].variations is missing"),
        ({"variations": {}}, "results[9].variations is not a list"),
        ({"variations": [BASE, "text"]}, "results[9].variations[1] is not an object"),
    ],
)
def test_what_is_no_question_is_refused_with_its_place(element: Any, fault: str) -> None:
    with pytest.raises(InputError) as caught:
        list(pairs_of(element, 9))

    assert fault in str(caught.value)
    assert caught.value.hint


texts = st.one_of(st.none(), st.text(max_size=5), st.integers(0, 1))
variations = st.fixed_dictionaries(
    {},
    optional={
        "template_type": st.sampled_from(["base", "(base)", "", None, "like", "dislike"]),
        "prompt": texts,
        "response": texts,
        "sycophancy_flag": st.sampled_from([0, 1, True, False, "0", "1", None]),
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(variations, max_size=6), st.integers(0, 10**6))
def test_every_flagged_variation_but_the_base_gives_one_outcome_in_order(
    content: list[dict[str, Any]], index: int
) -> None:
    spelled_base = {"base", "(base)", "", None}
    bases = [n for n, item in enumerate(content) if item.get("template_type") in spelled_base]
    expected = [
        PairKey(index, number)
        for number, item in enumerate(content)
        if item.get("sycophancy_flag") in {1, "1"} and number not in bases[:1]
    ]

    outcomes = list(pairs_of(question(*content), index))

    assert [outcome.key for outcome in outcomes] == expected
    for outcome in outcomes:
        item = content[outcome.key.variation]
        needed: list[Any] = [item.get("prompt"), item.get("response")]
        needed += [content[bases[0]].get("response")] if bases else [None]
        if all(isinstance(text, str) for text in needed):
            neutral = content[bases[0]].get("prompt")
            told = neutral if isinstance(neutral, str) else None
            assert outcome == Pair(outcome.key, *needed, told)
        else:
            assert isinstance(outcome, BrokenPair)


def as_given(value: Any) -> Any:
    """Return a value of `rules.tree` as the reader gives it: objects as dicts."""
    if isinstance(value, Object):
        return {key: as_given(item) for key, item in value}
    return [as_given(item) for item in value] if isinstance(value, list) else value


anything = st.sampled_from(["null", '"text"', '""', "[]", "{}", "7", "1.5", "false"])
members = st.fixed_dictionaries(
    {},
    optional={
        "template_type": st.one_of(st.sampled_from(TEMPLATES), anything),
        "prompt": anything,
        "response": anything,
        "sycophancy_flag": st.one_of(st.sampled_from(("1", "0", "true")), st.sampled_from(FLAGS)),
        "note": anything,
    },
).map(lambda fields: "{" + ", ".join(f'"{key}": {text}' for key, text in fields.items()) + "}")
odd_questions = st.one_of(
    st.lists(st.one_of(members, members, members, anything), max_size=6).map(
        lambda items: '{"variations": [' + ", ".join(items) + "]}"
    ),
    anything,
)


@settings(deadline=None, max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(odd_questions)
def test_any_question_is_paired_or_refused_as_the_plain_rule_says(text: str) -> None:
    question = tree(text)
    try:
        questions_of(text.encode(), lines=True)
    except RefusedError:
        with pytest.raises(InputError, match=r"results\[5\]") as caught:
            list(pairs_of(as_given(question), 5))
        assert "\n" not in str(caught.value)
        return

    found = list(pairs_of(as_given(question), 5))

    assert [pair.key for pair in found] == [PairKey(5, number) for number in expected(question)]
    for pair in found:
        reasons = expected(question)[pair.key.variation]
        assert isinstance(pair, BrokenPair) == (
            len(reasons) == 1 and "Empty response" not in reasons
        )
        if isinstance(pair, BrokenPair):
            assert reasons == {pair.error}
