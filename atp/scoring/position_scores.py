"""The scores of a single pair's listed features position by position, as JSON values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from atp.scoring.shortest import shortest, shortest_table

if TYPE_CHECKING:
    from atp.model.pair_tokenizer import TokenizedPair
    from atp.scoring.dictionary_scorer import DictionaryScores

STRONGEST_POSITIONS = 3  # named for each listed feature, where features are read at several
FAINTEST = 0.01
"""Smallest share of a feature's largest |score| that is written for a token of the prompt. Colour
shows scores in a heatmap, and nobody sees a paler cell; the rest would be most of the file."""


def strongest_positions(pair: TokenizedPair, found: DictionaryScores) -> list[list[dict[str, Any]]]:
    """Return the positions of largest |score| of each listed feature."""
    top = found.top[0]
    scores = found.at_positions.scores[:, top].T.cpu()  # (k, position)
    activations = found.at_positions.activations[:, top].T.cpu()
    order = scores.abs().sort(dim=1, descending=True, stable=True).indices[:, :STRONGEST_POSITIONS]

    def describe(feature: int, row: int) -> dict[str, Any]:
        position, text = found.captured.positions[row]
        in_response = position >= pair.contrast.prompt_length
        return {
            "position": position,
            **({"answer": ("flagged", "base")[text]} if in_response else {}),
            "score": shortest(float(scores[feature, row])),
            "activation": shortest(float(activations[feature, row])),
        }

    return [
        [describe(feature, row) for row in rows if scores[feature, row] != 0]
        for feature, rows in enumerate(order.tolist())
    ]


def token_scores(found: DictionaryScores) -> list[dict[str, Any]]:
    """Return the positions and scores of each listed feature, those of FAINTEST left out."""
    scores = found.at_positions.scores[:, found.top[0]].T.cpu().contiguous()  # (k, position)
    sizes = scores.abs()
    seen = (sizes > 0) & (sizes >= FAINTEST * sizes.amax(dim=1, keepdim=True))
    positions = [position for position, _ in found.captured.positions]
    return [
        {
            "positions": [positions[row] for row in rows],
            "scores": [numbers[row] for row in rows],
        }
        for numbers, rows in zip(
            shortest_table(scores.numpy()),
            (mask.nonzero()[:, 0].tolist() for mask in seen),
            strict=True,
        )
    ]
