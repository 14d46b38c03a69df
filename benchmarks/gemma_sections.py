"""The sections of gemma2_9b.py, one function each.

A section returns its tables (titles with rows of named values) and further entries of the JSON
file. A figure that the machine cannot measure is "unmeasured".
"""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from random_gemma import bridged, causal_lm, move_to_host
from structlog.testing import capture_logs
from workbench import UNMEASURED, small_card

from atp.attribution.batches import plan
from atp.bench.command import compare as compare_procedures
from atp.bench.contenders import contenders, workload
from atp.bench.measure import interleave, ratio
from atp.dataset.journal import outcome
from atp.model.device_memory import is_out_of_memory
from atp.model.memory_model import batch_tokens
from atp.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workbench import Bench, Run

    from atp.bench.measure import Contender
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.dictionaries.placement import Dictionaries
    from atp.model.language_model import Model
    from atp.model.pair_tokenizer import TokenizedPair

CARD_BYTES = 24_564 << 20
"""The memory of a common 24 GB card, as its driver reports it."""
TARGET_BYTES = 22 << 30
DTYPE_TOKENS = 4096
"""Tokens of a pass in the section `dtype`, where two models are on the device."""
TOP = 50

Figures = dict[str, Any]


def rate(bench: Bench) -> Figures:
    """Measure the rate at which the device multiplies large bfloat16 matrices."""
    n = bench.size.matrix
    row = {"product": f"{n} x {n}, bfloat16", "TFLOP/s": bench.rate / 1e12}
    return {"tables": {"": [row]}, "flops_per_second": bench.rate}


def compare(bench: Bench) -> Figures:
    """Time all procedures on some pairs, and all but the notebook's on all pairs.

    The notebook's procedure would take minutes on all pairs. `model flops used` is the share of the
    device's rate that one pass over the tokens of each pair needs, without the embedding: shared
    prefixes raise it, padding and everything else lower it.
    """
    loaded = bench.load(bench.narrow)
    few_pairs = replace(bench.settings, limit=bench.notebook_pairs)
    beside = compare_procedures(few_pairs, loaded, bench.plain)
    bench.free()
    work = workload(bench.settings, loaded, batch_tokens(bench.model, loaded.dictionaries))
    _, *timed = contenders(bench.settings, loaded, bench.plain, work)
    interleave(timed, bench.rounds, bench.device)
    needed = 2 * bench.weights * work.tokens / bench.rate
    atp, _, bare = timed
    speed = {"atp's speed in shares of the bare pass's": ratio(bare, atp)}
    title = (
        f"{len(work.pairs)} pairs, {work.tokens} tokens in {len(work.batches)} batches, "
        f"{len(bench.narrow)} x {bench.size.narrow} features"
    )
    rows = [_row(contender, len(work.pairs), work.tokens, needed) for contender in timed]
    return {"tables": {title: rows, "": [speed]}, "beside_the_notebook": beside}


def _row(contender: Contender, pairs: int, tokens: int, needed: float) -> Figures:
    seconds = contender.median
    if seconds is None:
        return {"procedure": contender.name, "seconds": "out of memory"}
    return {
        "procedure": contender.name,
        "seconds": seconds,
        "pairs/s": pairs / seconds,
        "tokens/s": tokens / seconds,
        "model flops used": needed / seconds,
        "peak bytes": contender.peak_bytes,
    }


def wide(bench: Bench) -> Figures:
    """Time atp with the widest SAEs, resident and offloaded, and compare the results."""
    saes = bench.make_saes(bench.size.wide)
    rows, results = [], []
    budget = None
    for name, offload in (("resident", False), ("offloaded", True)):
        row: Figures = {"SAEs": name, "seconds": "out of memory"}
        try:
            # The same batches for both: rounding depends on the batch.
            placed, budget, runs = _wide_runs(bench, saes, offload=offload, budget=budget)
            row |= {**_figures(runs), "seconds to place": placed}
            results.append(runs[-1].analyses)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        rows.append(row)
    for dictionary in saes:
        move_to_host(dictionary.sae)
    same = results[0] == results[1] if len(results) == len(rows) else UNMEASURED
    title = f"{bench.pairs} pairs, {len(saes)} x {bench.size.wide} features"
    return {"tables": {title: rows, "": [{"offloaded equals resident": same}]}, "same": same}


def _wide_runs(
    bench: Bench, saes: Sequence[Dictionary], *, offload: bool, budget: int | None
) -> tuple[float, int, list[Run]]:
    began = time.perf_counter()
    loaded = bench.load(saes, offload=offload)
    placed = time.perf_counter() - began
    budget = budget or batch_tokens(bench.model, loaded.dictionaries)
    bench.run(loaded, batch_tokens=budget)
    runs = [bench.run(loaded, batch_tokens=budget, analyses=True) for _ in range(bench.rounds)]
    return placed, budget, runs


def _figures(runs: Sequence[Run]) -> Figures:
    return {
        "seconds": median(run.seconds for run in runs),
        "device peak bytes": runs[-1].device_peak,
        "host peak bytes": runs[-1].host_peak,
        "complete": all(run.complete for run in runs),
    }


