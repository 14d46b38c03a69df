"""`atp intervene`: takes features out, measures what changes, and writes the report."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from atp.config.option import json_values
from atp.config.sae_choice import CHOICES
from atp.config.settings import NO_INPUT
from atp.dataset import output
from atp.dataset.input_scan import scan_input
from atp.errors import ExitCode, InputError, SettingsError
from atp.intervention.features_file import read_features_file
from atp.intervention.report import as_text, comparison_as_text, write_report
from atp.model.dictionaries.picking import sae_specs
from atp.run import setup
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from atp.config.intervention import ComparisonSettings, InterventionSettings
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.intervention.features_file import FeaturesFile
    from atp.run.setup import Loaded

log = structlog.get_logger()


def intervene(settings: Settings, own: InterventionSettings) -> tuple[ExitCode, list[Path]]:
    """Take the selected features out, and measure what changes; return the files, the report last.

    The exit code is PAIRS_FAILED where a text has an error.
    """
    began = time.monotonic()
    file = read_features_file(own.features)
    settings = completed(settings, own, file)
    specs = setup.check(settings)
    with output.held(settings.out):
        scan = scan_input(settings.input)
        log.info(
            "intervene.start",
            input=str(scan.path),
            out=str(settings.out),
            pairs=scan.pairs,
            features=sum(len(features.selected) for features in file.saes),
        )
        loaded = setup.load(settings, specs)
        code, paths, pairs = _intervene(settings, own, file, scan, loaded)
    log.info(
        "intervene.done",
        report=str(paths[-1]),
        pairs=pairs,
        seconds=round(time.monotonic() - began, 3),
    )
    return code, paths


def completed(settings: Settings, own: InterventionSettings, file: FeaturesFile) -> Settings:
    """Take model, SAEs, input and contrast from the features file where the user gives none."""
    of_results = file.metadata.get("settings", {})
    taken = {name: value for name, value in of_results.items() if name not in own.given}
    scoring = replace(
        settings.scoring,
        **{name: taken[name] for name in ("metric", "sequence_tokens") if name in taken},
    )
    settings = replace(
        settings,
        scoring=scoring,
        **{
            name: taken[name]
            for name in ("chat_template", "max_tokens_to_check", "allow_other_model")
            if name in taken
        },
    )
    if "model" not in own.given:
        settings = replace(settings, **_model(settings, file, taken.get("model")))
    if own.given.isdisjoint({"model", "model_dtype"}):
        settings = replace(settings, model_dtype=file.model.get("dtype"))
    if own.given.isdisjoint({"sae", *CHOICES}):
        settings = replace(settings, sae=tuple(features.spec for features in file.saes))
    if settings.input == NO_INPUT:
        settings = replace(settings, input=_input(file))
    return settings


def _model(settings: Settings, file: FeaturesFile, path: str | None) -> dict[str, Any]:
    """Return the model of the features file as settings."""
    name, revision = file.model["name"], file.model.get("revision")
    if revision is not None:
        return {"model": name, "revision": settings.revision or revision}
    if path is None or not local_path(path).exists():
        place = "does not say where it is" if path is None else f"{path} is not there"
        msg = f"{file.path} is of the local model {name}, and {place}."
        raise SettingsError(msg, "Name its folder or file with --model=PATH.")
    return {"model": path}


def _input(file: FeaturesFile) -> Path:
    """Return the input of the features file's results."""
    paths = [Path(each["path"]) for each in file.metadata.get("inputs", [])]
    if len(paths) != 1 or not paths[0].is_file():
        wrong = (
            f"{file.path} is of {len(paths)} inputs"
            if len(paths) != 1
            else (f"{paths[0]}, the input of {file.path}, is not there")
        )
        msg = f"INPUT is missing: {wrong}."
        raise SettingsError(msg, "Name the file of responses: atp intervene INPUT.")
    return paths[0]


