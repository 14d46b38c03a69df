"""The result file is the input, digit for digit, plus `atp_analysis` and `metadata.atp`."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from disk import files_limited_to
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from json_texts import json_texts

from atp.dataset.input_scan import scan_input
from atp.dataset.journal import Journal
from atp.dataset.pairs import PairKey
from atp.dataset.results import to_json, write_results
from atp.errors import InputError, SaveError

if TYPE_CHECKING:
    from pathlib import Path

ATP = {"version": "0", "complete": True}
ANALYSIS = {"target_token": " да", "top_features": [{"id": "7", "score": -0.25}]}
ODD_NUMBERS = "[1e400, -0.0, 1.10, 0.1e-7, 123456789012345678901234567890, 18446744073709551616]"

quick = settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))


def exact(text: str | bytes) -> str:
    """Return a JSON text as Python text in which order, type and every digit show."""
    return repr(json.loads(text, parse_float=Decimal, object_pairs_hook=list))


def results_of(
    folder: Path,
    text: str,
    analyses: dict[PairKey, list[dict[str, Any]]] | None = None,
    saes: int = 1,
    name: str = "input.json",
) -> list[Path]:
    """Write an input and its result files, one for each SAE; return these."""
    source = folder / name
    source.write_text(text, encoding="utf-8")
    paths = [folder / f"result{number}.json" for number in range(saes)]
    journal_path = folder / "run.journal.jsonl"
    journal_path.unlink(missing_ok=True)
    with Journal.create(journal_path, {}) as journal:
        for key, of_pair in (analyses or {}).items():
            journal.add(key, of_pair)
        metadata = [{**ATP, "sae": number} for number in range(saes)]
        write_results(scan_input(source), journal, paths, metadata)
    return paths


def question(*variations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return an element of `results`."""
    return {**fields, "variations": list(variations)}


def test_unknown_fields_come_out_unchanged_and_in_order(tmp_path: Path) -> None:
    text = (
        f'{{"z": {ODD_NUMBERS}, "metadata": {{"b": 1.50, "a": {{"y": [], "x": {{}}}}}}, "results": '
        f'[{{"q": {ODD_NUMBERS}, "variations": [{{"prompt": "\\u0000\\u2028 \\ud83d\\ude00", '
        f'"more": {{"b": 1E5, "a": null}}}}], "after": "\\/"}}], "y": true, "": ""}}'
    )

    (path,) = results_of(tmp_path, text)

    expected = text.replace(
        '"x": {}}}', '"x": {}}, "atp": {"version": "0", "complete": true, "sae": 0}}'
    )
    assert expected != text
    assert exact(path.read_bytes()) == exact(expected)


def test_only_analysed_variations_carry_an_analysis(tmp_path: Path) -> None:
    plain = {"prompt": "p"}
    content = {"results": [question(plain, plain), question(plain), question(plain, plain)]}

    (path,) = results_of(
        tmp_path,
        json.dumps(content),
        {PairKey(0, 1): [ANALYSIS], PairKey(2, 0): [{"skipped": "same"}]},
    )

    analysed = {**plain, "atp_analysis": ANALYSIS}
    skipped = {**plain, "atp_analysis": {"skipped": "same"}}
    assert json.loads(path.read_bytes())["results"] == [
        question(plain, analysed),
        question(plain),
        question(skipped, plain),
    ]


def test_the_analysis_stands_last_in_its_variation(tmp_path: Path) -> None:
    content = {"results": [question({"z": 1, "a": 2})]}

    (path,) = results_of(tmp_path, json.dumps(content), {PairKey(0, 0): [ANALYSIS]})

    (variation,) = json.loads(path.read_bytes())["results"][0]["variations"]
    assert list(variation) == ["z", "a", "atp_analysis"]


def test_an_analysis_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    content = {"results": [question({"atp_analysis": {"error": "OOM"}})]}

    (path,) = results_of(tmp_path, json.dumps(content), {PairKey(0, 0): [ANALYSIS]})

    (variation,) = json.loads(path.read_bytes())["results"][0]["variations"]
    assert variation == {"atp_analysis": ANALYSIS}


