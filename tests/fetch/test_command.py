"""`atp fetch` brings, checks and records what a run needs, and says in one line why it cannot."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import published
import pytest
import tiny
from disk import files_limited_to
from fake_hub import MODEL, SAES, SPEC, FakeHub, Place, Repository
from huggingface_hub import constants
from runs import events, of
from tiers import first_tier
from transformers import AutoModelForCausalLM

from atp import attribute, load_model, load_sae
from atp.cli.main import main
from atp.errors import ExitCode
from atp.model.dictionaries.names import published_at
from atp.model.hub.records import go_offline_if_fetched, hub_requests, record_path, valid_record

COMMAND = ("fetch", f"--model={MODEL}", f"--sae={SPEC}")
CANARY = "hf_" + "Canary0123456789"
WEIGHTS = "model.safetensors"

Capture = pytest.CaptureFixture[str]


def fetch(capsys: Capture, *more: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Fetch; return the log and the records."""
    code = main([*COMMAND, *more])
    written = capsys.readouterr()
    assert code == ExitCode.OK, written.err
    constants.HF_HUB_OFFLINE = False  # the proof has left this process offline
    records = [json.loads(Path(line).read_bytes()) for line in written.out.splitlines()]
    return events(written.err), records


def refused(capsys: Capture, *arguments: str, code: ExitCode = ExitCode.UNAVAILABLE) -> str:
    """Return message and hint of a fetch that must fail; its last line, and no traceback."""
    assert main(arguments or COMMAND) == code
    written = capsys.readouterr()
    assert written.out == ""
    assert CANARY not in written.err
    last = events(written.err)[-1]
    assert last["event"] == "atp.failed"
    assert last["exit_code"] == code
    return f"{last['message']} {last['hint']}"


def add_another_sae(hub: FakeHub, place: Place) -> None:
    """Commit an SAE with the same bytes beside the first one."""
    repository = hub.repositories[SAES]
    repository.commit = "2" * 40
    repository.files |= {
        f"layer_1/other/{path.name}": path.read_bytes() for path in place.sae.iterdir()
    }


def is_fetched() -> bool:
    """Say whether a run would find everything."""
    return all(valid_record(each) is not None for each in hub_requests(MODEL, None, [SPEC]))


# --- what it brings


def test_what_a_run_needs_is_fetched_checked_and_recorded(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    log, records = fetch(capsys)

    by_name = {record["repository"]: record for record in records}
    files = by_name[MODEL]["files"]
    assert {"config.json", WEIGHTS, "tokenizer.json"} <= files.keys()
    assert not {"original/consolidated.pth", "flax_model.msgpack"} & files.keys()
    for record in records:
        source = at_hub.repositories[record["repository"]].files
        for name, told in record["files"].items():
            assert told["bytes"] == len(source[name])
            assert told["sha256"] == hashlib.sha256(source[name]).hexdigest()
        assert record["commit"] == "1" * 40
    assert of("fetch.done", log)[0]["fetched_bytes"] == sum(each["bytes"] for each in records)
    assert len(of("fetch.file", log)) == sum(len(each["files"]) for each in records)
    assert is_fetched()


@pytest.fixture
def in_parts(place: Place, at_hub: FakeHub, tmp_path: Path) -> Repository:
    """The model of the hub, its weights in several files."""
    folder = tmp_path / "parts"
    model = AutoModelForCausalLM.from_pretrained(place.model)
    model.save_pretrained(folder, max_shard_size="60KB")
    repository = at_hub.repositories[MODEL]
    del repository.files[WEIGHTS]
    repository.files |= Repository.of(folder).files
    return repository


def test_weights_in_parts_come_with_their_index(in_parts: Repository, capsys: Capture) -> None:
    _, records = fetch(capsys)

    fetched = {name for record in records for name in record["files"] if name.startswith("model")}
    assert fetched == {name for name in in_parts.files if name.startswith("model")}
    assert len(fetched) > 2
    assert is_fetched()


def test_a_gated_model_in_parts_is_refused_for_its_index(
    in_parts: Repository, capsys: Capture
) -> None:
    in_parts.gated = True

    assert f"{MODEL} is gated, and there is no token." in refused(capsys)


def test_an_sae_of_gemma_scope_comes_by_the_name_of_its_release(
    at_hub: FakeHub, capsys: Capture
) -> None:
    """Under the name that the hub has for it, beside others that stay there."""
    spec = "gemma-scope-2b-pt-res-canonical:layer_12/width_16k/canonical"
    published = published_at(spec)
    assert published is not None
    d_in, d_sae = 2304, 16384
    weights = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_in), "b_enc": d_sae, "b_dec": d_in}
    params = io.BytesIO()
    np.savez_compressed(
        params,
        **{name: np.zeros(shape, np.float16) for name, shape in weights.items()},
        threshold=np.ones(d_sae, np.float32),
    )
    name = f"{published.path}/params.npz"
    others = {"layer_1/width_16k/average_l0_9/params.npz": b"x", "README.md": b"x"}
    at_hub.repositories[published.repository] = Repository({name: params.getvalue(), **others})

    code = main(["fetch", f"--model={MODEL}", f"--sae={spec}", "--allow-other-model"])

    written = capsys.readouterr()
    assert code == ExitCode.OK, written.err
    records = [json.loads(Path(line).read_bytes()) for line in written.out.splitlines()]
    assert [list(each["files"]) for each in records if each["repository"] != MODEL] == [[name]]


