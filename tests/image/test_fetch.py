"""What `atp fetch` has brought into the volume is enough for a container without a network."""

from __future__ import annotations

import shutil
from pathlib import Path

import default_hub
import pytest
import runs
import tiny
from containers import Image
from fake_hub import FakeHub, Repository

pytestmark = pytest.mark.image

CLOSED = (
    *("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL"),
    "--security-opt=no-new-privileges",
)


def test_after_a_fetch_the_default_run_needs_no_network_and_the_token_is_nowhere(
    image: Image, hub: Path, volume: Path, canary: str, tmp_path: Path
) -> None:
    shutil.rmtree(volume / "cache" / "huggingface")
    (volume / "cache").chmod(0o777)
    place = default_hub.sae_file(hub).relative_to(hub / "hub")
    saes = place.parts[0].removeprefix("models--").replace("--", "/")
    served = FakeHub(
        {
            default_hub.MODEL: Repository.of(default_hub.model_folder(hub), gated=True),
            saes: Repository({str(Path(*place.parts[3:])): default_hub.sae_file(hub).read_bytes()}),
        },
        tokens={canary: {default_hub.MODEL}},
    )
    token = tmp_path / "hf_token"
    token.write_text(canary)
    token.chmod(0o444)
    mounted = f"--volume={volume}:/data"
    with served.serving():
        online = ("--network=host", f"--env=HF_ENDPOINT={served.endpoint}", mounted)
        refused = image.run("fetch", options=online)
        assert refused.code == 3, refused
        assert f"https://huggingface.co/{default_hub.MODEL}" in refused.stderr

        secret = f"--volume={token}:/run/secrets/hf_token:ro"
        fetched = image.run("fetch", options=(*online, secret, "--read-only", "--tmpfs=/tmp"))
    assert fetched.code == 0, fetched
    assert any(request.with_token for request in served.requests)
    records = [volume / Path(line).relative_to("/data") for line in fetched.stdout.splitlines()]
    assert len(records) == len(served.repositories)

    done = image.run(options=(*CLOSED, mounted))
    assert done.code == 0, done
    assert runs.of("hub.offline", done.log)
    counts = runs.read(done.result(volume))["metadata"]["atp"]["counts"]
    assert counts["scored"] == len(tiny.triples())

    assert canary not in refused.stderr + fetched.stdout + fetched.stderr + done.stderr
    for file in volume.rglob("*"):
        if file.is_file():
            assert canary.encode() not in file.read_bytes(), file
