"""The tables of a study along series: `trajectory`, `abruptness`, `contrasts`, from what was measured per checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity.curves.intervals import BEYOND, ranged
from essential_sparsity.emergence import measures


def of_checkpoint(member: Mapping[str, Any], spectrum: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `trajectory` (without `suspect`) of one checkpoint; `member`: its row of the series."""
    about = spectrum.drop_duplicates("tensor").set_index("tensor")[["layer", "sublayer"]]
    found = measures.measures(spectrum).join(about, on="tensor")
    return found.assign(layer=found["layer"].astype("Int64"), beyond=np.nan, **member)


def of_runs(members: Sequence[Mapping[str, Any]], knees: pd.DataFrame) -> pd.DataFrame:
    """Rows of table `trajectory` from table `knees`: essential sparsity (global) and dense value by headline.

    Of a curve that does not drop up to its last level, the essential sparsity lies `beyond` that.
    """
    first = knees[(knees["pattern"] == "global") & knees["headline"]]
    rows = []
    for member in members:
        for knee in first[first["model"] == member["model"]].itertuples():
            beyond = knee.bracket_low if knee.no_drop else None
            for measure, value, end in (
                ("essential sparsity", knee.essential_sparsity, beyond),
                ("dense", knee.dense, None),
            ):
                rows.append({**member, "measure": f"{measure} {knee.task}", "value": value, "beyond": end})
    frame = pd.DataFrame(rows)
    return frame.assign(tensor=measures.WHOLE, layer=pd.array([None] * len(frame), dtype="Int64"), sublayer=None)


def abruptness(trajectory: pd.DataFrame, losses: pd.DataFrame) -> pd.DataFrame:
    """Table `abruptness`: one row per training and measure of all prunable weights, and of the loss of its pre-training.

    Nothing is concluded where an essential sparsity lies beyond the last level: without it a jump, or that there is none, could be made.
    `losses`: table of that name with the column `training` in place of `pretraining`.
    """
    whole = trajectory[(trajectory["tensor"] == measures.WHOLE) & trajectory["suspect"].isna()]
    rows = []
    for key, part in whole.groupby(["series", "group", "training"], sort=True):
        here = dict(zip(("series", "group", "training"), key, strict=True))
        for measure, values in ranged(part).sort_values("position").groupby("measure", sort=True):
            rows.append(here | {"measure": measure} | _concluded(values))
        logged = losses[losses["training"] == here["training"]]
        logged = logged[logged["step"].isin(part["position"])].sort_values("step")
        if len(logged):
            rows.append(here | {"measure": "loss"} | measures.conclude(logged["step"], logged["loss"]))
    return pd.DataFrame(rows)


def _concluded(values: pd.DataFrame) -> dict:
    reached = int(values["value"].notna().sum())
    if reached < len(values):
        return measures.without_fit(reached, BEYOND)
    return measures.conclude(values["position"], values["value"])
