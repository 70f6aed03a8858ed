"""Snakemake's records of what files were made from: without them it compares times alone, and a change goes unseen.

They lie in `.snakemake`, apart from results: copied results, the folder of a renamed study or a clone beside which results
were put have none. No torch: every parse of the Snakefile imports this module.
"""

import json
import os
import shlex
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path

from essential_sparsity import files
from essential_sparsity.study import iterations
from essential_sparsity.study.study import STORE, Study

PLACES = (".snakemake/metadata", ".snakemake/incomplete")  # of finished jobs, and of those that were killed
TYPED = 8  # files that a person is asked to delete by name
LONGEST = 254  # characters of one name of a record, which is folders and a file where it is longer


def lacking(paths: Iterable[str]) -> list[str]:
    """Those of the files (if they are there) that have no record in this folder."""
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


def of_other(study: Study) -> list[str]:
    """The manifests and tickets in the store that were made of something else than the study asks for now, as their records say.

    Runs say of which they were made, so where these are not made anew first, runs of another source would pass for what is asked.
    Checkpoints of pre-trainings made here are not looked at: their rows name a place in the store, and other rules make them too.
    """
    models = {name: study.models[name] for name in study.named_models}
    asked = [
        (f"{STORE}/checkpoints/{name}/manifest.json", study.source(row))
        for name, row in models.items()
        if row["source"] != "pretraining"
    ]
    asked += [
        (f"{STORE}/datasets/{name}/manifest.json", study.source(study.datasets[name])) for name in study.used_datasets
    ]
    for ticket in study.tickets:
        decided = (study.code("find_ticket", ticket[1]), study.settings(ticket[1]), study.share)
        asked.append((f"{STORE}/tickets/{iterations.path(ticket)}.sha256", *decided))
    return [path for path, *params in asked if os.path.isfile(path) and made_with(path, *params) is False]


def made_with(path: str, *params: str | float) -> bool | None:
    """Whether a file was made with all of these params, as its record says; None where no record says it."""
    try:
        known = json.loads(_place(PLACES[0], path).read_text(encoding="utf-8"))["params"]
    except (OSError, ValueError, KeyError):
        return None
    return {repr(param) for param in params} <= {*known}


def _record(place: str, path: str) -> bool:
    return _place(place, path).is_file()


def _place(place: str, path: str) -> Path:
    name = urlsafe_b64encode(path.encode()).decode()
    parts = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    return Path(place, *(f"@{part}" for part in parts[:-1]), parts[-1])


def advice(study: str, lost: list[str]) -> str:
    """What to do about files without a record: those of the study in the folder `study`, and those of the store."""
    own = [path for path in lost if path.startswith(f"{study}/")]
    shared = [path for path in lost if path not in own]
    told = f"{lost[0]} (and {len(lost) - 1} more) is there, but Snakemake's record of what it was made from is not "
    told += "(.snakemake/metadata: lost, not copied along, or the study was renamed), so changes would go unseen. Copy "
    told += ".snakemake from where the results were made, or have them made anew; runs in results/store stay, and are looked "
    told += "at and computed again only where they are of something else:"
    if own:
        told += f"\n  find {study} -mindepth 1 -not -name rounds.json -delete"
    if shared:
        told += f"\n  rm {' '.join(shared)}"
    return told
