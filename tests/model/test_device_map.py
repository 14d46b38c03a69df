"""A model that is split over two cards gives the numbers of the whole model, bit for bit.

The cards are those of tests/support/cards.py: Transformers and accelerate split the model as on
GPUs, and an operation on tensors of two cards is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cards
import pytest
import tiny
import torch
from oracle import plain_model
from tiers import first_tier

from atp.attribution.contrasts import Contrast
from atp.cli.main import main
from atp.config.method import Method
from atp.config.settings import Settings
from atp.errors import ExitCode, SettingsError, UnavailableError
from atp.intervention.ablate import FeatureSet
from atp.intervention.runner import AblationRunner
from atp.model import device_memory, memory_model
from atp.model.devices import choose_split
from atp.model.dictionaries.borrowed import borrow
from atp.model.dictionaries.placement import Dictionaries
from atp.model.generation import generate
from atp.model.language_model import Model
from atp.model.loading import load_model
from atp.model.pair_tokenizer import PairTokenizer, Text, TokenizedPair
from atp.run.batch_runner import BatchRunner
from atp.scoring.preflight import check_dictionaries
from atp.scoring.scorer import Scorer

METHODS = {
    "exact": Method(exact="all"),
    "base": Method(baseline="base", exact="flagged", exact_above=0.3),
    "mean": Method(baseline="mean", position="last"),
    "tail": Method(position="tail", exact="all"),
    "sequence, ig, all": Method(
        name="ig", ig_steps=2, metric="sequence", sequence_tokens=3, position="all"
    ),
}
PROMPTS = [(1, 9, 12, 40, 41), (1, 9, 12, 13), (1, 50, 51, 52, 53, 54)]


@pytest.fixture(scope="module")
def halved(model_folder: Callable[[str], Path]) -> Iterator[Callable[..., Model]]:
    """Return a function that loads a model whose layers from `below` on are on another card."""
    models: dict[tuple[str, int], Model] = {}

    def get(architecture: str, below: int = 2) -> Model:
        if (architecture, below) not in models:
            folder = model_folder(architecture)
            device_map = cards.split(plain_model(folder), below)
            with cards.two_cards():
                models[architecture, below] = load_model(str(folder), device_map=device_map)
        return models[architecture, below]

    yield get
    models.clear()


def dictionaries(model: Model, *, offload: bool | None = None) -> Dictionaries:
    """Return an SAE on the first card, and a dictionary that writes to both."""
    kinds = {"topk, layer_norm": 0, tiny.CLT_LAYER: 1}
    saes = [borrow(tiny.make_sae(kind, layer=layer)) for kind, layer in kinds.items()]
    return Dictionaries(saes, model.device, offload=offload)


def analyses(model: Model, method: Method, *, offload: bool | None = None) -> list[Any]:
    """Score two pairs of different length."""
    saes = dictionaries(model, offload=offload)
    check_dictionaries(model, saes, method)
    tokenizer = PairTokenizer(
        model,
        max_tokens_to_check=20,
        chat_template=False,
        sequence_tokens=method.sequence,
        base_prompts=method.reads_base_prompts,
    )
    pairs = []
    for prompt, *responses in tiny.triples(1)[:2]:
        pair = tokenizer(prompt, *responses, base_prompt=prompt.replace("I ", "They "))
        assert isinstance(pair, TokenizedPair)
        pairs.append(pair)
    scorer = Scorer(model, saes, 2, method, 512)
    if method.baseline == "mean":
        scorer.take_means(PROMPTS)
    planned = BatchRunner(scorer).planner().plan(pairs)
    scorer.base_prompts.expect(planned.number, planned.base_batches.values())
    return scorer.analyse([scorer.capture(pairs)])


def test_the_cards_refuse_what_two_gpus_would_refuse() -> None:
    """A test on them can fail."""
    with cards.two_cards():
        x = torch.ones(2, device="cpu:0")
        with pytest.raises(cards.MixedCardsError, match="cpu:0, cpu:1"):
            x + torch.ones(2, device="cpu:1")
        with pytest.raises(cards.MixedCardsError, match=r"cpu:0, cpu$"):
            x + torch.ones(2)
        assert (x + x.to("cpu:1").to("cpu:0")).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("architecture", "method"),
    first_tier(
        [("llama", "exact")],
        [
            *(("llama", method) for method in METHODS),
            *((each, "exact") for each in ("gpt2", "gemma2", "gpt_oss", "gemma3_multimodal")),
            ("qwen3_5", "sequence, ig, all"),
        ],
    ),
)
def test_a_split_model_scores_as_a_whole_one(
    loaded: Callable[[str], Model], halved: Callable[..., Model], architecture: str, method: str
) -> None:
    """Prefix, gradient tail, replay and scores: with an unembedding on either card."""
    expected = analyses(loaded(architecture), METHODS[method])
    with cards.two_cards():
        assert analyses(halved(architecture), METHODS[method]) == expected


@pytest.mark.slow
@pytest.mark.parametrize("below", [0, 1, 3, 4])
def test_the_place_of_the_split_changes_nothing(
    loaded: Callable[[str], Model], halved: Callable[..., Model], below: int
) -> None:
    """Below, at or above the hook points; SAEs may be offloaded."""
    expected = analyses(loaded("llama"), METHODS["exact"])
    with cards.two_cards():
        assert analyses(halved("llama", below), METHODS["exact"], offload=True) == expected


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_split_model_is_ablated_as_a_whole_one(
    loaded: Callable[[str], Model], halved: Callable[..., Model], architecture: str
) -> None:
    """Metrics, mean activations, side effects and new responses."""

    def measured(model: Model) -> list[Any]:
        saes = dictionaries(model)
        contrasts = [Contrast(prompt, len(prompt), 5, 6) for prompt in PROMPTS]
        runner = AblationRunner(model, 256, strength=1.0, first_position=False)
        sets = [FeatureSet(each, (3, 7)) for each in saes]
        texts = [Text((*prompt, 20, 21), len(prompt)) for prompt in PROMPTS]
        with runner.without(sets):
            found = [runner.metrics(contrasts).tolist()]
            found.append([each.tokens for each in generate(model, PROMPTS, max_new_tokens=3)])
        found.append([means.tolist() for means in runner.mean_activations(list(saes), contrasts)])
        return [*found, runner.side_effects(texts, [sets])]

    expected = measured(loaded(architecture))
    with cards.two_cards():
        assert measured(halved(architecture)) == expected


def test_a_batch_fits_the_fullest_card(
    halved: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its model says on which cards it is."""
    model = halved("llama")
    assert repr(model) == "Model(tiny, cpu:0, cpu:1, float32)"
    free = {torch.device("cpu:0"): 1 << 40, torch.device("cpu:1"): 1 << 20}
    for module in (device_memory, memory_model):
        monkeypatch.setattr(module, "free_bytes", free.__getitem__)
    assert device_memory.fullest(model.devices) == torch.device("cpu:1")
    with cards.two_cards():
        saes = Dictionaries([], model.device, offload=False)
        assert memory_model.batch_tokens(model, saes) < memory_model.MAX_BATCH_TOKENS["cpu"]


