"""The evidence for claims: numbers with intervals, from the tables of a study."""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity.curves import comparisons, training_evidence
from essential_sparsity.curves.intervals import ALPHA, coarse, drawn, percentiles
from essential_sparsity.curves.knees import NOTHING_TO_LOSE
from essential_sparsity.curves.pieces import Found, Known, Piece, number, welch_of_ends

CURVE = ["model", "task", "pattern", "metric"]
ONE_SEED = "one seed: what another would give is not in the interval"
CENSORED = ("essential_sparsity", "last_compliant")  # of a curve that does not drop: at its last level or beyond
WHEN = ("do not fall before", "do not fall after")  # why a ratio of slopes is no positive number


def gathered(claim: Mapping[str, Any], read: str, found: Found, known: Known, once: bool) -> Iterator[Piece]:
    """The pieces of evidence of a claim, of its reading `read`; `once`: a pair says the same both ways round."""
    frame = _readable(claim["table"], found, known)
    for column, wanted in claim["where"].items():
        frame = frame[frame[column].map(_matching(wanted)).astype(bool)]
    if "pair" in frame and once:
        frame = frame.drop_duplicates("pair")
    if "levels" in claim:
        low, high = claim["levels"]
        columns = ("sparsity_from", "sparsity_to") if "sparsity_from" in frame else ("sparsity", "sparsity")
        frame = frame[(frame[columns[0]] >= low - 1e-9) & (frame[columns[1]] <= high + 1e-9)]
    yield from GATHERED[claim["table"]](claim, read, frame, found)


def _readable(table: str, found: Found, known: Known) -> pd.DataFrame:
    """A table as claims read it: pairs both ways, with the types of models and which group has more data."""
    frame = both_ways(found[table]) if table in ("comparisons", "differences", "contrasts") else found[table]
    for column in ("model", "model_a", "model_b"):
        if column in frame:
            frame = frame.assign(**{column.replace("model", "type"): frame[column].map(known.types)})
    if table == "contrasts":
        amounts = [frame[f"group_{side}"].map(known.amount) for side in "ab"]
        frame = frame.assign(more_data=amounts[0] > amounts[1])
    return frame


def lacking(claim: Mapping[str, Any], found: Found, known: Known) -> str:
    """Why a table has no evidence: what of the claim's `where`, or of its groups, no row of it has, which a misspelt name is not either."""
    frame, groups = _readable(claim["table"], found, known), claim.get("groups")
    asked = [*claim["where"].items(), *((groups["column"], groups[kind]) for kind in ("a", "b") if groups)]
    gone = [
        f"{column} {' or '.join(map(str, wanted if isinstance(wanted, list) else [wanted]))}"
        for column, wanted in asked
        if not frame[column].map(_matching(wanted)).any()
    ]
    if len(frame) and gone:
        return f"no row of the table {claim['table']} has {', nor one '.join(gone)}"
    return f"no row of the table {claim['table']} is evidence"


