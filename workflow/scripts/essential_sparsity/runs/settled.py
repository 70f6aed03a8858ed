"""The tables of a study: of one call and of what its configuration asks for now, or refused, and what is computed anew."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from essential_sparsity import errors, files, logs, tables
from essential_sparsity.study import configuration, deciding, estimate, grid, opening, study
from essential_sparsity.tables import crate, missing, runs

ANEW = "Run the study again: it makes what has changed."
AGAIN = "Run the study again (or `make tables`, of what is there): it makes what has changed."


@dataclass(frozen=True)
class Settled:
    """A study with its tables `runs`, `knees` and `missing_runs`.

    `grid`: rows of table `grid` of the runs that are tabulated; `crate`: what its RO-Crate says; `names`: its tables; `said`: what a
    person is told, as sentences.
    """

    study: study.Study
    grid: pd.DataFrame
    runs: pd.DataFrame
    knees: pd.DataFrame
    missing: pd.DataFrame
    crate: dict[str, Any]
    names: list[str]
    said: list[str]

    @property
    def folder(self) -> Path:
        return Path(self.study.folder)

    def path(self, table: str) -> Path:
        """The file of a table."""
        return self.folder / f"tables/{table}.parquet"


def read(config: dict[str, Any]) -> Settled:
    """The study of a configuration. UserError says what is not there, damaged, or of another call or configuration."""
    asked = opening.read(config)
    folder, names = Path(asked.folder), sorted(asked.tables())
    lacking = [
        name for name in (*(f"tables/{name}.parquet" for name in names), crate.NAME) if not (folder / name).is_file()
    ]
    if lacking:
        raise errors.UserError(
            f"{folder} has no {files.some(lacking)}: the study {asked.name!r} is not finished. Run it first, or `make tables` for what is there."
        )
    found = {name: tables.read(folder / f"tables/{name}.parquet", name) for name in names}
    said = files.read_json(folder / crate.NAME)
    _refuse_other_call(folder, names, said)
    _refuse_other_configuration(asked, said)
    _refuse_other_tolerances(asked, found["knees"])
    rows = pd.DataFrame(asked.rows()).astype(dict.fromkeys(("calibration", "ticket"), object))
    grid = _tabulated(asked.name, rows, found["runs"], found["missing_runs"])
    _refuse_other_sources(asked)
    told = _compared(grid, found["runs"]) + _mixed(found["runs"])
    return Settled(asked, grid, found["runs"], found["knees"], found["missing_runs"], said, names, told)


def of_before(config: dict[str, Any]) -> bool:
    """Whether the tables in the folder of a configuration's study are of another grid than it asks for now, of other files, or read with
    other tolerances, references or claims; False where there are none.
    """
    folder = Path(grid.folder(config["study"]))
    tabulated = folder / "grid.parquet"
    if not tabulated.is_file():
        return False
    asked = opening.read(config)
    if files.sha256_rows(pq.read_table(tabulated).to_pylist()) != asked.digest() or asked.of_other:
        return True
    knees = folder / "tables/knees.parquet"
    if not (knees.is_file() and (folder / crate.NAME).is_file()):
        return False  # not finished, which Snakemake says
    return bool(other_readings(asked, tables.read(knees, "knees")))


def other_readings(asked: study.Study, knees: pd.DataFrame) -> list[str]:
    """What is another now than the tables in a study's folder were made with, in words: tolerances that table `knees` was read with, and
    keys of the configuration and what files say that they name, as far as there is a provenance which tells them.
    """
    said = Path(asked.folder) / crate.NAME
    return asked.other_tolerances(knees.to_dict("records")) + (
        _changed(asked, files.read_json(said)) if said.is_file() else []
    )


def other_settings(asked: study.Study) -> str | None:
    """That runs in the table of a study are of other settings than are asked for now, in words; None where they are not, or there is no table."""
    path = Path(asked.folder) / "tables/runs.parquet"
    if not path.is_file():
        return None
    joined = runs.beside(pd.DataFrame(asked.rows()), tables.read(path, "runs").drop_duplicates(runs.KEY))
    known = joined[joined["settings_sha256"].notna()]
    other = known[known["settings_sha256"] != known["settings_sha256_asked"]]
    if other.empty:
        return None
    told = files.some(sorted(set(other["task"])))
    return f"{len(other):,} runs of these tables are of other settings than the configuration and its tables ask for now ({told}). {ANEW}"


def outdated(asked: study.Study) -> dict[str, str]:
    """The jobs that have run and are computed anew, and why: evaluations by their path, others by the file that they make.

    Files of other sources are not looked for where a branch of a hub has no commit yet, or a path is gone.
    """
    try:
        other = opening.read(asked.given).of_other
    except configuration.ConfigError:
        other = []
    trained = [path for path in other if path.startswith(estimate.TRAINED)]
    there = pd.DataFrame(asked.rows(asked.stored(asked.jobs)))
    again = {} if there.empty else missing.outdated(there, other)
    return again | dict.fromkeys(trained, "made of something else than is asked for now")


def _refuse_other_call(folder: Path, names: list[str], said: Mapping[str, Any]) -> None:
    """Every table is the one that the provenance of the study was written of."""
    listed = {entity["@id"]: entity.get("sha256") for entity in said["@graph"]}
    paths = [f"tables/{name}.parquet" for name in names]
    if other := [path for path in paths if listed.get(path) != files.sha256_file(folder / path)]:
        raise errors.UserError(
            f"{files.some([f'{folder}/{path}' for path in other])}: not the tables that {folder / crate.NAME} was written of. They are of "
            f"different calls, or copied. {AGAIN}"
        )


def _refuse_other_configuration(asked: study.Study, said: Mapping[str, Any]) -> None:
    if other := _changed(asked, said):
        raise errors.UserError(
            f"The tables of the study {asked.name!r} were made with another configuration ({', '.join(other)}) than it has now. {AGAIN} Or "
            "name the configuration that it was run with: CONFIG=… (without make: --config)."
        )


def _changed(asked: study.Study, said: Mapping[str, Any]) -> list[str]:
    """The keys of the configuration, or what the files that they name say, that are others now than a study's provenance says."""
    entity = next((entity for entity in said["@graph"] if entity["@id"] == "#configuration"), None)
    then, now = json.loads(entity["text"]) if entity else {}, json.loads(asked.deciding())
    other = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    return [
        f"what the file of {name.removesuffix(deciding.DIGEST)} says" if name.endswith(deciding.DIGEST) else name
        for name in other
    ]


