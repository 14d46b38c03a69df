"""A fault of one pair costs no other pair its result, and a device that is lost ends the run."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import tiny
import torch
from structlog.testing import capture_logs
from tiers import first_tier

from atp.config.method import Method
from atp.errors import UnavailableError
from atp.model.dictionaries.loading import Dictionary
from atp.model.dictionaries.placement import Dictionaries
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
from atp.run.batch_runner import FAILURES_IN_A_ROW, BatchRunner, FailedPair
from atp.scoring import dictionary_scorer
from atp.scoring.preflight import check_dictionaries
from atp.scoring.scorer import CapturedBatch, Scorer

Analysis = dict[str, Any]
SCORE_BOUND, LOGIT_BOUND = 1e-5, 1e-4  # as in test_oracle.py
MARK = tiny.tokenizer().convert_tokens_to_ids("<user>")
"""A token that no pair holds unless a test puts it there."""
UNKNOWN = tiny.VOCABULARY + 7
"""A token that the model does not have: its embedding raises IndexError."""


@pytest.fixture(scope="module")
def model(loaded: Callable[[str], Model]) -> Model:
    """A tiny Llama."""
    return loaded("llama")


@pytest.fixture(scope="module")
def dictionaries(model: Model) -> Dictionaries:
    """Two SAEs on different layers."""
    saes = [tiny.make_sae("standard"), tiny.make_sae("topk", layer=2)]
    return Dictionaries(
        [Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {}) for sae in saes],
        model.device,
    )


@pytest.fixture
def runner(model: Model, dictionaries: Dictionaries) -> BatchRunner:
    """A runner that lists every feature."""
    return BatchRunner(Scorer(model, dictionaries, top_k=tiny.D_SAE))


@pytest.fixture(scope="module")
def pairs(model: Model) -> list[TokenizedPair]:
    """Six pairs."""
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    found = [pair_tokenizer(*triple) for triple in tiny.triples(2)]
    contrasted = [item for item in found if isinstance(item, TokenizedPair)]
    assert len(contrasted) == len(found) == 6
    assert not any(MARK in item.contrast.tokens for item in contrasted)
    return contrasted


@pytest.fixture(scope="module")
def alone(
    model: Model, dictionaries: Dictionaries, pairs: list[TokenizedPair]
) -> list[list[Analysis]]:
    """The analyses that each pair gets when it is the only one."""
    runner = BatchRunner(Scorer(model, dictionaries, top_k=tiny.D_SAE))
    return [runner.score(runner.capture([pair]))[0] for pair in pairs]


def holding(pair: TokenizedPair, token: int) -> TokenizedPair:
    """Return a pair with `token` in the middle of its prompt."""
    tokens = list(pair.contrast.tokens)
    tokens[pair.contrast.prompt_length // 2] = token
    return replace(pair, contrast=replace(pair.contrast, tokens=tuple(tokens)))


def with_at(
    pairs: Sequence[TokenizedPair], places: Sequence[int], token: int
) -> list[TokenizedPair]:
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


def done(runner: BatchRunner, batch: Sequence[TokenizedPair]) -> list[list[Analysis]]:
    """Read and score a batch."""
    return runner.score(runner.capture(batch))


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
    runner: BatchRunner, pairs: list[TokenizedPair], alone: list[list[Analysis]]
) -> None:
    with capture_logs() as logs:
        (reading,) = runner.capture(pairs)
        found = runner.score([reading])
    assert logs == []
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("place", range(6))
def test_a_pair_that_needs_too_much_memory_costs_no_other_its_result(
    runner: BatchRunner, pairs: list[TokenizedPair], alone: list[list[Analysis]], place: int
) -> None:
    batch = with_at(pairs, [place], MARK)
    with NoMemory(runner.scorer.model, MARK).here():
        found = done(runner, batch)
    assert len(found) == len(batch)
    for index, analyses in enumerate(found):
        if index != place:
            assert_same(analyses, alone[index])
    assert len(found[place]) == len(runner.scorer.dictionaries)
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
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    with NoMemory(runner.scorer.model, MARK).here(), capture_logs() as logs:
        pieces = runner.capture(with_at(pairs, [0], MARK))
    assert [
        len(piece.pairs) if isinstance(piece, CapturedBatch) else "failed" for piece in pieces
    ] == [
        "failed",
        2,
        3,
    ]
    assert [line["event"] for line in logs] == ["oom.retry"] * 2
    assert [line["pairs"] for line in logs] == [6, 3]
    assert {line["error"] for line in logs} == {"OOM"}
    assert {line["log_level"] for line in logs} == {"warning"}


def test_another_fault_is_an_error_of_its_pair_by_its_name(
    runner: BatchRunner, pairs: list[TokenizedPair], alone: list[list[Analysis]]
) -> None:
    with capture_logs() as logs:
        found = done(runner, with_at(pairs, [4], UNKNOWN))
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
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    fault = NoMemory(runner.scorer.model, MARK)
    with fault.here():
        pieces = runner.capture(with_at(pairs, [2], MARK))
        assert any(isinstance(piece, FailedPair) for piece in pieces)
        assert len(fault.tensors) == 4  # of six pairs, of three, of two, of the one at fault
        assert fault.alive == 0
        assert fault.alive_at_start == [0] * fault.passes


def test_scoring_that_needs_too_much_memory_is_done_in_parts_without_another_pass(
    runner: BatchRunner,
    pairs: list[TokenizedPair],
    alone: list[list[Analysis]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proper, rows = dictionary_scorer.score, []

    def narrow(sae: Any, x: torch.Tensor, *others: Any, **more: Any) -> Any:
        rows.append(len(x))
        if len(x) > 2:
            raise torch.OutOfMemoryError
        return proper(sae, x, *others, **more)

    counter = NoMemory(runner.scorer.model, MARK)
    with counter.here():
        pieces = runner.capture(pairs)
        passes = counter.passes
        monkeypatch.setattr(dictionary_scorer, "score", narrow)
        with capture_logs() as logs:
            found = runner.score(pieces)
        assert counter.passes == passes > 0
    assert [line["pairs"] for line in logs if line["event"] == "oom.retry"] == [6, 3, 3]
    assert max(rows) == 6
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


def test_several_readings_are_scored_apart_when_together_they_need_too_much(
    runner: BatchRunner,
    pairs: list[TokenizedPair],
    alone: list[list[Analysis]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As SAEs that are lent to the device have it: all batches of a window, then their scores."""
    proper, calls = dictionary_scorer.score, []

    def fails_once_late(sae: Any, x: torch.Tensor, *others: Any, **more: Any) -> Any:
        calls.append(len(x))
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return proper(sae, x, *others, **more)

    pieces = runner.capture(pairs[:2]) + runner.capture(pairs[2:])
    monkeypatch.setattr(dictionary_scorer, "score", fails_once_late)
    found = runner.score(pieces)
    assert calls == [2, 4, 2, 2, 4, 4]
    for one, other in zip(found, alone, strict=True):
        assert_same(one, other)


