"""The evidence for claims about pre-training, with trainings as the sample: from the tables `abruptness`, `contrasts`, `trajectory`."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity.curves.intervals import ALPHA, BEYOND, in_common, ranged
from essential_sparsity.curves.pieces import Found, Piece, number, welch, welch_of_ends

NOT_REACHED = (
    "some checkpoints' curves do not drop up to the last level: what their essential sparsity is, is not known"
)
SOME_BEYOND = "of {} of {} checkpoints some essential sparsity lies beyond the last level: "
UP_TO_ONE = SOME_BEYOND + "the interval holds whatever it is up to 1"
AT_ONE_END = SOME_BEYOND + "each end is with all of these where they make it least, or most"
SOME_JUMP = "some of the trainings do not surely jump up: where they would is not known"
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
            limited=NOT_REACHED if row["conclusion"] == BEYOND else None,
            measured=word is not None or row["conclusion"] == BEYOND,  # else too few checkpoints
        )


def contrasts(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    """Groups of trainings, with trainings as the sample (Welch), each with its mean over the checkpoints that all of them have.

    The interval of the table itself is along the trainings that are there: it says nothing of others. Where an essential sparsity
    lies beyond the last level, the interval holds whatever it is up to 1; with one training of a group, the table's has each end with
    all of these where they make it least, or most.
    """
    frame = frame[frame["tensor"] == "all"]
    if frame.empty:
        return
    if read == "jump_at":
        yield from (_of_jumps(row, found) for row in frame.sort_values(PAIR).to_dict("records"))
        return
    known = found["trajectory"]
    known = ranged(known[known["tensor"] == "all"])
    for row in frame.sort_values(PAIR).to_dict("records"):
        name = _pair_of(row)
        if min(row["n_trainings_a"], row["n_trainings_b"]) < 2:
            ends = number(row["low"], -math.inf), number(row["high"], math.inf)
            note = _told(AT_ONE_END, row["n_beyond"], row["n_positions"])
            yield Piece(name, number(row["difference"], math.nan), *ends, limited=ONE_TRAINING, note=note)
            continue
        part = known[(known["series"] == row["series"]) & (known["measure"] == row["measure"])]
        pair = in_common(part[part["group"].isin([row["group_a"], row["group_b"]])])
        samples = [np.column_stack([_means(end, row[f"group_{side}"]) for end in pair]) for side in "ab"]
        if min(map(len, samples)) < 2:
            yield Piece(name, measured=False)
            continue
        estimate, at = welch_of_ends(*samples)
        note = _told(UP_TO_ONE, int((pair[0] != pair[1]).any(axis=1).sum()), len(pair[0]))
        yield Piece(name, estimate, *at(ALPHA), note=note, at=at)


def _means(values: pd.DataFrame, group: str) -> np.ndarray:
    """Of each training of a group over its checkpoints; none without checkpoints."""
    return values.loc[:, values.columns.get_level_values("group") == group].mean().dropna().to_numpy()


def _told(words: str, n_beyond: int, n_positions: int) -> str | None:
    return words.format(n_beyond, n_positions) if n_beyond else None


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
        told = jumps[(jumps["group"] == group) & jumps["conclusion"].isin(("abrupt", "gradual", "nothing", BEYOND))]
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
