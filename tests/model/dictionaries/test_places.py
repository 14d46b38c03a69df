"""A hook point is the place of the plain model that its name means: read there, and written there.

Norms have random weights. Otherwise some places could not be told apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import plain_places
import pytest
import tiny
import torch
from oracle import Place, plain_model
from tiers import first_tier
from torch import Tensor

from atp import load_model
from atp.bench.notebook import layers_of
from atp.model.hook_names import hook_point_of
from atp.model.language_model import Model

LAYER, LENGTH = 1, 24
IDS = torch.randint(10, 300, (1, LENGTH), generator=torch.Generator().manual_seed(0))
BOUND = 1e-5
EPSILON = 1e-6
QUICK = ["gpt2", "gemma2", "gemma3_multimodal", "gpt_oss"]


@dataclass(frozen=True)
class Both:
    """A model behind a bridge, and its plain model."""

    architecture: str
    model: Model
    plain: Any

    def run(self) -> Tensor:
        """Return the final hidden state of the bridge, (position, d_model)."""
        positions = torch.arange(LENGTH)[None]
        return self.model.hidden(IDS, torch.ones_like(IDS), positions, None)[0]

    def run_plain(self) -> Tensor:
        """Return the plain model's."""
        hidden: Tensor = self.plain.base_model(IDS).last_hidden_state[0]
        return hidden

    def place(self, point: str) -> Place:
        """Return the plain model's place of a hook point in the layer."""
        name = plain_places.place(self.architecture, f"blocks.{LAYER}.{point}")
        return Place.of(self.plain, name)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Both]:
    """Return a function from an architecture to its models, each loaded once."""
    made: dict[str, Both] = {}

    def get(architecture: str) -> Both:
        if architecture not in made:
            folder = tmp_path_factory.mktemp("places") / architecture
            tiny.save_model(folder, architecture, random_norms=True)
            model = load_model(str(folder), device="cpu")
            made[architecture] = Both(architecture, model, plain_model(folder))
        return made[architecture]

    return get


@contextmanager
def kept(models: Both, names: list[str]) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Keep what passes hook points, and what passes their places of the plain model."""
    bridged: dict[str, Tensor] = {}
    plain: dict[str, Tensor] = {}

    def keep(into: dict[str, Tensor], name: str) -> Callable[..., Tensor]:
        def on(x: Tensor, hook: object = None) -> Tensor:
            assert name not in into
            into[name] = x.clone()
            return x

        return on

    hooks = [(f"blocks.{LAYER}.{name}", keep(bridged, name)) for name in names]
    with torch.no_grad(), models.model.hooks(hooks), ExitStack() as stack:
        for name in names:
            stack.enter_context(models.place(name).changed(keep(plain, name)))
        yield bridged, plain


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Compare within float32's rounding, relative to the largest."""
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= BOUND * expected.abs().max()


@pytest.mark.parametrize("architecture", first_tier(QUICK, tiny.CONFIGS))
def test_each_hook_point_gives_what_passes_its_place(
    both: Callable[[str], Both], architecture: str
) -> None:
    models = both(architecture)
    points = list(plain_places.points(architecture))
    with kept(models, points) as (found, expected):
        models.run()
        models.run_plain()
    if "ln2.hook_normalized" in points:
        x = expected["ln2.hook_normalized"]
        if architecture in plain_places.CENTRING:
            x = x - x.mean(dim=-1, keepdim=True)
        expected["ln2.hook_normalized"] = x / (x.square().mean(-1, keepdim=True) + EPSILON).sqrt()
    for name in points:
        assert_close(found[name].flatten(2), expected[name])


@pytest.mark.parametrize("architecture", first_tier(QUICK, tiny.CONFIGS))
def test_what_is_added_at_a_hook_point_moves_the_model_as_at_its_place(
    both: Callable[[str], Both], architecture: str
) -> None:
    models = both(architecture)
    generator = torch.Generator().manual_seed(1)
    added = torch.randn(1, LENGTH, tiny.D_MODEL, generator=generator)

    def add(x: Tensor, hook: object = None) -> Tensor:
        return x + added.reshape(x.shape)

    with torch.no_grad():
        unchanged = models.run_plain()
        for name in plain_places.points(architecture):
            if (
                name == "ln2.hook_normalized"
            ):  # inside a norm: no module of the plain model ends there
                continue
            with models.model.hooks([(f"blocks.{LAYER}.{name}", add)]):
                found = models.run()
            with models.place(name).changed(add):
                expected = models.run_plain()
            assert (expected - unchanged).abs().max() > 0.01 * unchanged.abs().max()
            assert_close(found, expected)


@pytest.mark.parametrize("architecture", first_tier(QUICK, tiny.CONFIGS))
def test_a_module_of_the_plain_model_goes_by_the_hook_point_that_gives_its_values(
    both: Callable[[str], Both], architecture: str
) -> None:
    models = both(architecture)
    layers = layers_of(models.plain)
    (prefix,) = (name for name, m in models.plain.named_modules() if m is layers[LAYER])
    positions = torch.arange(LENGTH)[None]
    known = set()
    places = {*plain_places.points(architecture).values(), "mlp.output"}
    for name in sorted(places):
        point = hook_point_of(f"{prefix}.{name}")
        if point is None:
            continue
        known.add(name)
        kept: list[Tensor] = []

        def keep(x: Tensor, hook: object = None, kept: list[Tensor] = kept) -> Tensor:
            kept.append(x.flatten(2).clone())
            return x

        place = Place.of(models.plain, f"{LAYER}.{name}")
        with torch.no_grad(), models.model.hooks([(point, keep)]), place.changed(keep):
            models.model.hidden(IDS, torch.ones_like(IDS), positions, None)
            models.run_plain()
        found, expected = kept
        assert_close(found, expected)
    assert {"input", "output", "mlp.input", "mlp.output"} & places <= known
    if architecture.startswith(("gemma2", "gemma3")):
        parts = {"pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"}
        assert {*parts, "self_attn.o_proj.input"} <= known
    assert hook_point_of(f"{prefix}") == f"blocks.{LAYER}.hook_resid_post"


@pytest.mark.parametrize(
    "module", ["model.layers.3.self_attn.q_proj.output", "model.norm.output", "lm_head"]
)
def test_a_module_elsewhere_has_none(module: str) -> None:
    assert hook_point_of(module) is None


@pytest.mark.parametrize("architecture", ["gpt_neox"])
def test_a_layer_without_a_middle_has_no_hook_point_there(
    both: Callable[[str], Both], architecture: str
) -> None:
    assert f"blocks.{LAYER}.hook_resid_mid" not in both(architecture).model.bridge.hook_dict
