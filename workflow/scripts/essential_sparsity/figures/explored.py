"""What the explorer shows of the tables of a study, as columns: curves, knees, pairs, layers, items that flip.

Nothing is worked out here that figures and tables do not hold. A page has bounds: of a study beyond them a part is left out, and `left_out` says
so, in words.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from essential_sparsity import patterns
from essential_sparsity.curves import flips
from essential_sparsity.curves.intervals import coarse, or_none
from essential_sparsity.curves.means import from_dense, level_means
from essential_sparsity.curves.metrics import METRICS, headline
from essential_sparsity.figures import style, summary
from essential_sparsity.tables import runs as run_tables

POINTS = 20_000  # of curves
PAIRS = 2_000  # comparisons, and rows of differences
CELLS = 35_000  # of heat maps of layers
ITEM_ROWS = 1_500_000  # of the table of items, that are read
ITEM_MARKS = 60_000  # of items that are listed, over all curves
ITEMS = 40  # listed of a curve
LACKS = "lacks seeds: as far from dense as its own are"  # of a level
CURVE = ["model", "task", "pattern"]
SYMBOLS = {  # markers of the figures as plotly calls them
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "v": "triangle-down",
    "<": "triangle-left",
    ">": "triangle-right",
    "x": "x-thin-open",
    "X": "x",
    "P": "cross",
    "D": "diamond",
    "d": "diamond-tall",
    "p": "pentagon",
    "h": "hexagon",
    "8": "octagon",
}
KNEE_COLUMNS = [
    *(*CURVE, "metric", "headline", "protocol", "dense", "epsilon", "essential_sparsity"),
    *("essential_sparsity_low", "essential_sparsity_high", "bracket_low", "bracket_high", "metric_at_knee"),
    *("last_compliant", "kneedle", "hinge", "n_items", "n_seeds_min", "n_seeds_max", "n_missing", "reason"),
]
COMPARED = [
    *("task", "metric", "between", "model_a", "pattern_a", "model_b", "pattern_b", "essential_sparsity_a"),
    *("essential_sparsity_b", "difference", "low", "high", "larger", "paired"),
]
DIFFERENT = [
    *("model", "task", "metric", "pattern_a", "pattern_b", "sparsity_from", "sparsity_to", "difference"),
    *("low", "high", "n_levels", "n_seeds", "n_items"),
]


def looks(names: list[str]) -> dict[str, dict[str, Any]]:
    """Label, colour and symbol of patterns, as all figures show them, in the order of legends; whether they prune at random."""
    ordered = sorted(names, key=lambda name: (list(style.STYLES).index(name) if name in style.STYLES else 99, name))
    styles = style.looks(ordered)
    return {
        name: {"label": patterns.find(name).label, "colour": styles[name][0], "symbol": SYMBOLS[styles[name][1]]}
        | {"random": patterns.find(name).score == "random"}
        for name in ordered
    }


def metrics(names: list[str]) -> dict[str, dict[str, Any]]:
    """What axes say of metrics."""
    return {
        name: {
            "label": METRICS[name].label,
            "percent": name in style.PERCENT,
            "log": METRICS[name].scale == "log",
            "shown": style.always_shown(METRICS[name]),
        }
        for name in METRICS
        if name in names
    }


def curves(runs: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """A row per curve and metric, the dense model's (pattern `dense`) too: lists of sparsities, means over seeds, their range, seeds.

    A curve starts at sparsity 0, the dense model over its own seeds. The mean is that of the figures, on the metric's fitted scale, in the
    metric's unit; `low` and `high` are the seeds', null where one was run; `notes`: place of a level in the lists -> what is to be said of it
    (collapsed runs, N:M groups, seeds that it lacks).
    """
    means = level_means(runs)
    if means.empty:
        return pd.DataFrame(
            columns=[*CURVE, "metric", "headline", "sparsity", "value", "low", "high", "n_seeds", "notes"]
        )
    key = ["model", "task", "metric", "pattern", "sparsity"]
    means = means.merge(_noted(from_dense(runs)), on=["model", "task", "pattern", "sparsity"], how="left")
    rows = []
    for (model, task, metric, pattern), own in means.sort_values(key).groupby(key[:-1], sort=False):
        value = METRICS[metric].value
        several = own["n_seeds"].max() > 1
        ends = [[min(pair), max(pair)] for pair in zip(own["low"].map(value), own["high"].map(value), strict=True)]
        rows.append(
            {"model": model, "task": task, "pattern": pattern, "metric": metric}
            | {"sparsity": own["sparsity"].tolist(), "value": own["quality"].map(value).tolist()}
            | {
                "low": [low for low, _ in ends] if several else None,
                "high": [high for _, high in ends] if several else None,
            }
            | {"n_seeds": own["n_seeds"].tolist()}
            | {"notes": _notes(own)}
        )
    found = pd.DataFrame(rows)
    first = {(model, task): headline(own["metric"]) for (model, task), own in found.groupby(["model", "task"])}
    found["headline"] = [first[pair] == metric for pair, metric in zip(_pairs(found), found["metric"], strict=True)]
    found = found.sort_values("headline", ascending=False, kind="stable")
    return _within(found, found["sparsity"].map(len), POINTS, left_out, "curves", "runs")


def _notes(levels: pd.DataFrame) -> dict[str, str] | None:
    """What is to be said of the levels of a curve, by their place; None: nothing."""
    lacks = np.where(levels["ragged"], LACKS, None)
    said = [[part for part in parts if isinstance(part, str)] for parts in zip(levels["note"], lacks, strict=True)]
    return {str(place): ", ".join(parts) for place, parts in enumerate(said) if parts} or None


def _pairs(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    return zip(frame["model"], frame["task"], strict=True)


def _noted(runs: pd.DataFrame) -> pd.DataFrame:
    """What is to be said of each level in words, of those of which there is something."""
    key = ["model", "task", "pattern", "sparsity"]
    seeds = runs.groupby(key)["seed"].nunique()
    told = runs[runs["collapsed"].notna() | runs["group"].notna()]
    rows = []
    for values, own in told.groupby(key, sort=True):
        collapsed = own.dropna(subset="collapsed").drop_duplicates("seed")
        notes = (
            [f"{int(own['keep'].iloc[0])} of every {int(own['group'].iloc[0])} kept"]
            if own["group"].notna().all()
            else []
        )
        if len(collapsed):
            notes.append(
                f"collapsed ({len(collapsed)} of {seeds[values]} seeds): {'; '.join(sorted(collapsed['collapsed'].unique()))}"
            )
        rows.append(dict(zip(key, values, strict=True)) | {"note": ", ".join(notes)})
    return pd.DataFrame(rows, columns=[*key, "note"])


def _within(
    frame: pd.DataFrame, sizes: pd.Series, most: int, left_out: list[str], what: str, table: str
) -> pd.DataFrame:
    """The first rows whose sizes come to no more than `most`; what is left out is said."""
    kept = frame[sizes.cumsum() <= most]
    if gone := len(frame) - len(kept):
        left_out.append(
            f"{gone:,} of {len(frame):,} {what} are not on this page, which has bounds: tables/{table}.parquet has all."
        )
    return kept.reset_index(drop=True)


def knees(table: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """The knees of the curves that are drawn; `limit`: where the tolerance ends, in the metric's unit; `said`, `notes`: as the figures say it."""
    found = table.merge(drawn[[*CURVE, "metric"]].drop_duplicates(), on=[*CURVE, "metric"])
    rows = found.to_dict("records")
    return found[KNEE_COLUMNS].assign(
        limit=[_limit(row) for row in rows],
        coarse=[pd.notna(row["essential_sparsity"]) and coarse(row) for row in rows],
        said=[_said(row) for row in rows],
        notes=[", ".join(summary.notes(row)) or None for row in rows],
    )


