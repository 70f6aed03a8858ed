"""Write which checkpoints of a training are studied, and in which files that which was measured of them stands."""

import argparse
import json

from essential_sparsity import cli, tables
from essential_sparsity.emergence import members


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--members", required=True, type=json.loads, help="JSON: [{series, group, line, model, axis, position}, …]"
    )
    parser.add_argument("--results", required=True, help="folder that holds spectra and fingerprints")
    parser.add_argument("--losses", help="loss table of the training, where it was trained here")
    parser.add_argument("--out", required=True, help="table series to write")
    args = parser.parse_args(argv)
    tables.write(members.tabulated(args.members, args.results, args.losses), "series", args.out)


if __name__ == "__main__":
    cli.run(main)
