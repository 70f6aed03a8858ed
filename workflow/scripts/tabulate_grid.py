"""Write the grid of a study as a table: one row per run, with its files and what they must have been made of."""

import argparse
import json

import pandas as pd

from essential_sparsity import cli, errors, tables
from essential_sparsity.study import opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--digest", required=True, help="digest of the grid that is asked for")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    asked = opening.read(args.study)
    if asked.digest() != args.digest:
        raise errors.UserError(
            "The configuration, its tables or the code changed while the workflow was starting. Run again."
        )
    tables.write(pd.DataFrame(asked.rows()), "grid", args.out)
    print(f"{args.out}: {len(asked.rows()):,} runs in {len(asked.jobs):,} jobs")


if __name__ == "__main__":
    cli.run(main)
