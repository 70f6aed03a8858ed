"""Archives, package clients, the workspace. Clients are real, packages tiny and made here; no network is used."""

import base64
import functools
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest

from essential_sparsity import files
from essential_sparsity.acquire import archives, listing, sources
from essential_sparsity.acquire.sources import SourceError

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
PAIRS = b"# word word human\nlove\tsex\t6.77\ntiger\tcat\t7.35\n"


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as handle:
        for name, content in members.items():
            handle.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as handle:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            handle.addfile(info, io.BytesIO(content))
    return path


def make_wheel(folder: Path, name: str, members: dict[str, bytes], tag: str = "py3-none-any") -> dict[str, str]:
    """A wheel `name` 1.0 in `folder`; returns its row of the packages table (member still to be named)."""
    info = f"{name}-1.0.dist-info"
    members = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n".encode(),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
    }
    path = make_zip(folder / f"{name}-1.0-{tag}.whl", {**members, f"{info}/RECORD": b""})
    return {"registry": "pypi", "name": name, "version": "1.0", "kind": "wheel", "sha256": files.sha256_file(path)}


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes packages from, instead of an index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def empty(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def unpacked(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- archives --------------------------------------------------------------------------------------------------------

TREE = {
    "pkg/model/a.json": b"A",
    "pkg/model/sub/b.txt": b"B",
    "pkg/model2/c.txt": b"C",
    "pkg/code.py": b"raise SystemExit",
}


@pytest.mark.parametrize(("make", "name"), [(make_zip, "x.whl"), (make_tar, "x.tar.gz")])
@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ("pkg/model", {"a.json": b"A", "sub/b.txt": b"B"}),
        ("pkg/model/", {"a.json": b"A", "sub/b.txt": b"B"}),
        ("pkg/model/sub/b.txt", {"b.txt": b"B"}),
    ],
)
def test_extract_takes_the_member_and_nothing_else(tmp_path, make, name, member, expected):
    names = archives.extract(make(tmp_path / name, TREE), member, tmp_path / "out")
    assert unpacked(tmp_path / "out") == expected
    assert names == sorted(expected)


def test_extract_writes_only_what_is_chosen(tmp_path):
    archive = make_zip(tmp_path / "x.whl", TREE)
    archives.extract(archive, "pkg", tmp_path / "out", lambda names: [n for n in names if n.endswith(".json")])
    assert unpacked(tmp_path / "out") == {"model/a.json": b"A"}


@pytest.mark.parametrize(
    ("member", "expected"), [("p/in.zip!", {"a/b.txt": b"B", "c.txt": b"C"}), ("p/in.zip!a/b.txt", {"b.txt": b"B"})]
)
def test_extract_looks_into_an_archive_inside(tmp_path, member, expected):
    inner = make_zip(tmp_path / "in.zip", {"a/b.txt": b"B", "c.txt": b"C"})
    outer = make_tar(tmp_path / "x.tar.gz", {"p/in.zip": inner.read_bytes(), "p/other": b""})
    inner.unlink()
    archives.extract(outer, member, tmp_path / "out")
    assert unpacked(tmp_path / "out") == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "x.tar.gz"]  # nothing is left on the way


