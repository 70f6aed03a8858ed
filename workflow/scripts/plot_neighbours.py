"""Draw how alike the masks of neighbouring checkpoints of a series are, beside what chance gives."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.figures import emergence, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--similarity", required=True, help="table of similarity")
    parser.add_argument("--series", required=True, help="name in the column series of the models table")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    table = tables.read(args.similarity, "similarity")
    style.save(emergence.neighbours(table, args.series), args.out)


if __name__ == "__main__":
    cli.run(main)
