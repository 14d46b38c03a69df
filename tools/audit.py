"""Look the locked versions up in a database of known vulnerabilities, with pip-audit.

    python tools/audit.py LOCK

pip-audit treats a package that it cannot look up as harmless. So this script says that the audit
was skipped if no database answers; otherwise it lists the packages that are not in the database.
Exit code 1: vulnerabilities were found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SERVICES = ("pypi", "osv")
"""Databases of pip-audit, in the order in which they are tried."""


def look_up(lock: str, service: str) -> list[dict[str, Any]]:
    """Return a database's entry for each package; nothing if it does not answer."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip_audit", "--requirement", lock, "--vulnerability-service"),
            *(service, "--require-hashes", "--no-deps", "--disable-pip", "--format=json"),
            *("--progress-spinner=off", "--timeout=15"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        return []
    return found


def verdict(lock: str, found: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Return the exit code and the lines of the report."""
    known = [package for package in found if "vulns" in package]
    left_out = [package["name"] for package in found if "vulns" not in package]
    if not known:
        return 0, [f"SKIPPED: no database of vulnerabilities answers; {lock} was not audited."]
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}"
        + (f", fixed in {', '.join(flaw['fix_versions'])}" if flaw["fix_versions"] else "")
        for package in known
        for flaw in package["vulns"]
    ]
    code = 1 if lines else 0
    lines.append(f"{lock}: {len(known)} packages looked up, {len(lines)} vulnerabilities.")
    if left_out:
        lines.append(f"Not in the database: {', '.join(left_out)}.")
    return code, lines


def main() -> None:
    """Ask the databases in order until one answers."""
    (lock,) = sys.argv[1:]
    found: list[dict[str, Any]] = []
    for service in SERVICES:
        found = look_up(lock, service)
        if any("vulns" in package for package in found):
            break
    code, lines = verdict(lock, found)
    print("\n".join(lines))
    sys.exit(code)


if __name__ == "__main__":
    main()
