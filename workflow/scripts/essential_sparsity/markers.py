"""A folder that is to outlive a killed job is closed by a marker, written last: what its files are of, and their SHA-256.

A folder without a marker is half written; one whose marker says something else is of something else; one whose files have
other SHA-256 is damaged. Neither is ever used. Standard library only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import files

MARKER = "complete.json"


def write(folder: Path, identity: Mapping[str, Any], **more: Any) -> None:
    """Mark a folder of files as complete: `identity` is what decides their content, as JSON."""
    listed = {path.name: files.sha256_file(path) for path in sorted(folder.iterdir()) if path.name != MARKER}
    files.write_json(folder / MARKER, {"identity": identity, **more, "files": listed})


def read(folder: Path, identity: Mapping[str, Any], what: str) -> tuple[dict[str, Any], str]:
    """The marker of a folder, and why the folder cannot be used for `identity` (empty: it can); `what` it would be of."""
    if not (folder / MARKER).is_file():
        return {}, "it was not written to its end"
    try:
        marker = files.read_json(folder / MARKER)
    except ValueError:
        return {}, "its marker is damaged"
    if marker["identity"] != identity:
        keys = sorted(marker["identity"] | identity)
        differing = [key for key in keys if marker["identity"].get(key) != identity.get(key)]
        return marker, f"it is of another {what} (other {', '.join(differing)})"
    for name, sha256 in marker["files"].items():
        if not (folder / name).is_file() or files.sha256_file(folder / name) != sha256:
            return marker, f"its file {name} is damaged"
    return marker, ""