def test_an_analysis_of_an_earlier_run_is_never_taken_for_one_of_this(tmp_path: Path) -> None:
    earlier = {"prompt": "p", "atp_analysis": {"target_token": "of another model"}}
    content = {"results": [question(earlier, earlier), question(earlier)]}

    (path,) = results_of(tmp_path, json.dumps(content), {PairKey(0, 1): [ANALYSIS]})

    plain = {"prompt": "p"}
    assert json.loads(path.read_bytes())["results"] == [
        question(plain, {**plain, "atp_analysis": ANALYSIS}),
        question(plain),
    ]


def test_metadata_is_kept_and_gets_an_entry_of_atp(tmp_path: Path) -> None:
    content = {"results": [], "metadata": {"model_name": "m", "atp": "of an earlier run"}}

    (path,) = results_of(tmp_path, json.dumps(content))

    result = json.loads(path.read_bytes())
    assert result == {"results": [], "metadata": {"model_name": "m", "atp": {**ATP, "sae": 0}}}
    assert list(result) == ["results", "metadata"]


def test_metadata_is_made_where_there_is_none(tmp_path: Path) -> None:
    (path,) = results_of(tmp_path, '{"a": 1, "results": [], "b": 2}')

    result = json.loads(path.read_bytes())
    assert result == {"metadata": {"atp": {**ATP, "sae": 0}}, "a": 1, "results": [], "b": 2}


def test_each_sae_has_its_file_with_its_own_analyses(tmp_path: Path) -> None:
    content = {"results": [question({"prompt": "p"}), question({"prompt": "q"})]}
    of_pair = [{"sae": "first"}, {"sae": "second"}, {"sae": "third"}]

    paths = results_of(tmp_path, json.dumps(content), {PairKey(0, 0): of_pair}, saes=3)

    for number, path in enumerate(paths):
        result = json.loads(path.read_bytes())
        assert result["metadata"]["atp"]["sae"] == number
        assert result["results"] == [
            question({"prompt": "p", "atp_analysis": of_pair[number]}),
            question({"prompt": "q"}),
        ]


@pytest.mark.parametrize("saes", [1, 2])
def test_an_empty_list_of_results_stays_empty(tmp_path: Path, saes: int) -> None:
    for path in results_of(tmp_path, '{"results": []}', saes=saes):
        assert json.loads(path.read_bytes())["results"] == []


@pytest.mark.parametrize(
    "text", ["", "\n", '{"variations": []}', '{"variations": []}\n\n{"variations": []}\n']
)
def test_json_lines_give_a_json_result(tmp_path: Path, text: str) -> None:
    (path,) = results_of(tmp_path, text, name="input.jsonl")

    assert json.loads(path.read_bytes()) == {
        "metadata": {"atp": {**ATP, "sae": 0}},
        "results": [json.loads(line) for line in text.split("\n") if line],
    }


def test_analyses_in_json_lines_find_their_line_past_blank_ones(tmp_path: Path) -> None:
    text = '\n{"variations": [{}]}\n\n{"variations": [{}]}\n'

    (path,) = results_of(tmp_path, text, {PairKey(1, 0): [ANALYSIS]}, name="input.jsonl")

    first, second = json.loads(path.read_bytes())["results"]
    assert first == question({})
    assert second == question({"atp_analysis": ANALYSIS})


def test_a_result_is_itself_an_input(tmp_path: Path) -> None:
    content = {"results": [question({"prompt": "p", "n": 1})]}
    (path,) = results_of(tmp_path, json.dumps(content), {PairKey(0, 0): [ANALYSIS]})
    first = path.read_bytes()

    (again,) = results_of(tmp_path, first.decode(), {PairKey(0, 0): [ANALYSIS]})

    assert again.read_bytes() == first


def test_questions_stay_on_lines_or_on_one_line_as_they_came(tmp_path: Path) -> None:
    content = {"metadata": {}, "results": [question({"a": [1, {"b": "x\ny"}]})]}

    (path,) = results_of(tmp_path, json.dumps(content, indent=7))
    indented = path.read_bytes()
    (path,) = results_of(tmp_path, json.dumps(content, separators=(",", ":")))
    compact = path.read_bytes()

    assert json.loads(indented) == json.loads(compact)
    assert b'\n    {\n      "' in indented
    assert b'\n    {"' in compact
    assert compact.endswith(b"}\n  ]\n}\n")


