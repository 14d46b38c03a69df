"""Check that the lock files agree with pyproject.toml and each other.

    python tools/check_locks.py

Exit code 1: they do not agree; the output lists every fault. The script only reads the files, so it
needs neither uv nor a network.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

RUNTIME, CPU, RAY, KUBERAY, DEV, BUILD = LOCKS = [
    f"requirements{part}.lock" for part in ("", "-cpu", "-ray", "-kuberay", "-dev", "-build")
]

Lock = dict[str, Version]
"""The pins of a lock file: canonical name to version."""

_PIN = re.compile(r"([A-Za-z0-9._-]+)==([^ ]+)( ; [^\\]+?)?( \\)?")  # name, version, marker
_HASH = re.compile(r" +--hash=sha256:[0-9a-f]{64}( \\)?")
_CUDA = re.compile(r"(nvidia|cuda|triton)\b(?!-ml-py)")  # nvidia-ml-py needs no CUDA


def read_lock(name: str, text: str) -> tuple[Lock, list[str]]:
    """Return the pins of a lock file, and the faults of the file itself."""
    lock: Lock = {}
    hashed: set[str] = set()
    faults = []
    package = ""
    for number, line in enumerate(text.splitlines(), 1):
        if pin := _PIN.fullmatch(line):
            package = canonicalize_name(pin[1])
            lock[package] = Version(pin[2])
        elif _HASH.fullmatch(line):
            hashed.add(package)
        elif line.strip() and not line.lstrip().startswith("#"):
            faults.append(f"{name}:{number}: neither a pinned version nor a hash: {line}")
    faults += [f"{name}: {package} has no hash" for package in lock if package not in hashed]
    return lock, faults


def check_requirements(name: str, lock: Lock, requirements: list[str]) -> list[str]:
    """Find requirements of pyproject.toml that the lock does not satisfy."""
    faults = []
    for requirement in map(Requirement, requirements):
        version = lock.get(canonicalize_name(requirement.name))
        if version is None:
            faults.append(f"{name}: {requirement.name} of pyproject.toml is missing")
        elif not requirement.specifier.contains(version, prereleases=True):
            faults.append(f"{name}: {requirement.name} is {version}, not {requirement.specifier}")
    return faults


def check_agreement(locks: dict[str, Lock]) -> list[str]:
    """Find packages with different versions in two locks (except for +cpu)."""
    faults = []
    first: dict[str, tuple[str, Version]] = {}
    for name, lock in locks.items():
        for package, version in lock.items():
            other, expected = first.setdefault(package, (name, version))
            if version.public != expected.public:
                faults.append(f"{name}: {package} is {version}, but {expected} in {other}")
    return faults


def check_builds(runtime: Lock, cpu: Lock) -> list[str]:
    """Check that one lock is for CUDA, and that the other is the same with torch's CPU build."""
    cuda = {package for package in runtime if _CUDA.match(package)}
    faults = [] if cuda else [f"{RUNTIME}: no CUDA packages, so torch is not the CUDA build"]
    if cpu["torch"].local != "cpu":
        faults.append(f"{CPU}: torch is {cpu['torch']}, not the CPU build")
    faults += [f"{CPU}: {package} belongs to CUDA" for package in cpu if _CUDA.match(package)]
    faults += [f"{CPU}: {package} is missing" for package in runtime.keys() - cuda - cpu.keys()]
    return faults


def check_wheels(project: dict[str, Any], cpu: str) -> list[str]:
    """Check that the CPU lock has the hash of torch's wheel for each Python: there is no other."""
    pythons = re.findall(r"Python :: (3\.\d+)", "\n".join(project["project"]["classifiers"]))
    hashes = re.search(r"^torch==.*\n((?: +--hash=.*\n)+)", cpu, re.MULTILINE)
    if hashes and hashes[1].count("--hash") >= len(pythons):
        return []
    return [f"{CPU}: torch needs a hash for each of Python {', '.join(pythons)}"]


def find_faults(project: dict[str, Any], texts: dict[str, str]) -> list[str]:
    """Return one line for each fault of the lock files (`texts`, by name)."""
    locks: dict[str, Lock] = {}
    faults = []
    for name, text in texts.items():
        locks[name], found = read_lock(name, text)
        faults += found
    asked = {
        RUNTIME: project["project"]["dependencies"],
        CPU: project["project"]["dependencies"],
        RAY: project["project"]["optional-dependencies"]["ray"],
        KUBERAY: project["project"]["optional-dependencies"]["kuberay"],
        DEV: project["dependency-groups"]["dev"],
        BUILD: project["dependency-groups"]["build"],
    }
    for name, requirements in asked.items():
        faults += check_requirements(name, locks[name], requirements)
    faults += check_wheels(project, texts[CPU])
    return faults + check_agreement(locks) + check_builds(locks[RUNTIME], locks[CPU])


def read_all(root: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return pyproject.toml and the text of each lock file."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    return project, {name: (root / name).read_text() for name in LOCKS}


def main() -> None:
    """Print the faults of this repository's lock files."""
    faults = find_faults(*read_all(Path(__file__).parent.parent))
    if faults:
        sys.exit("\n".join([*faults, "The lock files do not agree: run `make lock`."]))


if __name__ == "__main__":
    main()
