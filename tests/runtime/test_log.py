"""The log is one object a line with the run's id, and holds no secret."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import structlog

from atp.runtime.log import configure, without_secrets

CANARY = "hf_" + "Canary0123456789"


def test_a_line_has_event_level_time_and_run_id(capsys: pytest.CaptureFixture[str]) -> None:
    configure("0123456789ab")

    structlog.get_logger().info("run.start", pairs=3)

    line = json.loads(capsys.readouterr().err)
    assert line.pop("timestamp").endswith("Z")
    assert line == {"event": "run.start", "level": "info", "run_id": "0123456789ab", "pairs": 3}


def test_a_token_of_the_hub_is_not_logged_by_atp_nor_by_a_library(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("0123456789ab")

    structlog.get_logger().error("atp.failed", message=f"401 for Bearer {CANARY} at /x")
    logging.getLogger("huggingface_hub").warning("retry with %s", CANARY)

    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first["message"] == "401 for Bearer *** at /x"
    assert second["event"] == "retry with ***"


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_that_looks_like_none_is_known_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "opaque-secret")

    assert without_secrets("bad token opaque-secret.") == "bad token ***."


def test_the_token_of_a_mounted_file_is_blotted_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("mounted-secret\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert without_secrets("bad token mounted-secret.") == "bad token ***."
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    assert without_secrets("text") == "text"
