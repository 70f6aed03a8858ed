"""Draw how large the weights of each block are, for the last checkpoint of each group of a series."""

import argparse

from essential_sparsity import cli, tables
from essential_sparsity.figures import emergence, style


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spectra", nargs="+", required=True, help="GROUP=FILE: the spectrum of its checkpoint")
    parser.add_argument("--series", required=True, help="name of the series, for the title")
    parser.add_argument("--out", required=True, help="figure to write: .svg, .png or .pdf")
    args = parser.parse_args(argv)
    pairs = [entry.split("=", 1) for entry in args.spectra]
    spectra = {group: tables.read(path, "spectrum") for group, path in pairs}
    style.save(emergence.distributions(spectra, f"{args.series}: last checkpoints"), args.out)


if __name__ == "__main__":
    cli.run(main)
