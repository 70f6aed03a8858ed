"""Train the tokenizer of a pre-training on all texts of its data set, once for all fractions and seeds."""

import argparse
from pathlib import Path

import pandas as pd

from essential_sparsity import cli
from essential_sparsity.checkpoints import loading
from essential_sparsity.emergence import pretraining


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="manifest.json of the data set")
    parser.add_argument("--size", type=int, required=True, help="tokens")
    parser.add_argument(
        "--out", required=True, type=Path, help="tokenizer.json to write; its configuration goes beside it"
    )
    args = parser.parse_args(argv)
    data = pd.read_parquet(loading.verified_folder(args.data) / "data.parquet")
    pretraining.train_tokenizer(pretraining.texts(pretraining.subset(data, 1.0)), args.size, args.out.parent)


if __name__ == "__main__":
    cli.run(main)