@pytest.mark.parametrize(
    ("spec", "files"),
    [
        (
            "mwhanna-qwen3-14b-transcoders-lowl0:layer_1",
            lambda path: published.hanna(path, "", with_config=False).files,
        ),
        ("mwhanna-qwen3-4b-transcoders:layer_1", lambda path: published.hanna(path, "tiny").files),
        (
            "mntss-gemma-2-2b-2.5m-clt-as-per-layer:layer_1",
            lambda path: published.cross_layer(int(path), tiny.N_LAYERS, "hook_resid_mid").files,
        ),
        (
            "gemma-scope-2-270m-pt-transcoders-all:layer_1_width_16k_l0_small_affine",
            lambda path: published.gemma_scope_2(path).files,
        ),
    ],
)
def test_of_a_transcoder_exactly_the_files_of_its_loader_come(
    at_hub: FakeHub, capsys: Capture, spec: str, files: Callable[[str], dict[str, bytes]]
) -> None:
    """The fetch ends by loading them, without the hub."""
    where = published_at(spec)
    assert where is not None
    wanted = files(where.path)
    others = {"README.md": b"x", "layer_2.safetensors": b"x", "W_enc_2.safetensors": b"x"}
    at_hub.repositories[where.repository] = Repository({**others, **wanted})

    code = main(["fetch", f"--model={MODEL}", f"--sae={spec}", "--allow-other-model"])

    written = capsys.readouterr()
    assert code == ExitCode.OK, written.err
    records = [json.loads(Path(line).read_bytes()) for line in written.out.splitlines()]
    (record,) = [each for each in records if each["repository"] == where.repository]
    assert record["files"].keys() == wanted.keys()


def test_a_second_fetch_asks_once_a_repository_and_brings_nothing(
    at_hub: FakeHub, capsys: Capture
) -> None:
    fetch(capsys)
    at_hub.requests.clear()

    log, records = fetch(capsys)

    assert len(records) == 2
    assert [each.path for each in at_hub.requests] == [
        f"/api/models/{SAES}/revision/main",
        f"/api/models/{MODEL}/revision/main",
    ]
    assert of("fetch.file", log) == []
    assert of("fetch.done", log)[0]["fetched_bytes"] == 0


def test_what_another_tool_has_brought_is_checked_and_not_brought_again(
    at_hub: FakeHub, capsys: Capture
) -> None:
    _, records = fetch(capsys)
    for record in records:
        repository = f"models--{record['repository'].replace('/', '--')}"
        for path in (Path(constants.HF_HUB_CACHE) / repository / "atp").glob("*.json"):
            path.unlink()
    at_hub.requests.clear()

    log, again = fetch(capsys)

    assert not any("/resolve/" in each.path for each in at_hub.requests)
    assert len(of("fetch.file", log)) == sum(len(each["files"]) for each in again)
    assert [each["files"] for each in again] == [each["files"] for each in records]


