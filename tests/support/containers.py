"""Containers, run with docker or podman as a user would."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SLOWEST_START = 120.0
"""Seconds that a test waits for a line of the log."""


@dataclass(frozen=True)
class Image:
    """An image and the engine that holds it."""

    engine: str
    name: str

    def command(self, *arguments: str) -> str:
        """Run a command of the engine and return what it prints."""
        done = subprocess.run(
            [self.engine, *arguments], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done
        return done.stdout

    def run(self, *arguments: str, options: tuple[str, ...] = ()) -> Ended:
        """Run a container to its end.

        Args:
            arguments: of the image's entry point.
            options: of the engine.
        """
        with self.started(*arguments, options=options) as container:
            return container.ended()

    def shell(self, script: str) -> str:
        """Return what a shell script prints inside the image, as root."""
        return self.command(
            *("run", "--rm", "--user=0:0", "--network=none", "--entrypoint=/bin/sh"),
            *(self.name, "-c", script),
        )

    @contextmanager
    def started(self, *arguments: str, options: tuple[str, ...] = ()) -> Iterator[Container]:
        """Run a container for a while; one that is left over is removed."""
        name = f"atp-{uuid.uuid4().hex[:12]}"
        # Tiny tensors gain nothing from threads, and two tests run at a time.
        options = (*options, "--env=OMP_NUM_THREADS=1")
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as log:
            began = time.time()
            process = subprocess.Popen(
                [self.engine, "run", "--rm", "--name", name, *options, self.name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
            )
            try:
                yield Container(self, name, process, out, log, began)
            finally:
                if process.poll() is None:
                    self.command("kill", name)
                    process.wait()

    def inspect(self) -> dict[str, Any]:
        """Return what the engine knows of the image."""
        found: dict[str, Any] = json.loads(self.command("image", "inspect", self.name))[0]
        return found


@dataclass(frozen=True)
class Ended:
    """What a container left behind."""

    code: int
    stdout: str
    stderr: str

    @property
    def log(self) -> list[dict[str, Any]]:
        """Its log, each line of which is a JSON object."""
        return [json.loads(line) for line in self.stderr.splitlines()]

    def result(self, volume: Path) -> Path:
        """Return the result file on the host, whose path in the container was printed."""
        return volume / Path(self.stdout.strip()).relative_to("/data")


@dataclass(frozen=True)
class Container:
    """A running container."""

    image: Image
    name: str
    process: subprocess.Popen[bytes]
    out: Any
    log: Any
    began: float

    def wait_for(self, event: str, count: int = 1) -> None:
        """Wait until the log holds an event so many times."""
        limit = time.monotonic() + SLOWEST_START
        while self._read(self.log).count(f'"event": "{event}"') < count:
            assert self.process.poll() is None, self._read(self.log)
            assert time.monotonic() < limit, self._read(self.log)
            time.sleep(0.01)

    def wait_until_it_runs(self) -> None:
        """Wait until the engine has started it; it may have said nothing yet."""
        limit = time.monotonic() + SLOWEST_START
        while self.name not in self.image.command("ps", "--format={{.Names}}"):
            assert self.process.poll() is None, self._read(self.log)
            assert time.monotonic() < limit, self._read(self.log)

    def stop(self, seconds: int = 10) -> float:
        """Stop it as `docker stop` does; return the seconds it took."""
        began = time.monotonic()
        self.image.command("stop", f"--time={seconds}", self.name)
        return time.monotonic() - began

    def ended(self) -> Ended:
        """Wait for its end."""
        code = self.process.wait()
        return Ended(code, self._read(self.out), self._read(self.log))

    @staticmethod
    def _read(file: Any) -> str:
        file.seek(0)
        text: str = file.read()
        return text
