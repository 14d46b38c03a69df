"""`atp check`: inspects input, names, files, machine and settings, and forecasts the run.

Every part is inspected, even if another one is wrong. torch is imported only once input and model
have been found, so that a wrong name is reported at once.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from atp import __version__
from atp.check.findings import Findings, InputProblems
from atp.check.machine import find_nvidia
from atp.check.output_folder import earlier_runs, free_disk_bytes, inspect_folder
from atp.config.method import no_mean
from atp.dataset.input_scan import scan_input
from atp.dataset.source import is_lines, opened
from atp.errors import UnavailableError
from atp.model.dictionaries.names import check_sae_spec, expand_sae_specs
from atp.model.dictionaries.outline import sae_outline
from atp.model.dictionaries.picking import sae_specs
from atp.model.hub.records import go_offline_if_fetched, is_fetched, model_request, sae_request
from atp.model.hub_cache import cached_folder, hub, weights_bytes
from atp.model.names import check_model_name, check_same_model, is_local
from atp.runtime.paths import local_path
from atp.runtime.units import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from atp.check.machine import Nvidia
    from atp.check.run_outline import RunOutline
    from atp.config.run import RunSettings
    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.model.dictionaries.outline import SaeOutline
    from atp.model.hub_cache import Hub
    from atp.model.outline import Outline

SAE_FIGURES = ("spec", "where", "hook_name", "d_in", "d_sae", "bytes")
FETCH = "Run `atp fetch` with the same options, with a network; or unset HF_HUB_OFFLINE."


def check(settings: Settings, own: RunSettings) -> dict[str, Any]:
    """Inspect everything that a run needs, and return the report of docs/check.md."""
    findings, problems = Findings(), InputProblems()
    readable = model_named = False
    specs: list[str] = []  # those whose names are right
    with findings.collect("input"), opened(settings.input):
        readable = True
    with findings.collect("model"):
        check_model_name(settings.model, settings.revision)
        model_named = True
    with findings.collect("saes"):
        named = sae_specs(settings) if model_named else settings.sae  # which it chooses by model
        for spec in expand_sae_specs(named):
            with findings.collect("saes"):
                trained_on = check_sae_spec(spec)
                specs.append(spec)
                if model_named and not settings.allow_other_model:
                    check_same_model(settings.model, trained_on, spec)
    nvidia, here = find_nvidia(), hub()
    run: RunOutline | None = None
    if readable and model_named:
        go_offline_if_fetched(settings.model, settings.revision, specs)  # as a run does
        from atp.check.run_outline import outline_run  # noqa: PLC0415  (imports torch)

        run = outline_run(settings, own, specs, nvidia, findings, problems)
    work = run.work if run else None
    scan: InputScan | None = None
    if readable:
        with findings.collect("input"):
            scan = scan_input(settings.input, problems.add, work.add if work else None)
    reason = "the input cannot be read" if scan is None else "the model is not available"
    unknown = {"unknown": reason}
    outlines = run.saes if run else [sae_outline(spec, None) for spec in specs]
    saes = _saes(outlines, here, findings)
    model = {"name": settings.model, "where": None}
    if model_named:
        model = _model(settings, run.model if run else None, here, findings)
    report: dict[str, Any] = {
        "version": __version__,
        "exit_code": 0,
        "findings": findings.entries,
        "input": {
            "path": str(settings.input),
            "format": "JSON Lines" if is_lines(settings.input) else "JSON",
            "bytes": scan.size if scan else None,
            "sha256": scan.sha256 if scan else None,
            "questions": scan.questions if scan else None,
            "pairs": scan.pairs if scan else None,
            **problems.as_json(),
        },
        "pairs": unknown,
        "tokens": unknown,
        "model": model,
        "saes": saes,
        "estimate": {"memory": unknown, "disk": unknown, "time": unknown},
        "machine": _machine(nvidia, here, run),
        "output": {"path": str(settings.out), "writable": False},
        "earlier_runs": [],
    }
    if scan and run and run.model and work:
        work.finish()
        no_base_prompt = work.pairs and not work.base_prompts.mean_prompts
        if settings.scoring.baseline == "mean" and no_base_prompt:
            findings.add("input", no_mean(settings.input))
        report["pairs"], report["tokens"] = work.outcome_counts(), work.tokens()
        report["estimate"] = run.estimates(scan, run.model, work)
    with findings.collect("output"):
        report["output"] = inspect_folder(settings.out)
    if scan:
        report["earlier_runs"] = earlier_runs(settings.out, scan.sha256)
    _check_room(report, findings)
    report["exit_code"] = int(findings.exit_code(input_at_fault=problems.count > 0))
    return report


def _model(
    settings: Settings, outline: Outline | None, hub: Hub, findings: Findings
) -> dict[str, Any]:
    name = settings.model
    if is_local(name):
        where, folder = "here", local_path(name)
        if folder.is_dir() and weights_bytes(folder) is None:
            msg = f"--model={name} holds no weights, or not all that its index names."
            findings.add("model", UnavailableError(msg, "Complete the folder."))
    else:
        commit = cached_folder(name, settings.revision)
        where = "hub" if commit is None or weights_bytes(commit) is None else "cache"
    if where == "hub" and hub.offline:
        findings.add("model", _not_cached(f"the model {name}"))
    published_bytes = outline.published_bytes if outline else None
    return {
        "name": name,
        "where": where,
        "parameters": outline.parameters if outline else None,
        "dtype": outline.dtype if outline else None,
        "bytes": outline.bytes if outline else None,
        "download_bytes": published_bytes if where == "hub" else 0,
        "fetched": is_fetched(model_request(name, settings.revision)),
    }


def _saes(saes: Sequence[SaeOutline], hub: Hub, findings: Findings) -> list[dict[str, Any]]:
    for sae in saes:
        if sae.where == "hub" and hub.offline:
            findings.add("saes", _not_cached(f"the SAE {sae.spec}"))
    return [
        {
            **{name: getattr(sae, name) for name in SAE_FIGURES},
            "download_bytes": sae.bytes if sae.where == "hub" else 0,
            "fetched": is_fetched(sae_request(sae.spec)),
        }
        for sae in saes
    ]


def _not_cached(subject: str) -> UnavailableError:
    return UnavailableError(f"{subject} is not in the hub cache, and HF_HUB_OFFLINE is set.", FETCH)


def _machine(nvidia: Nvidia | None, hub: Hub, run: RunOutline | None) -> dict[str, Any]:
    device = run.device if run else None
    return {
        "device": device.kind if device else None,
        "device_note": device.note if device else "",
        "gpus": [asdict(gpu) for gpu in nvidia.gpus] if nvidia else [],
        "driver": nvidia.driver if nvidia else None,
        "cuda_of_torch": run.cuda if run else None,
        "memory": run.host_memory if run else None,
        "hub": {
            "cache": str(hub.cache),
            "free_bytes": free_disk_bytes(hub.cache),
            "offline": hub.offline,
            "token": hub.token,
        },
    }


def _check_room(report: dict[str, Any], findings: Findings) -> None:
    memory, disk = report["estimate"]["memory"], report["estimate"]["disk"]
    output, cache = report["output"], report["machine"]["hub"]
    if memory.get("least_bytes", 0) > memory.get("free_bytes", 0):
        msg = f"a run needs at least {size(memory['least_bytes'])} of memory, "
        msg += f"{size(memory['free_bytes'])} are free."
        hint = "Free some, choose a smaller --model-dtype or fewer SAEs, or another device."
        findings.add("memory", UnavailableError(msg, hint))
    free = output.get("free_bytes")
    if free is not None and disk.get("peak_bytes", 0) > free:
        msg = f"a run writes up to {size(disk['peak_bytes'])} to {output['path']}, "
        msg += f"{size(free)} are free."
        findings.add("disk", UnavailableError(msg, "Free some, or choose another --out=DIR."))
    parts = [report["model"], *report["saes"]]
    download = sum(part.get("download_bytes") or 0 for part in parts)
    if cache["free_bytes"] is not None and download > cache["free_bytes"]:
        msg = f"a run would download {size(download)} to {cache['cache']}, "
        msg += f"{size(cache['free_bytes'])} are free."
        findings.add("disk", UnavailableError(msg, "Free some, or set HF_HOME to another disk."))
