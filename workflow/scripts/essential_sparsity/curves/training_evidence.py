"""The evidence for claims about pre-training, with trainings as the sample: from the tables `abruptness`, `contrasts`, `trajectory`."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity.curves.intervals import ALPHA
from essential_sparsity.curves.pieces import Found, Piece, number, welch

SOME_JUMP = "some of the trainings do not jump up: where they would is not known"
ONE_TRAINING = "one training of a group: nothing is known of others of its recipe"
PAIR = ["series", "measure", "group_a", "group_b"]


def abruptness(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    for row in frame.sort_values(["series", "training", "measure"]).to_dict("records"):
        word = row["conclusion"] if row["conclusion"] in ("abrupt", "gradual", "nothing") else None
        yield Piece(
            f"{row['training']}, {row['measure']}",
            number(row["jump"], math.nan),
            number(row["jump_low"], -math.inf),
            number(row["jump_high"], math.inf),
            word=word,
            measured=word is not None,  # too few checkpoints
        )


def contrasts(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    """Groups of trainings, with trainings as the sample (Welch), each with its mean over the checkpoints that all of them have.

    The interval of the table itself is along the trainings that are there: it says nothing of others.
    """
    frame = frame[frame["tensor"] == "all"]
    if frame.empty:
        return
    if read == "jump_at":
        yield from (_of_jumps(row, found) for row in frame.sort_values(PAIR).to_dict("records"))
        return
    known = found["trajectory"]
    known = known[(known["tensor"] == "all") & known["suspect"].isna()]
    for row in frame.sort_values(PAIR).to_dict("records"):
        name = _pair_of(row)
        if min(row["n_trainings_a"], row["n_trainings_b"]) < 2:
            ends = number(row["low"], -math.inf), number(row["high"], math.inf)
            yield Piece(name, row["difference"], *ends, limited=ONE_TRAINING)
            continue
        part = known[(known["series"] == row["series"]) & (known["measure"] == row["measure"])]
        part = part[part["group"].isin([row["group_a"], row["group_b"]])]
        values = part.pivot_table(index="position", columns=["group", "training"], values="value").dropna()
        samples = [values.loc[:, values.columns.get_level_values(0) == row[f"group_{side}"]].mean() for side in "ab"]
        if values.empty or min(map(len, samples)) < 2:
            yield Piece(name, measured=False)
            continue
        estimate, at = welch(*(sample.to_numpy() for sample in samples))
        yield Piece(name, estimate, *at(ALPHA), at=at)


def _pair_of(row: Mapping[str, Any]) -> str:
    return f"{row['series']}, {row['measure']}: {row['group_a']} less {row['group_b']}"


def _of_jumps(row: Mapping[str, Any], found: Found) -> Piece:
    """Where a measure jumps up along the trainings of one group less where it does along another's, on the axis of the series.

    Trainings are the sample (Welch). A jump lies between two checkpoints, nowhere nearer: what its own interval leaves open, from
    checkpoint to checkpoint, is added to the spread as if all of it were alike likely. Nothing where no training of a group jumps;
    limited where some do not, for where they would is not known.
    """
    here = [found[name] for name in ("abruptness", "trajectory")]
    jumps, along = (t[(t["series"] == row["series"]) & (t["measure"] == row["measure"])] for t in here)
    along = along[(along["tensor"] == "all") & along["suspect"].isna() & along["value"].notna()]
    sides, notes = [], []
    for group in (row["group_a"], row["group_b"]):
        told = jumps[(jumps["group"] == group) & jumps["conclusion"].isin(("abrupt", "gradual", "nothing"))]
        up = told[(told["conclusion"] == "abrupt") & (told["jump"] > 0)]
        notes += [f"{len(up)} of {len(told)} trainings of {group} jump up"] if len(up) < len(told) else []
        ends = [_gap(along.loc[along["training"] == jump.training, "position"], jump) for jump in up.itertuples()]
        sides.append((up["jump_at"].to_numpy(float), np.array(ends, float).reshape(-1, 2)))
    (a, open_a), (b, open_b) = sides
    if not len(a) or not len(b):
        return Piece(_pair_of(row), measured=False)
    note = "; ".join(notes) or None
    if min(len(a), len(b)) < 2:
        ends = open_a[:, 0].min() - open_b[:, 1].max(), open_a[:, 1].max() - open_b[:, 0].min()
        return Piece(_pair_of(row), float(a.mean() - b.mean()), *map(float, ends), limited=ONE_TRAINING, note=note)
    errors = [np.abs(ends - places[:, None]).max(axis=1) / math.sqrt(3) for places, ends in sides]
    estimate, at = welch(a, b, *errors)
    return Piece(_pair_of(row), estimate, *at(ALPHA), limited=SOME_JUMP if notes else None, note=note, at=at)


def _gap(positions: pd.Series, jump: Any) -> tuple[float, float]:
    """The last checkpoint before the interval of a jump, and the first after it."""
    return positions[positions < jump.jump_at_low].max(), positions[positions > jump.jump_at_high].min()
