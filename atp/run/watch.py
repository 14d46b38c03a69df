"""What a run notes while it scores: the strongest feature so far, and SAEs that explain little."""

from __future__ import annotations

from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any

import structlog

from atp.runtime.log import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from atp.dataset.journal import Analysis
    from atp.runtime.live import LiveLine

FIRST_PAIRS = 16
LITTLE = 0.2
"""A median share of the variance below which an SAE is hardly where it was trained."""

log = structlog.get_logger()


class StrongestSoFar:
    """Notes in the live line which feature has the largest mean score so far, of the first SAE."""

    def __init__(self, line: LiveLine) -> None:
        self.line, self.sums, self.pairs = line, Counter[str](), 0

    def add(self, analyses: Iterable[Analysis]) -> None:
        """Add the analyses of some pairs."""
        for analysis in analyses if shown().live else ():
            self.pairs += "top_features" in analysis
            for feature in analysis.get("top_features", ()):
                self.sums[feature["id"]] += feature.get("effect", feature["score"])
        if self.sums:
            strongest = max(self.sums, key=lambda feature: abs(self.sums[feature]))
            mean = self.sums[strongest] / self.pairs
            self.line.note = f"strongest so far: {strongest} ({mean:+.3f})"


class Explained:
    """Warns of SAEs that explain little of what they write, over the first pairs of a process."""

    def __init__(self, saes: Iterable[Mapping[str, Any]]) -> None:
        """Take the SAEs as `metadata.atp` describes them."""
        self._shares: list[tuple[Mapping[str, Any], list[float]]] = [(each, []) for each in saes]

    def add(self, analyses: Iterable[Sequence[Analysis]]) -> None:
        """Add the analyses of some pairs, one for each SAE; warn once there are enough."""
        for of_pair in analyses:
            for (sae, shares), analysis in zip(self._shares, of_pair, strict=True):
                if "diagnostics" in analysis and len(shares) < FIRST_PAIRS:
                    shares.append(analysis["diagnostics"]["variance_explained"])
                    if len(shares) == FIRST_PAIRS:
                        self._judge(sae, shares)

    def end(self) -> None:
        """Warn of those that have seen fewer pairs."""
        for sae, shares in self._shares:
            if 0 < len(shares) < FIRST_PAIRS:
                self._judge(sae, shares)

    @staticmethod
    def _judge(sae: Mapping[str, Any], shares: Sequence[float]) -> None:
        share = median(shares)
        # A CLT's layer writes to several places, and other layers write there, too.
        if share < LITTLE and len(sae.get("writes", "1")) == 1:
            log.warning(
                "sae.explains_little",
                sae=sae["spec"],
                variance_explained=round(share, 3),
                pairs=len(shares),
                hint="Is it of this model and layer? Was it trained on chats, or on raw text?",
            )
