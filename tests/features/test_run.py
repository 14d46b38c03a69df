"""From a real run of a tiny model to the features: two SAEs of one pass, by file and by folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from made_up_scores import expected, occurring, scored
from runs import read

from atp.cli.main import main
from atp.errors import ExitCode


def test_the_features_of_a_run_are_the_means_of_its_scores(
    tmp_path: Path,
    input_file: Path,
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    capfd: pytest.CaptureFixture[str],
) -> None:
    saes = [sae_folder("topk"), sae_folder("jumprelu", layer=2)]
    options = [f"--model={model_folder('llama')}", *(f"--sae={sae}" for sae in saes)]
    results = tmp_path / "results"
    assert main(["run", str(input_file), *options, f"--out={results}"]) == ExitCode.OK
    files = [Path(line) for line in capfd.readouterr().out.splitlines()]

    arguments = ["--min-log-ratio=none", "--resamples=200", f"--out={tmp_path / 'out'}"]
    assert main(["features", str(results), *arguments]) == ExitCode.OK
    by_folder = [Path(line) for line in capfd.readouterr().out.splitlines()]
    assert main(["features", *map(str, files), *arguments]) == ExitCode.OK
    by_file = [Path(line) for line in capfd.readouterr().out.splitlines()]

    assert by_folder[1].read_bytes() == by_file[1].read_bytes()
    content = read(by_folder[2])
    assert len(content["saes"]) == 2
    table = pd.read_parquet(by_folder[1])
    for sae, file in zip(content["saes"], files, strict=True):
        assert sae["sae"] == read(file)["metadata"]["atp"]["sae"]
        rows = scored([file])
        assert sae["pairs"] == len(rows) > 10
        assert {int(each["id"]) for each in sae["features"]} == occurring(rows)
        for each in sae["features"]:
            wanted = expected(rows, int(each["id"]), 1e-6)
            assert each["mean_score"] == pytest.approx(wanted["mean_score"], rel=1e-9, abs=1e-15)
            assert each["frequency"] == pytest.approx(wanted["frequency"])
        means = [each["mean_score"] for each in sae["features"] if each["selected"]]
        assert means == sorted(means, reverse=True)
        assert min(means) > 0
        of_sae = table[(table["sae_sha256"] == sae["sae"]["sha256"])]
        assert set(of_sae["group"]) == {"all", "template_type", "dataset"}
        assert set(of_sae["value"].dropna()) == {
            *("I really like", "I really dislike", "I wrote"),
            "tiny",
        }
