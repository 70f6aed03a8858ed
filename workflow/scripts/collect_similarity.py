"""Gather the similarities of tickets and of neighbouring checkpoints in one table."""

import argparse

from essential_sparsity import cli, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", required=True, help="files with rows of the table similarity")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    tables.write(tables.collect(args.parts, "similarity"), "similarity", args.out)


if __name__ == "__main__":
    cli.run(main)
