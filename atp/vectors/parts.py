"""A part: captured batches of a run as the bytes of one safetensors file.

Its tensors, n being the number of a batch in the part:

    n/metric                 m of each pair, float32
    n/x/HOOK_POINT           what the hook point held at each read position, (position, *hook)
    n/g/HOOK_POINT           dm/dx there, where a dictionary of the run wrote
    n/base/HOOK_POINT        x at the last token of each pair's base prompt, (pair, *hook)
    norm/HOOK_POINT          how the next norm weights the dimensions, where there is one
    text                     JSON, UTF-8: of each batch the places and tokens of its pairs, and
                             their read positions; with --position=all the text of each token
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
import torch
from safetensors.torch import load, save

from atp.attribution.capture import Capture
from atp.attribution.contrasts import Contrast
from atp.dataset.pairs import PairKey
from atp.model.pair_tokenizer import TokenizedPair
from atp.scoring.scorer import CapturedBatch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from torch import Tensor

    from atp.config.run import VectorType

TEXT, NORM = "text", "norm/"


@dataclass(frozen=True)
class KeyedBatch:
    """A captured batch, and the place of each of its pairs."""

    keys: tuple[PairKey, ...]
    batch: CapturedBatch


@dataclass(frozen=True)
class Part:
    """The content of a part."""

    batches: Sequence[KeyedBatch]
    norm_weights: Mapping[str, Tensor]
    """Of the hook points that a norm reads."""
    token_texts: Mapping[int, str] = field(default_factory=dict)
    """Of the tokens of the prompts, with --position=all."""


def portable(batch: CapturedBatch, vector_type: VectorType) -> CapturedBatch:
    """Return a batch as it is kept: on the host, and without the state of its pass.

    Vectors of a wider type are rounded to this one.
    """
    narrow: torch.dtype = getattr(torch, vector_type)

    def kept(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: _kept(tensor, narrow) for name, tensor in tensors.items()}

    of, base = batch.captured, batch.base_residuals
    capture = Capture(
        _kept(of.metric, torch.float32),
        kept(of.residuals),
        kept(of.gradients),
        of.counts,
        of.positions,
    )
    return CapturedBatch(batch.pairs, capture, None if base is None else kept(base))


def _kept(tensor: Tensor, narrow: torch.dtype) -> Tensor:
    wider = tensor.dtype.itemsize > narrow.itemsize
    # A copy: a part of a batch must not keep all of it in memory.
    return tensor.detach().to("cpu", narrow if wider else tensor.dtype, copy=True).contiguous()


def tensor_bytes(batch: CapturedBatch) -> int:
    """Return the size of a batch's tensors."""
    tables = (batch.captured.residuals, batch.captured.gradients, batch.base_residuals or {})
    return sum(tensor.nbytes for table in tables for tensor in table.values())


def encoded(part: Part) -> bytes:
    """Return the bytes of a part's file; its batches are portable."""
    tensors = {f"{NORM}{name}": weights for name, weights in part.norm_weights.items()}
    described = []
    for number, keyed in enumerate(part.batches):
        captured, base = keyed.batch.captured, keyed.batch.base_residuals
        tables = {"x": captured.residuals, "g": captured.gradients, "base": base or {}}
        for kind, table in tables.items():
            tensors |= {f"{number}/{kind}/{name}": each for name, each in table.items()}
        tensors[f"{number}/metric"] = captured.metric
        described.append(
            {
                "keys": [list(key) for key in keyed.keys],
                "pairs": keyed.batch.pairs,
                "counts": captured.counts,
                "positions": captured.positions,
                "points": list(captured.residuals),  # in the order in which they fired
            }
        )
    text = {"batches": described, "token_texts": list(part.token_texts.items())}
    tensors[TEXT] = torch.frombuffer(bytearray(orjson.dumps(text)), dtype=torch.uint8)
    return save(tensors)


def decoded(data: bytes, dtype: torch.dtype | None = None) -> Part:
    """Return the content of a part's file, with vectors of this type, by default as in the file.

    Raises the library's error for bytes that `encoded` did not return.
    """
    # Cloned: torch aligns its own memory, and kernels may add in another order elsewhere.
    tensors = {name: tensor.clone() for name, tensor in load(data).items()}
    text = orjson.loads(tensors.pop(TEXT).numpy().tobytes())

    def table(number: int, kind: str, names: Iterable[str]) -> dict[str, Tensor]:
        found = {name: tensors.get(f"{number}/{kind}/{name}") for name in names}
        return {
            name: each.to(dtype or each.dtype) for name, each in found.items() if each is not None
        }

    batches = []
    for number, each in enumerate(text["batches"]):
        residuals, gradients, base = (
            table(number, kind, each["points"]) for kind in ("x", "g", "base")
        )
        capture = Capture(
            tensors[f"{number}/metric"],
            residuals,
            gradients,
            tuple(each["counts"]),
            tuple((position, which) for position, which in each["positions"]),
        )
        pairs = tuple(map(_pair, each["pairs"]))
        keys = tuple(PairKey(*key) for key in each["keys"])
        batches.append(KeyedBatch(keys, CapturedBatch(pairs, capture, base or None)))
    weights = {
        name.removeprefix(NORM): tensor for name, tensor in tensors.items() if name.startswith(NORM)
    }
    return Part(batches, weights, dict(text["token_texts"]))


def _pair(values: dict[str, Any]) -> TokenizedPair:
    contrast = dict(values.pop("contrast"))
    contrast["tokens"] = tuple(contrast["tokens"])
    if contrast["sequences"] is not None:
        target, base = map(tuple, contrast["sequences"])
        contrast["sequences"] = target, base
    base_prompt = values.pop("base_prompt")
    base_prompt = None if base_prompt is None else tuple(base_prompt)
    return TokenizedPair(Contrast(**contrast), **values, base_prompt=base_prompt)
