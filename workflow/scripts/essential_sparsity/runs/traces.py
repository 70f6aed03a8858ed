"""What would tell of the machine, its users or their logins in files that go out: looked for in every value, and refused by place."""

import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from essential_sparsity import errors

NAMED = re.compile(
    r"(?=.*[\d.-]).{4,}"
)  # a host name that is looked for: plain words, such as head or data, stand in every text


def refuse(folder: Path) -> None:
    """UserError where a file below `folder` names a folder of this machine, a path from a root, the machine, or a token."""
    words = _words()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        for place, text in _texts(path):
            for what, word in words.items():
                if found := word.search(text):
                    shown = "" if what == "a token" else f" ({found[0]})"
                    raise errors.UserError(
                        f"{path.relative_to(folder).as_posix()}, {place}, names {what}{shown}, which is not to go out. Take it out where it is "
                        "from, such as a row or the file of claims of config/, run the study again, then publish."
                    )


def without_folders(value: Any) -> Any:
    """The value, in which each text that is a path from the root or a home folder is its last part alone."""
    if isinstance(value, Mapping):
        return {name: without_folders(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_folders(part) for part in value]
    if isinstance(value, str) and value.startswith(("/", "~")):
        return PurePath(value).name
    return value


def _words() -> dict[str, re.Pattern]:
    """What is looked for, by what it is."""
    places = {str(place) for place in (Path.cwd(), Path.cwd().resolve(), Path.home())} - {"/"}
    found = {"a folder of this machine": _any(places)} if places else {}
    found["a path from the root"] = re.compile(r"(?:(?<![\w./<-])|(?<=file://))/[\w.-]+/[\w.-]+")
    found["a token"] = re.compile(r"(?<!\w)hf_[A-Za-z0-9]{16,}")
    host = socket.gethostname()
    if NAMED.fullmatch(host):
        found["this machine"] = _any({host})
    return found


def _any(words: set[str]) -> re.Pattern:
    """The words, each not as a part of a longer one."""
    return re.compile(
        rf"(?<![\w.-])(?:{'|'.join(re.escape(word) for word in sorted(words, key=len, reverse=True))})(?![\w-])"
    )


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    """The texts of a file, each with its place."""
    if path.suffix != ".parquet":
        yield "its text", path.read_text(encoding="utf-8", errors="replace")
        return
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        yield (
            "its metadata",
            schema.to_string(show_field_metadata=True, show_schema_metadata=True, truncate_metadata=False),
        )
        for field in schema:
            if str(field.type) in ("string", "large_string"):
                values = pc.unique(file.read([field.name], use_threads=False)[field.name]).drop_null()
                yield f"column {field.name}", "\n".join(values.to_pylist())
