"""A hub on this machine for the real client, with the part of the protocol that a fetch uses.

As on the hub, the address of a large file redirects to another host, and requests to that host
must carry no token. A test sets the faults.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session

from atp.model.hub import errors

LARGE = {".safetensors", ".npz", ".bin", ".pt"}
"""Kept with Git LFS: the hub knows their sha256."""
MODEL, SAES = "owner/tiny", "owner/saes"
SPEC = f"{SAES}:layer_1/small"
"""What the tests' hub has."""

STEP = 1 << 14
"""Bytes that are sent at a time."""


@dataclass(frozen=True)
class Place:
    """The folders that the tiny model and SAE come from, and the cache that they go to."""

    model: Path
    sae: Path
    cache: Path


@dataclass
class Repository:
    """A repository at its newest commit."""

    files: dict[str, bytes] = field(repr=False)
    commit: str = "1" * 40
    branch: str = "main"
    gated: bool = False

    @classmethod
    def of(cls, folder: Path, under: str = "", **options: Any) -> Repository:
        """Return one with the files of a folder, put under a path."""
        prefix = f"{under}/" if under else ""
        files = {
            f"{prefix}{path.relative_to(folder)}": path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        return cls(files, **options)


@dataclass(frozen=True)
class Request:
    """What a client has asked for."""

    method: str
    path: str
    range: str | None
    with_token: bool


@dataclass
class FakeHub:
    """What the hub has, what goes wrong, and what it was asked for."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    tokens: dict[str, set[str]] = field(default_factory=dict)
    """The gated repositories that each token opens."""
    requests: list[Request] = field(default_factory=list)
    port: int = 0

    # What goes wrong:
    busy: int = 0
    """How many requests get a 503."""
    damaged: set[str] = field(default_factory=set)
    """Files whose content is not what the listing says."""
    breaks: dict[str, list[int]] = field(default_factory=dict)
    """How many bytes of a file are sent before the connection breaks, request by request."""
    resumes: bool = True
    """Whether it knows Range."""
    stalls: list[float] = field(default_factory=list)
    """Seconds to wait after the first step of a large file, request by request."""
    portal: bytes | None = None
    """What a network that wants a log-in answers in the hub's place."""
    pause: float = 0.0
    """Seconds after each step of a large file."""

    @property
    def endpoint(self) -> str:
        """Its address, as for HF_ENDPOINT."""
        return f"http://127.0.0.1:{self.port}"

    def bytes_asked_for(self, name: str) -> list[str | None]:
        """Return the Range of each request for a file that was sent."""
        return [each.range for each in self.requests if each.path == f"/cdn/{name}"] or [
            each.range
            for each in self.requests
            if each.method == "GET" and each.path.endswith(f"/{name}") and "/resolve/" in each.path
        ]

    @contextmanager
    def serving(self) -> Iterator[FakeHub]:
        """Answer requests while the context lasts."""
        server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@contextmanager
def in_this_process(hub: FakeHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have this process be as one that was started with HF_ENDPOINT, without a token."""
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.endpoint)
    for name, value in (
        ("HF_HUB_OFFLINE", False),
        ("HUGGINGFACE_CO_URL_TEMPLATE", template),
        ("ENDPOINT", hub.endpoint),
        ("HF_HUB_CACHE", str(cache)),
        ("HF_TOKEN_PATH", str(cache / "no" / "token")),
    ):
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # a fetch ends offline: this puts it back
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(errors, "FIRST_WAIT", 0.001)
    close_session()
    yield
    close_session()


def git_hash(content: bytes) -> str:
    """Return what git calls a content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def sibling(name: str, content: bytes) -> dict[str, Any]:
    """Return what a listing says of a file."""
    known: dict[str, Any] = {
        "rfilename": name,
        "size": len(content),
        "blobId": git_hash(content),
    }
    if Path(name).suffix in LARGE:
        sha256 = hashlib.sha256(content).hexdigest()
        known["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 134}
    return known


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:  # noqa: C901  (a class, made for a hub)
    class Handler(BaseHTTPRequestHandler):
        """Answers one request."""

        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # else a body waits 40 ms for its header's acknowledgement

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            parts = urlsplit(self.path)
            path = unquote(parts.path)
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if path == "/api/agent-harnesses":  # the library asks this once in a process
                self.refuse(HTTPStatus.NOT_FOUND)
                return
            hub.requests.append(Request(self.command, path, self.headers.get("Range"), bool(token)))
            if hub.busy > 0:
                hub.busy -= 1
                self.refuse(HTTPStatus.SERVICE_UNAVAILABLE)
            elif hub.portal is not None:
                self.send(hub.portal)
            elif path.startswith("/cdn/"):
                self.send_large(path.removeprefix("/cdn/"))
            elif token and token not in hub.tokens:
                message = "Invalid credentials in Authorization header"
                self.refuse(HTTPStatus.UNAUTHORIZED, {"X-Error-Message": message})
            elif path.startswith("/api/models/"):
                self.tell(path.removeprefix("/api/models/"), parse_qs(parts.query), token)
            else:
                self.resolve(path.removeprefix("/"), token)

        def tell(self, path: str, query: dict[str, list[str]], token: str) -> None:
            name, _, rest = path.partition("/revision/")
            if path.endswith("/auth-check"):
                name = path.removesuffix("/auth-check")
                if self.may_read(name, token):
                    self.send(b"{}")
                return
            repository = hub.repositories.get(name)
            if repository is None:
                self.refuse(HTTPStatus.UNAUTHORIZED, {"X-Error-Code": "RepoNotFound"})
            elif rest not in {repository.branch, repository.commit}:
                self.refuse(HTTPStatus.NOT_FOUND, {"X-Error-Code": "RevisionNotFound"})
            else:
                assert query["blobs"]
                siblings = [sibling(*each) for each in repository.files.items()]
                info = {"id": name, "sha": repository.commit, "siblings": siblings}
                info["gated"] = "manual" if repository.gated else False
                self.send(json.dumps(info).encode())

        def resolve(self, path: str, token: str) -> None:
            name, _, rest = path.partition("/resolve/")
            revision, _, file = rest.partition("/")
            if not self.may_read(name, token):
                return
            repository = hub.repositories[name]
            if revision not in {repository.branch, repository.commit}:
                self.refuse(HTTPStatus.NOT_FOUND, {"X-Error-Code": "RevisionNotFound"})
                return
            content = repository.files.get(file)
            headers = {"X-Repo-Commit": repository.commit}
            if content is None:
                self.refuse(HTTPStatus.NOT_FOUND, {"X-Error-Code": "EntryNotFound", **headers})
            elif Path(file).suffix in LARGE:
                sha256 = hashlib.sha256(content).hexdigest()
                headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(content))}
                headers["Location"] = f"http://localhost:{hub.port}/cdn/{file}"
                self.send(b"", headers, HTTPStatus.FOUND)
            else:
                self.send_file(file, content, {"ETag": f'"{git_hash(content)}"', **headers})

        def send_large(self, name: str) -> None:
            found = [each.files[name] for each in hub.repositories.values() if name in each.files]
            self.send_file(name, found[0], {})

        def may_read(self, name: str, token: str) -> bool:
            repository = hub.repositories.get(name)
            if repository is None:
                self.refuse(HTTPStatus.UNAUTHORIZED, {"X-Error-Code": "RepoNotFound"})
            elif repository.gated and name not in hub.tokens.get(token, set()):
                status = HTTPStatus.FORBIDDEN if token else HTTPStatus.UNAUTHORIZED
                self.refuse(status, {"X-Error-Code": "GatedRepo"})
            else:
                return True
            return False

        def send_file(self, name: str, content: bytes, headers: dict[str, str]) -> None:
            if name in hub.damaged:
                content = bytes([content[0] ^ 1]) + content[1:]
            wanted, status, start = self.headers.get("Range"), HTTPStatus.OK, 0
            if wanted and hub.resumes:
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
                status = HTTPStatus.PARTIAL_CONTENT
            self.send(content[start:], headers, status, hub.breaks.get(name))

        def refuse(self, status: HTTPStatus, headers: dict[str, str] | None = None) -> None:
            self.send(b'{"error": "no"}', headers, status)

        def send(
            self,
            content: bytes,
            headers: dict[str, str] | None = None,
            status: HTTPStatus = HTTPStatus.OK,
            breaks: list[int] | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "HEAD":
                return
            end = breaks.pop(0) if breaks else len(content)
            for offset in range(0, end, STEP):
                self.wfile.write(content[offset : min(end, offset + STEP)])
                if len(content) > STEP:
                    time.sleep(hub.stalls.pop() if hub.stalls else hub.pause)
            if end < len(content):
                self.close_connection = True

    return Handler
