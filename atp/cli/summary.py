"""The last lines of a command on a terminal: what it found, where it is, what to type next."""

from __future__ import annotations

import math
import shlex
import shutil
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from atp.features.strongest import read_run
from atp.intervention.report import breaks_the_model, joint_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from atp.cli.arguments import Given
    from atp.features.strongest import RunScores, SaeScores

SHOWN = 3  # features of each sign, or SAEs
LABEL = 13  # columns
TABLE = "table"  # its lines have no label
UNWRAPPED = {TABLE, "results", "tables", "export", "features", "report", "merged", "next"}


def summary(given: Given, paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Yield the lines of the summary of a command that has written `paths`: label and text."""
    of_command = {
        "run": _run,
        "rescore": _run,
        "features": _features,
        "report": _page,
        "merge": _merge,
    }
    if given.command in of_command:
        rows = of_command[given.command](paths)
    elif given.command == "intervene":
        rows = _intervene(paths, given.words)
    elif given.command == "intervene --compare":
        rows = _report(paths)
    elif given.command == "check":
        rows = iter([("next", _typed("run", *(word for word in given.words if word != "--json")))])
    elif given.command == "fetch":
        rows = iter([("next", _typed("run", "INPUT", *given.words))])
    else:
        return
    width, _ = shutil.get_terminal_size()
    before = ""
    for label, text in rows:
        lines = [text] if label in UNWRAPPED else textwrap.wrap(text, max(width - LABEL, LABEL))
        for line in lines:
            yield "" if label == TABLE else f"{'' if label == before else label:<{LABEL}}", line
            before = label


def _run(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    run = read_run(paths[0])
    counts = run.saes[0].totals.counts
    yield "scored", f"{counts['scored']:,} of {run.header['pairs']:,} pairs{_reasons(run)}"
    if len(run.saes) == 1 and counts["scored"]:
        yield from _one_sae(run.saes[0])
    elif counts["scored"]:
        yield from _several_saes(run)
    results = [path for path in paths if path.suffix == ".json"]
    yield from (("results", str(path)) for path in results[:SHOWN])
    if len(results) > SHOWN:
        yield "results", f"... and {len(results) - SHOWN} more beside them"
    yield from (("report", str(path)) for path in paths if path not in results)
    if run.header["facts"]["settings"].get("shard") is not None:
        yield (
            "next",
            _typed("merge", str(paths[0].parent.parent), remark="once all shards are done"),
        )
    elif counts["scored"]:
        yield "next", _typed("features", str(paths[0].parent))
    else:
        yield "next", _typed("check", run.header["settings"]["input"])


def _reasons(run: RunScores) -> str:
    texts = [
        f"; {sum(reasons.values()):,} {'skipped' if kind == 'skipped' else 'with an error'} "
        f"({', '.join(reason for reason, _ in reasons.most_common(2))})"
        for kind, reasons in run.reasons.items()
        if reasons
    ]
    return "".join(texts)


def _one_sae(sae: SaeScores) -> Iterator[tuple[str, str]]:
    tables = sae.strongest(SHOWN)
    sure = shown = 0
    for label, table in tables.items():
        for row in table.itertuples():
            numbers = row.mean_best, row.mean_best_low, row.mean_best_high
            yield label, f"{row.feature:>7}  {_with_interval(sae.ranked_by, *numbers)}"
            shown += 1
            sure += row.mean_best_low > 0 or row.mean_best_high < 0
    yield "trust", f"{sure} of these {shown} intervals exclude 0; {_quality(sae)}"


def _with_interval(what: str, mean: float, low: float | None, high: float | None) -> str:
    if low is None or math.isnan(low):
        return f"mean {what} {mean:+.4f}, no interval: all pairs are of one question"
    return f"mean {what} {mean:+.4f}, 95 % {low:+.4f} to {high:+.4f}"


def _quality(sae: SaeScores) -> str:
    numbers = sae.totals.as_json()
    parts = []
    if "variance_explained" in numbers["means"]:
        explained = numbers["means"]["variance_explained"]
        parts.append(f"the SAE explains {explained:.1%} of the residual stream")
    if not numbers.get("path", {}).get("complete", True):
        gap = numbers["path"]["median_gap"]
        parts.append(
            f"the scores miss the change by {gap:.0%}: they are not complete, raise --ig-steps"
        )
    exact = numbers.get("exact")
    if exact is None or exact["pearson"] is None:
        parts.append("scores are linear estimates, which --exact=flagged checks where in doubt")
        return "; ".join(parts)
    parts.append(
        f"{exact['features']:,} effects measured, scores correlate with r = {exact['pearson']:.2f}"
    )
    error = exact["unchecked"]["error"]
    if error is not None:
        parts.append(f"95 % of the other scores are within {error:.2g} of their effects")
    return "; ".join(parts)


def _several_saes(run: RunScores) -> Iterator[tuple[str, str]]:
    for sae in run.saes[:SHOWN]:
        tables = sae.strongest(1)
        texts = [
            f"{label} {row.feature} ({row.mean_best:+.4f})"
            for label, table in tables.items()
            for row in table.itertuples()
        ]
        yield (
            "strongest",
            f"{sae.sae['hook_name']}, {sae.sae['d_sae']:,} features: {', '.join(texts)}",
        )
    if len(run.saes) > SHOWN:
        yield "strongest", f"... and {len(run.saes) - SHOWN} more SAEs"
    yield "trust", _quality(run.saes[0])


def _features(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    content = orjson.loads(paths[-1].read_bytes())
    for sae in content["saes"]:
        rows = {row["id"]: row for row in sae["features"]}
        taken = [
            f"{step['threshold']} took {step['took']:,}" for step in sae["steps"] if step["took"]
        ]
        count = f"{len(sae['selected'])} of {len(rows):,} features of {sae['sae']['spec']}"
        yield "selected", f"{count}{': ' if taken else ''}{', '.join(taken)}"
        for feature in sae["selected"][:SHOWN]:
            yield "strongest", _feature(rows[feature], sae["pairs"])
        if joint := sae.get("joint"):
            yield "together", joint_in_words(joint)
    for path in paths[:-1]:
        yield ("export" if path.name.startswith("atp_export_") else "tables"), str(path)
    yield "features", str(paths[-1])
    if any(sae["selected"] for sae in content["saes"]):
        yield "next", _typed("intervene", f"--features={paths[-1]}")


def _feature(row: dict[str, Any], pairs: int) -> str:
    numbers = row["mean_best"], row["mean_best_low"], row["mean_best_high"]
    ratio = row["log_ratio"]
    what = "score" if row["mean_best"] == row["mean_score"] else "score or effect"
    if row["effect_pairs"] == pairs:
        what = "effect"
    text = f"{row['id']:>7}  {_with_interval(what, *numbers)}"
    return text if ratio is None else f"{text}, log10 ratio {ratio:+.2f}"


def _intervene(paths: Sequence[Path], words: Sequence[str]) -> Iterator[tuple[str, str]]:
    yield from _report(paths)
    responses = [str(path) for path in paths if path.name.endswith(("_before.json", "_after.json"))]
    if responses:
        compared = ("--compare", *responses)
        yield "next", _typed("intervene", *compared, remark="once your judge has flagged both")
    elif breaks_the_model(orjson.loads(paths[-1].read_bytes())) and "--spare-first" not in words:
        remark = "leaves the first position as it is"
        yield "next", _typed("intervene", *words, "--spare-first", remark=remark)
    else:
        yield "next", _typed("intervene", *words, "--regenerate", remark="writes responses, too")
    yield "next", _typed("report", str(paths[-1].parent), remark="shows all of it as a page")


def _report(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    text = next(path for path in paths if path.suffix == ".txt")
    yield from ((TABLE, line) for line in text.read_text(encoding="utf-8").splitlines())
    yield TABLE, ""
    yield "report", str(paths[-1])


def _page(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    *figures, page = paths
    if figures:
        yield "figures", f"{len(figures)} files in {figures[0].parent}"
    yield "report", f"{page} ({page.stat().st_size / 1e6:.1f} MB); open it in a browser"


def _merge(paths: Sequence[Path]) -> Iterator[tuple[str, str]]:
    yield from (("merged", str(path)) for path in paths)
    yield "next", _typed("features", str(paths[0].parent))


def _typed(*words: str, remark: str = "") -> str:
    """Return a command as the user would type it, and a remark."""
    program = sys.argv[0]
    if Path(program).name == "__main__.py":
        program = "python -m atp"
    elif shutil.which("atp") == str(Path(program).absolute()):
        program = "atp"
    return f"{program} {shlex.join(words)}{remark and f'   ({remark})'}"
