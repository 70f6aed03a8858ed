"""Count where the pruned weights of each level sit, per matrix, from the stored spectra. Reads no weights."""

import argparse
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, patterns, tables
from essential_sparsity.pruning import masks


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, help="table of the grid")
    parser.add_argument("--spectra", required=True, type=Path, help="folder of the spectra: {model}.parquet")
    parser.add_argument("--sparsity", required=True, type=float, help="counted under `global` whatever the grid has")
    parser.add_argument("--missing", choices=["stop", "skip"], default="stop", help="what models without a spectrum do")
    parser.add_argument(
        "--other", nargs="*", default=[], help="models whose spectrum is of another checkpoint than is asked for"
    )
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    grid = tables.read(args.grid, "grid")
    known = {name for name in grid["pattern"].unique() if name != "dense" and patterns.find(name).in_spectrum}
    levels = grid.loc[grid["pattern"].isin(known), ["model", "pattern", "sparsity"]]
    always = grid[["model"]].drop_duplicates().assign(pattern="global", sparsity=args.sparsity)
    levels = pd.concat([levels, always]).drop_duplicates()
    frames = [tables.empty("layers")]
    for model, rows in levels.groupby("model"):
        path = args.spectra / f"{model}.parquet"
        if model in args.other:
            print(f"{model} is left out: its checkpoint is of something else than is asked for now")
            continue
        if args.missing == "skip" and not path.is_file():
            print(f"{model} is left out: {path} is not there")
            continue
        spectrum = tables.read(path, "spectrum")
        for pattern, sparsity in sorted(zip(rows["pattern"], rows["sparsity"], strict=True)):
            counts = masks.pruned_counts(spectrum, pattern, sparsity)
            rate, share = counts["pruned"] / counts["n"], counts["pruned"] / max(counts["pruned"].sum(), 1)
            frames.append(counts.assign(model=model, pattern=pattern, sparsity=sparsity, rate=rate, share=share))
    tables.write(pd.concat(frames), "layers", args.out)


if __name__ == "__main__":
    cli.run(main)
