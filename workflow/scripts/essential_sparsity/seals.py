"""A folder that is to outlive a killed job is closed by a seal, written last: what its files are of, and their SHA-256.

A folder without a seal is half written; one whose seal says something else is of something else; one whose files have
other SHA-256 is damaged. Neither is ever used. Standard library only.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import files

SEAL = "seal.json"


def write(folder: Path, identity: Mapping[str, Any], **more: Any) -> None:
    """Seal a folder of files: `identity` is what decides their content, as JSON."""
    listed = {path.name: files.sha256_file(path) for path in sorted(folder.iterdir()) if path.name != SEAL}
    files.write_json(folder / SEAL, {"identity": identity, **more, "files": listed})


def read(folder: Path, identity: Mapping[str, Any], what: str) -> tuple[dict[str, Any], str]:
    """The seal of a folder, and why the folder cannot be used for `identity` (empty: it can); `what` it would be of."""
    if not (folder / SEAL).is_file():
        return {}, "it was not written to its end"
    try:
        seal = files.read_json(folder / SEAL)
    except ValueError:
        return {}, "its seal is damaged"
    if seal["identity"] != identity:
        keys = sorted(seal["identity"] | identity)
        differing = [key for key in keys if seal["identity"].get(key) != identity.get(key)]
        return seal, f"it is of another {what} (other {', '.join(differing)})"
    for name, sha256 in seal["files"].items():
        if not (folder / name).is_file() or files.sha256_file(folder / name) != sha256:
            return seal, f"its file {name} is damaged"
    return seal, ""
