"""The figures of an intervention, or of a comparison, as a table for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROW = "{:<30}{:>9}{:>10}  {:<21}{:>7}{:>11}{:>12}"


def as_text(report: Mapping[str, Any]) -> str:
    """Return the summary of an intervention."""
    found = report["summary"]
    told = report["metadata"]["atp"]
    settings = told["settings"]
    where = " but the first" if settings["spare_first"] else ""
    left = f"{found['skipped']} skipped, {found['errors']} with an error"
    what = f"{found['features']} features of {len(told['features']['saes'])} SAE(s)"
    lines = [
        f"{told['model']['name']}, {settings['strength']:g} x {what}, at all positions{where}",
        f"{found['pairs']} pairs of {found['questions']} questions; {left}",
        "",
        ROW.format("taken out", "metric", "change", "95 % interval", "flips", "KL", "perplexity"),
        ROW.format("nothing", _number(found["mean_before"], 3), *[""] * 4, _perplexity(found)),
    ]
    names = {"selected": "selected", "random": "random, as active", "negative": "most negative"}
    for name, label in names.items():
        row = found[name]
        if row is None:
            continue
        side = row["side_effects"] or {}
        lines.append(
            ROW.format(
                f"{label} ({row['sets']} sets)" if "sets" in row else label,
                _number(row["mean_after"], 3),
                _number(row["mean_change"], 3, sign=True),
                _interval(row["interval"]),
                f"{row['flips']:.0%}",
                _number(side.get("kl_per_token"), 4),
                _number(side.get("perplexity_after"), 3),
            ).rstrip()
        )
    lines += ["", found["verdict"]]
    if report.get("answers"):
        told_answers = report["answers"]
        lines.append(
            f"{told_answers['changed']} of {told_answers['answered']} regenerated answers changed."
        )
    return "\n".join(lines)


def comparison_as_text(report: Mapping[str, Any]) -> str:
    """Return the tables of a comparison."""
    form = "{:<24}{:>8}{:>8}{:>8}{:>8}{:>8}{:>9}  {:<19}{:>9}"
    heads = ("", "both", "before", "after", "neither", "rate", "change", "95 % interval", "p")
    lines = ["flagged in both, before only, after only, in neither; rate before", ""]
    lines.append(form.format(*heads))
    rows = {"all but base": report["overall"], **report["by_template_type"]}
    for name, row in rows.items():
        lines.append(
            form.format(
                name[:23],
                row["flagged_in_both"],
                row["flagged_before_only"],
                row["flagged_after_only"],
                row["flagged_in_neither"],
                f"{row['rate_before']:.1%}",
                f"{row['difference']:+.1%}",
                _interval(row["interval"]),
                f"{row['mcnemar_p']:.3g}",
            )
        )
    return "\n".join(lines)


def _perplexity(found: Mapping[str, Any]) -> str:
    side = found["selected"]["side_effects"] or {}
    return _number(side.get("perplexity_before"), 3)


def _number(value: float | None, digits: int, *, sign: bool = False) -> str:
    if value is None:
        return ""
    return f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "" if ends is None else f"{ends[0]:+.3f} to {ends[1]:+.3f}"
