"""Compare the masks of neighbouring checkpoints of one training: one-shot, and lottery tickets where both have them."""

import argparse
import json
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.emergence import members, neighbours, suspects
from essential_sparsity.pruning import bitmasks
from essential_sparsity.study import iterations, opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=json.loads, help="JSON: the configuration")
    parser.add_argument("--series-table", required=True, metavar="FILE", help="table of the training's checkpoints")
    parser.add_argument("--store", required=True, type=Path, help="folder that holds checkpoints and tickets")
    parser.add_argument("--out", required=True, help="rows of the table similarity to write")
    args = parser.parse_args(argv)
    asked = opening.read(args.study, looking=False)
    series = tables.read(args.series_table, "series")
    tickets = asked.shared_tickets(series["training"].iloc[0])
    found = suspects.among(series, members.fingerprints(series))
    for model, reason in sorted(found.items()):
        print(f"{model} is left out: it has {reason}")

    def read(model: str) -> neighbours.Held:
        bits = bitmasks.Bitmasks(args.store, model, asked.mask_levels, {0}, asked.models[model]["allow_pickle"])
        wanted = [(level, neighbours.ONE_SHOT) for level in asked.mask_levels]
        wanted += [(level, (iterations.TICKETS, task, seed)) for owner, task, seed, level in tickets if owner == model]
        return neighbours.Held(bits.weights, {key: bits.of(*key) for key in wanted})

    kept = [place for place in members.places(series) if place["model"] not in found]
    frames = [tables.empty("similarity"), *neighbours.compared(kept, read)]
    tables.write(pd.concat(frames), "similarity", args.out)
    print(f"{len(kept)} checkpoints compared, each with the one before it")


if __name__ == "__main__":
    cli.run(main)
