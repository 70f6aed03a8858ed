"""A folder that is to outlive a killed job is closed by a marker, written last: what its files are of, and what tells them.

A folder without a marker is half written; one whose marker says something else is of something else; one whose files are
not as told is damaged. Neither is ever used. A file is told by its SHA-256. A zip archive, as `torch.save` writes, has a
checksum (CRC-32) of each of its parts already: it is told by the SHA-256 of the list of these, so that a checkpoint of
80 GB is not read again when it was just written, only before it is used. Standard library only.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import files

MARKER = "complete.json"


def write(folder: Path, identity: Mapping[str, Any], **more: Any) -> None:
    """Mark a folder of files as complete: `identity` is what decides their content, as JSON."""
    listed = {path.name: _told(path) for path in sorted(folder.iterdir()) if path.name != MARKER}
    files.write_json(folder / MARKER, {"identity": identity, **more, "files": listed})


def read(folder: Path, identity: Mapping[str, Any], what: str) -> tuple[dict[str, Any], str]:
    """The marker of a folder, and why the folder cannot be used for `identity` (empty: it can); `what` it would be of."""
    if not (folder / MARKER).is_file():
        return {}, "it was not written to its end"
    try:
        marker = files.read_json(folder / MARKER)
        found, listed = dict(marker["identity"]), dict(marker["files"])
    except (ValueError, TypeError, KeyError):
        return {}, "its marker is damaged"
    if found != identity:
        differing = [key for key in sorted(found | identity) if found.get(key) != identity.get(key)]
        return marker, f"it is of another {what} (other {', '.join(differing)})"
    for name, told in listed.items():
        if not (folder / name).is_file() or _told(folder / name) != told or not _whole(folder / name):
            return marker, f"its file {name} is damaged"
    return marker, ""


def _told(path: Path) -> str:
    """SHA-256 of a file; of a zip archive, of its size and of the list of its parts, which has their checksums."""
    if (parts := _parts(path)) is None:
        return files.sha256_file(path)
    return hashlib.sha256(b"%d\0%b" % (path.stat().st_size, parts)).hexdigest()


def _whole(path: Path) -> bool:
    """Whether the parts of a zip archive have their checksums; other files are told by all of their bytes."""
    if _parts(path) is None:
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError):
        return False


def _parts(path: Path) -> bytes | None:
    """The list at the end of a zip archive; None where a file has none."""
    try:
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            file.seek(archive.start_dir)
            return file.read()
    except (zipfile.BadZipFile, OSError):
        return None
