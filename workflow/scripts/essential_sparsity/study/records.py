"""Snakemake's records of what files were made from: without them it compares times alone, and a change goes unseen.

They lie in `.snakemake`, apart from results: copied results, the folder of a renamed study or a clone beside which results
were put have none. Standard library only: every parse of the Snakefile imports this module.
"""

import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path

PLACES = (".snakemake/metadata", ".snakemake/incomplete")  # of finished jobs, and of those that were killed
LONGEST = 254  # characters of one name of a record, which is folders and a file where it is longer


def lacking(paths: Iterable[str]) -> list[str]:
    """Those of the files (if they are there) that have no record in this folder."""
    return [path for path in paths if os.path.isfile(path) and not any(_record(place, path) for place in PLACES)]


def _record(place: str, path: str) -> bool:
    name = urlsafe_b64encode(path.encode()).decode()
    parts = [name[start : start + LONGEST] for start in range(0, len(name), LONGEST)]
    return Path(place, *(f"@{part}" for part in parts[:-1]), parts[-1]).is_file()


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
