"""README.md says of the command what it says itself, and shows what it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from runs import ANALYSIS_FIELDS, FEATURE_FIELDS
from update_docs import command_line

from atp.cli.usage import OPTIONS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_page_of_the_command_line_has_the_help_texts() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert page == command_line(), "python tools/update_docs.py mends that"


OF_DOCKER = {"--entrypoint", "--env", "--gpus", "--network", "--rm", "--user"}


def test_every_option_in_the_readme_exists() -> None:
    known = {*OPTIONS, "--help", "--compare", *OF_DOCKER}
    assert set(re.findall(r"--[a-z][a-z-]+", README.replace("<!--", ""))) <= known


def test_every_link_to_a_file_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link


def test_the_excerpt_has_the_fields_of_an_analysis() -> None:
    excerpt = README.partition("<!-- excerpt -->\n```text\n")[2].partition("\n```")[0]
    analysis = json.loads(re.sub(r",\n    \.\.\. \d+ more", "", excerpt))
    assert list(analysis) == ANALYSIS_FIELDS
    for feature in analysis["top_features"]:
        assert list(feature) == FEATURE_FIELDS


def test_the_demos_sae_is_small_and_states_its_quality() -> None:
    folder = ROOT / "examples" / "smollm2"
    assert sum(path.stat().st_size for path in (folder / "sae").iterdir()) <= 10_000_000
    training = json.loads((folder / "sae" / "training.json").read_text())
    stated = (folder / "README.md").read_text(encoding="utf-8")
    assert f"{training['held_out']['variance_explained']:.3f}" in stated
    assert f"{training['training_vectors']:,}" in stated
    assert f"{training['held_out']['features_that_fire']:,}" in stated
