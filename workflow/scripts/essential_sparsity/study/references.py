"""What models should score, from published or earlier results: a dense one, and one pruned by a pattern to a sparsity.

Sparse runs count only where the dense one agrees, so a dense disagreement stops them. After a sparse run comes nothing that
could be stopped: its disagreement is told, in its log, in the table `references` and in what `make summary` prints.
Standard library and `grid` only: every parse of the Snakefile imports this module.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from essential_sparsity import errors, patterns
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.study import grid, kinds
from essential_sparsity.study.configuration import ConfigError, hint
from essential_sparsity.study.tsv import WHOLE, read_table

COLUMNS = ("pattern", "sparsity", "metric", "value", "tolerance", "source")
DENSE = {"pattern": "dense", "sparsity": 0.0}  # what a row means whose pattern and sparsity are blank
OF_MASK = "other calibration texts, another share of each matrix, other prunable weights; or, if the dense value is not right, "

Key = tuple[str, str]  # model, task
Expected = dict[Key, list[dict[str, Any]]]  # rows with the COLUMNS


def read(config: dict, models: dict, tasks: dict) -> Expected:
    """The rows of the references table by (model, task); empty where the config names no table.

    `models`, `tasks`: rows of their tables by id. Raises ConfigError naming file, row, column, value and expectation.
    """
    path = config.get("references")
    found: Expected = {}
    for row in _table(path) if path else ():
        where = f"{path}, {row['model']} {row['task']} {row['metric']}"
        for column, known in (("model", models), ("task", tasks)):
            if row[column] not in known:
                raise ConfigError(
                    f"{where}, column {column}: {row[column]!r} is not in {config[column + 's']}{hint(row[column], known)} "
                    "A study with tables of its own has its own references too, or `references: null`."
                )
        task = tasks[row["task"]]
        metrics = kinds.tabulated(task)
        if row["metric"] not in metrics:
            raise ConfigError(
                f"{where}, column metric: the task {row['task']!r} has no such metric{hint(row['metric'], metrics)} "
                f"It has: {', '.join(metrics)}."
            )
        metric = METRICS[row["metric"]]
        if metric.scale == "identity" and row["tolerance"] > WHOLE * metric.epsilon:
            raise ConfigError(
                f"{where}, column tolerance: {row['tolerance']:g}, but the scale of {metric.name} ends at {WHOLE * metric.epsilon:g}; one point of it "
                f"is {metric.epsilon:g}."
            )
        if (metric.scale == "log" and row["value"] <= 0) or (
            metric.scale == "identity" and abs(row["value"]) > WHOLE * metric.epsilon
        ):
            expected = "is above 0" if metric.scale == "log" else f"is at most {WHOLE * metric.epsilon:g}; no per cent"
            raise ConfigError(f"{where}, column value: {row['value']:g}, but a value of {metric.name} {expected}.")
        check_pruned(where, row)
        rows = found.setdefault((row["model"], row["task"]), [])
        if any(_run(row) == _run(other) and row["metric"] == other["metric"] for other in rows):
            raise ConfigError(f"{where}: stands there twice; a run has one reference per metric.")
        rows.append({column: row[column] for column in COLUMNS})
    return found


def check_pruned(where: str, row: Mapping[str, Any]) -> None:
    """The columns pattern and sparsity name runs that there can be. ConfigError."""
    pattern, sparsity = row["pattern"], row["sparsity"]
    if (pattern, sparsity) == (DENSE["pattern"], DENSE["sparsity"]):
        return
    if (pattern is None) != (sparsity is None):
        empty, given = ("pattern", "sparsity") if pattern is None else ("sparsity", "pattern")
        raise ConfigError(
            f"{where}, column {empty}: blank, but {given} is {row[given]}; a pruned model has both, a dense one neither."
        )
    try:
        patterns.find(pattern)
    except ValueError as error:
        raise ConfigError(f"{where}, column pattern: {error}") from None
    grid.check_pattern(pattern, grid.sparsities({"sparsities": [sparsity]}, where), where)


def rows(path: str, model: str, task: str) -> list[dict[str, Any]]:
    """The rows with the COLUMNS of one model and task, from a table that `read` has checked."""
    return [{c: row[c] for c in COLUMNS} for row in _table(path) if (row["model"], row["task"]) == (model, task)]


def _table(path: str) -> list[dict[str, Any]]:
    """The rows as the table's schema has them, with DENSE in the place of both blanks."""
    found = read_table(path, "references", None)
    return [row | DENSE if row["pattern"] is None and row["sparsity"] is None else row for row in found]


def _run(row: Mapping[str, Any]) -> tuple[str, str]:
    """Which runs of a model and task a row speaks of: pattern and level."""
    return row["pattern"], grid.level(row["sparsity"])


def check(place: str, runs: Any, expected: Iterable[Mapping[str, Any]], disagreement: str) -> list[dict[str, Any]]:
    """Compare the runs of one model, task and seed (rows of table `runs`) with their references; the rows of `compare`.

    For dense runs that disagree ValueError is raised with an explanation for each, or a warning printed, as `disagreement`
    says (stop, warn); for sparse ones a warning is printed.
    """
    values: dict[tuple[str, str], dict[str, float | None]] = {}
    for row in runs[["pattern", "sparsity", "metric", "value"]].to_dict("records"):
        values.setdefault(_run(row), {})[row["metric"]] = None if row["value"] != row["value"] else row["value"]
    compared = compare(values, expected)
    wrong = [row for row in compared if not row["agrees"]]
    stopping = [row for row in wrong if row["pattern"] == "dense"] if disagreement == "stop" else []
    for row in wrong:
        if row not in stopping:
            print(f"warning: {explanation(place, row)}", file=sys.stderr)
    if stopping:
        raise errors.UserError(
            f"{' '.join(explanation(place, row) for row in stopping)} The sparse runs of this curve are not started. Mend the cause, "
            "correct the row of the references table, or set `dense_check: warn`."
        )
    return compared


def compare(
    values: Mapping[tuple[str, str], Mapping[str, float | None]], expected: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Each expected row of a run that is there, with the `found` value of its metric (None: undefined) and whether it `agrees`.

    `values`: those of each run by metric, by (pattern, level). Raises ValueError when a metric was not evaluated at all.
    """
    compared = []
    for row in expected:
        of_run = values.get(_run(row))
        if of_run is None:
            continue
        if row["metric"] not in of_run:
            which = "dense run" if row["pattern"] == "dense" else "run of {} at {}".format(*_run(row))
            raise errors.UserError(f"The {which} has no metric {row['metric']!r}; it has {', '.join(of_run)}.")
        found = of_run[row["metric"]]
        agrees = found is not None and abs(found - row["value"]) <= row["tolerance"] * (1 + 1e-9)
        compared.append({**row, "found": found, "agrees": agrees})
    return compared


def explanation(place: str, row: Mapping[str, Any]) -> str:
    """Why a result is not believed, and what to look at; `place`: model, task and seed."""
    found = "undefined" if row["found"] is None else f"{row['found']:.4g}"
    if dense := row["pattern"] == "dense":
        place = f"Dense {place}"
    else:
        place += " pruned by {} to {}".format(*_run(row))
    return (
        f"{place}: {row['metric']} is {found}, but {row['value']:g} ± {row['tolerance']:g} was expected "
        f"({row['source']}). Likely causes: {'' if dense else OF_MASK}another checkpoint or revision than the reference's, another tokenizer, "
        "labels in another order, another protocol (items, lengths, prompts, learning rate, epochs), or a version of "
        "transformers that computes differently."
    )
