"""How long fetching a sharded model takes from a hub on this machine, and what it transfers, when the connection breaks off twice.

    python benchmarks/fetch.py [--layers 32] [--shard 2] [--cuts 2] [--folder /tmp]

The model is LLaMA-7B's in shape (32 blocks: 13.5 GB in bfloat16, in shards of 2 GB, seven of them) and random in its weights. The real client fetches it in
the real program from a hub on loopback that breaks off in the second shard, twice. Printed: bytes of
the model, bytes that were asked for, from where transfers went on, seconds, the largest memory of the program, and what the manifest says. It
takes twice the model on disk, in a folder that is deleted at the end.
"""

import argparse
import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/hub"))

import psutil
import small_hub
import torch
import transformers
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors.torch import save_file

ROOT = Path(__file__).parents[1]
MODEL = "team/large"
SETTINGS = {"source": "hub", "id": MODEL, "revision": "main", "format": "transformers"}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=32, help="blocks of 202 million weights each")
    parser.add_argument("--shard", type=float, default=2, help="gigabytes of a file at most")
    parser.add_argument("--cuts", type=int, default=2, help="how often the connection breaks off in the second shard")
    parser.add_argument("--folder", type=Path, help="where there is room for twice the model")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=args.folder) as place:
        source = Path(place) / "source"
        write(source, args.layers, int(args.shard * 1e9))
        measure(Path(place), source, args.cuts)


def write(folder: Path, layers: int, shard: int) -> None:
    """A checkpoint of random numbers, in files of `shard` bytes at most."""
    config = transformers.LlamaConfig(
        hidden_size=4096, intermediate_size=11008, num_hidden_layers=layers, num_attention_heads=32, vocab_size=32000
    )
    config.architectures, config.dtype = ["LlamaForCausalLM"], torch.bfloat16
    folder.mkdir()
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = transformers.LlamaForCausalLM(config).to(torch.bfloat16).state_dict()
    split = split_torch_state_dict_into_shards(shapes, max_shard_size=shard)
    drawn = torch.randn(1 << 26).to(torch.bfloat16)  # repeated: what is in it plays no part
    for name, keys in split.filename_to_tensors.items():
        tensors = {}
        for key in keys:
            n = shapes[key].numel()
            tensors[key] = drawn.repeat(-(-n // len(drawn)))[:n].view(shapes[key].shape)
        save_file(tensors, folder / name, metadata={"format": "pt"})
    index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def measure(place: Path, source: Path, cuts: int) -> None:
    """Serve the folder, fetch it, and print what that took."""
    files = {path.name: content(path) for path in sorted(source.iterdir())}
    digests = {id(body): small_hub.sha256(body) for body in files.values()}  # once, not at each request
    small_hub.sha256 = lambda body: digests[id(body)]
    size = sum(map(len, files.values()))
    hub = small_hub.Hub()
    hub.add("models", MODEL, files)
    hub.cut = sorted(name for name in files if name.endswith(".safetensors"))[1]
    hub.cut_after, hub.cut_times = len(files[hub.cut]) // (cuts + 1), cuts
    with small_hub.running(hub):
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))
        }
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(place / "cache"), "NO_PROXY": "127.0.0.1,localhost"}
        manifest = place / "store/checkpoints/large/manifest.json"
        command = [sys.executable, str(ROOT / "workflow/scripts/fetch_model.py"), "--model", "large"]
        command += ["--settings", json.dumps(SETTINGS), "--manifest", str(manifest)]
        started = time.monotonic()
        memory = run(command, env=environment, cwd=place)
        seconds = time.monotonic() - started
    said = json.loads(manifest.read_text())
    sent, left = 0, cuts
    for name, first in hub.ranges:
        cut = name == hub.cut and left > 0
        left -= cut
        sent += hub.cut_after if cut else len(files[name]) - first
    resumed = [f"{name} at {first / 1e9:.2f} GB" for name, first in hub.ranges if first]
    print(
        f"{size / 1e9:.2f} GB in {len(files)} files; {sent / 1e9:.2f} GB transferred, {len(hub.ranges)} requests; went on: {', '.join(resumed) or 'nowhere'}"
    )
    print(f"{seconds:.0f} s with comparing and the manifest; {memory / 1e9:.2f} GB of memory at most")
    print(
        f"manifest: {len(said['files'])} files, {said['n_prunable']:,} prunable of {said['n_total']:,} weights, {said['dtype']}"
    )


def run(command: list[str], **options) -> int:
    """Run a program, which must end well; the most bytes of memory that it was seen to hold.

    What the system says of an ended one counts what this process held when it began.
    """
    most = 0
    with psutil.Popen(command, **options) as process:
        while process.poll() is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                most = max(most, process.memory_info().rss)
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return most


@cache
def content(path: Path) -> memoryview:
    """The bytes of a file, of which none is in memory before it is read."""
    with path.open("rb") as handle:
        return memoryview(mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ))


if __name__ == "__main__":
    main()
