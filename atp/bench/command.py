"""`atp bench`: times atp beside the notebook's procedure; gives a table and a JSON file."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from atp import __version__
from atp.config.method import Method
from atp.dataset import output
from atp.dataset.atomic import atomic_write
from atp.dataset.input_scan import scan_input
from atp.errors import SettingsError
from atp.run import setup

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from atp.bench.contenders import Workload
    from atp.bench.measure import Contender
    from atp.config.settings import Settings
    from atp.run.setup import Loaded

LIBRARIES = ("torch", "transformers", "transformer-lens", "sae-lens")


def bench(settings: Settings) -> tuple[str, Path]:
    """Measure atp on a model, SAEs and an input; return a Markdown table and the JSON file."""
    _check_settings(settings)
    specs = setup.check(settings)
    with output.held(settings.out):
        scan_input(settings.input)  # reports a broken input before the model is loaded
        loaded = setup.load(settings, specs)
        from atp.bench.contenders import load_plain_model  # noqa: PLC0415  (imports torch)

        plain = load_plain_model(loaded.model, settings.model, settings.revision)
        figures = compare(settings, loaded, plain)
        path = settings.out / f"atp_bench_{output.run_name(settings.out, loaded.model.name)}.json"
        with atomic_write(path) as file:
            file.write(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    return table(figures), path


def _check_settings(settings: Settings) -> None:
    """Refuse what the notebook's procedure lacks: a split model, and other ways of scoring."""
    if settings.device_map is not None:
        msg = "atp bench times procedures on one device: not --device-map."
        raise SettingsError(msg, "Leave that out.")
    chosen, default = settings.scoring.describe(), Method().describe()
    changed = [name.replace("_", "-") for name in default if chosen[name] != default[name]]
    if changed:
        names = ", ".join(f"--{'method' if name == 'name' else name}" for name in changed)
        msg = f"atp bench times the default scores, as the notebook computes them: not {names}."
        raise SettingsError(msg, "Leave that out; atp check estimates the time of such a run.")


def compare(settings: Settings, loaded: Loaded, plain: Any) -> dict[str, Any]:  # noqa: ANN401
    """Time the procedures on a loaded model, and return all figures as JSON values."""
    from atp.bench.contenders import contenders, workload  # noqa: PLC0415  (imports torch)
    from atp.bench.measure import interleave, ratio  # noqa: PLC0415  (as above)
    from atp.model.memory_model import batch_tokens  # noqa: PLC0415  (as above)

    budget = settings.batch_tokens or batch_tokens(loaded.model, loaded.dictionaries)
    work = workload(settings, loaded, budget)
    compared = contenders(settings, loaded, plain, work)
    interleave(compared, settings.rounds, loaded.model.device)
    notebook, atp, passes, bare = compared
    passes_share = ratio(passes, atp)
    return {
        "machine": machine(loaded.model.device),
        "versions": versions(),
        "model": {"name": loaded.model.name, "dtype": str(loaded.model.dtype)},
        "saes": [{"hook_name": sae.hook_name, "d_sae": sae.d_sae} for sae in loaded.dictionaries],
        "input": {
            "path": str(settings.input),
            "pairs": len(work.pairs),
            "tokens": work.tokens,
            "padded_tokens": work.padded_tokens,
            "computed_tokens": work.computed_tokens,
            "batches": len(work.batches),
            "batch_tokens": work.batch_tokens,
        },
        "rounds": settings.rounds,
        "procedures": {contender.name: _figures(contender, work) for contender in compared},
        "ratios": {
            "notebook / atp": ratio(notebook, atp),
            "atp / bare": ratio(atp, bare),
            "outside the passes": None if passes_share is None else 1 - passes_share,
        },
    }


def versions() -> dict[str, str]:
    """Return the versions of atp and of the libraries that decide its speed."""
    return {"atp": __version__, **{name: version(name) for name in LIBRARIES}}


def machine(device: torch.device) -> dict[str, Any]:
    """Describe the machine: device, processor, cores and threads."""
    import torch  # noqa: PLC0415  (start-up stays light)

    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }


def _figures(contender: Contender, work: Workload) -> dict[str, Any]:
    median, pairs = contender.median, len(work.pairs)
    return {
        "seconds": contender.seconds,
        "median_seconds": median,
        "seconds_per_pair": median and median / pairs,
        "pairs_per_second": median and pairs / median,
        "tokens_per_second": median and work.tokens / median,
        "peak_bytes": contender.peak_bytes,
        "out_of_memory": contender.out_of_memory,
    }


def table(figures: Mapping[str, Any]) -> str:
    """Return the figures as tables in Markdown."""
    source, machine = figures["input"], figures["machine"]
    dtype = figures["model"]["dtype"].removeprefix("torch.")
    heading = (
        f"{figures['model']['name']} ({dtype}), {len(figures['saes'])} SAE(s); "
        f"{source['pairs']} pairs, {source['tokens']} tokens in {source['batches']} batches, "
        f"{source['padded_tokens']} with padding, {source['computed_tokens']} computed by atp; "
        f"{machine['device']}, {machine['cpu']}, {machine['threads']} threads; "
        f"median of {figures['rounds']} rounds"
    )
    lines = [
        heading,
        "",
        "| procedure | s/pair | pairs/s | tokens/s | peak GiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in figures["procedures"].items():
        if row["out_of_memory"]:
            lines.append(f"| {name} | out of memory | | | |")
            continue
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**30:.2f}"
        lines.append(
            f"| {name} | {row['seconds_per_pair']:.4f} | {row['pairs_per_second']:.2f} "
            f"| {row['tokens_per_second']:.0f} | {peak} |"
        )
    lines += ["", "| ratio | |", "| --- | ---: |"]
    for name, value in figures["ratios"].items():
        lines.append(f"| {name} | {'' if value is None else f'{value:.3g}'} |")
    return "\n".join(lines)