def both_ways(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows of pairs (columns ending in _a and _b), each as it is and with its two sides changed; `pair`: which row."""
    frame = frame.reset_index(drop=True)
    sides = [column[:-2] for column in frame if column.endswith("_a") and f"{column[:-2]}_b" in frame]
    swap = {f"{name}_a": f"{name}_b" for name in sides} | {f"{name}_b": f"{name}_a" for name in sides}
    other = frame.rename(columns=swap | {"low": "high", "high": "low"})
    other = other.assign(**{name: -other[name].astype(float) for name in ("difference", "low", "high")})
    if "larger" in frame:  # of comparisons
        turned = {"larger": frame["larger"].map({"a": "b", "b": "a"}), "share_a_larger": 1 - frame["share_a_larger"]}
        other = other.assign(**turned)
    return pd.concat([frame, other[frame.columns]]).rename_axis("pair").reset_index()


def _matching(wanted: Any) -> Callable[[Any], bool]:
    values = wanted if isinstance(wanted, list) else [wanted]

    def matches(value: Any) -> bool:
        return any(
            isinstance(value, str) and fnmatchcase(value, one) if isinstance(one, str) else value == one
            for one in values
        )

    return matches


def _sides(found: Found) -> Callable[[tuple], comparisons.Side | None]:
    """A function: curve -> its resamples, None where there are none."""
    frame = found.get("resamples", pd.DataFrame())
    rows = {tuple(row[name] for name in CURVE): row for row in frame.to_dict("records")}

    def of_curve(curve: tuple) -> comparisons.Side | None:
        side = comparisons.side(rows[curve]) if curve in rows else None
        return None if side is None or side.gaps is None else side

    return of_curve


def _of_curve(row: Mapping[str, Any], read: str, sides: Callable[[tuple], comparisons.Side | None]) -> Piece:
    """A reading of a row of the table `knees`."""
    name = f"{row['model']}, {row['task']}, {row['pattern']}"
    if read == "shape":  # no evidence: too few levels, or no drop whose shape it were
        known = not pd.isna(row["evidence_hinge"]) and not row["no_drop"]
        word = None if pd.isna(row["shape"]) else row["shape"]
        note = None if word else "no kind of shape has nine tenths of the evidence"
        return Piece(name, word=word, measured=known, limited=_limit(row), note=note)
    low, high = (number(row[f"{read}_{end}"], math.nan) for end in ("low", "high"))
    estimate = number(row[read], math.nan)
    if row["no_drop"] and read not in CENSORED:
        return Piece(name, measured=False)
    if not row["n_replicates"] or (math.isnan(estimate) and (not row["no_drop"] or math.isnan(low))):
        return Piece(name, measured=False)
    low, high = (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) or row["no_drop"] else high)
    estimate = math.nan if row["no_drop"] else estimate
    notes = [f"{row['n_missing']} runs missing"] if row["n_missing"] else []
    notes += ["it does not drop"] if row["no_drop"] else []
    if read == "essential_sparsity" and coarse(row):
        notes.append(f"between levels of {_between([row['bracket_low'], row['bracket_high']])} %")
    side = sides(tuple(row[name] for name in CURVE)) if read == "essential_sparsity" else None
    at = side and (lambda alpha: percentiles(side.gap, *side.gaps, alpha))
    freedom = row["seed_freedom"] if drawn(row) else math.inf
    more = {"limited": _limit(row), "note": "; ".join(notes) or None, "freedom": max(freedom, 1)}
    return Piece(name, estimate, low, high, at=at, **more)


def _limit(knee: Mapping[str, Any]) -> str | None:
    """Why the interval of a curve does not say all: where training, the mask or what it is calibrated on is random, one seed is one draw."""
    return ONE_SEED if drawn(knee) and knee["seed_freedom"] == 0 else None


def _knees(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    rows, sides = frame[frame["headline"]].sort_values(CURVE).to_dict("records"), _sides(found)
    if "pairs" in claim:
        yield from _paired([(row, _of_curve(row, read, sides)) for row in rows], claim["pairs"])
    elif "groups" in claim:
        yield from _grouped(rows, read, _last_levels(found), **claim["groups"])
    else:
        yield from (_of_curve(row, read, sides) for row in rows)


def _paired(curves: Sequence[tuple[Mapping, Piece]], column: str) -> Iterator[Piece]:
    """Each two curves that differ in one column (in the metric too, where that is the task): the larger less the smaller.

    The interval is as wide as two intervals can make it: nothing is assumed about how they depend on each other.
    """
    others = [name for name in ("model", "task", "pattern") if name != column]
    for (one, a), (other, b) in itertools.combinations(curves, 2):
        if all(one[name] == other[name] for name in others):
            later = math.isnan(b.estimate) and b.measured  # not a number: it does not drop
            if later or (a.estimate, a.low) < (b.estimate, b.low):
                (one, a), (other, b) = (other, b), (one, a)
            same = ", ".join(str(one[name]) for name in others)
            name = f"{same}: {one[column]} less {other[column]}"
            if not a.measured or not b.measured:
                yield Piece(name, measured=False)
                continue
            notes = dict.fromkeys(filter(None, (a.note, b.note)))  # one that both have is told once
            more = {
                "limited": a.limited or b.limited,
                "note": "; ".join(notes) or None,
                "at": _less(a, b),
                "unsigned": True,
                "freedom": min(a.freedom, b.freedom),
            }
            yield Piece(name, a.estimate - b.estimate, a.low - b.high, a.high - b.low, **more)


def _less(a: Piece, b: Piece) -> Callable[[float], tuple[float, float]] | None:
    """The interval of one piece less another at each alpha, where both have resamples."""
    if a.at is None or b.at is None:
        return None

    def at(alpha: float) -> tuple[float, float]:
        (low_a, high_a), (low_b, high_b) = a.at(alpha), b.at(alpha)
        return low_a - high_b, high_a - low_b

    return at


def _last_levels(found: Found) -> dict[tuple, float]:
    """The last level of each curve that has runs."""
    return {
        tuple(row[name] for name in CURVE): levels[-1]
        for row in found.get("resamples", pd.DataFrame()).to_dict("records")
        if (levels := json.loads(row["levels"]))
    }


def _grouped(
    rows: Sequence[Mapping], read: str, levels: Mapping[tuple, float], column: str, a: Sequence[str], b: Sequence[str]
) -> Iterator[Piece]:
    """Models of one kind less those of another, by Welch's t interval: models are the sample, each with its mean over curves.

    Ratios are compared as logarithms. Curves that are flat before their knee, or after it, have none: their models are sharper, or
    less sharp, than the others' mean says, and the interval is open on that side. So it is where curves do not drop, or are back
    within the tolerance at their last levels, and its other end holds wherever beyond these they would. `levels`: the last of each
    curve. Limited where one of the curves is of one seed, of which all models of a task may have drawn the same. Nothing where a
    kind has fewer than two models.
    """
    log = read == "slope_ratio"
    samples, flat, still, told, limits = [], [], [], [], []
    for kinds in (a, b):
        of_model: dict[str, list[tuple[float, float]]] = {}
        before = after = 0
        own = [row for row in rows if row[column] in kinds]
        for row in own:
            low, high = _held(row, read, levels)
            if log and not low > 0 and not row["no_drop"]:  # also: not a number
                before += math.isnan(low) and number(row["slope_after"], 0.0) < 0
                after += low <= 0
            elif not math.isnan(low):
                of_model.setdefault(row["model"], []).append((math.log(low), math.log(high)) if log else (low, high))
                limits.append(_limit(row))
        samples.append(np.array([np.mean(ends, axis=0) for ends in of_model.values()]))
        flat.append((before, after))
        last = [row["bracket_low"] for row in own if row["no_drop"]]
        back = [row[read] for row in own if _is_back(row, read, levels)]
        still.append(last + back if read in CENSORED else [])
        told += [_undropped(last, len(own), kinds) + ("" if read in CENSORED else ": no evidence")] if last else []
        told += [_returned(back, len(own), kinds)] if back else []
    name = f"{' and '.join(a)} ({len(samples[0])} models) less {' and '.join(b)} ({len(samples[1])})"
    if min(map(len, samples)) < 2:
        yield from [Piece(name, measured=False)] if told else []
        return
    estimate, at = welch_of_ends(*samples)
    (before_a, after_a), (before_b, after_b) = flat
    low = -math.inf if after_a or before_b or still[1] else at(ALPHA)[0]
    high = math.inf if before_a or after_b or still[0] else at(ALPHA)[1]
    told += [
        f"{count} curves {when} their knee"
        for count, when in zip(map(sum, zip(*flat, strict=True)), WHEN, strict=True)
        if count
    ]
    limited = next(filter(None, limits), None)
    yield Piece(name, estimate, low, high, limited=limited, note="; ".join(told) or None)


def _is_back(row: Mapping[str, Any], read: str, levels: Mapping[tuple, float]) -> bool:
    """Whether a curve drops, but is within the tolerance at its last level: then its last compliant level is there or beyond."""
    if read != "last_compliant" or row["no_drop"]:
        return False
    return row[read] == levels.get(tuple(row[name] for name in CURVE))


def _held(row: Mapping[str, Any], read: str, levels: Mapping[tuple, float]) -> tuple[float, float]:
    """The numbers that hold a reading of a curve. Where it does not drop: all from its last level on, or none of what a drop has."""
    if _is_back(row, read, levels):
        return row[read], 1.0
    if row["no_drop"]:
        return (row["bracket_low"], 1.0) if read in CENSORED else (math.nan, math.nan)
    return (number(row[read], math.nan),) * 2


def _undropped(last: Sequence[float], curves: int, kinds: Sequence[str]) -> str:
    """How many curves of some kinds of models do not drop up to their last levels, in words."""
    verb = "does" if len(last) == 1 else "do"
    return f"{len(last)} of {curves} curves of {' and '.join(kinds)} {verb} not drop up to {_between(last)} %"


def _returned(last: Sequence[float], curves: int, kinds: Sequence[str]) -> str:
    """How many curves of some kinds of models are back within the tolerance at their last levels, in words."""
    verb = "is" if len(last) == 1 else "are"
    return f"{len(last)} of {curves} curves of {' and '.join(kinds)} {verb} back within the tolerance at {_between(last)} %"


def _between(levels: Sequence[float]) -> str:
    return "–".join(f"{100 * level:g}" for level in sorted({min(levels), max(levels)}))


def _limits(found: Found) -> dict[tuple, str | None]:
    """Of each curve, why its interval does not say all."""
    return {tuple(row[name] for name in CURVE): _limit(row) for row in found["knees"].to_dict("records")}


def _comparisons(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    limits, sides = _limits(found), _sides(found)
    headline = {tuple(row[name] for name in CURVE): row["headline"] for row in found["knees"].to_dict("records")}
    for row in frame.sort_values(["task", "model_a", "model_b", "pattern_a", "pattern_b", "metric"]).to_dict("records"):
        curves = [(row[f"model_{s}"], row["task"], row[f"pattern_{s}"], row["metric"]) for s in "ab"]
        if not headline.get(curves[0]):
            continue
        same = row["pattern_a"] if row["between"] == "model" else row["model_a"]
        name = f"{same}, {row['task']}: {row[row['between'] + '_a']} less {row[row['between'] + '_b']}"
        if not row["n_replicates"]:
            yield Piece(name, measured=False)
            continue
        limited = next(filter(None, (limits.get(curve) for curve in curves)), None)
        ends = number(row["low"], -math.inf), number(row["high"], math.inf)
        both = [sides(curve) for curve in curves]
        at = partial(comparisons.ends, *both) if all(both) else None
        yield Piece(name, number(row["difference"], math.nan), *ends, limited=limited, at=at)


def _differences(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    """Of each pair of curves the ranges of levels, and the levels that lie in none of them; in tolerances of the task."""
    knees = {tuple(row[name] for name in CURVE): row for row in found["knees"].to_dict("records")}
    keys = ["model", "task", "metric", "pattern_a", "pattern_b"]
    for key, rows in frame.groupby(keys, sort=True):
        both = [knees.get((key[0], key[1], pattern, key[2])) for pattern in key[3:]]
        known = [knee for knee in both if knee is not None]
        if not known or not known[0]["headline"]:
            continue
        if any(NOTHING_TO_LOSE in str(knee["reason"]) for knee in known):
            yield Piece(f"{key[0]}, {key[1]}: {key[3]} less {key[4]}", measured=False)
            continue
        for row in _widest(rows.sort_values("sparsity_from").to_dict("records")):
            low, high = (100 * row[f"sparsity_{end}"] for end in ("from", "to"))
            levels = f"{low:g} %" if low == high else f"{low:g}–{high:g} %"
            ends = number(row["low"], -math.inf), number(row["high"], math.inf)
            numbers = (value / known[0]["epsilon"] for value in (row["difference"], *ends))
            seeds = row["n_seeds"] if any(map(drawn, known)) else math.inf  # of others, seeds are alike
            more = {"limited": ONE_SEED if seeds == 1 else None, "freedom": max(seeds - 1, 1)}
            yield Piece(f"{key[0]}, {key[1]}: {key[3]} less {key[4]}, {levels}", *numbers, **more)


def _widest(rows: Sequence[Mapping]) -> list[Mapping]:
    """Those whose levels no other row holds beside its own."""

    def holds(row: Mapping, other: Mapping) -> bool:
        inside = row["sparsity_from"] <= other["sparsity_from"] and other["sparsity_to"] <= row["sparsity_to"]
        return inside and row["n_levels"] > other["n_levels"]

    return [row for row in rows if not any(holds(other, row) for other in rows)]


def _layers(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    """What of the pruned weights lies in the feed-forward layers, or how much larger their rate is than that of attention."""
    for (model, pattern, sparsity), rows in frame.groupby(["model", "pattern", "sparsity"], sort=True):
        counts = rows.groupby("sublayer")[["n", "pruned", "boundary"]].sum()
        if not rows["pruned"].sum() or not {"mlp", "attention"} <= {*counts.index}:
            continue
        rates = counts["pruned"] / counts["n"]
        value, bound = (counts[of]["mlp"] / counts["pruned"].sum() for of in ("pruned", "boundary"))
        if read == "rate_of_mlp_less_attention":
            value = rates["mlp"] - rates["attention"]
            bound = (counts["boundary"] / counts["n"])[["mlp", "attention"]].sum()
        note = f"these layers hold {counts['n']['mlp'] / counts['n'].sum():.3f} of the prunable weights"
        note += f"; counted to ± {bound:.2g}, a bin of the spectrum" if bound else ""
        yield Piece(
            f"{model}, {pattern}, {100 * sparsity:g} %", value, value - bound, value + bound, note=note, counted=True
        )


def _similarity(claim: Mapping, read: str, frame: pd.DataFrame, found: Found) -> Iterator[Piece]:
    for row in frame[frame["scope"] == "model"].sort_values(["model_a", "sparsity"]).to_dict("records"):
        if pd.isna(row[read]):
            continue
        masks = [
            " ".join(filter(None, [row[f"pattern_{s}"], row[f"task_{s}"], f"seed {row[f'seed_{s}']}"])) for s in "ab"
        ]
        name = f"{row['model_a']}: {masks[0]} and {masks[1]}, {100 * row['sparsity']:g} %"
        if row["model_b"] != row["model_a"]:
            name = f"{row['model_a']} and {row['model_b']}: {masks[0]} and {masks[1]}, {100 * row['sparsity']:g} %"
        yield Piece(name, *[float(row[read])] * 3, counted=True, note=f"chance {row[f'{read}_chance']:.3f}")


GATHERED = {
    "knees": _knees,
    "comparisons": _comparisons,
    "differences": _differences,
    "layers": _layers,
    "similarity": _similarity,
    "abruptness": training_evidence.abruptness,
    "contrasts": training_evidence.contrasts,
}
