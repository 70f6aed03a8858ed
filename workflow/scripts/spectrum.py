"""Write magnitude spectrum and fingerprints of one checkpoint: its prunable weights are read once, tensor by tensor."""

import argparse
from collections.abc import Iterator

import pandas as pd

from essential_sparsity import checkpoints, cli, fingerprints, spectrum, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", required=True, help="manifest.json of the checkpoint")
    parser.add_argument("--out", required=True, help="table of the spectrum to write")
    parser.add_argument("--fingerprints", required=True, help="table of the fingerprints to write")
    parser.add_argument("--allow-pickle", action="store_true", help="read a pickle checkpoint, with weights_only")
    args = parser.parse_args(argv)
    folder, marks = checkpoints.verified_folder(args.manifest), []

    def weights() -> Iterator:
        for weight, values in checkpoints.iter_prunable(folder, allow_pickle=args.allow_pickle):
            marks.append(fingerprints.of_tensor(weight, values))
            yield weight, values

    frame = spectrum.build(weights())
    tables.write(pd.concat(marks), "fingerprints", args.fingerprints)
    tables.write(frame, "spectrum", args.out)
    print(f"{args.out}: magnitudes of {frame['count'].sum():,} weights in {frame['tensor'].nunique()} matrices")


if __name__ == "__main__":
    cli.run(main)
