"""The JavaScript of the report passes its own unit tests, `tests/report/page/*_test.js`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_unit_tests_of_the_page_pass_in_deno() -> None:
    deno = Path(sys.executable).with_name("deno")
    settings = {"DENO_DIR": str(ROOT / ".cache/deno"), "DENO_NO_UPDATE_CHECK": "1", "NO_COLOR": "1"}
    done = subprocess.run(
        [deno, "test", "--no-remote", "--no-npm", "tests/report/page"],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
