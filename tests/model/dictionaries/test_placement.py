"""Offloaded SAEs give the numbers of those that stay on the device, and return whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import tiny
import torch
from sae_lens import SAE
from torch.multiprocessing.reductions import StorageWeakRef

from atp.attribution.batches import Batch
from atp.attribution.capture import capture
from atp.attribution.scores import score
from atp.config.method import Method
from atp.model.dictionaries import in_parts, placement
from atp.model.dictionaries.loading import Dictionary
from atp.model.dictionaries.placement import Dictionaries
from atp.model.language_model import Model
from atp.model.pair_tokenizer import PairTokenizer, TokenizedPair
from atp.scoring.scorer import Scorer

CPU, META = torch.device("cpu"), torch.device("meta")
LAYERS = (0, 2, 3)


@pytest.fixture(scope="module")
def model(loaded: Callable[[str], Model]) -> Model:
    """A tiny Llama."""
    return loaded("llama")


@pytest.fixture(scope="module")
def batch(model: Model) -> list[TokenizedPair]:
    """The pairs of two questions."""
    pair_tokenizer = PairTokenizer(model, max_tokens_to_check=20, chat_template=False)
    found = [pair_tokenizer(*triple) for triple in tiny.triples(2)]
    return [item for item in found if isinstance(item, TokenizedPair)]


def dictionary_of(sae: SAE[Any]) -> Dictionary:
    """Wrap an SAE as `load_sae` does."""
    return Dictionary("memory", "tiny", sae.cfg.metadata.hook_name, sae, {})


def of_kind(kind: str, layers: Sequence[int] = LAYERS) -> list[Dictionary]:
    """Return an SAE of a kind on each layer."""
    return [dictionary_of(tiny.make_sae(kind, layer=layer, seed=layer)) for layer in layers]


def tensors(dictionary: Dictionary) -> dict[str, torch.Tensor]:
    """Return every weight and buffer of an SAE."""
    sae = dictionary.sae
    return {**dict(sae.named_parameters()), **dict(sae.named_buffers())}


def size_of(dictionaries: Sequence[Dictionary]) -> int:
    """Return the bytes of their weights and buffers."""
    return sum(tensor.nbytes for each in dictionaries for tensor in tensors(each).values())


def places(dictionary: Dictionary) -> dict[str, int]:
    """Return where in memory each of them is."""
    return {name: tensor.data_ptr() for name, tensor in tensors(dictionary).items()}


def storages(dictionary: Dictionary) -> list[StorageWeakRef]:
    """Return a reference to the memory of each of them that does not keep it."""
    return [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors(dictionary).values()]


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_lent_saes_give_the_very_numbers_of_resident_ones(
    model: Model, batch: list[TokenizedPair], kind: str
) -> None:
    both = [Dictionaries(of_kind(kind), CPU, offload=offload) for offload in (False, True)]
    scorers = [Scorer(model, each, top_k=tiny.D_SAE) for each in both]
    reading = scorers[0].capture(batch)
    analyses = [scorer.analyse([reading]) for scorer in scorers]
    assert analyses[0] == analyses[1]
    assert len(analyses[0]) == len(batch)
    assert all("top_features" in analysis for of_pair in analyses[0] for analysis in of_pair)


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_every_score_is_the_same_on_the_device_and_offloaded(
    model: Model, batch: list[TokenizedPair], kind: str
) -> None:
    resident, offloaded = (
        Dictionaries(of_kind(kind), CPU, offload=offload) for offload in (False, True)
    )
    found = capture(
        model, Batch.of([item.contrast for item in batch], CPU), offloaded.written_points
    )
    for one, other in zip(resident, offloaded, strict=True):
        x, g = found.residuals[one.hook_name], found.gradients[one.hook_name]
        with resident.on_device(one) as sae:
            expected = score(sae, x, g, tiny.lengths(sae))
        with offloaded.on_device(other) as sae:
            scored = score(sae, x, g, tiny.lengths(sae))
        assert expected.scores.abs().max() > 0 or one.hook_name == "blocks.3.hook_resid_post"
        for name in ("activations", "gradients", "scores", "variance_explained", "sae_error"):
            assert torch.equal(getattr(scored, name), getattr(expected, name))


@pytest.mark.parametrize("kind", [*tiny.SAE_KINDS, *tiny.TRANSCODER_KINDS, tiny.CLT_LAYER])
def test_an_sae_that_is_lent_in_parts_gives_the_numbers_of_a_whole_one(
    model: Model, batch: list[TokenizedPair], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 20 * tiny.D_MODEL * 4  # bytes: 20 features
    monkeypatch.setattr(in_parts, "PART_BYTES", largest)
    proper, sizes = in_parts._parts, []  # noqa: SLF001

    def noted(matrix: torch.Tensor) -> Iterator[tuple[int, slice]]:
        for side, which in proper(matrix):
            sizes.append(matrix.narrow(side, 0, 1).nbytes * (which.stop - which.start))
            yield side, which

    monkeypatch.setattr(in_parts, "_parts", noted)
    sae = Dictionary.of("memory", "tiny", tiny.make_sae(kind), {})
    found = []
    for parts in (False, True):
        lent = Dictionaries([sae], CPU, offload=True, in_parts=parts)
        scorer = Scorer(model, lent, tiny.D_SAE, Method(exact="all"))
        found.append(scorer.analyse([scorer.capture(batch)]))
        assert bool(sizes) == (parts and "norms" not in kind and kind != "matching_pursuit")
    assert all(size <= largest for size in sizes)
    for (whole,), (in_part,) in zip(*found, strict=True):
        effects = [
            {each["id"]: each["effect"] for each in analysis["top_features"]}
            for analysis in (whole, in_part)
        ]
        assert effects[1] == pytest.approx(effects[0], rel=1e-3, abs=5e-5)
        assert in_part["diagnostics"]["features"] == pytest.approx(
            whole["diagnostics"]["features"], rel=1e-4, abs=1e-4
        )


@pytest.mark.parametrize("kind", tiny.SAE_KINDS)
def test_a_lent_sae_is_a_copy_while_it_is_used_and_at_home_again_afterwards(kind: str) -> None:
    dictionary, other = of_kind(kind, layers=(0, 1))
    offloaded = Dictionaries([dictionary, other], CPU, offload=True)
    home, others_home = places(dictionary), places(other)
    values = {name: tensor.clone() for name, tensor in tensors(dictionary).items()}
    with offloaded.on_device(dictionary) as sae:
        assert sae is dictionary.sae
        assert not set(places(dictionary).values()) & set(home.values())
        for name, tensor in tensors(dictionary).items():
            assert torch.equal(tensor, values[name])
        assert places(other) == others_home
        copies = storages(dictionary)
        assert not any(copy.expired() for copy in copies)
    assert places(dictionary) == home
    assert all(copy.expired() for copy in copies)
    for name, tensor in tensors(dictionary).items():
        assert torch.equal(tensor, values[name])


def test_an_sae_goes_home_when_its_use_fails() -> None:
    (dictionary,) = of_kind("standard", layers=(0,))
    offloaded = Dictionaries([dictionary], CPU, offload=True)
    home = places(dictionary)
    copies: list[StorageWeakRef] = []

    def use() -> None:
        with offloaded.on_device(dictionary) as sae:
            copies.extend(storages(dictionary))
            sae.encode(torch.zeros(1, tiny.D_MODEL + 1))

    with pytest.raises(RuntimeError, match="must match"):
        use()
    assert places(dictionary) == home
    assert copies
    assert all(copy.expired() for copy in copies)


def test_an_sae_goes_home_when_only_some_of_it_fits_the_device(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The copy fails in the middle: on a real device, for lack of memory."""
    (dictionary,) = of_kind("gated", layers=(0,))
    offloaded = Dictionaries([dictionary], CPU, offload=True)
    home = places(dictionary)
    proper, copied = torch.Tensor.to, []

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if len(copied) == 2:
            raise torch.OutOfMemoryError
        copied.append(self)
        return proper(self, *args, **kwargs)

    def use() -> None:
        with offloaded.on_device(dictionary):
            pytest.fail("there was no memory")

    monkeypatch.setattr(torch.Tensor, "to", to)
    with pytest.raises(torch.OutOfMemoryError):
        use()
    assert len(copied) == 2 < len(home)
    assert places(dictionary) == home


