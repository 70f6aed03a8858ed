"""Snakemake's records of what files were made from: without them it compares times alone, and a change goes unseen.

They lie in `.snakemake`, apart from results: copied results, the folder of a renamed study or a clone beside which results
were put have none. No torch: every parse of the Snakefile imports this module.
"""

import itertools
import json
import os
import shlex
from base64 import urlsafe_b64encode
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from essential_sparsity import codefiles, files
from essential_sparsity.study import deciding, iterations, series
from essential_sparsity.study.grid import STORE

if TYPE_CHECKING:
    from essential_sparsity.study.study import Study

PLACES = (".snakemake/metadata", ".snakemake/incomplete")  # of finished jobs, and of those that were killed
RUNS = f"{STORE}/runs/"
TYPED = 8  # files that a person is asked to delete by name
LONGEST = 254  # characters of one name of a record, which is folders and a file where it is longer


def lost(study: "Study") -> list[str]:
    """The files that are there and that only Snakemake's records could compare with what the study asks for, without a record.

    Pre-trainings say themselves of which settings they are: those of the ones that are asked for need no record.
    """
    paths = [f"{study.folder}/grid.parquet", *_sources(study)]
    if not study.skipping:
        made = itertools.chain(*series.made_here(study.models, study.named_models).values())
        paths += [f"{STORE}/checkpoints/{name}/manifest.json" for name in made]
        paths += [f"{STORE}/spectra/{name}.parquet" for name in study.named_models]
    paths += [_trained(name) for name in study.pretrained if not _of_settings(study, name)]
    return [path for path in paths if os.path.isfile(path) and not any(_record(place, path) for place in PLACES)]


def left(study: str, asked: Iterable[str]) -> list[str]:
    """The tables, figures and pages in the folder of a study that are none of those `asked` for: of an earlier configuration."""
    found = [*Path(study).glob("tables/*.parquet"), *Path(study).glob("figures/**/*.svg"), Path(study, "claims.html")]
    return sorted({str(path) for path in found if path.is_file()} - {*asked})


def leftovers(study: str, paths: Sequence[str]) -> str:
    """What to do with such files, for a person."""
    of = "is" if len(paths) == 1 else "are"
    if len(paths) <= TYPED:
        advice = f"Delete what you do not want to keep:\n  rm {' '.join(map(shlex.quote, paths))}"
    else:
        folders = " ".join(shlex.quote(f"{study}/{name}") for name in ("tables", "figures"))
        advice = f"Where you do not want to keep them, delete all; the next call makes again what is asked for:\n  rm -r {folders}"
    return f"{files.some(paths, 3)} {of} of an earlier configuration of the study: no job makes them anew. {advice}"


def of_other(study: "Study") -> list[str]:
    """The manifests, tickets, spectra and fingerprints in the store that were made of something else than the study asks for now, sorted.

    Runs say of which they were made, so where these are not made anew first, runs of another source would pass for what is asked.
    What each was made of is in Snakemake's records; checkpoints of pre-trainings made here are compared with their pre-training.
    """
    asked: dict[str, tuple[str | float, ...]] = {**_sources(study)}
    for ticket in study.tickets:
        decided = (study.code("find_ticket", ticket[1]), study.settings(ticket[1]), study.share)
        asked[f"{STORE}/tickets/{iterations.path(ticket)}.sha256"] = decided
    asked |= {path: () for name in study.named_models for path in measured(name)}
    digest = cache(files.sha256_file)  # many were made of the same
    other = {path for path, params in asked.items() if os.path.isfile(path) and _is_other(digest, path, *params)}
    for name, models in series.made_here(study.models, study.named_models).items():
        other |= _of_other_training(study, name, models, other, digest)
    return sorted(other)


def not_compared(study: "Study", used: Collection[str] | None = None) -> list[str]:
    """What a person is told about manifests (of all, those that are `used`) that nothing compares with the configuration."""
    paths = [path for path in lost(study) if path.endswith("/manifest.json") and (used is None or path in used)]
    if not paths:
        return []
    return [
        f"{files.some(paths)}: taken for what the configuration asks for, because Snakemake's record of what they were made from "
        "(.snakemake/metadata) is not here. Copy it from where the results were made to have them compared."
    ]


def _sources(study: "Study") -> dict[str, tuple[str]]:
    """The manifests of what is fetched -> what decides each."""
    found = {
        f"{STORE}/checkpoints/{name}/manifest.json": (study.source(study.models[name]),)
        for name in study.named_models
        if study.models[name]["source"] != "pretraining"
    }
    return found | {
        f"{STORE}/datasets/{name}/manifest.json": (study.source(study.datasets[name]),) for name in study.used_datasets
    }