def _intervene(
    settings: Settings,
    own: InterventionSettings,
    file: FeaturesFile,
    scan: InputScan,
    loaded: Loaded,
) -> tuple[ExitCode, list[Path], int]:
    """Measure, and write the files; return also the number of measured pairs."""
    # Imported here: they import torch, which settings and names need not wait for.
    from atp.intervention import regeneration  # noqa: PLC0415
    from atp.intervention.feature_sets import sets_of  # noqa: PLC0415
    from atp.intervention.runner import AblationRunner  # noqa: PLC0415
    from atp.intervention.study import study  # noqa: PLC0415
    from atp.intervention.texts import read_texts  # noqa: PLC0415
    from atp.model.memory_model import batch_tokens  # noqa: PLC0415
    from atp.run.metadata import facts, now  # noqa: PLC0415

    started = now()
    model, dictionaries = loaded.model, loaded.dictionaries
    sets = sets_of(file, model, dictionaries)
    budget = settings.batch_tokens or batch_tokens(model, dictionaries)
    settings = replace(settings, batch_tokens=budget)
    texts = read_texts(settings.input, loaded.pair_tokenizer, settings.limit)
    if not texts.pairs:
        msg = f"{settings.input} holds no pair whose responses differ where they are compared."
        raise InputError(msg, "atp check gives the reason of each pair.")
    known = facts(settings, scan, model, dictionaries, budget)
    metadata = {
        "model": known["model"],
        "saes": known["saes"],
        "input": {"path": str(settings.input), **known["input"]},
        "versions": known["versions"],
        "source_sha256": known["source_sha256"],
        "features": file.as_json(),
        "settings": {
            **json_values(settings, "intervene"),
            "sae": list(sae_specs(settings)),
            **json_values(own, "intervene"),
        },
    }
    name = f"atp_intervention_{output.run_name(settings.out, model.name)}"
    paths: list[Path] = []
    regenerated = None
    with ExitStack() as stack:
        for dictionary in dictionaries:
            stack.enter_context(dictionaries.on_device(dictionary))
        runner = AblationRunner(model, budget, own.strength, first_position=not own.spare_first)
        measured = study(runner, sets, texts, own.controls, own.seed)
        if own.regenerate:
            identity = regeneration.fingerprint(metadata)
            with regeneration.open_journal(
                settings.out, name, identity, fresh=settings.fresh
            ) as journal:
                regeneration.regenerate(runner, sets.selected, texts.prompts, journal, own)
                paths = [settings.out / f"{name}_{side}.json" for side in ("before", "after")]
                entries = [
                    {**metadata, "ablated": ablated, "complete": True, "started": started}
                    for ablated in (False, True)
                ]
                regeneration.write_responses(scan, journal, paths, entries)
                regenerated = regeneration.describe(journal, texts.prompts)
    failed = measured["summary"]["errors"] + len(texts.text_issues)
    failed += 0 if regenerated is None else regenerated["prompts"] - regenerated["answered"]
    report = {
        "metadata": {"atp": {**metadata, "started": started, "finished": now()}},
        "summary": measured["summary"],
        "answers": regenerated,
        "texts_with_errors": {str(key): issue for key, issue in texts.text_issues.items()},
        "pairs": measured["pairs"],
    }
    paths += write_report(settings.out, name, report, as_text(report))
    code = ExitCode.PAIRS_FAILED if failed else ExitCode.OK
    return code, paths, measured["summary"]["pairs"]


def compare(settings: ComparisonSettings) -> list[Path]:
    """Compare two labelled files of responses, and return the files: a table, and the report."""
    scans = [scan_input(path) for path in (settings.before, settings.after)]
    from atp.intervention import comparison  # noqa: PLC0415  (scipy takes a second)

    compared = comparison.compare(settings.before, settings.after)
    metadata = scans[1].top_level.get("metadata") or {}
    model = metadata.get("atp", {}).get("model", {}).get("name") or metadata.get("model_name")
    files = {
        side: {"path": str(scan.path), "sha256": scan.sha256}
        for side, scan in zip(("before", "after"), scans, strict=True)
    }
    with output.held(settings.out):
        name = f"atp_comparison_{output.run_name(settings.out, str(model or 'answers'))}"
        report = {"files": files, **compared}
        return write_report(settings.out, name, report, comparison_as_text(compared))
