"""The report of a check as text for a person, made from the JSON object."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import orjson

from atp.runtime.units import duration, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Part = Mapping[str, Any]

SHOWN_PROBLEMS = 20
WIDTH, INDENT = 100, 11


def as_json(report: Part) -> str:
    """Return the report as one JSON object."""
    return orjson.dumps(report, option=orjson.OPT_INDENT_2).decode()


def as_text(report: Part) -> str:
    """Return the report as a few lines for each part."""
    wrapper = textwrap.TextWrapper(WIDTH, break_long_words=False, break_on_hyphens=False)
    wrapper.subsequent_indent = " " * INDENT
    lines = []
    for title, text in _parts(report):
        wrapper.initial_indent = f"{title:<{INDENT}}"
        lines += wrapper.wrap(text)
    return "\n".join(lines)


def _parts(report: Part) -> Iterator[tuple[str, str]]:
    estimate = report["estimate"]
    yield from _input(report["input"])
    yield "pairs", _known(_pairs, report["pairs"])
    yield "tokens", _known(_tokens, report["tokens"])
    yield "model", _model(report["model"])
    yield from (("SAE", _sae(sae)) for sae in report["saes"])
    yield from _machine(report["machine"])
    yield "memory", _known(_memory, estimate["memory"])
    yield "disk", _known(_disk, estimate["disk"], report["output"])
    yield "time", _known(_time, estimate["time"])
    yield from _output(report["output"])
    yield from (("earlier", _earlier(run)) for run in report["earlier_runs"])
    for finding in report["findings"]:
        yield "WRONG", f"{finding['part']}: {finding['message']} {finding['hint']}"
    yield "result", _result(report)


def _known(describe: Callable[..., str], part: Part, *context: Part) -> str:
    return f"unknown: {part['unknown']}" if "unknown" in part else describe(part, *context)


def _input(source: Part) -> Iterator[tuple[str, str]]:
    text = f"{source['path']}: {source['format']}"
    if source["sha256"]:
        text += f", {size(source['bytes'])}, {source['questions']:,} questions, "
        text += f"{source['pairs']:,} pairs"
    yield "input", text
    for problem in source["problems"][:SHOWN_PROBLEMS]:
        line = "" if problem["line"] is None else f"(line {problem['line']}) "
        yield "", f"- {line}{problem['message']} {problem['hint']} A run {problem['run']}."
    if (more := source["problem_count"] - SHOWN_PROBLEMS) > 0:
        yield "", f"... and {more:,} more; --json lists them."


def _pairs(pairs: Part) -> str:
    reasons = [*pairs["skips"].items(), *pairs["errors"].items()]
    text = f"{pairs['scored']:,} to be scored, {pairs['skipped']:,} skipped, "
    text += f"{pairs['error']:,} with an error"
    if reasons:
        text += f" ({'; '.join(f'{count:,} {reason}' for reason, count in reasons)})"
    if "elsewhere" in pairs:
        text += f"; {pairs['elsewhere']:,} in other shards"
    return text


def _tokens(tokens: Part) -> str:
    prompt = tokens["prompt"]
    if prompt["min"] is None:
        return "none: no pair is to be scored"
    return (
        f"prompts of {prompt['min']:,} to {prompt['max']:,}, median {prompt['median']:,}; "
        f"the model reads {tokens['context']:,}; {tokens['computed']:,} to be computed in "
        f"{tokens['batches']:,} batches of at most {tokens['batch_tokens']:,}"
    )


def _model(model: Part) -> str:
    if model["where"] is None:
        return f"{model['name']}: its name is wrong"
    text = f"{model['name']}, {_where(model)}"
    if model["parameters"] is None:
        return f"{text}; its configuration is not available"
    return f"{text}; {model['parameters']:,} parameters, {size(model['bytes'])} in {model['dtype']}"


def _sae(sae: Part) -> str:
    text = f"{sae['spec']}, {_where(sae)}"
    if sae["hook_name"] is None:
        return f"{text}; its size is unknown until it is downloaded"
    features = "" if sae["d_sae"] is None else f", {sae['d_sae']:,} features"
    memory = "" if sae["bytes"] is None else f", {size(sae['bytes'])}"
    return f"{text}; {sae['hook_name']}{features}{memory}"


def _where(part: Part) -> str:
    if part["where"] == "hub":
        count = part["download_bytes"]
        about = "" if count is None else "about "
        return f"not in the cache; a run would download {about}{size(count)}"
    if part["where"] == "cache":
        return "in the hub cache" + (", as fetched" if part["fetched"] else "")
    return "here"


def _machine(machine: Part) -> Iterator[tuple[str, str]]:
    note = f" ({machine['device_note']})" if machine["device_note"] else ""
    if machine["device"]:
        yield "device", f"{machine['device']}{note}"
    for gpu in machine["gpus"]:
        free = f"{size(gpu['free_bytes'])} of {size(gpu['total_bytes'])} free"
        yield "GPU", f"{gpu['name']}, {free}; driver {machine['driver']}"
    hub = machine["hub"]
    token = "a token is set" if hub["token"] else "no token"
    offline = "; HF_HUB_OFFLINE is set" if hub["offline"] else ""
    yield "hub", f"cache {hub['cache']}, {size(hub['free_bytes'])} free; {token}{offline}"


def _memory(memory: Part) -> str:
    sae = "" if memory["sae_bytes"] is not None else ", SAEs of unknown size not counted"
    text = f"about {size(memory['peak_bytes'])} of {size(memory['free_bytes'])} that are free"
    return f"{text} ({memory['basis']}{sae})"


def _disk(disk: Part, output: Part) -> str:
    free = f" of {size(output['free_bytes'])} that are free" if output.get("free_bytes") else ""
    text = f"about {size(disk['peak_bytes'])}{free}: results {size(disk['result_bytes'])}, twice "
    text += f"that while they are rewritten, journal {size(disk['journal_bytes'])}"
    if disk["vectors_bytes"]:
        text += f", vectors {size(disk['vectors_bytes'])}"
    return text


def _time(time: Part) -> str:
    loading = " to ".join(map(duration, time["loading_seconds"]))
    if time["seconds"] is None:
        return f"{loading} to load; {time['basis']}"
    total = " to ".join(map(duration, time["seconds"]))
    return f"{total}, of which {loading} to load ({time['basis']})"


def _output(output: Part) -> Iterator[tuple[str, str]]:
    state = "can be written to" if output["writable"] else "cannot be written to"
    yield "output", f"{output['path']} {state}"
    if output.get("held_by"):
        yield "", f"A run that starts now is refused: {output['held_by']} holds the folder."


def _earlier(run: Part) -> str:
    if "unreadable" in run:
        return f"{run['journal']} cannot be read: {run['unreadable']}"
    if run["header_damaged"]:
        return f"{run['journal']}: its first line is damaged, so its run is unknown"
    text = f"{run['journal']}: {run['model']}"
    if run["shard"]:
        text += f", shard {run['shard']}"
    text += f", {run['pairs']:,} pairs saved, "
    text += f"complete since {run['ended']}" if run["ended"] else "not complete"
    if run["failed"]:
        text += f"; {run['failed']:,} of them with an error"
    if run["damaged_lines"]:
        text += f"; damaged lines {', '.join(map(str, run['damaged_lines'][:SHOWN_PROBLEMS]))}"
    if run["torn_bytes"]:
        text += "; its last line is cut off"
    return text


def _result(report: Part) -> str:
    count = report["input"]["problem_count"] + len(report["findings"])
    if not count:
        return "nothing is wrong; a run can start"
    return f"{count:,} problem{'s' if count > 1 else ''}; exit code {report['exit_code']}"
