"""Compare the masks of neighbouring checkpoints of one training: one-shot, and lottery tickets where both have them."""

import argparse
import json
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.emergence import neighbours, poison
from essential_sparsity.pruning import packed
from essential_sparsity.study import study


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--line", required=True, help="the training whose checkpoints are compared")
    parser.add_argument(
        "--store", required=True, type=Path, help="folder that holds checkpoints, fingerprints, tickets"
    )
    parser.add_argument("--out", required=True, help="rows of the table similarity to write")
    args = parser.parse_args(argv)
    asked = study.read(args.study)
    members, tickets = asked.lines[args.line], asked.shared_tickets(args.line)
    names = [member["model"] for member in members]
    marks = {name: tables.read(args.store / f"fingerprints/{name}.parquet", "fingerprints") for name in names}
    marked = poison.marks(members, marks)
    for model, reason in sorted(marked.items()):
        print(f"{model} is left out: it has {reason}")

    def read(model: str) -> neighbours.Held:
        masks = packed.Masks(args.store, model, asked.mask_levels, {0}, asked.models[model]["allow_pickle"])
        wanted = [(level, neighbours.ONE_SHOT) for level in asked.mask_levels]
        wanted += [(level, ("lth", task, seed)) for owner, task, seed, level in tickets if owner == model]
        return neighbours.Held(masks.weights, {key: masks.bits(*key) for key in wanted})

    kept = [member for member in members if member["model"] not in marked]
    frames = [tables.empty("similarity"), *neighbours.compared(kept, read)]
    tables.write(pd.concat(frames), "similarity", args.out)
    print(f"{len(kept)} checkpoints compared, each with the one before it")


if __name__ == "__main__":
    cli.run(main)
