"""A file of the hub comes whole, goes on where it was, and is what the hub says it is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from disk import files_limited_to
from fake_hub import FakeHub, Repository, in_this_process
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atp.errors import UnavailableError
from atp.model.hub.download import download, missing_bytes, partial_path
from atp.model.hub.errors import TRIES
from atp.model.hub.listing import HubFile, Listing, list_repository
from atp.runtime.log import configure

NAME, WEIGHTS = "owner/model", "model.safetensors"
CONTENT = hashlib.shake_256(b"weights").digest(300_000)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Log as a command does, in lines that pytest keeps to itself."""
    configure("0123456789ab")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub with one large file, as this process sees it."""
    fake = FakeHub({NAME: Repository({WEIGHTS: CONTENT, "empty.txt": b""})})
    with fake.serving(), in_this_process(fake, tmp_path / "hub", monkeypatch):
        yield fake


@pytest.fixture
def there(hub: FakeHub) -> Listing:
    """What the hub lists."""
    return list_repository(NAME, "main")


def fetched(there: Listing, name: str = WEIGHTS) -> tuple[str, int]:
    """Bring a file; return its sha256, and how many bytes have come in the end."""
    counts: list[int] = []
    sha256 = download(there, there.files[name], counts.append)
    return sha256, sum(counts)


def begun(there: Listing, content: bytes) -> Path:
    """Leave what a fetch leaves that ended in the middle."""
    part = partial_path(there.blob(there.files[WEIGHTS]))
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(content)
    return part


def is_whole(there: Listing) -> bool:
    """Say whether the file is in its place, and nothing beside it."""
    blob = there.blob(there.files[WEIGHTS])
    return (
        there.pointer(WEIGHTS).read_bytes() == CONTENT
        and there.pointer(WEIGHTS).resolve() == blob.resolve()
        and list(blob.parent.iterdir()) == [blob]
    )


def test_a_file_comes_whole(hub: FakeHub, there: Listing) -> None:
    assert missing_bytes(there, there.files[WEIGHTS]) == len(CONTENT)

    assert fetched(there) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))

    assert is_whole(there)
    assert missing_bytes(there, there.files[WEIGHTS]) == 0


def test_an_empty_file_is_a_file(hub: FakeHub, there: Listing) -> None:
    assert fetched(there, "empty.txt") == (hashlib.sha256(b"").hexdigest(), 0)
    assert there.pointer("empty.txt").read_bytes() == b""


def test_a_file_that_is_here_is_not_asked_for(hub: FakeHub, there: Listing) -> None:
    fetched(there)
    hub.requests.clear()

    assert fetched(there) == (hashlib.sha256(CONTENT).hexdigest(), 0)
    assert hub.requests == []


def test_only_the_bytes_that_are_missing_are_asked_for(hub: FakeHub, there: Listing) -> None:
    begun(there, CONTENT[:123_456])
    assert missing_bytes(there, there.files[WEIGHTS]) == len(CONTENT) - 123_456

    assert fetched(there)[1] == len(CONTENT) - 123_456

    assert hub.bytes_asked_for(WEIGHTS) == ["bytes=123456-"]
    assert is_whole(there)


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub: FakeHub, there: Listing) -> None:
    hub.breaks[WEIGHTS] = [100_000, 50_000]

    assert fetched(there)[1] == len(CONTENT)

    assert hub.bytes_asked_for(WEIGHTS) == [None, "bytes=100000-", "bytes=150000-"]
    assert is_whole(there)


def test_many_breaks_are_borne_while_something_comes(hub: FakeHub, there: Listing) -> None:
    hub.breaks[WEIGHTS] = [20_000] * (2 * TRIES)

    fetched(there)

    assert is_whole(there)


def test_a_connection_that_gives_nothing_any_more_is_given_up_and_the_bytes_stay(
    hub: FakeHub, there: Listing
) -> None:
    hub.breaks[WEIGHTS] = [100_000, *[0] * 100]

    with pytest.raises(UnavailableError, match="at 100,000 of 300,000 bytes"):
        fetched(there)

    assert len(hub.bytes_asked_for(WEIGHTS)) == 1 + TRIES - 1
    hub.breaks.clear()
    hub.requests.clear()
    fetched(there)
    assert hub.bytes_asked_for(WEIGHTS) == ["bytes=100000-"]


def test_a_connection_that_stalls_is_taken_up_after_a_while(
    hub: FakeHub, there: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.5)
    hub.stalls = [2.0]

    fetched(there)

    first, second = hub.bytes_asked_for(WEIGHTS)
    assert first is None
    assert second is not None
    assert is_whole(there)


def test_a_server_that_does_not_resume_sends_the_whole(hub: FakeHub, there: Listing) -> None:
    hub.resumes = False
    begun(there, CONTENT[:100_000])

    assert fetched(there)[1] == len(CONTENT) - 100_000  # what was here counts as thrown away
    assert is_whole(there)


def test_a_server_that_does_not_resume_and_always_breaks_is_given_up(
    hub: FakeHub, there: Listing
) -> None:
    hub.resumes = False
    hub.breaks[WEIGHTS] = [100_000] * 100

    with pytest.raises(UnavailableError, match=f"broke off {TRIES} times in a row"):
        fetched(there)


@pytest.mark.parametrize(
    "content", [b"x" * 100_000, CONTENT[:-1] + b"x", CONTENT + b"more"], ids=len
)
def test_a_part_that_is_not_of_this_file_is_thrown_away(
    hub: FakeHub, there: Listing, content: bytes
) -> None:
    part = begun(there, content)

    try:
        fetched(there)  # what is too long is begun anew at once
    except UnavailableError as error:
        assert "came damaged" in error.message  # noqa: PT017  (one of two right ways)
        assert not part.exists()
        fetched(there)
    assert is_whole(there)


def test_damaged_content_is_refused_and_removed(hub: FakeHub, there: Listing) -> None:
    hub.damaged.add(WEIGHTS)

    with pytest.raises(UnavailableError, match=r"came damaged.*not the hub's"):
        fetched(there)

    assert not there.pointer(WEIGHTS).exists()
    assert list(there.blob(there.files[WEIGHTS]).parent.iterdir()) == []


def test_a_damaged_file_in_the_cache_is_brought_anew(hub: FakeHub, there: Listing) -> None:
    fetched(there)
    there.pointer(WEIGHTS).resolve().write_bytes(bytes(len(CONTENT)))

    assert fetched(there)[1] == len(CONTENT)
    assert is_whole(there)


def test_a_link_to_nothing_is_mended(hub: FakeHub, there: Listing) -> None:
    fetched(there)
    there.pointer(WEIGHTS).resolve().unlink()

    fetched(there)
    assert is_whole(there)


def test_a_disk_that_is_full_keeps_what_has_come(hub: FakeHub, there: Listing) -> None:
    with files_limited_to(150_000), pytest.raises(OSError, match="too large"):
        fetched(there)

    hub.requests.clear()
    fetched(there)
    assert hub.bytes_asked_for(WEIGHTS) == ["bytes=150000-"]
    assert is_whole(there)


def test_where_there_are_no_links_the_file_itself_is_in_its_place(
    hub: FakeHub, there: Listing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "symlink_to", no_links)

    fetched(there)

    assert not there.pointer(WEIGHTS).is_symlink()
    assert there.pointer(WEIGHTS).read_bytes() == CONTENT
    hub.requests.clear()
    fetched(there)
    assert hub.requests == []


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(start=st.integers(0, len(CONTENT)), breaks=st.lists(st.integers(1, 200_000), max_size=4))
def test_wherever_it_was_and_breaks_it_ends_whole(
    hub: FakeHub, there: Listing, start: int, breaks: list[int]
) -> None:
    for path in (there.pointer(WEIGHTS), there.blob(there.files[WEIGHTS])):
        path.unlink(missing_ok=True)
    begun(there, CONTENT[:start])
    hub.breaks[WEIGHTS] = list(breaks)

    assert fetched(there)[1] == len(CONTENT) - start
    assert is_whole(there)


def test_a_file_without_a_sha256_is_known_by_gits_hash() -> None:
    file = HubFile("a.json", 2, "9e26dfeeb6e641a33dae4961196235bdb965b21b", None)
    from atp.model.hub.download import Hashes  # noqa: PLC0415

    hashes = Hashes(file)
    hashes.update(b"{}")
    assert hashes.match