@pytest.mark.parametrize("name", ["pkg/../../evil", "pkg//etc/evil", "pkg/..\\evil"])
@pytest.mark.parametrize(("make", "archive"), [(make_zip, "x.whl"), (make_tar, "x.tar.gz")])
def test_extract_refuses_names_that_point_outside(tmp_path, make, archive, name):
    make(tmp_path / archive, {"pkg/good": b"", name: b"evil"})
    with pytest.raises(SourceError, match="points outside"):
        archives.extract(tmp_path / archive, "pkg", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == [archive]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_extract_refuses_links_and_devices_in_a_tar(tmp_path, kind):
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as handle:
        info = tarfile.TarInfo("pkg/passwd")
        info.type, info.linkname = kind, "/etc/passwd"
        handle.addfile(info)
    with pytest.raises(SourceError, match="link or a device"):
        archives.extract(tmp_path / "x.tar.gz", "pkg", tmp_path / "out")


def test_extract_refuses_a_link_in_a_zip(tmp_path):
    info = zipfile.ZipInfo("pkg/passwd")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as handle:
        handle.writestr(info, "/etc/passwd")
    with pytest.raises(SourceError, match="link or a device"):
        archives.extract(tmp_path / "x.zip", "pkg", tmp_path / "out")


def test_extract_names_what_is_missing_or_broken(tmp_path):
    archive = make_zip(tmp_path / "x.whl", TREE)
    with pytest.raises(SourceError, match=r"pkg/mod is not in x\.whl.*column member"):
        archives.extract(archive, "pkg/mod", tmp_path / "out")
    with pytest.raises(SourceError, match="not a file"):
        archives.extract(archive, "pkg/model!a", tmp_path / "out")
    (tmp_path / "y.tar.gz").write_bytes(make_tar(tmp_path / "z.tar.gz", TREE).read_bytes()[:60])
    with pytest.raises(SourceError, match=r"y\.tar\.gz is not a readable archive"):
        archives.extract(tmp_path / "y.tar.gz", "pkg", tmp_path / "out")


# ---- clients ---------------------------------------------------------------------------------------------------------


def test_pip_downloads_a_wheel(index, empty):
    row = make_wheel(index, "tinydata", {"tinydata/pairs.tsv": PAIRS, "tinydata/__init__.py": b"raise SystemExit(9)"})
    archive = sources.download(row, empty)
    assert files.sha256_file(archive) == row["sha256"]
    archives.extract(archive, "tinydata/pairs.tsv", empty / "out")
    assert unpacked(empty / "out") == {"pairs.tsv": PAIRS}


def test_pip_takes_the_pinned_platform_wheel_on_any_machine(index, empty):
    row = make_wheel(
        index, "tinydata", {"tinydata/a": b"linux"}, "cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64"
    )
    make_wheel(index, "tinydata", {"tinydata/a": b"other"}, "cp314-cp314-macosx_11_0_arm64")
    make_wheel(index, "tinydata", {"tinydata/a": b"pure"})
    assert "manylinux_2_24" in sources.download(row, empty).name


def test_a_wrong_checksum_is_refused(index, empty):
    row = make_wheel(index, "tinydata", {"tinydata/a": b""})
    with pytest.raises(SourceError, match=r"tinydata==1\.0 has the wrong checksum: expected sha256 0000.*do not use"):
        sources.download({**row, "sha256": "0" * 64}, empty)
    assert not list(empty.glob("*.whl"))


BACKEND = """
import os, pathlib
pathlib.Path(os.environ["MARKER"]).write_text("run")
def _metadata(folder):
    info = pathlib.Path(folder) / "tinysdist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: tinysdist\\nVersion: 1.0\\n")
    return info.name
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    return _metadata(folder)
def build_wheel(folder, config_settings=None, metadata_directory=None):
    raise SystemExit("a wheel was built")
"""


def test_pip_runs_nothing_of_an_sdist_before_its_checksum_is_verified(index, empty, tmp_path, monkeypatch):
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    project = b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    members = {"pyproject.toml": project, "backend.py": BACKEND.encode(), "data/pairs.tsv": PAIRS, "PKG-INFO": b""}
    path = make_tar(index / "tinysdist-1.0.tar.gz", {f"tinysdist-1.0/{name}": data for name, data in members.items()})
    row = {"registry": "pypi", "name": "tinysdist", "version": "1.0", "kind": "sdist", "sha256": "0" * 64}
    with pytest.raises(SourceError, match="wrong checksum"):
        sources.download(row, empty)
    assert not (tmp_path / "marker").exists()
    assert sources.download({**row, "sha256": files.sha256_file(path)}, empty).name == "tinysdist-1.0.tar.gz"
    assert (tmp_path / "marker").exists()  # the check above can fail: pip does evaluate it, afterwards


def test_a_missing_package_is_named(index, empty):
    row = {"registry": "pypi", "name": "nosuchthing", "version": "1.0", "kind": "wheel", "sha256": "0" * 64}
    with pytest.raises(SourceError, match=r"pypi package nosuchthing==1\.0 could not be downloaded.*packages table"):
        sources.download(row, empty)


class Registry(http.server.BaseHTTPRequestHandler):
    """An npm registry of one package."""

    def __init__(self, tarball, *args):
        self.tarball = tarball
        super().__init__(*args)

    def do_GET(self):
        body = self.tarball
        if not self.path.endswith(".tgz"):
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(self.tarball).digest()).decode()
            url = f"http://{self.headers['Host']}/tiny/-/tiny-1.0.0.tgz"
            version = {"name": "tiny", "version": "1.0.0", "dist": {"tarball": url, "integrity": integrity}}
            body = json.dumps(
                {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
            ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.mark.skipif(not shutil.which("npm"), reason="npm is not installed")
def test_npm_packs_a_package(tmp_path, empty, monkeypatch):
    manifest = json.dumps({"name": "tiny", "version": "1.0.0", "scripts": {"prepack": "exit 7"}}).encode()
    tarball = make_tar(tmp_path / "t.tgz", {"package/package.json": manifest, "package/src/0.json": b"{}"})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Registry, tarball.read_bytes())) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("npm_config_registry", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
        monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
        row = {
            "registry": "npm",
            "name": "tiny",
            "version": "1.0.0",
            "kind": "npm",
            "sha256": files.sha256_file(tarball),
        }
        archive = sources.download(row, empty)
        (tmp_path / "other").mkdir()
        with pytest.raises(SourceError, match=f"npm package tiny==1.0.0 has the wrong checksum.*found {row['sha256']}"):
            sources.download({**row, "sha256": "0" * 64}, tmp_path / "other")
        server.shutdown()
    archives.extract(archive, "package/src", empty / "out")
    assert unpacked(empty / "out") == {"0.json": b"{}"}


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb is not installed")
def test_a_debian_package_is_downloaded_and_read(tmp_path, empty, monkeypatch):
    """The package is real; apt-get is a stand-in, since the real one reads only the system's own lists."""
    tree = tmp_path / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        "Package: tiny\nVersion: 1.0\nArchitecture: all\nMaintainer: t\nDescription: t\n"
    )
    (tree / "DEBIAN/postinst").write_text("#!/bin/sh\nexit 9\n")
    (tree / "DEBIAN/postinst").chmod(0o755)
    (tree / "usr/share/tiny").mkdir(parents=True)
    (tree / "usr/share/tiny/a-ubyte").write_bytes(b"A")
    deb = tmp_path / "tiny_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(tree), str(deb)], check=True, capture_output=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/apt-get").write_text(f'#!/bin/sh\n[ "$*" = "download tiny=1.0" ] && cp {deb} .\n')
    (tmp_path / "bin/apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    row = {"registry": "debian", "name": "tiny", "version": "1.0", "kind": "deb", "sha256": files.sha256_file(deb)}
    archive = sources.download(row, empty)
    archives.extract(archive, "usr/share/tiny", empty / "out")
    assert unpacked(empty / "out") == {"a-ubyte": b"A"}
    with pytest.raises(SourceError, match=r"debian package tiny==2\.0 could not be .*Run apt-get update"):
        sources.download({**row, "version": "2.0"}, empty)


def test_a_missing_client_is_named(empty, monkeypatch):
    monkeypatch.setenv("PATH", str(empty))
    with pytest.raises(SourceError, match="npm package tiny==1 needs the program npm"):
        sources.download({"registry": "npm", "name": "tiny", "version": "1", "kind": "npm", "sha256": ""}, empty)


def test_a_download_that_hangs_ends(empty, monkeypatch, tmp_path):
    (tmp_path / "npm").write_text("#!/bin/sh\nexec sleep 60\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sources, "CLIENT_TIMEOUT_S", 0.3)
    with pytest.raises(SourceError, match=r"did not arrive within 0\.3 s"):
        sources.download({"registry": "npm", "name": "tiny", "version": "1", "kind": "npm", "sha256": ""}, empty)


def test_registry_and_kind_must_fit(empty):
    with pytest.raises(SourceError, match="registry 'npm' with kind 'wheel'"):
        sources.download({"registry": "npm", "name": "t", "version": "1", "kind": "wheel", "sha256": ""}, empty)


# ---- obtain, workspace, publish --------------------------------------------------------------------------------------


def test_the_next_package_is_used_when_the_first_is_gone(index, tmp_path, capfd):
    first = {**make_wheel(index, "first", {"first/m/a.txt": b"A"}), "member": "first/m"}
    inner = make_zip(tmp_path / "in.zip", {"a.txt": b"A"})
    second = {**make_wheel(index, "second", {"second/in.zip": inner.read_bytes()}), "member": "second/in.zip!"}
    settings = {"source": "package", "id": "key", "packages": [first, second]}
    found = {}
    for number, gone in enumerate([None, "first"]):
        (tmp_path / f"work{number}").mkdir()
        for path in index.glob(f"{gone}-*"):
            path.unlink()
        fetched = sources.obtain(settings, tmp_path / f"work{number}", list)
        found[fetched.package["name"]] = unpacked(fetched.folder)
    assert found == {"first": {"a.txt": b"A"}, "second": {"a.txt": b"A"}}
    assert "first==1.0 could not be downloaded" in capfd.readouterr().err


def test_every_reason_is_told_when_no_package_works(index, empty):
    row = {**make_wheel(index, "first", {"first/a": b""}), "member": "first/nothing"}
    gone = {**row, "name": "second", "member": "x"}
    with pytest.raises(SourceError, match=r"first/nothing is not in first-1(.|\n)*second==1\.0 could not be"):
        sources.obtain({"source": "package", "id": "key", "packages": [row, gone]}, empty, list)
    with pytest.raises(SourceError, match="no row 'key'"):
        sources.obtain({"source": "package", "id": "key", "packages": []}, empty, list)


def test_a_path_is_used_in_place(tmp_path, empty):
    (tmp_path / "data/sub").mkdir(parents=True)
    (tmp_path / "data/sub/a.csv").write_text("a")
    (tmp_path / "data/b.csv").write_text("b")
    folder = sources.obtain({"source": "path", "id": str(tmp_path / "data")}, empty, list)
    assert (folder.folder, folder.names) == (tmp_path / "data", ["b.csv", "sub/a.csv"])
    single = sources.obtain({"source": "path", "id": str(tmp_path / "data/b.csv")}, empty, list)
    assert (single.folder, single.names) == (tmp_path / "data", ["b.csv"])
    with pytest.raises(SourceError, match="nowhere does not exist"):
        sources.obtain({"source": "path", "id": "nowhere"}, empty, list)


@pytest.mark.parametrize("name", ["model.safetensors", "spiece.model", "train.parquet", "cat/1.png", "a.csv.gz"])
def test_a_pointer_of_git_lfs_is_named(tmp_path, empty, name):
    (tmp_path / "data" / name).parent.mkdir(parents=True)
    (tmp_path / "data" / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 438\n")
    with pytest.raises(SourceError, match=rf"{re.escape(name)} is a pointer of Git LFS.*git lfs pull"):
        sources.obtain({"source": "path", "id": str(tmp_path / "data")}, empty, list)


def test_a_pointer_beside_what_makes_it_needless_is_none_to_fetch(tmp_path, empty):
    """As after `git lfs pull --include=model.safetensors`: no tokenizer that has its tokenizer.json reads its model of sentencepiece."""
    (tmp_path / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 438\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    fetched = sources.obtain({"source": "path", "id": str(tmp_path)}, empty, list)
    assert fetched.names == ["tokenizer.json", "tokenizer.model"]
    shutil.copy(tmp_path / "tokenizer.model", tmp_path / "tokenizer.json")
    with pytest.raises(SourceError, match=r"tokenizer\.json is a pointer of Git LFS"):
        sources.obtain({"source": "path", "id": str(tmp_path)}, empty, list)


def test_a_failure_leaves_neither_manifest_nor_half_a_folder(tmp_path):
    manifest = tmp_path / "key/manifest.json"
    with sources.workspace(manifest) as work:
        (work / "files").mkdir()
        (work / "files/a").write_text("first")
        sources.publish(work, manifest, {"files": listing.entries(work / "files", ["a"])})
    assert files.read_json(manifest)["files"][0]["size"] == 5

    def interrupted():
        with sources.workspace(manifest) as work:
            (work / "files").mkdir()
            (work / "files/a").write_text("sec")
            raise OSError("disk full")

    with pytest.raises(OSError, match="full"):
        interrupted()
    assert not manifest.exists()
    assert unpacked(manifest.parent) == {"files/a": b"first"}
    with sources.workspace(manifest) as work:
        (work / "files").mkdir()
        (work / "files/b").write_text("third")
        (work / "files/b").chmod(0o600)
        sources.publish(work, manifest, {})
    assert set(unpacked(manifest.parent)) == {"files/b", "manifest.json"}
    assert (manifest.parent / "files/b").stat().st_mode & 0o777 == manifest.stat().st_mode & 0o777


def test_what_a_killed_run_left_is_cleared(tmp_path):
    (tmp_path / ".fetching/files").mkdir(parents=True)
    with sources.workspace(tmp_path / "manifest.json") as work:
        assert not list(work.iterdir())


def fetch(program: str, what: str, settings: dict, manifest: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(SCRIPTS / program), f"--{what}", "key", "--settings", json.dumps(settings)]
    return subprocess.run([*command, "--manifest", str(manifest)], capture_output=True, text=True, check=False)


def test_program_writes_the_same_bytes_twice_and_says_what_is_wrong(index, tmp_path):
    row = {**make_wheel(index, "tinydata", {"tinydata/pairs.tsv": PAIRS}), "member": "tinydata/pairs.tsv"}
    settings = {"source": "package", "id": "key", "revision": None, "format": "word-pairs", "packages": [row]}
    written = []
    for number in range(2):
        manifest = tmp_path / str(number) / "manifest.json"
        done = fetch("fetch_dataset.py", "dataset", settings, manifest)
        assert done.returncode == 0, done.stderr
        written.append(unpacked(manifest.parent))
    assert written[0] == written[1]
    record = json.loads(written[0]["manifest.json"])
    assert record["n_rows"] == {"all": 2}
    assert record["package"] == {key: row[key] for key in ("registry", "name", "version", "sha256")}
    row["sha256"] = "0" * 64
    done = fetch("fetch_dataset.py", "dataset", settings, manifest)
    assert done.returncode == 1
    assert done.stderr.startswith("error: fetch_dataset: pypi package tinydata==1.0 has the wrong checksum")
    assert "Traceback" not in done.stderr
    assert not manifest.exists()
