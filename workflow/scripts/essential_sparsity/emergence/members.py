"""The table `series`: the checkpoints of a study along series, and the files that hold what was measured of each."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from essential_sparsity import errors, files, tables

PLACE = ["series", "group", "training", "model", "axis", "position"]  # what says where a checkpoint stands


def tabulated(members: Iterable[Mapping[str, Any]], store: str, losses: str | None) -> pd.DataFrame:
    """Table `series` of one training: a row per checkpoint, with the names of its files.

    `members`: as `study.series.studied` gives them; `store`: the folder of the files; `losses`: the file of the
    training's own table `losses`, None where it was not trained here.
    """
    rows = [
        {name: member[name] for name in PLACE}
        | {folder: f"{store}/{folder}/{member['model']}.parquet" for folder in ("spectra", "fingerprints")}
        | {"losses": losses}
        for member in members
    ]
    return pd.DataFrame(rows)


def places(series: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of table `series` as far as they say where a checkpoint stands (`PLACE`)."""
    return series[PLACE].to_dict("records")


def fingerprints(series: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Model -> table `fingerprints`."""
    return {row.model: tables.read(row.fingerprints, "fingerprints") for row in series.itertuples()}


def losses(series: pd.DataFrame) -> pd.DataFrame:
    """The tables `losses` of the trainings that have one, under each other, with a column `training`."""
    own = series.dropna(subset="losses").drop_duplicates("training")
    frames = [_of_own(row.losses).assign(training=row.training) for row in own.itertuples()]
    return pd.concat([tables.empty("losses").assign(training=""), *frames], ignore_index=True)


def _of_own(path: str) -> pd.DataFrame:
    """The table `losses` of the pre-training that its folder is named after; UserError where it is another's."""
    found, name = tables.read(path, "losses"), Path(path).parent.name
    if others := sorted({*found["pretraining"]} - {name}):
        raise errors.UserError(
            f"{path} holds the losses of {files.some(others)}. Delete it and run again to make it anew."
        )
    return found
