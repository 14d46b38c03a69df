"""The procedures that are compared do the same work, and leave nothing behind for the next one."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from sae_lens import SAE
from tiers import first_tier
from transformers import AutoModelForCausalLM, OPTConfig

from atp.bench.contenders import Workload, contenders, load_plain_model, workload
from atp.bench.measure import Contender, interleave
from atp.bench.notebook import layers_of
from atp.config.settings import Settings
from atp.errors import AtpError, InputError, SettingsError
from atp.model.loading import load_plain
from atp.model.pair_tokenizer import PairTexts
from atp.run import setup
from atp.run.setup import Loaded
from atp.scoring import scorer

ModelFolder = Callable[[str], Path]
CPU = torch.device("cpu")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary folders are made: a folder of the test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class Bench:
    """A tiny model with its SAEs, its plain model and an input, as `atp bench` has them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.loaded: Loaded = setup.load(settings, setup.check(settings))
        self.plain: Any = load_plain_model(self.loaded.model, settings.model, None)

    def work(self, batch_tokens: int = 400) -> Workload:
        """Return the pairs of the input in batches."""
        return workload(self.settings, self.loaded, batch_tokens)

    def contenders(self, work: Workload) -> dict[str, Contender]:
        """Return the procedures by name."""
        found = contenders(self.settings, self.loaded, self.plain, work)
        return {contender.name: contender for contender in found}


@pytest.fixture
def settings(
    tmp_path: Path,
    input_file: Path,
    model_folder: ModelFolder,
    sae_folder: Callable[..., Path],
) -> Settings:
    """Of the tiny Llama with two SAEs."""
    return Settings(
        input=input_file,
        out=tmp_path / "out",
        model=str(model_folder("llama")),
        sae=(str(sae_folder("standard")), str(sae_folder("topk", layer=2))),
        device="cpu",
    )


@contextmanager
def outputs_of(module: torch.nn.Module) -> Iterator[list[Any]]:
    """Collect what a module returns while the context lasts."""
    outputs: list[Any] = []
    handle = module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


def test_the_work_is_every_pair_with_a_contrast_once(tmp_path: Path, settings: Settings) -> None:
    good, same, empty, long = tiny.questions(4)
    same["variations"][1]["response"] = same["variations"][0]["response"]
    empty["variations"][2]["response"] = ""
    long["variations"][3]["prompt"] *= 30
    path = tmp_path / "feedback.json"
    path.write_text(json.dumps({"results": [good, same, empty, long]}), encoding="utf-8")
    bench = Bench(settings)
    work = bench.work()
    assert [tuple(pair.key) for pair in work.pairs] == [
        (question, variation)
        for question in range(4)
        for variation in (1, 2, 3)
        if (question, variation) not in {(1, 1), (2, 2), (3, 3)}
    ]
    assert sum(map(len, work.batches)) == len(work.pairs) == 9
    assert len(work.batches) > 1
    lengths = [
        len(
            bench.loaded.pair_tokenizer(
                pair.prompt, pair.target_response, pair.base_response
            ).contrast.tokens
        )
        for pair in work.pairs
    ]
    assert work.tokens == sum(lengths)
    assert sum(lengths) <= work.padded_tokens <= 9 * max(lengths)
    assert all(
        len(batch) * max(len(item.tokens) for item in batch) <= 400
        for batch in work.batches
        if len(batch) > 1
    )


def test_the_limit_counts_for_a_bench_too(settings: Settings) -> None:
    bench = Bench(settings)
    bench.settings = replace(settings, limit=4)
    assert len(bench.work().pairs) == 4


