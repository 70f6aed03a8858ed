"""The run of a finished study that a person means: by model, pattern, sparsity, task and seed, looked up in its tables."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from essential_sparsity import errors, logs, patterns, tables
from essential_sparsity.curves import metrics
from essential_sparsity.curves.intervals import coarse
from essential_sparsity.study import configuration, grid, opening, study
from essential_sparsity.tables import runs

ESSENTIAL = "essential"  # what is written for the largest measured level that is not above the essential sparsity
NOTHING = 1e-9  # by which numbers of tables may differ from what they are


@dataclass(frozen=True)
class Chosen:
    """One run, and what the study says around it.

    `row`: of table `grid`; `found`: of table `runs`, one for each metric; `metric`: the headline; `curve`: the rows of `runs` of that
    metric at all levels, dense included, of all seeds; `knee`: the row of table `knees`, None where the curve has none;
    `said`: what was decided in the person's place, as sentences.
    """

    study: study.Study
    row: dict[str, Any]
    found: pd.DataFrame
    metric: str
    curve: pd.DataFrame
    knee: dict[str, Any] | None
    said: list[str]

    @property
    def level(self) -> str:
        """The sparsity as text."""
        return grid.level(self.row["sparsity"])

    @property
    def value(self) -> float | None:
        """Of the headline metric; None where it is undefined."""
        value = self.found.loc[self.found["metric"] == self.metric, "value"]
        return None if value.isna().all() else float(value.iloc[0])


def configured(name: str | None, paths: Sequence[str]) -> dict[str, Any]:
    """The configuration of a study: of the files `paths`, else of the one file in config/ that names it. ConfigError.

    Where neither is given, that of config/config.yaml.
    """
    if paths or name is None:
        config = configuration.read_config(configuration.BASE, *paths)
        if name not in (None, config["study"]):
            raise configuration.ConfigError(
                f"{paths[-1]} is the configuration of the study {config['study']!r}, not of {name!r}. Leave one of both out."
            )
        return config
    named: dict[str, list[str]] = {}
    for path in sorted(Path(configuration.BASE).parent.glob("*.yaml")):
        known = configuration.read_file(path).get("study")
        if isinstance(known, str):
            named.setdefault(known, []).append(str(path))
    if name not in named:
        raise configuration.ConfigError(
            f"No file of config/ has the study {name!r}{configuration.hint(name, named) or '.'} There are: {', '.join(sorted(named))}; "
            "one that lies elsewhere is named by CONFIG=… (without make: --config)."
        )
    if len(named[name]) > 1:
        raise configuration.ConfigError(
            f"{' and '.join(named[name])} both have the study {name!r}: say which by CONFIG=… (without make: --config)."
        )
    own = [path for path in named[name] if path != configuration.BASE]
    return configuration.read_config(configuration.BASE, *own)


def choose(
    config: dict[str, Any], model: str, pattern: str, sparsity: str, task: str | None = None, seed: int | None = None
) -> Chosen:
    """The run that is meant. `sparsity`: a number that was measured, or ESSENTIAL; `task`, `seed`: where there are several.

    Raises UserError, listing what there is, for what was not measured and where several tasks may be meant; and for a run
    that was made of something else than the configuration asks for, whose checkpoint or data are gone, or whose curve was read with
    another tolerance.
    """
    name = config["study"]
    measured, knees = (_table(name, table) for table in ("runs", "knees"))
    patterns.find(pattern)
    pruned = measured[measured["pattern"] != "dense"]
    pruned = _only(pruned, "model", model, f"The study {name!r}")
    pruned = _only(pruned, "pattern", pattern, f"The study {name!r}, model {model}")
    if task is not None:
        pruned = _only(pruned, "task", task, f"The study {name!r}, model {model}, pattern {pattern}")
    knees = knees[
        knees["headline"]
        & (knees["model"] == model)
        & (knees["pattern"] == pattern)
        & knees["task"].isin(pruned["task"])
    ]
    if sparsity == ESSENTIAL:
        task, at, said = _essential(pruned, knees)
    else:
        task, at, said = _numbered(pruned, sparsity)
    pruned = pruned[(pruned["task"] == task) & ((pruned["sparsity"] - at).abs() < NOTHING)]
    seeds = sorted(map(int, pruned["seed"].unique()))
    if seed is None:
        seed = seeds[0]
        if len(seeds) > 1:
            said.append(f"Of its seeds {', '.join(map(str, seeds))} this is the run of {seed}.")
    if seed not in seeds:
        raise errors.UserError(
            f"{model} on {task}, {pattern} at {grid.level(at)} has no seed {seed}. It has: {', '.join(map(str, seeds))}."
        )
    found = pruned[pruned["seed"] == seed]
    asked, row = _asked(config, (model, task, pattern, seed), grid.level(at))
    _check(found, row, asked.of_other, said)
    if other := asked.other_tolerances(knees[knees["task"] == task].to_dict("records")):
        raise errors.UserError(
            f"The essential sparsities in the tables were read with another value of {other[0]} than the configuration says now. Run the "
            "study again first: it makes what has changed."
        )
    knee = next(iter(knees[knees["task"] == task].to_dict("records")), None)
    metric = knee["metric"] if knee else metrics.headline(found["metric"])
    curve = measured[(measured["model"] == model) & (measured["task"] == task) & (measured["metric"] == metric)]
    own = curve["pattern"] == pattern
    curve = curve[own | ((curve["pattern"] == "dense") & curve["seed"].isin(curve.loc[own, "seed"]))]
    return Chosen(asked, row, found, metric, curve.sort_values(["sparsity", "seed"]), knee, said)


def _table(name: str, table: str) -> pd.DataFrame:
    path = Path(grid.folder(name)) / f"tables/{table}.parquet"
    if not path.is_file():
        raise errors.UserError(
            f"{path} is not there: the study {name!r} has not been run here. Run it first, or `make tables` for what is there."
        )
    return tables.read(path, table)


def _only(rows: pd.DataFrame, column: str, value: str, where: str) -> pd.DataFrame:
    """The rows with a value in a column; UserError lists those that there are."""
    known = sorted(rows[column].unique())
    if value not in known:
        raise errors.UserError(
            f"{where} has no pruned run of the {column} {value!r}{configuration.hint(value, known) or '.'} It has: {', '.join(known)}."
        )
    return rows[rows[column] == value]


def _essential(pruned: pd.DataFrame, knees: pd.DataFrame) -> tuple[str, float, list[str]]:
    """(task, level, what to say): the largest measured level that is not above the essential sparsity of the one task with a knee."""
    (model,), (pattern,) = pruned["model"].unique(), pruned["pattern"].unique()
    read = knees[knees["essential_sparsity"].notna()]
    if read.empty:
        why = "; ".join(f"{row['task']}: {row['reason']}" for row in knees.to_dict("records")) or "no curve was fitted"
        raise errors.UserError(
            f"{model}, pattern {pattern}, has no essential sparsity ({why}). Write a level that was measured: {_listed(pruned)}."
        )
    if len(read) > 1:
        told = ", ".join(f"TASK={row['task']} ({_held(row)})" for row in read.sort_values("task").to_dict("records"))
        raise errors.UserError(
            f"{model}, pattern {pattern}, has an essential sparsity on each of several tasks. Say which is meant: {told}."
        )
    knee = read.iloc[0]
    task, at = knee["task"], float(knee["essential_sparsity"])
    own = pruned[pruned["task"] == task]
    level = max((level for level in own["sparsity"].unique() if level <= at + NOTHING), default=None)
    between = f"between the levels {knee['bracket_low']:.3f} and {knee['bracket_high']:.3f}"
    where = f"lies {between}" if coarse(knee) else f"is {at:.3f} ({between})"
    place = f"The essential sparsity of {model} on {task}, pattern {pattern}, {where}"
    if level is None:
        raise errors.UserError(
            f"{place}, below the first level that was measured. Measure lower ones (refine, or sparsities of the grid), or write one that "
            f"was measured: {_listed(own)}."
        )
    said = [
        f"{place}; this checkpoint is pruned to {grid.level(level)}, the largest level not above it that was measured."
    ]
    return task, float(level), said


def _held(knee: Mapping[str, Any]) -> str:
    """The essential sparsity of a row of table `knees`; the levels that hold it where they are far apart."""
    if coarse(knee):
        return f"{knee['bracket_low']:.3f} to {knee['bracket_high']:.3f}"
    return f"{knee['essential_sparsity']:.3f}"


def _numbered(pruned: pd.DataFrame, sparsity: str) -> tuple[str, float, list[str]]:
    """(task, level, nothing to say) of a sparsity that a person wrote."""
    (model,), (pattern,) = pruned["model"].unique(), pruned["pattern"].unique()
    try:
        at = float(sparsity)
    except ValueError:
        raise errors.UserError(
            f"The sparsity is {sparsity!r}: write {ESSENTIAL} or a level that was measured: {_listed(pruned)}."
        ) from None
    own = pruned[(pruned["sparsity"] - at).abs() < NOTHING]
    if own.empty:
        raise errors.UserError(
            f"{model}, pattern {pattern}, was not measured at {sparsity}. Write {ESSENTIAL} or a level that was: {_listed(pruned)}."
        )
    names = sorted(own["task"].unique())
    if len(names) > 1:
        raise errors.UserError(
            f"{model}, pattern {pattern}, was measured at {sparsity} on several tasks. Say whose curve is meant: "
            f"{', '.join(f'TASK={name}' for name in names)}."
        )
    return names[0], float(own["sparsity"].iloc[0]), []


def _listed(pruned: pd.DataFrame) -> str:
    """The levels that were measured, by task where there are several."""
    levels = {task: ", ".join(map(grid.level, sorted(set(part)))) for task, part in pruned.groupby("task")["sparsity"]}
    return "; ".join(levels.values() if len(levels) == 1 else (f"{task}: {part}" for task, part in levels.items()))


def _asked(config: dict[str, Any], curve: grid.Curve, level: str) -> tuple[study.Study, dict[str, Any]]:
    """The study as its configuration asks for it now, and its row of table `grid` for a run."""
    asked = opening.read(config)
    job = next((job for job in asked.jobs if job.curve == curve and level in job.asked), None)
    if job is None:
        raise errors.UserError(
            f"The tables of the study {asked.name!r} have a run ({', '.join(map(str, curve))} at {level}) that its configuration does not "
            "ask for any more. Run the study again, or name the configuration that it was run with: CONFIG=… (without make: --config)."
        )
    return asked, next(row for row in asked.rows([job]) if grid.level(row["sparsity"]) == level)


def _check(found: pd.DataFrame, row: dict[str, Any], of_other: Sequence[str], said: list[str]) -> None:
    """What the run was made of is there, and is what the configuration asks for; other code is told in `said`. UserError."""
    for column in ("checkpoint", "dataset", "calibration", "ticket"):
        if row[column] and not os.path.isfile(row[column]):
            raise errors.UserError(
                f"{row[column]} is not there: the run was made of it. Run the study again, which fetches or computes it anew."
            )
        if row[column] in of_other:
            raise errors.UserError(
                f"{row[column]} is {logs.CHANGED}, and so is the run. Run the study again first: "
                "it makes what has changed."
            )
    asked = pd.DataFrame([row]).astype(dict.fromkeys(("calibration", "ticket"), object))
    other = set(filter(None, runs.differing(runs.beside(asked, found)).iloc[0].split(", ")))
    if "code" in other:
        entry = patterns.find(row["pattern"])
        if entry.modules:
            raise errors.UserError(
                f"The code that evaluates has changed since the run was computed, and the pattern {entry.name!r} has a score of its own "
                f"({entry.score}): pruned again, the model could be another one. Run the study again first: it computes what has changed."
            )
        said.append("The code that evaluates has changed since the run was computed.")
    if wrong := sorted(other - {"code"}):
        raise errors.UserError(
            f"The run in the tables was made of other {' and '.join(wrong)} than the configuration asks for now. Run the study again "
            "first: it computes what has changed."
        )