def test_a_file_that_changed_on_the_disk_is_found_by_fresh_and_brought_anew(
    at_hub: FakeHub, capsys: Capture
) -> None:
    fetch(capsys)
    found = next(Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{WEIGHTS}"))
    content = found.read_bytes()
    found.resolve().write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    at_hub.requests.clear()

    fetch(capsys)
    assert at_hub.bytes_asked_for(WEIGHTS) == []  # the size is right: a fetch looks no further

    fetch(capsys, "--fresh")
    assert at_hub.bytes_asked_for(WEIGHTS) == [None]
    assert found.read_bytes() == content


def test_a_file_that_is_gone_is_brought_again_alone(at_hub: FakeHub, capsys: Capture) -> None:
    fetch(capsys)
    found = next(Path(constants.HF_HUB_CACHE).rglob("snapshots/*/config.json"))
    found.resolve().unlink()
    assert not is_fetched()

    log, _ = fetch(capsys)

    assert [line["file"] for line in of("fetch.file", log)] == ["config.json"]
    assert is_fetched()


def test_another_fetch_follows_the_branch(at_hub: FakeHub, capsys: Capture) -> None:
    fetch(capsys)
    repository = at_hub.repositories[MODEL]
    repository.commit = "2" * 40
    repository.files["generation_config.json"] = b'{"_from_model_config": true}'
    at_hub.requests.clear()

    log, records = fetch(capsys)

    assert {record["repository"]: record["commit"] for record in records} == {
        MODEL: "2" * 40,
        SAES: "1" * 40,
    }
    assert at_hub.bytes_asked_for(WEIGHTS) == []  # what has not changed is here
    assert {line["fetched_bytes"] for line in of("fetch.file", log)} == {0, 28}
    assert is_fetched()


def test_another_sae_leaves_the_first_one_recorded(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    fetch(capsys)
    add_another_sae(at_hub, place)

    assert main(["fetch", f"--model={MODEL}", f"--sae={SAES}:layer_1/other"]) == ExitCode.OK

    constants.HF_HUB_OFFLINE = False
    assert is_fetched()
    assert at_hub.bytes_asked_for("layer_1/other/sae_weights.safetensors") == []  # the same bytes


def test_a_model_stays_recorded_where_an_sae_of_its_repository_is_fetched_alone(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    at_hub.repositories[MODEL].files |= at_hub.repositories[SAES].files
    model, sae = hub_requests(MODEL, None, [f"{MODEL}:layer_1/small"])
    assert main(["fetch", f"--model={MODEL}", f"--sae={SPEC}"]) == ExitCode.OK
    assert valid_record(model)
    constants.HF_HUB_OFFLINE = False

    assert main(["fetch", f"--model={place.model}", f"--sae={MODEL}:layer_1/small"]) == ExitCode.OK

    assert valid_record(model)
    assert valid_record(sae)


def test_an_sae_that_changed_and_was_not_asked_for_is_no_longer_recorded(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    fetch(capsys)
    add_another_sae(at_hub, place)
    at_hub.repositories[SAES].files["layer_1/small/cfg.json"] += b" "

    assert main(["fetch", f"--model={MODEL}", f"--sae={SAES}:layer_1/other"]) == ExitCode.OK

    assert of("fetch.outdated", events(capsys.readouterr().err))[0]["part"] == "sae layer_1/small"
    assert not is_fetched()


def test_what_is_on_this_machine_needs_nothing(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    code = main(["fetch", f"--model={place.model}", f"--sae={place.sae}", "--allow-other-model"])

    written = capsys.readouterr()
    assert (code, written.out) == (ExitCode.OK, "")
    assert of("fetch.local", events(written.err))[0]["names"] == [str(place.model), str(place.sae)]
    assert at_hub.requests == []


# --- what follows


def test_a_check_after_a_fetch_asks_no_hub_and_says_so(
    at_hub: FakeHub, capsys: Capture, input_file: Path
) -> None:
    fetch(capsys)
    at_hub.requests.clear()

    code = main(["check", str(input_file), *COMMAND[1:], "--json"])

    written = capsys.readouterr()
    assert code == ExitCode.OK, written.out
    assert at_hub.requests == []
    assert len(of("hub.offline", events(written.err))) == 1
    report = json.loads(written.out)
    assert (report["model"]["where"], report["model"]["fetched"]) == ("cache", True)
    assert [(sae["where"], sae["fetched"]) for sae in report["saes"]] == [("cache", True)]
    assert report["machine"]["hub"]["offline"] is False  # no setting of the user's


@pytest.mark.parametrize(
    ("named", "left_alone"),
    [
        ((MODEL, None, [SPEC]), True),
        pytest.param((MODEL, "main", [SPEC]), True, marks=pytest.mark.slow),
        pytest.param((MODEL, None, []), True, marks=pytest.mark.slow),
        ((MODEL, None, [SPEC, f"{SAES}:layer_1/other"]), False),
        ((MODEL, "1" * 40, [SPEC]), True),  # as `atp intervene` does, from a result
        pytest.param((MODEL, "2" * 40, [SPEC]), False, marks=pytest.mark.slow),
        pytest.param(("owner/other", None, [SPEC]), False, marks=pytest.mark.slow),
    ],
    ids=[
        *("as fetched", "main by name", "less", "another SAE", "by its commit", "another commit"),
        "another model",
    ],
)
def test_the_hub_is_left_alone_if_and_only_if_all_that_is_named_was_fetched(
    at_hub: FakeHub, capsys: Capture, named: tuple[str, str | None, list[str]], left_alone: bool
) -> None:
    fetch(capsys)

    go_offline_if_fetched(*named)

    assert constants.is_offline_mode() is left_alone
    assert (os.environ["HF_HUB_OFFLINE"] == "1") or not left_alone
    assert ("hub.offline" in capsys.readouterr().err) is left_alone


def test_what_is_local_needs_no_record(at_hub: FakeHub, capsys: Capture, place: Place) -> None:
    fetch(capsys)

    go_offline_if_fetched(str(place.model), None, [SPEC])
    assert constants.is_offline_mode()

    constants.HF_HUB_OFFLINE = False
    go_offline_if_fetched(str(place.model), None, [str(place.sae)])
    assert not constants.is_offline_mode()  # nothing was fetched, so nothing is decided


def test_the_library_leaves_the_hub_alone_for_its_calls_only(
    at_hub: FakeHub, capsys: Capture
) -> None:
    """By name in one call, and each loaded by itself; a notebook may have more to ask the hub."""
    fetch(capsys)
    os.environ.pop("HF_HUB_OFFLINE", None)
    at_hub.requests.clear()

    by_name = attribute(MODEL, SPEC, tiny.triples(1), allow_other_model=True)
    loaded = attribute(load_model(MODEL), load_sae(SPEC), tiny.triples(1))

    assert at_hub.requests == []
    assert by_name.analyses == loaded.analyses
    assert by_name.counts["scored"] == 3
    assert not constants.is_offline_mode()
    assert "HF_HUB_OFFLINE" not in os.environ


def test_a_cache_whose_branch_another_tool_has_moved_is_not_what_was_fetched(
    at_hub: FakeHub, capsys: Capture
) -> None:
    fetch(capsys)
    assert is_fetched()

    folder = Path(constants.HF_HUB_CACHE) / "models--owner--tiny"
    shutil.copytree(folder / "snapshots" / ("1" * 40), folder / "snapshots" / ("2" * 40))
    (folder / "refs" / "main").write_text("2" * 40)

    assert not is_fetched()


RECORDS = [b"", b"[]", b"{}", b'{"commit": 1}', None]


@pytest.mark.parametrize("content", first_tier([b"", None], RECORDS))
def test_a_record_that_cannot_be_read_is_none(
    at_hub: FakeHub, capsys: Capture, content: bytes | None
) -> None:
    _, records = fetch(capsys)
    path = record_path(MODEL, "main")
    path.write_bytes(
        orjson.dumps({**records[1], "files": {"config.json": 3}}) if content is None else content
    )

    assert not is_fetched()
    fetch(capsys)
    assert is_fetched()


# --- without the hub


def test_offline_it_says_what_is_there(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "was not fetched" in refused(capsys)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fetch(capsys)
    at_hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    _, records = fetch(capsys)

    assert len(records) == 2
    assert at_hub.requests == []


def test_offline_and_fresh_it_compares_the_hashes(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(capsys)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch(capsys, "--fresh")
    found = next(Path(constants.HF_HUB_CACHE).rglob(f"snapshots/*/{WEIGHTS}")).resolve()
    found.write_bytes(bytes(len(found.read_bytes())))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fetch(capsys)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert "is not what was fetched" in refused(capsys, *COMMAND, "--fresh")


# --- what goes wrong


def test_a_hub_that_is_busy_is_asked_again(at_hub: FakeHub, capsys: Capture) -> None:
    at_hub.busy = 3

    log, _ = fetch(capsys)

    assert [line["failed"] for line in of("fetch.retry", log)] == [1, 2, 3]
    assert "HTTP 503" in of("fetch.retry", log)[0]["error"]


def test_a_hub_that_stays_busy_is_told(at_hub: FakeHub, capsys: Capture) -> None:
    at_hub.busy = 100

    line = refused(capsys)

    assert f"{SAES} cannot be had from 127.0.0.1:{at_hub.port}: HTTP 503" in line


def test_no_network_is_told(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    line = refused(capsys)

    assert "cannot be had from 127.0.0.1:9" in line
    assert "Check the network" in line


@pytest.mark.parametrize("answer", [b"<html>Please log in to this network</html>", b"[]", b"{}"])
def test_an_answer_that_is_no_hubs_is_told(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    at_hub.portal = answer

    assert "no answer of a hub" in refused(capsys)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([f"--model={MODEL}-x", f"--sae={SPEC}"], f"the hub has no {MODEL}-x"),
        ([f"--model={MODEL}", f"--sae={SAES}-x:layer_1"], f"the hub has no {SAES}-x"),
        ([f"--model={MODEL}", f"--sae={SAES}:layer_2"], f"{SAES} lacks layer_2/cfg.json"),
        ([f"--model={SAES}", f"--sae={SPEC}"], f"{SAES} has no weights"),
        (
            [f"--model={MODEL}", f"--sae={SPEC}", "--revision=v2"],
            f"{MODEL} has no revision v2",
        ),
    ],
)
def test_what_the_hub_does_not_have_is_named(
    at_hub: FakeHub, capsys: Capture, options: list[str], expected: str
) -> None:
    assert expected in refused(capsys, "fetch", *options)
    assert not any("/resolve/" in each.path for each in at_hub.requests)


def test_a_gated_model_without_a_token_names_the_licence_and_the_token(
    at_hub: FakeHub, capsys: Capture
) -> None:
    at_hub.repositories[MODEL].gated = True

    line = refused(capsys)

    assert f"{MODEL} is gated, and there is no token." in line
    assert f"https://huggingface.co/{MODEL}" in line
    assert "HF_TOKEN" in line
    assert "HF_TOKEN_PATH" in line
    assert not any("/cdn/" in each.path for each in at_hub.requests)  # told before gigabytes


def test_a_gated_model_whose_licence_was_not_accepted_is_told_so(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_hub.repositories[MODEL].gated = True
    at_hub.tokens[CANARY] = set()
    monkeypatch.setenv("HF_TOKEN", CANARY)

    line = refused(capsys)

    assert f"{MODEL} is gated, and the token does not open it." in line
    assert f"https://huggingface.co/{MODEL}" in line


def test_a_token_that_the_hub_does_not_know_is_told(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)

    line = refused(capsys)

    assert "HTTP 401 Unauthorized to the token" in line
    assert "Give a valid token" in line


def test_a_token_opens_a_gated_model_and_is_kept_to_itself(
    at_hub: FakeHub, capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: Place
) -> None:
    """Given by a file, for once; the host to which large files redirect does not get it."""
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "secret"))
    at_hub.repositories[MODEL].gated = True
    at_hub.tokens[CANARY] = {MODEL}

    code = main(COMMAND)

    written = capsys.readouterr()
    assert code == ExitCode.OK, written.err
    assert CANARY not in written.err + written.out
    for path in place.cache.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()
    with_token = {each.path.startswith("/cdn/"): each.with_token for each in at_hub.requests}
    assert with_token == {True: False, False: True}


def test_content_that_is_not_the_hubs_is_refused_and_removed(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    at_hub.damaged.add(WEIGHTS)

    line = refused(capsys)

    assert f"{WEIGHTS} of {MODEL} came damaged" in line
    assert list(place.cache.rglob("*.incomplete")) == []
    assert list(place.cache.rglob(WEIGHTS)) == []
    assert not is_fetched()

    at_hub.damaged.clear()
    fetch(capsys)
    assert is_fetched()


def test_a_disk_that_fills_up_is_told_with_the_path_and_the_bytes(
    at_hub: FakeHub, capsys: Capture, place: Place
) -> None:
    with files_limited_to(100_000):
        line = refused(capsys, code=ExitCode.SAVE_FAILED)

    assert str(place.cache) in line
    assert re.search(r"it needs about [\d,]+ bytes, [\d,]+ bytes are free", line)
    fetch(capsys)
    assert is_fetched()


@pytest.mark.parametrize("name", ["../../../../victim.json", "/victim.json"])
def test_a_listing_that_leads_out_of_the_cache_is_refused(
    at_hub: FakeHub, capsys: Capture, name: str
) -> None:
    at_hub.repositories[MODEL].files[name] = b"x"

    assert repr(name) in refused(capsys)
    assert not (Path(constants.HF_HUB_CACHE) / "models--owner--tiny" / "snapshots").exists()


def test_small_files_are_checked_too(at_hub: FakeHub, capsys: Capture) -> None:
    at_hub.damaged.add("config.json")

    assert f"config.json of {MODEL} came damaged" in refused(capsys)


def test_a_model_that_no_loader_can_read_is_not_recorded(at_hub: FakeHub, capsys: Capture) -> None:
    at_hub.repositories[MODEL].files["tokenizer.json"] = b"{}"

    line = refused(capsys)

    assert f"the model {MODEL} cannot be loaded" in line
    assert not is_fetched()


def test_a_proof_that_fails_leaves_what_was_fetched_before(
    at_hub: FakeHub, capsys: Capture
) -> None:
    fetch(capsys)
    at_hub.repositories[MODEL].commit = "2" * 40
    at_hub.repositories[MODEL].files["tokenizer.json"] = b"{}"

    assert "cannot be loaded" in refused(capsys)

    assert is_fetched()
    constants.HF_HUB_OFFLINE = True  # a scheduled run
    assert main([*COMMAND]) == ExitCode.OK


HOLD = """
import sys
from filelock import FileLock

with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_another_fetch_of_the_same_model_is_waited_for(at_hub: FakeHub, capsys: Capture) -> None:
    path = Path(constants.HF_HUB_CACHE) / "models--owner--tiny" / "atp" / "lock"
    path.parent.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        threading.Timer(0.5, other.stdin.close).start()

        log, _ = fetch(capsys)

        other.wait()
    assert [line["repository"] for line in of("fetch.wait", log)] == [MODEL]


def test_a_fetch_takes_no_input(capsys: Capture) -> None:
    line = refused(capsys, "fetch", "answers.json", code=ExitCode.USAGE)

    assert "does not fit the usage: atp fetch [options]" in line


def test_a_fetch_takes_the_options_of_its_run(at_hub: FakeHub, capsys: Capture) -> None:
    fetch(capsys, "--top-k=3", "--chat-template", "--out=elsewhere")


def test_a_fault_of_a_name_is_that_of_a_run(at_hub: FakeHub, capsys: Capture) -> None:
    line = refused(capsys, "fetch", "--model=./nowhere", f"--sae={SPEC}", code=ExitCode.USAGE)

    assert "--model=./nowhere does not exist." in line
    assert at_hub.requests == []
