"""Count where the pruned weights of each level sit, per matrix, from the stored spectra. Reads no weights."""

import argparse
import json
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.pruning import masks


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", required=True, type=json.loads, help='JSON: {"MODEL": {"PATTERN": ["0.500", …]}}')
    parser.add_argument("--spectra", required=True, type=Path, help="folder of the spectra: {model}.parquet")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    frames = [tables.empty("layers")]
    for model, patterns in args.levels.items():
        spectrum = tables.read(args.spectra / f"{model}.parquet", "spectrum")
        for pattern, levels in patterns.items():
            for sparsity in map(float, levels):
                counts = masks.pruned_counts(spectrum, pattern, sparsity)
                rate, share = counts["pruned"] / counts["n"], counts["pruned"] / max(counts["pruned"].sum(), 1)
                frames.append(counts.assign(model=model, pattern=pattern, sparsity=sparsity, rate=rate, share=share))
    tables.write(pd.concat(frames), "layers", args.out)


if __name__ == "__main__":
    cli.run(main)
