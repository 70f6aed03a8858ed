"""What patterns that need data are calibrated on: the rows of the calibrations table that a configuration chooses.

Standard library, PyYAML and jsonschema only: every parse of the Snakefile imports this module.
"""

from typing import Any

from essential_sparsity import patterns
from essential_sparsity.study.configuration import ConfigError, hint
from essential_sparsity.study.series import Tables
from essential_sparsity.study.tsv import SOURCE, check_source, read_table


def read(config: dict[str, Any], tables: Tables, where: str) -> dict[str, dict]:
    """Type of model -> the row that models of this type are calibrated on, for the types that the grid needs.

    Raises ConfigError where a block of the grid needs a calibration that no key chooses, for a row that is not there or does
    not fit the type, and for a data set that a task describes differently.
    """
    rows = {row["calibration"]: row for row in read_table(config["calibrations"], "calibrations", "calibration")}
    chosen, found = config.get("calibration") or {}, {}
    for i, block in enumerate(config["grid"]):
        needing = [name for name in block["patterns"] if patterns.find(name).needs == "calibration"]
        for model in block["models"] if needing else ():
            kind = tables.models[model]["type"]
            if kind in found:
                continue
            if kind not in chosen:
                raise ConfigError(
                    f"{where}, grid[{i}].patterns: {needing[0]!r} needs a calibration for {model!r}. Name a row of "
                    f"{config['calibrations']} under `calibration: {{{kind}: …}}`."
                )
            found[kind] = _chosen(f"{where}, calibration.{kind}", chosen[kind], kind, rows, config["calibrations"])
    described = {task["dataset"]: (f"the task {name!r}", task) for name, task in tables.tasks.items()}
    for row in found.values():
        _check(f"{config['calibrations']}, {row['calibration']!r}", row, tables, described)
    return found


def _chosen(place: str, name: str, kind: str, rows: dict[str, dict], table: str) -> dict:
    if name not in rows:
        raise ConfigError(f"{place}: {table} has no row {name!r}{hint(name, rows)} It has: {', '.join(rows)}.")
    if (kind == "vision") != (rows[name]["length"] is None):
        expected = "images: one whose length is blank" if kind == "vision" else "texts: one with a length"
        raise ConfigError(f"{place}: {name!r} does not fit; models of type {kind} are calibrated on {expected}.")
    return rows[name]


def _check(place: str, row: dict, tables: Tables, described: dict[str, tuple[str, dict]]) -> None:
    """The columns of a row fit each other, and what else is said of its data set."""
    check_source(place, row, tables.packages)
    if row["length"] is not None and row["sampling"] is None:
        raise ConfigError(f"{place}, column sampling: blank, but texts need it: document or joined.")
    if row["length"] is None and row["sampling"] is not None:
        raise ConfigError(f"{place}, column sampling: {row['sampling']!r}, but images have none. Leave it blank.")
    first, known = described.setdefault(row["dataset"], (f"the calibration {row['calibration']!r}", row))
    for column in SOURCE:
        if row[column] != known[column]:
            raise ConfigError(
                f"{place}, column {column}: {row[column]!r} but {first} gives the same dataset {row['dataset']!r} {known[column]!r}. "
                "Rows that share a dataset describe one source."
            )
