"""What a study evaluated, as tables of texts: checkpoints, data sets, runs, references, what is missing or was not collected."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from essential_sparsity import files
from essential_sparsity.acquire import reports

MOST = 100  # rows of a table that can be long
ABSENT = {  # tables that not every study has -> what it would take
    "comparisons": "pairs of curves that differ in their model or pattern",
    "differences": "lottery tickets, or a pattern beside one that it is compared with",
    "layers": "spectra of the checkpoints",
    "references": "reference values (the configuration's key references)",
}


def inventory(
    found: Mapping[str, pd.DataFrame], grid: pd.DataFrame, labels: Mapping[str, Mapping[str, str]]
) -> list[dict[str, Any]]:
    """The tables of the page, in its order: `title`, `columns`, `rows`, and `note`, of what is left out.

    `found`: name -> table of the study; `labels`: {"models": {id: name}, "tasks": {id: name}}.
    """
    runs, missing = found["runs"], found["missing_runs"]
    parts = [
        _part("Evaluated", ["model", "task", "protocol", "patterns", "levels", "seeds", "items", "runs there", "asked"], _evaluated(runs, grid)),
        _part("Checkpoints", ["model", "name", "source", "revision", "stored as", "weights that can be pruned", "all parameters", "digest of its weights"],
              [_checkpoint(name, path, runs, labels["models"]) for name, path in _named(grid, "model", "checkpoint")]),
        _part("Data sets", ["data set", "used by", "source", "revision", "rows", "what was found in them"], _datasets(grid)),
    ]  # fmt: skip
    if "references" in found:
        columns = ["model", "task", "pattern", "sparsity", "seed", "metric", "expected", "found", "agrees", "source"]
        parts.append(_part("Reference values", columns, _references(found["references"])))
    told = [
        [row.model, row.task, row.pattern, f"{100 * row.sparsity:g} %", row.seed, row.reason]
        for row in missing.itertuples()
    ]
    parts.append(
        _part(
            "Missing runs",
            ["model", "task", "pattern", "sparsity", "seed", "why"],
            told,
            "No run of the grid is missing.",
        )
    )
    absent = [[name, f"takes {what}"] for name, what in ABSENT.items() if not len(found.get(name, ()))]
    parts.append(_part("Not in this study", ["table", "why"], absent, "All that this page can show was collected."))
    return parts


def _part(title: str, columns: list[str], rows: Iterable[list[Any]], nothing: str = "Nothing.") -> dict[str, Any]:
    rows = list(rows)
    note = nothing if not rows else None
    if len(rows) > MOST:
        note = f"{len(rows) - MOST:,} more of {len(rows):,} rows are not on this page, which has bounds; the tables of the study have all."
    return {"title": title, "columns": columns, "rows": rows[:MOST], "note": note}


def _evaluated(runs: pd.DataFrame, grid: pd.DataFrame) -> list[list[Any]]:
    rows = []
    for (model, task), asked in grid.groupby(["model", "task"], sort=True):
        own = runs[(runs["model"] == model) & (runs["task"] == task)]
        there = own.drop_duplicates(["pattern", "sparsity", "seed"])
        counts = sorted(set(there["n_items"]))
        rows.append(
            [
                model,
                task,
                ", ".join(sorted(set(own["protocol"]))) or "–",
                ", ".join(sorted(set(asked["pattern"]) - {"dense"})),
                asked.loc[asked["pattern"] != "dense", "sparsity"].nunique(),
                asked["seed"].nunique(),
                counts[0] if len(counts) == 1 else f"{counts[0]:,}–{counts[-1]:,}" if counts else "–",
                len(there),
                len(asked),
            ]
        )
    return rows


def _named(grid: pd.DataFrame, name: str, column: str) -> list[tuple[str, str]]:
    pairs = grid[[name, column]].dropna().drop_duplicates().sort_values([name, column])
    return list(pairs.itertuples(index=False, name=None))


def _checkpoint(name: str, path: str, runs: pd.DataFrame, labels: Mapping[str, str]) -> list[Any]:
    own = runs[runs["model"] == name]
    digest = own["weights_sha256"].iloc[0][:12] if len(own) else "–"
    if not Path(path).is_file():
        return [name, labels.get(name, name), f"{path} is not there", "–", "–", "–", "–", digest]
    said = files.read_json(path)
    counts = [said.get(key, "–") for key in ("n_prunable", "n_total")]
    return [name, labels.get(name, name), *_origin(said), said.get("dtype") or "–", *counts, digest]


def _datasets(grid: pd.DataFrame) -> list[list[Any]]:
    used: dict[str, set[str]] = {}
    for column, word in (("dataset", ""), ("calibration", "calibration of ")):
        for name, path in _named(grid, "task", column):
            used.setdefault(path, set()).add(word + name)
    rows = []
    for path, tasks in sorted(used.items()):
        by = ", ".join(sorted(tasks))
        if not Path(path).is_file():
            rows.append([Path(path).parent.name, by, f"{path} is not there", "–", "–", "–"])
            continue
        said = files.read_json(path)
        counts = ", ".join(f"{split}: {number:,}" for split, number in (said.get("n_rows") or {}).items())
        told = reports.lines(said["report"]) if said.get("report") else []
        rows.append(
            [said.get("dataset") or Path(path).parent.name, by, *_origin(said), counts or "–", "\n".join(told) or "–"]
        )
    return rows


def _origin(said: Mapping[str, Any]) -> list[str]:
    """Where a checkpoint or data set is from, and at which commit or version."""
    package = said.get("package") or {}
    source = f"{said.get('source', '–')}: {package.get('name') or said.get('id', '–')}"
    version = said.get("revision") or package.get("version")
    return [source, str(version) if version else "none: it is told by its digest"]


def _references(table: pd.DataFrame) -> list[list[Any]]:
    found = []
    for row in table.itertuples():
        key = [row.model, row.task, row.pattern, f"{100 * row.sparsity:g} %", row.seed, row.metric]
        value = "undefined" if pd.isna(row.found) else f"{row.found:.4g}"
        found.append([*key, f"{row.value:g} ± {row.tolerance:g}", value, "yes" if row.agrees else "no", row.source])
    return found
