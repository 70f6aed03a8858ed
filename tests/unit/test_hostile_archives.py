"""Archives of strangers: nothing is written outside of a folder, nothing fills the disk, and what is refused is named."""

import bz2
import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
import zipfile

import pytest

from essential_sparsity.acquire import archives

PIECE = 1 << 22
ZEROS = (1 << 28) + 2 * PIECE  # bytes of zeros, packed by a thousand: more than what is always unpacked


def zipped(members, **options):
    """A zip of (name, content) in this order."""

    def write(path):
        with zipfile.ZipFile(path, "w", **options) as handle:
            for name, content in members:
                handle.writestr(name, content)

    return write


def linked_zip(name, target):
    def write(path):
        info = zipfile.ZipInfo(name)
        info.external_attr = 0o120777 << 16
        with zipfile.ZipFile(path, "w") as handle:
            handle.writestr(info, target)

    return write


def tarred(members, compress=gzip.compress, **options):
    """A packed tar of (name, content or attributes of a member) in this order."""

    def write(path):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w", **options) as handle:
            for name, content in members:
                info = tarfile.TarInfo(name)
                if isinstance(content, dict):
                    for key, value in content.items():
                        setattr(info, key, value)
                    handle.addfile(info)
                else:
                    info.size = len(content)
                    handle.addfile(info, io.BytesIO(content))
        path.write_bytes(compress(stream.getvalue()))

    return write


