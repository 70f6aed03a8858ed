"""What jobs were expected to take beside what they took; and what the shipped presets ask for.

    python benchmarks/resources.py --costs results/demo/tables/costs.parquet --config config/config.yaml
    python benchmarks/resources.py --measured tests/unit/measured.tsv
    python benchmarks/resources.py --presets tests/unit/requests.tsv

The first compares the evaluations of a finished study: one line for each (model, task, levels a job), medians of time and
the largest memory over its jobs. On processors it is their time that counts, which others on the machine do not lengthen;
with `--gpu-class` it is the job's. `--keep FILE` puts them into a table of measured jobs, which the second compares and a
test holds to a factor of three. The third writes the table that a test compares with what the presets ask for.
"""

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from essential_sparsity.study import configuration, needs, opening, resources, tsv

ROOT = Path(__file__).parents[1]
MODEL = ("model", "type", "parameters", "dtype")
TASK = (
    "task", "kind", "protocol", "n_train", "n_eval", "epochs", "batch_size", "max_length", "context", "windows",
    "image_size", "positions", "suite", "autocast", "mean_length", "passes",
)  # fmt: skip
JOB = ("levels", "threads", "device", "jobs", "seconds", "max_rss_mb")
COLUMNS = (*MODEL, *TASK, *JOB)
DEVICES = {row["device"]: row for row in tsv.read_table(str(ROOT / "config/devices.tsv"), "devices", "device")}


def of_costs(costs: Path, config: dict, device: str) -> list[dict[str, Any]]:
    """The evaluations of a table of costs, as rows of a table of measured jobs."""
    import pandas as pd

    asked = opening.unlocked(config)
    frame = pd.read_parquet(costs)
    frame = frame[(frame["rule"] == "prune_eval") & frame["model"].isin(asked.models) & frame["task"].isin(asked.tasks)]
    frame = frame.assign(number=frame["levels"].str.count(r"\+") + 1)
    threads = config["resources"]["threads"]
    rows = []
    for (model, task, levels), jobs in frame.groupby(["model", "task", "number"]):
        seconds = jobs["cpu_s"].median() / threads if device == resources.PROCESSOR else jobs["wall_s"].median()
        known = {**{key: asked.models[model][key] for key in MODEL}, **{key: asked.tasks[task][key] for key in TASK}}
        measured = (int(levels), threads, device, len(jobs), round(seconds, 1), round(jobs["max_rss_mb"].max()))
        rows.append(known | dict(zip(JOB, measured, strict=True)))
    return rows


def read(path: Path) -> list[dict[str, Any]]:
    """A table of measured jobs."""
    types = {name: kind["type"] for table in ("models", "tasks") for name, kind in described(table).items()}
    types |= dict.fromkeys(("levels", "threads", "jobs", "max_rss_mb"), "integer") | {"seconds": "number"}
    types["device"] = "string"
    with open(path, encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t")
        return [{name: tsv.parse_cell(cell, types[name]) for name, cell in row.items()} for row in rows]


def described(table: str) -> dict[str, dict]:
    """The columns of a table of config/, as its schema says them."""
    return configuration.load_schema(table)["properties"]


def expected(row: dict[str, Any]) -> needs.Need:
    """What a measured job was expected to take; its own `minutes_per_level` is not believed here."""
    device, gpu = needs.Device.of_row(DEVICES[row["device"]]), row["device"] != resources.PROCESSOR
    return needs.of_run(row, row | {"minutes_per_level": None}, row["levels"], device, gpu, row["threads"])


def compared(rows: Iterable[dict[str, Any]]) -> list[str]:
    """The lines of a comparison."""
    lines = ["model      task               levels  device      minutes: expected  took   MB: expected   took"]
    for row in rows:
        need = expected(row)
        lines.append(
            f"{row['model']:10} {row['task']:18} {row['levels']:6}  {row['device']:10} {need.minutes:18.2f} "
            f"{row['seconds'] / 60:5.2f} {need.host_mb:14,.0f} {row['max_rss_mb']:6,.0f}"
        )
    return lines


def presets() -> list[tuple[str, ...]]:
    """What the presets ask for: the table of requests of each."""
    rows = []
    for path in sorted({*(ROOT / "config").glob("*.yaml")} - {ROOT / "config/claims.yaml"}):
        asked = opening.unlocked(configuration.read_config("config/config.yaml", f"config/{path.name}"))
        rows += [(path.stem, *row) for row in resources.table(resources.read(asked), asked.jobs, asked.pretrained)]
    return rows


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A tab-separated table."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, delimiter="\t", lineterminator="\n").writerows([header, *rows])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--costs", type=Path, help="table costs of a finished study")
    parser.add_argument("--config", nargs="+", default=[], help="its configuration")
    parser.add_argument("--gpu-class", default=resources.PROCESSOR, help="what the jobs ran on: a row of devices.tsv")
    parser.add_argument("--keep", type=Path, help="table of measured jobs to put them into")
    parser.add_argument("--measured", type=Path, help="table of measured jobs to compare")
    parser.add_argument("--presets", type=Path, help="table of requests to write")
    args = parser.parse_args(argv)
    if args.presets:
        write(args.presets, ("preset", *resources.HEADER), presets())
    if args.measured:
        print("\n".join(compared(read(args.measured))))
    if args.costs:
        config = configuration.read_config("config/config.yaml", *args.config)
        rows = of_costs(args.costs, config, args.gpu_class)
        print("\n".join(compared(rows)))
        if args.keep:
            key = ("model", "task", "levels", "device")
            there = read(args.keep) if args.keep.is_file() else []
            kept = {tuple(row[name] for name in key): row for row in [*there, *rows]}
            write(args.keep, COLUMNS, [[kept[found][name] for name in COLUMNS] for found in sorted(kept)])


if __name__ == "__main__":
    main()
