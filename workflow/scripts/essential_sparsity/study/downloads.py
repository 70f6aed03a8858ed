"""What a study fetches, and how large it is: by manifests of what is there, by rows of models, by the hub where it is asked."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from essential_sparsity import files
from essential_sparsity.study import needs
from essential_sparsity.study.grid import STORE
from essential_sparsity.study.study import Study


@dataclass(frozen=True)
class Stored:
    """Something that is fetched or written: how many files or folders of what, their bytes (None: not known), those there."""

    what: str
    number: int
    size: float | None
    there: float


def expected(study: Study, sizes: Mapping[str, int | None] = MappingProxyType({})) -> list[Stored]:
    """Checkpoints, those of a series together, and data sets. Sizes of what is there are those of its files; of data that are not, `sizes`
    where they are known.
    """
    series: dict[str, list[str]] = {}
    for name in study.named_models:
        row = study.models[name]
        if row["source"] in ("hub", "package"):
            series.setdefault(row["series"] if row["values"] else name, []).append(name)
    found = []
    for what, names in series.items():
        there = [_size(f"{STORE}/checkpoints/{name}/manifest.json") for name in names]
        expected = [needs.stored_mb(study.models[name]) * 1e6 for name in names]
        whole = sum(size or other for size, other in zip(there, expected, strict=True))
        found.append(
            Stored(
                f"model {what}" if len(names) == 1 else f"series {what}", len(names), whole, sum(filter(None, there))
            )
        )
    for name in study.used_datasets:
        if study.datasets[name]["source"] != "path":
            there = _size(f"{STORE}/datasets/{name}/manifest.json")
            found.append(Stored(f"data {name}", 1, sizes.get(name) if there is None else there, there or 0))
    return found


def unknown(study: Study) -> list[str]:
    """The data sets of a hub that are not there, so that their sizes are not known here."""
    return [
        name
        for name in study.used_datasets
        if study.datasets[name]["source"] == "hub" and not os.path.isfile(f"{STORE}/datasets/{name}/manifest.json")
    ]


def _size(path: str) -> int | None:
    """Bytes of the files that a manifest lists; None where there is none."""
    if not os.path.isfile(path):
        return None
    return sum(entry["size"] for entry in files.read_json(path)["files"])
