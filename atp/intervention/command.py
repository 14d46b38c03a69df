"""`atp intervene`: what is to be taken out, what that changes, and the report of it."""

from __future__ import annotations

import hashlib
import math
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import orjson
import structlog

from atp.config.option import json_values
from atp.dataset import output
from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import scan_input
from atp.errors import ExitCode, InputError, SettingsError
from atp.intervention.features_file import read_features_file
from atp.intervention.report import as_text, comparison_as_text
from atp.run import setup

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from atp.config.intervention import ComparisonSettings, InterventionSettings
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.intervention.features_file import FeaturesFile
    from atp.run.setup import Loaded

log = structlog.get_logger()


def intervene(settings: Settings, given: InterventionSettings) -> tuple[ExitCode, list[Path]]:
    """Take the selected features out, and measure what changes.

    Args:
        settings: what is read and how it is run, as of a run.
        given: what is taken out and what is measured.

    Returns:
        OK, or PAIRS_FAILED where a text has an error; and the files, the report last.

    Raises:
        AtpError: anything the user can mend.
    """
    began = time.monotonic()
    selection = read_features_file(given.features)
    settings = completed(settings, given, selection)
    specs = setup.check(settings)
    with output.held(settings.out):
        found = scan_input(settings.input)
        log.info(
            "intervene.start",
            input=str(found.path),
            out=str(settings.out),
            pairs=found.pairs,
            features=selection.size,
        )
        loaded = setup.load(settings, specs)
        code, paths, pairs = _measured(settings, given, selection, found, loaded)
    log.info(
        "intervene.done",
        report=str(paths[-1]),
        pairs=pairs,
        seconds=round(time.monotonic() - began, 3),
    )
    return code, paths


def completed(settings: Settings, given: InterventionSettings, selection: FeaturesFile) -> Settings:
    """Take from the features file what the user does not name: the model and the SAEs.

    Raises:
        SettingsError: the file's model is a local one, and the user does not say where it is.
    """
    if not given.model_given:
        name, revision = selection.model["name"], selection.model.get("revision")
        if revision is None:
            msg = f"{selection.path} is of the local model {name}, and does not say where it is."
            raise SettingsError(msg, "Name its folder or file with --model=PATH.")
        settings = replace(settings, model=name, revision=settings.revision or revision)
    if not given.saes_given:
        settings = replace(settings, sae=tuple(each.spec for each in selection.saes))
    return settings


def _measured(
    settings: Settings,
    given: InterventionSettings,
    selection: FeaturesFile,
    found: InputScan,
    loaded: Loaded,
) -> tuple[ExitCode, list[Path], int]:
    """Measure with what is loaded, and write; return code, files and measured pairs."""
    # Imported here: they import torch, and what is wrong before they are needed need not wait.
    from atp.intervention import answers  # noqa: PLC0415
    from atp.intervention.runner import AblationRunner  # noqa: PLC0415
    from atp.intervention.study import InterventionStudy, sets_of  # noqa: PLC0415
    from atp.intervention.texts import read_texts  # noqa: PLC0415
    from atp.model.memory_model import batch_tokens  # noqa: PLC0415
    from atp.run.metadata import facts, now  # noqa: PLC0415

    started = now()
    model, dictionaries = loaded.model, loaded.dictionaries
    sets = sets_of(selection, model, dictionaries)
    budget = settings.batch_tokens or batch_tokens(model, dictionaries)
    texts = read_texts(settings.input, loaded.pair_tokenizer, settings.limit)
    if not texts.contrasts:
        msg = f"{settings.input} holds no pair whose answers differ where they are compared."
        raise InputError(msg, "atp check tells of each pair why.")
    known = facts(settings, found, model, dictionaries, budget)
    told = {
        **{name: known[name] for name in ("model", "saes", "input", "versions", "source_sha256")},
        "features": selection.as_json(),
        "settings": {**_shared(settings, budget), **given.as_json()},
    }
    told["input"] = {"path": str(settings.input), **told["input"]}
    name = f"atp_intervention_{output.run_name(settings.out, model.name)}"
    paths: list[Path] = []
    with ExitStack() as stack:
        for dictionary in dictionaries:
            stack.enter_context(dictionaries.on_device(dictionary))
        trial = AblationRunner(model, budget, given.strength, first_position=not given.spare_first)
        report = InterventionStudy(trial, sets, texts, given.controls, given.seed).report()
        generated = None
        if given.regenerate:
            way = answers.Generation(
                trial, sets.selected, given.max_new_tokens, given.temperature, given.seed
            )
            identity = _fingerprint(told)
            with answers.opened(settings.out, name, identity, fresh=settings.fresh) as journal:
                way.fill(journal, texts.prompts)
                paths = [settings.out / f"{name}_{side}.json" for side in ("before", "after")]
                entries = [
                    {**told, "ablated": ablated, "complete": True, "started": started}
                    for ablated in (False, True)
                ]
                answers.write_answers(found, journal, paths, entries)
                generated = answers.told(journal, texts.prompts)
    failed = report["summary"]["errors"] + len(texts.failed)
    failed += 0 if generated is None else generated["prompts"] - generated["answered"]
    whole = {
        "metadata": {"atp": {**told, "started": started, "finished": now()}},
        "summary": report["summary"],
        "answers": generated,
        "texts_with_errors": {str(key): value for key, value in texts.failed.items()},
        "pairs": report["pairs"],
    }
    paths += _written(settings.out, name, whole, as_text(whole))
    code = ExitCode.PAIRS_FAILED if failed else ExitCode.OK
    return code, paths, report["summary"]["pairs"]


