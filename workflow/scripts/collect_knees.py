"""Gather the knees of all curves into one table, and compare those that differ in one column."""

import argparse
from pathlib import Path

from essential_sparsity import cli, errors, tables
from essential_sparsity.curves import comparisons


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--curves", type=Path, required=True, help="folder of the tables of single curves: MODEL/TASK/")
    parser.add_argument("--missing", choices=["stop", "skip"], default="stop", help="what runs do that are not there")
    parser.add_argument("--compare", nargs="*", default=[], help="columns in which compared curves differ")
    parser.add_argument("--knees", required=True, help="table to write")
    parser.add_argument("--comparisons", required=True, help="table to write")
    args = parser.parse_args(argv)
    grid = tables.read(args.grid, "grid")[["model", "task"]].drop_duplicates().sort_values(["model", "task"])
    folders = [args.curves / model / task for model, task in grid.itertuples(index=False)]
    if args.missing == "stop":
        _refuse_incomplete(folders)
    tables.write(tables.collect([folder / "knees.parquet" for folder in folders], "knees"), "knees", args.knees)
    resamples = tables.collect([folder / "resamples.parquet" for folder in folders], "resamples")
    tables.write(comparisons.table(resamples, args.compare), "comparisons", args.comparisons)


def _refuse_incomplete(folders: list[Path]) -> None:
    """Curves that were fitted without some run while what was there was tabulated, and not anew since it came back."""
    for folder in folders:
        lost = tables.read(folder / "missing_runs.parquet", "missing_runs")
        if len(lost):
            first = lost.iloc[0]
            raise errors.UserError(
                f"{folder / 'knees.parquet'} was fitted without {first['run']}: {first['reason']} All runs are there now: "
                "delete that table and run again."
            )


if __name__ == "__main__":
    cli.run(main)
