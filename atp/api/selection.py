"""`select_features`: what `atp features` writes, in memory, with its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

from atp.config.option import options_of
from atp.config.selection import SelectionSettings
from atp.errors import SettingsError, did_you_mean
from atp.features.aggregation import Aggregated, aggregate
from atp.features.results import found_in

if TYPE_CHECKING:
    from atp.api.result import Result
    from atp.report.notebook import Report


@dataclass(frozen=True)
class Features(Aggregated):
    """The features of every SAE."""

    def show(self) -> Report:
        """Return the report of the results, a page with pictures: write it at the end of a cell.

        It shows what `atp report` shows, with these thresholds, and needs no network.
        """
        from atp.report import notebook  # noqa: PLC0415  (it loads what draws)

        return notebook.report(self.results, self.settings)

    def _repr_html_(self) -> str:
        """Return the display of a notebook: the strongest features of each SAE."""
        from atp.report import notebook  # noqa: PLC0415  (as above)

        return notebook.features_html(self)


class Options(TypedDict, total=False):
    """The options of `select_features`: those of `atp features`, with underscores."""

    min_score: float
    min_log_ratio: float | None
    min_impact: float
    fdr: float | None
    top_features: int
    epsilon: float
    resamples: int
    seed: int


def select_features(*results: str | Path | Result, **options: Unpack[Options]) -> Features:
    """Aggregate the scored pairs of some results, and select features.

    Intervals and tests are over questions. Pairs that `attribute` took as plain texts count as
    questions of their own; of several pairs to a question, give `attribute` the questions.

    Args:
        *results: files of one model and method, or folders, whose last run is taken; or results of
            `attribute`.
        **options: those of `atp features`, with underscores: min_score (logits, default 0),
            min_log_ratio (by default 0.5 where pairs carry activations; None leaves it out),
            min_impact (logits, default 0), fdr (default None), top_features (50), epsilon (1e-6),
            resamples (9999), seed (0).

    Returns:
        The table of all features, and the selected ones.

    Raises:
        InputError: a result is at fault, or results do not go together.
        SettingsError: an option is at fault.

    Example:
        >>> result = attribute("models/tiny", "saes/layer1", "feedback.json")
        >>> found = select_features(result, top_features=3, resamples=200)
        >>> {name: len(features) for name, features in found.selected.items()}
        {'saes/layer1': 3}
    """
    if not results:
        msg = "no results are named."
        raise SettingsError(msg, "Write select_features(RESULT, ...).")
    taken, _ = found_in([Path(path) for path in results if isinstance(path, str | Path)])
    for number, result in enumerate(dict.fromkeys(results), start=1):
        if not isinstance(result, str | Path):
            taken += result.as_result_files(f"<result {number}>")
    values, known = {}, options_of(SelectionSettings)
    for name, value in options.items():  # parsed as on the command line
        if name not in Options.__annotations__:
            msg = f"select_features has no option {name}."
            raise SettingsError(msg, did_you_mean(name, Options.__annotations__))
        values[name] = known[name].check(name, "none" if value is None else str(value))
    settings = SelectionSettings(**values, ratio_given="min_log_ratio" in values)
    found = aggregate(taken, settings)
    return Features(found.saes, found.results, found.settings)
