"""Computes the figures of docs/method.md: trust in scores, agreement with effects, and cost.

Usage:
  method.py [trust | agreement | cost] [--rounds=N] [--limit=N] [--plot=FILE]
  method.py --help

Options:
  --rounds=N  Of each procedure, in turn [default: 5].
  --limit=N   The first N pairs only.
  --plot=FILE Of trust: the held-out scores against their effects. Needs matplotlib, which is no
              dependency of atp.

trust      How well what a result ranks by agrees with exact effects, with --exact=none and flagged,
           by threshold; and whether the bounds for unchecked features hold. On the demo, and on the
           model and SAEs that held_out.py makes. The default threshold was chosen on the questions
           of even number; those of odd number are held out.
agreement  The default: Pearson and Spearman correlation and sign agreement of scores with exact
           effects of all active features, pooled over all pairs, of the median and of the worst
           pair, for each method and baseline; completeness of integrated gradients.
cost       Seconds of scoring all pairs after loading, as multiples of plain attribution patching:
           medians of ratios, all procedures interleaved and warmed up.
"""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING, Any

import demo
import held_out
import numpy as np
import torch
from docopt import docopt
from scipy import stats

from atp import attribute, load_model, load_sae
from atp.attribution.batches import computed_tokens, plan
from atp.bench.measure import Contender, interleave, ratio
from atp.config.method import Method
from atp.model.dictionaries.placement import Dictionaries
from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
from atp.run.batch_runner import BatchRunner
from atp.run.metadata import RunTotals
from atp.runtime.log import configure
from atp.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.language_model import Model

BATCH_TOKENS = 2048
PLACES = (
    ("SmolLM2-135M-Instruct, layer 20, TopK", demo.MODEL, demo.SAE, True),
    ("SmolLM2-135M-Instruct, layer 10, JumpReLU", demo.MODEL, held_out.OTHER_SAE, True),
    ("Gemma 3 270M, layer 12, TopK", held_out.GEMMA, held_out.GEMMA_SAE, False),
)
THRESHOLDS = (np.inf, 0.3, 0.2, 0.15, 0.1)
DEFAULT = Method().exact_above
LARGEST = 4
VARIANTS: dict[str, dict[str, Any]] = {
    "atp, zero": {},
    "ig 10, zero": {"method": "ig", "ig_steps": 10},
    "ig 50, zero": {"method": "ig", "ig_steps": 50},
    "atp, mean": {"baseline": "mean"},
    "ig 10, mean": {"method": "ig", "baseline": "mean"},
    "atp, base": {"baseline": "base"},
    "ig 10, base": {"method": "ig", "baseline": "base"},
    "atp, sequence": {"sequence_tokens": 20},
}
"""Ways of scoring, compared with exact effects of the same baseline and metric."""


def pairs(limit: int | None) -> list[tuple[str, str, str, str]]:
    """Return (prompt, flagged response, base response, base prompt) of each pair of the demo."""
    content = json.loads(demo.INPUT.read_text(encoding="utf-8"))
    texts = []
    for question in content["results"]:
        base, *others = question["variations"]
        texts += [
            (other["prompt"], other["response"], base["response"], base["prompt"])
            for other in others
            if other["sycophancy_flag"] == 1
        ]
    return texts[:limit]


