"""A disk that is full, and one that is small."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Let the system refuse to write files beyond `size` bytes, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def small_disk(place: Path, size: int) -> Iterator[Callable[[int], object]]:
    """Have a disk of `size` bytes at `place`; yields a function that gives it another size."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("this system has no mount: a small disk cannot be made")
    place.mkdir(parents=True)
    command = [mount, "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user cannot mount a small disk: {done.stderr.strip()}")
    remount = [mount, "-o", "remount,size={}", str(place)]
    try:
        yield lambda larger: subprocess.run(
            [part.format(larger) for part in remount], check=True, capture_output=True
        )
    finally:
        subprocess.run([unmount, "--lazy", str(place)], check=True)
