"""Is a fine-tuned task trained to its plateau? A level of a study's model, trained for other epochs or in other batches.

    python benchmarks/epochs.py [--model minilm] [--task word-problems] [--epochs 8 16] [--batch 16] [--pattern global --sparsity 0.5]

Everything else is the row of config/tasks.tsv. The model and the data are those that a study has fetched into results/store
(`snakemake --cores 1 --configfile config/arithmetic.yaml -- fetch`). Printed: the headline metric of each, the standard error of
the items' mean score where that is the metric, and seconds. Of the word problems a run of eight epochs takes ten minutes of a core.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import torch

from essential_sparsity.checkpoints import loading
from essential_sparsity.curves.metrics import headline
from essential_sparsity.runs import evaluation
from essential_sparsity.study import configuration, grid, kinds, opening
from essential_sparsity.tasks import reading
from essential_sparsity.training import exactness


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="config/arithmetic.yaml", help="the study whose rows are meant")
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--task", default="word-problems")
    parser.add_argument("--epochs", type=float, nargs="+", default=[8, 16])
    parser.add_argument("--batch", type=int, help="items of a step (default: the row's)")
    parser.add_argument("--pattern", default="dense")
    parser.add_argument("--sparsity", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    asked = opening.read(configuration.read_config(configuration.BASE, args.config))
    settings = json.loads(asked.settings(args.task)) | {"task": args.task, "metrics": None, "allow_unused": ()}
    settings |= {"allow_pickle": bool(asked.models[args.model]["allow_pickle"])}
    settings |= {"batch_size": args.batch or settings["batch_size"]}
    folder = loading.verified_folder(f"{grid.STORE}/checkpoints/{args.model}/manifest.json")
    data = loading.verified_folder(f"{grid.STORE}/datasets/{settings['dataset']}/manifest.json") / "data.parquet"
    torch.set_num_threads(settings["threads"])
    exactness.ask()
    for epochs in args.epochs:
        started, given = time.monotonic(), settings | {"epochs": epochs}
        made = evaluation.evaluate(folder, reading.read(data), given, args.pattern, [args.sparsity], args.seed)
        ((_, outcome),) = made
        metric = headline(kinds.tabulated(asked.tasks[args.task]))
        value, scores = outcome.metrics[metric], outcome.items["score"].astype(float)
        error = f" ± {scores.sem():.2g}" if math.isclose(scores.mean(), value, abs_tol=1e-9) else ""
        print(
            f"{args.model} {args.task} {args.pattern} {args.sparsity:g}, {epochs:g} epochs in batches of {settings['batch_size']}: "
            f"{metric} {value:.4g}{error} ({len(scores)} items, {time.monotonic() - started:.0f} s)",
            flush=True,
        )


if __name__ == "__main__":
    main()