def test_an_input_that_broke_meanwhile_leaves_the_old_result(tmp_path: Path) -> None:
    source, path = tmp_path / "input.json", tmp_path / "result.json"
    source.write_text('{"results": [{"variations": []}]}')
    path.write_bytes(b"old")
    found = scan_input(source)
    source.write_text('{"results": [{"variations": []}, ')

    with Journal.create(tmp_path / "j", {}) as journal, pytest.raises(InputError) as caught:
        write_results(found, journal, [path], [ATP])

    assert str(source) in str(caught.value)
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("later", ['{"results": [{"variations": [{}]}]}', '{"results": [3]}'])
def test_an_input_that_changed_meanwhile_is_refused(tmp_path: Path, later: str) -> None:
    source, path = tmp_path / "input.json", tmp_path / "result.json"
    source.write_text('{"results": [{"variations": []}], "more": 1}')
    path.write_bytes(b"old")
    found = scan_input(source)
    source.write_text(later)

    with Journal.create(tmp_path / "j", {}) as journal, pytest.raises(InputError) as caught:
        write_results(found, journal, [path], [ATP])

    assert str(source) in str(caught.value)
    assert path.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_results_and_no_other_file(tmp_path: Path) -> None:
    content = {"results": [question({"prompt": "x" * 5000})]}
    paths = results_of(tmp_path, json.dumps(content), saes=2)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    found = scan_input(tmp_path / "input.json")

    with (
        Journal.create(tmp_path / "second.journal.jsonl", {}) as journal,
        files_limited_to(1000),
        pytest.raises(SaveError) as caught,
    ):
        write_results(found, journal, paths, [{"new": 1}, {"new": 2}])

    assert "result" in str(caught.value)
    (tmp_path / "second.journal.jsonl").unlink()
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_is_gone_is_a_save_error(tmp_path: Path) -> None:
    (tmp_path / "input.json").write_text('{"results": []}')
    gone = tmp_path / "gone" / "result.json"

    with Journal.create(tmp_path / "j", {}) as journal, pytest.raises(SaveError, match="gone"):
        write_results(scan_input(tmp_path / "input.json"), journal, [gone], [ATP])


# --- any JSON


forms = st.tuples(
    st.booleans(),
    st.sampled_from(["", "\ufeff"]),
    st.sampled_from(["", " ", "\r\n", "\n\n\t"]),
)
"""Whether a pair is analysed, a byte order mark, and what stands between tokens."""


@quick
@given(outside=json_texts, inside=json_texts, deep=json_texts, form=forms)
@example(outside="1e400", inside="-0.0", deep="1" * 4000, form=(True, "", ""))
@example(outside="1e0", inside="-0E0", deep="0e-0", form=(False, "\ufeff", "\n"))
def test_any_json_in_any_place_comes_out_unchanged(
    scratch: Path, outside: str, inside: str, deep: str, form: tuple[bool, str, str]
) -> None:
    analysed, mark, space = form

    def text(atp: str = "", analysis: str = "") -> str:
        return (
            f'{{"metadata": {{"note": {outside}{atp}}}, "before": {outside}, "results": [{space}'
            f'{{"a": {inside}, "variations": [{{"b": {deep}{analysis}}}, {{"c": {deep}}}], '
            f'"d": {inside}}}], "after": {outside}}}'
        )

    atp = f', "atp": {json.dumps({**ATP, "sae": 0})}'
    analysis = f', "atp_analysis": {json.dumps(ANALYSIS)}' if analysed else ""

    found = {PairKey(0, 0): [ANALYSIS]} if analysed else None
    (path,) = results_of(scratch, mark + text() + space, found)

    assert exact(path.read_bytes()) == exact(text(atp, analysis))


@pytest.mark.parametrize("levels", [1, 50, 150])
def test_nesting_is_kept(tmp_path: Path, levels: int) -> None:
    nested = '{"a": [' * (levels // 2) + "1.10" + "]}" * (levels // 2)

    (path,) = results_of(tmp_path, f'{{"results": [{{"variations": [], "x": {nested}}}]}}')

    assert exact(nested)[1:-1] in exact(path.read_bytes())


@quick
@given(st.integers(), st.integers(0, 5))
def test_an_integer_of_any_size_is_written_with_all_its_digits(value: int, indent: int) -> None:
    assert json.loads(to_json({"a": [value * 10**30, value]}, indent)) == {
        "a": [value * 10**30, value]
    }
