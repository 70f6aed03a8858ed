"""Measure how sparse the checkpoints of series are, whether that came abruptly, and how their groups differ."""

import argparse

import pandas as pd

from essential_sparsity import cli, tables
from essential_sparsity.emergence import measures, members, suspects, trajectories


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series-table", required=True, nargs="+", metavar="FILE", help="tables of checkpoints")
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--trajectory", required=True, help="table to write")
    parser.add_argument("--abruptness", required=True, help="table to write")
    parser.add_argument("--contrasts", required=True, help="table to write")
    args = parser.parse_args(argv)
    series = tables.collect(args.series_table, "series")
    places = members.places(series)
    frames = [
        trajectories.of_checkpoint(place, tables.read(path, "spectrum"))
        for place, path in zip(places, series["spectra"], strict=True)
    ]
    frames.append(trajectories.of_runs(places, tables.read(args.knees, "knees")))
    found = suspects.among(series, members.fingerprints(series))
    for model, reason in sorted(found.items()):
        print(f"{model} is left out of fits: it has {reason}")
    trajectory = pd.concat([frame for frame in frames if len(frame)], ignore_index=True)
    trajectory["suspect"] = trajectory["model"].map(found).astype(object).where(trajectory["model"].isin(found), None)
    tables.write(trajectory, "trajectory", args.trajectory)
    tables.write(trajectories.abruptness(trajectory, members.losses(series)), "abruptness", args.abruptness)
    tables.write(measures.contrasts(trajectory), "contrasts", args.contrasts)


if __name__ == "__main__":
    cli.run(main)
