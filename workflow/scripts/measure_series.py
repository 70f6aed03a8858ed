"""Measure how sparse the checkpoints of series are, whether that came abruptly, and how their groups differ."""

import argparse
import json
from pathlib import Path

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.emergence import measures, poison, trajectories


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--members", required=True, type=json.loads, help="JSON: [{series, group, line, model, axis, position}, …]"
    )
    parser.add_argument("--results", required=True, type=Path, help="folder that holds spectra and fingerprints")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--losses", nargs="*", default=[], help="LINE=FILE: the loss table of a line's pre-training")
    parser.add_argument("--trajectory", required=True, help="table to write")
    parser.add_argument("--abruptness", required=True, help="table to write")
    parser.add_argument("--contrasts", required=True, help="table to write")
    args = parser.parse_args(argv)
    read = {
        name: {m["model"]: tables.read(args.results / name / f"{m['model']}.parquet", table) for m in args.members}
        for name, table in (("spectra", "spectrum"), ("fingerprints", "fingerprints"))
    }
    frames = [trajectories.of_checkpoint(member, read["spectra"][member["model"]]) for member in args.members]
    frames.append(trajectories.of_runs(args.members, tables.read(args.knees, "knees")))
    marked = poison.marks(args.members, read["fingerprints"])
    for model, reason in sorted(marked.items()):
        print(f"{model} is left out of fits: it has {reason}")
    trajectory = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    trajectory["marked"] = trajectory["model"].map(marked).astype(object).where(trajectory["model"].isin(marked), None)
    losses = [tables.empty("losses").assign(line="")]
    for entry in args.losses:
        line, path = entry.split("=", 1)
        losses.append(tables.read(path, "losses").assign(line=line))
    tables.write(trajectory, "trajectory", args.trajectory)
    tables.write(trajectories.abruptness(trajectory, pd.concat(losses)), "abruptness", args.abruptness)
    tables.write(measures.contrasts(trajectory), "contrasts", args.contrasts)


if __name__ == "__main__":
    cli.run(main)
