"""`docker run -v data:/data atp` scores the newest input of the volume, and nothing twice."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import runs
import tiny
from containers import Image

pytestmark = pytest.mark.image

OFFLINE = ("--network=none", "--env=HF_HUB_OFFLINE=1")
HARDENED = (
    *("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *OFFLINE,
)


def mount(volume: Path) -> str:
    """Return the option that mounts a volume."""
    return f"--volume={volume}:/data"


def test_no_arguments_score_the_newest_input_and_a_second_start_finds_it_done(
    image: Image, volume: Path
) -> None:
    old = volume / "input" / "older.json"
    old.write_text("not the newest")
    os.utime(old, (0, 0))
    first = image.run(options=(*OFFLINE, mount(volume)))
    assert first.code == 0, first
    result = runs.read(first.result(volume))
    about = result["metadata"]["atp"]
    assert about["complete"]
    assert about["model"]["name"] == "google/gemma-2-9b-it"
    assert about["counts"]["scored"] == len(tiny.triples())
    assert about["input"]["path"] == "/data/input/feedback.json"
    assert first.result(volume).parent == volume / "results" / "feedback"
    assert first.result(volume).stat().st_uid == 10001
    assert [line["event"] for line in first.log][-1] == "run.done"

    second = image.run(options=(*OFFLINE, mount(volume)))
    assert (second.code, second.stdout) == (0, first.stdout)
    assert "batch.done" not in second.stderr


def test_a_hardened_container_of_a_foreign_user_gives_the_same_bytes(
    image: Image, volume: Path
) -> None:
    plain = image.run(options=(*OFFLINE, mount(volume)))
    kept = volume / "kept.json"
    plain.result(volume).rename(kept)
    for path in (volume / "results" / "feedback").iterdir():
        path.unlink()
    (volume / "results" / "feedback").rmdir()
    (volume / "results").chmod(0o777)
    hardened = image.run(options=(*HARDENED, "--user=4711:4712", mount(volume)))
    assert hardened.code == 0, hardened
    assert runs.without_times(hardened.result(volume)) == runs.without_times(kept)
    status = hardened.result(volume).stat()
    assert (status.st_uid, status.st_gid) == (4711, 4712)


def test_workers_of_a_hardened_container_give_the_bytes_of_one_process(
    image: Image, volume: Path
) -> None:
    options = (*HARDENED, "--shm-size=1g", mount(volume))
    alone = image.run(options=options)
    assert alone.code == 0, alone
    of_workers = image.run("--workers=2", "--out=/data/workers", options=options)
    assert of_workers.code == 0, of_workers
    assert len(runs.of("worker.ready", of_workers.log)) == 2  # all lines are JSON
    assert runs.without_times(of_workers.result(volume)) == runs.without_times(
        alone.result(volume)
    ).replace(b'"/data/results/feedback"', b'"/data/workers"')


def test_a_named_volume_takes_input_and_gives_the_result_back(
    image: Image, volume: Path, tmp_path: Path
) -> None:
    name = f"atp-test-{tmp_path.name}"
    named = f"--volume={name}:/data"
    copy = ("--rm", "--network=none", named, "--entrypoint=cp", f"--volume={volume}:/from:ro")
    image.command("volume", "create", name)
    try:
        image.command("run", *copy, image.name, "-r", "/from/input", "/from/cache", "/data")
        done = image.run(options=(*HARDENED, named))
        assert done.code == 0, done
        text = image.command(
            *("run", "--rm", named, "--entrypoint=cat", image.name, done.stdout.strip())
        )
        assert json.loads(text)["metadata"]["atp"]["complete"]
    finally:
        image.command("volume", "rm", "--force", name)


def test_settings_come_from_the_environment_and_options_need_no_command(
    image: Image, volume: Path
) -> None:
    environment = ("--env=ATP_TOP_K=7", "--env=ATP_LIMIT=2", "--env=ATP_REPORT=1")
    done = image.run("--out=/data/few", options=(*HARDENED, *environment, mount(volume)))
    assert done.code == 0, done
    result, page = (volume / Path(line).relative_to("/data") for line in done.stdout.split())
    about = runs.read(result)["metadata"]["atp"]
    assert result.parent == page.parent == volume / "few"
    assert (about["settings"]["top_k"], about["counts"]["pairs"]) == (7, 2)
    assert "</html>" in page.read_text(encoding="utf-8")
    assert page.name in (volume / "few" / "index.html").read_text(encoding="utf-8")


def test_a_volume_that_cannot_be_written_to_is_refused(image: Image, volume: Path) -> None:
    volume.chmod(0o755)
    foreign = image.run(options=(*HARDENED, "--user=4711:4711", mount(volume)))
    assert foreign.code == 2
    assert f"belongs to {os.getuid()}:{os.getgid()}" in foreign.log[0]["message"]
    read_only = image.run(options=(*OFFLINE, f"{mount(volume)}:ro"))
    assert read_only.code == 2
    assert "may not write" in read_only.log[0]["message"]
    assert not (volume / "results").exists()


def test_no_volume_no_input_and_bad_input_each_have_their_line(image: Image, volume: Path) -> None:
    nothing = image.run(options=OFFLINE)
    assert nothing.code == 2
    assert "nothing is mounted at /data" in nothing.log[0]["message"]

    (volume / "input" / "feedback.json").unlink()
    idle = image.run(options=(*OFFLINE, mount(volume)))
    assert (idle.code, idle.log[0]["event"]) == (0, "container.idle")

    (volume / "input" / "feedback.json").write_text('{"results": [{"variations": [}]}')
    broken = image.run(options=(*OFFLINE, mount(volume)))
    assert broken.code == 2
    assert "/data/input/feedback.json" in broken.log[-1]["message"]
    assert "Traceback" not in broken.stderr

    unknown = image.run("attribute", options=(*OFFLINE, mount(volume)))
    assert unknown.code == 2
    assert "'attribute' is not a command" in unknown.log[-1]["message"]


def test_check_says_what_a_run_would_do(image: Image, volume: Path) -> None:
    done = image.run("check", "--json", options=(*HARDENED, mount(volume)))
    assert done.code == 0, done
    report = json.loads(done.stdout)
    assert report["pairs"]["scored"] == len(tiny.triples())
    assert report["model"]["where"] == "cache"
    assert stat.S_IMODE(volume.stat().st_mode) == 0o777
