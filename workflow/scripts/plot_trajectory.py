"""Draw the measures of one series of checkpoints over its steps, beside the training loss."""

import argparse

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.figures import emergence, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectory", required=True, help="table of measures")
    parser.add_argument("--abruptness", required=True, help="table of conclusions")
    parser.add_argument("--losses", nargs="*", default=[], help="LINE=FILE: the loss table of a line's pre-training")
    parser.add_argument("--series", required=True, help="name in the column series of the models table")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    losses = [tables.empty("losses").assign(line="")]
    for entry in args.losses:
        line, path = entry.split("=", 1)
        losses.append(tables.read(path, "losses").assign(line=line))
    trajectory, abruptness = tables.read(args.trajectory, "trajectory"), tables.read(args.abruptness, "abruptness")
    style.save(emergence.trajectory(trajectory, abruptness, pd.concat(losses), args.series), args.out)


if __name__ == "__main__":
    cli.run(main)
