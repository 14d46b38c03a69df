"""Filling a cache computes nothing else; rows get their prefix; a pass uses the cache up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import tiny
import torch
from tiers import first_tier

from atp.bench.notebook import layers_of
from atp.model.kv_cache import PrefixCache
from atp.model.language_model import Model

UNKNOWN = tiny.VOCABULARY + 7
"""A token that the model does not have: its embedding raises IndexError."""


@pytest.fixture(params=first_tier(tiny.FAMILIES, tiny.CONFIGS))
def model(request: pytest.FixtureRequest, loaded: Callable[[str], Model]) -> Model:
    """A tiny model of each architecture."""
    return loaded(request.param)


def tokens(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Return random token ids."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(6, tiny.VOCABULARY, (rows, columns), generator=generator)


def steps(ids: torch.Tensor, start: int = 0) -> torch.Tensor:
    """Return the positions of new tokens after `start` cached ones."""
    return torch.arange(start, start + ids.shape[1]).expand_as(ids)


@torch.no_grad()
def filled(model: Model, ids: torch.Tensor) -> PrefixCache:
    """Return a cache with the keys and values of `ids`."""
    cache = model.new_cache()
    model.fill(cache, ids, torch.ones_like(ids), steps(ids))
    return cache


@torch.no_grad()
def plain(model: Model, ids: torch.Tensor) -> torch.Tensor:
    """Return the hidden states of a pass without a cache."""
    return model.hidden(ids, torch.ones_like(ids), steps(ids), None)


@torch.no_grad()
def after(model: Model, cache: PrefixCache, ids: torch.Tensor, cached: int) -> torch.Tensor:
    """Return the hidden states of a pass over `ids` after what is in the cache."""
    mask = torch.ones(len(ids), cached + ids.shape[1], dtype=torch.long)
    return model.hidden(ids, mask, steps(ids, cached), cache)


@contextmanager
def calls_of(*modules: torch.nn.Module) -> Iterator[list[torch.nn.Module]]:
    """Collect the modules that run while the context lasts."""
    called: list[torch.nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: called.append(module)) for module in modules
    ]
    try:
        yield called
    finally:
        for handle in handles:
            handle.remove()


def test_filling_ends_where_the_last_layer_has_its_keys_and_values(model: Model) -> None:
    layers = layers_of(model.bridge.original_model)
    mlps = [layer.mlp for layer in layers]
    ids = tokens(2, 9)
    with calls_of(*mlps) as called:
        cache = filled(model, ids)
    assert called.count(mlps[-1]) == 0
    assert [called.count(mlp) for mlp in mlps[:-1]] == [1] * (tiny.N_LAYERS - 1)
    assert len(cache.layers) == tiny.N_LAYERS
    assert all(layer.keys.shape[2] == layer.values.shape[2] == 9 for layer in cache.layers)
    with calls_of(*mlps) as called:
        after(model, cache, tokens(2, 3, seed=1), cached=9)
    assert [called.count(mlp) for mlp in mlps] == [1] * tiny.N_LAYERS


def test_a_pass_after_filling_is_a_plain_pass_over_the_whole(model: Model) -> None:
    """In one step and in two; longer than the sliding window."""
    ids = tokens(3, 40)
    expected = plain(model, ids)
    cache = filled(model, ids[:, :30])
    found = after(model, cache, ids[:, 30:], cached=30)
    torch.testing.assert_close(found, expected[:, 30:], atol=1e-5, rtol=1e-5)

    cache = filled(model, ids[:, :20])
    with torch.no_grad():
        model.fill(cache, ids[:, 20:35], torch.ones_like(ids[:, :35]), steps(ids[:, 20:35], 20))
    found = after(model, cache, ids[:, 35:], cached=35)
    torch.testing.assert_close(found, expected[:, 35:], atol=1e-5, rtol=1e-5)


def test_a_pass_uses_the_cache_up_layer_by_layer(model: Model) -> None:
    ids = tokens(2, 12)
    cache = filled(model, ids[:, :8])
    assert all(layer.keys is not None for layer in cache.layers)
    left: list[int] = []
    handles = [
        layer.register_forward_hook(
            lambda *_: left.append(sum(each.keys is not None for each in cache.layers))
        )
        for layer in layers_of(model.bridge.original_model)
    ]
    try:
        after(model, cache, ids[:, 8:], cached=8)
    finally:
        for handle in handles:
            handle.remove()
    assert left == [3, 2, 1, 0]
    assert [layer.keys for layer in cache.layers] == [None] * tiny.N_LAYERS
    assert [layer.values for layer in cache.layers] == [None] * tiny.N_LAYERS


def test_rows_get_what_their_prefix_has_in_each_column(model: Model) -> None:
    cache = filled(model, tokens(2, 6))
    before = [(layer.keys.clone(), layer.values.clone()) for layer in cache.layers]
    rows = torch.tensor([1, 0, 1])
    columns = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2], [0, 0, 0, 5]])
    cache.spread(rows, columns)
    for (keys, values), layer in zip(before, cache.layers, strict=True):
        assert layer.keys.shape == layer.values.shape == (3, keys.shape[1], 4, keys.shape[3])
        for row in range(3):
            for column in range(4):
                prefix, position = int(rows[row]), int(columns[row, column])
                assert torch.equal(layer.keys[row, :, column], keys[prefix, :, position])
                assert torch.equal(layer.values[row, :, column], values[prefix, :, position])


def test_a_pass_after_spreading_is_a_plain_pass_of_each_row(model: Model) -> None:
    prefixes, own = tokens(2, 20), tokens(4, 5, seed=1)
    of_row = torch.tensor([0, 1, 1, 0])
    cache = filled(model, prefixes)
    cache.spread(of_row, torch.arange(20).expand(4, 20))
    found = after(model, cache, own, cached=20)
    for row, prefix in enumerate(of_row):
        alone = plain(model, torch.cat([prefixes[prefix], own[row]])[None])
        torch.testing.assert_close(found[row], alone[0, 20:], atol=1e-5, rtol=1e-5)


def test_a_cache_that_could_not_be_filled_is_not_left_filling(model: Model) -> None:
    ids = tokens(2, 9)
    ids[1, 4] = UNKNOWN
    cache = model.new_cache()
    with pytest.raises(IndexError):
        model.fill(cache, ids, torch.ones_like(ids), steps(ids))
    assert cache.filling is False


def test_a_cache_is_not_left_filling(model: Model) -> None:
    cache = model.new_cache()
    seen: list[bool] = []
    layer = layers_of(model.bridge.original_model)[0]
    handle = layer.register_forward_hook(lambda *_: seen.append(cache.filling))
    ids = tokens(1, 4)
    try:
        model.fill(cache, ids, torch.ones_like(ids), steps(ids))
    finally:
        handle.remove()
    assert seen == [True]
    assert cache.filling is False
