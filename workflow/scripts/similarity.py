"""Compare masks: one-shot against lottery ticket, tickets of two tasks, tickets of two seeds."""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from essential_sparsity import chains, checkpoints, cli, files, grid, masks, similarity, tables, tickets


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grid", required=True, type=json.loads, help="JSON: the grid, as grid.expand takes it")
    parser.add_argument("--results", required=True, type=Path, help="folder that holds checkpoints, spectra, tickets")
    parser.add_argument("--allow-pickle", nargs="*", default=[], help="models that may be read from a pickle")
    parser.add_argument("--out", required=True, help="table to write")
    args = parser.parse_args(argv)
    asked = defaultdict(lambda: defaultdict(list))  # model -> sparsity -> pairs
    for model, sparsity, *pair in chains.pairs(grid.expand(**args.grid)):
        asked[model][sparsity].append(pair)
    frames = [tables.empty("similarity")]
    for model, levels in asked.items():
        frames += compared(args.results, model, levels, model in args.allow_pickle)
    tables.write(pd.concat(frames), "similarity", args.out)


def compared(results: Path, model: str, levels: dict[str, list], allow_pickle: bool) -> list[pd.DataFrame]:
    """Rows of all pairs of one model; at any time only the masks of one sparsity are held, packed."""
    manifest = results / f"checkpoints/{model}/manifest.json"
    weights = list(checkpoints.iter_prunable(checkpoints.verified_folder(manifest), allow_pickle=allow_pickle))
    spectrum = tables.read(results / f"spectra/{model}.parquet", "spectrum")
    seeds = {seed for pairs in levels.values() for _, *pair in pairs for _, task, seed in pair if not task}
    plans = {seed: masks.plan("global", weights, [float(name) for name in levels], seed, spectrum) for seed in seeds}
    made = {"model": model, "weights_sha256": files.read_json(manifest)["weights_sha256"]}
    rows = []
    for sparsity, pairs in levels.items():
        wanted = {mask for _, *pair in pairs for mask in pair}
        held = {mask: packed(mask, sparsity, plans, results / "tickets", made) for mask in wanted}
        for between, a, b in pairs:
            key = {"model": model, "between": between, "sparsity": float(sparsity)}
            for side, (pattern, task, seed) in (("a", a), ("b", b)):
                key |= {f"pattern_{side}": pattern, f"task_{side}": task, f"seed_{side}": seed}
            rows.append(similarity.compare([weight for weight, _ in weights], held[a], held[b]).assign(**key))
    return rows


def packed(mask: chains.Mask, sparsity: str, plans: dict, folder: Path, made: dict) -> dict[str, np.ndarray]:
    """A mask's bits by tensor: of the one-shot mask from its plan, of a ticket from its file."""
    _, task, seed = mask
    if not task:
        return {name: tickets.pack(found) for name, found in plans[seed].masks(float(sparsity))}
    path = folder / f"{chains.path((made['model'], task, seed, sparsity))}.safetensors"
    return tickets.read(path, made | {"task": task, "seed": seed, "sparsity": float(sparsity)}).bits


if __name__ == "__main__":
    cli.run(main)
