"""Result: the scores of every feature of one or several SAEs for some pairs, in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from atp.config.selection import SelectionSettings
from atp.dataset.journal import outcome
from atp.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from jaxtyping import Float
    from torch import Tensor

    from atp.api.record import Record
    from atp.api.tables import Tables
    from atp.dataset.journal import Analysis
    from atp.dataset.pairs import BrokenPair, Pair
    from atp.dataset.result_files import ResultFile
    from atp.report.notebook import Report


class Result:
    """The scores of every feature for some pairs, from `attribute`.

    Its items are the analyses of the pairs, as in `atp_analysis` of a result file. A result of
    several SAEs has no items of its own: `result.saes[0]`, or `result["layer20-2048"]`, is the
    result of one of them.

    Tensors are float32, on the CPU, with a row for each pair. The row of a pair that was skipped,
    or has an error, is NaN.

    Example:
        >>> result = attribute("models/tiny", "saes/layer1", pairs)
        >>> len(result), result.scores.shape
        (2, torch.Size([2, 128]))
        >>> sorted(result[0]["top_features"][0])
        ['activation', 'gradient', 'id', 'relative_size', 'score']
    """

    def __init__(self, record: Record, tables: Tables, which: Sequence[int]) -> None:
        self._record, self._tables, self._which = record, tables, tuple(which)

    @property
    def saes(self) -> tuple[Result, ...]:
        """The results of the single SAEs, in their order."""
        return tuple(Result(self._record, self._tables, [number]) for number in self._which)

    @property
    def names(self) -> tuple[str, ...]:
        """The short names of the SAEs, with a number where two have the same."""
        return tuple(self._record.header["results"][number] for number in self._which)

    @property
    def model(self) -> str:
        """The model's name."""
        return str(self._record.header["facts"]["model"]["name"])

    @property
    def pairs(self) -> tuple[Pair | BrokenPair, ...]:
        """The pairs, with their texts."""
        return tuple(self._record.pairs)

    @property
    def analyses(self) -> list[Analysis]:
        """The analysis of each pair."""
        number = self._single()
        return [of_pair[number] for of_pair in self._record.analyses]

    @property
    def scores(self) -> Float[Tensor, "pair d_sae"]:
        """The score of every feature, in logits; over several positions, the sum."""
        return self._tables.scores[self._single()]

    @property
    def activations(self) -> Float[Tensor, "pair d_sae"]:
        """The activation of every feature; over several positions, the sum."""
        return self._tables.activations[self._single()]

    @property
    def metric(self) -> Float[Tensor, " pair"]:
        """How much the model prefers the sycophantic token, in logits, for each pair.

        With `sequence_tokens`, it is the difference of two mean log-probabilities.
        """
        return self._tables.metric

    @property
    def sae(self) -> dict[str, Any]:
        """The description of the SAE, as in `metadata.atp.sae` of a result file."""
        return dict(self._record.header["facts"]["saes"][self._single()])

    @property
    def counts(self) -> dict[str, int]:
        """How many pairs are scored, skipped, or have an error."""
        counts = dict.fromkeys(("scored", "skipped", "error"), 0)
        for analysis in self.analyses:
            counts[outcome(analysis)] += 1
        return counts

    def top(self, k: int = 10) -> pd.DataFrame:
        """Return the k features with the largest mean score, by size, over the scored pairs.

        Columns: `sae`, its name; `feature`, its number; `mean_score` and `mean_abs_score`, in
        logits; `pairs`, in how many it has a score other than 0.

        Example:
            >>> result = attribute("models/tiny", "saes/layer1", pairs)
            >>> list(result.top(3).columns)
            ['sae', 'feature', 'mean_score', 'mean_abs_score', 'pairs']
        """
        tables = []
        for name, number in zip(self.names, self._which, strict=True):
            scores = self._tables.scores[number]
            scores = scores[~scores.isnan().any(dim=1)].double()
            if not len(scores):
                continue
            columns = {
                "mean_score": scores.mean(dim=0),
                "mean_abs_score": scores.abs().mean(dim=0),
                "pairs": (scores != 0).sum(dim=0),
            }
            order = columns["mean_score"].abs().sort(descending=True, stable=True).indices[:k]
            features = {name: column[order].numpy() for name, column in columns.items()}
            tables.append(pd.DataFrame({"sae": name, "feature": order.numpy(), **features}))
        if not tables:
            names = ["sae", "feature", "mean_score", "mean_abs_score", "pairs"]
            return pd.DataFrame(columns=names)
        table = pd.concat(tables).sort_values(
            "mean_score", key=lambda column: -column.abs(), kind="stable"
        )
        return table.head(k).reset_index(drop=True)

    def to_frame(self) -> pd.DataFrame:
        """Return the listed features of the scored pairs, a row for each, the strongest first.

        Columns: `pair`, its number; `sae`, its name; `feature`, its number; `score`, `activation`
        and `gradient`; `effect` and `base_activation` where the method gives them.

        Example:
            >>> frame = attribute("models/tiny", "saes/layer1", pairs).to_frame()
            >>> list(frame.columns)
            ['pair', 'sae', 'feature', 'score', 'activation', 'gradient']
        """
        numbers = ("score", "activation", "gradient", "effect", "base_activation")
        rows = [
            {"pair": pair, "sae": name, "feature": int(listed["id"])}
            | {key: listed[key] for key in numbers if key in listed}
            for name, number in zip(self.names, self._which, strict=True)
            for pair, of_pair in enumerate(self._record.analyses)
            for listed in of_pair[number].get("top_features", ())
        ]
        if not rows:
            return pd.DataFrame(columns=["pair", "sae", "feature", *numbers[:3]])
        return pd.DataFrame(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of a result file: the questions with `atp_analysis`, `metadata.atp`.

        A file is read again for it. Written as JSON, it is a file that `atp features` reads.

        Example:
            >>> content = attribute("models/tiny", "saes/layer1", pairs).to_dict()
            >>> content["results"][0]["variations"][1]["atp_analysis"]["boundary"]
            'joint'
            >>> content["metadata"]["atp"]["counts"]["scored"]
            2
        """
        return self._record.content(self._single())

    def as_result_files(self, name: str) -> list[ResultFile]:
        """Return the result of each SAE as `select_features` reads files; errors give the name."""
        return [self._record.result_file(number, name) for number in self._which]

    def show(self) -> Report:
        """Return the report of the result, a page with pictures: write it at the end of a cell.

        It shows what `atp report` shows, with the default thresholds, and needs no network.

        Example:
            >>> page = attribute("models/tiny", "saes/layer1", pairs).show()
            >>> page.save("report.html").exists()
            True
        """
        from atp.report.notebook import report  # noqa: PLC0415  (loads the library)

        return report(self.as_result_files("<result>"), SelectionSettings())

    def __len__(self) -> int:
        return len(self._record)

    def __iter__(self) -> Iterator[Analysis]:
        return iter(self.analyses)

    @overload
    def __getitem__(self, item: int) -> Analysis: ...
    @overload
    def __getitem__(self, item: slice) -> list[Analysis]: ...
    @overload
    def __getitem__(self, item: str) -> Result: ...
    def __getitem__(self, item: int | slice | str) -> Analysis | list[Analysis] | Result:
        if not isinstance(item, str):
            return self.analyses[item]
        for name, result in zip(self.names, self.saes, strict=True):
            if item in {name, result.sae["spec"]}:
                return result
        msg = f"the result has no SAE {item!r}."
        raise SettingsError(msg, did_you_mean(item, self.names))

    def __repr__(self) -> str:
        lines = [f"Result of {len(self)} pairs on {self.model}"]
        for result in self.saes:
            counts = ", ".join(f"{count} {kind}" for kind, count in result.counts.items() if count)
            top = result.top(5).itertuples()
            strongest = ", ".join(f"{row.feature} ({row.mean_score:+.3g})" for row in top)
            lines.append(
                f"  {result.names[0]}: {counts or 'no pair'}; strongest: {strongest or '-'}"
            )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the display of a notebook: the strongest features, and the first pairs."""
        from atp.report.notebook import result_html  # noqa: PLC0415  (loads the library)

        return result_html(self)

    def _single(self) -> int:
        if len(self._which) == 1:
            return self._which[0]
        msg = f"the result is of {len(self._which)} SAEs: {', '.join(self.names)}."
        raise SettingsError(msg, "Choose one: result.saes[0], or result[NAME].")
