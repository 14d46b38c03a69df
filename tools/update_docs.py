"""Write docs/cli.md, the tables of docs/dictionaries.md, and what documents show of the demo.

    python tools/update_docs.py [RESULT]

A part of a document is between a <!-- name --> line and a <!-- /name --> line. RESULT is the result
file of `make demo`; without it, only docs/cli.md and docs/dictionaries.md are written. Chromium
draws the picture of the report.
"""

import io
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.text import Text

from atp.cli.commands import COMMANDS
from atp.cli.summary import LABEL
from atp.cli.usage import OVERVIEW, help_text
from atp.config.sae_choice import SITES
from atp.model.dictionaries.catalogue import counts_by_model, dictionaries_for
from atp.model.dictionaries.picking import choose
from atp.model.names import comparable
from atp.runtime.units import size

ROOT = Path(__file__).parent.parent
FEATURES_SHOWN = 2
BRIEF = ("target_token", "base_token", "logit_diff")  # of an analysis, in README.md
BRIEF_FEATURE = ("id", "score", "relative_size", "effect", "ranked_by")  # of a feature, there
COLUMNS = 92  # of the terminal that is shown
WINDOW = "920,900"  # of the browser that is shown
FAMILIES = {  # how the names of their releases begin; the first that fits counts
    "Gemma Scope 2": "gemma-scope-2-",
    "Gemma Scope": "gemma-scope-",
    "SAEBench": "sae_?bench_",
    "Matryoshka (chanind)": ".*-matryoshka-dc",
    "Llama Scope R1": "llama_scope_r1_distill",
    "Llama Scope": "llama_scope_",
    "Goodfire": "goodfire-",
    "andyrdt": ".*-andyrdt",
    "Qwen-Scope": "qwen-scope-",
    "Transcoders (mwhanna)": "mwhanna-",
    "CLT layers (mntss)": "mntss-",
    "Temporal SAEs": "temporal-",
    "GPT-2": "gpt2-",
    "Pythia": "pythia-",
    "Others": "",
}


def command_line() -> str:
    """Return docs/cli.md: what `atp --help` and `atp COMMAND --help` print."""
    texts = {"atp": OVERVIEW} | {f"atp {name}": help_text(name) for name in COMMANDS}
    parts = [f"## {title}\n\n```text\n{text}```\n" for title, text in texts.items()]
    return "\n".join(["# The command line\n", *parts])


def defaults() -> str:
    """Return the table of the dictionary that each model has by default."""
    lines = ["| model | by default | features | size |", "| --- | --- | ---: | ---: |"]
    for model in sorted(counts_by_model(), key=str.lower):
        (chosen,) = choose(model)
        features = "" if chosen.d_sae is None else f"{chosen.d_sae:,}"
        bytes_ = "" if chosen.bytes is None else size(chosen.bytes)
        lines.append(f"| {model} | `{chosen.spec}` | {features} | {bytes_} |")
    return "\n".join(lines)


def coverage() -> str:
    """Return the table of all dictionaries in SAELens' list, by family and architecture."""
    rows: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for model in counts_by_model():
        for each in dictionaries_for(frozenset({comparable(model)})):
            family = next(name for name, start in FAMILIES.items() if re.match(start, each.release))
            row = rows[family, each.architecture or "as its files say"]
            row["all"] += 1
            row["scored"] += each.refusal is None
            row[f"at {each.site}"] += 1
    lines = [
        "| family | architecture | sites | dictionaries | scored |",
        "| --- | --- | --- | ---: | ---: |",
    ]
    for family in FAMILIES:
        for (name, architecture), row in sorted(rows.items()):
            if name == family:
                sites = ", ".join(site for site in SITES if row[f"at {site}"])
                counts = f"{row['all']:,} | {row['scored']:,}"
                lines.append(f"| {family} | {architecture} | {sites} | {counts} |")
    total, scored = (sum(row[name] for row in rows.values()) for name in ("all", "scored"))
    lines.append(f"| all | | | {total:,} | {scored:,} |")
    share = f"{scored / total:.2%}"
    return f"Of SAELens {version('sae-lens')}, {share} are scored:\n\n" + "\n".join(lines)


