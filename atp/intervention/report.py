"""The report of an intervention, or of a comparison: as a table for people, and its files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import orjson

from atp.dataset.atomic import write_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

INTERVENTION_ROW = "{:<18}{:>8}{:>9}  {:<17}{:>6}{:>8}{:>12}"
BROKEN, UNMATCHED = 3, 1.5  # of a perplexity and of activations: ratios that deserve a caution
TABLE_CELLS = ("in_both", "before_only", "after_only", "in_neither")
COMPARISON_ROW = "{:<24}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}  {:<19}{:>9}"


def write_report(folder: Path, name: str, report: Mapping[str, Any], table: str) -> list[Path]:
    """Write a table and a report; return their paths, the report's last."""
    json.dumps(report, allow_nan=False)  # orjson would silently write null
    as_json = orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"
    return write_files(folder, name, {"txt": table.encode() + b"\n", "json": as_json})


def as_text(report: Mapping[str, Any]) -> str:
    """Return the summary of an intervention."""
    summary, metadata = report["summary"], report["metadata"]["atp"]
    settings = metadata["settings"]
    positions = "all positions" + (" but the first" if settings["spare_first"] else "")
    features = f"{summary['features']} features of {len(metadata['features']['saes'])} SAE(s)"
    left_out = f"{summary['skipped']} skipped, {summary['errors']} with an error"
    before = summary["selected"]["side_effects"] or {}
    perplexity = _number(before.get("perplexity_before"), 3)
    lines = [
        f"{metadata['model']['name']}, {settings['strength']:g} x {features}, at {positions}",
        f"{summary['pairs']} pairs of {summary['questions']} questions; {left_out}",
        "",
        INTERVENTION_ROW.format(
            "taken out", "metric", "change", "95 % interval", "flips", "KL", "perplexity"
        ),
        INTERVENTION_ROW.format(
            "nothing", _number(summary["mean_before"], 3), *[""] * 4, perplexity
        ),
    ]
    labels = {"selected": "selected", "random": "random", "negative": "most negative"}
    lines += [_row(label, summary[name]) for name, label in labels.items() if summary[name]]
    lines += ["", summary["verdict"], *cautions(report)]
    lines += [
        f"At the scored positions alone, {joint_in_words(sae['joint'])}."
        for sae in metadata["features"]["saes"]
        if sae["joint"] is not None
    ]
    if responses := report.get("answers"):
        counts = f"{responses['changed']} of {responses['answered']}"
        lines.append(f"{counts} regenerated responses changed.")
    return "\n".join(lines)


def breaks_the_model(report: Mapping[str, Any]) -> bool:
    """Return whether the model hardly predicts its own base responses without the features."""
    effects = report["summary"]["selected"]["side_effects"]
    return bool(effects) and effects["perplexity_after"] > BROKEN * effects["perplexity_before"]


def joint_in_words(joint: Mapping[str, Any]) -> str:
    """Return what `atp features --joint-effect` measured of an SAE, in a line."""

    def with_interval(name: str) -> str:
        limits = joint[f"{name}_interval"]
        interval = "no interval" if limits is None else f"95 % {limits[0]:+.3f} to {limits[1]:+.3f}"
        return f"{joint[f'mean_{name}']:+.3f} ({interval})"

    return (
        f"removed at once, they take {with_interval('effect')} from the metric, "
        f"their single effects add up to {with_interval('sum_of_single')}"
    )


def cautions(report: Mapping[str, Any]) -> list[str]:
    """Return what a reader has to know before the numbers of an intervention."""
    lines = []
    if breaks_the_model(report):
        lines.append(
            f"The perplexity is more than {BROKEN} times as large without the selected features: "
            "the model is broken, and its metric says little."
        )
    random = report["summary"]["random"]
    if random and random["mean_activation"]:
        selected = random["mean_activation"]["selected"]
        most = max(random["mean_activation"]["random"])
        if selected > UNMATCHED * most:
            lines.append(
                f"The selected features are more active than any random set ({selected:.3g} and "
                f"{most:.3g} in sum): a larger change shows little."
            )
    return lines


def _row(label: str, changes: Mapping[str, Any]) -> str:
    side_effects = changes["side_effects"] or {}
    return INTERVENTION_ROW.format(
        f"{label} ({changes['sets']} sets)" if "sets" in changes else label,
        _number(changes["mean_after"], 3),
        _number(changes["mean_change"], 3, sign=True),
        _interval(changes["interval"]),
        f"{changes['flips']:.0%}",
        _number(side_effects.get("kl_per_token"), 4),
        _number(side_effects.get("perplexity_after"), 3),
    ).rstrip()


def comparison_as_text(report: Mapping[str, Any]) -> str:
    """Return the tables of a comparison."""
    heads = ("", "both", "before", "after", "neither", "rate", "change", "95 % interval", "p")
    lines = ["flagged in both, before only, after only, in neither; rate before", ""]
    lines.append(COMPARISON_ROW.format(*heads))
    rows = {"all but base": report["overall"], **report["by_template_type"]}
    for name, row in rows.items():
        lines.append(
            COMPARISON_ROW.format(
                name[:23],
                *(row[f"flagged_{cell}"] for cell in TABLE_CELLS),
                f"{row['rate_before']:.1%}",
                f"{row['difference']:+.1%}",
                _interval(row["interval"]),
                f"{row['mcnemar_p']:.3g}",
            )
        )
    return "\n".join(lines)


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _interval(limits: Sequence[float] | None) -> str:
    return "" if limits is None else f"{limits[0]:+.3f} to {limits[1]:+.3f}"
