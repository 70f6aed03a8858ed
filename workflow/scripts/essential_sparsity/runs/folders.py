"""A folder for others that is whole or absent: written beside its target, and known again by a record of what it holds."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from essential_sparsity import errors, files

RECORD = "essential-sparsity.json"


def check(target: Path, key: Mapping[str, Any]) -> None:
    """A folder that is there was written of the same `key`, and is as it was written. UserError."""
    if not target.exists():
        return
    elsewhere = "Move it away or delete it, and call again."
    if not (target / RECORD).is_file():
        raise errors.UserError(f"{target} was not written by this command: it has no {RECORD}. {elsewhere}")
    record = files.read_json(target / RECORD)
    if record.get("key") != key:
        told = ", ".join(f"{name} {value}" for name, value in record.get("key", {}).items() if value != key.get(name))
        raise errors.UserError(f"{target} was written of something else ({told}). {elsewhere}")
    found = listing(target)
    if changed := sorted({name for name in {*found, *record["files"]} if found.get(name) != record["files"].get(name)}):
        raise errors.UserError(f"{target} has been changed since it was written ({files.some(changed)}). {elsewhere}")


def seal(folder: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a folder that is complete: what it is of (`key`), and its files."""
    files.write_json(folder / RECORD, {**record, "files": listing(folder)})


def listing(folder: Path) -> dict[str, str]:
    """SHA-256 of every file but the record."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / RECORD)
    return {path.relative_to(folder).as_posix(): files.sha256_file(path) for path in found}


@contextlib.contextmanager
def alone(target: Path) -> Iterator[None]:
    """UserError where another call is at work on the same folder. The system frees the lock of one that was killed.

    On a file system without locks nobody is refused.
    """
    path = target.with_name(f".{target.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            mine = path.exists() and os.path.samestat(os.fstat(handle.fileno()), path.stat())  # or it has just ended
        except OSError as error:
            mine = not isinstance(error, BlockingIOError)
        if not mine:
            raise errors.UserError(
                f"Another call that writes {target} is at work. Wait until it ends, then call again."
            )
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its place on success and is deleted on any error; what a killed call left is deleted first."""
    part, old = (target.with_name(f".{target.name}.{end}") for end in ("part", "old"))
    shutil.rmtree(part, ignore_errors=True)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if target.exists():
            target.rename(old)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
