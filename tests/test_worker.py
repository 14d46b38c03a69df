"""A fault of one pair costs no other pair its result, and a device that is lost ends the run."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from structlog.testing import capture_logs

from atp import rating
from atp.errors import UnavailableError
from atp.model.contrast import Contrasted, Contraster
from atp.model.dictionaries import Dictionary
from atp.model.loading import Model, load_model
from atp.model.placement import Dictionaries
from atp.scoring import Reading, Scorer
from atp.worker import FAILURES_IN_A_ROW, Failed, Worker

Analysis = dict[str, Any]
SCORE_BOUND, LOGIT_BOUND = 1e-5, 1e-4  # as in test_oracle.py
MARK = tiny.tokenizer().convert_tokens_to_ids("<user>")
"""A token that no pair holds unless a test puts it there."""
UNKNOWN = tiny.VOCABULARY + 7
"""A token that the model does not have: its embedding raises IndexError."""


@pytest.fixture(scope="module", autouse=True)
def _quick_collections() -> Iterator[None]:
    """Have each search for garbage, one a failure, leave out what the libraries made so far."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def model(model_folder: Callable[[str], Path]) -> Model:
    """A tiny Llama."""
    return load_model(str(model_folder("llama")), device="cpu")


@pytest.fixture(scope="module")
def dictionaries(model: Model) -> Dictionaries:
    """Two SAEs on different layers."""
    saes = [tiny.make_sae("standard"), tiny.make_sae("topk", layer=2)]
    return Dictionaries(
        [Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {}) for sae in saes],
        model.device,
    )


@pytest.fixture
def worker(model: Model, dictionaries: Dictionaries) -> Worker:
    """A worker that lists every feature."""
    return Worker(Scorer(model, dictionaries, top_k=tiny.D_SAE))


@pytest.fixture(scope="module")
def pairs(model: Model) -> list[Contrasted]:
    """Six pairs."""
    contraster = Contraster(model, max_tokens_to_check=20, chat_template=False)
    found = [contraster(*triple) for triple in tiny.triples(2)]
    contrasted = [item for item in found if isinstance(item, Contrasted)]
    assert len(contrasted) == len(found) == 6
    assert not any(MARK in item.contrast.tokens for item in contrasted)
    return contrasted


@pytest.fixture(scope="module")
def alone(
    model: Model, dictionaries: Dictionaries, pairs: list[Contrasted]
) -> list[list[Analysis]]:
    """The analyses that each pair gets when it is the only one."""
    worker = Worker(Scorer(model, dictionaries, top_k=tiny.D_SAE))
    return [worker.analyse(worker.read([pair]))[0] for pair in pairs]


