"""`atp merge` over made-up shards: what is chosen, what is refused, what is written and when."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from disk import files_limited_to
from made_up_results import (
    FACTS,
    STARTED,
    dealt,
    of_all,
    result,
    scored,
    shards,
    source,
    without_places,
)
from runs import analyses, events, of, read

from atp.cli.main import main
from atp.config.shard import Shard
from atp.dataset.output import held
from atp.dataset.pairs import PairKey
from atp.dataset.source import CHUNK
from atp.errors import ExitCode
from atp.merge import whole

LATER = "2026-01-31T13:00:00+00:00"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An input of eight pairs."""
    return source(tmp_path)


@pytest.fixture
def merged(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[Path]]:
    """Return a function that merges into `tmp_path / "out"` and gives the files."""

    def merge(*results: Path, code: int = ExitCode.OK) -> list[Path]:
        assert main(["merge", *map(str, results), f"--out={tmp_path / 'out'}"]) == code
        return [Path(line) for line in capfd.readouterr().out.splitlines()]

    return merge


@pytest.fixture
def refusal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that merges what is refused, and gives the one line that says why."""

    def merge(*results: Path, code: int = ExitCode.USAGE) -> str:
        assert main(["merge", *map(str, results), f"--out={tmp_path / 'out'}"]) == code
        out, err = capfd.readouterr()
        line = events(err)[-1]
        assert out == ""
        assert (line["event"], line["exit_code"]) == ("atp.failed", code)
        assert line["hint"]
        assert not list((tmp_path / "out").glob("atp_*"))
        return f"{line['message']} {line['hint']}"

    return merge


def edited(file: Path, change: Callable[[Any], object]) -> None:
    """Change a result file by hand."""
    content = read(file)
    change(content)
    file.write_text(json.dumps(content).replace("Infinity", "1e400"), encoding="utf-8")


def variation(content: Any, question: int, number: int) -> Any:
    """Return a variation of a result."""
    return content["results"][question]["variations"][number]


# --- what is written


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20])
def test_merged_shards_are_the_bytes_of_a_whole_run(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]], count: int
) -> None:
    whole = result(tmp_path / "whole", path, of_all(path))

    (file,) = merged(*shards(tmp_path / "in", path, count))

    assert without_places(file) == without_places(whole)
    assert file.name == whole.name


def test_the_merged_result_says_where_it_came_from(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)

    (file,) = merged(second, first)

    told = read(file)["metadata"]["atp"]
    sources = told["merged_from"]
    assert [each["shard"] for each in sources] == ["0/2", "1/2"]
    assert [each["path"] for each in sources] == [str(first), str(second)]
    assert all(len(each["sha256"]) == 64 for each in sources)
    assert told["complete"] is True
    assert told["settings"]["shard"] is None
    assert "unsharded" not in told


def test_the_whole_began_with_its_first_shard_and_ended_with_its_last(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    _, second = shards(tmp_path / "in", path, 2)
    first, _ = shards(tmp_path / "later", path, 2, started=LATER)
    edited(first, lambda content: content["metadata"]["atp"].update(finished=LATER))

    (file,) = merged(first, second)

    told = read(file)["metadata"]["atp"]
    assert (told["started"], told["finished"]) == (STARTED, LATER)
    assert file.name == "atp_results_tiny_20260131_120000.json"


def test_a_signal_ends_a_merge_and_leaves_nothing_half_written(
    tmp_path: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = shards(tmp_path / "in", path, 2)
    ask = partial(os.kill, os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(whole, "check_unchanged", lambda _: ask())

    with pytest.raises(SystemExit) as caught:
        main(["merge", *map(str, files), f"--out={tmp_path / 'out'}"])

    assert caught.value.code == ExitCode.TERMINATED
    assert [each.name for each in (tmp_path / "out").iterdir()] == [".atp.lock"]


def test_a_pair_with_an_error_makes_the_exit_code_of_a_run(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    found = of_all(path)
    found[PairKey(1, 1)] = {"error": "OOM", "details": {"message": "no room"}}
    parts = [Shard(index, 2) for index in range(2)]
    files = [result(tmp_path / str(part.index), path, dealt(found, part), part) for part in parts]

    (file,) = merged(*files, code=ExitCode.PAIRS_FAILED)

    assert read(file)["metadata"]["atp"]["counts"]["error"] == 1
    assert merged(*files, code=ExitCode.PAIRS_FAILED) == [file]  # told as often as it is asked


def test_a_merge_that_exists_is_reported_and_not_written_again(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    files = shards(tmp_path / "in", path, 2)
    (first,) = merged(*files)
    before = first.stat()

    assert merged(*reversed(files)) == [first]
    assert merged(tmp_path / "in") == [first]

    assert first.stat().st_mtime_ns == before.st_mtime_ns
    assert first.stat().st_ino == before.st_ino


def test_nothing_that_stands_there_is_overwritten(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    whole = result(tmp_path / "out", path, of_all(path))
    before = whole.read_bytes()

    (file,) = merged(*shards(tmp_path / "in", path, 2))

    assert file.name == "atp_results_tiny_20260131_120001.json"
    assert whole.read_bytes() == before
    assert merged(tmp_path / "in") == [file]


def test_a_merged_result_has_its_place_beside_its_shards(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shards(tmp_path / "in", path, 3)
    arguments = ["merge", str(tmp_path / "in"), f"--out={tmp_path / 'in'}"]

    for _ in range(2):  # the merged result is none of the shards
        assert main(arguments) == ExitCode.OK
        (line,) = capfd.readouterr().out.splitlines()
        assert line == str(tmp_path / "in" / "atp_results_tiny_20260131_120000.json")


def test_questions_on_one_line_stay_so(tmp_path: Path, merged: Callable[..., list[Path]]) -> None:
    lines = tmp_path / "input.jsonl"
    questions = read(source(tmp_path))["results"]
    lines.write_text("\n".join(map(json.dumps, questions)).replace("Infinity", "1e400"))
    whole = result(tmp_path / "whole", lines, of_all(lines))

    (file,) = merged(*shards(tmp_path / "in", lines, 3))

    assert without_places(file) == without_places(whole)


@pytest.mark.parametrize("indent", [2, None])
@pytest.mark.parametrize("length", [0, CHUNK - 500, 3 * CHUNK])
@pytest.mark.parametrize("order", [("metadata", "before", "results"), ("before", "results")])
def test_fields_around_the_questions_stay_where_they_are(
    tmp_path: Path,
    merged: Callable[..., list[Path]],
    order: tuple[str, ...],
    length: int,
    indent: int | None,
) -> None:
    """With the metadata of a run, the questions of a result begin later than those of the input."""
    fields = {
        "before": ["x" * length],
        "results": read(source(tmp_path))["results"],
        "after": {"results": [1]},
        "metadata": {"by": "hand"},
    }
    content = {key: fields[key] for key in dict.fromkeys([*order, *fields])}
    path = tmp_path / "around.json"
    text = json.dumps(content, indent=indent).replace("Infinity", "1e400")
    path.write_text(text, encoding="utf-8")
    whole = result(tmp_path / "whole", path, of_all(path))

    (file,) = merged(*shards(tmp_path / "in", path, 2))

    assert list(read(file)) == list(content)
    assert without_places(file) == without_places(whole)
    assert merged(tmp_path / "in") == [file]


def test_an_input_without_pairs_is_merged(
    tmp_path: Path, merged: Callable[..., list[Path]]
) -> None:
    empty = source(tmp_path, questions=0)
    whole = result(tmp_path / "whole", empty, {})

    (file,) = merged(*shards(tmp_path / "in", empty, 2))

    assert without_places(file) == without_places(whole)


def test_every_run_that_is_named_is_merged(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    one = shards(tmp_path / "one", path, 2)
    other = shards(tmp_path / "other", path, 2, settings={"top_k": 7})

    files = merged(*one, *other)

    told = [read(file)["metadata"]["atp"] for file in files]
    assert [each["settings"]["top_k"] for each in told] == [50, 7]


# --- what is chosen from folders


def test_of_folders_the_last_run_is_taken_and_the_choice_is_logged(
    tmp_path: Path, path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    old = shards(tmp_path / "in", path, 2)
    new = shards(tmp_path / "in", path, 2, started=LATER, source_sha256="e" * 64)

    assert main(["merge", str(tmp_path / "in"), f"--out={tmp_path / 'out'}"]) == ExitCode.OK
    out, err = capfd.readouterr()

    (found,) = of("merge.found", events(err))
    assert found["shards"] == list(map(str, new))
    assert found["left_out"] == list(map(str, old))
    assert read(out.strip())["metadata"]["atp"]["source_sha256"] == "e" * 64


def test_an_earlier_run_that_was_never_finished_does_not_matter(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    shards(tmp_path / "in", source(tmp_path, questions=2, name="older.json"), 2)[1].unlink()
    new = shards(tmp_path / "in", path, 2, started=LATER)

    (file,) = merged(tmp_path / "in")

    sources = read(file)["metadata"]["atp"]["merged_from"]
    assert [each["path"] for each in sources] == list(map(str, new))


def test_of_an_earlier_run_nothing_but_the_metadata_is_read(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    old = shards(tmp_path / "in", path, 2)
    for file in old:
        file.write_bytes(file.read_bytes()[:-40])
    new = shards(tmp_path / "in", path, 2, started=LATER)

    (file,) = merged(tmp_path / "in")

    sources = read(file)["metadata"]["atp"]["merged_from"]
    assert [each["path"] for each in sources] == list(map(str, new))


def test_of_a_shard_that_was_done_anew_the_last_complete_file_is_taken(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    _, second = shards(tmp_path / "in", path, 2)
    part = Shard(1, 2)
    again = result(tmp_path / "in" / "b", path, dealt(of_all(path), part), part, started=LATER)
    (tmp_path / "in" / "c").mkdir()
    begun = {PairKey(0, 1): {"elsewhere": "0/2"}}
    result(tmp_path / "in" / "c", path, begun, part, started="2026-01-31T14:00:00+00:00")

    (file,) = merged(tmp_path / "in")

    sources = read(file)["metadata"]["atp"]["merged_from"]
    assert [each["path"] for each in sources][1] == str(again) != str(second)


def test_the_folders_of_single_shards_may_be_named(
    tmp_path: Path, path: Path, merged: Callable[..., list[Path]]
) -> None:
    files = shards(tmp_path / "in", path, 3)

    (file,) = merged(files[0].parent, files[1], files[2].parent, files[2])  # one of them twice

    assert len(list(analyses(read(file)))) == 8


# --- what is refused


def test_a_missing_shard_is_named(tmp_path: Path, path: Path, refusal: Callable[..., str]) -> None:
    files = shards(tmp_path / "in", path, 3)

    line = refusal(files[0], files[2])

    assert "shard 1/3" in line
    assert "missing" in line
    assert "--shard=1/3" in line


def test_the_same_shard_of_another_run_in_the_folder_is_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    other, _ = shards(tmp_path / "in", path, 2, settings={"top_k": 7})
    missing, last = shards(tmp_path / "in", path, 2, started=LATER)
    missing.unlink()

    line = refusal(tmp_path / "in")

    assert "settings.top_k is 50 in one and 7 in the other" in line
    assert str(last) in line
    assert str(other) in line


def test_a_shard_that_is_not_complete_is_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    found = dealt(of_all(path), Shard(1, 2))
    del found[PairKey(3, 2)]
    assert result(second.parent, path, found, Shard(1, 2)) == second

    line = refusal(first, second)

    assert "shard 1/2 is not complete, 1 pairs are left" in line
    assert "Start shard 1/2 again" in line


def test_a_shard_that_is_there_twice_with_other_content_is_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    found = dealt({key: scored(-1.0) for key in of_all(path)}, Shard(1, 2))
    third = result(tmp_path / "again", path, found, Shard(1, 2))

    line = refusal(first, second, third)

    assert "shard 1/2 is there twice" in line
    assert str(second) in line
    assert str(third) in line


@pytest.mark.parametrize(
    ("changed", "fact"),
    [
        ({"settings": {"top_k": 7}}, "settings.top_k is 50 in one and 7 in the other"),
        ({"settings": {"batch_tokens": 99}}, "settings.batch_tokens is 256 in one and 99 in"),
        ({"settings": {"limit": 8}}, "settings.limit is None in one and 8 in the other"),
        ({"model": {**FACTS["model"], "dtype": "bfloat16"}}, "model.dtype is float32 in one and"),
        ({"versions": {"atp": "1", "torch": "2"}}, "versions.atp is 0 in one and 1 in the other"),
        ({"source_sha256": "e" * 64}, "source_sha256 is ccc"),
        ({"saes": [{**FACTS["saes"][0], "sha256": "e" * 64}]}, "sae.sha256 is ddd"),
    ],
)
def test_the_fact_in_which_shards_differ_is_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str], changed: dict[str, Any], fact: str
) -> None:
    first, _ = shards(tmp_path / "in", path, 2)
    _, other = shards(tmp_path / "other", path, 2, **changed)

    line = refusal(first, other)

    assert fact in line
    assert str(first) in line
    assert str(other) in line


def test_shards_of_another_input_or_of_another_number_are_refused(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, _ = shards(tmp_path / "in", path, 2)
    _, other = shards(tmp_path / "other", source(tmp_path, 5, "other.json"), 2)
    _, third, _ = shards(tmp_path / "three", path, 3)

    assert "input.sha256 is " in refusal(first, other)
    assert "they are shards 0/2 and 1/3" in refusal(first, third)


def test_a_file_that_is_no_result_of_a_shard_is_refused(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    assert "input.json is no result of atp run" in refusal(path)
    whole = result(tmp_path / "whole", path, of_all(path))
    assert "is the result of a whole run" in refusal(whole)
    assert "does not exist" in refusal(tmp_path / "none.json")
    assert "nor a folder in it holds a result" in refusal(tmp_path / "whole")


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.clear(),
        lambda told: told.update(settings=[]),
        lambda told: told["settings"].update(shard="2/2"),
        lambda told: told["settings"].update(shard=1),
        lambda told: told["settings"].update(batch_tokens={}),
        lambda told: told["unsharded"].update(result="atp_results_/../../x"),
        lambda told: told["unsharded"].pop("fingerprint"),
        lambda told: told.update(started="today"),
        lambda told: told.update(finished="2026-01-31T12:00:00"),
        lambda told: told["counts"].update(pairs="8"),
        lambda told: told["input"].pop("sha256"),
        lambda told: told.pop("sae"),
        lambda told: told.pop("complete"),
    ],
)
def test_a_result_that_does_not_say_what_it_is_of_is_none(
    tmp_path: Path, path: Path, refusal: Callable[..., str], change: Callable[[Any], object]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    edited(second, lambda content: change(content["metadata"]["atp"]))

    assert f"{second} is no result of atp run" in refusal(first, second)


def test_damaged_json_is_refused_with_its_place(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    second.write_bytes(second.read_bytes()[:-40])

    line = refusal(first, second)

    assert f"{second} is not valid JSON at line" in line
    assert "truncated" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(atp_analysis={"elsewhere": "0/2"}), "has no result in any shard"),
        (lambda v: v.pop("atp_analysis"), "has no result in any shard"),
        (lambda v: v.update(atp_analysis=7), "is not as atp writes it"),
        (lambda v: v.update(atp_analysis={"diagnostics": {}}), "is not as atp writes it"),
        (lambda v: v.update(prompt="Q"), "results[0] is not the same in"),
    ],
)
def test_a_pair_at_fault_is_named(
    tmp_path: Path,
    path: Path,
    refusal: Callable[..., str],
    change: Callable[[Any], object],
    message: str,
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    edited(second, lambda content: change(variation(content, 0, 2)))

    line = refusal(first, second)

    assert message in line
    assert "results[0]" in line


def test_a_pair_with_two_results_and_a_result_without_a_pair_are_named(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    before = second.read_bytes()
    edited(second, lambda content: variation(content, 2, 1).update(atp_analysis=scored(1.0)))
    assert f"results[2].variations[1] has a result in {first} and {second}" in refusal(
        first, second
    )

    second.write_bytes(before)
    edited(second, lambda content: variation(content, 3, 0).update(atp_analysis=scored(1.0)))
    assert "results[3].variations[0] has a result and is no pair" in refusal(first, second)


def test_shards_of_different_lengths_are_refused(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    edited(second, lambda content: content["results"].pop())

    assert f"{first} holds 4 questions, {second} 3" in refusal(first, second)


# --- where it is written


def test_a_full_disk_is_reported_with_the_bytes_needed_and_leaves_nothing(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    files = shards(tmp_path / "in", path, 2)

    with files_limited_to(2000):
        line = refusal(*files, code=ExitCode.SAVE_FAILED)

    assert "it needs about" in line
    assert [each.name for each in (tmp_path / "out").iterdir()] == [".atp.lock"]


def test_a_folder_that_a_run_holds_is_busy(
    tmp_path: Path, path: Path, refusal: Callable[..., str]
) -> None:
    files = shards(tmp_path / "in", path, 2)

    with held(tmp_path / "out"):
        assert "another run is writing to" in refusal(*files, code=ExitCode.BUSY)


def test_a_shard_that_changes_before_it_is_read_whole_is_refused(
    tmp_path: Path, path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    proper = whole.read

    def disturbed(*arguments: Any) -> Any:
        second.write_bytes(second.read_bytes() + b"\n")
        return proper(*arguments)

    monkeypatch.setattr(whole, "read", disturbed)

    assert f"{second} was changed" in refusal(first, second)


@pytest.mark.slow
def test_each_shard_is_read_twice(tmp_path: Path, merged: Callable[..., list[Path]]) -> None:
    """Once to check, hash and count it, once to write; and its metadata before."""
    files = shards(tmp_path / "in", source(tmp_path, questions=3000, name="long.json"), 2)
    read_before = bytes_read()
    merged(*files)
    size = sum(file.stat().st_size for file in files)

    assert bytes_read() - read_before < 2.2 * size

    read_before = bytes_read()
    merged(*files)  # the result exists: the shards are hashed, and of the result, metadata is read

    assert bytes_read() - read_before < 1.2 * size


def bytes_read() -> int:
    """Return how many bytes this process has read from files so far."""
    return int(Path("/proc/self/io").read_text(encoding="ascii").split()[1])


def test_a_shard_that_changes_while_it_is_merged_is_refused(
    tmp_path: Path, path: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = shards(tmp_path / "in", path, 2)
    proper = whole.write_all

    def disturbed(*arguments: Any, **named: Any) -> None:
        second.write_bytes(second.read_bytes() + b"\n")
        proper(*arguments, **named)

    monkeypatch.setattr(whole, "write_all", disturbed)

    assert f"{second} was changed" in refusal(first, second)
