"""Memory and time of a pre-training's texts, from their fetching on: does a BookCorpus fit?

    python benchmarks/tokens.py [--sentences 2e6] [--corpus 74e6] [--folder FOLDER] [--steps fetching …]

Makes a corpus of that many sentences of made-up words (13 of five bytes a sentence on average with the spaces, frequencies as
1 / rank: about the words, bytes and tokens a sentence that BookCorpus has, 985 million words and 4.9 GB in 74 million), fetches it,
trains the tokenizer on it and makes the samples of a pre-training, for all of it and for 60 %. Each step is a process of its own, on half of the sentences and on all of them: what a sentence adds to
its peak memory is the difference, from which follows what `--corpus` sentences take. One thread; processor seconds.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WORDS, MEAN, AT_ONCE = 50_000, 13, 1 << 20  # different words, words a sentence, rows written at once (as pandas does)
STEPS = ("fetching", "tokenizer", "samples", "samples of 60 %")


def made(path: Path, sentences: int) -> None:
    """Write a corpus; the first sentences of a larger one are those of a smaller one."""
    draw = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlcumwfgypbvkjxqz"))
    words = np.array(["".join(draw.choice(letters, size)) for size in draw.integers(1, 8, WORDS)], dtype=object)
    shares = 1 / np.arange(1, WORDS + 1)
    cumulated = np.cumsum(shares / shares.sum())
    with pq.ParquetWriter(path, pa.schema({"text": pa.string()}), compression="zstd") as file:
        for start in range(0, sentences, AT_ONCE):
            count = min(AT_ONCE, sentences - start)
            ends = np.cumsum(draw.poisson(MEAN - 1, count) + 1)
            drawn = words[np.searchsorted(cumulated, draw.random(ends[-1]))]
            texts = [" ".join(drawn[first:last]) for first, last in zip(np.append(0, ends[:-1]), ends, strict=True)]
            file.write_table(pa.table({"text": texts}))


def step(name: str, path: Path, tokenizer: Path) -> dict[str, float]:
    """Peak memory (bytes) and processor seconds of this process after one step, and of its start alone."""
    import fetch_dataset

    if name != "fetching":  # which needs neither torch nor transformers
        import transformers

        from essential_sparsity.emergence import corpus, pretraining
    began, data = time.process_time(), path.with_suffix("") / "files/data.parquet"
    found = {"start": peak()}
    if name == "fetching":
        settings = {
            "source": "path",
            "id": str(path),
            "revision": None,
            "format": "parquet",
            "columns": None,
            "packages": [],
        }
        manifest = str(data.parents[1] / "manifest.json")
        with contextlib.redirect_stdout(sys.stderr):
            fetch_dataset.main(["--dataset", "corpus", "--settings", json.dumps(settings), "--manifest", manifest])
    elif name == "tokenizer":
        pretraining.train_tokenizer(corpus.Corpus(data).texts(), 30_522, tokenizer)
    else:
        drawn = corpus.Corpus(data, 0.6 if "60" in name else 1.0)
        samples = corpus.TextSamples(drawn.texts(), transformers.AutoTokenizer.from_pretrained(tokenizer), 128)
        found["tokens"] = len(samples.ids)
    return found | {"peak": peak(), "cpu": time.process_time() - began}


def peak() -> int:
    """Most main memory of this program so far, in bytes; `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=float, default=2e6)
    parser.add_argument("--corpus", type=float, default=74e6, help="sentences to work out; BookCorpus has 74 million")
    parser.add_argument(
        "--folder", type=Path, help="where the corpus is made, and stays; a temporary folder without it"
    )
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="all of them without it")
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        name, path, tokenizer = args.step
        print(json.dumps(step(name, Path(path), Path(tokenizer))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        sizes = [int(args.sentences) // 2, int(args.sentences)]
        for size in sizes:
            if not (folder / f"{size}.parquet").is_file():
                made(folder / f"{size}.parquet", size)
        print(f"{sizes[1]:,} sentences, {(folder / f'{sizes[1]}.parquet').stat().st_size / 1e6:.0f} MB", flush=True)
        for name in args.steps:
            found, started = [], time.monotonic()
            for size in sizes:
                command = [sys.executable, __file__, "--step", name, str(folder / f"{size}.parquet"), str(folder / "t")]
                run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found.append(json.loads(run.stdout.strip().splitlines()[-1]))
            each = max(0.0, found[1]["peak"] - found[0]["peak"]) / (sizes[1] - sizes[0])
            whole = found[1]["peak"] + each * (args.corpus - sizes[1])
            hours = found[1]["cpu"] / sizes[1] * args.corpus / 3600
            tokens = f", {found[1]['tokens'] / sizes[1]:.1f} tokens a sentence" if "tokens" in found[1] else ""
            print(
                f"{name}: peak {found[1]['peak'] / 1e9:.2f} GB (start {found[1]['start'] / 1e9:.2f}), {each:.0f} bytes a sentence"
                f"{tokens}; {args.corpus / 1e6:.0f} million: {whole / 1e9:.1f} GB, {hours:.1f} processor hours "
                f"({time.monotonic() - started:.0f} s here)",
                flush=True,
            )


if __name__ == "__main__":
    main()