def memory(bench: Bench) -> Figures:
    """Score long prompts in the memory of a 24 GB card: with atp's own budget, then all at once.

    The second run asks for a pass that does not fit, so that atp halves it: `oom.retry`, or
    `batch.retry` if a library reports the lack of memory in another way. Both runs must score all
    pairs.
    """
    pairs, tokens = bench.size.long_pairs, bench.size.long_prompt_tokens
    path = bench.write_input("long", pairs, (tokens, tokens))
    rows = []
    with small_card(bench.device, CARD_BYTES) as taken:
        loaded = bench.load(bench.narrow)
        for requested in (None, 2 * pairs * tokens):
            budget = requested or batch_tokens(bench.model, loaded.dictionaries)
            bench.model.free_memory()
            with capture_logs() as events:
                run = bench.run(loaded, analyses=True, input=path, batch_tokens=budget)
            names = [event["event"] for event in events]
            retries = {name: names.count(name) for name in ("oom.retry", "batch.retry")}
            kinds = [outcome(analysis) for of_sae in run.analyses for analysis in of_sae]
            rows.append(
                {
                    "batch tokens": f"{budget} ({'requested' if requested else 'chosen'})",
                    "seconds": run.seconds,
                    **(retries if taken is not None else dict.fromkeys(retries, UNMEASURED)),
                    "scored": f"{kinds.count('scored')} of {pairs * len(bench.narrow)}",
                    **_peak(bench, run, taken),
                }
            )
        placement = "offloaded" if loaded.dictionaries.offloaded else "resident"
    title = f"{pairs} pairs, prompts of {tokens} tokens, a card of {CARD_BYTES / 2**30:.1f} GiB"
    return {
        "tables": {f"{title}, SAEs {placement}": rows},
        "card_bytes": UNMEASURED if taken is None else CARD_BYTES,
    }


def _peak(bench: Bench, run: Run, taken: int | None) -> Figures:
    if taken is None:
        return dict.fromkeys(("peak bytes", "reserved bytes", "within 22 GiB"), UNMEASURED)
    peak = run.device_peak - taken
    return {
        "peak bytes": peak,
        "reserved bytes": torch.cuda.max_memory_reserved(bench.device) - taken,
        "within 22 GiB": peak <= TARGET_BYTES,
    }


def scale(bench: Bench) -> Figures:
    """Run atp on the input and on much longer inputs: speed and memory should stay the same."""
    loaded = bench.load(bench.narrow)
    bench.run(loaded)
    rows: list[Figures] = []
    for factor in (1, *bench.factors):
        path = bench.write_input(f"times{factor}", factor * bench.pairs)
        run = bench.run(loaded, input=path)
        speed = factor * bench.pairs / run.seconds
        share = speed / rows[0]["pairs/s"] if rows else 1.0
        head = {"pairs": factor * bench.pairs, "pairs/s": speed, "of the first": share}
        rows.append({**head, **_figures([run])})
    return {"tables": {"": rows}}


def dtype(bench: Bench) -> Figures:
    """Compare bfloat16 with float32 on the same weights: logit differences and top features.

    Both models are on the device together, with six bytes a weight. In a trained model, rounding
    may grow differently.
    """
    pairs = bench.tokenized_pairs(min(bench.size.dtype_pairs, bench.pairs))
    dictionaries = bench.load(bench.narrow).dictionaries
    rounded_metric, rounded = _scores(bench.model, dictionaries, pairs)
    hf_model = causal_lm(bench.size, bench.device, torch.float32)
    for exact, rough in zip(hf_model.parameters(), bench.plain.parameters(), strict=True):
        exact.data.copy_(rough.data)
    metric, scores = _scores(bridged(hf_model), dictionaries, pairs)
    gap = (rounded_metric - metric).abs()
    logits = {
        "pairs": len(pairs),
        "median size of logit_diff": float(metric.abs().median()),
        "median difference": float(gap.median()),
        "largest difference": float(gap.max()),
    }
    rows = [
        {"SAE": dictionary.label, **_agreement(*tables)}
        for dictionary, *tables in zip(dictionaries, rounded, scores, strict=True)
    ]
    return {"tables": {"bfloat16 against float32": [logits], f"float32's top {TOP}": rows}}


def _scores(
    model: Model, dictionaries: Dictionaries, pairs: Sequence[TokenizedPair]
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return the logit differences, (pairs,), and for each SAE all scores, (pairs, features)."""
    scorer = Scorer(model, dictionaries, TOP)
    order: list[int] = []
    metric: list[torch.Tensor] = []
    scores: list[list[torch.Tensor]] = [[] for _ in dictionaries]
    for indices in plan([pair.contrast for pair in pairs], DTYPE_TOKENS):
        captured = scorer.capture([pairs[i] for i in indices]).captured
        order += indices
        metric.append(captured.metric.cpu())
        for dictionary, parts in zip(dictionaries, scores, strict=True):
            with dictionaries.on_device(dictionary):
                found = scorer.of_dictionary(dictionary).score(captured)
            parts.append(found.scores.scores.cpu())
    back = torch.tensor(order).argsort()
    return torch.cat(metric)[back], [torch.cat(parts)[back] for parts in scores]


def _agreement(rounded: torch.Tensor, scores: torch.Tensor) -> Figures:
    """Compare scores, (pairs, features), on the top features in float32."""
    count = min(TOP, scores.shape[1])
    top, other = (table.abs().topk(count, dim=1).indices for table in (scores, rounded))
    exact = scores.gather(1, top)
    gap = (rounded.gather(1, top) - exact).abs()
    shared = (top[:, :, None] == other[:, None, :]).any(dim=2).float().mean(dim=1)
    active = exact != 0  # with fewer active features than TOP, the list ends in zeros
    return {
        "median relative difference": float((gap / exact.abs())[active].median()),
        "largest, in shares of the pair's largest score": float(
            (gap.amax(dim=1) / exact.abs().amax(dim=1)).max()
        ),
        "mean overlap": float(shared.mean()),
        "least overlap": float(shared.min()),
    }


SECTIONS = {section.__name__: section for section in (rate, compare, wide, memory, scale, dtype)}
"""In the order in which they run: the last one leaves the least memory."""
