"""The lock files fit pyproject.toml and each other, and a lock that does not is found out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from check_locks import BUILD, CPU, DEV, RAY, RUNTIME, find_faults, read_all

PROJECT, LOCKS = read_all(Path(__file__).parent.parent)
NVIDIA = f"nvidia-cublas==13.0 \\\n    --hash=sha256:{'0' * 64}\n"


def test_the_lock_files_have_no_fault() -> None:
    assert find_faults(PROJECT, LOCKS) == []


@pytest.mark.parametrize(
    ("name", "pattern", "replacement", "fault"),
    [
        (CPU, r"^numpy==.*?( \\)$", r"numpy==0.1\1", f"{CPU}: numpy is 0.1, but"),
        (DEV, r"^rich==.*?( \\)$", r"rich==0.1\1", f"{DEV}: rich is 0.1, but"),
        (RUNTIME, r"^torch==.*?( \\)$", r"torch==0.1\1", f"{RUNTIME}: torch is 0.1, not <"),
        (RAY, r"^ray==.*?( \\)$", r"ray==0.1\1", f"{RAY}: ray is 0.1, not <"),
        (RAY, r"^jsonschema==.*?( \\)$", r"jsonschema==0.1\1", f"but 0.1 in {RAY}"),
        (RUNTIME, r"^orjson==.*\n( +.*\n)+", "", f"{RUNTIME}: orjson of pyproject.toml is missing"),
        (DEV, r"^mypy==(.*) \\\n( +--hash.*\n)+", r"mypy==\1\n", f"{DEV}: mypy has no hash"),
        (CPU, r"\Z", NVIDIA, f"{CPU}: nvidia-cublas belongs to CUDA"),
        (CPU, r"^(torch==.*)\+cpu", r"\1", "not the CPU build"),
        (CPU, r"^(torch==.*\n)( +.*\n){2}", r"\1", f"{CPU}: torch needs a hash for each of"),
        (CPU, r"^accelerate==.*\n( +.*\n)+", "", f"{CPU}: accelerate is missing"),
        (RUNTIME, r"^(nvidia|cuda|triton).*\n( +.*\n)+", "", "no CUDA packages"),
        (BUILD, r"\A", "--find-links wheels\n", f"{BUILD}:1: neither"),
    ],
)
def test_a_doctored_lock_is_found_out(
    name: str, pattern: str, replacement: str, fault: str
) -> None:
    doctored, changes = re.subn(pattern, replacement, LOCKS[name], flags=re.MULTILINE)
    assert changes > 0
    faults = find_faults(PROJECT, LOCKS | {name: doctored})
    assert any(fault in line for line in faults), faults