def trust(picture: str | None) -> None:
    """Print how well flagged removals repair the ranking, and how far the error bounds hold."""
    panels, by_length = {}, []
    how: dict[str, Any] = {"top_k": 200, "batch_tokens": BATCH_TOKENS, "progress": False}
    questions = json.loads(demo.INPUT.read_text(encoding="utf-8"))["results"]
    print("| model, SAE | questions | threshold | removed | pooled | median | worst | signs |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    bounds = []
    for name, folder, sae_folder, chat in PLACES:
        model = load_model(str(folder), device="cpu")
        sae = load_sae(str(sae_folder), device="cpu")
        lengths = sae.sae.W_dec.detach().norm(dim=1).numpy()
        of_both = []
        for half in ("even", "odd"):
            of_half = questions[half == "odd" :: 2]
            found = attribute(model, sae, of_half, exact="all", chat_template=chat, **how)
            effects = [_numbers(analysis) for analysis in _scored(found)]
            for threshold in THRESHOLDS if half == "even" else (np.inf, DEFAULT):
                print(f"| {name} | {half} | {_ranking(effects, threshold)} |", flush=True)
            of_both += effects
        by_length.append(f"| {name} | {_largest(of_both, lengths)} |")
        panels[name] = np.concatenate(effects, axis=1)
        # The bounds are those of a run over all pairs; they are tried on the held-out ones.
        flagged = _scored(
            attribute(model, sae, questions, exact="flagged", chat_template=chat, **how)
        )
        totals = RunTotals.of_run(sharded=False)
        for analysis in flagged:
            totals.add(analysis)
        held_out_pairs = _scored(
            attribute(model, sae, of_half, exact="flagged", chat_template=chat, **how)
        )
        bounds.append(f"| {name} | {_coverage(effects, held_out_pairs, totals)} |")
    print("\n| model, SAE | samples | bound | holds for | by size, q | holds for |")
    print("| --- | --- | --- | --- | --- | --- |")
    print("\n".join(bounds))
    print(f"\n| the {LARGEST} largest steps removed | plain, pooled | worst | weighted | worst |")
    print("| --- | --- | --- | --- | --- |")
    print("\n".join(by_length))
    if picture is not None:
        plot(panels, picture)


def plot(panels: dict[str, np.ndarray[Any, Any]], path: str) -> None:
    """Draw scores against effects, coloured by relative size."""
    from matplotlib import pyplot as plt  # noqa: PLC0415  (no dependency of atp)

    figure, axes = plt.subplots(1, len(panels), figsize=(12, 4.4), layout="constrained")
    for axis, (name, (size, score, effect, *_)) in zip(axes, panels.items(), strict=True):
        order = np.argsort(size)  # the large ones on top
        points = axis.scatter(
            effect[order], score[order], c=size[order], s=9, cmap="viridis", vmin=0, vmax=0.3
        )
        axis.axline((0, 0), slope=1, color="0.6", linewidth=0.8, zorder=0)
        axis.set(title=name.replace(", ", "\n", 1), xlabel="effect of removal, logits")
        axis.set_xscale("symlog", linthresh=0.01)
        axis.set_yscale("symlog", linthresh=0.01)
    axes[0].set_ylabel("score, logits")
    figure.colorbar(points, ax=axes, label="relative size", extend="max")
    figure.savefig(path, dpi=110)


def _largest(of_pairs: Sequence[np.ndarray[Any, Any]], lengths: np.ndarray[Any, Any]) -> str:
    """Return the agreement where the LARGEST steps of each pair are removed, by either length."""
    cells = []
    for weighted in (False, True):
        best, effects = [], []
        for size, score, effect, ids, activation in of_pairs:
            step = size if weighted else np.abs(activation) * lengths[ids.astype(int)]
            best.append(np.where(step >= np.sort(step)[-LARGEST], effect, score))
            effects.append(effect)
        worst = min(np.corrcoef(*both)[0, 1] for both in zip(best, effects, strict=True))
        pooled = np.corrcoef(np.concatenate(best), np.concatenate(effects))[0, 1]
        cells.append(f"{pooled:.3f} | {worst:.3f}")
    return " | ".join(cells)


def _scored(analyses: Iterable[Analysis]) -> list[Analysis]:
    return [analysis for analysis in analyses if "top_features" in analysis]


def _numbers(analysis: Analysis) -> np.ndarray[Any, Any]:
    """Return size, score, effect, id and activation of each active feature, (5, feature)."""
    names = ("relative_size", "score", "effect", "id", "activation")
    rows = [
        [float(feature[name]) for name in names]
        for feature in analysis["top_features"]
        if feature["activation"]
    ]
    return np.array(rows).T


def _ranking(of_pairs: Sequence[np.ndarray[Any, Any]], threshold: float) -> str:
    """Return the cells of a row of the table: agreement of what the result ranks by."""
    best = [np.where(size > threshold, effect, score) for size, score, effect, *_ in of_pairs]
    effects = [effect for _, _, effect, *_ in of_pairs]
    removed = np.mean([(size > threshold).sum() for size, *_ in of_pairs])
    by_pair = [np.corrcoef(*both)[0, 1] for both in zip(best, effects, strict=True)]
    one, other = np.concatenate(best), np.concatenate(effects)
    signs = np.mean(np.sign(one) == np.sign(other))
    label = "none" if np.isinf(threshold) else f"{threshold:g}"
    return (
        f"{label} | {removed:.1f} | {np.corrcoef(one, other)[0, 1]:.3f} | {median(by_pair):.3f} | "
        f"{min(by_pair):.3f} | {signs:.3f}"
    )


def _coverage(
    of_pairs: Sequence[np.ndarray[Any, Any]], flagged: Sequence[Analysis], totals: RunTotals
) -> str:
    """Return the stated bounds, and for how many of the features that no run has checked."""
    unchecked = totals.as_json()["exact"]["unchecked"]
    within = []
    for (size, score, effect, ids, _), analysis in zip(of_pairs, flagged, strict=True):
        exact = analysis["diagnostics"]["exact"]
        left = (size <= DEFAULT) & (ids != int(exact.get("sample", {"id": -1})["id"]))
        error = np.abs(effect - score)[left]
        by_size = unchecked["error_by_size"] * size[left] ** 2 * exact["error_scale"]
        within += [*zip(error <= unchecked["error"], error <= by_size, strict=True)]
    flat, sized = np.mean(within, axis=0)
    return (
        f"{unchecked['samples']} | {unchecked['error']:.3g} | {flat:.1%} | "
        f"{unchecked['error_by_size']:.3g} | {sized:.1%}"
    )


def agreement(model: Model, sae: Dictionary, limit: int | None) -> None:
    """Print how each way of scoring agrees with exact effects."""
    texts = pairs(limit)
    print("| scores | features | Pearson, pooled | median | worst | signs | Spearman | gap |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, how in VARIANTS.items():
        analyses = attribute(
            model,
            sae,
            [text[:3] for text in texts],
            base_prompts=[text[3] for text in texts],
            exact="all",
            chat_template=True,
            top_k=100,
            batch_tokens=BATCH_TOKENS,
            **how,
        )
        scored = [analysis for analysis in analyses if "top_features" in analysis]
        rows = [
            (feature["score"], feature["effect"])
            for analysis in scored
            for feature in analysis["top_features"]
            if feature["score"] or feature["effect"]
        ]
        s, e = np.array(rows).T
        diagnostics = [analysis["diagnostics"] for analysis in scored]
        exact = [item["exact"] for item in diagnostics]
        by_pair = [item["pearson"] for item in exact if item["pearson"] is not None]
        gaps = [item.get("path", {}).get("completeness_gap") for item in diagnostics]
        gap = "" if None in gaps else f"{median(gaps):.1%}"
        print(
            f"| {name} | {len(rows)} | {stats.pearsonr(s, e)[0]:.3f} | {median(by_pair):.3f} | "
            f"{min(by_pair):.3f} | {np.mean(np.sign(s) == np.sign(e)):.3f} | "
            f"{stats.spearmanr(s, e)[0]:.3f} | {gap} |",
            flush=True,
        )
        if name == "atp, zero":
            floor = max(item["noise_floor"] for item in exact)
            largest = median(
                max(abs(feature["effect"]) for feature in analysis["top_features"])
                for analysis in scored
            )
            joint = np.array([(item["joint_score"], item["joint_effect"]) for item in exact]).T
            total = stats.pearsonr(*joint)[0]
            note = f"noise floor at most {floor:.1e}, median largest effect {largest:.3f}; "
            note += f"sum of scores against joint effect: Pearson {total:.3f}"
    print(f"\n{len(scored)} scored pairs; {note}")


def cost(model: Model, sae: Dictionary, rounds: int, limit: int | None) -> None:
    """Print the cost of each way of scoring, as multiples of plain attribution patching."""
    dictionaries = Dictionaries([sae], model.device)
    ways: dict[str, tuple[Method, int | None]] = {
        "atp": (Method(), None),
        "atp, --exact=flagged": (Method(exact="flagged"), None),
        "atp, --exact=all": (Method(exact="all"), None),
        "atp, --prompt-activations": (Method(prompt_activations=True), None),
        "atp, --baseline=base": (Method(baseline="base"), None),
        "atp, --baseline=mean": (Method(baseline="mean"), None),
        "ig, 10 steps": (Method("ig"), None),
        "atp, --position=tail": (Method(position="tail"), None),
        "atp, --position=all": (Method(position="all"), None),
        "atp, --metric=sequence": (Method(), 20),
    }
    contenders = []
    for name, (method, sequence) in ways.items():
        pair_tokenizer = PairTokenizer(
            model, max_tokens_to_check=20, chat_template=True, sequence_tokens=sequence
        )
        items = [
            pair_tokenizer.with_base_prompt(pair_tokenizer(*text[:3]), text[3])
            for text in pairs(limit)
        ]
        items = [item for item in items if isinstance(item, TokenizedPair)]
        scorer = Scorer(model, dictionaries, 50, method, BATCH_TOKENS)

        def run(scorer: Scorer = scorer, items: Sequence[TokenizedPair] = items) -> None:
            base_prompts = [item.base_prompt for item in items if item.base_prompt is not None]
            if scorer.method.baseline == "mean":
                scorer.take_means(dict.fromkeys(base_prompts))
            runner = BatchRunner(scorer)
            planned = runner.planner().plan(items)
            for batch in planned.batches:
                runner.run(planned.task([batch], items))

        contenders.append(Contender(name, run, run))
    interleave(contenders, rounds, model.device)
    print("| way | seconds, median | of plain attribution patching |")
    print("| --- | --- | --- |")
    for contender in contenders:
        print(
            f"| {contender.name} | {contender.median:.2f} | {ratio(contender, contenders[0]):.2f} |"
        )
    print(f"\n{rounds} rounds, {torch.get_num_threads()} threads")
    print(work(model, sae, limit))


def work(model: Model, sae: Dictionary, limit: int | None) -> str:
    """Describe the work of passes and of exact effects, in tokens times layers."""
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=True)
    items = [pair_tokenizer(*text[:3]) for text in pairs(limit)]
    contrasts = [item.contrast for item in items if isinstance(item, TokenizedPair)]
    layers = int(model.bridge.cfg.n_layers)
    above = layers - model.layers_before(sae.hook_name)
    batches = [[contrasts[i] for i in indices] for indices in plan(contrasts, BATCH_TOKENS)]
    passes = layers * sum(map(computed_tokens, batches))
    gradient = above * sum(len(batch) * max(item.offset for item in batch) for batch in batches)
    removals = int(sae.sae.cfg.k) + 1  # each active feature, and all together
    exact = above * removals * sum(item.offset for item in contrasts)
    return (
        f"tokens x layers: forward {passes:,}, backward {gradient:,}; exact effects {exact:,}, "
        f"{exact / (passes + gradient):.2f} of both"
    )


def main() -> None:
    """Print the figures."""
    arguments = docopt(__doc__)
    configure(run_id="method")
    limit = int(arguments["--limit"]) if arguments["--limit"] else None
    if arguments["trust"]:
        trust(arguments["--plot"])
        return
    model = load_model(str(demo.MODEL), device="cpu")
    sae = load_sae(str(demo.SAE), device="cpu")
    if arguments["cost"]:
        cost(model, sae, int(arguments["--rounds"]), limit)
    else:
        agreement(model, sae, limit)


if __name__ == "__main__":
    main()
