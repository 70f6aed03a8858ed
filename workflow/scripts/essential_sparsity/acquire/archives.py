"""Files out of zip, tar and Debian archives, as plain data: nothing is run, and nothing is written outside a folder."""

import bz2
import contextlib
import gzip
import io
import lzma
import re
import resource
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from essential_sparsity.acquire.refusal import SourceError, reading

UNPACK_TIMEOUT_S = 600
MOST_TIMES = 100  # bytes that a packed byte may become; texts and weights become 1 to 20
ALWAYS = 1 << 28  # bytes that anything may become
AT_ONCE = 1 << 24  # bytes of one header of a tar
PACKED = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}  # the first bytes of a file -> what unpacks it
Choose = Callable[[list[str]], list[str]]  # of the names that a source has, those that are needed


def extract(archive: Path, member: str, folder: Path, choose: Choose = list) -> list[str]:
    """Copy what `choose` picks of `member` into `folder`; return the names, relative to it.

    `member` is a file or a folder inside the archive; `inner.tar.gz!path` looks inside an archive inside it, and an
    empty path after `!` means all of that. Steps on the way are written beside `folder` and deleted.
    Raises SourceError: unreadable archive, missing member, a link, a name that points outside `folder`, one that stands twice, and
    contents out of all proportion to the archive.
    """
    outer, nested, inner = member.partition("!")
    with _opened(archive, folder.parent) as entries:
        found = _under(entries, outer, archive.name)
        if not nested:
            wanted = choose(sorted(found))
            _check_once(entries, {name: found[name] for name in wanted}, archive.name)
            _copy(entries, {name: found[name] for name in wanted}, folder)
            return wanted
        if len(found) != 1:
            raise SourceError(f"{outer} in {archive.name} is not a file, so {member!r} cannot look inside it.")
        _check_once(entries, found, archive.name)
        step = folder.parent / f"inner-{PurePosixPath(outer).name}"
        _copy(entries, {step.name: next(iter(found.values()))}, step.parent)
    try:
        return extract(step, inner, folder, choose)
    finally:
        step.unlink(missing_ok=True)


def gunzipped(path: Path) -> bytes:
    """What a gzip file holds. Raises SourceError for what is none, and for contents out of all proportion."""
    with reading(f"{path.name} cannot be unpacked with gzip"), gzip.open(path) as stream:
        return _Bounded(stream, path).read(-1)


def most_bytes(packed: int) -> int:
    """How many bytes a file of so many may hold, unpacked."""
    return max(MOST_TIMES * packed, ALWAYS)


def bomb(name: str, held: int) -> SourceError:
    """The refusal of a file that holds more than `most_bytes`."""
    return SourceError(
        f"{name} holds more than {held:,} bytes, over {MOST_TIMES} times its own size, as what is made to fill memory or disk. Do not use it."
    )


