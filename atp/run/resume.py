"""The journal of a run: that of an earlier start with the same fingerprint, or a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from atp.dataset import output
from atp.dataset.journal import SUFFIX, Journal, journals
from atp.run.metadata import fingerprint, now

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from atp.config.settings import Settings
    from atp.dataset.input_scan import InputScan
    from atp.run.tasks import Engine

DIFFERENCES = {
    "versions": "another version of atp or of its libraries wrote it",
    "source_sha256": "another version of atp wrote it",
    "model": "it is of another model, dtype or device",
    "saes": "it is of other SAEs",
    "method": "its method differs",
    "settings": "its settings differ",
}
"""The facts in which two runs over one input can differ, in words."""

log = structlog.get_logger()


def open_journal(settings: Settings, scan: InputScan, engine: Engine) -> Journal:
    """Return the journal of an earlier start of this run, or a new one.

    An earlier start keeps the token budget it began with, unless --batch-tokens asks for another:
    the default depends on the memory that is free.
    """
    known = engine.facts
    identity = fingerprint(known)
    earlier = journals(settings.out)
    for path, header in earlier:
        if header is None:
            log.warning("journal.unreadable", journal=str(path), reason="its first line is damaged")
            continue
        begun_with = header["facts"]["settings"]["batch_tokens"]
        same_budget = settings.batch_tokens in {None, begun_with}
        if header["fingerprint"] == identity and same_budget and not settings.fresh:
            return _reopened(path)
        if not settings.fresh:
            _warn_if_left(path, header["facts"], known)
    name = output.run_name(settings.out, known["model"]["name"], shard=settings.shard)
    header = {
        "run": name,
        "number": 1 + max((header["number"] for _, header in earlier if header), default=0),
        "fingerprint": identity,
        "started": now(),
        "pairs": min(scan.pairs, settings.limit or scan.pairs),
        "settings": settings.as_json(),
        "results": output.result_names(name, engine.labels),
        "facts": known,
    }
    return Journal.create(settings.out / f"atp_results_{name}{SUFFIX}", header)


def _warn_if_left(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Warn that an unfinished run over this input is not resumed, and say why."""
    if theirs["input"] != ours["input"] or Journal.inspect(path).ended is not None:
        return
    reasons = (reason for name, reason in DIFFERENCES.items() if theirs.get(name) != ours[name])
    log.warning("journal.not_resumed", journal=str(path), reason=next(reasons, "its facts differ"))


def _reopened(path: Path) -> Journal:
    journal = Journal.reopen(path)
    log.info(
        "run.resume",
        journal=str(path),
        done=journal.done,
        retried=len(journal) - journal.done,
        torn_bytes=journal.torn,
    )
    for damage in journal.damaged:
        log.warning("journal.damaged", journal=str(path), line=damage.line, byte=damage.offset)
    return journal
