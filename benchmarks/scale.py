"""Time and memory of Snakemake on large grids: does it grow with the runs, and how long does one wait at the prompt?

    python benchmarks/scale.py [--case plain references] [--runs 1000 5000 10000 20000] [--scheduled-up-to 1000]
                               [--finished-up-to 20000] [--cores 1] [--json FILE]

Each size gets a copy of the workflow with a grid of that many runs, one level a job, in a temporary folder. Each step is
told in wall seconds (_s), processor seconds (_cpu) and peak memory of its process (_mb). Nothing is evaluated: results
are fabricated, one small Parquet file per run.

plain       one model, one task, four patterns, 24 levels and as many seeds as it takes
references  as many models as it takes, two tasks, three seeds, 24 levels; every dense run has a reference, so all other
            runs wait for it; a fifth of the runs are lottery tickets, with masks and digests among their inputs
knees       as many models as it takes, two tasks, three seeds, five patterns, 20 levels; runs have a knee, and 353 items
            (a rank correlation) or 2,000 (accuracy and Matthews' correlation). In the place of the steps below:

            cold     all tables from the runs to the knees, with their 10,000 resamples, on --cores cores
            warm     the same when one run has changed
            fit      of all fit_knees jobs of the cold call: seconds together (_s), and the largest memory (_mb)

parse     read the Snakefile, the configuration and the grid, and end, as each job does on its node
dry_run   all runs to do: `snakemake -n`
schedule  run all jobs, with a shell script that copies a file in the place of `python` (sizes up to --scheduled-up-to)
touch     the other sizes: `snakemake --touch --forceall` notes what the fabricated results were made from
nothing   `snakemake` when all is done
collect   collect_runs.py: all run files into the table of runs; what the jobs have kept is cleared
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

import pandas as pd

from essential_sparsity import files, tables
from essential_sparsity.runs import finished
from essential_sparsity.study import grid, iterations, opening, study
from essential_sparsity.tables import provenance

ROOT = Path(__file__).parents[1]
MODEL, TASK, TRAINED = "splade-tiny", "ws353", "reviews-finetune"
LEVELS = [round(0.04 * i, 3) for i in range(1, 25)]
KNEES = "results/demo/tables/knees.parquet"
SEEDS = 3  # of each model in the cases `references` and `knees`
ITEMS = {TASK: 353, TRAINED: 2000}  # of each run in the case `knees`
REFERENCES = {TASK: "spearman", TRAINED: "accuracy"}
# `snakemake --touch` without the pause of a tenth of a second that it makes for each job
TOUCH = "from snakemake import cli; from snakemake.executors import touch; touch.Executor.SLEEPING_TIME = 0; cli.main()"
STAND_IN = """#!/bin/sh
# In the place of python: every file that an option names and that is not there becomes a copy of a small one. The table of
# the grid is the real one.
case $1 in */tabulate_grid.py) exec {python} "$@" ;; esac
while [ $# -gt 0 ]; do
  case $1 in
    --runs|--items|--out|--missing-runs|--digest|--fingerprints|--knees|--comparisons|--resamples)
      [ -e "$2" ] || cp results/stand-in "$2" ;;
  esac
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


def grid_of(case: str, runs: int) -> tuple[list[dict], list[str]]:
    """The blocks of a grid of about so many runs, and its models."""
    common = {"sparsities": LEVELS}
    if case == "plain":
        patterns = ["global", "layerwise", "random", "erk"]
        seeds = list(range(max(1, round(runs / (len(patterns) * len(LEVELS) + 1)))))
        return [common | {"models": [MODEL], "tasks": [TASK], "patterns": patterns, "seeds": seeds}], [MODEL]
    if case == "knees":
        levels = [round(0.045 * i, 3) for i in range(1, 21)]
        patterns = ["global", "layerwise", "random", "erk", "erk-random"]
        models = [f"{MODEL}-{i}" for i in range(max(1, round(runs / (2 * SEEDS * (len(patterns) * len(levels) + 1)))))]
        block = {"models": models, "tasks": [TASK, TRAINED], "patterns": patterns, "sparsities": levels}
        return [block | {"seeds": list(range(SEEDS))}], models
    blocks = [
        common | {"tasks": [TASK], "patterns": ["global", "layerwise", "random"]},
        common | {"tasks": [TRAINED], "patterns": ["global", "lth"]},
    ]
    each = SEEDS * sum(len(block["patterns"]) * len(LEVELS) + 1 for block in blocks)
    models = [f"{MODEL}-{i}" for i in range(max(1, round(runs / each)))]
    return [block | {"models": models, "seeds": list(range(SEEDS))} for block in blocks], models


