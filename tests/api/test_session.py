"""Inside a user's program the library is silent, logs through `logging`, and leaves no setting."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import TestCase

import pytest
import structlog
import tiny
import torch
from transformers.utils import logging as transformers_logging

from atp import attribute, load_model
from atp.api.session import bar
from atp.model.language_model import Model

Loaded = Callable[[str], Model]


@pytest.mark.slow
def test_a_program_sees_nothing_that_it_did_not_print(workplace: Path) -> None:
    code = f"""
import atp
pairs = {tiny.triples(1)!r}
model = atp.load_model("models/tiny", device="cpu")
result = atp.attribute(model, "saes/*", pairs)
with atp.ablate(model, "saes/layer1", [1, 2]):
    atp.generate(model, ["Why?"], max_new_tokens=2)
atp.exact_effects(model, "saes/layer1", pairs, [1])
print(len(result))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workplace,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("3\n", "")


def test_a_warning_goes_to_logging(loaded: Loaded, capfd: pytest.CaptureFixture[str]) -> None:
    model, sae = loaded("llama"), tiny.make_sae("standard")

    def no_memory(_module: object, inputs: tuple[torch.Tensor, ...]) -> None:
        if len(inputs[0]) > 3:
            raise torch.OutOfMemoryError

    embedding = model.bridge.original_model.get_input_embeddings()
    handle = embedding.register_forward_pre_hook(no_memory)
    with TestCase().assertLogs("atp", logging.INFO) as logged:
        attribute(model, sae, tiny.triples(), batch_tokens=2000)
    handle.remove()

    record = logged.records[0]
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("event='oom.retry'")
    assert capfd.readouterr().out == ""
    assert not structlog.is_configured()


def test_a_programs_own_structlog_is_left_alone(loaded: Loaded) -> None:
    structlog.configure(processors=[structlog.processors.JSONRenderer()])
    before = structlog.get_config()
    attribute(loaded("llama"), tiny.make_sae("standard"), tiny.triples(1))

    assert structlog.get_config() == before


def test_the_libraries_bars_are_as_before(
    model_folder: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    folder = model_folder("llama")
    transformers_logging.enable_progress_bar()
    capfd.readouterr()  # what the fixture showed, if it has just written the model
    load_model(folder, device="cpu")

    assert transformers_logging.is_progress_bar_enabled()
    assert capfd.readouterr().err == ""


def test_a_bar_is_for_terminals(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with bar(3, shown=True) as line:
        line.advance(1)
    assert capfd.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with bar(3, shown=False) as line:
        line.advance(1)
    assert capfd.readouterr().err == ""
    with bar(3, shown=True) as line:
        line.advance(2)
    assert "2/3 pairs" in capfd.readouterr().err
