"""Short jobs on SLURM, batched or not: how long GPUs are held, for the same runs.

    tests/slurm/start.sh && python benchmarks/batching.py [--levels 8] [--json FILE]; tests/slurm/stop.sh

One curve of MiniLM on word similarity, about a second of work per level, three ways:

single    one job per level
grouped   one job per level, all in one allocation (`groups`): the queue once, start-up each time
walked    `levels_per_job`: one job, one process, model and data loaded once
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from workspace import Workspace

GROUPED = (
    "--groups prune_eval=batch --group-components batch={} --set-resource-scopes gpu=local --resources gpu=1 --jobs 2"
)


def prepared(folder: Path, levels: int) -> Workspace:
    """A study whose model, data, spectrum and dense run are there already."""
    workspace = Workspace(folder)
    sparsities = [round(0.1 + 0.05 * i, 3) for i in range(levels)]
    workspace.configure(
        resources={"gpu": 1, "device": "cpu", "threads": 1},  # the GPUs of the test cluster are names
        grid=[
            {"models": ["minilm"], "tasks": ["ws353"], "patterns": ["global"], "sparsities": sparsities, "seeds": [0]}
        ],
    )
    workspace.snakemake("results/store/runs/minilm/ws353/dense/0.000/seed0.parquet", "--quiet", "all")
    return workspace


def copied(prepared: Workspace, folder: Path, per_job: int) -> Workspace:
    """Another one, with so many levels per job."""
    copy = Workspace(folder, prepared)
    tasks = folder / "config/tasks.tsv"
    tasks.write_text(re.sub(r"^(ws353\t.*)\t9\t", rf"\g<1>\t{per_job}\t", tasks.read_text(), flags=re.MULTILINE))
    return copy


def measure(workspace: Workspace, *arguments: str) -> dict:
    """Wall time of the literal command, its SLURM jobs, and the seconds for which they held a GPU."""
    started = time.monotonic()
    output = workspace.snakemake("--profile", "slurm", "results/demo/tables/runs.parquet", *arguments)
    wall = time.monotonic() - started
    name = re.search(r"SLURM run ID: (\S+)", output)[1]
    time.sleep(5)  # accounting lags
    command = ["sacct", "-X", "-n", "-P", "--name", name, "-o", "ElapsedRaw"]
    held = subprocess.run(command, check=True, text=True, capture_output=True, timeout=60).stdout.split()
    return {"slurm_jobs": len(held), "gpu_seconds": sum(map(int, held)), "wall_s": round(wall, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, default=8)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        first = prepared(Path(folder) / "prepared", args.levels)
        for way, per_job, arguments in (
            ("single", 1, ""),
            ("grouped", 1, GROUPED.format(args.levels)),
            ("walked", args.levels, ""),
        ):
            rows[way] = measure(copied(first, Path(folder) / way, per_job), *arguments.split())
            print(f"{way:8} {rows[way]}", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
