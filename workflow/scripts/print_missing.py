"""Print which runs of a study are missing, why, and where to look. Prints nothing where none is."""

import argparse
from pathlib import Path

from essential_sparsity import cli, tables
from essential_sparsity.figures import summary


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the study: results/{study}")
    args = parser.parse_args(argv)
    path = args.folder / "tables/missing_runs.parquet"
    knees = tables.read(args.folder / "tables/knees.parquet", "knees")
    for line in summary.missing_lines(tables.read(path, "missing_runs"), knees, path):
        print(line)


if __name__ == "__main__":
    cli.run(main)
