"""Pictures in a notebook: the strongest features as SVG, and the whole report in a frame."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from atp.features.table import ALL
from atp.report.answer import strongest
from atp.report.collected import METRICS
from atp.report.command import page_of, read_all, write
from atp.report.figures import as_svg

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.api.result import Result
    from atp.config.selection import SelectionSettings
    from atp.dataset.journal import Analysis
    from atp.dataset.result_files import ResultFile
    from atp.features.aggregation import Aggregated, SaeFeatures

STYLE = {  # readable on a light and on a dark notebook
    "var(--ink)": "currentColor",
    "var(--soft)": "#888888",
    "var(--line)": "#88888855",
    "var(--ground)": "transparent",
    "var(--promotes)": "#2a8fd0",
    "var(--suppresses)": "#e0701a",
}
WIDTH = 520  # pixels
HEIGHT = 720  # of the frame
SHOWN = 10
COLUMNS = ["feature", "mean_best", "mean_best_low", "mean_best_high", "log_ratio", "q_value"]
# In a frame of its own content, a link to "#/..." would else lead to the notebook.
OWN_LINKS = '<head><base href="about:srcdoc">'


@dataclass(frozen=True)
class Report:
    """A page of results, as `atp report` writes it. A notebook shows it where a cell ends with it.

    The frame has no network, and its scripts cannot reach the notebook.
    """

    html: str

    def save(self, path: str | Path) -> Path:
        """Write the page to a file, for a browser or a mail, and return the path.

        Raises:
            SaveError: it cannot be written.
        """
        path = Path(path)
        write(path, self.html.encode())
        return path

    def __repr__(self) -> str:
        return f"Report of {len(self.html):,} characters; .save(PATH) writes it"

    def _repr_html_(self) -> str:
        framed = html.escape(self.html.replace("<head>", OWN_LINKS, 1))
        return (
            '<iframe sandbox="allow-scripts allow-downloads allow-popups" title="atp report" '
            f'width="100%" height="{HEIGHT}" srcdoc="{framed}"></iframe>'
        )


def report(results: Sequence[ResultFile], settings: SelectionSettings) -> Report:
    """Return the page of results; a ratio of activations is left out where they have none."""
    return Report(page_of(read_all(results, replace(settings, ratio_given=False))))


def result_html(result: Result) -> str:
    """Return the display of a result: its features, and the first pairs, for each SAE."""
    lines = "<br>".join(map(html.escape, repr(result).splitlines()))
    pictures = ((each.names[0], _picture(_means(each.analyses))) for each in result.saes)
    parts = [f"<p>{lines}</p>"]
    parts += [f"<p>{html.escape(name)}</p>{picture}" for name, picture in pictures if picture]
    parts.append(result.top(SHOWN).to_html(index=False))
    parts += map(_pairs_table, result.saes)
    return "\n".join(parts)


def features_html(features: Aggregated) -> str:
    """Return the display of selected features: a picture and a table of each SAE."""
    return "\n".join(map(_sae_html, features.saes))


def _sae_html(sae: SaeFeatures) -> str:
    table = sae.table[sae.table["group"] == ALL]
    table = table.sort_values(["selected", "mean_best"], ascending=False, kind="stable")
    chosen = f"{len(sae.selection.selected):,} of {len(table):,} features selected"
    shown = table[[*COLUMNS, "selected"]].head(SHOWN).dropna(axis="columns", how="all")
    parts = [
        f"<p>{html.escape(sae.name)}: {chosen}, over {sae.pairs:,} pairs</p>",
        _picture(pd.concat(strongest(sae).values())),
        shown.to_html(index=False, na_rep="", float_format="{:.4g}".format),
    ]
    return "\n".join(parts)


def _picture(rows: pd.DataFrame) -> str:
    return as_svg("strongest", rows, STYLE, width=WIDTH) if len(rows) else ""


def _means(analyses: Iterable[Analysis]) -> pd.DataFrame:
    """Return the features of the largest `mean_best`; an interval would take too long here."""
    sums: dict[str, float] = {}
    pairs = 0
    for analysis in analyses:
        pairs += "top_features" in analysis
        for entry in analysis.get("top_features", ()):
            best = entry.get("effect", entry["score"])
            sums[entry["id"]] = sums.get(entry["id"], 0.0) + best
    largest = sorted(sums.items(), key=lambda item: -abs(item[1]))[:SHOWN]
    return pd.DataFrame(
        {"feature": feature, "mean_best": total / pairs} for feature, total in largest
    )


def _pairs_table(result: Result) -> str:
    rows = []
    for pair, analysis in enumerate(result.analyses[:SHOWN]):
        metric = next((analysis[name] for name in METRICS if name in analysis), None)
        listed = analysis.get("top_features", ())[:3]
        strongest_here = ", ".join(f"{each['id']} ({each['score']:+.3g})" for each in listed)
        why = analysis.get("error", analysis.get("skipped", ""))
        tokens = (repr(analysis.get(name, "")) for name in ("target_token", "base_token"))
        rows.append((pair, *tokens, metric, strongest_here or why))
    columns = ["pair", "target_token", "base_token", "metric", result.names[0]]
    more = len(result) - len(rows)
    table: str = pd.DataFrame(rows, columns=columns).to_html(index=False, na_rep="")
    return table + (f"\n<p>{more:,} more pairs</p>" if more else "")