def test_a_resident_sae_is_used_where_it_is() -> None:
    (dictionary,) = of_kind("standard", layers=(0,))
    resident = Dictionaries([dictionary], CPU, offload=False)
    home = places(dictionary)
    with resident.on_device(dictionary) as sae:
        assert sae is dictionary.sae
        assert places(dictionary) == home


def test_each_hook_point_is_named_once_in_the_order_of_the_saes() -> None:
    saes = of_kind("standard", layers=(2, 0, 2, 3, 0))
    dictionaries = Dictionaries(saes, CPU)
    assert dictionaries.read_points == [
        "blocks.2.hook_resid_post",
        "blocks.0.hook_resid_post",
        "blocks.3.hook_resid_post",
    ]
    assert list(dictionaries) == saes
    assert len(dictionaries) == 5


def test_on_a_cpu_nothing_is_lent_however_little_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "free_bytes", lambda device: 1)
    assert not Dictionaries(of_kind("standard"), CPU).offloaded
    assert Dictionaries(of_kind("standard"), CPU, offload=True).offloaded


# An accelerator is torch's meta device here: weights on it have a size and no data. They can be
# left on either side, not moved between the two.


def test_saes_that_take_more_than_a_quarter_of_a_devices_free_memory_are_offloaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saes = of_kind("standard")
    home = [places(dictionary) for dictionary in saes]
    monkeypatch.setattr(placement, "free_bytes", lambda device: 4 * size_of(saes) - 1)
    assert Dictionaries(saes, META).offloaded
    assert [places(dictionary) for dictionary in saes] == home


def test_saes_that_take_a_quarter_of_a_devices_free_memory_stay_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What they take already counts as free: without them it would be."""
    saes = of_kind("standard")
    for dictionary in saes:
        dictionary.sae.to(META)
    monkeypatch.setattr(placement, "free_bytes", lambda device: 3 * size_of(saes))
    assert not Dictionaries(saes, META).offloaded
    assert all(tensor.device == META for each in saes for tensor in tensors(each).values())
