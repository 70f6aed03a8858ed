"""Gather the knees of all curves into one table, and compare those that differ in one column.

A curve that was fitted through other runs than those that are tabulated is refused by name; where what is there is tabulated
(`--missing skip`), that is a warning. Tables that are not of their own curve are always refused.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, errors, files, tables
from essential_sparsity.curves import comparisons

BOTH = [*comparisons.CURVE, "essential_sparsity", "bracket_low", "bracket_high"]  # what the tables of one fit agree in


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--runs", required=True, help="table of all runs")
    parser.add_argument("--curves", type=Path, required=True, help="folder of the tables of single curves: MODEL/TASK/")
    parser.add_argument("--missing", choices=["stop", "skip"], default="stop", help="what runs do that are not there")
    parser.add_argument("--compare", nargs="*", default=[], help="columns in which compared curves differ")
    parser.add_argument("--knees", required=True, help="table to write")
    parser.add_argument("--comparisons", required=True, help="table to write")
    args = parser.parse_args(argv)
    grid = tables.read(args.grid, "grid")[["model", "task", "pattern"]].drop_duplicates()
    patterns = {key: set(part["pattern"]) - {"dense"} for key, part in grid.groupby(["model", "task"])}
    folders = [args.curves / model / task for model, task in patterns]
    if strange := [str(folder / "knees.parquet") for folder in folders if _strange(folder, patterns)]:
        raise errors.UserError(
            f"{files.some(strange, 3)}: not of one fit of the curves of this folder: copied here, or edited. Delete these tables "
            "and run again."
        )
    if others := _of_other_runs(folders, tables.read(args.runs, "runs")):
        told = f"{files.some(others, 3)}: fitted through other runs than those of {args.runs}."
        if args.missing == "stop":
            raise errors.UserError(f"{told} Delete these tables and run again.")
        print(f"warning: {told}")
    tables.write(tables.collect([folder / "knees.parquet" for folder in folders], "knees"), "knees", args.knees)
    resamples = tables.collect([folder / "resamples.parquet" for folder in folders], "resamples")
    tables.write(comparisons.table(resamples, args.compare), "comparisons", args.comparisons)


def _strange(folder: Path, patterns: Mapping[tuple[str, str], set[str]]) -> bool:
    """Whether the tables in a folder are of other curves than its own, or not of one fit; `patterns`: those of (model, task)."""
    knees, resamples = (tables.read(folder / f"{name}.parquet", name) for name in ("knees", "resamples"))
    asked = {(*folder.parts[-2:], pattern) for pattern in patterns[folder.parts[-2:]]}
    found = set(knees[["model", "task", "pattern"]].itertuples(index=False, name=None))
    return found != asked or not knees[BOTH].equals(resamples[BOTH])


def _of_other_runs(folders: list[Path], runs: pd.DataFrame) -> list[str]:
    """The tables of knees whose own runs are not those of the table `runs`."""
    parts = {Path(*key): part.reset_index(drop=True) for key, part in runs.groupby(["model", "task"])}
    none = runs.iloc[:0].reset_index(drop=True)
    return [
        str(folder / "knees.parquet")
        for folder in folders
        if not tables.read(folder / "runs.parquet", "runs").equals(parts.get(Path(*folder.parts[-2:]), none))
    ]


if __name__ == "__main__":
    cli.run(main)
