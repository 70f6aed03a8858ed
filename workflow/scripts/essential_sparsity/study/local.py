"""What users edit outside of the workflow: the content of each file or folder that a row names with `source` = path.

Content counts, not times: a copied or touched folder is the same. Reading it all at every parse would take minutes for
large weights, so digests are remembered beside the names, sizes, times and inodes of the files they were read from.
Standard library only: every parse of the Snakefile imports this module.
"""

import os
import time
from collections.abc import Iterable
from pathlib import Path

from essential_sparsity import files
from essential_sparsity.study.configuration import ConfigError

CACHE = "results/store/local.json"
RECENT_NS = 2_000_000_000  # a file changed this short ago could change again without another time


def contents(paths: Iterable[str], cache: str = CACHE, look: bool = True) -> dict[str, str]:
    """Path -> SHA-256 of the names and contents of its files, hidden ones left out.

    `look` = False trusts what is remembered, as jobs do: the head has looked. Raises ConfigError for a path that is not
    there.
    """
    known = files.read_json(cache) if Path(cache).is_file() else {}
    found, changed = {}, False
    for path in sorted(set(paths)):
        if not look and path in known:
            found[path] = known[path]["sha256"]
            continue
        listed = listing(Path(path))
        stamp = files.sha256_text(repr([(name, *seen) for name, seen in listed]))
        if known.get(path, {}).get("stamp") != stamp:
            newest = max((seen[1] for _, seen in listed), default=0)
            known[path] = {"sha256": _content(Path(path), [name for name, _ in listed])}
            if time.time_ns() - newest > RECENT_NS:
                known[path]["stamp"] = stamp
            changed = True
        found[path] = known[path]["sha256"]
    if changed and look:
        files.write_json(cache, known)
    return found


def listing(path: Path) -> list[tuple[str, tuple[int, int, int, int]]]:
    """(name below the path, what `_seen` says) of its files, sorted; a file is its own only one. ConfigError."""
    if path.is_file():
        return [("", _seen(path.stat()))]
    if not path.is_dir():
        raise ConfigError(f"{path} does not exist. Correct the column id: it is relative to the repository's root.")
    found = []
    for folder, names, there in files.walk(path):
        names[:] = [name for name in names if not name.startswith(files.HIDDEN)]
        for name in there:
            file = Path(folder, name)
            if not name.startswith(files.HIDDEN) and file.is_file():
                found.append((file.relative_to(path).as_posix(), _seen(file.stat())))
    return sorted(found)


def _seen(status: os.stat_result) -> tuple[int, int, int, int]:
    """Size, times of modification and of change, inode: `touch -r` and rsync put the first time back, nothing the second."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _content(path: Path, names: list[str]) -> str:
    size = sum((path / name if name else path).stat().st_size for name in names)
    if size > 1 << 30:
        print(f"Reading {size / 1e9:.0f} GB of {path} once, to know later when they change", flush=True)
    return files.sha256_text("".join(f"{name}\0{files.sha256_file(path / name if name else path)}\n" for name in names))
