"""From result files to a table and the selected features: the command's inner part, for notebooks.

Nothing is written here; files.py does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from atp.config.option import options_of
from atp.config.selection import SelectionSettings
from atp.errors import SettingsError, did_you_mean
from atp.features.results import check_alike, found_in
from atp.features.scored import read_pairs
from atp.features.selection import check_ratio, select
from atp.features.table import COLUMNS, groups_of, numbers_of
from atp.model.dictionaries.names import neuronpedia_page

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.dataset.result_files import ResultFile
    from atp.features.scored import ScoredPairs
    from atp.features.selection import Selection
    from atp.features.table import Group


@dataclass(frozen=True)
class SaeFeatures:
    """What was found of one SAE."""

    name: str
    """As in the column `sae`; no other SAE has it."""
    sae: dict[str, Any]
    """Its description, as results have it."""
    groups: list[Group]
    selection: Selection
    table: pd.DataFrame
    """A row for each feature and group, in the columns of `table.COLUMNS`; all pairs come first."""

    @property
    def pairs(self) -> int:
        """The number of scored pairs."""
        return self.groups[0].pairs

    @property
    def selected(self) -> list[str]:
        """The ids of the selected features, the greatest mean score first."""
        return list(map(str, self.selection.selected))

    @property
    def negative(self) -> list[str]:
        """The ids of as many features of the most negative mean score, the most negative first."""
        return list(map(str, self.selection.negative))


@dataclass(frozen=True)
class Features:
    """What `select_features` found, of every SAE."""

    saes: list[SaeFeatures]
    results: list[ResultFile]
    choice: SelectionSettings

    @property
    def table(self) -> pd.DataFrame:
        """The rows of all SAEs."""
        return pd.concat([each.table for each in self.saes], ignore_index=True)

    @property
    def selected(self) -> dict[str, list[str]]:
        """The ids of the selected features of each SAE, the greatest mean score first."""
        return {each.name: each.selected for each in self.saes}


def select_features(*results: str | Path, **options: float | None) -> Features:
    """Aggregate the scored pairs of some results, and select features.

    Args:
        results: result files of one model and method, or folders, whose last run is taken.
        options: as of `atp features`, with underscores: min_score (logits, default 0),
            min_log_ratio (default 0.5; None: not asked for), min_impact (logits, default 0), fdr
            (default None), top_features (50), epsilon (1e-6), resamples (9999), seed (0).

    Returns:
        The table and the selected features, of each SAE.

    Raises:
        InputError: a result cannot be read, is a part of a run, or does not go with the others.
        SettingsError: an option is unknown, or its value is malformed.
    """
    if not results:
        msg = "no results are named."
        raise SettingsError(msg, "Write select_features(RESULT, ...).")
    found, _ = found_in([Path(path) for path in results])
    return features_of(found, _choice(options))


def _choice(options: dict[str, Any]) -> SelectionSettings:
    """Return options as the command line would have them."""
    values, known = {}, options_of(SelectionSettings)
    for name, value in options.items():
        if name not in known:
            msg = f"select_features has no option {name}."
            raise SettingsError(msg, did_you_mean(name, known))
        values[name] = known[name].check(name, "none" if value is None else str(value))
    return SelectionSettings(**values)


def features_of(results: Sequence[ResultFile], choice: SelectionSettings) -> Features:
    """Do so for results that were found.

    Raises:
        InputError: they do not go together, or one is not as it says.
    """
    check_alike(results)
    scored = read_pairs(results)
    names = _distinct(scored)
    for pairs in scored:  # before anything is computed: that can take minutes
        where = next(result.path for result in results if result.metadata["sae"] == pairs.sae)
        check_ratio(pairs, choice, where)
    of_each = [_of_sae(pairs, name, choice) for pairs, name in zip(scored, names, strict=True)]
    return Features(of_each, list(results), choice)


def _of_sae(scored: ScoredPairs, name: str, choice: SelectionSettings) -> SaeFeatures:
    groups = list(groups_of(scored))
    first = numbers_of(scored, groups[0], choice)
    selection = select(first, choice)
    tables = [first, *(numbers_of(scored, group, choice) for group in groups[1:])]
    for table, group in zip(tables, groups, strict=True):
        table["group"], table["value"] = group.name, group.value
    table = pd.concat(tables, ignore_index=True)
    table["sae"], table["sae_sha256"] = name, scored.sae["sha256"]
    table["hook_name"] = scored.sae["hook_name"]
    table["selected"] = table["feature"].isin(selection.selected)
    page = _page(scored)
    table["link"] = None if page is None else page + "/" + table["feature"].astype(str)
    table = table[list(COLUMNS)].astype({"value": "str", "link": "str"})
    return SaeFeatures(name, scored.sae, groups, selection, table)


def _page(scored: ScoredPairs) -> str | None:
    path = scored.sae.get("path")
    pages = (neuronpedia_page(spec, path) for spec in dict.fromkeys(scored.specs))
    return next((page for page in pages if page is not None), None)


def _distinct(scored: Iterable[ScoredPairs]) -> list[str]:
    """Return what each SAE is called; where two have one name, with a piece of the hash."""
    pairs = list(scored)
    specs = [each.specs[0] for each in pairs]
    return [
        f"{spec} ({each.sae['sha256'][:12]})" if specs.count(spec) > 1 else spec
        for each, spec in zip(pairs, specs, strict=True)
    ]
