"""Write the pruned checkpoint of a run of a finished study as a folder that transformers loads, with its masks and a model card.

make export STUDY=demo MODEL=minilm PATTERN=global SPARSITY=essential TASK=ws353
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # as in prune_eval.py: the model is pruned as it was evaluated
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

from essential_sparsity import cli
from essential_sparsity.runs import chosen, exporting
from essential_sparsity.study import records
from essential_sparsity.tables import crate


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="make export MODEL=… PATTERN=… SPARSITY=… [STUDY=… | CONFIG=…] [TASK=…] [SEED=…] [TRAIN=true]",
    )
    parser.add_argument("--config", nargs="+", default=[], help="files whose keys replace those of config/config.yaml")
    parser.add_argument("--study", help="name of the study (default: that of the configuration)")
    parser.add_argument("--model", required=True, help="row of the models table")
    parser.add_argument("--pattern", required=True, help="global, wanda, nm4, …")
    parser.add_argument("--sparsity", required=True, help="a level that was measured, or essential")
    parser.add_argument("--task", help="whose curve is meant, where the model has several")
    parser.add_argument("--seed", type=int, help="which run, where there are several (default: the first seed)")
    parser.add_argument(
        "--train", choices=["true"], help="runs that fine-tune: train once more, and write the trained model"
    )
    args = parser.parse_args(argv)
    config = chosen.configured(args.study, args.config)
    run = chosen.choose(config, args.model, args.pattern, args.sparsity, args.task, args.seed)
    used = {run.row[column] for column in ("checkpoint", "dataset", "calibration")}
    for sentence in (*run.said, *records.not_compared(run.study, used)):
        print(sentence)
    train = args.train is not None
    made = exporting.export(run, crate.commit_of(Path(__file__).parents[2]), train)
    print("\n".join(exporting.lines(run, made, train)))


if __name__ == "__main__":
    cli.run(main)
