"""Write magnitude spectrum and fingerprints of one checkpoint: its prunable weights are read once, tensor by tensor."""

import argparse

from essential_sparsity import cli
from essential_sparsity.pruning import measuring


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--out", required=True, help="table of the spectrum to write")
    parser.add_argument("--fingerprints", required=True, help="table of the fingerprints to write")
    parser.add_argument("--allow-pickle", action="store_true", help="read a pickle checkpoint, with weights_only")
    args = parser.parse_args(argv)
    frame = measuring.measure(args.manifest, args.out, args.fingerprints, args.allow_pickle)
    print(f"{args.out}: magnitudes of {frame['count'].sum():,} weights in {frame['tensor'].nunique()} matrices")


if __name__ == "__main__":
    cli.run(main)
