"""An outline says of a model what the loaded one says, and needs no weights for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from tiers import first_tier
from transformers import AutoModelForCausalLM

from atp.errors import UnavailableError
from atp.model.language_model import Model
from atp.model.memory_model import Shape
from atp.model.outline import Outline, outline
from atp.model.pair_tokenizer import PairTokenizer


@pytest.fixture
def bare(tmp_path: Path, model_folder: Callable[[str], Path]) -> Callable[[str], Path]:
    """Return a function that gives the folder of a tiny model without its weights."""

    def get(architecture: str) -> Path:
        folder = tmp_path / "bare" / "tiny"
        shutil.copytree(
            model_folder(architecture), folder, ignore=shutil.ignore_patterns("*.safetensors")
        )
        return folder

    return get


def of(folder: Path, dtype: torch.dtype = torch.float32) -> Outline:
    """Return the outline of a folder."""
    return outline(str(folder), None, dtype)


@pytest.mark.parametrize(
    "architecture",
    first_tier([*tiny.FAMILIES, "qwen3_5", "mamba"], [*tiny.CONFIGS, *tiny.STATEFUL]),
)
def test_it_says_what_the_loaded_model_says(
    architecture: str,
    bare: Callable[[str], Path],
    model_folder: Callable[[str], Path],
    loaded: Callable[[str], Model],
) -> None:
    model = loaded(architecture)
    found = of(bare(architecture))

    assert (found.name, found.n_ctx, found.bos_token_id) == (
        model.name,
        model.n_ctx,
        model.bos_token_id,
    )
    assert found.shape == Shape.of(
        model.bridge.cfg, model.dtype.itemsize, model.bridge.original_model
    )
    weights = list(model.bridge.original_model.parameters())
    plain = AutoModelForCausalLM.from_pretrained(model_folder(architecture))
    assert found.parameters == sum(weight.numel() for weight in plain.parameters())
    assert found.bytes == found.parameters * weights[0].element_size()
    assert found.published_bytes == found.bytes


@pytest.mark.parametrize("architecture", ["gpt2", "gpt_neox"])
def test_the_body_is_without_both_embeddings_tied_or_not(
    architecture: str, bare: Callable[[str], Path]
) -> None:
    found = of(bare(architecture))
    tied = architecture == "gpt2"

    embeddings = (1 if tied else 2) * tiny.VOCABULARY * tiny.D_MODEL
    assert found.parameters - found.body_parameters == embeddings


def test_its_tokens_are_those_of_the_model(
    bare: Callable[[str], Path], loaded: Callable[[str], Model]
) -> None:
    model = loaded("llama")
    options = {"max_tokens_to_check": 20, "chat_template": True}
    of_model = PairTokenizer(model, **options)
    of_outline = PairTokenizer(of(bare("llama")), **options)

    for texts in tiny.triples():
        assert of_outline(*texts) == of_model(*texts)


def test_half_the_bytes_in_half_the_precision(bare: Callable[[str], Path]) -> None:
    folder = bare("llama")

    half = of(folder, torch.bfloat16)

    assert half.bytes * 2 == of(folder).bytes
    assert (half.dtype, of(folder).dtype) == ("bfloat16", "float32")


def test_a_folder_without_a_tokenizer_cannot_be_had(bare: Callable[[str], Path]) -> None:
    folder = bare("gpt2")
    for file in folder.glob("tokenizer*"):
        file.unlink()

    with pytest.raises(UnavailableError, match="no tokenizer"):
        of(folder)


def test_a_hub_model_that_is_not_there_cannot_be_had() -> None:
    with pytest.raises(UnavailableError, match="owner/none"):
        outline("owner/none", None, torch.float32)
