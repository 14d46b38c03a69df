"""`atp check`: looks at input, names, files, machine and settings, and says what a run would find.

Each part is looked at whatever is wrong with another, and one that cannot be says why. torch is
imported for tokens and estimates alone: an input that is not there is told at once.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from atp import __version__
from atp.check.answers import Problems
from atp.check.earlier import earlier_runs
from atp.check.findings import Findings
from atp.check.machine import free_bytes, look_at, nvidia
from atp.check.report import size
from atp.dataset.input_scan import scan_input
from atp.dataset.source import is_lines, opened
from atp.errors import UnavailableError
from atp.model.dictionaries.names import check_sae_spec, expand_sae_specs
from atp.model.dictionaries.outline import sae_outline
from atp.model.hub.records import go_offline_if_fetched, is_fetched, model_request, sae_request
from atp.model.hub_cache import cached_folder, hub, weights_bytes
from atp.model.names import check_model_name, check_same_model, is_local
from atp.runtime.paths import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.machine import Nvidia
    from atp.check.readiness import Readiness
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.model.hub_cache import Hub

FETCH = "Run `atp fetch` with the same options, with a network; or unset HF_HUB_OFFLINE."


def check(settings: Settings) -> dict[str, Any]:
    """Look at everything a run would need, and return all that was found as JSON values.

    README.md names the keys; `exit_code` is what the command ends with.
    """
    findings, problems = Findings(), Problems()
    readable = model_named = False
    specs: list[str] = []  # those whose names are right
    with findings.of("input"), opened(settings.input):
        readable = True
    with findings.of("model"):
        check_model_name(settings.model, settings.revision)
        model_named = True
    with findings.of("saes"):
        for spec in expand_sae_specs(settings.sae_specs):
            with findings.of("saes"):
                trained_on = check_sae_spec(spec)
                specs.append(spec)
                if model_named and not settings.allow_other_model:
                    check_same_model(settings.model, trained_on, spec)
    gpus, here = nvidia(), hub()
    if readable and model_named:  # as a run does, once it knows that all names are right
        go_offline_if_fetched(settings.model, settings.revision, specs)
    ready: Readiness | None = None
    if readable and model_named:
        from atp.check.readiness import inspect_run  # noqa: PLC0415  (imports torch)

        ready = inspect_run(settings, specs, gpus, findings, problems)
    found: InputScan | None = None
    if readable:
        with findings.of("input"):
            use = ready.work.use if ready is not None and ready.work is not None else None
            found = scan_input(settings.input, problems.tell, use)
    why = "the input cannot be read" if found is None else "the model cannot be had"
    report: dict[str, Any] = {
        "version": __version__,
        "exit_code": 0,
        "findings": findings.found,
        "input": _input(settings, found, problems),
        "pairs": {"unknown": why},
        "tokens": {"unknown": why},
        "model": {"name": settings.model, "where": None},
        "saes": _saes(specs, ready, here, findings),
        "estimate": {part: {"unknown": why} for part in ("memory", "disk", "time")},
        "machine": _machine(gpus, here, ready),
        "output": {"path": str(settings.out), "writable": False},
        "earlier_runs": [],
    }
    if model_named:
        report["model"] |= _model(settings, ready, here, findings)
    if found is not None and ready is not None and ready.work is not None:
        ready.work.finish()
        with findings.of("input"):
            ready.work.base_prompts.finish(settings.input, ready.work.pairs)
        report["pairs"], report["tokens"] = ready.work.outcome_counts(), ready.work.tokens()
        report["estimate"] = ready.estimates(found)
    with findings.of("output"):
        report["output"] = {**asdict(look_at(settings.out)), "path": str(settings.out)}
    if found is not None:
        report["earlier_runs"] = earlier_runs(settings.out, found.sha256)
    _weigh(report, findings)
    report["exit_code"] = int(findings.exit_code(input_at_fault=problems.count > 0))
    return report


def _input(settings: Settings, found: InputScan | None, problems: Problems) -> dict[str, Any]:
    path = settings.input
    return {
        "path": str(path),
        "format": "JSON Lines" if is_lines(path) else "JSON",
        "bytes": found.size if found else None,
        "sha256": found.sha256 if found else None,
        "questions": found.questions if found else None,
        "pairs": found.pairs if found else None,
        **problems.as_json(),
    }


def _model(
    settings: Settings, ready: Readiness | None, here: Hub, findings: Findings
) -> dict[str, Any]:
    """Say where the model is, and what its configuration tells."""
    name = settings.model
    about = ready.outline if ready is not None else None
    known: dict[str, Any] = {
        "where": "here",
        "parameters": about.parameters if about else None,
        "dtype": about.dtype if about else None,
        "bytes": about.bytes if about else None,
        "download_bytes": 0,
        "fetched": is_fetched(model_request(name, settings.revision)),
    }
    if is_local(name):
        if local_path(name).is_dir() and weights_bytes(local_path(name)) is None:
            msg = f"--model={name} holds no weights, or not all that its index names."
            findings.add("model", UnavailableError(msg, "Complete the folder."))
        return known
    commit = cached_folder(name, settings.revision)
    if commit is not None and weights_bytes(commit) is not None:
        return {**known, "where": "cache"}
    if here.offline:
        msg = f"the model {name} is not in the hub cache, and HF_HUB_OFFLINE is set."
        findings.add("model", UnavailableError(msg, FETCH))
    return {**known, "where": "hub", "download_bytes": about.published_bytes if about else None}


def _saes(
    specs: Sequence[str], ready: Readiness | None, here: Hub, findings: Findings
) -> list[dict[str, Any]]:
    """Say where each SAE is, and what is known of it."""
    outlines = ready.saes if ready is not None else [sae_outline(spec, None) for spec in specs]
    for sae in outlines:
        if sae.where == "hub" and here.offline:
            msg = f"the SAE {sae.spec} is not in the hub cache, and HF_HUB_OFFLINE is set."
            findings.add("saes", UnavailableError(msg, FETCH))
    return [
        {
            "spec": sae.spec,
            "where": sae.where,
            "hook_name": sae.hook_name,
            "d_in": sae.d_in,
            "d_sae": sae.d_sae,
            "bytes": sae.bytes,
            "download_bytes": sae.bytes if sae.where == "hub" else 0,
            "fetched": is_fetched(sae_request(sae.spec)),
        }
        for sae in outlines
    ]


def _machine(gpus: Nvidia | None, here: Hub, ready: Readiness | None) -> dict[str, Any]:
    device = ready.device if ready is not None else None
    return {
        "device": device.kind if device else None,
        "device_note": device.note if device else "",
        "gpus": [asdict(gpu) for gpu in gpus.gpus] if gpus else [],
        "driver": gpus.driver if gpus else None,
        "cuda_of_torch": ready.cuda if ready is not None else None,
        "memory": ready.host_memory() if ready is not None else None,
        "hub": {
            "cache": str(here.cache),
            "free_bytes": free_bytes(here.cache),
            "offline": here.offline,
            "token": here.token,
        },
    }


def _weigh(report: dict[str, Any], findings: Findings) -> None:
    """Compare what a run takes with what is there."""
    memory, disk = report["estimate"]["memory"], report["estimate"]["disk"]
    if memory.get("least_bytes", 0) > memory.get("free_bytes", 0):
        msg = (
            f"a run needs at least {size(memory['least_bytes'])} of memory, "
            f"{size(memory['free_bytes'])} are free."
        )
        hint = "Free some, choose a smaller --model-dtype or fewer SAEs, or another device."
        findings.add("memory", UnavailableError(msg, hint))
    here = report["output"].get("free_bytes")
    if here is not None and disk.get("peak_bytes", 0) > here:
        msg = f"a run writes up to {size(disk['peak_bytes'])} to {report['output']['path']}, "
        msg += f"{size(here)} are free."
        findings.add("disk", UnavailableError(msg, "Free some, or choose another --out=DIR."))
    parts = [report["model"], *report["saes"]]
    coming = sum(part.get("download_bytes") or 0 for part in parts)
    cache = report["machine"]["hub"]
    if cache["free_bytes"] is not None and coming > cache["free_bytes"]:
        msg = f"a run would download {size(coming)} to {cache['cache']}, "
        msg += f"{size(cache['free_bytes'])} are free."
        findings.add("disk", UnavailableError(msg, "Free some, or set HF_HOME to another disk."))
