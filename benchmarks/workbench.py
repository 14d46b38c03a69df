"""The model, input, SAEs and timed runs of atp that all sections of gemma2_9b.py use."""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import orjson
import torch
from random_gemma import NAME, Size, bridged, causal_lm, move_to_host, plain_copy, random_saes
from random_questions import Questions

from atp.config.settings import Settings
from atp.dataset import reader
from atp.dataset.input_scan import scan_input
from atp.errors import ExitCode
from atp.model.device_memory import figures, reset_peak
from atp.model.dictionaries.placement import Dictionaries
from atp.model.pair_tokenizer import PairTokenizer
from atp.run.command import score
from atp.run.engine.in_process import InProcess
from atp.run.setup import Loaded
from atp.runtime.signals import StopRequest
from atp.scoring.preflight import check_dictionaries

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from atp.dataset.journal import Analysis
    from atp.model.dictionaries.loading import Dictionary
    from atp.model.pair_tokenizer import TokenizedPair

UNMEASURED = "unmeasured"
HOST = torch.device("cpu")
PRODUCTS = 30
SAMPLE = 8
"""Pairs that set the thresholds of the SAEs."""


@dataclass(frozen=True)
class Run:
    """One run of atp after loading."""

    seconds: float
    device_peak: Any
    """Bytes; "unmeasured" on a CPU."""
    host_peak: Any
    complete: bool
    """Every pair has a result."""
    analyses: list[list[Analysis]]
    """Of each SAE, in input order; empty unless requested."""


@dataclass
class Bench:
    """The model on the device, its input, and the narrow SAEs."""

    size: Size
    device: torch.device
    rounds: int
    pairs: int
    notebook_pairs: int
    factors: tuple[int, ...]
    """Lengths of the inputs of the section `scale`, as multiples of the input."""
    folder: Path

    def __post_init__(self) -> None:
        hf_model = causal_lm(self.size, self.device, torch.bfloat16)
        self.plain = plain_copy(hf_model)
        self.model = bridged(hf_model)
        path = self.write_input("input", self.pairs)
        self.settings = Settings(input=path, out=self.folder, model=NAME, rounds=self.rounds)
        self.pair_tokenizer = PairTokenizer(
            self.model, max_tokens_to_check=self.settings.max_tokens_to_check, chat_template=False
        )
        self.narrow = self.make_saes(self.size.narrow)

    @cached_property
    def rate(self) -> float:
        """The device's rate in FLOP/s, from the median time of a product of bfloat16 matrices."""
        n = self.size.matrix
        matrix = torch.randn(n, n, device=self.device, dtype=torch.bfloat16)
        seconds = []
        for _ in range(2 * PRODUCTS):
            self._wait()
            began = time.perf_counter()
            torch.mm(matrix, matrix)
            self._wait()
            seconds.append(time.perf_counter() - began)
        return 2 * n**3 / median(seconds[PRODUCTS:])  # the first half warms up

    @cached_property
    def weights(self) -> int:
        """The number of the model's parameters without the embedding."""
        return sum(
            parameter.numel()
            for name, parameter in self.plain.named_parameters()
            if "embed_tokens" not in name
        )

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def write_input(
        self, name: str, pairs: int, prompt_tokens: tuple[int, int] | None = None
    ) -> Path:
        """Write an input file of `pairs` pairs."""
        questions = Questions(
            pairs,
            prompt_tokens or self.size.prompt_tokens,
            self.size.response_words,
            words=self.size.config["vocab_size"] // 2,
        )
        return questions.write(self.folder / f"{name}.json")

    def tokenized_pairs(self, limit: int) -> list[TokenizedPair]:
        """Return the first pairs of the input as token ids."""
        return [
            self.pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
            for pair in reader.pairs(self.settings.input, limit)
        ]

    def make_saes(self, width: int) -> list[Dictionary]:
        """Return an SAE for each layer, in the host's memory."""
        sample = [pair.contrast for pair in self.tokenized_pairs(SAMPLE)]
        return random_saes(self.model, self.size, width, sample)

    def free(self) -> None:
        """Release the memory of earlier sections, the notebook's gradients included."""
        self.plain.zero_grad()
        self.model.free_memory()

    def load(self, saes: Sequence[Dictionary], *, offload: bool | None = None) -> Loaded:
        """Place SAEs beside the model, and check them, as `atp run` does."""
        for dictionary in saes:
            move_to_host(dictionary.sae)
        self.free()
        dictionaries = Dictionaries(saes, self.device, offload=offload)
        check_dictionaries(self.model, dictionaries)
        return Loaded(self.model, dictionaries, self.pair_tokenizer)

    def run(self, loaded: Loaded, *, analyses: bool = False, **changes: Any) -> Run:  # noqa: ANN401
        """Run atp once with changed settings, from the input file to the result files."""
        gc.collect()
        with TemporaryDirectory(dir=self.folder) as out:
            settings = replace(self.settings, out=self.folder / out, **changes)
            device_known, host_known = reset_peak(self.device), reset_peak(HOST)
            began = time.perf_counter()
            scan = scan_input(settings.input)
            engine = InProcess(loaded, settings, scan)
            code, paths = score(settings, scan, engine, StopRequest())
            seconds = time.perf_counter() - began
            device_known &= self.device.type != "cpu"
            return Run(
                seconds,
                figures(self.device)["peak_bytes"] if device_known else UNMEASURED,
                figures(HOST)["peak_bytes"] if host_known else UNMEASURED,
                complete=code == ExitCode.OK,
                analyses=[_analyses(path) for path in paths] if analyses else [],
            )


def _analyses(path: Path) -> list[Analysis]:
    return [
        variation["atp_analysis"]
        for question in orjson.loads(path.read_bytes())["results"]
        for variation in question["variations"]
        if "atp_analysis" in variation
    ]


@contextmanager
def small_card(device: torch.device, size: int) -> Iterator[int | None]:
    """Leave a GPU no more memory than a smaller card has, while the context lasts.

    The rest is allocated, not forbidden by `set_per_process_memory_fraction`: atp asks the driver
    for the free memory when it chooses its budget and whether to offload SAEs.

    Yields:
        The allocated bytes, which torch counts as in use; None without a GPU.
    """
    if device.type != "cuda":
        yield None
        return
    torch.cuda.empty_cache()
    _, total = torch.cuda.mem_get_info(device)
    taken = torch.empty(max(0, total - size), dtype=torch.uint8, device=device)
    try:
        yield taken.nbytes
    finally:
        del taken
        gc.collect()
        torch.cuda.empty_cache()