def zip_bomb(path):
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as handle,
        handle.open("pkg/a", "w") as member,
    ):
        for _ in range(ZEROS // PIECE + 1):
            member.write(bytes(PIECE))


def tar_bomb(compress):
    """A tar of one member of zeros, packed in pieces."""

    def write(path):
        info = tarfile.TarInfo("pkg/a")
        info.size = ZEROS
        path.write_bytes(compress(info.tobuf()) + compress(bytes(PIECE)) * (ZEROS // PIECE) + compress(bytes(1024)))

    return write


def giant_header(path):
    """A tar whose header for long names says 2^32 bytes, of zeros."""
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 32
    path.write_bytes(gzip.compress(info.tobuf()) + gzip.compress(bytes(PIECE)) * 20)


def sparse(path):
    """A tar of a member that has a size of 2^50 bytes, and stores none."""
    tarred([("pkg/a", {"pax_headers": {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(1 << 50),
                                       "GNU.sparse.name": "pkg/a"}}), ("pkg/b", b"B")], format=tarfile.PAX_FORMAT)(path)  # fmt: skip


def altered(write, old, new, count=-1):
    def change(path):
        write(path)
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new, count))

    return change


def cut(write, share=0.5):
    def change(path):
        write(path)
        os.truncate(path, int(path.stat().st_size * share))

    return change


def encrypted(path):
    """A zip whose member is marked as encrypted."""
    zipped([("pkg/a", b"A" * 99)])(path)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    path.write_bytes(content)


def unknown_method(path):
    zipped([("pkg/a", b"A" * 99)])(path)
    content = bytearray(path.read_bytes())
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        struct.pack_into("<H", content, content.index(mark) + place, 77)
    path.write_bytes(content)


def nested(path):
    """Twenty archives, each in the next."""
    content = b"A"
    for _ in range(20):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as handle:
            handle.writestr("pkg", content)
        content = stream.getvalue()
    path.write_bytes(content)


GOOD = [("pkg/a", b"A" * 999)]
LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
ARCHIVES = {  # what it is -> (its name, how it is written, the member, words of the refusal)
    "a name that climbs": ("x.zip", zipped([("pkg/../../../evil", b"E")]), "pkg", "points outside"),
    "a name that climbs, in a tar": ("x.tar.gz", tarred([("pkg/../../../evil", b"E")]), "pkg", "points outside"),
    "an absolute name": ("x.zip", zipped([("pkg//etc/evil", b"E")]), "pkg", "points outside"),
    "a name with backslashes": ("x.tar.gz", tarred([("pkg/..\\..\\evil", b"E")]), "pkg", "points outside"),
    "a name with a line break": ("x.tar.gz", tarred([("pkg/a\nb", b"E")]), "pkg", "points outside"),
    "a link": ("x.zip", linked_zip("pkg/a", "/etc/passwd"), "pkg", "is a link or a device"),
    "a link, in a tar": ("x.tar.gz", tarred([("pkg/a", LINK)]), "pkg", "is a link or a device"),
    "a link, and a file written through it": (
        "x.tar.gz", tarred([("pkg/d", LINK | {"linkname": "../../.."}), ("pkg/d/evil", b"E")]), "pkg", "is a link or a device",
    ),
    "a hard link": ("x.tar.gz", tarred([("pkg/a", LINK | {"type": tarfile.LNKTYPE})]), "pkg", "is a link or a device"),
    "a pipe": ("x.tar.gz", tarred([("pkg/a", {"type": tarfile.FIFOTYPE})]), "pkg", "is a link or a device"),
    "a device": ("x.tar.gz", tarred([("pkg/a", {"type": tarfile.CHRTYPE})]), "pkg", "is a link or a device"),
    "a bomb": ("x.zip", zip_bomb, "pkg", "holds more than"),
    "a bomb, beside what is asked for": ("x.tar.gz", tar_bomb(gzip.compress), "other", "holds more than"),
    "a bomb in bzip2": ("x.tar.bz2", tar_bomb(bz2.compress), "pkg", "holds more than"),
    "a bomb in xz": ("x.tar.xz", tar_bomb(lzma.compress), "pkg", "holds more than"),
    "a bomb in its header": ("x.tar.gz", giant_header, "pkg", "holds more than"),
    "a file of 2^50 bytes that stores none": ("x.tar.gz", sparse, "pkg", "holds more than|link or a device|not a readable"),
    "a bomb in an archive inside": ("x.zip", None, "inner.tar.gz!pkg", "holds more than"),
    "the same name twice": ("x.zip", zipped([*GOOD, ("pkg/a", b"another")]), "pkg", "'pkg/a' twice"),
    "the same name twice, in a tar": ("x.tar.gz", tarred([*GOOD, ("pkg/a", b"another")]), "pkg", "'pkg/a' twice"),
    "two spellings of a name": ("x.zip", zipped([*GOOD, ("pkg/A", b"another")]), "pkg", "'pkg/a' twice"),
    "a file that is a folder as well": ("x.tar.gz", tarred([*GOOD, ("pkg/a/b", b"B")]), "pkg", "not a readable archive"),
    "a name longer than a disk has": ("x.tar.gz", tarred([("pkg/" + "n" * 300, b"B")]), "pkg", "not a readable archive"),
    "an encrypted one": ("x.zip", encrypted, "pkg", "not a readable archive"),
    "a method of packing that there is not": ("x.zip", unknown_method, "pkg", "not a readable archive"),
    "another content than its checksum": ("x.zip", altered(zipped(GOOD), b"A" * 999, b"B" * 999), "pkg", "not a readable archive"),
    "its first half": ("x.zip", cut(zipped(GOOD)), "pkg", "not a readable archive"),
    "its first half, in a tar": ("x.tar.gz", cut(tarred(GOOD)), "pkg", "not a readable archive"),
    "a stream that is damaged": (
        "x.tar.xz", altered(tarred(GOOD, lzma.compress), b"\0\0", b"\xff\xff", 3), "pkg", "not a readable archive",
    ),
    "a tar whose sizes are below zero": (
        "x.tar", altered(tarred(GOOD, bytes), b"00000001747\0", b"-0000001747\0", 1), "pkg", "not a readable archive",
    ),
    "bytes of another kind": ("x.whl", lambda path: path.write_bytes(b"\xff" * 4096), "pkg", "not a readable archive"),
    "a file without a byte": ("x.whl", lambda path: path.write_bytes(b""), "pkg", "not a readable archive|not in"),
    "twenty archives, each in the next": ("x.zip", nested, "pkg!pkg!pkg!other", "other is not in"),
}  # fmt: skip


def extracted(archive, member):
    """What a program unpacks of an archive beside it."""
    from pathlib import Path

    from essential_sparsity.acquire import archives

    return archives.extract(Path(archive), member, Path("work/source"))


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_that_is_made_to_harm(attempts, tmp_path, name):
    """Refused by its name; what was unpacked before lies in its own folder, and no more than 256 MiB or 100 times its size"""
    file, write, member, words = ARCHIVES[name]
    folder = tmp_path / "here"
    (folder / "work").mkdir(parents=True)
    if write is None:
        tar_bomb(gzip.compress)(tmp_path / "inner.tar.gz")
        write = zipped([("inner.tar.gz", (tmp_path / "inner.tar.gz").read_bytes())])
        (tmp_path / "inner.tar.gz").unlink()
    write(folder / file)
    ended = attempts.call("test_hostile_archives:extracted", file, member, folder=folder)
    ended.check_refused(words)
    assert any(part in ended.said for part in (file, "inner-inner.tar.gz", "inner-pkg"))
    assert [path.name for path in tmp_path.iterdir() if not path.name.startswith(".")] == ["here"]
    kept = sum(path.stat().st_size for path in (folder / "work").rglob("*") if path.is_file())
    assert kept <= max(1 << 28, 100 * (folder / file).stat().st_size)


def test_a_file_that_is_not_needed_may_stand_there_in_two_spellings(tmp_path):
    """What is needed is unpacked; as packages have README and Readme beside their data"""
    zipped([*GOOD, ("pkg/README", b"one"), ("pkg/Readme", b"other")])(tmp_path / "x.zip")
    assert archives.extract(tmp_path / "x.zip", "pkg", tmp_path / "out", lambda names: ["a"]) == ["a"]


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
def test_a_debian_package_that_fills_the_disk(tmp_path, monkeypatch):
    """Refused by its name, and no more is written than any archive may become"""
    control = tmp_path / "pkg/DEBIAN/control"
    control.parent.mkdir(parents=True)
    control.write_text("Package: x\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n")
    (tmp_path / "pkg/usr").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "pkg/usr/zeros").write_bytes(bytes(PIECE))
    subprocess.run(["dpkg-deb", "-Zgzip", "--build", "pkg", "x.deb"], cwd=tmp_path, check=True, capture_output=True)
    assert archives.extract(tmp_path / "x.deb", "usr", tmp_path / "work/before") == ["zeros"]
    monkeypatch.setattr(archives, "ALWAYS", PIECE // 4)
    monkeypatch.setattr(archives, "MOST_TIMES", 2)
    unlink, sizes = archives.Path.unlink, []
    monkeypatch.setattr(
        archives.Path, "unlink", lambda path, **how: sizes.append(path.stat().st_size) or unlink(path, **how)
    )
    with pytest.raises(ValueError, match=r"x\.deb holds more than 1,048,576 bytes"):
        archives.extract(tmp_path / "x.deb", "usr", tmp_path / "work/out")
    assert sizes == [PIECE // 4]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["before"]
