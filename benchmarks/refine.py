"""Refinement against the uniform grid, on the packaged models: the same knee from how many evaluations?

    python benchmarks/refine.py [--json FILE] [--only MODEL]

Run `make demo` first: its checkpoints and data are used. Every level of the uniform grid of width 0.02 is evaluated
once; refinement then starts from its levels at 0.1, 0.2, … and asks for more, round by round, as `make refine` does.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import pandas as pd
import yaml

from essential_sparsity import files
from essential_sparsity.checkpoints import loading
from essential_sparsity.curves import knees
from essential_sparsity.runs import evaluation
from essential_sparsity.study import grid, refinement, tsv

ROOT = Path(__file__).parents[1]
WIDTH = 0.02
MOST_ROUNDS, MOST_LEVELS = 6, 40
CURVES = [  # model, task, pattern, last level, step of the coarse grid
    ("minilm", "ws353", "global", 0.9, 0.1),
    ("minilm", "ws353", "layerwise", 0.9, 0.1),
    ("smollm2", "wiki-ppl", "global", 0.4, 0.1),
]


def uniform(model, task, pattern, last):
    """The tables `runs` and `items` of one curve on the uniform grid."""
    _, tasks, _ = tsv.read_tables(yaml.safe_load((ROOT / "config/config.yaml").read_text()))
    manifest = ROOT / "results/store/checkpoints" / model / "manifest.json"
    data = ROOT / "results/store/datasets" / tasks[task]["dataset"] / "manifest.json"
    runs, items = [], []
    for which, levels in (("dense", [0.0]), (pattern, [i * WIDTH for i in range(1, round(last / WIDTH) + 1)])):
        found = evaluation.evaluate(
            loading.verified_folder(manifest),
            pd.read_parquet(loading.verified_folder(data) / "data.parquet"),
            tasks[task],
            which,
            [round(level, 3) for level in levels],
            0,
        )
        key = {"model": model, "task": task, "pattern": which, "seed": 0}
        for level, outcome in found:
            runs.append(
                evaluation.run_rows(level, outcome, files.read_json(manifest), tasks[task]["protocol"]).assign(**key)
            )
            items.append(outcome.items.assign(sparsity=level.sparsity, **key))
    return pd.concat(runs, ignore_index=True), pd.concat(items, ignore_index=True)


def refined(runs, items, step):
    """The runs that refinement would have made, taken from those of the uniform grid."""
    name = runs["sparsity"].map(grid.level)
    chosen, rounds = {grid.level(i * step) for i in range(round(1 / step))}, []
    while True:
        seen = runs[name.isin(chosen)]
        kept = items[items["sparsity"].isin(seen["sparsity"])]
        table = knees.table(seen, lambda _, kept=kept: kept)[0]
        added = refinement.next_round(seen, table, WIDTH, MOST_ROUNDS, MOST_LEVELS, before=rounds)
        if not added:
            return seen
        rounds.append(added)
        chosen |= {level for entry in added for level in entry["levels"]}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--only", default="", help="only the models whose name starts so")
    args = parser.parse_args(argv)
    if not (ROOT / "results/demo/tables/knees.parquet").is_file():
        sys.exit("Run `make demo` first: its checkpoints and data are used.")
    print(f"{'curve':28} {'uniform':>26} {'refined':>26} {'levels':>8} {'share':>6}")
    rows = []
    for model, task, pattern, last, step in (curve for curve in CURVES if curve[0].startswith(args.only)):
        runs, items = uniform(model, task, pattern, last)
        found = {}
        for which, seen in (("uniform", runs), ("refined", refined(runs, items, step))):
            kept = items[items["sparsity"].isin(seen["sparsity"])]
            row = knees.table(seen, lambda chosen, kept=kept: kept)[0].iloc[0]
            found[which] = {
                name: row[name] for name in ("essential_sparsity", "essential_sparsity_low", "essential_sparsity_high")
            }
            found[which]["evaluations"] = seen["sparsity"].nunique()
        texts = [
            "{essential_sparsity:.3f} [{essential_sparsity_low}, {essential_sparsity_high}]".format(
                **{k: round(v, 3) if isinstance(v, float) else v for k, v in part.items()}
            )
            for part in found.values()
        ]
        counts = [part["evaluations"] for part in found.values()]
        print(
            f"{f'{model} {task} {pattern}':28} {texts[0]:>26} {texts[1]:>26} {counts[1]:>3} / {counts[0]:>2} "
            f"{counts[1] / counts[0]:6.0%}",
            flush=True,
        )
        rows.append({"name": f"{model}_{task}_{pattern}", **found})
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
