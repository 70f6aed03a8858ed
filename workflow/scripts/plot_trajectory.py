"""Draw the measures of one series of checkpoints over its steps, beside the training loss."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.emergence import members
from essential_sparsity.figures import emergence, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series-table", required=True, nargs="+", metavar="FILE", help="tables of its checkpoints")
    parser.add_argument("--trajectory", required=True, help="table of measures")
    parser.add_argument("--abruptness", required=True, help="table of conclusions")
    parser.add_argument("--series", required=True, help="name in the column series of the models table")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    losses = members.losses(tables.collect(args.series_table, "series"))
    trajectory, abruptness = tables.read(args.trajectory, "trajectory"), tables.read(args.abruptness, "abruptness")
    style.save(emergence.trajectory(trajectory, abruptness, losses, args.series), args.out)


if __name__ == "__main__":
    cli.run(main)