def excerpt(result: Path, *, brief: bool = False) -> str:
    """Return the first analysis of a result, with the first features of its list."""
    content = json.loads(result.read_text(encoding="utf-8"))
    analysis = next(
        variation["atp_analysis"]
        for question in content["results"]
        for variation in question["variations"]
        if "top_features" in variation.get("atp_analysis", {})
    )
    left = len(analysis["top_features"]) - FEATURES_SHOWN
    del analysis["top_features"][FEATURES_SHOWN:]
    if brief:
        lines = [f'"{name}": {json.dumps(analysis[name])}' for name in BRIEF]
        listed = [
            {name: feature[name] for name in BRIEF_FEATURE if name in feature}
            for feature in analysis["top_features"]
        ]
        features = ",\n                  ".join(map(json.dumps, listed))
        text = f'{{{", ".join(lines)}, ...\n "top_features": [{features},\n'
        text += f"                  ... {left} more]}}"
    else:
        text = json.dumps(analysis, indent=2, ensure_ascii=False)
        text = text.replace("\n  ]\n}", f",\n    ... {left} more\n  ]\n}}")
    return f"```text\n{text}\n```"


def tables() -> dict[str, str]:
    """Return the generated parts of docs/dictionaries.md."""
    return {"defaults": defaults(), "coverage": coverage()}


def summary(result: Path) -> tuple[str, Path]:
    """Return the last lines that the run of a result shows on a terminal, and its report."""
    command = [sys.executable, "-m", "atp", "run", f"--config={result}", "--report"]
    done = subprocess.run(
        [*command, "--log-format=console"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": str(COLUMNS)},
    )
    page = Path(done.stdout.splitlines()[-1])
    return done.stderr.strip().replace("python -m atp", "atp"), page


def photograph(page: Path, image: Path) -> None:
    """Write what Chromium shows of a page, as PNG."""
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    view = [f"--window-size={WINDOW}", "--lang=en", "--virtual-time-budget=9000"]
    subprocess.run(
        [*browser, *view, f"--screenshot={image}", f"file://{page.resolve()}"],
        check=True,
        capture_output=True,
    )


def picture(text: str) -> str:
    """Return a terminal with a text, as SVG without outside resources."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text("$ make demo", style="bold"))
    for line in text.splitlines():
        label, rest = line[:LABEL], line[LABEL:]
        console.print(Text.assemble((label, "bold cyan"), rest), highlight=False)
    svg = console.export_svg(title="atp", unique_id="demo")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    return re.sub(r"[ \t]+$", "", svg, flags=re.MULTILINE)


def updated(readme: str, generated: dict[str, str]) -> str:
    """Return the README with its generated parts replaced."""
    for name, text in generated.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if readme.count(start) != 1 or readme.count(end) != 1:
            sys.exit(f"The document needs one part named {name}.")
        before, _, rest = readme.partition(start)
        readme = f"{before}{start}{text}\n{end}{rest.partition(end)[2]}"
    return readme


def main(results: list[str]) -> None:
    """Write the documents; with a result, those that show it, too."""
    (ROOT / "docs" / "cli.md").write_text(command_line(), encoding="utf-8")
    page = ROOT / "docs" / "dictionaries.md"
    page.write_text(updated(page.read_text(encoding="utf-8"), tables()), encoding="utf-8")
    for result in map(Path, results):
        text, report = summary(result)
        images = ROOT / "docs" / "images"
        (images / "demo.svg").write_text(picture(text), encoding="utf-8")
        photograph(report, images / "report.png")
        documents = {
            "README.md": {"excerpt": excerpt(result, brief=True)},
            "docs/results.md": {"excerpt": excerpt(result)},
        }
        for name, parts in documents.items():
            content = (ROOT / name).read_text(encoding="utf-8")
            (ROOT / name).write_text(updated(content, parts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
