"""A tiny pre-training inside the workflow: from text to the tables and figures of a series; what runs again, and what not."""

import pytest

from essential_sparsity import tables

STUDY = {
    "models": ["tiny-100-6", "tiny-50-6"],
    "tasks": ["ws353"],
    "patterns": ["global"],
    "sparsities": [0.3, 0.6, 0.8],
    "seeds": [0],
}


def add_row(workspace, table, **cells):
    path = workspace.folder / f"config/{table}.tsv"
    header = path.read_text().splitlines()[0].split("\t")
    assert set(cells) <= set(header)
    path.write_text(path.read_text() + "\t".join(str(cells.get(column, "")) for column in header) + "\n")


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    from conftest import Workspace

    workspace = Workspace(tmp_path_factory.mktemp("emergence") / "study")
    for percent in (100, 50):
        made = {"objective": "masked-lm", "dataset": "movie-reviews", "data_fraction": percent / 5000, "seed": 0}
        made |= {"steps": 6, "checkpoint_every": 2, "batch_size": 4, "learning_rate": "1e-3", "warmup_steps": 2}
        made |= {"layers": 2, "width": 16, "heads": 2, "vocabulary": 200, "max_length": 16, "mask_rate": 0.15}
        add_row(workspace, "pretraining", pretraining=f"tiny-{percent}", label=f"tiny, {percent} %", **made)
        row = {"source": "pretraining", "id": f"tiny-{percent}", "format": "transformers", "parameters": "1e4"}
        row |= {"type": "encoder", "series": "tiny", "group": f"{percent} %", "axis": "step", "values": "0:6:2"}
        add_row(workspace, "models", model=f"tiny-{percent}", label="tiny", allow_pickle="false", **row)
    workspace.configure(grid=[STUDY], studies={"series": ["tiny"]}, knees={"compare": ["model"]})
    planned = workspace.planned()
    expected = {"train_tokenizer": 1, "pretrain": 2, "fetch_model": 2, "spectrum": 2, "prune_eval": 4}
    assert expected.items() <= planned.items()
    workspace.snakemake("--quiet", "all")
    return workspace


def read(workspace, name):
    return tables.read(workspace.folder / f"results/tables/{name}.parquet", name)


def test_tables_hold_every_checkpoint_and_group(studied):
    trajectory = read(studied, "trajectory")
    whole = trajectory[trajectory["tensor"] == "all"]
    assert sorted(whole["position"].unique()) == [0, 2, 4, 6]
    assert whole.groupby("group")["model"].nunique().to_dict() == {"100 %": 4, "50 %": 4}
    first = whole[(whole["position"] == 0) & (whole["measure"] == "gini")]["value"]
    assert first.nunique() == 1, "fractions start from the same weights"
    assert trajectory["marked"].isna().all()
    assert set(read(studied, "abruptness")["conclusion"]) == {"too few checkpoints"}
    contrasts = read(studied, "contrasts")
    assert set(contrasts["tensor"]) == set(trajectory["tensor"])
    assert contrasts["n_positions"].value_counts().idxmax() == 4
    compared = read(studied, "comparisons")
    assert compared[["model_a", "model_b"]].to_numpy().tolist() == [["tiny-100-6", "tiny-50-6"]]
    losses = tables.read(studied.folder / "results/pretraining/tiny-100/losses.parquet", "losses")
    assert losses["step"].iloc[-1] == 6


def test_figures_are_drawn(studied):
    for name in ("trajectory", "distributions"):
        assert "<svg" in (studied.folder / f"results/figures/{name}/tiny.svg").read_text()[:2000]


def test_nothing_runs_again_but_what_changed(studied):
    assert studied.planned() == {}
    with studied.edit("workflow/scripts/essential_sparsity/emergence.py", "CONVINCING = 0.9", "CONVINCING = 0.95"):
        assert studied.planned() == {"trajectory": 1, "plot_trajectory": 1, "plot_distributions": 1}
    with studied.edit("config/pretraining.tsv", "tiny, 50 %", "half"):
        assert studied.planned() == {}, "a label is no setting"
    with studied.edit("config/models.tsv", "0:6:2", "0:6:6"):
        planned = studied.planned()
    assert not planned.keys() & {"pretrain", "fetch_model", "spectrum", "prune_eval", "knees"}, planned
    assert planned["trajectory"] == 1


def test_a_shard_of_another_step_is_found_and_left_out(studied):
    """The step's own file is replaced behind the manifest's back by the weights of a later step."""
    import shutil

    folder = studied.folder / "results/pretraining/tiny-100"
    kept = folder / "step-2.kept"
    shutil.copytree(folder / "step-2", kept)
    try:
        shutil.copy(folder / "step-6/model.safetensors", folder / "step-2/model.safetensors")
        studied.snakemake("--quiet", "all", "--forcerun", "measure_tiny-100", "--until", "trajectory")
        trajectory = read(studied, "trajectory")
        marked = trajectory[trajectory["marked"].notna()]
        assert set(marked["model"]) == {"tiny-100-2"}
        assert set(marked["marked"]) == {"the same weights as 6"}
        log = (studied.folder / "results/logs/trajectory.log").read_text()
        assert "tiny-100-2 is left out of fits: it has the same weights as 6" in log
    finally:
        shutil.rmtree(folder / "step-2")
        kept.rename(folder / "step-2")