class _Bounded(io.RawIOBase):
    """An unpacked stream that ends in SourceError where it becomes too long."""

    def __init__(self, stream: IO[bytes], path: Path):
        self.stream, self.name, self.most = stream, path.name, most_bytes(path.stat().st_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        if size > AT_ONCE and size > self.most - self.tell():
            raise bomb(self.name, self.most)
        found = self.stream.read(self.most + 1 - self.tell() if size < 0 else size)
        return self._checked(found)

    def seek(self, place: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_SET and place > self.most:
            raise bomb(self.name, self.most)
        return self.stream.seek(place, whence)

    def tell(self) -> int:
        return self.stream.tell()

    def _checked(self, found: bytes) -> bytes:
        if self.tell() > self.most:
            raise bomb(self.name, self.most)
        return found


class _Entries:
    """The files of a zip or tar. `plain[name]` is False for links and devices; `twice`: names that stand there more than once."""

    def __init__(self, handle: zipfile.ZipFile | tarfile.TarFile, archive: Path):
        self.handle = handle
        if isinstance(handle, zipfile.ZipFile):
            found = [(info.filename, info, info.file_size) for info in handle.infolist() if not info.is_dir()]
        else:
            found = [(info.name.removeprefix("./"), info, info.size) for info in handle if not info.isdir()]
        if sum(size for *_, size in found) > (most := most_bytes(archive.stat().st_size)):
            raise bomb(archive.name, most)
        self.members = {name: info for name, info, _ in found}
        self.plain = {name: self._is_plain(info) for name, info in self.members.items()}
        self.twice = {name for name, count in Counter(name for name, *_ in found).items() if count > 1}

    @staticmethod
    def _is_plain(info: zipfile.ZipInfo | tarfile.TarInfo) -> bool:
        if isinstance(info, tarfile.TarInfo):
            return info.isfile() and not info.issparse()
        return stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)

    def open(self, name: str) -> IO[bytes]:
        if isinstance(self.handle, zipfile.ZipFile):
            return self.handle.open(self.members[name])
        return self.handle.extractfile(self.members[name])


@contextlib.contextmanager
def _opened(archive: Path, work: Path) -> Iterator[_Entries]:
    data, name = work / f"{archive.name}.tar", archive.name
    try:
        if archive.suffix == ".deb":
            _unwrap_deb(archive, data)
            archive = data
        with contextlib.ExitStack() as stack, reading(f"{name} is not a readable archive"):
            if zipfile.is_zipfile(archive):
                handle = stack.enter_context(zipfile.ZipFile(archive))
            else:
                handle = stack.enter_context(_tar(archive, stack))
            yield _Entries(handle, archive)
    finally:
        data.unlink(missing_ok=True)


def _tar(archive: Path, stack: contextlib.ExitStack) -> tarfile.TarFile:
    with archive.open("rb") as handle:
        start = handle.read(8)
    unpack = next((unpack for first, unpack in PACKED.items() if start.startswith(first)), open)
    return tarfile.open(fileobj=_Bounded(stack.enter_context(unpack(archive, "rb")), archive), mode="r:")


def _unwrap_deb(archive: Path, data: Path) -> None:
    """Write the data part of a Debian package as an uncompressed tar, within bounds; its scripts are not touched."""
    command, most = ["dpkg-deb", "--fsys-tarfile", str(archive)], most_bytes(archive.stat().st_size)

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))

    try:
        with data.open("wb") as handle:
            subprocess.run(
                command,
                stdout=handle,
                stderr=subprocess.PIPE,
                check=True,
                timeout=UNPACK_TIMEOUT_S,
                preexec_fn=bounded,
            )
    except FileNotFoundError as error:
        raise SourceError(f"{archive.name} needs the program dpkg-deb, which is not on this machine.") from error
    except subprocess.SubprocessError as error:
        if data.stat().st_size >= most:
            raise bomb(archive.name, most) from error
        raise SourceError(f"{archive.name} is not a readable Debian package ({error}).") from error


def _under(entries: _Entries, member: str, archive: str) -> dict[str, str]:
    """{name relative to the member: name in the archive}; a file is called by its own name."""
    member = member.strip("/")
    if member in entries.members:
        found = {PurePosixPath(member).name: member}
    else:
        prefix = f"{member}/" if member else ""
        found = {name.removeprefix(prefix): name for name in entries.members if name.startswith(prefix)}
    if not found:
        raise SourceError(f"{member} is not in {archive}. Correct the column member of the packages table.")
    for name, full in found.items():
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or re.search(r"[\\\x00-\x1f]", name):
            raise SourceError(f"{archive} holds {full!r}, a name that points outside its folder. Do not use it.")
        if not entries.plain[full]:
            raise SourceError(f"{archive} holds {full!r}, which is a link or a device, not a file. Do not use it.")
    return found


def _check_once(entries: _Entries, chosen: dict[str, str], archive: str) -> None:
    """Refuse a file that is needed and stands there twice. SourceError."""
    spelt: dict[str, str] = {}
    for name, full in chosen.items():
        if full in entries.twice or spelt.setdefault(name.casefold(), full) != full:
            raise SourceError(
                f"{archive} holds {full!r} twice, or in two spellings that are one file on some disks. Do not use it."
            )


def _copy(entries: _Entries, chosen: dict[str, str], folder: Path) -> None:
    for name, full in chosen.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with entries.open(full) as source, target.open("wb") as handle:
            shutil.copyfileobj(source, handle, 1 << 20)
