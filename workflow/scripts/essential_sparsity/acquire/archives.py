"""Files out of zip, tar and Debian archives, as plain data: nothing is run, and nothing is written outside a folder."""

import contextlib
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from essential_sparsity import errors

UNPACK_TIMEOUT_S = 600
Choose = Callable[[list[str]], list[str]]  # of the names that a source has, those that are needed


class SourceError(errors.UserError):
    """A model or data set cannot be had as configured; the message says what to do."""


def extract(archive: Path, member: str, folder: Path, choose: Choose = list) -> list[str]:
    """Copy what `choose` picks of `member` into `folder`; return the names, relative to it.

    `member` is a file or a folder inside the archive; `inner.tar.gz!path` looks inside an archive inside it, and an
    empty path after `!` means all of that. Steps on the way are written beside `folder` and deleted.
    Raises SourceError: unreadable archive, missing member, a link, a name that points outside `folder`.
    """
    outer, nested, inner = member.partition("!")
    with _opened(archive, folder.parent) as entries:
        found = _under(entries, outer, archive.name)
        if not nested:
            wanted = choose(sorted(found))
            _copy(entries, {name: found[name] for name in wanted}, folder)
            return wanted
        if len(found) != 1:
            raise SourceError(f"{outer} in {archive.name} is not a file, so {member!r} cannot look inside it.")
        step = folder.parent / f"inner-{PurePosixPath(outer).name}"
        _copy(entries, {step.name: next(iter(found.values()))}, step.parent)
    try:
        return extract(step, inner, folder, choose)
    finally:
        step.unlink(missing_ok=True)


class _Entries:
    """The files of a zip or tar. `plain[name]` is False for links and devices."""

    def __init__(self, handle: zipfile.ZipFile | tarfile.TarFile):
        self.handle = handle
        if isinstance(handle, zipfile.ZipFile):
            self.members = {info.filename: info for info in handle.infolist() if not info.is_dir()}
            self.plain = {name: not stat.S_ISLNK(info.external_attr >> 16) for name, info in self.members.items()}
        else:
            self.members = {info.name.removeprefix("./"): info for info in handle.getmembers() if not info.isdir()}
            self.plain = {name: info.isfile() for name, info in self.members.items()}

    def open(self, name: str) -> IO[bytes]:
        if isinstance(self.handle, zipfile.ZipFile):
            return self.handle.open(self.members[name])
        return self.handle.extractfile(self.members[name])


@contextlib.contextmanager
def _opened(archive: Path, work: Path) -> Iterator[_Entries]:
    data = work / f"{archive.name}.tar"
    try:
        if archive.suffix == ".deb":
            _unwrap_deb(archive, data)
            archive = data
        with zipfile.ZipFile(archive) if zipfile.is_zipfile(archive) else tarfile.open(archive) as handle:
            yield _Entries(handle)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise SourceError(f"{archive.name} is not a readable archive ({error}).") from error
    finally:
        data.unlink(missing_ok=True)


def _unwrap_deb(archive: Path, data: Path) -> None:
    """Write the data part of a Debian package as an uncompressed tar; its scripts are not touched."""
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    try:
        with data.open("wb") as handle:
            subprocess.run(command, stdout=handle, stderr=subprocess.PIPE, check=True, timeout=UNPACK_TIMEOUT_S)
    except FileNotFoundError as error:
        raise SourceError(f"{archive.name} needs the program dpkg-deb, which is not on this machine.") from error
    except subprocess.SubprocessError as error:
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
        if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
            raise SourceError(f"{archive} holds {full!r}, a name that points outside its folder. Do not use it.")
        if not entries.plain[full]:
            raise SourceError(f"{archive} holds {full!r}, which is a link or a device, not a file. Do not use it.")
    return found


def _copy(entries: _Entries, chosen: dict[str, str], folder: Path) -> None:
    for name, full in chosen.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        with entries.open(full) as source, target.open("wb") as handle:
            shutil.copyfileobj(source, handle, 1 << 20)
