"""Counts memory and FLOPs of atp on the exact shape of google/gemma-2-9b, without a device.

Usage:
  gemma2_9b_simulated.py [--sections=LIST]
  gemma2_9b_simulated.py --help

atp's own code runs on fake tensors, which have shapes and no memory; nothing is computed. The
tables are in Markdown. The whole takes about four minutes on one core.

Options:
  --sections=LIST  The sections to count: memory, notebook, budget, flops
                   [default: memory,notebook,budget,flops].
  -h --help        Show this text.
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from fractions import Fraction
from functools import cache, partial
from typing import TYPE_CHECKING
from unittest.mock import patch

import torch
from docopt import docopt
from gemma_sections import CARD_BYTES, TARGET_BYTES
from live_bytes import LiveBytes
from random_gemma import FULL, NAME
from simulated_gemma import OFFSET, RESPONSE, Simulation, contrasts, counted, hook_names
from torch._subclasses.fake_tensor import FakeTensorMode

from atp.attribution.batches import Batch, plan
from atp.attribution.capture import capture
from atp.bench.command import versions
from atp.model.dictionaries.placement import RESIDENT_SHARE, Dictionaries
from atp.model.memory_model import batch_tokens, bytes_per_token

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulated_gemma import Pass

LAYERS = ((31,), (9, 20, 31))
CASES = ((1, 1000), (4, 1000), (14, 300), (16, 120))
"""Rows and tokens of each prompt."""
CONTEXT_BYTES = 1 << 29
"""Assumed memory of CUDA itself on a card."""
PAIRS = tuple((round(120 + 330 * i / 144), (1, 2, 4, 7, 10, 20)[i % 6]) for i in range(145))
"""Prompt tokens and offset."""
BUDGETS = (2048, 16384)
GIB = 2**30

Row = dict[str, str | int]


@cache
def passes(sim: Simulation) -> dict[tuple[tuple[int, ...], int, int], Pass]:
    """Count the captures of all cases, by layers, rows and prompt tokens."""
    return {
        (layers, rows, prompt): counted(sim.model, contrasts([(prompt, OFFSET)] * rows), layers)
        for layers in LAYERS
        for rows, prompt in CASES
    }


def memory(sim: Simulation) -> dict[str, list[Row]]:
    """Count the peak of a capture, and the memory of a run with its own budget on a 24 GB card."""
    rows: list[Row] = [
        {
            **_case(layers, count, prompt),
            "peak GiB": _gib(capture_pass.peak),
            "of it cache": _gib(capture_pass.cache),
            "of it saved for backward": _gib(capture_pass.saved),
            "of it at work": _gib(capture_pass.at_work),
        }
        for (layers, count, prompt), capture_pass in passes(sim).items()
    ]
    title = (
        f"Batches have the memory of a card of {CARD_BYTES / GIB:.2f} GiB without the weights, the "
        f"SAEs (float32, {FULL.narrow} features each) and {CONTEXT_BYTES / GIB:.1f} GiB for CUDA "
        f"itself; the target is {TARGET_BYTES / GIB:.0f} GiB. Each batch fills the budget that atp "
        "chooses:"
    )
    card = [_on_card(sim, layers, prompt) for layers in LAYERS for prompt in (1000, 300, 120)]
    return {f"One capture, beyond the weights; o = {OFFSET}, nothing shared:": rows, title: card}


def _on_card(sim: Simulation, layers: tuple[int, ...], prompt: int) -> Row:
    used = [sim.saes[layer] for layer in layers]
    saes = sum(parameter.nbytes for dictionary in used for parameter in dictionary.sae.parameters())
    free = CARD_BYTES - CONTEXT_BYTES - sim.weights - saes
    assert saes <= RESIDENT_SHARE * (free + saes), "atp would offload them"
    dictionaries = Dictionaries(used, sim.model.device, offload=False)
    with patch("atp.model.memory_model.free_bytes", return_value=free):
        budget = batch_tokens(replace(sim.model, device=torch.device("cuda")), dictionaries)
    count = max(1, budget // (prompt + OFFSET - 1))
    capture_pass = counted(sim.model, contrasts([(prompt, OFFSET)] * count), layers)
    total = sim.weights + saes + capture_pass.peak
    return {
        **_case(layers, count, prompt),
        "batch tokens": budget,
        "weights GiB": _gib(sim.weights),
        "SAEs GiB": _gib(saes),
        "pass GiB": _gib(capture_pass.peak),
        "free GiB": _gib(free),
        "total GiB": _gib(total),
        "within the target": "yes" if total <= TARGET_BYTES else "no",
    }


def notebook(sim: Simulation) -> dict[str, list[Row]]:
    """Count the peak of the notebook's procedure on a long prompt."""
    sae = sum(tensor.nbytes for tensor in sim.saes[31].sae.parameters())
    peak = sim.notebook(31, 1000).peak
    row: Row = {
        "beyond the weights": _gib(peak),
        "with weights and SAE": _gib(peak + sim.weights + sae),
    }
    title = (
        f"The notebook's procedure, SAE after layer 31, a text of 1000 + {RESPONSE} tokens in one "
        "pass, GiB:"
    )
    return {title: [row]}


