"""SHA-256 of large files, remembered on this node: a checkpoint that a hundred jobs use is read for it once.

A record holds for the file of this path with the same device, inode, size and times of modification and of change: a content
that was changed, with its times put back or not, has another time of change. It holds on the node that wrote it until
that is started again: another client of a shared file system may have other bytes in its memory. Records lie in the user's cache
folder, by the node's name, so that they outlive a job whose /tmp is its own. What is damaged, of another node, or in a folder
that others can write to is as if it was not there; a system that does not say when it was started keeps nothing.
Standard library only.
"""

import contextlib
import hashlib
import os
import platform
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import files

LEAST = 1 << 20  # bytes of a file that is worth a record
RECENT_NS = 2_000_000_000  # a file changed this short ago could change again without another time
BOOT = Path("/proc/sys/kernel/random/boot_id")


def sha256_file(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces unless it is remembered."""
    with open(path, "rb") as handle:  # on a network file system opening asks the server for size and times
        status, now = os.fstat(handle.fileno()), time.time_ns()
        if status.st_size < LEAST:
            return hashlib.file_digest(handle, "sha256").hexdigest()
        identity = _identity(path, status)
        record = _record(identity)
        if record is not None and (known := _recalled(record, identity)):
            return known
        found = hashlib.file_digest(handle, "sha256").hexdigest()
        unchanged = _identity(path, os.fstat(handle.fileno())) == identity
    if record is not None and unchanged and now - status.st_ctime_ns > RECENT_NS:
        with contextlib.suppress(OSError):  # a full home folder costs the remembering alone
            files.write_json(record, {"of": identity, "sha256": found})
    return found


def place() -> Path:
    """The folder of this node's records."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(cache, "essential-sparsity", "verified", platform.node() or "node")


def _identity(path: str | os.PathLike, status: os.stat_result) -> dict[str, Any]:
    """What a record holds for, as JSON."""
    try:
        boot = BOOT.read_text().strip()
    except OSError:
        boot = ""
    return {
        "path": os.path.abspath(path),
        "node": platform.node(),
        "boot": boot,
        **{name: getattr(status, f"st_{name}") for name in ("dev", "ino", "size", "mtime_ns", "ctime_ns")},
    }


def _record(identity: Mapping[str, Any]) -> Path | None:
    """The file that a record of this path has; None where none can be trusted."""
    folder = place()
    if not folder.is_absolute():  # a user without a home: it would be a folder named ~
        return None
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError:
        return None
    others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    if not identity["boot"] or status.st_uid != os.geteuid() or others:
        return None
    return folder / f"{files.sha256_text(identity['path'])[:32]}.json"


def _recalled(record: Path, identity: Mapping[str, Any]) -> str | None:
    """The SHA-256 of a record that is of this very file."""
    try:
        known = files.read_json(record)
    except (OSError, ValueError):
        return None
    if not isinstance(known, dict) or known.get("of") != identity or not isinstance(known.get("sha256"), str):
        return None
    return known["sha256"]
