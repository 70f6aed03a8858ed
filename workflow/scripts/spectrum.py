"""Write the magnitude spectrum of one checkpoint: its prunable weights are read once, tensor by tensor."""

import argparse

from essential_sparsity import checkpoints, cli, spectrum, tables


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--out", required=True, help="Parquet file to write")
    args = parser.parse_args(argv)
    folder = checkpoints.verified_folder(args.manifest)
    tables.write(spectrum.build(checkpoints.iter_prunable(folder)), "spectrum", args.out)


if __name__ == "__main__":
    cli.run(main)
