"""Write docs/cli.md, and the parts of README.md that show output of the demo.

    python tools/update_docs.py [RESULT]

Each part of README.md is between a <!-- name --> line and a <!-- /name --> line. RESULT is the
result file of `make demo`; without it, only docs/cli.md is written.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

from atp.cli.commands import COMMANDS
from atp.cli.usage import OVERVIEW, help_text

ROOT = Path(__file__).parent.parent
FEATURES_SHOWN = 2
COLUMNS = "92"  # of the terminal that README.md shows


def command_line() -> str:
    """Return docs/cli.md: what `atp --help` and `atp COMMAND --help` print."""
    texts = {"atp": OVERVIEW} | {f"atp {name}": help_text(name) for name in COMMANDS}
    parts = [f"## {title}\n\n```text\n{text}```\n" for title, text in texts.items()]
    return "\n".join(["# The command line\n", *parts])


def excerpt(result: Path) -> str:
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
    text = json.dumps(analysis, indent=2, ensure_ascii=False)
    text = text.replace("\n  ]\n}", f",\n    ... {left} more\n  ]\n}}")
    return f"```text\n{text}\n```"


def summary(result: Path) -> str:
    """Return the last lines that the run of a result shows on a terminal."""
    shown = subprocess.run(
        [sys.executable, "-m", "atp", "run", f"--config={result}", "--log-format=console"],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": COLUMNS},
    ).stderr
    return f"```text\n{shown.strip().replace('python -m atp', 'atp')}\n```"


def updated(readme: str, generated: dict[str, str]) -> str:
    """Return the README with its generated parts replaced."""
    for name, text in generated.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if readme.count(start) != 1 or readme.count(end) != 1:
            sys.exit(f"The document needs one part named {name}.")
        before, _, rest = readme.partition(start)
        readme = f"{before}{start}{text}\n{end}{rest.partition(end)[2]}"
    return readme


if __name__ == "__main__":
    (ROOT / "docs" / "cli.md").write_text(command_line(), encoding="utf-8")
    for argument in sys.argv[1:]:
        result, path = Path(argument), ROOT / "README.md"
        generated = {"excerpt": excerpt(result), "summary": summary(result)}
        path.write_text(updated(path.read_text(encoding="utf-8"), generated), encoding="utf-8")
