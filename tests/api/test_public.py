"""The public names: listed without torch, and with their signatures for type checkers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import atp

ROOT = Path(__file__).parents[2]
NAMES = sorted(name for name in atp.__all__ if name != "__version__")


def test_every_name_is_listed_before_torch_is_there() -> None:
    code = "import atp, sys; print(*dir(atp)); print('torch' in sys.modules)"
    listed, has_torch = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()

    assert set(NAMES) <= set(listed.split())
    assert has_torch == "False"


def test_every_name_leads_somewhere_and_others_nowhere() -> None:
    assert all(callable(getattr(atp, name)) for name in NAMES)
    with pytest.raises(AttributeError, match="no attribute 'attributes'"):
        atp.attributes  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.slow
def test_a_type_checker_knows_every_signature(tmp_path: Path) -> None:
    """Mypy, without running anything, from a file outside the project."""
    lines = ["import atp", *(f"reveal_type(atp.{name})" for name in NAMES)]
    lines += ["atp.attributes", "atp.attribute('m', 's', [('p', 'a', 'b')], topk=3)"]
    (tmp_path / "notebook.py").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n"
        f"mypy_path = {ROOT}\n"
        "[mypy-transformers.*,transformer_lens.*,sae_lens.*,torch.*,pandas.*,pyarrow.*,scipy.*]\n"
        "follow_imports = skip\nignore_missing_imports = true\n",
        encoding="utf-8",
    )
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "notebook.py"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout
    found = [line for line in told.splitlines() if line.startswith("notebook.py")]

    revealed = [line.partition("Revealed type is ")[2] for line in found if "Revealed" in line]
    assert len(revealed) == len(NAMES), told
    for name, text in zip(NAMES, revealed, strict=True):
        kind = "Overload(" if name == "ablate" else "def ("
        assert text.strip('"').startswith(kind), (name, text)
    by_name = dict(zip(NAMES, revealed, strict=True))
    assert "-> atp.api.result.Result" in by_name["attribute"]
    assert "Literal['zero']" in by_name["attribute"]
    errors = [line for line in found if "error:" in line]
    assert len(errors) == 2, told
    assert 'has no attribute "attributes"' in errors[0]
    assert '"topk"' in errors[1]


def test_the_package_says_that_it_is_typed() -> None:
    assert (Path(atp.__file__).parent / "py.typed").is_file()
