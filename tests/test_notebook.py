"""The example's notebook runs, gives what its text says, and is kept without what running it adds.

The test that runs it needs the real model (`make test-demo` obtains it) and has the marker `demo`.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from clean_notebook import PATH, cleaned

import atp

ROOT = Path(__file__).parent.parent
TEXT = PATH.read_text(encoding="utf-8")
CELLS = json.loads(TEXT)["cells"]
CODE, PROSE = (
    {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == kind}
    for kind in ("code", "markdown")
)

RUN = """
import json, sys
names = {}
for name, source in json.load(sys.stdin).items():
    exec(compile(source, "cell " + name, "exec"), names)
tables = {name: names[name].reset_index().to_json() for name in ("agreement", "effects", "metrics")}
tables["over_all"] = names["over_all"].to_json()
told = {name: names[name] for name in ("promoting", "feature")}
told["analyses"], told["counts"] = names["result"].analyses, names["over_file"].counts
first = names["result"].pairs[0]
told["responses"] = [first.target_response, first.base_response]
told |= {name: names[name].text for name in ("with_feature", "without_feature")}
print(json.dumps({"tables": tables, "selected": names["found"].selected} | told))
"""


@pytest.mark.demo
def test_the_notebook_gives_what_its_text_says(tmp_path: Path) -> None:
    for name in ("examples", ".cache"):
        (tmp_path / name).symlink_to(ROOT / name)  # so that its results are not the user's

    names = run(tmp_path)

    analyses, tables = names["analyses"], names["tables"]
    first, ids = analyses[0], names["promoting"]
    scored = [i for i, analysis in enumerate(analyses) if "skipped" not in analysis]
    assert 0 < len(scored) < len(analyses)

    agreement = tables["agreement"]
    assert (agreement[["pearson", "spearman", "sign_agreement"]] > 0.8).all(axis=None)
    same_sign = (agreement["joint_effect"] * agreement["joint_score"] > 0).mean()
    assert 0 < same_sign < 0.7

    effects = tables["effects"]
    assert list(effects["index"]) == scored
    for i, row in zip(scored, effects.to_dict("records"), strict=True):
        listed = {feature["id"]: feature for feature in analyses[i]["top_features"]}
        assert [row[each] for each in ids] == pytest.approx(
            [listed[each]["effect"] for each in ids], abs=1e-4
        )
    assert (effects[ids].min() < 0).all()
    assert (effects[ids].max() > 0).all()
    assert (effects["noise_floor"] < 1e-4).all()

    over_all = tables["over_all"]
    (selected,) = names["selected"].values()
    chosen = over_all[over_all["feature"].astype(str).isin(selected)]
    assert len(chosen) == len(selected) > 0
    assert (chosen["mean_best"] > 0).all()
    assert (chosen["log_ratio"] > 0.5).all()
    assert str(over_all["feature"].iloc[0]) not in selected
    assert abs(over_all["log_ratio"].iloc[0]) < 0.1
    assert names["counts"] == {"scored": 63, "skipped": 9, "error": 0}
    assert not (tmp_path / "results").exists()

    metrics = tables["metrics"]
    assert list(metrics["before"]) == [analyses[i]["logit_diff"] for i in scored]
    assert metrics["before"].iloc[0] > 0 > metrics["after"].iloc[0]
    assert (metrics["change"] * metrics["effect"] > 1e-3).any()

    flagged_answer, base_answer = names["responses"]
    shared, token, _ = names["with_feature"].partition(first["target_token"])
    assert token
    assert flagged_answer.startswith(shared + token)
    assert base_answer.startswith(shared + first["base_token"])
    assert names["without_feature"].startswith(shared + first["base_token"])


def run(folder: Path) -> dict[str, Any]:
    """Run all cells in a process of their own, and return what their names stand for."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        input=json.dumps(CODE),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    names: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    names["tables"] = {
        name: pd.DataFrame(json.loads(table)) for name, table in names["tables"].items()
    }
    return names


def test_the_notebook_is_kept_without_what_running_it_adds() -> None:
    assert cleaned(TEXT) == TEXT, "python tools/clean_notebook.py mends that"


def test_every_cell_has_an_id_of_its_own() -> None:
    ids = [cell["id"] for cell in CELLS]
    assert len(set(ids)) == len(ids)
    for each in ids:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each)


def test_running_the_notebook_leaves_no_trace_once_it_is_cleaned() -> None:
    content = json.loads(TEXT)
    for count, cell in enumerate(content["cells"]):
        cell["metadata"] = {"collapsed": True, "execution": {"iopub.execute_input": "2026"}}
        cell["source"] = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cell["execution_count"] = count
            cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": ["11 pairs\n"]}]
    content["metadata"] = {"kernelspec": {"name": "python3"}, "language_info": {"version": "3.11"}}

    assert cleaned(json.dumps(content)) == TEXT


def test_the_notebook_uses_only_what_atp_makes_public() -> None:
    tree = ast.parse("\n".join(CODE.values()))
    plain = [node for node in ast.walk(tree) if isinstance(node, ast.Import)]
    modules = {alias.name for node in plain for alias in node.names}
    others = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {alias.name for node in others if node.module == "atp" for alias in node.names}

    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    assert names
    assert names <= set(atp.__all__)
    assert modules | {node.module for node in others} - {"atp"} == {"json", "pathlib", "pandas"}
    assert not any(name.startswith("_") for name in attributes)
    assert "bridge" not in attributes


def test_every_link_in_the_notebook_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", "\n".join(PROSE.values()))
    assert links
    for link in links:
        assert (PATH.parent / link).is_file(), link