def _refuse_other_tolerances(asked: study.Study, knees: pd.DataFrame) -> None:
    if other := asked.other_tolerances(knees.to_dict("records")):
        raise errors.UserError(
            f"The tables of the study {asked.name!r} were read with another value of {files.some(other)} than the configuration says now. {AGAIN}"
        )


def _tabulated(name: str, rows: pd.DataFrame, found: pd.DataFrame, missing: pd.DataFrame) -> pd.DataFrame:
    """The rows of the grid whose runs are in the tables; all others are told as missing."""
    asked, there, lost = (pd.MultiIndex.from_frame(frame[runs.KEY]) for frame in (rows, found, missing))
    told = [(there.union(lost).unique().difference(asked), "that its configuration does not ask for")]
    told += [(asked.difference(there.union(lost)), "too few")]
    for other, what in told:
        if len(other):
            first = ", ".join(map(str, other[0]))
            raise errors.UserError(
                f"The tables of the study {name!r} have {len(other):,} runs {what} ({first}, …). {AGAIN}"
            )
    return rows[asked.isin(there)]


def _refuse_other_sources(asked: study.Study) -> None:
    """Runs say of which manifests and tickets they are; these are of what the configuration asks for now."""
    if other := asked.of_other:
        raise errors.UserError(f"{files.some(other)}: {logs.CHANGED}; and so is what was made of it. {ANEW}")


def _compared(grid: pd.DataFrame, found: pd.DataFrame) -> list[str]:
    """Other code is told; other settings, weights, data, calibrations and tickets are refused, and so is what cannot be compared."""
    for column in ("checkpoint", "dataset", "calibration", "ticket", "items"):
        for path in grid[column].dropna().unique():
            if not os.path.isfile(path):
                raise errors.UserError(f"{path} is not there: runs of the tables were made of it, or with it. {ANEW}")
    joined = runs.beside(grid, found)
    joined = joined.assign(why=runs.differing(joined))
    other = {what for why in joined["why"].unique() for what in why.split(", ") if what}
    if other - {"code"}:
        stale = joined[~joined["why"].isin(["", "code"])]
        raise errors.UserError(
            f"{stale['run'].nunique():,} runs of the tables were made of other {' and '.join(sorted(other - {'code'}))} than the configuration "
            f"asks for now, such as {stale['run'].iloc[0]}. {ANEW}"
        )
    return ["The code that evaluates has changed since some runs were computed."] if other else []


def _mixed(found: pd.DataFrame) -> list[str]:
    """What a configuration allows with `mixed_runs: warn` is told."""
    counts = found.groupby(["model", "task"])[list(runs.MIXED)].nunique()
    curves = [" on ".join(key) for key in counts.index[(counts > 1).any(axis=1)]]
    told = [f"Several versions of libraries or types of device computed {files.some(curves)}."] if curves else []
    if several := runs.mixed_hardware(found):
        told.append(f"Different hardware, {runs.OTHERWISE}, computed {files.some(several)}.")
    return told
