"""Fits the cost of a pair on measurements, checks it on others, and prints what a large run takes.

Usage:
  cost_model.py [--rounds=N] [--file=FILE]
  cost_model.py --help

Options:
  --rounds=N   Of each case, the shortest counts; 0 measures nothing [default: 5].
  --file=FILE  Keeps the times [default: results/cost_model.json].

Scores pairs with random models of several sizes, and with the demo's, on one core; the cases take
turns. Then it fits the constants of docs/scale.md and prints the tables there.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import demo
import numpy as np
import torch
from docopt import docopt
from layers import random_dictionary
from live_bytes import LiveBytes
from random_gemma import TINY, bridged, causal_lm
from random_questions import Questions
from scipy.optimize import nnls

from atp import load_model
from atp.attribution.batches import computed_tokens, shape_of
from atp.attribution.contrasts import Contrast
from atp.check.estimate import GPU_SHARES, TERAFLOPS
from atp.config.method import Method
from atp.dataset import reader
from atp.model.dictionaries.placement import Dictionaries
from atp.model.memory_model import Shape
from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
from atp.run.batch_runner import BatchRunner
from atp.runtime.log import configure
from atp.scoring.scorer import Scorer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from atp.model.language_model import Model

HOST = torch.device("cpu")
RESPONSE_WORDS = 30


@dataclass(frozen=True)
class Case:
    """A model, an SAE and an input whose pairs are timed."""

    layers: int
    d_model: int
    hook_layer: int
    width: int
    prompt_tokens: int
    batch_tokens: int = 2048
    held_out: bool = False  # not for the fit
    real: bool = False  # the demo's model and input

    def model(self) -> Model:
        """Return the model, of random weights in the shape of Gemma 2, or the demo's."""
        if self.real:
            return load_model(str(demo.MODEL), device="cpu")
        sizes = {
            "vocab_size": 2000,
            "hidden_size": self.d_model,
            "num_hidden_layers": self.layers,
            "intermediate_size": 3 * self.d_model,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": self.d_model // 8,
            "query_pre_attn_scalar": self.d_model // 8,
            "max_position_embeddings": 4096,
        }
        size = replace(TINY, config={**TINY.config, **sizes})
        return bridged(causal_lm(size, HOST, torch.float32))

    def pairs(self, model: Model) -> list[TokenizedPair]:
        """Return pairs of random words with prompts of about one length, or the demo's."""
        tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=self.real)
        with TemporaryDirectory() as folder:
            path = demo.INPUT
            if not self.real:
                lengths = self.prompt_tokens * 8 // 10, self.prompt_tokens
                questions = Questions(PAIRS, lengths, RESPONSE_WORDS, words=1000)
                path = questions.write(Path(folder) / "questions.json")
            found = (
                tokenizer(pair.prompt, pair.target_response, pair.base_response)
                for pair in reader.pairs(path, PAIRS)
            )
            return [pair for pair in found if isinstance(pair, TokenizedPair)]


PAIRS = 16
BASE = Case(layers=6, d_model=384, hook_layer=2, width=4096, prompt_tokens=120)
FITTED = [
    BASE,
    *(replace(BASE, d_model=each) for each in (192, 256, 768)),
    *(replace(BASE, layers=each) for each in (4, 12)),
    *(replace(BASE, hook_layer=each) for each in (0, 5)),
    *(replace(BASE, width=each) for each in (512, 32_768)),
    *(replace(BASE, prompt_tokens=each) for each in (60, 300, 700)),
    *(replace(BASE, batch_tokens=each) for each in (256, 512)),
]
HELD_OUT = [
    replace(
        BASE, layers=10, d_model=256, hook_layer=7, width=8192, prompt_tokens=200, held_out=True
    ),
    replace(BASE, layers=8, d_model=512, hook_layer=1, width=2048, prompt_tokens=90, held_out=True),
    replace(
        BASE, layers=5, d_model=640, hook_layer=3, width=16_384, prompt_tokens=450, held_out=True
    ),
    replace(
        BASE, layers=16, d_model=192, hook_layer=8, width=1024, prompt_tokens=150, held_out=True
    ),
    Case(30, 576, 20, 2048, 94, held_out=True, real=True),
    Case(30, 576, 6, 16_384, 94, held_out=True, real=True),
]