def compare(settings: ComparisonSettings) -> list[Path]:
    """Compare two labelled files of answers to the same prompts.

    Returns:
        A table, and the report with all figures.

    Raises:
        AtpError: anything the user can mend.
    """
    scans = [scan_input(path) for path in (settings.before, settings.after)]
    from atp.intervention import comparison  # noqa: PLC0415  (scipy takes a second)

    found = comparison.compare(settings.before, settings.after)
    metadata = scans[1].top_level.get("metadata") or {}
    model = metadata.get("atp", {}).get("model", {}).get("name") or metadata.get("model_name")
    files = {
        side: {"path": str(each.path), "sha256": each.sha256}
        for side, each in zip(("before", "after"), scans, strict=True)
    }
    with output.held(settings.out):
        name = f"atp_comparison_{output.run_name(settings.out, str(model or 'answers'))}"
        whole = {"files": files, **found}
        return _written(settings.out, name, whole, comparison_as_text(found))


def _shared(settings: Settings, budget: int) -> dict[str, Any]:
    """Return what of a run's settings an intervention has."""
    return {
        **json_values(settings, "intervene"),
        "sae": list(settings.sae_specs),
        "batch_tokens": budget,
    }


def _fingerprint(told: Mapping[str, Any]) -> str:
    """Return the hash of all that decides an answer."""
    ways = ("strength", "spare_first", "max_new_tokens", "temperature", "seed", "chat_template")
    deciding = {
        **{name: told[name] for name in ("model", "versions", "source_sha256")},
        "input": told["input"]["sha256"],
        "saes": [
            {"sha256": each["sae"].get("sha256"), "selected": each["selected"]}
            for each in told["features"]["saes"]
        ],
        "settings": {name: told["settings"][name] for name in (*ways, "limit")},
    }
    return hashlib.sha256(orjson.dumps(deciding, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _written(folder: Path, name: str, report: Mapping[str, Any], table: str) -> list[Path]:
    """Write a table and a report; return their paths, the report's last."""
    _check_finite(report)
    paths = [folder / f"{name}.txt", folder / f"{name}.json"]
    contents = [table.encode() + b"\n", orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"]
    for path, content in zip(paths, contents, strict=True):
        with atomic_write(path, len(content)) as file:
            file.write(content)
    return paths


def _check_finite(value: Any) -> None:  # noqa: ANN401  (any JSON value)
    """Make sure that no number is written as null without a word."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_finite(item)
    elif isinstance(value, float) and not math.isfinite(value):
        msg = "a number of the report is not finite"
        raise ArithmeticError(msg)