def rewrite(path: Path, change) -> None:
    """Replace a table by what `change` makes of its rows, a list of dictionaries."""
    header, *lines = (line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#"))
    rows = change([dict(zip(header, [*line, *[""] * len(header)], strict=False)) for line in lines])
    path.write_text(
        "".join(
            "\t".join(row[column] for column in header) + "\n"
            for row in [dict(zip(header, header, strict=True)), *rows]
        )
    )


def prepare(folder: Path, case: str, runs: int) -> study.Study:
    """A copy of the workflow with a grid of about so many runs; its models, data and spectra are fabricated."""
    for name in ("Snakefile", "rules", "workflow", "config", "envs"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    blocks, models = grid_of(case, runs)
    path = folder / "config/config.yaml"
    changes: dict[str, Any] = {"grid": blocks, "lottery": {"share": LEVELS[0]}}
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
    rewrite(folder / "config/tasks.tsv", lambda rows: [row | {"levels_per_job": "1"} for row in rows])
    rewrite(
        folder / "config/models.tsv",
        lambda rows: [row | {"model": name} for name in models for row in rows if row["model"] == MODEL],
    )
    referred = [] if case != "references" else [(name, *known) for name in models for known in REFERENCES.items()]
    found = {"value": "0.5", "tolerance": "0.5", "source": "fabricated"}
    rewrite(
        folder / "config/references.tsv",
        lambda _: [dict(zip(("model", "task", "metric"), key, strict=True)) | found for key in referred],
    )
    for name in (
        *(f"store/checkpoints/{model}/manifest.json" for model in models),
        *(f"store/datasets/{name}/manifest.json" for name in ("ws353", "movie-reviews")),
        *(f"store/{table}/{model}.parquet" for table in ("spectra", "fingerprints") for model in models),
        "stand-in",
    ):
        target = folder / "results" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text('{"files": []}')
    made = [str(found.relative_to(folder)) for found in (folder / grid.STORE).rglob("*") if found.is_file()]
    measured(
        "record",
        [sys.executable, "-c", TOUCH, "--quiet", "all", "--touch", "--forceall", "--cores", "1", "--", *made],
        folder,
    )
    with contextlib.chdir(folder):
        return opening.read(yaml.safe_load(path.read_text()))


def items_of(wanted: dict[str, Any], draw: np.random.Generator) -> tuple[pd.DataFrame, dict[str, float]]:
    """Items of a run of the case `knees` with a knee at 0.6, and what metrics they come to."""
    quality = 0.9 - 0.36 * (max(wanted["sparsity"] - 0.6, 0) / 0.35) ** 1.5
    size = ITEMS[wanted["task"]]
    own = np.random.default_rng(0).standard_normal(size)
    scores = quality * own + np.sqrt(1 - quality**2) * draw.standard_normal(size)
    values = {"spearman": float(np.corrcoef(own, scores)[0, 1])}
    target, prediction = own, np.full(size, np.nan)
    if wanted["task"] == TRAINED:
        target, prediction = (own > 0).astype(float), (scores > 0).astype(float)
        scores = (target == prediction).astype(float)
        values = {"accuracy": float(scores.mean()), "matthews": float(np.corrcoef(target, prediction)[0, 1])}
    key = {name: wanted[name] for name in ("model", "task", "pattern", "sparsity", "seed")}
    found = {
        "item": [f"item {i:05}" for i in range(size)],
        "score": scores,
        "target": target,
        "prediction": prediction,
    }
    return pd.DataFrame(key | found | {"second_score": np.nan, "weight": 1.0, "group": None}), values


def fabricate(folder: Path, asked: study.Study, case: str) -> Callable[[dict[str, Any], int], None]:
    """A run and an items file of each job, both in its work folder too, and the tickets, as jobs leave them, in their order.

    Returns the function that writes a run of the grid's table, as another seed of its items draws it.
    """
    row = dict.fromkeys(tables.schema("runs").names)
    for field in tables.schema("runs"):
        if not field.nullable:
            row[field.name] = {"int64": 1, "double": 0.5, "bool": False}.get(str(field.type), "fabricated")
    store = folder / grid.STORE
    manifest = provenance.of_manifest(store / f"checkpoints/{asked.used_models[0]}/manifest.json")

    def written(wanted: dict[str, Any], seed: int = 0) -> None:
        parts = {name: wanted[name] for name in ("model", "task", "pattern", "sparsity", "seed", "settings_sha256")}
        parts |= {"code_sha256": wanted["code_sha256"], "checkpoint_sha256": manifest, "data_sha256": manifest}
        parts |= {"ticket_sha256": "fabricated" if wanted["ticket"] else None}
        items = folder / wanted["items"]
        items.parent.mkdir(parents=True, exist_ok=True)
        rows = [row | parts | {"metric": name} for name in wanted["metrics"].split(",")]
        if case == "knees":
            found, values = items_of(wanted, np.random.default_rng([seed, *wanted["run"].encode()]))
            tables.write(found, "items", items)
            parts |= {"items_sha256": files.sha256_file(items), "n_items": ITEMS[wanted["task"]]}
            rows = [row | parts | {"metric": name, "value": value} for name, value in values.items()]
        else:
            items.write_text("{}")
        tables.write(pd.DataFrame(rows), "runs", folder / wanted["run"])
        for name, made in (("runs", folder / wanted["run"]), ("items", items)):
            finished.link(made, store / f"work/prune_eval/{wanted['job']}/{finished.FOLDER}/{name}")

    runs = asked.rows()
    for wanted in runs:
        if wanted["pattern"] == "dense":
            written(wanted)
    for ticket in asked.tickets:
        for suffix in (".safetensors", ".sha256"):
            target = store / f"tickets/{iterations.path(ticket)}{suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("fabricated  ticket\n")
    for wanted in runs:
        if wanted["pattern"] != "dense":
            written(wanted)
    return written


def measure_knees(folder: Path, asked: study.Study, cores: int) -> dict:
    """The case `knees`."""
    written = fabricate(folder, asked, "knees")
    command = [sys.executable, "-m", "snakemake", "--quiet", "all", "--cores", str(cores), KNEES]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    found = measured("cold", command, folder, environment)
    jobs = [pd.read_csv(path, sep="\t") for path in (folder / KNEES).parents[1].glob("benchmarks/fit_knees/*/*.tsv")]
    if jobs:
        told = pd.concat(jobs)
        found |= {"fit_s": float(told["s"].sum()), "fit_mb": float(told["max_rss"].max()), "fits": len(told)}
    written(asked.rows()[-1], seed=1)
    return found | measured("warm", command, folder, environment)


def nothing(found: dict, command: list[str], folder: Path) -> None:
    """Measure Snakemake with nothing to do, and see that it did nothing."""
    table = folder / "results/demo/tables/runs.parquet"
    before = table.stat().st_mtime_ns
    found |= measured("nothing", command, folder)
    assert table.stat().st_mtime_ns == before, "there was something to do"


def measure(folder: Path, case: str, runs: int, schedule: bool, finish: bool, cores: int) -> dict:
    asked = prepare(folder, case, runs)
    if case == "knees":
        return {"case": case, "runs": len(asked.jobs)} | measure_knees(folder, asked, cores)
    snakemake = [sys.executable, "-m", "snakemake", "--quiet", "all"]
    one = [*snakemake, "--cores", "1", "--scheduler", "greedy", "--scheduler-subsample", "500"]
    found: dict[str, Any] = {"case": case, "runs": len(asked.jobs), "tickets": len(asked.tickets)}
    found |= measured("parse", [*snakemake, "--list-rules"], folder)
    found |= measured("dry_run", [*snakemake, "--dry-run"], folder)
    shim = folder / "bin/python"
    shim.parent.mkdir()
    shim.write_text(STAND_IN.format(python=sys.executable))
    shim.chmod(0o755)
    environment = {**os.environ, "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}"}
    if schedule:
        found |= measured("schedule", one, folder, environment)
        nothing(found, one, folder)
    if not finish:
        return found
    fabricate(folder, asked, case)
    if not schedule:
        measured("rest", one, folder, environment)
        found |= measured("touch", [one[0], "-c", TOUCH, *one[3:], "--touch", "--forceall", "--cores", "1000"], folder)
        nothing(found, one, folder)
    collect = [sys.executable, "workflow/scripts/collect_runs.py", "--grid", "results/demo/grid.parquet"]
    collect += ["--work", f"{grid.STORE}/work", "--logs", f"{grid.STORE}/logs", "--out", "results/collected.parquet"]
    collect += ["--missing-runs", "results/missing.parquet"]
    found |= measured("collect", collect, folder)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=["plain", "references", "knees"], default=["plain", "references"])
    parser.add_argument("--runs", nargs="+", type=int, default=[1000, 5000, 10000, 20000])
    parser.add_argument("--scheduled-up-to", type=int, default=1000, help="largest size whose jobs are really run")
    parser.add_argument("--finished-up-to", type=int, default=20000, help="largest size that is brought to its end")
    parser.add_argument("--cores", type=int, default=1, help="of the case `knees`")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    rows = []
    for case in args.case:
        for runs in args.runs:
            with tempfile.TemporaryDirectory() as folder:
                steps = runs <= args.scheduled_up_to, runs <= args.finished_up_to
                rows.append(measure(Path(folder), case, runs, *steps, args.cores))
            told = (
                f"{key}={value:.1f}" if isinstance(value, float) else f"{key}={value}"
                for key, value in rows[-1].items()
            )
            print(" ".join(told), flush=True)
            if args.json:
                args.json.write_text(json.dumps(rows, indent=2) + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print(
        pd.DataFrame(rows, columns=columns).to_string(
            index=False, float_format=lambda value: f"{value:.1f}", na_rep="–"
        )
    )


if __name__ == "__main__":
    main()