def test_a_pair_that_cannot_be_scored_alone_has_an_error_for_every_sae(
    runner: BatchRunner, pairs: list[TokenizedPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    pieces = runner.capture(pairs)
    monkeypatch.setattr(dictionary_scorer, "score", none)
    for pair, analyses in zip(pairs, runner.score(pieces), strict=True):
        assert [analysis["error"] for analysis in analyses] == ["OOM", "OOM"]
        assert analyses[0]["details"]["message"] == ""
        assert analyses[0]["details"]["tokens"] == len(pair.contrast.tokens)


@contextmanager
def lost_device(model: Model) -> Iterator[None]:
    """Have every pass of a model fail, and its memory not be freed, while the context lasts."""

    def fail(*_: object) -> None:
        msg = "device lost"
        raise RuntimeError(msg)

    handle = model.bridge.original_model.model.layers[1].register_forward_hook(fail)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(model), "release_memory", fail)
            yield
    finally:
        handle.remove()


def test_eight_faults_in_a_row_with_a_model_that_is_lost_end_the_run(
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    with lost_device(runner.scorer.model):
        for _ in range(FAILURES_IN_A_ROW - 1):
            (failed,) = runner.capture(pairs[:1])
            assert isinstance(failed, FailedPair)
        with pytest.raises(
            UnavailableError, match=r"8 pairs in a row failed, .* RuntimeError: dev"
        ):
            runner.capture(pairs[:1])


def test_eight_faults_in_one_batch_with_a_model_that_is_lost_end_the_run(
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    with (
        lost_device(runner.scorer.model),
        pytest.raises(UnavailableError, match="8 pairs in a row"),
    ):
        runner.capture([*pairs, *pairs])


def test_any_number_of_pairs_that_fail_by_their_own_fault_costs_no_other_its_result(
    runner: BatchRunner, pairs: list[TokenizedPair], alone: list[list[Analysis]]
) -> None:
    bad = [holding(pair, UNKNOWN) for pair in [*pairs, *pairs, *pairs]]
    with capture_logs() as logs:
        found = done(runner, [*bad, pairs[3]])
    assert [analyses[0]["error"] for analyses in found[:-1]] == ["IndexError"] * len(bad)
    assert_same(found[-1], alone[3])
    probes = [line for line in logs if line["event"] == "model.probed"]
    assert len(probes) == len(bad) // FAILURES_IN_A_ROW


def test_a_success_between_faults_starts_the_count_anew(
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    unknown = holding(pairs[0], UNKNOWN)
    for _ in range(2):
        for _ in range(FAILURES_IN_A_ROW - 1):
            runner.capture([unknown])
        done(runner, pairs[:1])


def test_faults_with_successes_between_them_in_one_batch_end_no_run(
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    every_other = range(0, 2 * FAILURES_IN_A_ROW, 2)
    batch = with_at([*pairs, *pairs, *pairs][: 2 * FAILURES_IN_A_ROW], every_other, UNKNOWN)
    kinds = [analyses[0].get("error") for analyses in done(runner, batch)]
    assert kinds == ["IndexError", None] * FAILURES_IN_A_ROW


def test_pairs_that_need_too_much_memory_never_end_the_run(
    runner: BatchRunner, pairs: list[TokenizedPair]
) -> None:
    batch = [holding(pair, MARK) for pair in [*pairs, *pairs]]
    assert len(batch) > FAILURES_IN_A_ROW
    with NoMemory(runner.scorer.model, MARK).here():
        found = done(runner, batch)
    assert [analyses[0]["error"] for analyses in found] == ["OOM"] * len(batch)


# --- passes that are gone through again, and base prompts


class InReplay:
    """Does something to the fourth layer's output of the rows with a token that are run again.

    In a replay the first layers hand on what they are given; the embedding still sees the tokens.
    """

    def __init__(self, model: Model, act: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.model, self.act = model, act
        self.marked = torch.zeros(0, dtype=torch.bool)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Have it happen for as long as the context lasts."""
        hf_model = self.model.bridge.original_model
        handles = [
            hf_model.get_input_embeddings().register_forward_pre_hook(self._on_tokens),
            hf_model.model.layers[3].mlp.register_forward_hook(self._in_layer),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _on_tokens(self, _module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        replaying = "forward" in vars(self.model.bridge.blocks[0])
        self.marked = (inputs[0] == MARK).any(dim=1) & replaying

    def _in_layer(
        self, _module: object, _inputs: object, output: torch.Tensor
    ) -> torch.Tensor | None:
        if not self.marked.any():
            return None
        return output.index_put((self.marked,), self.act(output[self.marked]))


def out_of_memory(_output: torch.Tensor) -> torch.Tensor:
    """Be a device without memory."""
    raise torch.OutOfMemoryError


def with_last(pair: TokenizedPair, token: int, *, of_base: bool = False) -> TokenizedPair:
    """Return a pair whose prompt, or base prompt, ends with a token."""
    if of_base:
        assert pair.base_prompt is not None
        return replace(pair, base_prompt=(*pair.base_prompt, token))
    tokens, last = list(pair.contrast.tokens), pair.contrast.prompt_length - 1
    tokens[last] = token
    return replace(pair, contrast=replace(pair.contrast, tokens=tuple(tokens)))


REPLAYS = {
    "exact": Method(exact="all"),
    "flagged": Method(exact="flagged", exact_above=0.3),
    "ig": Method(name="ig", ig_steps=3),
    "tail": Method(exact="all", position="tail"),
    "ig from base": Method(name="ig", ig_steps=3, baseline="base"),
}


def runner_of(
    model: Model, dictionaries: Dictionaries, method: Method, pairs: Sequence[TokenizedPair]
) -> BatchRunner:
    """Return a runner that knows the base prompts of these pairs."""
    runner = BatchRunner(Scorer(model, dictionaries, 8, method))
    planned = runner.planner().plan(pairs)
    runner.scorer.base_prompts.expect(planned.number, planned.base_batches.values())
    return runner


@pytest.fixture(scope="module")
def neutral(pairs: list[TokenizedPair]) -> list[TokenizedPair]:
    """The pairs, each with a base prompt of its own."""
    return [
        replace(pair, base_prompt=pair.contrast.tokens[: pair.contrast.prompt_length - n])
        for n, pair in enumerate(pairs, start=1)
    ]


def assert_close(found: Sequence[Analysis], expected: Sequence[Analysis]) -> None:
    """Compare the analyses of one pair, computed in other batches."""
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for a, b in zip(one["top_features"], other["top_features"], strict=True):
            assert a.keys() == b.keys()
            for name in {"score", "effect", "base_activation"} & a.keys():
                assert a[name] == pytest.approx(b[name], abs=1e-4, rel=1e-3)


@pytest.mark.parametrize("way", REPLAYS)
@pytest.mark.parametrize(
    ("act", "error"),
    [(out_of_memory, "OOM"), (lambda output: output * float("nan"), "Not finite")],
    ids=["memory", "NaN"],
)
def test_a_fault_of_a_pair_that_is_gone_through_again_is_its_own(  # noqa: PLR0913, PLR0917  (fixtures)
    model: Model,
    dictionaries: Dictionaries,
    neutral: list[TokenizedPair],
    way: str,
    act: Callable[[torch.Tensor], torch.Tensor],
    error: str,
) -> None:
    batch = [with_last(pair, MARK) if i == 3 else pair for i, pair in enumerate(neutral)]
    runner = runner_of(model, dictionaries, REPLAYS[way], batch)
    expected = done(runner, batch)
    assert all("top_features" in each for of_pair in expected for each in of_pair)
    with InReplay(model, act).here():
        found = done(runner, batch)
    for index, analyses in enumerate(found):
        if index != 3:
            assert_close(analyses, expected[index])
    assert [analysis["error"] for analysis in found[3]] == [error] * 2
    if error == "OOM":
        assert found[3][0]["details"]["tokens"] == batch[3].contrast.read
    else:
        assert found[3][0]["details"]["where"]


@pytest.mark.parametrize(
    "method", [Method(baseline="base"), Method(prompt_activations=True), Method(baseline="mean")]
)
@pytest.mark.parametrize("fault", [MARK, UNKNOWN], ids=["memory", "other"])
def test_a_base_prompt_that_cannot_be_run_costs_no_other_pair_its_result(
    model: Model,
    dictionaries: Dictionaries,
    neutral: list[TokenizedPair],
    method: Method,
    fault: int,
) -> None:
    """All base prompts are one batch, so that each pair asks for the one at fault first."""
    batch = [
        with_last(pair, fault, of_base=True) if i == 2 else pair for i, pair in enumerate(neutral)
    ]
    means = [torch.zeros(tiny.D_SAE)] * 2
    runner = runner_of(model, dictionaries, method, batch)
    runner.scorer.means = means
    good = runner_of(model, dictionaries, method, neutral)
    good.scorer.means = means
    expected = done(good, neutral)
    with NoMemory(model, MARK).here():
        found = done(runner, batch)
    for index, analyses in enumerate(found):
        if index != 2:
            assert_close(analyses, expected[index])
    kind = "OOM" if fault == MARK else "IndexError"
    assert [analysis["error"] for analysis in found[2]] == [kind] * 2


@contextmanager
def spoilt(model: Model) -> Iterator[None]:
    """Have a token's embedding be no number for as long as the context lasts."""

    def spoil(_module: object, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> Any:
        return output.masked_fill((inputs[0] == MARK)[..., None], float("nan"))

    handle = model.bridge.original_model.get_input_embeddings().register_forward_hook(spoil)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.parametrize("method", [Method(baseline="base"), Method(prompt_activations=True)])
def test_a_base_prompt_that_gives_no_number_is_an_error_of_its_pair(
    model: Model, dictionaries: Dictionaries, neutral: list[TokenizedPair], method: Method
) -> None:
    batch = [
        with_last(pair, MARK, of_base=True) if i == 2 else pair for i, pair in enumerate(neutral)
    ]
    runner = runner_of(model, dictionaries, method, batch)
    with spoilt(model):
        found = done(runner, batch)
    errors = [analyses[0].get("error") for analyses in found]
    assert errors == [None, None, "Not finite", None, None, None]
    assert found[2][0]["details"]["where"]
    prompts = [each.base_prompt for each in batch if each.base_prompt]
    with spoilt(model), pytest.raises(UnavailableError, match="not finite"):
        runner.scorer.take_means(prompts)


LENT = [*REPLAYS.values(), Method(baseline="base", exact="all")]


@pytest.mark.parametrize("method", first_tier([LENT[0], LENT[-1]], LENT))
def test_lent_saes_on_several_hook_points_give_the_numbers_of_each_alone(
    model: Model, neutral: list[TokenizedPair], method: Method
) -> None:
    def made() -> list[Dictionary]:
        found = []
        for hook in ("1.hook_resid_post", "3.hook_mlp_out", "0.attn.hook_z", "3.hook_resid_post"):
            sae = tiny.make_sae("standard", seed=len(found))
            sae.cfg.metadata.hook_name = name = f"blocks.{hook}"
            if hook.endswith("hook_z"):  # one that joins the heads itself
                config = {**sae.cfg.to_dict(), "reshape_activations": "hook_z"}
                joins = type(sae).from_dict(config)
                joins.load_state_dict(sae.state_dict())
                sae = joins
            found.append(Dictionary("memory", hook, name, sae, {}))
        return found

    told = []
    for lend in (False, True):
        runner = runner_of(model, Dictionaries(made(), model.device, offload=lend), method, neutral)
        told.append(done(runner, neutral))
    assert told[0] == told[1]
    for number, dictionary in enumerate(made()):
        alone = runner_of(model, Dictionaries([dictionary], model.device), method, neutral)
        for together, (analysis,) in zip(told[0], done(alone, neutral), strict=True):
            assert_close([together[number]], [analysis])


@pytest.mark.parametrize("strict", [True, False], ids=["fails", "gives another number"])
def test_a_model_that_cannot_be_run_again_is_refused_in_one_line(
    model: Model, dictionaries: Dictionaries, *, strict: bool
) -> None:
    """One whose last layer also reads what the first one gave, which no replay runs."""
    blocks = model.bridge.blocks
    first = blocks[0].original_component if strict else blocks[0]  # the block hands on in a replay
    kept: list[torch.Tensor] = []

    def keep(_module: object, _inputs: object, output: torch.Tensor) -> None:
        kept[:] = [output]

    def add(_module: object, _inputs: object, output: torch.Tensor) -> torch.Tensor:
        return output + kept.pop()

    handles = [first.register_forward_hook(keep), blocks[3].register_forward_hook(add)]
    try:
        check_dictionaries(model, dictionaries)
        for method in (Method(exact="all"), Method(name="ig")):
            with pytest.raises(UnavailableError, match="cannot be run again") as caught:
                check_dictionaries(model, dictionaries, method)
            assert "\n" not in str(caught.value)
            assert "Write --exact=none, and leave out --method=ig" in str(caught.value)
            assert ("m differs by" in str(caught.value)) is not strict
    finally:
        for handle in handles:
            handle.remove()
    check_dictionaries(model, dictionaries, Method(exact="all"))
