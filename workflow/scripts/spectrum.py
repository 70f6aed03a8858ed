"""Write the magnitude spectrum of one checkpoint: its prunable weights are read once, tensor by tensor."""

import argparse

from essential_sparsity import checkpoints, cli, spectrum, tables


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--out", required=True, help="Parquet file to write")
    parser.add_argument("--allow-pickle", action="store_true", help="read a pickle checkpoint, with weights_only")
    args = parser.parse_args(argv)
    folder = checkpoints.verified_folder(args.manifest)
    frame = spectrum.build(checkpoints.iter_prunable(folder, allow_pickle=args.allow_pickle))
    tables.write(frame, "spectrum", args.out)
    print(f"{args.out}: magnitudes of {frame['count'].sum():,} weights in {frame['tensor'].nunique()} matrices")


if __name__ == "__main__":
    cli.run(main)