def holding(pair: Contrasted, token: int) -> Contrasted:
    """Return a pair with `token` in the middle of its prompt."""
    tokens = list(pair.contrast.tokens)
    tokens[pair.contrast.prompt_length // 2] = token
    return replace(pair, contrast=replace(pair.contrast, tokens=tuple(tokens)))


def with_at(pairs: Sequence[Contrasted], places: Sequence[int], token: int) -> list[Contrasted]:
    """Return the pairs, some of them holding `token`."""
    return [holding(pair, token) if i in places else pair for i, pair in enumerate(pairs)]


class NoMemory:
    """Runs a model out of memory in its third layer, in every pass over a token."""

    def __init__(self, model: Model, token: int) -> None:
        self.model, self.token = model, token
        self.passes = 0
        """Forward passes so far, failed ones included."""
        self.marked = False
        self.tensors: list[weakref.ref[torch.Tensor]] = []
        """What the failed passes had computed."""
        self.alive_at_start: list[int] = []
        """How much of that was still there when the next pass began."""

    @contextmanager
    def here(self) -> Iterator[NoMemory]:
        """Have the fault for as long as the context lasts."""
        hf_model = self.model.bridge.original_model
        layer = hf_model.model.layers[2]
        handles = [
            hf_model.get_input_embeddings().register_forward_pre_hook(self._on_tokens),
            layer.mlp.register_forward_hook(self._in_layer),
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    @property
    def alive(self) -> int:
        """How many tensors of failed passes are still there."""
        return sum(tensor() is not None for tensor in self.tensors)

    def _on_tokens(self, _module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        self.passes += 1
        self.alive_at_start.append(self.alive)
        self.marked = bool((inputs[0] == self.token).any())

    def _in_layer(self, _module: object, _inputs: object, output: torch.Tensor) -> None:
        if self.marked:
            self.tensors.append(weakref.ref(output))
            msg = "no memory for the third layer\nand a second line"
            raise torch.OutOfMemoryError(msg)


def done(worker: Worker, batch: Sequence[Contrasted]) -> list[list[Analysis]]:
    """Read and score a batch."""
    return worker.analyse(worker.read(batch))


def assert_same(found: Sequence[Analysis], expected: Sequence[Analysis]) -> None:
    """Compare the analyses of one pair, one for each SAE, within the oracle's bounds."""
    for one, other in zip(found, expected, strict=True):
        for name in ("target_token_id", "base_token_id", "token_position", "boundary"):
            assert one[name] == other[name]
        assert abs(one["logit_diff"] - other["logit_diff"]) <= LOGIT_BOUND
        bound = SCORE_BOUND * abs(other["top_features"][0]["score"])
        assert bound > 0
        scores, others = (
            {feature["id"]: feature["score"] for feature in analysis["top_features"]}
            for analysis in (one, other)
        )
        assert scores.keys() == others.keys()
        assert all(abs(scores[name] - others[name]) <= bound for name in scores)


def test_a_batch_without_a_fault_is_read_once(
    worker: Worker, pairs: list[Contrasted], alone: list[list[Analysis]]
) -> None:
    with capture_logs() as logs:
        (reading,) = worker.read(pairs)
        found = worker.analyse([reading])
    assert logs == []
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("place", range(6))
def test_a_pair_that_needs_too_much_memory_costs_no_other_its_result(
    worker: Worker, pairs: list[Contrasted], alone: list[list[Analysis]], place: int
) -> None:
    batch = with_at(pairs, [place], MARK)
    with NoMemory(worker.model, MARK).here():
        found = done(worker, batch)
    assert len(found) == len(batch)
    for index, analyses in enumerate(found):
        if index != place:
            assert_same(analyses, alone[index])
    assert len(found[place]) == len(worker.dictionaries)
    for analysis in found[place]:
        assert analysis.keys() == {"error", "details"}
        assert analysis["error"] == "OOM"
        details = analysis["details"]
        assert list(details) == [
            "message",
            "tokens",
            "free_bytes",
            "used_bytes",
            "peak_bytes",
            "total_bytes",
        ]
        assert details["message"] == "no memory for the third layer"
        assert details["tokens"] == len(batch[place].contrast.tokens)
        assert 0 < details["used_bytes"] <= details["peak_bytes"] <= details["total_bytes"]


def test_only_the_halves_with_the_fault_are_halved_again(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    with NoMemory(worker.model, MARK).here(), capture_logs() as logs:
        pieces = worker.read(with_at(pairs, [0], MARK))
    assert [len(piece.batch) if isinstance(piece, Reading) else "failed" for piece in pieces] == [
        "failed",
        2,
        3,
    ]
    assert [line["event"] for line in logs] == ["oom.retry"] * 2
    assert [line["pairs"] for line in logs] == [6, 3]
    assert {line["error"] for line in logs} == {"OOM"}
    assert {line["log_level"] for line in logs} == {"warning"}


def test_another_fault_is_an_error_of_its_pair_by_its_name(
    worker: Worker, pairs: list[Contrasted], alone: list[list[Analysis]]
) -> None:
    with capture_logs() as logs:
        found = done(worker, with_at(pairs, [4], UNKNOWN))
    for index, analyses in enumerate(found):
        if index != 4:
            assert_same(analyses, alone[index])
    error, other = found[4]
    assert error == other
    assert error["error"] == "IndexError"
    assert list(error["details"]) == ["message"]
    assert "out of range" in error["details"]["message"]
    assert [line["event"] for line in logs] == ["batch.retry"] * 3
    assert [line["pairs"] for line in logs] == [6, 3, 2]
    assert {line["error"] for line in logs} == {"IndexError"}


def test_a_failed_batch_is_out_of_memory_before_its_halves_are_tried(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    fault = NoMemory(worker.model, MARK)
    with fault.here():
        pieces = worker.read(with_at(pairs, [2], MARK))
        assert any(isinstance(piece, Failed) for piece in pieces)
        assert len(fault.tensors) == 4  # of six pairs, of three, of two, of the one at fault
        assert fault.alive == 0
        assert fault.alive_at_start == [0] * fault.passes


def test_scoring_that_needs_too_much_memory_is_done_in_parts_without_another_pass(
    worker: Worker,
    pairs: list[Contrasted],
    alone: list[list[Analysis]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proper, rows = rating.score, []

    def narrow(sae: Any, x: torch.Tensor, g: torch.Tensor, baseline: Any) -> Any:
        rows.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError
        return proper(sae, x, g, baseline)

    counter = NoMemory(worker.model, MARK)
    with counter.here():
        pieces = worker.read(pairs)
        passes = counter.passes
        monkeypatch.setattr(rating, "score", narrow)
        with capture_logs() as logs:
            found = worker.analyse(pieces)
        assert counter.passes == passes > 0
    assert [line["pairs"] for line in logs if line["event"] == "oom.retry"] == [6, 3, 3]
    assert max(rows) == 6
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


def test_several_readings_are_scored_apart_when_together_they_need_too_much(
    worker: Worker,
    pairs: list[Contrasted],
    alone: list[list[Analysis]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As SAEs that are lent to the device have it: all batches of a window, then their scores."""
    proper, calls = rating.score, []

    def fails_once_late(sae: Any, x: torch.Tensor, g: torch.Tensor, baseline: Any) -> Any:
        calls.append(len(x))
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return proper(sae, x, g, baseline)

    pieces = worker.read(pairs[:2]) + worker.read(pairs[2:])
    monkeypatch.setattr(rating, "score", fails_once_late)
    found = worker.analyse(pieces)
    assert calls == [2, 4, 2, 2, 4, 4]
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


def test_a_pair_that_cannot_be_scored_alone_has_an_error_for_every_sae(
    worker: Worker, pairs: list[Contrasted], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise torch.OutOfMemoryError

    pieces = worker.read(pairs)
    monkeypatch.setattr(rating, "score", none)
    for pair, analyses in zip(pairs, worker.analyse(pieces), strict=True):
        assert [analysis["error"] for analysis in analyses] == ["OOM", "OOM"]
        assert analyses[0]["details"]["message"] == ""
        assert analyses[0]["details"]["tokens"] == len(pair.contrast.tokens)


@contextmanager
def lost_device(model: Model) -> Iterator[None]:
    """Have every pass of a model fail for as long as the context lasts."""

    def fail(*_: object) -> None:
        msg = "device lost"
        raise RuntimeError(msg)

    handle = model.bridge.original_model.model.layers[1].register_forward_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def test_eight_faults_in_a_row_with_a_model_that_is_lost_end_the_run(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    with lost_device(worker.model):
        for _ in range(FAILURES_IN_A_ROW - 1):
            (failed,) = worker.read(pairs[:1])
            assert isinstance(failed, Failed)
        with pytest.raises(
            UnavailableError, match=r"8 pairs in a row failed, .* RuntimeError: dev"
        ):
            worker.read(pairs[:1])


def test_eight_faults_in_one_batch_with_a_model_that_is_lost_end_the_run(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    with lost_device(worker.model), pytest.raises(UnavailableError, match="8 pairs in a row"):
        worker.read([*pairs, *pairs])


def test_any_number_of_pairs_that_fail_by_their_own_fault_costs_no_other_its_result(
    worker: Worker, pairs: list[Contrasted], alone: list[list[Analysis]]
) -> None:
    bad = [holding(pair, UNKNOWN) for pair in [*pairs, *pairs, *pairs]]
    with capture_logs() as logs:
        found = done(worker, [*bad, pairs[3]])
    assert [analyses[0]["error"] for analyses in found[:-1]] == ["IndexError"] * len(bad)
    assert_same(found[-1], alone[3])
    probes = [line for line in logs if line["event"] == "model.probed"]
    assert len(probes) == len(bad) // FAILURES_IN_A_ROW


def test_a_success_between_faults_starts_the_count_anew(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    unknown = holding(pairs[0], UNKNOWN)
    for _ in range(2):
        for _ in range(FAILURES_IN_A_ROW - 1):
            worker.read([unknown])
        done(worker, pairs[:1])


def test_faults_with_successes_between_them_in_one_batch_end_no_run(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    every_other = range(0, 2 * FAILURES_IN_A_ROW, 2)
    batch = with_at([*pairs, *pairs, *pairs][: 2 * FAILURES_IN_A_ROW], every_other, UNKNOWN)
    kinds = [analyses[0].get("error") for analyses in done(worker, batch)]
    assert kinds == ["IndexError", None] * FAILURES_IN_A_ROW


def test_pairs_that_need_too_much_memory_never_end_the_run(
    worker: Worker, pairs: list[Contrasted]
) -> None:
    batch = [holding(pair, MARK) for pair in [*pairs, *pairs]]
    assert len(batch) > FAILURES_IN_A_ROW
    with NoMemory(worker.model, MARK).here():
        found = done(worker, batch)
    assert [analyses[0]["error"] for analyses in found] == ["OOM"] * len(batch)
