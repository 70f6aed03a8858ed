"""Compare masks of one model: one-shot against lottery ticket, tickets of two tasks, tickets of two seeds."""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.pruning import bitmasks, similarity
from essential_sparsity.study import opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--store", required=True, type=Path, help="folder that holds checkpoints and tickets")
    parser.add_argument("--out", required=True, help="rows of the table similarity to write")
    args = parser.parse_args(argv)
    asked = opening.read(args.study, looking=False)
    wanted = defaultdict(lambda: defaultdict(list))  # model -> sparsity -> pairs
    for model, sparsity, *pair in asked.pairs:
        wanted[model][sparsity].append(pair)
    frames = [tables.empty("similarity")]
    for model, levels in wanted.items():
        frames += compared(args.store, model, levels, asked.models[model]["allow_pickle"])
    tables.write(pd.concat(frames), "similarity", args.out)


def compared(store: Path, model: str, levels: dict[str, list], allow_pickle: bool) -> list[pd.DataFrame]:
    """Rows of all pairs of one model; at any time only the masks of one sparsity are held, packed."""
    seeds = {seed for pairs in levels.values() for _, *pair in pairs for _, task, seed in pair if not task}
    bits = bitmasks.Bitmasks(store, model, list(levels), seeds, allow_pickle)
    rows = []
    for sparsity, pairs in levels.items():
        held = {mask: bits.of(sparsity, mask) for mask in {mask for _, *pair in pairs for mask in pair}}
        for between, a, b in pairs:
            key = similarity.key(between, sparsity, (model, *a), (model, *b))
            rows.append(similarity.compare(bits.weights, held[a], held[b]).assign(**key))
    return rows


if __name__ == "__main__":
    cli.run(main)
