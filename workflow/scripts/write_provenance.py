"""Write what a study was made of and made with, beside its tables: an RO-Crate."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, files, tables
from essential_sparsity.study import grid
from essential_sparsity.tables import crate


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--study", required=True, type=json.loads, help="JSON: the configuration, as far as it decides results"
    )
    parser.add_argument("--results", type=Path, nargs="+", required=True, help="tables and pages of the study")
    parser.add_argument("--manifests", type=Path, nargs="*", default=[], help="of its checkpoints and data sets")
    parser.add_argument("--out", type=Path, required=True, help="file to write, beside the folder of the tables")
    args = parser.parse_args(argv)
    runs = tables.read(next(path for path in args.results if path.stem == "runs"), "runs")
    folder = Path(grid.folder(args.study["study"]))
    commit = crate.commit_of(Path(__file__).parents[2])
    found = crate.crate(folder, args.study, args.results, args.manifests, runs, commit)
    files.write_json(args.out, found.metadata.generate())


if __name__ == "__main__":
    cli.run(main)
