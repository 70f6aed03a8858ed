"""Rounds of refinement on real weights: new levels alone are computed, and the gap around the knee becomes narrow."""

import sys

import pandas as pd
from workspace import OUT, STORE, TINY

WIDTH = 0.1
REFINE = (
    sys.executable,
    "workflow/scripts/refine.py",
    sys.executable,
    "-m",
    "snakemake",
    "--cores",
    "2",
    "--quiet",
    "rules",
    "host",
)


def test_refining_adds_levels_around_the_knee_and_keeps_the_rest(workspace):
    workspace.configure(grid=[TINY | {"patterns": ["global"], "sparsities": [0.3, 0.9]}], refine={"width": WIDTH})
    workspace.snakemake("--quiet", "all")
    runs = workspace.folder / STORE / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*.parquet")}
    told = workspace.call(*REFINE).stdout
    assert "Refining 1 curve: splade-tiny/ws353/global at" in told
    assert {path: path.stat().st_mtime_ns for path in before} == before, "finished cells must stay"

    knee = pd.read_parquet(workspace.folder / f"{OUT}/tables/knees.parquet").iloc[0]["essential_sparsity"]
    table = pd.read_parquet(workspace.folder / f"{OUT}/tables/runs.parquet")
    levels = sorted(table["sparsity"].unique())
    above = next(level for level in levels if level >= knee)
    assert above - levels[levels.index(above) - 1] <= WIDTH + 1e-9
    assert (table.groupby("sparsity")["seed"].nunique() == 2).all()
    assert len(levels) < 3 + (0.9 - 0) / WIDTH

    rounds = (workspace.folder / f"{OUT}/rounds.json").read_text()
    assert "Refining" not in workspace.call(*REFINE).stdout
    assert (workspace.folder / f"{OUT}/rounds.json").read_text() == rounds
    assert workspace.planned() == {}

    workspace.configure(refine=None)
    planned = workspace.planned()
    assert "prune_eval" not in planned, "switched off, the added levels are ignored, not computed"
    assert planned["collect_runs"] == 1


def test_refining_without_a_width_says_what_to_set(workspace):
    told = workspace.call(sys.executable, "workflow/scripts/refine.py", check=False)
    assert told.returncode
    assert "Say how to run the workflow" in told.stdout
