"""What a run's settings decide, and what its results say of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from atp.config.method import Method
from atp.config.option import json_values, options_of
from atp.config.settings import Settings
from atp.config.shard import Shard
from atp.errors import SettingsError

SETTINGS = Settings(input=Path("answers.json"), out=Path("o"))


def test_settings_are_json_values_of_the_options_of_a_run() -> None:
    values = replace(SETTINGS, sae=("a:b",), shard=Shard(1, 2), device_map="auto").as_json()

    assert set(values) == {"input"} | {
        option.name
        for settings in (Settings, Method)
        for option in options_of(settings).values()
        if "run" in option.group.commands
    }
    assert (values["input"], values["out"], values["shard"]) == ("answers.json", "o", "1/2")
    assert json.loads(json.dumps(values))["sae"] == ["a:b"]


def test_an_intervention_tells_the_settings_that_it_shares_with_a_run() -> None:
    values = json_values(SETTINGS, "intervene")

    assert {"model", "metric", "limit"} <= values.keys()
    assert not {"top_k", "method", "shard", "seed"} & values.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"max_tokens_to_check": 3},
        {"top_k": 3},
        {"limit": 3},
        {"chat_template": True},
        {"shard": Shard(0, 2)},
    ],
)
def test_what_changes_a_score_decides_the_run(change: dict[str, Any]) -> None:
    assert replace(SETTINGS, **change).deciding_numbers() != SETTINGS.deciding_numbers()


def test_two_shards_are_two_runs() -> None:
    shards = [replace(SETTINGS, shard=Shard(index, 2)) for index in range(2)]

    assert [each.deciding_numbers()["shard"] for each in shards] == ["0/2", "1/2"]


@pytest.mark.parametrize("change", [{"out": Path("p")}, {"save_interval": 3}, {"fresh": True}])
def test_what_changes_no_score_does_not_decide_the_run(change: dict[str, Any]) -> None:
    assert replace(SETTINGS, **change).deciding_numbers() == SETTINGS.deciding_numbers()


@pytest.mark.parametrize(
    "method",
    [
        Method(name="ig"),
        Method(baseline="base"),
        Method(position="tail"),
        Method(metric="sequence"),
        Method(exact="all"),
        Method(prompt_activations=True),
    ],
)
def test_how_features_are_scored_is_a_fact_of_the_run(method: Method) -> None:
    assert method.describe() != Method().describe()


def test_a_method_states_only_the_numbers_that_count() -> None:
    assert Method(ig_steps=5, sequence_tokens=5).describe() == Method().describe()
    assert Method(name="ig", ig_steps=5).describe()["steps"] == 5
    assert Method(metric="sequence", sequence_tokens=5).describe()["sequence_tokens"] == 5


def test_a_baseline_of_prompts_goes_with_their_last_tokens_alone() -> None:
    for baseline in ("base", "mean"):
        Method(baseline=baseline).check()
        with pytest.raises(SettingsError, match=f"--baseline={baseline} compares the last tokens"):
            Method(baseline=baseline, position="all").check()
    with pytest.raises(SettingsError, match="needs base_prompts"):
        Method(baseline="base").check(has_base_prompts=False)


def test_gradients_reach_as_far_as_tokens_are_read() -> None:
    tails = [
        replace(SETTINGS, scoring=method).tail
        for method in (
            Method(),
            Method(metric="sequence", sequence_tokens=50),
            Method(sequence_tokens=50),
            Method(position="all"),
        )
    ]

    assert tails == [20, 50, 20, None]
