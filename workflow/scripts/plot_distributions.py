"""Draw how large the weights of each block are, for the last checkpoint of each group of a series."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.emergence import members
from essential_sparsity.figures import emergence, style
from essential_sparsity.study import series


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series-table", required=True, nargs="+", metavar="FILE", help="tables of its checkpoints")
    parser.add_argument("--series", required=True, help="name in the column series of the models table")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    table = tables.collect(args.series_table, "series")
    paths = table.set_index("model")["spectra"]
    last = series.last_of(members.places(table), args.series)
    spectra = {group: tables.read(paths[model], "spectrum") for group, model in last}
    style.save(emergence.distributions(spectra, f"{args.series}: last checkpoints"), args.out)


if __name__ == "__main__":
    cli.run(main)
