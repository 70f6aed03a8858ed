"""Memory and time of pictures: an evaluation that draws a few of many, its decoding, and the samples of a pre-training.

    python benchmarks/pictures.py [--pictures 8000] [--side 256] [--drawn 1000] [--workers 0 1 2 4]

Makes a data set of that many JPEGs, and reads it in processes of their own: their peak memory, above that of their start.
Decoding is timed without a model, by as many processes as asked: what a GPU would wait for.
"""

import argparse
import io
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

SIDE = 224  # of the pixels that a model is given


def made(path: Path, pictures: int, side: int) -> None:
    """Write smooth noise, as large as photographs are: about 0.4 bytes a pixel."""
    from PIL import Image

    draw, encoded = np.random.default_rng(0), []
    for _ in range(pictures):
        coarse = Image.fromarray(draw.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
        stream = io.BytesIO()
        coarse.resize((side, side), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        encoded.append(stream.getvalue())
    items = [f"{row:07d}" for row in range(pictures)]
    table = pa.table({"item": items, "label": [str(row % 10) for row in range(pictures)], "image": encoded})
    pq.write_table(table, path, compression="zstd")


def step(name: str, path: Path, drawn: int) -> dict[str, float]:
    """Peak memory (bytes) of this process above that of its start, and wall seconds, after one step."""
    import torch

    from essential_sparsity import tasks
    from essential_sparsity.emergence import corpus
    from essential_sparsity.tasks import image_classification, reading
    from essential_sparsity.training import devices

    start, began = peak(), time.monotonic()
    if name == "pre-training":
        corpus.ImageSamples(corpus.Corpus(path), SIDE)
    else:
        frame = reading.read(path)
        (frame,) = reading.loaded(frame.iloc[np.random.default_rng(0).permutation(len(frame))[:drawn]])
        images = image_classification.Images(frame["item"], frame["image"], [0] * drawn, SIDE, [0.5] * 3, [0.5] * 3)
    if name.startswith("decode"):
        devices.workers = lambda: int(name.split()[1])
        began = time.monotonic()

        def collate(rows: list) -> dict:
            return {"pixel_values": torch.stack([row["pixel_values"] for row in rows])}

        for _ in tasks.Batches(images, np.arange(drawn), 32, collate).loaded(torch.device("cpu")):
            pass
    return {"more": peak() - start, "seconds": time.monotonic() - began}


def peak() -> int:
    """Most main memory of this program so far, in bytes; `getrusage` would count that of the process that started it."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--drawn", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="*", default=[0, 1, 2, 4])
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        print(json.dumps(step(args.step[0], Path(args.step[1]), args.drawn)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, "data.parquet")
        made(path, args.pictures, args.side)
        print(f"{args.pictures:,} pictures, {path.stat().st_size / 1e6:.0f} MB; {args.drawn:,} are drawn", flush=True)
        for name in ("evaluation", "pre-training", *(f"decode {workers} workers" for workers in args.workers)):
            command = [sys.executable, __file__, "--drawn", str(args.drawn), "--step", name, str(path)]
            run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(run.stdout.strip().splitlines()[-1])
            print(f"{name}: {found['more'] / 1e6:.0f} MB more than its start, {found['seconds']:.1f} s", flush=True)


if __name__ == "__main__":
    main()
