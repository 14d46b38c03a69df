"""A check's findings as text for a person; the JSON object they come from is for machines."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Part = Mapping[str, Any]

SHOWN = 20
"""Problems of the input that are printed."""
WIDTH, INDENT = 100, 11
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
MINUTE, HOUR = 60, 3600


def as_json(report: Part) -> str:
    """Return the report as one JSON object."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def as_text(report: Part) -> str:
    """Return the report, a few lines for each part."""
    lines = []
    for title, text in _parts(report):
        lines += textwrap.wrap(
            text,
            WIDTH,
            initial_indent=f"{title:<{INDENT}}",
            subsequent_indent=" " * INDENT,
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def size(count: float | None) -> str:
    """Return a number of bytes in the unit that suits it."""
    if count is None:
        return "an unknown size"
    unit = 0
    while count >= 1024 and unit < len(UNITS) - 1:  # noqa: PLR2004  (of a KiB)
        count, unit = count / 1024, unit + 1
    return f"{count:.0f} bytes" if unit == 0 else f"{count:.3g} {UNITS[unit]}"


def duration(seconds: float) -> str:
    """Return a time in the unit that suits it."""
    if seconds < 2 * MINUTE:
        return f"{seconds:.0f} s"
    return f"{seconds / MINUTE:.0f} min" if seconds < 2 * HOUR else f"{seconds / HOUR:.1f} h"


def _parts(report: Part) -> Iterator[tuple[str, str]]:
    """Yield a title and a text for each line of the report."""
    yield from _input(report["input"])
    yield "pairs", _pairs(report["pairs"])
    yield "tokens", _tokens(report["tokens"])
    yield "model", _model(report["model"])
    for sae in report["saes"]:
        yield "SAE", _sae(sae)
    yield from _machine(report["machine"])
    estimate = report["estimate"]
    yield "memory", _memory(estimate["memory"])
    yield "disk", _disk(estimate["disk"], report["output"])
    yield "time", _time(estimate["time"])
    yield from _output(report["output"])
    yield from (("earlier", _earlier(run)) for run in report["earlier_runs"])
    for finding in report["findings"]:
        yield "WRONG", f"{finding['part']}: {finding['message']} {finding['hint']}"
    yield "result", _result(report)


def _input(found: Part) -> Iterator[tuple[str, str]]:
    yield (
        "input",
        f"{found['path']}: {found['format']}"
        + (
            f", {size(found['bytes'])}, {found['questions']:,} questions, {found['pairs']:,} pairs"
            if found["sha256"]
            else ""
        ),
    )
    for problem in found["problems"][:SHOWN]:
        line = "" if problem["line"] is None else f"(line {problem['line']}) "
        yield "", f"- {line}{problem['message']} {problem['hint']} A run {problem['run']}."
    if (left := found["problem_count"] - SHOWN) > 0:
        yield "", f"... and {left:,} more; --json lists them."


def _pairs(pairs: Part) -> str:
    if "unknown" in pairs:
        return _unknown(pairs)
    why = [
        f"{count:,} {reason}"
        for kind in ("skips", "errors")
        for reason, count in pairs[kind].items()
    ]
    text = f"{pairs['scored']:,} to be scored, {pairs['skipped']:,} skipped, "
    text += f"{pairs['error']:,} with an error"
    if why:
        text += f" ({'; '.join(why)})"
    return f"{text}; {pairs['elsewhere']:,} are of other shards" if "elsewhere" in pairs else text


def _tokens(tokens: Part) -> str:
    if "unknown" in tokens:
        return _unknown(tokens)
    prompt = tokens["prompt"]
    if prompt["min"] is None:
        return "none: no pair is to be scored"
    return (
        f"prompts of {prompt['min']:,} to {prompt['max']:,}, median {prompt['median']:,}; "
        f"the model reads {tokens['context']:,}; {tokens['computed']:,} to be computed in "
        f"{tokens['batches']:,} batches of at most {tokens['batch_tokens']:,}"
    )


def _where(part: Part) -> str:
    if part["where"] != "hub":
        cache = "in the hub cache" + (", as fetched" if part["fetched"] else "")
        return {"here": "here", "folder": "here", "cache": cache}[part["where"]]
    return f"not in the cache; a run would download {_about(part['download_bytes'])}"


def _about(count: int | None) -> str:
    return size(count) if count is None else f"about {size(count)}"


def _model(model: Part) -> str:
    if model["where"] is None:
        return f"{model['name']}: its name is wrong"
    text = f"{model['name']}, {_where(model)}"
    if model["parameters"] is None:
        return f"{text}; its configuration cannot be had"
    return f"{text}; {model['parameters']:,} parameters, {size(model['bytes'])} in {model['dtype']}"


def _sae(sae: Part) -> str:
    text = f"{sae['spec']}, {_where(sae)}"
    if sae["hook_name"] is None:
        return f"{text}; its size is known once it is there"
    features = "" if sae["d_sae"] is None else f", {sae['d_sae']:,} features"
    taken = "" if sae["bytes"] is None else f", {size(sae['bytes'])}"
    return f"{text}; {sae['hook_name']}{features}{taken}"


def _machine(machine: Part) -> Iterator[tuple[str, str]]:
    note = f" ({machine['device_note']})" if machine["device_note"] else ""
    if machine["device"]:
        yield "device", f"{machine['device']}{note}"
    for gpu in machine["gpus"]:
        free = f"{size(gpu['free_bytes'])} of {size(gpu['total_bytes'])} free"
        yield "GPU", f"{gpu['name']}, {free}; driver {machine['driver']}"
    hub = machine["hub"]
    token = "a token is there" if hub["token"] else "no token"
    offline = "; HF_HUB_OFFLINE is set" if hub["offline"] else ""
    yield "hub", f"cache {hub['cache']}, {size(hub['free_bytes'])} free; {token}{offline}"


def _memory(memory: Part) -> str:
    if "unknown" in memory:
        return _unknown(memory)
    sae = "" if memory["sae_bytes"] is not None else ", SAEs of unknown size not counted"
    text = f"about {size(memory['peak_bytes'])} of {size(memory['free_bytes'])} that are free"
    return f"{text} ({memory['basis']}{sae})"


def _disk(disk: Part, output: Part) -> str:
    if "unknown" in disk:
        return _unknown(disk)
    free = f" of {size(output['free_bytes'])} that are free" if output.get("free_bytes") else ""
    return (
        f"about {size(disk['peak_bytes'])}{free}: results {size(disk['result_bytes'])}, twice "
        f"while they are renewed, journal {size(disk['journal_bytes'])}"
    )


def _time(time: Part) -> str:
    if "unknown" in time:
        return _unknown(time)
    loading = " to ".join(map(duration, time["loading_seconds"]))
    if time["seconds"] is None:
        return f"{loading} to load; {time['basis']}"
    whole = " to ".join(map(duration, time["seconds"]))
    return f"{whole}, of which {loading} to load ({time['basis']})"


def _output(output: Part) -> Iterator[tuple[str, str]]:
    state = "can be written to" if output["writable"] else "cannot be written to"
    yield "output", f"{output['path']} {state}"
    if output.get("held_by"):
        yield "", f"A run that is started now is refused: {output['held_by']} holds it."


def _earlier(run: Part) -> str:
    if "unreadable" in run:
        return f"{run['journal']} cannot be read: {run['unreadable']}"
    if run["header_damaged"]:
        return f"{run['journal']}: its first line is damaged, nobody knows whose it is"
    state = f"complete since {run['ended']}" if run["ended"] else "not complete"
    faults = [
        f"{run['failed']:,} of them with an error" if run["failed"] else "",
        f"damaged lines {', '.join(map(str, run['damaged_lines'][:SHOWN]))}"
        if run["damaged_lines"]
        else "",
        "its last line is cut off" if run["torn_bytes"] else "",
    ]
    shard = f", shard {run['shard']}" if run["shard"] else ""
    text = f"{run['journal']}: {run['model']}{shard}, {run['pairs']:,} pairs saved, {state}"
    return "; ".join([text, *filter(None, faults)])


def _result(report: Part) -> str:
    count = report["input"]["problem_count"] + len(report["findings"])
    if not count:
        return "nothing is wrong; a run can start"
    return f"{count:,} problem{'s' if count > 1 else ''}; exit code {report['exit_code']}"


def _unknown(part: Part) -> str:
    return f"unknown: {part['unknown']}"
