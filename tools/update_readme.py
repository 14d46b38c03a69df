"""Write the generated parts of README.md: the usage text, and parts of the demo's result.

    python tools/update_readme.py [RESULT]

Each part is between a <!-- name --> line and a <!-- /name --> line. RESULT is the result file of
`make demo`; without it, only the usage text is written.
"""

import json
import subprocess
import sys
from pathlib import Path

from atp.cli.usage import USAGE

ROOT = Path(__file__).parent.parent
FEATURES_SHOWN = 2


def excerpts(result: Path) -> dict[str, str]:
    """Return the parts that show a result, by name."""
    content = json.loads(result.read_text(encoding="utf-8"))
    analysis = next(
        variation["atp_analysis"]
        for question in content["results"]
        for variation in question["variations"]
        if "top_features" in variation.get("atp_analysis", {})
    )
    left = len(analysis["top_features"]) - FEATURES_SHOWN
    del analysis["top_features"][FEATURES_SHOWN:]
    excerpt = json.dumps(analysis, indent=2, ensure_ascii=False)
    excerpt = excerpt.replace("\n  ]\n}", f",\n    ... {left} more\n  ]\n}}")
    table = subprocess.run(
        [sys.executable, ROOT / "examples" / "strongest_features.py", result],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return {
        "excerpt": f"```text\n{excerpt}\n```",
        "table": f"```text\n{table}```",
    }


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
    parts = {"usage": f"```text\n{USAGE}```"}
    for argument in sys.argv[1:]:
        parts |= excerpts(Path(argument))
    path = ROOT / "README.md"
    path.write_text(updated(path.read_text(encoding="utf-8"), parts))
