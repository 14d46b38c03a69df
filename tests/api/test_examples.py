"""Every public function has an example; those of docstrings and docs give what they say."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

import pytest
import tiny

import atp

DOCS = Path(__file__).parents[2] / "docs" / "library.md"
PUBLIC = [name for name in atp.__all__ if inspect.isroutine(getattr(atp, name))]
OF_RESULT = ["Result", "Result.top", "Result.to_frame", "Result.to_dict", "Result.show"]


def run(text: str, name: str) -> None:
    """Run the examples in a text; fail with what they printed instead."""
    names = {each: getattr(atp, each) for each in atp.__all__} | {"pairs": tiny.triples(1)[:2]}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    assert test.examples, f"{name} has no example"
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE).run(
        test, out=told.append
    )
    assert not told, "".join(told)


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", [*PUBLIC, *OF_RESULT])
def test_the_example_of_a_docstring_gives_what_it_says(name: str) -> None:
    owner, _, method = name.partition(".")
    item = getattr(getattr(atp, owner), method) if method else getattr(atp, owner)
    run(inspect.getdoc(item) or "", name)


@pytest.mark.usefixtures("workplace")
def test_the_examples_of_the_docs_give_what_they_say() -> None:
    run("\n".join(re.findall(r"```pycon\n(.*?)```", DOCS.read_text(), re.DOTALL)), DOCS.name)


def test_the_docs_name_everything_public() -> None:
    text = DOCS.read_text(encoding="utf-8")
    names = [name for name in atp.__all__ if not name.startswith("__")]
    members = [name for name in vars(atp.Result) if not name.startswith("_")]
    for name in [*names, *(set(members) - {"as_result_files"})]:
        assert re.search(rf"`\.?{name}\b", text), name
