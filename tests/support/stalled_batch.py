"""A model that stalls in the middle of a batch, so that a test can act at this moment."""

from __future__ import annotations

import os
import select
import time
from typing import Any, Self

import pytest

from atp.scoring import scorer

LONG = 600.0
"""Seconds that no test waits."""


class StalledBatch:
    """A model whose pass over a batch takes `seconds`; the test can wait until it begins.

    Args:
        batch: which batch, counted from 1.
        seconds: how long.
    """

    def __init__(self, batch: int, seconds: float = LONG) -> None:
        self.batch, self.seconds = batch, seconds
        self._read, self._write = os.pipe()

    def __enter__(self) -> Self:
        """Return the model itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pipe between the child and the test."""
        os.close(self._read)
        os.close(self._write)

    def install(self) -> None:
        """Be what this process runs its batches with; called in a child."""
        proper, passes = scorer.capture, 0

        def slow(model: Any, batch: Any, names: Any, **how: Any) -> Any:
            nonlocal passes
            passes += 1
            if passes == self.batch:
                os.write(self._write, b".")
                end = time.monotonic() + self.seconds
                while (left := end - time.monotonic()) > 0:
                    time.sleep(left)
            return proper(model, batch, names, **how)

        scorer.capture = slow

    def wait(self) -> None:
        """Wait until the batch has begun."""
        if not select.select([self._read], [], [], 60)[0]:
            pytest.fail(f"batch {self.batch} has not begun")
        os.read(self._read, 1)
