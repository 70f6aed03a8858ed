"""What a dense model should score, from published or earlier results: sparse runs count only where the dense one agrees.

Standard library and `grid` only: every parse of the Snakefile imports this module.
"""

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from essential_sparsity import errors
from essential_sparsity.study import kinds
from essential_sparsity.study.configuration import ConfigError, hint
from essential_sparsity.study.tsv import read_table

COLUMNS = ("metric", "value", "tolerance", "source")

Key = tuple[str, str]  # model, task
Expected = dict[Key, list[dict[str, Any]]]  # rows with the COLUMNS


def read(config: dict, models: dict, tasks: dict) -> Expected:
    """The rows of the references table by (model, task); empty where the config names no table.

    `models`, `tasks`: rows of their tables by id. Raises ConfigError naming file, row, column, value and expectation.
    """
    path = config.get("references")
    found: Expected = {}
    for row in read_table(path, "references", None) if path else ():
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
        rows = found.setdefault((row["model"], row["task"]), [])
        if any(row["metric"] == other["metric"] for other in rows):
            raise ConfigError(f"{where}: stands there twice; a dense model has one reference per task and metric.")
        rows.append({column: row[column] for column in COLUMNS})
    return found


def rows(path: str, model: str, task: str) -> list[dict[str, Any]]:
    """The rows with the COLUMNS of one model and task, from a table that `read` has checked."""
    found = read_table(path, "references", None)
    return [{c: row[c] for c in COLUMNS} for row in found if (row["model"], row["task"]) == (model, task)]


def check(place: str, runs: Any, expected: Iterable[Mapping[str, Any]], disagreement: str) -> list[dict[str, Any]]:
    """Compare a dense run (rows of table `runs`) with its references; the rows of `compare`.

    Raises ValueError with an explanation for each that disagrees, or warns, as `disagreement` says (stop, warn).
    """
    values = {row.metric: None if row.value != row.value else row.value for row in runs.itertuples()}
    compared = compare(values, expected)
    wrong = [explanation(place, row) for row in compared if not row["agrees"]]
    if wrong and disagreement == "stop":
        raise errors.UserError(
            f"{' '.join(wrong)} The sparse runs of this curve are not started. Mend the cause, correct the row of the "
            "references table, or set `dense_check: warn`."
        )
    for line in wrong:
        print(f"warning: {line}", file=sys.stderr)
    return compared


def compare(values: Mapping[str, float | None], expected: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each expected row with the `found` value of its metric (None: undefined) and whether it `agrees`.

    Raises ValueError when a metric was not evaluated at all.
    """
    compared = []
    for row in expected:
        if row["metric"] not in values:
            raise errors.UserError(f"The dense run has no metric {row['metric']!r}; it has {', '.join(values)}.")
        found = values[row["metric"]]
        agrees = found is not None and abs(found - row["value"]) <= row["tolerance"] * (1 + 1e-9)
        compared.append({**row, "found": found, "agrees": agrees})
    return compared


def explanation(place: str, row: Mapping[str, Any]) -> str:
    """Why a dense result is not believed, and what to look at; `place`: model, task and seed."""
    found = "undefined" if row["found"] is None else f"{row['found']:.4g}"
    return (
        f"Dense {place}: {row['metric']} is {found}, but {row['value']:g} ± {row['tolerance']:g} was expected "
        f"({row['source']}). Likely causes: another checkpoint or revision than the reference's, another tokenizer, "
        "labels in another order, another protocol (items, lengths, prompts, learning rate, epochs), or a version of "
        "transformers that computes differently."
    )
