"""A tiny grid on real weights and real data from the registry, from fetching to figures; killed, repeated, damaged."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from workspace import OUT, STORE, Workspace

from essential_sparsity import tables

TABLES = ("runs", "knees", "layers")


def hashes(folder: Path, *patterns: str) -> dict[str, str]:
    found = sorted(path for pattern in patterns for path in folder.glob(pattern))
    assert found
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


RESULTS = (f"{OUT}/tables/runs.parquet", f"{OUT}/tables/knees.parquet", f"{OUT}/tables/layers.parquet",
           f"{STORE}/runs/**/*.parquet", f"{STORE}/items/**/*.parquet", f"{STORE}/spectra/*.parquet",
           f"{OUT}/figures/**/*.svg", f"{OUT}/figures/*.csv")  # fmt: skip


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """MiniLM on word similarity (all pairs), and a probe and a fine-tuning on a few dozen reviews."""
    workspace = Workspace(tmp_path_factory.mktemp("minilm") / "study")
    path = workspace.folder / "config/tasks.tsv"
    text = re.sub(r"\t800\t400\t", "\t60\t40\t", path.read_text())
    path.write_text(re.sub(r"\t600\t400\t", "\t32\t40\t", text))
    common = {"models": ["minilm"], "seeds": [0]}
    workspace.configure(
        grid=[
            common | {"tasks": ["ws353"], "patterns": ["global", "random"], "sparsities": [0.3, 0.6, 0.9]},
            common | {"tasks": ["ws353"], "patterns": ["nm4"], "sparsities": [0.5]},
            common | {"tasks": ["reviews-probe", "reviews-finetune"], "patterns": ["global"], "sparsities": [0.5]},
        ]
    )
    workspace.snakemake("--quiet", "rules", "host")
    return workspace


def test_all_tables_and_figures_are_there(minilm):
    for name in (*TABLES, "costs"):
        assert len(tables.read(minilm.folder / f"{OUT}/tables/{name}.parquet", name))
    for figure in (
        "curves/minilm/ws353",
        "curves/minilm/reviews-probe",
        "curves/minilm/reviews-finetune",
        "layers/minilm",
    ):
        assert "<svg" in (minilm.folder / f"{OUT}/figures/{figure}.svg").read_text()[:1000]


def test_the_dense_value_is_the_published_one_and_pruning_costs(minilm):
    runs = tables.read(minilm.folder / f"{OUT}/tables/runs.parquet", "runs")
    values = runs[runs["task"] == "ws353"].set_index(["pattern", "sparsity"])["value"]
    assert values["dense", 0.0] == pytest.approx(0.729, abs=0.002)
    assert values["global", 0.3] > values["global", 0.9]
    assert values["global", 0.6] > values["random", 0.6]


def test_counts_are_exact_and_n_of_m_counts_kept_weights(minilm):
    runs = tables.read(minilm.folder / f"{OUT}/tables/runs.parquet", "runs")
    assert set(runs["n_prunable"]) == {10_616_832}
    assert set(runs["n_total"]) == {22_713_216}
    exact = runs[~runs["pattern"].str.startswith("nm")]
    assert (exact["k"] == (exact["sparsity"] * exact["n_prunable"] + 0.5).astype(int)).all()
    nm = runs[runs["pattern"] == "nm4"].iloc[0]
    assert (nm["keep"], nm["group"], nm["k"]) == (2, 4, 5_308_416)


def test_items_explain_the_metrics(minilm):
    runs = tables.read(minilm.folder / f"{OUT}/tables/runs.parquet", "runs")
    for row in runs[runs["metric"] == "accuracy"].to_dict("records"):
        path = f"{STORE}/items/minilm/{row['task']}/{row['pattern']}/{row['sparsity']:.3f}/seed0.parquet"
        items = tables.read(minilm.folder / path, "items")
        assert items["score"].mean() == pytest.approx(row["value"])
        assert len(items) == row["n_items"] == 40


def test_columns_carry_units_and_no_absolute_path_or_time_is_stored(minilm):
    schema = pq.read_schema(minilm.folder / f"{OUT}/tables/runs.parquet")
    assert schema.field("sparsity").metadata[b"unit"] == b"fraction of prunable weights"
    for path in (
        minilm.folder / f"{STORE}/checkpoints/minilm/manifest.json",
        *minilm.folder.glob(f"{OUT}/tables/runs.*"),
    ):
        assert str(minilm.folder).encode() not in path.read_bytes()


def test_a_second_computation_gives_the_same_bytes(minilm):
    before = hashes(minilm.folder, *RESULTS)
    for name in (f"{STORE}/runs", f"{STORE}/items", f"{STORE}/spectra", OUT):
        shutil.rmtree(minilm.folder / name)
    minilm.snakemake("--quiet", "rules", "host")
    assert hashes(minilm.folder, *RESULTS) == before


def test_a_corrupt_checkpoint_is_named_and_nothing_is_computed_on_it(minilm):
    (weights,) = minilm.folder.glob(f"{STORE}/checkpoints/minilm/files/model.safetensors")
    run = minilm.folder / f"{STORE}/runs/minilm/ws353/nm4/0.500/seed0.parquet"
    content = weights.read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    run.unlink()
    try:
        output = minilm.snakemake("--quiet", "rules", "host", check=False)
        assert "error: " in output
        assert re.search(r"model\.safetensors does not have the SHA-256 that .*manifest\.json lists", output)
        assert "Traceback" not in output
        assert not run.exists(), "a result on weights that are not the pinned ones"
    finally:
        weights.write_bytes(content)
        minilm.snakemake("--quiet", "rules", "host")


def test_a_corrupt_run_file_is_named(minilm):
    run = minilm.folder / f"{STORE}/runs/minilm/ws353/nm4/0.500/seed0.parquet"
    kept = run.read_bytes()
    run.write_bytes(kept[: len(kept) // 2])
    try:
        output = minilm.snakemake("--quiet", "rules", "host", check=False)
        assert "seed0.parquet is not a whole Parquet file" in output
    finally:
        run.write_bytes(kept)
        minilm.snakemake("--quiet", "rules", "host")


@pytest.mark.parametrize("behind", [[], [str(Path(sys.executable).parent)]])
def test_where_another_python_comes_first_jobs_compute_with_their_own(minilm, tmp_path, monkeypatch, behind):
    """`.venv/bin/snakemake …` without activation, and `module load` after it: `python` is another one, without the packages."""
    other = tmp_path / "python"
    other.write_text("#!/bin/sh\nexit 9\n")
    other.chmod(0o755)
    folders = (str(tmp_path), *behind, "/usr/local/bin", "/usr/bin", "/bin")
    monkeypatch.setattr(minilm, "environment", lambda: {**os.environ, "PATH": os.pathsep.join(folders)})
    path = minilm.folder / f"{OUT}/figures/knees.csv"
    kept = path.read_bytes()
    path.unlink()
    minilm.snakemake("--quiet", "rules", "host")
    assert path.read_bytes() == kept


def test_the_report_holds_every_figure_with_its_labels(minilm):
    minilm.snakemake("--report", f"{OUT}/report.html", "--quiet", "all")
    page = (minilm.folder / f"{OUT}/report.html").read_text()
    for text in ("Curves", "Where the pruned weights sit", "Essential sparsity", "reviews-finetune"):
        assert text in page
    assert re.search(r'href=\\?"explorer.html', page)
    assert (minilm.folder / f"{OUT}/explorer.html").stat().st_size < 6e6


def test_killed_in_the_middle_and_run_again_gives_the_same_tables(finished, tmp_path):
    """SIGKILL to the whole tree while evaluations run; the next `make run` clears the lock and finishes the rest."""
    workspace = Workspace(tmp_path / "study")
    workspace.configure_tiny()
    command = [
        sys.executable,
        "workflow/scripts/run_alone.py",
        "--cores",
        "2",
        "--rerun-incomplete",
        "--quiet",
        "rules",
    ]
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(command, cwd=workspace.folder, env=environment, start_new_session=True)
    deadline = time.monotonic() + 300
    while len(list(workspace.folder.glob(f"{STORE}/runs/**/seed*.parquet"))) < 2 and time.monotonic() < deadline:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.1)
    again = workspace.call(*command, check=False)
    assert "is at work in this folder" in again.stdout, "a second run must not start beside the first"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = hashes(workspace.folder, f"{STORE}/runs/**/seed*.parquet")
    assert 2 <= len(done) < 10
    workspace.call(*command)
    assert done.items() <= hashes(workspace.folder, f"{STORE}/runs/**/seed*.parquet").items()
    for name in TABLES:
        path = f"{OUT}/tables/{name}.parquet"
        assert (workspace.folder / path).read_bytes() == (finished.folder / path).read_bytes()
    assert workspace.planned() == {}


def test_pandas_reads_the_tables_without_this_library(minilm):
    frame = pd.read_parquet(minilm.folder / f"{OUT}/tables/runs.parquet")
    assert {"model", "task", "pattern", "sparsity", "seed", "value"} <= set(frame.columns)


def test_a_pruned_checkpoint_is_exported_and_loads_by_itself(minilm, tmp_path):
    program = [sys.executable, "workflow/scripts/export_checkpoint.py"]
    found = minilm.call(*program, "--model", "minilm", "--pattern", "nm4", "--sparsity", "0.5", "--task", "ws353")
    place = minilm.folder / f"{OUT}/export/minilm-nm4-0.500"
    assert f"{OUT}/export/minilm-nm4-0.500: minilm, nm4 at 0.500" in found.stdout
    code = (
        "import sys, transformers; m = transformers.AutoModel.from_pretrained(sys.argv[1]); print(m.num_parameters())"
    )
    bare = subprocess.run(
        [sys.executable, "-I", "-c", code, str(place)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    runs = pd.read_parquet(minilm.folder / f"{OUT}/tables/runs.parquet")
    assert int(bare.stdout) == runs.loc[runs["model"] == "minilm", "n_total"].iloc[0]
    value = runs.query("model == 'minilm' and pattern == 'nm4' and sparsity == 0.5 and metric == 'spearman'")[
        "value"
    ].iloc[0]
    assert f"| 0.500 (this checkpoint) | {value:.6g} |" in (place / "README.md").read_text()


def test_a_study_that_snakemake_finished_is_published_as_it_is(minilm):
    said = minilm.call(sys.executable, "workflow/scripts/publish_study.py").stdout
    place = minilm.folder / f"{OUT}/publish"
    assert f"{OUT}/publish: " in said
    assert "runs are missing" not in said
    for path in (place / "tables").glob("[!m]*.parquet"):
        assert path.read_bytes() == (minilm.folder / f"{OUT}/tables/{path.name}").read_bytes()
    assert (place / "claims.html").read_bytes() == (minilm.folder / f"{OUT}/claims.html").read_bytes()
    assert str(minilm.folder) not in (place / "ro-crate-metadata.json").read_text()
