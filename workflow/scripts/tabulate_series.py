"""Write which checkpoints of a training are studied, and in which files that which was measured of them stands."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.emergence import members
from essential_sparsity.study import opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--training", required=True, help="the training whose checkpoints are studied")
    parser.add_argument("--store", required=True, help="folder that holds spectra and fingerprints")
    parser.add_argument("--out", required=True, help="table series to write")
    args = parser.parse_args(argv)
    asked = opening.read(args.study, looking=False)
    found = members.tabulated(asked.trainings[args.training], args.store, asked.losses(args.training))
    tables.write(found, "series", args.out)


if __name__ == "__main__":
    cli.run(main)
