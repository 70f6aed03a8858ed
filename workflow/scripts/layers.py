"""Count where the pruned weights of each level sit, per matrix, from the stored spectra. Reads no weights."""

import argparse
import json
from itertools import groupby
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, grid, masks, tables


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help='JSON: {"grid": blocks, "levels_per_job": {…}}')
    parser.add_argument("--spectra", required=True, type=Path, help="folder of the spectra: {model}.parquet")
    parser.add_argument(
        "--drawn", required=True, help="the sparsity of pattern global that figures show, in the grid or not"
    )
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    jobs = grid.expand(args.grid["grid"], args.grid["levels_per_job"])
    levels = {(job.model, job.pattern, name) for job in jobs if job.pattern != "dense" for name in job.levels}
    levels = sorted(levels | {(job.model, "global", args.drawn) for job in jobs})
    frames = [tables.empty("layers")]
    for model, of_model in groupby(levels, key=lambda level: level[0]):
        spectrum = tables.read(args.spectra / f"{model}.parquet", "spectrum")
        for _, pattern, name in of_model:
            counts = masks.pruned_counts(spectrum, pattern, float(name))
            rate, share = counts["pruned"] / counts["n"], counts["pruned"] / max(counts["pruned"].sum(), 1)
            frames.append(counts.assign(model=model, pattern=pattern, sparsity=float(name), rate=rate, share=share))
    tables.write(pd.concat(frames), "layers", args.out)


if __name__ == "__main__":
    cli.run(main)
