"""The events of the log: an interface. Each with its level, when it comes, its fields and units.

Nothing here is used to write a log; tests hold every line of every run against it, and the table in
docs/logs.md is made of it. Fields are only ever added.
"""

from __future__ import annotations

from dataclasses import dataclass

ON_EVERY_LINE = {
    "event": "the name",
    "level": "`info`, `warning` or `error`",
    "timestamp": "UTC, ISO format",
    "run_id": "12 hexadecimal digits, the same on every line of a process",
}

PAIRS = {
    "done": "pairs that need nothing more from this run, those of earlier starts included; of a "
    "shard, also those that were found to be other shards'",
    "total": "pairs the run is to do; of a shard, all of the input's",
}
MEMORY = {
    "free_bytes": "free on the device",
    "used_bytes": "in use by this process",
    "peak_bytes": "its most so far",
    "total_bytes": "of the device",
}


@dataclass(frozen=True)
class Event:
    """What is known of one event."""

    level: str
    when: str
    fields: dict[str, str]
    optional: frozenset[str] = frozenset()
    """Fields that are not always there."""


EVENTS = {
    "run.start": Event(
        "info",
        "the input is read through once",
        {
            "input": "path",
            "out": "folder",
            "questions": "count",
            "pairs": "count",
            "unpaired": "how many of them get an error, for want of a base answer or a text",
            "pid": "of this process",
            "shard": "as in `--shard`",
        },
        optional=frozenset({"shard"}),
    ),
    "lock.taken": Event(
        "warning",
        "the process that held the folder before had no time to leave it",
        {"holder": "its pid, host and start time"},
    ),
    "model.loaded": Event(
        "info",
        "model and SAEs are loaded and tried",
        {
            "model": "name",
            "device": "`cpu` or `cuda:N`",
            "dtype": "of the model",
            "saes": "their names",
            "lent": "whether SAEs are copied to the device one at a time",
            "seconds": "what loading took",
        },
    ),
    "run.resume": Event(
        "info",
        "the journal of an earlier start was found",
        {
            "journal": "path",
            "done": "pairs that are not computed again",
            "retried": "pairs that ended in an error and are tried again",
            "torn_bytes": "of a last line that a crash had cut off; it was dropped",
        },
    ),
    "journal.damaged": Event(
        "warning",
        "a line of that journal is not what was written; what it held is computed again",
        {"journal": "path", "line": "counted from 1", "byte": "where it starts"},
    ),
    "journal.unreadable": Event(
        "warning",
        "a journal in the folder cannot be assigned to a run; it is left alone",
        {"journal": "path", "reason": "text"},
    ),
    "baseline.mean": Event(
        "info",
        "the mean activations over the base prompts are known",
        {
            "prompts": "how many base prompts they were taken over",
            "left_out": "how many could not be read",
        },
    ),
    "batch.done": Event(
        "info",
        "a batch is scored and in the journal",
        {
            **PAIRS,
            "pairs_per_second": "of this process, on average",
            "seconds_left": "to the end, at that rate; null while it is unknown",
            "pairs": "in this batch",
            "new": "how many of them were not done before",
            "tokens": "in this batch, without padding",
            "seconds": "what it took, saving included",
        },
    ),
    "batch.given_up": Event(
        "info",
        "a batch was not done soon after a signal; the next start computes it",
        {"seconds": "since it began"},
    ),
    "save.done": Event(
        "info",
        "the journal is on the disk",
        {**PAIRS, "bytes": "new in it since the last save", "seconds": "what saving took"},
    ),
    "results.written": Event(
        "info",
        "the result files are as the journal",
        {**PAIRS, "seconds": "what writing took"},
    ),
    "save.failed": Event(
        "error",
        "a run that ends for another reason cannot write its result files",
        {"message": "what is wrong, and where", "hint": "how to mend it"},
    ),
    "pair.skipped": Event(
        "info",
        "there is nothing to attribute",
        {"pair": "its place in the input", "reason": "as in the result"},
    ),
    "pair.error": Event(
        "warning",
        "a pair has an error as its result",
        {"pair": "its place in the input", "reason": "as in the result; details are there"},
    ),
    "oom.retry": Event(
        "warning",
        "a batch did not fit into memory and is halved",
        {
            "pairs": "in the batch",
            "error": "`OOM`",
            "tokens": "in the batch, without padding",
            **MEMORY,
        },
    ),
    "batch.retry": Event(
        "warning",
        "a batch failed for another reason and is halved, to find the pair at fault",
        {"pairs": "in the batch", "error": "kind of exception"},
    ),
    "model.probed": Event(
        "warning",
        "pair after pair failed, but a probe shows that the model works: the run goes on",
        {"pairs": "that failed in a row", "error": "kind of the last exception"},
    ),
    "run.stop": Event(
        "info",
        "the run ends before its time; what was computed is in the journal",
        {
            "reason": "`SIGTERM`, `SIGINT`, or the kind of error that the last line explains",
            "at_once": "true: before the first batch, or at a second signal",
            **PAIRS,
        },
        optional=frozenset(PAIRS),
    ),
    "run.done": Event(
        "info",
        "every pair has its result",
        {
            "pairs": "count",
            "errors": "how many of them have an error",
            "seconds": "from the first batch to the end",
            "saving_seconds": "how much of it journal and result files took",
            "results": "paths",
        },
    ),
    "merge.found": Event(
        "info",
        "`atp merge` has read the results of shards",
        {
            "shards": "paths of those it puts together",
            "left_out": "paths of those in its folders that are of earlier runs",
        },
    ),
    "merge.done": Event(
        "info",
        "the result of a whole run is there",
        {
            "result": "path",
            "pairs": "count",
            "errors": "how many of them have an error",
            "there": "whether an earlier merge of the same shards had written it",
            "seconds": "what it took",
        },
    ),
    "features.found": Event(
        "info",
        "`atp features` has found the results that it puts together",
        {
            "results": "paths",
            "left_out": "paths of those in its folders that are of earlier runs, or of shards",
            "errors": "pairs of the results that have an error, and no scores",
        },
    ),
    "features.no_ratio": Event(
        "warning",
        "features are selected without the default `--min-log-ratio`: it needs activations",
        {"saes": "names of those it could not be applied to", "reason": "why"},
    ),
    "features.selected": Event(
        "info",
        "features of an SAE are selected",
        {
            "sae": "name",
            "pairs": "scored, with this SAE",
            "features": "how many have a score in some pair",
            "selected": "how many of them are selected",
            "strongest": "ids of the first ten of these",
        },
    ),
    "features.none": Event(
        "warning",
        "no feature of an SAE is selected",
        {"sae": "name", "reason": "what each threshold took"},
    ),
    "features.done": Event(
        "info",
        "the tables are written",
        {"result": "path of the JSON file", "seconds": "what it took"},
    ),
    "intervene.start": Event(
        "info",
        "`atp intervene` has read the features file and the input",
        {
            "input": "path",
            "out": "folder",
            "pairs": "count",
            "features": "how many are selected, of all SAEs",
        },
    ),
    "intervene.measured": Event(
        "info",
        "the metric of every pair is known for one set of features",
        {
            "what": "`nothing`, `selected`, `negative`, or which control",
            "pairs": "how many have a number",
        },
    ),
    "intervene.no_controls": Event(
        "warning",
        "too few other features are active on these pairs to draw random ones; none are compared",
        {"features": "how many were to be drawn"},
    ),
    "intervene.side_effects": Event(
        "info",
        "the base answers have been run with and without features",
        {"texts": "count", "tokens": "of the answers"},
    ),
    "intervene.resume": Event(
        "info",
        "the answers that an earlier start generated were found",
        {"journal": "path", "done": "prompts that are not answered again"},
    ),
    "intervene.answers": Event(
        "info",
        "a batch of prompts is answered, with and without the features, and in the journal",
        {"done": "prompts that need nothing more", "total": "count"},
    ),
    "intervene.done": Event(
        "info",
        "the report is written",
        {"report": "path", "pairs": "measured", "seconds": "from the start of the command"},
    ),
    "hub.offline": Event(
        "info",
        "all that a command names of the hub was fetched by `atp fetch`: it makes no network call",
        {"commits": "of each repository, as fetched", "records": "paths"},
    ),
    "fetch.local": Event(
        "info",
        "`atp fetch` has nothing to do for what is on this machine",
        {"names": "as given to --model and --sae"},
    ),
    "fetch.wait": Event(
        "info",
        "another `atp fetch` is at a repository; this one waits for it",
        {"repository": "name"},
    ),
    "fetch.outdated": Event(
        "warning",
        "something fetched earlier has changed on the hub and is not asked for now: its record "
        "ends, and a run that names it asks the hub",
        {"repository": "name", "part": "`model`, or the place of an SAE"},
    ),
    "fetch.start": Event(
        "info",
        "the hub has said what there is, and the disk has room for it",
        {
            "commits": "of each repository",
            "files": "count",
            "bytes": "of all of them",
            "missing_bytes": "how many of these have to come",
            "cache": "folder",
        },
    ),
    "fetch.progress": Event(
        "info",
        "every ten seconds while files come, where no terminal shows a bar",
        {
            "done_bytes": "that have come",
            "total_bytes": "that had to come",
            "bytes_per_second": "on average",
            "seconds_left": "to the end, at that rate; null while it is unknown",
        },
    ),
    "fetch.retry": Event(
        "warning",
        "the hub gave no answer, or broke off; it is asked again",
        {
            "what": "repository, and file",
            "failed": "tries in a row",
            "error": "what happened",
            "seconds": "until the next try",
        },
    ),
    "fetch.file": Event(
        "info",
        "a file is whole, and its hash is the hub's",
        {
            "repository": "name",
            "file": "name",
            "bytes": "of the file",
            "fetched_bytes": "how many of them have come just now",
            "sha256": "of the file",
        },
    ),
    "fetch.done": Event(
        "info",
        "all is there, and the loaders of a run have read it; the record says so",
        {
            "files": "count",
            "fetched_bytes": "that have come",
            "seconds": "what it took",
        },
    ),
    "bench.round": Event(
        "info",
        "`atp bench` has timed a procedure once",
        {
            "what": "its name",
            "round": "counted from 1",
            "rounds": "count",
            "seconds": "what it took",
        },
    ),
    "bench.oom": Event(
        "warning",
        "a procedure that `atp bench` compares does not fit into memory",
        {"what": "its name", **MEMORY},
    ),
    "atp.failed": Event(
        "error",
        "the last line of a command that failed",
        {
            "message": "what is wrong, and where",
            "hint": "how to mend it",
            "exit_code": "of the process",
        },
    ),
    "atp.bug": Event(
        "error",
        "the same, where atp itself is at fault",
        {"error": "kind and message", "where": "file and line of atp", "hint": "text"},
    ),
}


def table() -> str:
    """Return the events as a table in Markdown."""
    lines = ["| event | level | when | fields |", "| --- | --- | --- | --- |"]
    for name, event in EVENTS.items():
        fields = "; ".join(
            f"`{field}`{' (not always)' if field in event.optional else ''}: {meaning}"
            for field, meaning in event.fields.items()
        )
        lines.append(f"| `{name}` | {event.level} | {event.when} | {fields} |")
    return "\n".join(lines) + "\n"