def _of_other_training(
    study: "Study", name: str, models: Iterable[str], other: Collection[str], digest: Callable[[str], str]
) -> set[str]:
    """The manifests of checkpoints of a pre-training that is not there or of something else than is asked for, or that were not read from it."""
    paths = {model: f"{STORE}/checkpoints/{model}/manifest.json" for model in models}
    there = {model: path for model, path in paths.items() if os.path.isfile(path)}
    row, made = study.pretrainings[name], _trained(name)
    data = f"{STORE}/datasets/{row['dataset']}/manifest.json"
    decided = (deciding.pretraining(row), codefiles.digest("pretrain"), study.given["resources"]["threads"])
    source = study.source(study.datasets[row["dataset"]])
    # data that are not there, nor were of this source when they were, are being fetched anew
    known = data not in other and (os.path.isfile(data) or made_with(data, source))
    if not os.path.isdir(os.path.dirname(made)):
        return set()  # a person has deleted it: nothing is being made anew
    if not known or _is_other(digest, made, *decided) or not _of_settings(study, name):
        return {*filter(os.path.isfile, [made]), *there.values()}
    stored = {file["path"]: file["sha256"] for file in _said(made).get("files", [])}
    return {
        path
        for model, path in there.items()
        for file in _said(path).get("files", [])
        if stored.get(f"step-{study.models[model]['value']}/{file['path']}") != file["sha256"]
    }


def _trained(name: str) -> str:
    return f"{STORE}/pretraining/{name}/manifest.json"


def _of_settings(study: "Study", name: str) -> bool:
    """Whether a pre-training says itself that it is of the settings that are asked for."""
    return _said(_trained(name)).get("settings") == json.loads(deciding.pretraining(study.pretrainings[name]))


def _said(path: str) -> dict[str, Any]:
    """What a manifest says; nothing where it is not there or damaged."""
    try:
        return files.read_json(path)
    except (OSError, ValueError):
        return {}


def measured(model: str) -> list[str]:
    """What is measured of a model's weights."""
    return [f"{STORE}/{folder}/{model}.parquet" for folder in ("spectra", "fingerprints")]


def _is_other(digest: Callable[[str], str], path: str, *params: str | float) -> bool:
    """Whether a record says that a file was made with other params, or of manifests or tickets that are others now (SHA-256 by `digest`)."""
    return made_with(path, *params) is False or inputs_unchanged(path, digest) is False


def made_with(path: str, *params: str | float) -> bool | None:
    """Whether a file was made with all of these params, as its record says; None where no record says it."""
    if (known := _recorded(path).get("params")) is None:
        return None
    return {repr(param) for param in params} <= {*known}


def inputs_unchanged(path: str, digest: Callable[[str], str] = files.sha256_file) -> bool | None:
    """Whether those inputs of a file that decide it are what they were when it was made, as its record says; None where no record says it.

    Not looked at are runs, for which a ticket only waits, and inputs that are not there.
    """
    if (known := _recorded(path).get("input_checksums")) is None:
        return None
    looked_at = {file: told for file, told in known.items() if not file.startswith(RUNS) and os.path.isfile(file)}
    told = {file: told.removeprefix("sha256:") for file, told in looked_at.items()}
    return all(
        ":" in said or said == digest(file) for file, said in told.items()
    )  # of storage plugins: another algorithm


def _recorded(path: str) -> dict[str, Any]:
    """Snakemake's record of a file; nothing where there is none, or it is damaged."""
    try:
        return dict(json.loads(_place(PLACES[0], path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _record(place: str, path: str) -> bool:
    return _place(place, path).is_file()


def _place(place: str, path: str) -> Path:
    name = urlsafe_b64encode(path.encode()).decode()
    parts = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    return Path(place, *(f"@{part}" for part in parts[:-1]), parts[-1])


def advice(study: "Study", lost: Sequence[str]) -> str:
    """What to do about files without a record: those in the folder of the study, and those of the store."""
    own = [path for path in lost if path.startswith(f"{study.folder}/")]
    shared = [path for path in lost if path not in own]
    more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
    told = f"{lost[0]}{more} is there, but Snakemake's record of what it was made from is not "
    told += "(.snakemake/metadata: lost, not copied along, or the study was renamed), so changes would go unseen. Copy "
    told += ".snakemake from where the results were made, or have them made anew; runs in results/store stay, and are looked "
    told += "at and computed again only where they are of something else:"
    if own:
        told += f"\n  find {study.folder} -mindepth 1 -not -name rounds.json -delete"
    if shared:
        told += f"\n  rm {' '.join(shared)}"
    if shared and study.skipping:
        told += "\nThen run the study: tables of what is there are made, but nothing in the store is."
    return told
