"""What the image holds, and what it must not."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pytest
from check_locks import read_lock
from containers import Image

import atp

pytestmark = pytest.mark.image

ROOT = Path(__file__).parent.parent.parent
SITE = "/opt/atp/lib/python3*/site-packages"
MEBIBYTE = 1 << 20


def test_it_runs_as_a_user_without_rights_and_says_what_it_is(image: Image) -> None:
    config = image.inspect()["Config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["/entrypoint.sh"]
    labels = config["Labels"]
    assert labels["org.opencontainers.image.version"] == atp.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert re.fullmatch(
        r"[0-9a-f]{40}(-changed)?|unknown", labels["org.opencontainers.image.revision"]
    )
    environment = dict(line.split("=", 1) for line in config["Env"])
    assert environment["HF_HUB_DISABLE_TELEMETRY"] == "1"
    assert not environment.keys() & {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"}


def test_it_holds_the_locked_versions_and_nothing_else(image: Image) -> None:
    listed = json.loads(
        image.shell(
            "/opt/atp/bin/python -c 'import json, importlib.metadata as m;"
            " print(json.dumps({d.name: d.version for d in m.distributions()}))'"
        )
    )
    found = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in listed.items()}
    assert found.pop("atp-sycophancy") == atp.__version__
    locked: dict[str, str] = {}
    for lock in ("requirements-cpu.lock", "requirements-ray.lock"):
        versions, faults = read_lock(lock, (ROOT / lock).read_text())
        assert not faults
        locked |= {name: str(version) for name, version in versions.items()}
    assert found == locked


def test_it_holds_no_build_tools_no_caches_and_no_sources_but_atps(image: Image) -> None:
    found = image.shell(
        "command -v pip pip3 gcc cc make git curl wget;"
        " ls -d /build /root/.cache /tmp/* 2>/dev/null;"
        f" ls {SITE} | grep -i -E '^(pip|wheel|hatchling|editables)(-|$)'; true"
    )
    assert found == ""


def test_bytecode_is_there_for_whatever_a_start_loads(image: Image) -> None:
    """Else each start would compile it anew: its user may not write there."""
    missing = image.shell(
        "cd / && /opt/atp/bin/python - <<'X'\n"
        "import os, sys\n"
        "import atp.cli.main, atp.run.command, atp.run.pipeline, atp.model.loading\n"
        "import atp.check.run_outline, sae_lens\n"
        "places = [vars(module).get('__cached__') for module in list(sys.modules.values())]\n"
        "print([p for p in places if isinstance(p, str) and not os.path.exists(p)])\n"
        "X"
    )
    assert missing.strip() == "[]"


def test_what_is_not_the_locked_wheels_and_the_base_is_small(image: Image) -> None:
    """The wheels' own files are those that their RECORDs list."""
    script = f"""
import csv, os, pathlib
(site,) = pathlib.Path("/").glob("{SITE[1:]}")
of_wheels = {{
    os.path.normpath(site / row[0])
    for record in site.glob("*.dist-info/RECORD") if not record.parent.name.startswith("atp_")
    for row in csv.reader(record.open())
}}
print(sum(
    file.stat().st_size
    for file in pathlib.Path("/opt/atp").rglob("*")
    if not file.is_symlink() and file.is_file() and str(file) not in of_wheels
))
"""
    added = int(image.shell(f"/opt/atp/bin/python - <<'X'\n{script}\nX"))
    assert added < 150 * MEBIBYTE


def test_no_secret_of_the_build_is_in_it(image: Image, canary: str, tmp_path: Path) -> None:
    assert canary not in image.command("history", "--no-trunc", image.name)
    assert canary not in json.dumps(image.inspect())
    saved = tmp_path / "image.tar"
    image.command("save", "--output", str(saved), image.name)
    looked_at = 0
    with tarfile.open(saved) as outer:
        for member in outer:
            layer = outer.extractfile(member) if member.isfile() else None
            if layer is None:
                continue
            if not member.name.endswith(".tar"):
                assert canary.encode() not in layer.read(), member.name
                continue
            with tarfile.open(fileobj=layer) as inner:
                for file in inner:
                    content = inner.extractfile(file) if file.isfile() else None
                    assert canary not in file.name
                    if content is not None and file.size < 4 * MEBIBYTE:
                        looked_at += 1
                        assert canary.encode() not in content.read(), file.name
    saved.unlink()
    assert looked_at > 10_000


def test_the_mounted_token_appears_nowhere(
    image: Image, canary: str, volume: Path, tmp_path: Path
) -> None:
    token = tmp_path / "hf_token"
    token.write_text(canary)
    token.chmod(0o444)
    secret = f"--volume={token}:/run/secrets/hf_token:ro"
    offline = ("--network=none", "--env=HF_HUB_OFFLINE=1", secret, f"--volume={volume}:/data")
    done = image.run(options=offline)
    assert done.code == 0, done
    assert canary not in done.stdout + done.stderr
    for file in volume.rglob("*"):
        if file.is_file() and file.suffix in {".json", ".jsonl"}:
            assert canary not in file.read_text(encoding="utf-8")
    checked = image.run("check", "--json", options=offline)
    assert canary not in checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["machine"]["hub"]["token"]  # it was there to be found
