"""Time and memory of Snakemake on large grids: does it grow with the runs, and how long does one wait at the prompt?

    python benchmarks/scale.py [--runs 1000 5000 10000 20000] [--scheduled-up-to 1000] [--touched-up-to 20000] [--json FILE]

Each size gets a copy of the workflow with a grid of four patterns, 24 levels and as many seeds as it takes, in a
temporary folder. Each step is told in wall seconds (_s), processor seconds (_cpu) and peak memory of its process (_mb). Nothing is evaluated: results are fabricated, one small Parquet file per run.

parse     read the Snakefile, the configuration and the grid, and end
dry_run   all runs to do: `snakemake -n`
schedule  run all jobs, with a shell script that copies a file in the place of `python` (sizes up to --scheduled-up-to)
touch     the other sizes: `snakemake --touch --forceall` notes what the fabricated results were made from
nothing   `snakemake` when all is done
collect   collect_runs.py: all run files into the table of runs; what the jobs have kept is cleared
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import pandas as pd

from essential_sparsity import tables
from essential_sparsity.runs import kept
from essential_sparsity.study import grid

ROOT = Path(__file__).parents[1]
MODEL, TASK = "splade-tiny", "ws353"
LEVELS = [round(0.04 * i, 3) for i in range(25)]
BLOCK = {
    "models": [MODEL],
    "tasks": [TASK],
    "patterns": ["global", "layerwise", "random", "erk"],
    "sparsities": LEVELS[1:],
}
PER_SEED = len(BLOCK["patterns"]) * len(BLOCK["sparsities"]) + 1
# `snakemake --touch` without the pause of a tenth of a second that it makes for each job
TOUCH = "from snakemake import cli; from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0; cli.main()"
STAND_IN = """#!/bin/sh
# In the place of python: every file that an option names as an output becomes a copy of a small one.
while [ $# -gt 0 ]; do
  case $1 in --runs|--items|--out|--fingerprints|--knees|--comparisons) [ -d "$2" ] || cp results/stand-in "$2" ;; esac
  shift
done
"""


def measured(name: str, command: list[str], folder: Path, environment: dict | None = None) -> dict[str, float]:
    """Wall seconds, processor seconds and peak memory in MB of a command that must succeed."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        if status:
            log.seek(0)
            raise SystemExit(f"{' '.join(command)} failed in {folder}:\n{log.read()[-3000:]}")
    found = {"s": seconds, "cpu": usage.ru_utime + usage.ru_stime, "mb": usage.ru_maxrss / 1024}
    print(f"{name}: " + ", ".join(f"{value:.1f} {unit}" for unit, value in found.items()), file=sys.stderr, flush=True)
    return {f"{name}_{unit}": value for unit, value in found.items()}


def prepare(folder: Path, runs: int) -> list[grid.Job]:
    """A copy of the workflow with a grid of about so many runs; its models, data and spectra are fabricated."""
    for name in ("Snakefile", "rules", "workflow", "config", "envs"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    path = folder / "config/config.yaml"
    blocks = [BLOCK | {"seeds": list(range(round(runs / PER_SEED)))}]
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"grid": blocks}))
    table = folder / "config/tasks.tsv"
    header, *rows = (line.split("\t") for line in table.read_text().splitlines())
    for row in rows:
        row[header.index("levels_per_job")] = "1"
    table.write_text("".join("\t".join(row) + "\n" for row in [header, *rows]))
    for name in (
        f"checkpoints/{MODEL}/manifest.json",
        f"datasets/{TASK}/manifest.json",
        f"spectra/{MODEL}.parquet",
        f"fingerprints/{MODEL}.parquet",
        "stand-in",
    ):
        target = folder / "results" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("{}")
    return grid.expand(blocks, {TASK: 1})


def fabricate(folder: Path, jobs: list[grid.Job]) -> None:
    """A run and an items file of each job, and both in its work folder, as jobs leave them."""
    row = dict.fromkeys(tables.schema("runs").names)
    for field in tables.schema("runs"):
        if not field.nullable:
            row[field.name] = {"int64": 1, "double": 0.5, "bool": False}.get(str(field.type), "fabricated")
    for job in jobs:
        key = {"model": job.model, "task": job.task, "pattern": job.pattern, "seed": job.seed}
        run = pd.DataFrame([row | key | {"sparsity": float(job.token)}])
        tables.write(run, "runs", folder / f"results/runs/{job.path}.parquet")
        items = folder / f"results/items/{job.path}.parquet"
        items.parent.mkdir(parents=True, exist_ok=True)
        items.write_text("{}")
        for name, made in (("runs", folder / f"results/runs/{job.path}.parquet"), ("items", items)):
            kept.link(made, folder / f"results/work/prune_eval/{job.path}/kept/{name}")


def finished(found: dict, command: list[str], folder: Path) -> None:
    """Measure Snakemake with nothing to do, and see that it did nothing."""
    table = folder / "results/tables/runs.parquet"
    before = table.stat().st_mtime_ns
    found |= measured("nothing", command, folder)
    assert table.stat().st_mtime_ns == before, "there was something to do"


def measure(folder: Path, runs: int, schedule: bool, touch: bool) -> dict:
    jobs = prepare(folder, runs)
    snakemake = [sys.executable, "-m", "snakemake", "--quiet", "all"]
    one = [*snakemake, "--cores", "1", "--scheduler", "greedy", "--scheduler-subsample", "500"]
    found = {"runs": len(jobs)}
    found |= measured("parse", [*snakemake, "--list-rules"], folder)
    found |= measured("dry_run", [*snakemake, "--dry-run"], folder)
    shim = folder / "bin/python"
    shim.parent.mkdir()
    shim.write_text(STAND_IN)
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}
    if schedule:
        found |= measured("schedule", one, folder, environment)
        finished(found, one, folder)
    fabricate(folder, jobs)
    if touch and not schedule:
        measured("rest", one, folder, environment)
        found |= measured("touch", [one[0], "-c", TOUCH, *one[3:], "--touch", "--forceall", "--cores", "1000"], folder)
        finished(found, one, folder)
    given = json.dumps({"blocks": [BLOCK | {"seeds": sorted({job.seed for job in jobs})}], "levels_per_job": {TASK: 1}})
    collect = [sys.executable, "workflow/scripts/collect_runs.py", "--grid", given, "--runs", "results/runs"]
    collect += ["--share", "0.1", "--work", "results/work"]
    found |= measured("collect", [*collect, "--out", "results/collected.parquet"], folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", nargs="+", type=int, default=[1000, 5000, 10000, 20000])
    parser.add_argument("--scheduled-up-to", type=int, default=1000, help="largest size whose jobs are really run")
    parser.add_argument("--touched-up-to", type=int, default=20000, help="largest size that is brought to its end")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for runs in args.runs:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(Path(folder), runs, runs <= args.scheduled_up_to, runs <= args.touched_up_to))
        print(" ".join(f"{key}={value:.1f}" for key, value in rows[-1].items()), flush=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    table = pd.DataFrame(rows, columns=columns)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.1f}", na_rep="–"))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
