"""Write the knees as a table for the report: rounded, sorted, one line per curve."""

import argparse

from essential_sparsity import cli, files, tables
from essential_sparsity.figures import summary


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--out", required=True, help="CSV file to write")
    args = parser.parse_args(argv)
    with files.atomic(args.out) as temporary:
        summary.report_table(tables.read(args.knees, "knees")).to_csv(temporary, index=False)


if __name__ == "__main__":
    cli.run(main)
