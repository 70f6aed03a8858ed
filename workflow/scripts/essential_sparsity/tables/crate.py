"""What a study was made of and made with, as an RO-Crate: one file of JSON-LD beside its tables, enough to cite and to repeat it."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from rocrate.model import ContextEntity
from rocrate.rocrate import ROCrate

from essential_sparsity import __version__, files
from essential_sparsity.tables import provenance

NAME = "ro-crate-metadata.json"
HERE = ("snakemake", "pandas", "pyarrow", "numpy", "scipy", "scikit-learn", "kneed")  # what made tables of the runs


def crate(
    folder: Path,
    config: Mapping[str, Any],
    results: list[Path],
    manifests: list[Path],
    runs: pd.DataFrame,
    commit: Mapping[str, Any],
) -> ROCrate:
    """The crate of a study in `folder`.

    `config`: its configuration, whole; `results`: its tables and pages, below `folder`; `manifests`: of the checkpoints and data sets that
    it used; `runs`: its table of runs; `commit`: what `commit_of` found.
    """
    found = ROCrate()
    found.name = f"Essential sparsity: the study {config['study']}"
    found.description = (
        f"{len(runs.drop_duplicates(['model', 'task', 'pattern', 'sparsity', 'seed']))} runs of {runs['model'].nunique()} checkpoints on "
        f"{runs['task'].nunique()} tasks: how much of a pre-trained transformer is free to remove."
    )
    made = [
        found.add_file(dest_path=path.relative_to(folder).as_posix(), source=None, properties=of_file(path))
        for path in sorted(results)
    ]
    used = [found.add(ContextEntity(found, *_of_manifest(path))) for path in sorted(manifests)]
    text = json.dumps(config, sort_keys=True)
    settings = {
        "@type": "CreativeWork",
        "name": "configuration, whole",
        "encodingFormat": "application/json",
        "text": text,
    }
    used.append(found.add(ContextEntity(found, "#configuration", settings)))
    workflow = {
        "@type": "SoftwareSourceCode",
        "name": "essential-sparsity",
        "version": __version__,
        "programmingLanguage": "Snakemake",
    }
    tool = found.add(
        ContextEntity(found, "#workflow", workflow | {name: value for name, value in commit.items() if value})
    )
    tool["softwareRequirements"] = [found.add(ContextEntity(found, *entity)) for entity in _software(runs)]
    machines = {
        "@type": "PropertyValue",
        "name": "hardware that computed runs",
        "value": sorted(runs["hardware"].unique()),
    }
    head = {
        "@type": "PropertyValue",
        "name": "machine that made the tables",
        "value": f"{platform.system()} {platform.machine()}",
    }
    action = found.add(ContextEntity(found, "#study", {"@type": "CreateAction", "name": "the study"}))
    action["instrument"], action["object"], action["result"] = tool, used, made
    action["additionalProperty"] = [
        found.add(ContextEntity(found, "#hardware", machines)),
        found.add(ContextEntity(found, "#machine", head)),
    ]
    found.root_dataset["mentions"] = action
    return found


def commit_of(root: Path) -> dict[str, Any]:
    """The commit of the workflow in a folder (`commit`) and the files of it that differ, code that it has not among them (`changed`); null
    where nothing says it.

    Where another workflow uses this one from a git host, it was unpacked from a commit (`rules/repository.smk`), inside a
    repository that is not its own.
    """
    if (unpacked := root / ".commit").is_file():
        return {"commit": unpacked.read_text(), "changed": None}
    try:
        if Path(_git(root, "rev-parse", "--show-toplevel").strip()) != root.resolve():
            return {"commit": None, "changed": None}
        commit = _git(root, "rev-parse", "HEAD").strip()
        changed = _git(root, "status", "--porcelain", "--untracked-files=no").splitlines()
        added = _git(root, "ls-files", "--others", "--exclude-standard", "workflow", "rules").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return {"commit": None, "changed": None}
    return {"commit": commit, "changed": [*(line[3:] for line in changed), *added]}


def _git(root: Path, *command: str) -> str:
    return subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True, text=True).stdout


def of_file(path: Path) -> dict[str, Any]:
    """What a crate says of a file, by its content; of a table also its format and version."""
    said = {"sha256": files.sha256_file(path), "contentSize": path.stat().st_size}
    if path.suffix == ".parquet":
        metadata = pq.read_schema(path).metadata
        said |= {"encodingFormat": "application/vnd.apache.parquet", "version": metadata[b"version"].decode()}
    return said


def _of_manifest(path: Path) -> tuple[str, dict[str, Any]]:
    """Of a checkpoint or data set: where it is from, at which commit or version, and the digest that runs are told by."""
    said = files.read_json(path)
    kind = "model" if "model" in said else "dataset"
    source = {
        "@type": "CreativeWork" if kind == "model" else "Dataset",
        "name": said[kind],
        "additionalType": said["source"],
    }
    package = said.get("package") or {}
    source["identifier"] = f"{package['name']} {package['version']}" if package else said["id"]
    source["version"] = said.get("revision") or package.get("version")
    source["sha256"] = provenance.of_manifest(path)
    source["contentSize"] = sum(each["size"] for each in said["files"])
    return f"#{kind}-{said[kind]}", {name: value for name, value in source.items() if value is not None}


def _software(runs: pd.DataFrame) -> list[tuple[str, dict[str, Any]]]:
    """What computed the runs, as they say, and what made the tables here."""
    known = {(name, number) for name in ("torch", "transformers") for number in runs[name].unique()}
    known |= {("python", platform.python_version())}
    for name in HERE:
        try:
            known.add((name, version(name)))
        except PackageNotFoundError:  # the environment of one rule need not hold it
            continue
    return [
        (f"#{name}-{number}", {"@type": "SoftwareApplication", "name": name, "version": number})
        for name, number in sorted(known)
    ]
