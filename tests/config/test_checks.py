"""Option values: which texts are taken, what they mean, and which are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from atp.cli.usage import OPTIONS
from atp.errors import SettingsError


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("--out", " folder ", Path("folder")),
        ("--out", "~", Path.home()),
        ("--model", " gpt2 ", "gpt2"),
        ("--hook-layer", "9,20,31", (9, 20, 31)),
        ("--hook-layer", " 9, 20", (9, 20)),
        ("--sae-width", "131k", 131072),
        ("--sae-width", "16384", 16384),
        ("--sae-width", "16K", 16384),
        ("--sae-l0", "big", "big"),
        ("--sae-site", "attn", "attn"),
        ("--top-k", " 10 ", 10),
        ("--device", "cuda:1", "cuda:1"),
        ("--min-score", "-0.25", -0.25),
        ("--min-log-ratio", "1e-1", 0.1),
        ("--min-log-ratio", " None ", None),
        ("--fdr", "1", 1),
        ("--fdr", "none", None),
        ("--epsilon", "1e-9", 1e-9),
        ("--resamples", "100", 100),
        ("--strength", "0", 0),
        ("--fresh", "YES", True),
        ("--fresh", "on", True),
        ("--fresh", "False", False),
        ("--fresh", "off", False),
    ],
)
def test_a_value_means(flag: str, text: str, value: object) -> None:
    assert OPTIONS[flag].check(flag, text) == value


@pytest.mark.parametrize(
    ("flag", "texts"),
    [
        ("--top-k", ["0", "-1", "1.5", "ten", "1e3", "", " ", "1\n2", "٣x", "0x10", "1" * 13]),
        ("--controls", ["-1", "x"]),
        ("--hook-layer", ["", "9,", "9;20", "9,9", "-1", "x", "9,20,9"]),
        ("--sae-width", ["", "0", "0k", "k", "16kk", "-16384", "1.5k", "x", "16 k", "1g"]),
        ("--model-dtype", ["", "float16", "FLOAT32", "int8"]),
        ("--device", ["", "gpu", "cuda:", "cuda:x", "CPU", "cpu\n", "mps"]),
        ("--out", ["", "  "]),
        ("--model", ["", " \n"]),
        ("--min-score", ["", "x", "nan", "inf", "none"]),
        ("--min-log-ratio", ["", "x", "-inf", "nothing"]),
        ("--min-impact", ["", "-0.1", "none"]),
        ("--fdr", ["0", "1.1", "5%", "-0.05"]),
        ("--top-features", ["0", "none"]),
        ("--epsilon", ["0", "-1e-6", "none"]),
        ("--resamples", ["99", "1e4"]),
        ("--seed", ["-1", "x"]),
        ("--strength", ["-0.1", "nan", "1e7"]),
        ("--temperature", ["-1", "inf"]),
        ("--method", ["igs", ""]),
        ("--baseline", ["0"]),
        ("--position", ["first"]),
        ("--metric", ["x"]),
        ("--fresh", ["maybe", "2", ""]),
    ],
)
def test_a_bad_value_is_refused_in_one_line(flag: str, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(SettingsError, match=f"^{flag} must be ") as caught:
            OPTIONS[flag].check(flag, text)
        assert len(str(caught.value).splitlines()) == 1
        assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("flag", "text", "hint"),
    [
        ("--method", "igs", "Near: ig"),
        ("--sae-l0", "medum", "Near: medium"),
        ("--sae-site", "residual", "Near: resid"),
    ],
)
def test_a_refusal_says_what_could_be_meant(flag: str, text: str, hint: str) -> None:
    with pytest.raises(SettingsError) as caught:
        OPTIONS[flag].check(flag, text)

    assert caught.value.hint.startswith(hint)