def test_an_input_without_a_pair_that_can_be_scored_is_refused(
    tmp_path: Path, settings: Settings
) -> None:
    (question,) = tiny.questions(1)
    del question["variations"][1:]
    path = tmp_path / "feedback.json"
    path.write_text(json.dumps({"results": [question]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"feedback\.json holds no pair that can be scored"):
        Bench(settings).work()


@pytest.mark.parametrize("architecture", first_tier(["llama", "gemma2"], tiny.CONFIGS))
def test_the_bare_pass_computes_what_a_plain_pass_over_each_row_does(
    settings: Settings, model_folder: ModelFolder, architecture: str
) -> None:
    settings = replace(settings, model=str(model_folder(architecture)))
    bench = Bench(settings)
    work = bench.work()
    with outputs_of(bench.plain.base_model) as outputs:
        bench.contenders(work)["bare"].run()
    fresh = load_plain(settings.model, None, CPU, torch.float32)
    assert len(outputs) == len(work.batches)
    padded = 0
    for output, batch in zip(outputs, work.batches, strict=True):
        hidden = output.last_hidden_state
        assert hidden.shape[0] == len(batch)
        assert not hidden.requires_grad
        assert output.past_key_values is None
        for row, item in zip(hidden, batch, strict=True):
            with torch.no_grad():
                alone = fresh.base_model(torch.tensor([item.tokens])).last_hidden_state[0]
            padded += len(row) - len(alone)
            torch.testing.assert_close(row[-len(alone) :], alone, atol=2e-5, rtol=1e-4)
    assert padded == work.padded_tokens - work.tokens > 0


def test_the_notebook_goes_through_every_pair_for_every_sae(settings: Settings) -> None:
    bench = Bench(settings)
    work = bench.work()
    notebook = bench.contenders(work)["notebook"]
    layers = layers_of(bench.plain)
    with outputs_of(bench.plain) as passes, outputs_of(layers[0]) as first:
        notebook.run()
        assert len(passes) == len(first) == 2 * len(work.pairs) == 30
        passes.clear()
        notebook.warm_up()
        assert len(passes) == 2 * 3
    lengths = {output.logits.shape[1] for output in passes}
    assert lengths  # whole texts: the answers follow the prompts
    assert min(lengths) > min(len(item.tokens) for batch in work.batches for item in batch)


def test_the_notebook_splices_each_sae_into_its_own_layer(settings: Settings) -> None:
    bench = Bench(settings)
    work = bench.work()
    seen: list[torch.Tensor] = []

    def listen(sae: SAE[Any]) -> None:
        proper = sae.encode

        def encode(x: torch.Tensor) -> torch.Tensor:
            seen.append(x.clone())
            return proper(x)

        sae.encode = encode

    for dictionary in bench.loaded.dictionaries:
        listen(dictionary.sae)
    bench.contenders(work)["notebook"].warm_up()
    pair = work.pairs[0]
    text = bench.loaded.pair_tokenizer(pair.prompt, pair.target_response, pair.base_response)
    fresh = load_plain(settings.model, None, CPU, torch.float32)
    with torch.no_grad():
        states = fresh(
            torch.tensor([text.contrast.tokens]), output_hidden_states=True
        ).hidden_states
    for x, layer in ((seen[0], 1), (seen[3], 2)):
        expected = states[layer + 1][0]
        torch.testing.assert_close(x[0, : len(expected)], expected, atol=1e-5, rtol=1e-4)


def test_atp_writes_and_removes_a_folder_of_its_own(settings: Settings, temporary: Path) -> None:
    bench = Bench(settings)
    written: list[list[str]] = []
    proper = bench.loaded.pair_tokenizer

    class Watching:
        """A pair tokenizer that records the files in the temporary folders."""

        def each(self, pairs: Iterable[PairTexts]) -> Iterator[Any]:
            for pair in pairs:
                written.append(sorted(path.name for path in temporary.glob("*/*")))
                yield proper(*pair)

    work = bench.work()
    bench.loaded = replace(bench.loaded, pair_tokenizer=Watching())
    atp = bench.contenders(work)["atp"]
    atp.run()
    assert len(written) == len(work.pairs)
    assert all(any(".journal.jsonl" in name for name in names) for names in written)
    assert list(temporary.iterdir()) == []
    assert not settings.out.exists()
    atp.run()  # and does it all again: nothing of the first time is found
    assert len(written) == 2 * len(work.pairs)


@pytest.mark.slow
def test_no_procedure_leaves_a_gradient_or_a_hook(settings: Settings, temporary: Path) -> None:
    bench = Bench(settings)
    compared = bench.contenders(bench.work())
    assert list(compared) == ["notebook", "atp", "passes", "bare"]
    interleave(list(compared.values()), 1, CPU)
    assert all(len(contender.seconds) == 1 for contender in compared.values())
    assert all(p.grad is None for p in bench.plain.parameters())
    assert all(p.grad is None for p in bench.loaded.model.bridge.original_model.parameters())
    assert not any(module._forward_hooks for module in bench.plain.modules())  # noqa: SLF001


def test_a_notebook_without_memory_leaves_its_memory_to_the_others(settings: Settings) -> None:
    """Memory runs out in the backward pass, when the upper layers have their gradients."""
    bench = Bench(settings)
    notebook = bench.contenders(bench.work())["notebook"]

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError

    handle = layers_of(bench.plain)[2].register_full_backward_hook(no_memory)
    try:
        interleave([notebook], 1, CPU)
    finally:
        handle.remove()
    assert notebook.out_of_memory
    assert [name for name, p in bench.plain.named_parameters() if p.grad is not None] == []


def test_an_sae_on_another_hook_point_has_no_notebook(tmp_path: Path, settings: Settings) -> None:
    sae = tiny.make_sae("standard")
    sae.cfg.metadata.hook_name = "blocks.1.hook_mlp_out"
    sae.save_model(tmp_path / "mlp")
    bench = Bench(replace(settings, sae=(str(tmp_path / "mlp"),)))
    with pytest.raises(SettingsError, match=r"blocks\.1\.hook_mlp_out") as caught:
        bench.contenders(bench.work())
    assert str(tmp_path / "mlp") in str(caught.value)
    assert "residual stream" in caught.value.hint


def test_a_run_that_gives_pairs_up_for_lack_of_memory_is_out_of_memory(
    settings: Settings, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of pairs that are given up is faster than one that scores them."""
    bench = Bench(replace(settings, limit=2))
    atp = bench.contenders(bench.work())["atp"]

    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(scorer, "capture", no_memory)
    interleave([atp], 1, CPU)
    assert atp.out_of_memory


def test_a_model_whose_layers_have_another_name_has_a_bench_or_is_refused(
    tmp_path: Path, settings: Settings
) -> None:
    """OPT, which `atp run` takes."""
    config = OPTConfig(
        hidden_size=tiny.D_MODEL,
        word_embed_proj_dim=tiny.D_MODEL,
        num_hidden_layers=tiny.N_LAYERS,
        num_attention_heads=4,
        ffn_dim=64,
        max_position_embeddings=tiny.N_CTX,
        vocab_size=tiny.VOCABULARY,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    folder = tmp_path / "tiny"
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    bench = Bench(replace(settings, model=str(folder)))
    with suppress(AtpError):
        assert len(bench.contenders(bench.work())) == 4
