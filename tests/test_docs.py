"""The README and the pages say of the command what it says itself, and show what it writes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from runs import ANALYSIS_FIELDS, FEATURE_FIELDS
from update_docs import BRIEF, BRIEF_FEATURE, command_line, tables, updated

from atp.cli.arguments import read
from atp.cli.usage import OPTIONS

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
DOCUMENTS = [
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*/*.md"))
    if path.name != "CHANGELOG.md"
]
EACH_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
OF_OTHERS = {  # of docker, make, pip, systemctl and kubectl
    *("--cap-drop", "--compare", "--current", "--entrypoint", "--env", "--env-file", "--fix"),
    *("--for", "--force", "--from", "--from-file", "--gpus", "--help", "--mount", "--namespace"),
    *("--network", "--no-cache", "--now", "--pull", "--read-only", "--rm", "--security-opt"),
    *("--only", "--plot", "--text"),  # of benchmarks/
    *("--timeout", "--tmpfs", "--upgrade", "--user", "--version"),
    *("--array", "--dependency", "--parsable"),  # of sbatch
    *("--gpus-per-node", "--generate", "--head", "--port", "--secret", "--shm-size"),
}


def test_the_page_of_the_command_line_has_the_help_texts() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == command_line(), "python tools/update_docs.py mends that"


def test_the_page_of_dictionaries_has_the_tables_of_the_installed_saelens() -> None:
    page = (ROOT / "docs" / "dictionaries.md").read_text(encoding="utf-8")
    assert page == updated(page, tables()), "python tools/update_docs.py mends that"


def test_the_readme_takes_five_minutes() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 180


@EACH_DOCUMENT
def test_every_option_exists(path: Path) -> None:
    text = re.sub(r"<!--|-->|\|[ -|]+\|", "", path.read_text(encoding="utf-8"))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", text))
    assert options <= {*OPTIONS, *OF_OTHERS}


@EACH_DOCUMENT
def test_every_command_is_one_that_atp_takes(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    for line in lines:
        command = re.split(r" #| &| 2?> | \| ", line.strip().removeprefix(".venv/bin/"))[0]
        words = shlex.split(command) if command.startswith("atp ") else []
        if words and "[" not in command:
            read([word for word in words[1:] if not word.startswith("--config=")], {})


@EACH_DOCUMENT
def test_every_link_to_a_file_leads_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r'\]\(([^)#:]+)(?:#[^)]*)?\)|<img src="([^"]+)"', text):
        target = path.parent / (link[0] or link[1])
        assert target.exists(), target


def test_the_excerpts_have_the_fields_of_an_analysis() -> None:
    results = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    excerpt = results.partition("<!-- excerpt -->\n```text\n")[2].partition("\n```")[0]
    analysis = json.loads(re.sub(r",\n    \.\.\. \d+ more", "", excerpt))
    assert list(analysis) == ANALYSIS_FIELDS
    for feature in analysis["top_features"]:
        own = ["effect"] * (feature["ranked_by"] == "effect")
        assert list(feature) == [*FEATURE_FIELDS, *own, "ranked_by"]

    readme = README.read_text(encoding="utf-8")
    brief = readme.partition("<!-- excerpt -->\n```text\n")[2].partition("\n```")[0]
    parsed = json.loads(
        re.sub(r",\s*\.\.\. \d+ more|, \.\.\.", lambda m: "," if m[0] == ", ..." else "", brief)
    )
    assert {name: parsed[name] for name in BRIEF} == {name: analysis[name] for name in BRIEF}
    listed = [
        {name: feature[name] for name in BRIEF_FEATURE if name in feature}
        for feature in analysis["top_features"]
    ]
    assert parsed["top_features"] == listed


def test_the_demos_sae_is_small_and_states_its_quality() -> None:
    folder = ROOT / "examples" / "smollm2"
    assert sum(path.stat().st_size for path in (folder / "sae").iterdir()) <= 10_000_000
    training = json.loads((folder / "sae" / "training.json").read_text())
    stated = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{training['held_out']['variance_explained']:.3f}" in stated
    assert f"{training['training_vectors']:,}" in stated
    assert f"{training['held_out']['features_that_fire']:,}" in stated
