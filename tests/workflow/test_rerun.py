"""Only what changed runs again: each line of the promise, counted on a finished study (dense, two patterns, two seeds)."""

import os

from workspace import TINY, Workspace

from essential_sparsity import tables

LIBRARY = "workflow/scripts/essential_sparsity"
AFTER_RUNS = {"collect_runs": 1, "collect_costs": 1, "knees": 1, "plot_curve": 1, "tabulate_knees": 1}


def grid_of(workspace, **changes):
    before = (workspace.folder / "config/config.yaml").read_text()
    workspace.configure(grid=[TINY | changes])
    try:
        return workspace.planned()
    finally:
        (workspace.folder / "config/config.yaml").write_text(before)


def test_nothing_changed_runs_nothing(finished):
    assert finished.planned() == {}


def test_touching_everything_runs_nothing(finished):
    for file in sorted(finished.folder.rglob("*")):
        if file.is_file() and ".snakemake" not in file.parts:
            os.utime(file)
    assert finished.planned() == {}


def test_editing_knee_code_runs_knees_and_what_follows(finished):
    with finished.edit(f"{LIBRARY}/curves/knees.py", '"""', '"""Edited. '):
        assert finished.planned() == {"knees": 1, "plot_curve": 1, "tabulate_knees": 1}
    assert finished.planned() == {}, "an edit taken back must leave nothing to do"


def test_editing_mask_code_runs_evaluations(finished):
    with finished.edit(f"{LIBRARY}/pruning/masks.py", '"""', '"""Edited. '):
        planned = finished.planned()
    assert planned["prune_eval"] == 10
    assert "fetch_model" not in planned
    assert "spectrum" not in planned


def test_editing_a_figure_runs_that_figure(finished):
    with finished.edit("workflow/scripts/plot_curve.py", '"""', '"""Edited. '):
        assert finished.planned() == {"plot_curve": 1}


def test_editing_the_code_of_another_kind_of_task_runs_nothing(finished):
    with finished.edit(f"{LIBRARY}/tasks/perplexity.py", '"""', '"""Edited. '):
        assert finished.planned() == {}


def test_editing_the_code_of_the_task_runs_its_evaluations(finished):
    with finished.edit(f"{LIBRARY}/tasks/text_similarity.py", '"""', '"""Edited. '):
        assert finished.planned()["prune_eval"] == 10


def test_adding_a_sparsity_runs_just_its_runs(finished):
    planned = grid_of(finished, sparsities=[0.3, 0.5, 0.6])
    assert planned == {"prune_eval": 4, "layers": 1, "plot_layers": 1} | AFTER_RUNS


def test_adding_a_seed_runs_just_its_runs(finished):
    assert grid_of(finished, seeds=[0, 1, 2]) == {"prune_eval": 5} | AFTER_RUNS


def test_adding_a_pattern_runs_just_its_runs(finished):
    planned = grid_of(finished, patterns=["global", "random", "layerwise"])
    assert planned == {"prune_eval": 4, "layers": 1, "plot_layers": 1} | AFTER_RUNS


def test_adding_a_model_by_one_row_runs_just_its_jobs(finished):
    row = "splade-two\tAnother\tencoder\tpackage\tsplade-tiny\t\ttransformers\t4.4e6\tfalse\t\nsplade-tiny\t"
    with finished.edit("config/models.tsv", "splade-tiny\t", row):
        assert finished.planned() == {}, "a row that no grid names runs nothing"
        planned = grid_of(finished, models=["splade-tiny", "splade-two"])
    assert planned == {
        "fetch_model": 1, "spectrum": 1, "prune_eval": 10, "layers": 1, "collect_runs": 1, "collect_costs": 1, "knees": 1,
        "tabulate_knees": 1, "plot_curve": 2, "plot_models": 1, "plot_layers": 2,
    }  # fmt: skip


def test_adding_a_task_by_one_row_runs_just_its_jobs(finished):
    row = (
        "ws353-again\tAgain\ttext-similarity\tzero-shot\tws353\tpackage\tws353\t\tword-pairs"
        + "\t" * 6
        + "\t8"
        + "\t" * 5
        + "1\t0.1\nws353\t"
    )
    with finished.edit("config/tasks.tsv", "ws353\t", row):
        planned = grid_of(finished, tasks=["ws353", "ws353-again"])
    assert planned == {
        "prune_eval": 10,
        "collect_runs": 1,
        "collect_costs": 1,
        "knees": 1,
        "tabulate_knees": 1,
        "plot_curve": 2,
    }


def test_a_setting_that_the_task_uses_runs_its_evaluations(finished):
    with finished.edit("config/tasks.tsv", "\t16\t\t\t\t\t1\t0.1", "\t12\t\t\t\t\t1\t0.1"):
        assert finished.planned()["prune_eval"] == 10


def test_requested_time_and_memory_are_not_part_of_a_result(finished):
    with finished.edit("config/tasks.tsv", "\t1\t0.1\n", "\t1\t7\n"):
        assert finished.planned() == {}


def test_lost_benchmark_files_cost_no_second_computation(finished):
    folder = finished.folder / "results/benchmarks"
    folder.rename(folder.with_name("elsewhere"))
    try:
        assert finished.planned() == {}
    finally:
        folder.with_name("elsewhere").rename(folder)


def test_a_lost_run_is_computed_again_alone(finished):
    run = finished.folder / "results/runs/splade-tiny/ws353/global/0.300/seed1.parquet"
    kept = run.read_bytes()
    run.unlink()
    try:
        assert finished.planned()["prune_eval"] == 1
    finally:
        run.write_bytes(kept)


def refer(study, value, source="an earlier run"):
    header = "model\ttask\tmetric\tvalue\ttolerance\tsource\n"
    row = f"splade-tiny\tws353\tspearman\t{value}\t0.001\t{source}\n"
    (study.folder / "config/references.tsv").write_text(header + row)


def test_sparse_runs_wait_for_a_dense_one_that_agrees_and_finished_ones_stay(finished, tmp_path):
    study = Workspace(tmp_path / "copy", finished)
    study.configure(grid=[TINY | {"patterns": ["global"], "sparsities": [0.45], "seeds": [0]}])
    dense, run = (f"results/runs/splade-tiny/ws353/{name}/seed0.parquet" for name in ("dense/0.000", "global/0.450"))
    right = tables.read(study.folder / dense, "runs")["value"][0]
    refer(study, right + 0.1)
    output = study.snakemake(run, check=False)
    assert f"spearman is {right:.4g}, but {right + 0.1:g} ± 0.001 was expected (an earlier run)" in output
    assert not (study.folder / run).exists()
    assert study.planned(run) == {"check_dense": 1, "prune_eval": 1}
    assert "warning: Dense splade-tiny ws353" in study.snakemake(run, "--config", "dense_check=warn")
    assert (study.folder / run).exists()
    refer(study, right)
    assert study.planned(run) == {"check_dense": 1}, "a reference that changes re-runs nothing but the comparison"
    study.snakemake(run)
    refer(study, right + 0.1)
    assert "was expected" in study.snakemake(run, check=False)
    refer(study, right, "told otherwise")
    assert study.planned(run) == {"check_dense": 1}, "nor one that was wrong for a while"
