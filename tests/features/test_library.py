"""`select_features` gives a notebook what the command writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from made_up_scores import made, source
from pyarrow import parquet
from runs import read

from atp import select_features
from atp.api.selection import Options
from atp.cli.main import main
from atp.config.option import options_of
from atp.config.selection import SelectionSettings
from atp.errors import ExitCode, InputError, SettingsError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A result."""
    return made(tmp_path / "in", source(tmp_path), activations=True)


def test_the_library_gives_what_the_command_writes(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = ["--min-log-ratio=-9", "--fdr=1", "--resamples=200", "--seed=5", "--top-features=4"]
    assert main(["features", str(file), *options, f"--out={tmp_path / 'out'}"]) == ExitCode.OK
    _, table, features = map(Path, capfd.readouterr().out.splitlines())

    found = select_features(
        str(file), min_log_ratio=-9, fdr=1, resamples=200, seed=5, top_features=4
    )

    pd.testing.assert_frame_equal(
        found.table, parquet.read_table(table).to_pandas(), check_dtype=False
    )
    (told,) = read(features)["saes"]
    assert found.selected == {"sae-a": told["selected"]}
    assert found.saes[0].selection.negative == told["negative"]
    chosen = found.table[found.table["selected"] & (found.table["group"] == "all")]
    assert sorted(chosen["feature"].astype(str)) == sorted(told["selected"])


def test_none_leaves_a_threshold_out(file: Path) -> None:
    found = select_features(file, min_log_ratio=None, min_score=-9, resamples=100)

    assert len(found.selected["sae-a"]) == found.table["feature"].nunique()


def test_a_ratio_is_asked_for_only_where_it_is_given_or_can_be_had(tmp_path: Path) -> None:
    file = made(tmp_path / "in", source(tmp_path))

    assert select_features(file, resamples=100).without_ratio == ["sae-a"]
    with pytest.raises(InputError, match="no pair carries prompt_activations"):
        select_features(file, min_log_ratio=0.5)


def test_what_is_wrong_is_told_as_by_the_command(tmp_path: Path, file: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        select_features(tmp_path / "none.json")
    with pytest.raises(SettingsError, match=r"no option min_scores. Near: min_score"):
        select_features(file, min_scores=1)
    with pytest.raises(SettingsError, match="fdr must be a number above 0"):
        select_features(file, fdr=2)
    with pytest.raises(SettingsError, match="no option joint_effect"):
        select_features(file, joint_effect=True)
    with pytest.raises(SettingsError, match="no results are named"):
        select_features()


def test_editors_know_every_option_but_those_that_run_the_model_or_write_files() -> None:
    of_the_command = {"joint_effect", "export"}
    assert {*Options.__annotations__} == set(options_of(SelectionSettings)) - of_the_command


def test_it_imports_no_torch(file: Path) -> None:
    code = f"""
import sys
from atp import select_features
select_features({str(file)!r}, min_log_ratio=None, resamples=100)
print(*sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"torch", "transformers", "transformer_lens", "sae_lens", "huggingface_hub"}
