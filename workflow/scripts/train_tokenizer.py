"""Train the tokenizer of a pre-training on all texts of its data set, once for all fractions and seeds."""

import argparse
from pathlib import Path

from essential_sparsity import cli
from essential_sparsity.checkpoints import loading
from essential_sparsity.emergence import corpus, pretraining


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="manifest.json of the data set")
    parser.add_argument("--size", type=int, required=True, help="tokens")
    parser.add_argument(
        "--out", required=True, type=Path, help="tokenizer.json to write; its configuration goes beside it"
    )
    args = parser.parse_args(argv)
    data = corpus.Corpus(loading.verified_folder(args.data) / "data.parquet")
    pretraining.train_tokenizer(data.texts(), args.size, args.out.parent)


if __name__ == "__main__":
    cli.run(main)
