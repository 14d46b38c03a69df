"""A run on a Ray cluster has the bytes of a run in one process; without Ray, one line says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
import tiny
import torch
from kept_vectors import batches, numbers
from oracle import Oracle
from ray_runs import by_worker
from runs import analyses, read, without_times, write
from structlog.testing import capture_logs
from ways import WAYS

from atp.cli.main import main
from atp.config.run import RunSettings
from atp.errors import ExitCode
from atp.run.engine.cluster import Places, place

SCORE_BOUND = 1e-5  # as in test_oracle.py


@pytest.fixture
def options(model_folder: Callable[[str], Path], sae_folder: Callable[..., Path]) -> list[str]:
    """Options of a run on the tiny GPT-2 with SAEs on two layers."""
    return [
        f"--model={model_folder('gpt2')}",
        f"--sae={sae_folder('standard')}",
        f"--sae={sae_folder('topk', layer=2)}",
        "--device=cpu",
        "--batch-tokens=400",
        "--out=out",
    ]


@pytest.fixture
def of_workers(tmp_path: Path, options: list[str], ray_address: str) -> Callable[..., Path]:
    """Return a function that compares a run on two workers with one in this process.

    Its result for the first SAE is returned; all bytes are the same, those of the kept vectors too.
    """

    def get(*more: str) -> Path:
        path = write(tmp_path / "many.json", tiny.questions(20))
        arguments = ["run", str(path), *options, *more, "--save-vectors=float32"]
        one = forked.run(arguments, tmp_path / "one")
        with forked.started(
            [*arguments, f"--address={ray_address}", "--workers=2"], tmp_path / "two"
        ) as child:
            two = child.ended(within=300)
        assert two is not None
        assert one.code == two.code == ExitCode.OK, two.err[-3000:]
        assert len(one.out.split()) == len(two.out.split()) == 2
        for result, other in zip(one.out.split(), two.out.split(), strict=True):
            expected = without_times(tmp_path / "one" / result)
            assert without_times(tmp_path / "two" / other) == expected
        of_one, of_two = (batches(tmp_path / folder / "out") for folder in ("one", "two"))
        assert list(numbers(of_two)) == list(numbers(of_one))
        assert by_worker(two).total() == 60
        return tmp_path / "two" / two.out.split()[0]

    return get


@pytest.mark.slow
def test_workers_give_the_oracles_scores_and_the_bytes_of_one_process(
    of_workers: Callable[..., Path], model_folder: Callable[[str], Path]
) -> None:
    found = list(analyses(read(of_workers("--exact=all", f"--top-k={tiny.D_SAE}"))))
    oracle = Oracle(str(model_folder("gpt2")), tiny.make_sae("standard"), tiny.HOOK_LAYER)
    for triple, analysis in zip(tiny.triples(), found, strict=False):
        answer = oracle(*triple)
        assert answer is not None
        listed = {int(each["id"]): each["score"] for each in analysis["top_features"]}
        scores = torch.tensor([listed[feature] for feature in range(tiny.D_SAE)])
        assert (scores - answer.scores).abs().max() <= SCORE_BOUND * answer.scores.abs().max()


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("mean", marks=pytest.mark.slow),
        pytest.param("ig from base", marks=pytest.mark.full),
    ],
)
def test_so_they_do_by_other_ways_to_score(of_workers: Callable[..., Path], way: str) -> None:
    of_workers(*WAYS[way])


REFUSED = {
    "--address=ray://head:10001": "atp has to run on a machine of the cluster",
    "--address=head": "Write HOST:PORT",
    "--address=127.0.0.1:port": "Write HOST:PORT",
    "--device=cuda:1": "each worker gets a GPU of its own",
    "--device-map=auto": "Use --gpus-per-worker=N",
    "--device=cpu --gpus-per-worker=2": "exclude each other",
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_ray_cannot_do_is_refused_in_one_line(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str], option: str
) -> None:
    path = write(tmp_path / "few.json", tiny.questions(1))
    given = [each for each in options if not each.startswith(("--device", "--out"))]
    words = [*given, f"--out={tmp_path}", "--engine=ray", *option.split()]
    code = main(["run", str(path), *words])
    assert code == ExitCode.USAGE
    assert REFUSED[option] in capfd.readouterr().err


GPUS = {"CPU": 8, "GPU": 3}


@pytest.mark.parametrize(
    ("nodes", "settings", "expected"),
    [
        ([GPUS], {}, Places(3, "cuda", 1, 1)),
        ([GPUS] * 3, {"gpus_per_worker": 2}, Places(3, "cuda", 1, 2)),
        ([GPUS, {"CPU": 4}], {"workers": 2}, Places(2, "cuda", 1, 1)),
        ([{"CPU": 4}], {}, Places(1, "cpu", 4, 0)),
        ([{"CPU": 8}], {"workers": 3}, Places(3, "cpu", 2, 0, sharing=3)),
        ([{"CPU": 4}, {"CPU": 4}, {"CPU": 2}], {"workers": 3}, Places(3, "cpu", 2, 0, 2)),
        ([{"CPU": 2}], {"workers": 3}, Places(3, "cpu", 1, 0, sharing=2)),
        ([{"CPU": 4, "GPU": 1}] * 8, {"gpus_per_worker": 2}, Places(1, "cuda", 1, 2)),
        ([GPUS, {"CPU": 0, "GPU": 8}], {}, Places(3, "cuda", 1, 1)),  # each needs a core, too
    ],
)
def test_no_worker_is_spread_over_nodes(
    nodes: list[dict[str, float]], settings: dict[str, int], expected: Places
) -> None:
    with capture_logs() as waiting:
        assert place(nodes, RunSettings(address="auto", **settings), None) == expected
    kind, each = ("GPU", expected.gpus) if expected.gpus else ("CPU", expected.cpus)
    places = sum(node.get(kind, 0) // each for node in nodes if node["CPU"])
    assert [line["places"] for line in waiting] == [places] * (places < expected.workers)


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere.invalid:6379"])
def test_a_cluster_that_does_not_answer_is_told_at_once(
    tmp_path: Path, options: list[str], capfd: pytest.CaptureFixture[str], address: str
) -> None:
    path = write(tmp_path / "few.json", tiny.questions(1))
    words = [*options[:4], f"--out={tmp_path}", f"--address={address}"]
    assert main(["run", str(path), *words]) == ExitCode.UNAVAILABLE
    last = capfd.readouterr().err.splitlines()[-1]
    assert f"the cluster at {address} cannot be used" in last


def test_without_ray_one_line_names_the_extra(
    tmp_path: Path,
    options: list[str],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python does for a package that is missing
    path = write(tmp_path / "few.json", tiny.questions(1))
    assert main(["run", str(path), *options[:4], f"--out={tmp_path}", "--workers=2"]) == 3
    last = capfd.readouterr().err.splitlines()[-1]
    assert "atp-sycophancy[ray]" in last


@pytest.mark.slow
def test_a_run_in_one_process_does_not_import_ray(tmp_path: Path, options: list[str]) -> None:
    path = write(tmp_path / "few.json", tiny.questions(1))
    program = "import sys; from atp.cli.main import main; code = main(sys.argv[1:]); "
    program += "sys.exit(code or sum(name.partition('.')[0] == 'ray' for name in sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", program, "run", str(path), *options], cwd=tmp_path, check=False
    )
    assert ended.returncode == 0