def test_a_recurrent_model_is_not_split(model_folder: Callable[[str], Path]) -> None:
    """The bridge keeps the states of Mamba on one device."""
    device_map: dict[str, int | str] = {"backbone": "cpu:0", "lm_head": "cpu:1"}
    with pytest.raises(UnavailableError, match=r"cannot be split: .*Mamba") as caught:
        load_model(str(model_folder("mamba")), device_map=device_map)
    assert "--device-map" in caught.value.hint


def test_auto_takes_the_gpus_that_torch_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is a device like any other; none is an error, as is --device beside it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for count, expected in ((1, None), (2, "auto")):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert choose_split(None, "auto") == expected
    with pytest.raises(SettingsError, match="--device=cuda and --device-map exclude each other"):
        choose_split("cuda", "auto")
    assert choose_split("cuda", None) is None


def test_auto_without_a_gpu_ends_in_one_line(
    model_folder: Callable[[str], Path],
    sae_folder: Callable[..., Path],
    input_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It says what the option needs."""
    names = [f"--model={model_folder('llama')}", f"--sae={sae_folder()}", f"--out={tmp_path / 'o'}"]
    assert main(["run", str(input_file), *names, "--device-map=auto"]) == ExitCode.USAGE
    assert "splits a model over GPUs, and torch sees none here" in capsys.readouterr().err


def test_only_a_split_is_in_the_settings_of_a_result(tmp_path: Path) -> None:
    """A result of one device keeps its bytes."""
    settings = Settings(input=tmp_path, out=tmp_path)
    assert "device_map" not in settings.as_json()
    assert "device_map" not in settings.deciding_numbers()
    split = Settings(input=tmp_path, out=tmp_path, device_map="auto")
    assert split.as_json()["device_map"] == "auto"
