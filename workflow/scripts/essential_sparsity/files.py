"""Files that are whole or absent, and what else every wing needs: checksums, named random generators, lists in messages.

Standard library only.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from essential_sparsity import errors

HIDDEN = (".", "~$")  # how the name of a hidden file begins; the second is a spreadsheet's, of a file that it has open


def some(names: Sequence[object], most: int = 8) -> str:
    """The first few of a list, for a message: `a, b and 3 more`; `nothing` when it is empty."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more if names else "nothing"


def sha256_text(text: str) -> str:
    """Hex SHA-256 of a text in UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_rows(rows: Iterable[Mapping[str, Any]]) -> str:
    """Hex SHA-256 of rows of numbers, texts and None, whatever the order of rows and columns."""
    return sha256_text("\n".join(sorted(json.dumps(row, sort_keys=True) for row in rows)))


def sha256_file(path: str | os.PathLike) -> str:
    """Hex SHA-256 of a file's bytes, read in pieces."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` on success, delete it on any error.

    A reader, a killed job or a second writer never sees half a file. What a disk says no to names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".tmp{path.suffix}", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp makes files private; results are shared within a group
        temporary.replace(path)
    except OSError as error:
        if error.errno not in errors.OF_MACHINE or error.filename:
            raise
        raise OSError(error.errno, str(error), str(path)) from error  # libraries do not say which file
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write JSON with sorted keys and a final newline, atomically: the same value gives the same bytes."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file; ValueError names the file when it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise errors.UserError(
            f"{path} is not valid JSON ({error}). Delete it and run again to make it anew."
        ) from error


def named_seed(seed: int, purpose: str, name: str = "") -> int:
    """A 64-bit seed that depends on all three: streams of different purposes or tensors never overlap by accident."""
    return int.from_bytes(hashlib.sha256(f"{seed}\0{purpose}\0{name}".encode()).digest()[:8], "big")


def rng(seed: int, purpose: str, name: str = ""):
    """A NumPy generator for one (seed, purpose, name); the same on every machine."""
    import numpy as np

    return np.random.default_rng(named_seed(seed, purpose, name))


def names_under(folder: Path) -> list[str]:
    """The files below a folder, in linked folders too; a link that leads nowhere is a name as well, and fails when read."""
    return sorted(
        Path(place, name).relative_to(folder).as_posix() for place, _, there in walk(folder) for name in there
    )


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` from the top, into linked folders too, but into none that the way there lies in: it would go on for ever.
    Raises UserError for a folder that cannot be read, but for hidden ones."""

    def refuse(error: OSError) -> None:
        if not any(part.startswith(HIDDEN) for part in Path(error.filename).relative_to(folder).parts):
            raise errors.UserError(
                f"The folder {error.filename} cannot be read ({error.strerror}), so its files would be missing. Make it readable, or take "
                "it out."
            ) from error

    ways = {os.fspath(folder): [os.path.realpath(folder)]}
    for place, folders, there in os.walk(folder, onerror=refuse, followlinks=True):
        way = ways.pop(place)
        real = {name: os.path.realpath(os.path.join(place, name)) for name in folders}
        folders[:] = [name for name in folders if not any(f"{passed}/".startswith(f"{real[name]}/") for passed in way)]
        yield place, folders, there
        ways |= {os.path.join(place, name): [*way, real[name]] for name in folders}