def budget(sim: Simulation) -> dict[str, list[Row]]:
    """Compare the memory that atp expects for a token with the counted memory."""
    rows: list[Row] = []
    for (layers, count, prompt), capture_pass in passes(sim).items():
        expected_kib = bytes_per_token(sim.model, hook_names(layers)) / 1024
        counted_kib = capture_pass.peak / capture_pass.tokens / 1024
        figures = {
            "counted KiB": f"{counted_kib:.0f}",
            "atp.model.memory_model KiB": f"{expected_kib:.0f}",
            "budget / counted": f"{expected_kib / counted_kib:.2f}",
        }
        rows.append(_case(layers, count, prompt) | figures)
    return {"For each token of a batch, padding included:": rows}


def flops(sim: Simulation) -> dict[str, list[Row]]:
    """Compare the procedures on pairs of ordinary length."""
    items = contrasts(PAIRS)
    prompts = [prompt for prompt, _ in PAIRS]
    notebooks = {
        layer: sum(map(_quadratic(partial(sim.notebook, layer)), prompts)) for layer in FULL.layers
    }
    of_row = _quadratic(sim.bare)
    rows: list[Row] = []
    for tokens in BUDGETS:
        batches = [[items[i] for i in batch] for batch in plan(items, tokens)]
        shapes = [(len(batch), max(len(item.tokens) for item in batch)) for batch in batches]
        padded = sum(count * width for count, width in shapes)
        bare = sum(count * of_row(width) for count, width in shapes)
        for layers in LAYERS:
            atp = 0
            for batch in batches:
                with LiveBytes() as live:
                    capture(sim.model, Batch.of(batch, sim.model.device), hook_names(layers))
                atp += live.flops
            slow = sum(notebooks[layer] for layer in layers)
            rows.append(
                {
                    "SAEs after layers": _names(layers),
                    "batch tokens": tokens,
                    "batches": len(batches),
                    "padding": f"{padded / sum(len(item.tokens) for item in items) - 1:.1%}",
                    "atp": _peta(atp),
                    "bare": _peta(bare),
                    "atp / bare": f"{atp / bare:.3f}",
                    "notebook": _peta(slow),
                    "notebook / atp": f"{slow / atp:.2f}",
                }
            )
    title = (
        f"PFLOP of matrix products for {len(PAIRS)} pairs, prompts of {PAIRS[0][0]} to "
        f"{PAIRS[-1][0]} tokens, responses of {RESPONSE}. The notebook's procedure takes a pass "
        "for each SAE:"
    )
    return {title: rows}


def _quadratic(count: Callable[[int], LiveBytes]) -> Callable[[int], int]:
    """Return FLOPs as a function of tokens: a parabola through three counts, checked on a fourth.

    FLOPs of matrix products grow with the tokens, and those of attention with their square.
    """
    known = {n: count(n).flops for n in (120, 300, 480)}

    def at(n: int) -> int:
        terms = (
            Fraction(value * math.prod(n - other for other in known.keys() - {here}))
            / math.prod(here - other for other in known.keys() - {here})
            for here, value in known.items()
        )
        return int(sum(terms))

    assert at(200) == count(200).flops
    return at


def _names(layers: Sequence[int]) -> str:
    return ", ".join(map(str, layers))


def _case(layers: Sequence[int], rows: int, prompt: int) -> Row:
    return {"SAEs after layers": _names(layers), "rows x prompt tokens": f"{rows} x {prompt}"}


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def _peta(count: float) -> str:
    return f"{count / 1e15:.3f}"


SECTIONS = {section.__name__: section for section in (memory, notebook, budget, flops)}


def main() -> None:
    """Print the tables."""
    sections = docopt(__doc__)["--sections"].split(",")
    if not SECTIONS.keys() >= set(sections):
        sys.exit(f"--sections accepts {', '.join(SECTIONS)}.")
    print(f"## {NAME}: counted under fake tensors, not measured on a device\n")
    print("Live tensors, rounded up as CUDA's allocator does, without its reserve and without the")
    print("memory that kernels use inside; bfloat16, eager attention. GiB are 2^30 bytes.")
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    with FakeTensorMode():
        sim = Simulation(FULL)
        for name in (name for name in SECTIONS if name in sections):
            print(f"\n### {name}")
            for title, rows in SECTIONS[name](sim).items():
                print(f"\n{title}\n")
                rule = ["---", *["---:"] * (len(rows[0]) - 1)]
                lines = [rows[0].keys(), rule, *(row.values() for row in rows)]
                print("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines), flush=True)


if __name__ == "__main__":
    main()
