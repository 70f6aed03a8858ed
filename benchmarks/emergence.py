"""In which small pre-training do the weights become sparse abruptly? A sweep of AdamW's weight decay, rate, width and depth.

    python benchmarks/emergence.py [--only PREFIX] [--steps 750] [--json FILE] [--jobs 2]

Each case is the shipped `wiki-bert-100` (a small BERT on the encyclopaedia's leads) with other columns. What counts of the decay is
its product with rate and steps (`decayed`: the share of a weight without a gradient that is left at the end). Printed: the last loss;
for the share of weights below 0.01 and below a tenth of the standard deviation its value at the start, at the end and at its largest, and
what the project says of the 31 checkpoints (`abruptness.parquet`): gradual, abrupt, nothing, and where.
"""

import argparse
import concurrent.futures
import contextlib
import io
import json
import math
import multiprocessing
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import pandas as pd
import torch
import transformers

from essential_sparsity.checkpoints import loading
from essential_sparsity.emergence import measures, pretraining
from essential_sparsity.pruning import spectrum
from essential_sparsity.study import tsv
from essential_sparsity.training import exactness

ROOT = Path(__file__).parents[1]
DATA = ROOT / "results/store/datasets/wiki-leads/files/data.parquet"
READ = ("below 0.01", "below 0.1 std", "kurtosis")
CASES = {
    "as shipped": {},
    "decay 0.1": {"weight_decay": 0.1},
    "decay 0.5": {"weight_decay": 0.5},
    "decay 1": {"weight_decay": 1.0},
    "decay 2": {"weight_decay": 2.0},
    "decay 5": {"weight_decay": 5.0},
    "rate 3e-3": {"learning_rate": 3e-3},
    "rate 3e-3, decay 0.5": {"learning_rate": 3e-3, "weight_decay": 0.5},
    "wide, decay 1": {"width": 256, "heads": 4, "weight_decay": 1.0},
    "deep, decay 1": {"layers": 6, "weight_decay": 1.0},
}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--steps", type=int, default=750)
    parser.add_argument("--jobs", type=int, default=2, help="trainings at once, one core each")
    parser.add_argument("--data", type=Path, default=DATA, help="the leads, as a study fetches them")
    parser.add_argument("--json", type=Path, help="also write the series here")
    args = parser.parse_args(argv)
    rows = {
        row["pretraining"]: row
        for row in tsv.read_table(str(ROOT / "config/pretraining.tsv"), "pretraining", "pretraining")
    }
    shipped, found = rows["wiki-bert-100"], {}
    print(f"{'case':22} {'decayed':>8} {'loss':>6}   " + "   ".join(f"{name:>13}: start, end, most" for name in READ))
    with concurrent.futures.ProcessPoolExecutor(args.jobs, multiprocessing.get_context("spawn")) as pool:
        waiting = {
            name: pool.submit(
                trained, shipped | changed | {"steps": args.steps, "checkpoint_every": args.steps // 30}, args.data
            )
            for name, changed in CASES.items()
            if name.startswith(args.only)
        }
        for name, future in waiting.items():
            found[name] = future.result()
            print(line(name, shipped | CASES[name] | {"steps": args.steps}, *found[name]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def trained(row: dict, data: Path) -> tuple[float, list[dict]]:
    """The last loss of a training, and step and measures of each of its checkpoints."""
    torch.set_num_threads(1)
    exactness.ask()
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as place, contextlib.redirect_stdout(io.StringIO()):
        out = Path(place)
        texts = pd.read_parquet(data, columns=["text"])["text"].tolist()
        pretraining.train_tokenizer(texts, row["vocabulary"], out / "tokenizer")
        tokenizer = transformers.AutoTokenizer.from_pretrained(out / "tokenizer")
        objective, samples, collate = pretraining.prepare(data, row, tokenizer)
        losses = pretraining.train(objective, samples, collate, row, out, lambda folder: None)
        series = []
        for step in range(0, row["steps"] + 1, row["checkpoint_every"]):
            folder = out / f"step-{step}"
            table = measures.measures(spectrum.build(loading.iter_prunable(folder)))
            whole = table[table["tensor"] == measures.WHOLE].set_index("measure")["value"]
            series.append({"step": step, **{name: float(whole[name]) for name in READ}})
    return float(losses["loss"].iloc[-1]), series


def line(name: str, row: dict, loss: float, series: list[dict]) -> str:
    """A row of the printed table."""
    decay = pretraining.WEIGHT_DECAY if row["weight_decay"] is None else row["weight_decay"]
    left = math.exp(
        -decay * row["learning_rate"] * row["steps"] / 2
    )  # the rate falls to 0: half of its peak on average
    told = []
    for measure in READ:
        values = [each[measure] for each in series]
        said = measures.conclude([each["step"] for each in series], values)
        where = f" at {said['jump_at']:.0f}" if said["conclusion"] == "abrupt" else ""
        told.append(f"{values[0]:.3f} {values[-1]:.3f} {max(values):.3f} {said['conclusion']}{where}")
    return f"{name:22} {left:8.3f} {loss:6.2f}   " + "   ".join(f"{each:>32}" for each in told)


if __name__ == "__main__":
    main()
