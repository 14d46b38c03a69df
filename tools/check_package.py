"""Check the wheel and the sdist of a folder before they are published.

    python tools/check_package.py FOLDER

The metadata must be valid by the packaging standards and the same in both; the wheel must hold the
files of atp/ and nothing else. Exit code 1: they are not fit; the output lists every fault.
"""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

from packaging.metadata import Metadata

ROOT = Path(__file__).parent.parent


def find_faults(wheel: Path, sdist: Path) -> list[str]:
    """Return one line for each fault of the two files."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (place,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(place)
    with tarfile.open(sdist) as tarball:
        member = tarball.extractfile(sdist.name.removesuffix(".tar.gz") + "/PKG-INFO")
        same = member is not None and member.read() == metadata
    faults = [] if same else ["the metadata of wheel and sdist differ"]
    faults += check_metadata(metadata)
    package = {path.relative_to(ROOT).as_posix() for path in (ROOT / "atp").rglob("*.*")}
    package = {name for name in package if "__pycache__" not in name}
    packed = {name for name in names if ".dist-info/" not in name}
    faults += [f"the wheel lacks {name}" for name in sorted(package - packed)]
    faults += [f"the wheel holds {name}" for name in sorted(packed - package)]
    return faults


def check_metadata(metadata: bytes) -> list[str]:
    """Return the faults that a package index would find, and links that would lead nowhere."""
    try:
        checked = Metadata.from_email(metadata, validate=True)
    except ExceptionGroup as group:
        return [str(fault) for fault in group.exceptions]
    if checked.project_urls:
        links = re.findall(r"\]\((?!https://|#)([^)]+)\)", checked.description or "")
        return [f"the README has a relative link: {link}" for link in links]
    return []


def main() -> None:
    """Print the faults of the one wheel and the one sdist in a folder."""
    folder = Path(sys.argv[1])
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    if faults := find_faults(wheel, sdist):
        sys.exit("\n".join(faults))
    print(f"{wheel} and {sdist} are fit to be published.")


if __name__ == "__main__":
    main()