CONSTANTS = ("model", "attention", "SAE", "layer pass", "pair")


@dataclass(frozen=True)
class Work:
    """What some pairs cost, counted: FLOPs, passes through a layer, and pairs."""

    model: float  # FLOPs of the products with the layers' weights
    attention: float  # FLOPs of the products of tokens with tokens
    sae: float  # FLOPs of the products with the SAE's matrices
    layer_passes: float
    pairs: float

    @property
    def flops(self) -> float:
        """All of them."""
        return self.model + self.attention + self.sae


def work(
    shape: Shape, case: Case, pairs: Sequence[TokenizedPair], batches: Iterable[Sequence[int]]
) -> Work:
    """Count the work of batches by the formulas of docs/scale.md."""
    attention_width = shape.heads * shape.d_head
    keys_and_values = 2 * shape.d_model * shape.kv_heads * shape.d_head
    block = 2 * shape.d_model * attention_width + keys_and_values + 3 * shape.d_model * shape.d_mlp
    above = shape.layers - 1 - case.hook_layer  # layers that a gradient passes
    model = attention = passes = 0
    for batch in batches:
        contrasts = [pairs[i].contrast for i in batch]
        rows, width, tail = shape_of(contrasts)
        ahead = computed_tokens(contrasts) - rows * tail
        tails = rows * tail
        in_layers = (shape.layers - 1) * ahead + (shape.layers + above) * tails
        model += 2 * (block * in_layers + keys_and_values * ahead)
        seen = (shape.layers - 1) * ahead * (width - tail)
        seen += (shape.layers + 2 * above) * tails * width
        attention += 4 * attention_width * seen
        passes += 3 * shape.layers + 2 * above
    sae = 6 * shape.d_model * case.width * len(pairs)
    return Work(model, attention, sae, passes, len(pairs))


@dataclass
class Timed:
    """A case that is ready to run, and what is known of it."""

    case: Case

    def __post_init__(self) -> None:
        """Load the model, and count a first run's FLOPs and live bytes as torch does."""
        model = self.case.model()
        pairs = self.case.pairs(model)
        sae = random_dictionary(self.case.hook_layer, self.case.d_model, self.case.width)
        dictionaries = Dictionaries([sae], HOST)
        scorer = Scorer(model, dictionaries, 50, Method(), self.case.batch_tokens)
        self.runner = BatchRunner(scorer)
        window = self.runner.planner().plan(pairs)
        self.task = window.task(window.batches, range(len(pairs)))
        with LiveBytes() as live:
            self.runner.run(self.task)
        shape = Shape.of(model.bridge.cfg, model.dtype.itemsize, model.bridge.original_model)
        self.known = {
            "case": asdict(self.case),
            "tokens": sum(pair.contrast.read for pair in pairs) / len(pairs),
            "work": asdict(work(shape, self.case, pairs, window.batches)),
            "counted_flops": live.flops,
            "live_bytes": live.peak,
            "bytes_per_token": shape.bytes_per_token([sae.hook_name]),
            "seconds": [],
        }

    def run(self) -> None:
        """Add the time of another run."""
        began = time.perf_counter()
        self.runner.run(self.task)
        self.known["seconds"].append(time.perf_counter() - began)


def row(measured: dict[str, Any]) -> np.ndarray:
    """Return the five factors of a case's constants."""
    return np.array(list(measured["work"].values()), dtype=float)


