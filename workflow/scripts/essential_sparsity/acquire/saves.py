"""What `save_to_disk` of the `datasets` library wrote: Arrow files, with records that list them."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from essential_sparsity import files
from essential_sparsity.acquire import shards, texts
from essential_sparsity.acquire.archives import SourceError
from essential_sparsity.acquire.refusal import reading

FILES, SPLITS = "state.json", "dataset_dict.json"  # what is said of the files of a folder, of its folders
RECORDS = (FILES, SPLITS)


def unrecorded(names: list[str]) -> list[str]:
    """The names without those of records."""
    return [name for name in names if PurePosixPath(name).name not in RECORDS]


def listed(folder: Path, names: list[str]) -> dict[str, list[str]] | None:
    """Split, as the records call it -> its files in their order; None where no record says splits. Raises SourceError where files
    and records differ."""
    found = unrecorded(names)
    lists = {name: _listed(folder / name, name, found) for name in sorted(set(names) - set(found))}
    of_splits = [name for name in lists if PurePosixPath(name).name == SPLITS]
    if len(of_splits) != 1:
        return None
    place = PurePosixPath(of_splits[0]).parent
    placed = {split: _files_of(place / split, lists, found) for split in lists[of_splits[0]]}
    if other := sorted(set(found) - {name for of_split in placed.values() for name in of_split}):
        raise SourceError(
            f"{of_splits[0]} lists {files.some(list(placed))}, without {files.some(other)}. {shards.TAKE_OLD_OUT}"
        )
    return placed


def _files_of(place: PurePosixPath, lists: Mapping[str, list[str]], found: list[str]) -> list[str]:
    known = lists.get(str(place / FILES))
    return (
        sorted(name for name in found if PurePosixPath(name).parent == place)
        if known is None
        else [str(place / file) for file in known]
    )


def _listed(record: Path, name: str, found: list[str]) -> list[Any]:
    """What a record lists. SourceError for Arrow files of its folder that it does not, and for one of its list that is not there."""
    place, of_splits = PurePosixPath(name).parent, PurePosixPath(name).name == SPLITS
    with reading(f"{name} does not say what save_to_disk of the datasets library wrote"):
        known = json.loads(texts.text_of(record))
        listed = list(known["splits"]) if of_splits else [file["filename"] for file in known["_data_files"]]
    inside = [PurePosixPath(file).relative_to(place) for file in found if PurePosixPath(file).is_relative_to(place)]
    there = {file: file.parts[0] for file in inside if len(file.parts) == (2 if of_splits else 1)}
    if other := [str(place / file) for file, part in there.items() if part not in listed]:
        raise SourceError(
            f"{name} lists {files.some(listed)}, not {files.some(other)}, as where data were saved over older ones. "
            f"{shards.TAKE_OLD_OUT}"
        )
    if missing := sorted(set(listed) - set(there.values())):
        raise SourceError(
            f"{name} lists {files.some(missing)}, which is not there. Save the data set again, into an empty folder."
        )
    return listed
