"""Remove from the example's notebook the traces of a run: outputs, counts, metadata.

python tools/clean_notebook.py
"""

import json
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent.parent / "examples" / "smollm2" / "library.ipynb"
OF_CODE: dict[str, Any] = {"execution_count": None, "outputs": []}


def cleaned(text: str) -> str:
    """Return the clean text of a notebook, in Jupyter's own order of keys and indentation."""
    cells = [_cell(cell) for cell in json.loads(text)["cells"]]
    content = {
        "cells": cells,
        "metadata": {"language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _cell(cell: dict[str, Any]) -> dict[str, Any]:
    kept = {name: cell[name] for name in ("cell_type", "id")}
    source = "".join(cell["source"]).splitlines(keepends=True)
    more = OF_CODE if cell["cell_type"] == "code" else {}
    return kept | more | {"metadata": {}, "source": source}


if __name__ == "__main__":
    PATH.write_text(cleaned(PATH.read_text(encoding="utf-8")), encoding="utf-8")
