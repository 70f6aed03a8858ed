"""Draw how alike the masks of one model are over sparsity, beside what chance gives."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.figures import style, tickets


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--similarity", required=True, help="table of similarity")
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--label", help="name of the model in the title (default: its row's name)")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    table = tables.read(args.similarity, "similarity")
    style.save(tickets.similarity(table, args.model, args.label), args.out)


if __name__ == "__main__":
    cli.run(main)