def _limit(knee: Mapping[str, Any]) -> float | None:
    if pd.isna(knee["dense"]) or pd.isna(knee["epsilon"]):
        return None
    metric = METRICS[knee["metric"]]
    return metric.value(metric.quality(knee["dense"]) - knee["epsilon"])


def _said(knee: Mapping[str, Any]) -> str:
    """`52.1 % (95 % interval 30–70 %)`; the levels that hold it where there is no interval; why there is none."""
    none = pd.isna(knee["essential_sparsity"])
    text = str(knee["reason"]).partition(":")[0] if none else summary.essential(knee)
    if pd.notna(knee["essential_sparsity_low"]):
        return f"{text} (95 % interval {summary.interval(knee['essential_sparsity_low'], knee['essential_sparsity_high'])})"
    if not none and not coarse(knee):
        return f"{text} (between {summary.interval(knee['bracket_low'], knee['bracket_high'])})"
    return text


def comparisons(table: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """Pairs of curves with the difference of their essential sparsities, those of headline metrics first."""
    first = {task: headline(own["metric"]) for task, own in table.groupby("task")}
    table = table.assign(beside=table["task"].map(first) != table["metric"]).sort_values("beside", kind="stable")
    return _within(table[COMPARED], pd.Series(1, table.index), PAIRS, left_out, "pairs of curves", "comparisons")


def differences(table: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """Pairs of patterns at each sparsity and over ranges, paired over items and seeds."""
    return _within(table[DIFFERENT], pd.Series(1, table.index), PAIRS, left_out, "paired differences", "differences")


def layers(table: pd.DataFrame, left_out: list[str]) -> dict[str, Any]:
    """Weights of each role (rows) and block (columns) of each model, and how many of them are pruned at each level.

    Matrices of one block that share a role (experts) are added up, as in the figures. Beyond the bound, levels are left out, evenly.
    """
    models, levels = {}, []
    for model, own in table.groupby("model", sort=True):
        roles = own.sort_values(["sublayer", "layer"], kind="stable").drop_duplicates("role")
        blocks = sorted(own["layer"].unique().tolist())
        places = pd.MultiIndex.from_product([roles["role"], blocks])
        weights, pruned = (
            own.pivot_table(
                index=["pattern", "sparsity"], columns=["role", "layer"], values=column, aggfunc="sum"
            ).reindex(columns=places)
            for column in ("n", "pruned")
        )
        models[model] = {"roles": roles["role"].tolist(), "sublayers": roles["sublayer"].tolist(), "layers": blocks}
        models[model]["n"] = _cells(weights.iloc[0])
        levels += [
            {"model": model, "pattern": pattern, "sparsity": sparsity, "pruned": _cells(row)}
            for (pattern, sparsity), row in pruned.iterrows()
        ]
    kept = _thinned(levels, sum(len(level["pruned"]) for level in levels))
    if len(kept) < len(levels):
        left_out.append(
            f"{len(levels) - len(kept):,} of {len(levels):,} levels of layers are not on this page, which has bounds: "
            "tables/layers.parquet has all."
        )
    return {"models": models, "levels": kept}


def _thinned(levels: list[dict], n_cells: int) -> list[dict]:
    if n_cells <= CELLS:
        return levels
    chosen = np.unique(np.linspace(0, len(levels) - 1, max(1, len(levels) * CELLS // n_cells)).round().astype(int))
    return [levels[place] for place in chosen]


def _cells(row: pd.Series) -> list[int | None]:
    """Role by role; null where a block has no such matrix."""
    return [None if np.isnan(value) else int(value) for value in row]


def items(
    runs: pd.DataFrame, grid: pd.DataFrame, left_out: list[str], read: Callable | None = None
) -> tuple[list[dict[str, Any]], list[str]]:
    """Which items turn wrong first, per curve whose items are right or wrong; and, for the others, why there is nothing to show.

    Of the lowest seed that has a dense run. Beside the first `ITEMS` items (their marks at each level, dense first, as a text of digits, `-` for none) stands how many
    turn wrong first at each level, over all items.
    """
    read = read or run_tables.items(grid)
    places = grid[[*run_tables.KEY, "items"]]
    found, none, rows_read, listed, unread, scored = [], [], 0, 0, 0, set()
    levels_of = dict(list(runs[[*run_tables.KEY, "n_items", "items_sha256"]].drop_duplicates().groupby(CURVE)))
    for model, task, pattern in _by_pattern(levels_of):
        own = _of_one_seed(levels_of.get((model, task, "dense")), levels_of[model, task, pattern])
        if own is None:
            none.append(f"{model} on {task}, {pattern}: no seed has a dense run beside it.")
            continue
        if (model, task) in scored:
            continue
        rows_read += int(own["n_items"].sum())
        if rows_read > ITEM_ROWS:
            unread += 1
            continue
        wanted = own.merge(places, on=run_tables.KEY)["items"]
        if lost := [path for path in wanted.unique() if not Path(path).is_file()]:
            none.append(f"{model} on {task}, {pattern}: {lost[0]} is not there.")
            continue
        scores = read(own).merge(own[run_tables.KEY], on=run_tables.KEY)
        marks = flips.marks(scores)
        if marks is None:
            whole = flips.marks(scores[scores["sparsity"] == 0]) is None  # else this pattern lacks some scores
            scored |= {(model, task)} if whole else set()
            curve = f"{model} on {task}" if whole else f"{model} on {task}, {pattern}"
            none.append(f"{curve}: its items are neither right nor wrong.")
            continue
        turned = flips.first_wrong(marks)
        shown = turned.head(min(ITEMS, max(0, (ITEM_MARKS - listed) // marks.shape[1])))
        listed += len(shown) * marks.shape[1]
        levels = marks.columns.tolist()
        found.append(
            {"model": model, "task": task, "pattern": pattern, "seed": int(own["seed"].iloc[0]), "levels": levels}
            | {"n_items": len(marks), "right": int((marks[0.0] == 1).sum()), "turned": len(turned)}
            | {"first": [int((turned == level).sum()) for level in levels[1:]]}
            | {"items": shown.index.tolist(), "marks": [_digits(marks.loc[item]) for item in shown.index]}
        )
    if unread:
        left_out.append(
            f"The items of {unread:,} curves were not read for this page, which has bounds: results/store/items has all."
        )
    return found, none


def _digits(marks: pd.Series) -> str:
    return "".join("-" if np.isnan(mark) else str(int(mark)) for mark in marks)


def _by_pattern(curves: Iterable[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Curves, all of the first pattern first, so that bounds leave every model and task something."""
    rank = {name: place for place, name in enumerate(looks(sorted({pattern for _, _, pattern in curves})))}
    return sorted((curve for curve in curves if curve[2] != "dense"), key=lambda curve: (rank[curve[2]], *curve))


def _of_one_seed(dense: pd.DataFrame | None, pruned: pd.DataFrame) -> pd.DataFrame | None:
    """A row per level of a curve, dense too, of its lowest seed that has both; None where none has."""
    seeds = set() if dense is None else set(dense["seed"]) & set(pruned["seed"])
    return pd.concat([part[part["seed"] == min(seeds)] for part in (dense, pruned)]) if seeds else None


def known(value: Any) -> Any:
    """A cell as JSON has it: counts whole, other numbers in six significant digits, null for what is not there."""
    if isinstance(value, list | tuple):
        return [known(one) for one in value]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, dict | str):
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    if pd.isna(value) or (number := or_none(value)) is None:
        return None
    number = float(f"{number:.6g}")
    return int(number) if number.is_integer() else number