def fitted(measured: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the constants, none negative, with the least squares of the relative errors."""
    seconds = np.array([each["seconds"] for each in measured])
    table = np.array([row(each) for each in measured]) / seconds[:, None]
    scale = np.abs(table).max(axis=0)
    constants, _ = nnls(table / scale, np.ones(len(measured)))
    return np.asarray(constants / scale)


def print_cases(measured: Sequence[dict[str, Any]], constants: np.ndarray) -> list[float]:
    """Print measured against predicted; return the relative errors."""
    print("| layers | d_model | hook | SAE | tokens | budget | ms a pair | fit | error |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    errors = []
    for each in measured:
        case, pairs = Case(**each["case"]), each["work"]["pairs"]
        seconds, predicted = each["seconds"] / pairs, row(each) @ constants / pairs
        errors.append(predicted / seconds - 1)
        print(
            f"| {case.layers} | {case.d_model} | {case.hook_layer} | {case.width:,} "
            f"| {each['tokens']:.0f} | {case.batch_tokens:,} | {1e3 * seconds:.1f} "
            f"| {1e3 * predicted:.1f} | {errors[-1]:+.0%} |"
        )
    print()
    return errors


GEMMA_2_27B = Shape(
    layers=46, heads=32, kv_heads=16, d_head=128, d_model=4608, d_mlp=36_864, element=2
)
LARGE = Case(46, 4608, 22, 131_072, 350)
TAIL = 20  # its padding included
PAIRS_OF_LARGE = 1_000_000
DOLLARS = {"A100": 1.80, "H100": 3.00}  # an hour of a card of 80 GB: assumed
DRIVER = 2000  # pairs a second


def print_large() -> None:
    """Print the time and the price of a million pairs on a 27B model."""
    contrast = Contrast(tuple(range(LARGE.prompt_tokens)), LARGE.prompt_tokens - TAIL + 1, 0, 1)
    pair = TokenizedPair(contrast, "", "", "joint")
    cost = work(GEMMA_2_27B, LARGE, [pair], [[0]])
    parts = ", ".join(
        f"{name} {value / 1e12:.3f}"
        for name, value in zip(CONSTANTS, (cost.model, cost.attention, cost.sae), strict=False)
    )
    print(f"TFLOP of a pair of {LARGE.prompt_tokens} tokens: {cost.flops / 1e12:.2f} ({parts})\n")
    print("| GPU | utilisation | pairs/s | 8 GPUs | 64 GPUs | price | GPUs for 2,000 pairs/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for gpu, dollars in DOLLARS.items():
        for share in GPU_SHARES:
            rate = share * TERAFLOPS[gpu] * 1e12 / cost.flops
            hours = PAIRS_OF_LARGE / rate / 3600
            print(
                f"| {gpu} | {share:.0%} | {rate:.1f} | {hours / 8:.1f} h | {hours / 64:.2f} h "
                f"| {hours * dollars:,.0f} USD | {DRIVER / rate:,.0f} |"
            )


def main() -> None:
    """Measure, or print the fit."""
    arguments = docopt(__doc__)
    path, rounds = Path(arguments["--file"]), int(arguments["--rounds"])
    if rounds:
        path.parent.mkdir(parents=True, exist_ok=True)
        configure(run_id="cost_model", quiet=True)
        torch.set_num_threads(1)
        cases = [Timed(case) for case in FITTED + HELD_OUT]
        for _ in range(rounds):
            for case in cases:
                case.run()
            found = [case.known for case in cases]
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    measured = json.loads(path.read_text(encoding="utf-8"))
    for each in measured:
        each["seconds"] = min(each["seconds"])
    held_out = [each for each in measured if each["case"]["held_out"]]
    rest = [each for each in measured if not each["case"]["held_out"]]
    constants = fitted(rest)
    print_cases(rest, constants)
    errors = print_cases(held_out, constants)
    print(
        f"error on runs not fitted: median {np.median(np.abs(errors)):.0%}, "
        f"largest {np.max(np.abs(errors)):.0%}\n"
    )
    for name, constant in zip(CONSTANTS, constants, strict=True):
        print(name, f"{constant:.3g} s", f"{1 / constant:.3g} FLOP/s" if constant else "")
    ratios = [each["counted_flops"] / Work(**each["work"]).flops for each in measured]
    print(f"FLOPs counted / formula: {min(ratios):.2f} to {max(ratios):.2f}")
    live = [
        each["live_bytes"] / (each["bytes_per_token"] * each["case"]["batch_tokens"])
        for each in measured
    ]
    print(f"live bytes / formula: {min(live):.2f} to {max(live):.2f}\n")
    print_large()


if __name__ == "__main__":
    main()
