"""Collect Snakemake's benchmark files (wall time, CPU time, memory of each job) into the table of costs of a study."""

import argparse
import json
from pathlib import Path

from essential_sparsity import cli, logs, tables
from essential_sparsity.study import opening
from essential_sparsity.tables import costs


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--benchmarks", required=True, type=Path, help="folder of the benchmark files, by rule")
    parser.add_argument("--logs", required=True, type=Path, help="folder of the logs, by rule")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    names = opening.read(args.study).benchmarks()
    paths = [path for name in names if (path := args.benchmarks / f"{name}.tsv").is_file()]
    if len(paths) < len(names):
        print(
            f"{len(names) - len(paths)} of {len(names)} jobs left no benchmark file; their costs are not in the table"
        )
    again = [
        path for path in paths if logs.found_before(args.logs / path.relative_to(args.benchmarks).with_suffix(".log"))
    ]
    if again:
        print(
            f"{len(again)} of {len(names)} jobs found results that were made before; what these took is not known any more, and "
            "not in the table"
        )
    paths = [path for path in paths if path not in again]
    tables.write(costs.table(paths, args.benchmarks), "costs", args.out)


if __name__ == "__main__":
    cli.run(main)
