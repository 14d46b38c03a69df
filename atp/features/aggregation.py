"""From result files to a table of features, and those that are selected."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from atp.features.results import check_alike
from atp.features.scored import read_pairs
from atp.features.selection import applicable, select
from atp.features.table import COLUMNS, groups_of, numbers_of
from atp.model.dictionaries.names import neuronpedia_page

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.config.selection import SelectionSettings
    from atp.dataset.result_files import ResultFile
    from atp.features.scored import ScoredPairs
    from atp.features.selection import Selection
    from atp.features.table import Group


@dataclass(frozen=True)
class SaeFeatures:
    """The features of one SAE."""

    name: str  # as in the column `sae`; no other SAE has it
    sae: dict[str, Any]  # its description in the results
    groups: list[Group]
    settings: SelectionSettings  # as applied: without the ratio where no pair carries activations
    selection: Selection
    table: pd.DataFrame  # a row for each feature and group; the group of all pairs comes first

    @property
    def pairs(self) -> int:
        """The number of scored pairs."""
        return self.groups[0].pairs


@dataclass(frozen=True)
class Aggregated:
    """The features of every SAE."""

    saes: list[SaeFeatures]
    results: list[ResultFile]
    settings: SelectionSettings  # as given; the ratio is None if it was applied to no SAE

    @property
    def table(self) -> pd.DataFrame:
        """The rows of all SAEs."""
        return pd.concat([sae.table for sae in self.saes], ignore_index=True)

    @property
    def selected(self) -> dict[str, list[str]]:
        """The ids of the selected features of each SAE, the greatest `mean_best` first."""
        return {sae.name: sae.selection.selected for sae in self.saes}

    @property
    def without_ratio(self) -> list[str]:
        """The names of the SAEs whose features were selected without a ratio of activations."""
        return [sae.name for sae in self.saes if sae.settings.min_log_ratio is None]


def aggregate(
    results: Sequence[ResultFile], settings: SelectionSettings, in_groups: int | None = None
) -> Aggregated:
    """Return the features of some results, or raise an InputError if they do not go together.

    `in_groups` is of how many features, the strongest, the numbers in each group are computed;
    None is all of them.
    """
    check_alike(results)
    scored = read_pairs(results)
    applied = []
    for pairs in scored:  # before anything is computed: that can take minutes
        path = next(result.path for result in results if result.metadata["sae"] == pairs.sae)
        applied.append(applicable(settings, pairs, path))
    saes = [
        _features_of_sae(*of_sae, in_groups)
        for of_sae in zip(scored, _names(scored), applied, strict=True)
    ]
    if all(of_sae.min_log_ratio is None for of_sae in applied):
        settings = replace(settings, min_log_ratio=None)
    return Aggregated(saes, list(results), settings)


def _features_of_sae(
    scored: ScoredPairs, name: str, settings: SelectionSettings, in_groups: int | None
) -> SaeFeatures:
    everything, *parts = groups = groups_of(scored)
    tables = [numbers_of(scored, everything, settings)]
    selection = select(tables[0], settings)
    if in_groups is not None:
        order = tables[0]["mean_best"].abs().sort_values(ascending=False, kind="stable").index
        strongest = tables[0]["feature"][order[:in_groups]]
        selected = np.array(selection.selected, np.int64)
        scored = scored.only(np.union1d(strongest, selected))
    tables += [numbers_of(scored, group, settings) for group in parts]
    for table, group in zip(tables, groups, strict=True):
        table["group"], table["value"] = group.name, group.value
    table = pd.concat(tables, ignore_index=True)
    table["sae"], table["sae_sha256"] = name, scored.sae["sha256"]
    table["hook_name"] = scored.sae["hook_name"]
    ids = table["feature"].astype(str)
    table["selected"] = ids.isin(selection.selected)
    pages = (neuronpedia_page(spec, scored.sae.get("path")) for spec in dict.fromkeys(scored.specs))
    page = next((page for page in pages if page is not None), None)
    table["link"] = None if page is None else page + "/" + ids
    table = table[list(COLUMNS)].astype({"value": "str", "link": "str"})
    return SaeFeatures(name, scored.sae, groups, settings, selection, table)


def _names(scored: Sequence[ScoredPairs]) -> list[str]:
    """Return the name of each SAE; where two have one name, with a piece of the hash."""
    specs = [pairs.specs[0] for pairs in scored]
    return [
        f"{spec} ({pairs.sae['sha256'][:12]})" if specs.count(spec) > 1 else spec
        for pairs, spec in zip(scored, specs, strict=True)
    ]
