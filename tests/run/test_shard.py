"""`atp run --shard` and `atp merge` on a tiny GPT-2: together they are a run without shards."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import forked
import pytest
import tiny
from made_up_results import without_places
from runs import analyses, events, of, read, without_times, write
from tiers import first_tier
from ways import WAYS

from atp.check import run_outline
from atp.cli.main import main
from atp.config.shard import MOST, Shard, parse
from atp.errors import ExitCode, SettingsError
from atp.model.dictionaries import placement
from atp.run import pipeline
from atp.scoring import base_prompts, scorer

pytestmark = pytest.mark.usefixtures("runs_share_models")

SMALL = 8
"""Pairs of a window in these tests: batches are numbered over several windows."""


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "WINDOW_PAIRS", SMALL)


@pytest.fixture
def options(model_folder: Callable[[str], Path], sae_folder: Callable[..., Path]) -> list[str]:
    """Options of a run on the tiny GPT-2."""
    return [
        f"--model={model_folder('gpt2')}",
        f"--sae={sae_folder('standard')}",
        "--device=cpu",
        "--batch-tokens=300",
    ]


@pytest.fixture
def results(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., list[Path]]:
    """Return a function that runs a command into a folder and gives the result files."""

    def run(*arguments: object, out: str, code: int = ExitCode.OK) -> list[Path]:
        assert main([*map(str, arguments), f"--out={tmp_path / out}"]) == code
        paths = [Path(line) for line in capfd.readouterr().out.splitlines()]
        return [path for path in paths if path.parent == tmp_path / out]

    return run


def mixed(count: int = 9) -> list[dict[str, Any]]:
    """Return questions whose pairs are scored, skipped, broken or too long."""
    found = tiny.questions(count)
    found[1]["variations"][1]["response"] = found[1]["variations"][0]["response"]
    found[2]["variations"][2]["response"] = ""
    found[3]["variations"][3]["response"] = None
    found[4]["variations"][1]["prompt"] *= 30
    del found[6]["variations"][0]
    return found


def both(
    path: Path, options: list[str], results: Callable[..., list[Path]], count: int, code: int
) -> tuple[list[Path], list[Path]]:
    """Return the results of a whole run, and of `count` shards put together."""
    whole = results("run", path, *options, out="whole", code=code)
    for index in range(count):
        arguments = ["run", str(path), *options, f"--shard={index}/{count}"]
        assert main([*arguments, *folder(path, f"parts/shard-{index}")]) in {ExitCode.OK, code}
    return whole, results("merge", path.parent / "parts", out="merged", code=code)


def folder(path: Path, out: str) -> list[str]:
    """Return the option that makes a folder beside the input the output folder."""
    return [f"--out={path.parent / out}"]


@pytest.mark.parametrize("count", first_tier([3], [1, 2, 3, 20]))
def test_merged_shards_are_the_bytes_of_a_run_without_shards(
    tmp_path: Path, options: list[str], results: Callable[..., list[Path]], count: int
) -> None:
    path = write(tmp_path / "mixed.json", mixed())

    (whole,), (merged,) = both(path, options, results, count, ExitCode.PAIRS_FAILED)

    assert without_places(merged) == without_places(whole)
    kinds = read(merged)["metadata"]["atp"]["counts"]
    assert min(kinds["scored"], kinds["skipped"], kinds["error"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_so_are_those_of_every_way_to_score(
    tmp_path: Path,
    options: list[str],
    results: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    """Every shard reads the base prompts that its pairs need, and all of them for their mean."""
    monkeypatch.setattr(base_prompts, "WINDOW_PAIRS", SMALL)
    path = write(tmp_path / "mixed.json", mixed())

    (whole,), (merged,) = both(path, [*options, *WAYS[way]], results, 2, ExitCode.PAIRS_FAILED)

    assert without_places(merged) == without_places(whole)


def test_so_are_those_of_several_saes_of_lines_and_of_a_limit(
    tmp_path: Path,
    options: list[str],
    results: Callable[..., list[Path]],
    sae_folder: Callable[..., Path],
) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join(map(json.dumps, mixed())), encoding="utf-8")
    options += [f"--sae={sae_folder('topk', layer=0)}", "--limit=19"]

    whole, merged = both(path, options, results, 3, ExitCode.PAIRS_FAILED)

    assert len(whole) == len(merged) == 2
    assert {path.name[:-21] for path in whole} == {path.name[:-21] for path in merged}
    for file in whole:
        (other,) = (each for each in merged if each.name[:-21] == file.name[:-21])
        assert without_places(other) == without_places(file)
        assert len(list(analyses(read(other)))) == 19


@pytest.mark.slow
def test_so_are_those_of_saes_that_are_lent_to_the_device(
    tmp_path: Path,
    options: list[str],
    results: Callable[..., list[Path]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "Dictionaries", partial(placement.Dictionaries, offload=True))
    path = write(tmp_path / "many.json", tiny.questions(9))

    (whole,), (merged,) = both(path, options, results, 2, ExitCode.OK)

    assert without_places(merged) == without_places(whole)


def test_a_shard_computes_its_own_batches_alone_and_says_where_the_others_are(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(9))
    owners: list[list[str]] = []
    batches: list[int] = []
    for index in range(2):
        shard = f"{index}/2"
        assert main(["run", str(path), *options, f"--shard={shard}", *folder(path, "out")]) == 0
        out, err = capfd.readouterr()
        result, log = read(out.strip()), events(err)
        run = result["metadata"]["atp"]
        found = list(analyses(result))
        own = [each for each in found if "elsewhere" not in each]
        assert run["complete"] is True
        assert run["settings"]["shard"] == shard
        assert (
            run["counts"]["scored"]
            == len(own)
            == sum(line["pairs"] for line in of("batch.done", log))
        )
        assert run["counts"]["elsewhere"] == len(found) - len(own)
        assert run["counts"]["pairs"] == len(found) == 27
        assert of("run.start", log)[0]["shard"] == shard
        assert f"_shard{index}of2_" in out
        batches.append(len(of("batch.done", log)))
        owners.append([each.get("elsewhere", shard) for each in found])
        done = [line["done"] for line in of("batch.done", log)]
        assert done == sorted(set(done))
    assert owners[0] == owners[1]  # both say the same of who has which pair
    assert len(set(owners[0])) == 2
    assert abs(batches[0] - batches[1]) <= 1 < sum(batches)  # numbered on, over all windows


@pytest.mark.slow
def test_a_check_counts_what_the_shard_then_finds(
    tmp_path: Path,
    options: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(run_outline, "WINDOW_PAIRS", SMALL)
    path = write(tmp_path / "mixed.json", mixed())
    kinds = ("scored", "skipped", "error", "elsewhere")
    for index in range(3):
        arguments = [str(path), *options, f"--shard={index}/3", *folder(path, "out")]
        main(["check", *arguments, "--json"])
        report = json.loads(capfd.readouterr().out)
        assert report["tokens"]["batches"] > 0
        main(["run", *arguments])
        out, err = capfd.readouterr()

        counts = read(out.strip())["metadata"]["atp"]["counts"]
        assert [report["pairs"][kind] for kind in kinds] == [counts[kind] for kind in kinds]
        assert report["tokens"]["batches"] == len(of("batch.done", events(err)))


def test_a_shard_with_nothing_to_do_is_complete(
    tmp_path: Path, options: list[str], results: Callable[..., list[Path]]
) -> None:
    path = write(tmp_path / "few.json", tiny.questions(1))

    (file,) = results("run", path, *options, "--shard=400/500", out="out")

    run = read(file)["metadata"]["atp"]
    assert run["complete"] is True
    assert run["counts"]["elsewhere"] == 3
    assert run["means"] == {}
    before = file.read_bytes()
    assert results("run", path, *options, "--shard=400/500", out="out") == [file]
    assert file.read_bytes() == before


def test_a_killed_shard_goes_on_to_the_same_bytes(
    tmp_path: Path, options: list[str], results: Callable[..., list[Path]]
) -> None:
    path = write(tmp_path / "mixed.json", mixed(20))
    arguments = ["run", str(path), *options, "--shard=1/2", "--save-interval=1", "--out=out"]
    proper = scorer.capture
    passes: list[int] = []

    def dies_at_the_fourth(*given: Any, **how: Any) -> Any:
        passes.append(1)
        if len(passes) == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return proper(*given, **how)

    def prepare() -> None:
        scorer.capture = dies_at_the_fourth

    assert forked.run(arguments, tmp_path / "killed", prepare).code == -signal.SIGKILL
    again = forked.run(arguments, tmp_path / "killed")
    whole = forked.run(arguments, tmp_path / "whole")

    assert again.code == whole.code
    (resumed,) = of("run.resume", events(again.err))
    assert 0 < resumed["done"] < 60
    bytes_of = [
        without_times(tmp_path / name / ended.out.strip())
        for name, ended in (("killed", again), ("whole", whole))
    ]
    assert bytes_of[0] == bytes_of[1]


def test_an_unfinished_shard_is_told_from_a_finished_one(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "many.json", tiny.questions(20))
    proper = scorer.capture
    passes: list[int] = []

    def stops_at_the_third(*given: Any, **how: Any) -> Any:
        passes.append(1)
        if len(passes) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return proper(*given, **how)

    arguments = ["run", str(path), *options, "--shard=0/2", "--out=out"]

    def prepare() -> None:
        scorer.capture = stops_at_the_third

    ended = forked.run(arguments, tmp_path / "here", prepare)
    assert ended.code == ExitCode.TERMINATED
    (file,) = (tmp_path / "here" / "out").glob("*.json")
    assert read(file)["metadata"]["atp"]["complete"] is False

    assert main(["merge", str(file), f"--out={tmp_path / 'merged'}"]) == ExitCode.USAGE
    message = events(capfd.readouterr().err)[-1]["message"]
    assert "shard 0/2 is not complete" in message


def test_two_shards_in_one_folder_are_two_runs(
    tmp_path: Path, options: list[str], results: Callable[..., list[Path]]
) -> None:
    path = write(tmp_path / "few.json", tiny.questions(2))

    first = results("run", path, *options, "--shard=0/2", out="out")
    second = results("run", path, *options, "--shard=1/2", out="out")

    assert first != second
    assert results("run", path, *options, "--shard=0/2", out="out") == first
    assert len(results("merge", *first, *second, out="merged")) == 1


# --- the option


@pytest.mark.parametrize(
    ("text", "shard"), [("0/1", (0, 1)), (" 3/4\n", (3, 4)), (f"0/{MOST}", (0, MOST))]
)
def test_a_shard_is_counted_from_0(text: str, shard: tuple[int, int]) -> None:
    assert parse("--shard", text) == Shard(*shard)
    assert str(Shard(*shard)) == text.strip()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("4/4", "counts from 0: the last of 4 shards is 3/4. Write 0/4 to 3/4, not 4/4."),
        ("1/0", "must be of 1 to 512 shards, not of 0"),
        ("0/513", "not of 513"),
        *((text, "must be I/N") for text in ("", "1", "1/", "/4", "-1/4", "1/4/2", "a/b", "1.0/4")),
        ("٣/٤", "must be I/N"),
    ],
)
def test_what_is_no_shard_is_told(text: str, told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse("--shard", text)

    assert told in str(caught.value)
    assert str(caught.value).startswith("--shard ")


def test_every_number_has_one_owner() -> None:
    shards = [Shard(index, 3) for index in range(3)]
    for number in range(10):
        (owner,) = (shard for shard in shards if shard.does(number))
        assert owner == shards[0].owner(number)
