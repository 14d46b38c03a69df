"""The table of events in docs/logs.md lists exactly the lines that the source logs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from events import EVENTS

import atp

DEMANDED = {
    "run.start",
    "run.resume",
    "model.loaded",
    "batch.done",
    "save.done",
    "pair.skipped",
    "pair.error",
    "oom.retry",
    "run.stop",
    "run.done",
}
SECRET_WORDS = {"prompt", "response", "text", "token", "answer"}


def logged() -> Iterator[tuple[str, str, ast.Call]]:
    """Yield place, level and call of every line of the source that logs."""
    for path in sorted(Path(atp.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"debug", "info", "warning", "error", "critical", "exception"}
            ):
                source = ast.unparse(node.func.value)
                if source == "log" or "get_logger" in source:
                    yield f"{path.name}:{node.lineno}", node.func.attr, node


def names(call: ast.Call) -> list[str]:
    """Return the event that a call logs."""
    first = call.args[0]
    assert isinstance(first, ast.Constant)
    return [str(first.value)]


def test_every_line_of_the_source_that_logs_is_in_the_table() -> None:
    seen = set()
    for place, level, call in logged():
        assert names(call), place
        for name in names(call):
            seen.add(name)
            assert EVENTS[name].level == level, place
            given = {keyword.arg for keyword in call.keywords if keyword.arg is not None}
            assert given <= EVENTS[name].fields, place
    assert seen == EVENTS.keys()


def test_the_events_that_operators_were_promised_are_there() -> None:
    assert EVENTS.keys() >= DEMANDED


def test_progress_carries_pairs_rate_and_time_left() -> None:
    progress = {"done", "total", "pairs_per_second", "seconds_left"}
    assert progress <= EVENTS["batch.done"].fields


def test_no_field_is_for_texts() -> None:
    for event in EVENTS.values():
        assert not SECRET_WORDS & event.fields
