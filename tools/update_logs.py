"""Write the table of events in docs/logs.md.

python tools/update_logs.py
"""

from pathlib import Path

from update_readme import updated

from atp.runtime.events import table

PATH = Path(__file__).parent.parent / "docs" / "logs.md"

if __name__ == "__main__":
    PATH.write_text(updated(PATH.read_text(encoding="utf-8"), {"events": table()}))
