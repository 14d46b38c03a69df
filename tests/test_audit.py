"""The audit tells known vulnerabilities from nothing found, and both from nothing looked up."""

from __future__ import annotations

from audit import verdict

SAFE = {"name": "idna", "version": "3.11", "vulns": []}
FLAW = {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": [], "description": "..."}
UNSAFE = {"name": "jinja2", "version": "2.0", "vulns": [FLAW, {**FLAW, "fix_versions": []}]}
UNKNOWN = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}


def test_nothing_looked_up_is_a_skipped_audit() -> None:
    for found in ([], [UNKNOWN, UNKNOWN]):
        code, lines = verdict("a.lock", found)
        assert code == 0
        assert lines == ["SKIPPED: no database of vulnerabilities answers; a.lock was not audited."]


def test_a_vulnerability_fails_and_says_what_mends_it() -> None:
    code, lines = verdict("a.lock", [SAFE, UNSAFE, UNKNOWN])
    assert code == 1
    assert lines == [
        "jinja2 2.0: PYSEC-1, fixed in 2.1",
        "jinja2 2.0: PYSEC-1",
        "a.lock: 2 packages looked up, 2 vulnerabilities.",
        "Not in the database: torch.",
    ]


def test_no_vulnerability_passes() -> None:
    assert verdict("a.lock", [SAFE]) == (0, ["a.lock: 1 packages looked up, 0 vulnerabilities."])
