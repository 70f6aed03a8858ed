"""A tiny pre-training inside the workflow: from text to the tables and figures of a series; what runs again, and what not."""

import re
from pathlib import Path

import pytest
from workspace import CODE, STORE, Workspace

from essential_sparsity import files, tables
from essential_sparsity.runs import settled
from essential_sparsity.study import configuration, opening, records

STUDY = {
    "models": ["tiny-100-6", "tiny-50-6"],
    "tasks": ["ws353"],
    "patterns": ["global"],
    "sparsities": [0.3, 0.6, 0.8],
    "seeds": [0],
}

TICKETS = {  # of two neighbouring checkpoints; nothing to compare them with but each other
    "models": ["tiny-100-4", "tiny-100-6"],
    "tasks": ["reviews-long"],
    "patterns": ["lth"],
    "sparsities": [0.5],
    "seeds": [0],
}


def add_row(workspace, table, **cells):
    path = workspace.folder / f"config/{table}.tsv"
    header = path.read_text().splitlines()[0].split("\t")
    assert set(cells) <= set(header)
    path.write_text(path.read_text() + "\t".join(str(cells.get(column, "")) for column in header) + "\n")


JUDGED = {"judge_claims": 1, "write_claims": 1, "write_provenance": 1}


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("emergence") / "study")
    for percent in (100, 50):
        made = {"objective": "masked-lm", "dataset": "movie-reviews", "data_fraction": percent / 5000, "seed": 0}
        made |= {"steps": 6, "checkpoint_every": 2, "batch_size": 4, "learning_rate": "1e-3", "warmup_steps": 2}
        made |= {"layers": 2, "width": 16, "heads": 2, "vocabulary": 200, "max_length": 32, "mask_rate": 0.15}
        add_row(workspace, "pretraining", pretraining=f"tiny-{percent}", label=f"tiny, {percent} %", **made)
        row = {"source": "pretraining", "id": f"tiny-{percent}", "format": "transformers", "parameters": "1e4"}
        row |= {"type": "encoder", "series": "tiny", "group": f"{percent} %", "axis": "step", "values": "0:6:2"}
        add_row(workspace, "models", model=f"tiny-{percent}", label="tiny", allow_pickle="false", **row)
    tasks = workspace.folder / "config/tasks.tsv"
    row = re.compile(r"^(reviews-long\t.*)\t1500\t1000\t2\t", flags=re.MULTILINE)
    tasks.write_text(row.sub(r"\1\t24\t40\t1\t", tasks.read_text()))
    emergence = {"series": ["tiny"], "mask_sparsities": [0.3, 0.5]}
    lottery = {"share": 0.5}
    workspace.configure(
        study="mine", grid=[STUDY, TICKETS], emergence=emergence, lottery=lottery, knees={"compare": ["model"]}
    )
    planned = workspace.planned()
    expected = {
        "train_tokenizer": 1,
        "pretrain": 2,
        "fetch_model": 3,
        "measure_spectrum": 3,
        "prune_eval": 8,
        "find_ticket": 2,
    }
    expected |= {
        "compare_checkpoints": 2,
        "compare_tickets": 1,
        "tabulate_series": 2,
        "collect_similarity": 1,
        "plot_neighbours": 1,
    }
    assert expected.items() <= planned.items()
    workspace.snakemake(
        "--quiet", "all", "--until", "find_ticket", "measure_spectrum"
    )  # in two parts: a call has ten minutes
    workspace.snakemake("--quiet", "all")
    return workspace


def read(workspace, name):
    return tables.read(workspace.folder / f"results/mine/tables/{name}.parquet", name)


def test_tables_hold_every_checkpoint_and_group(studied):
    trajectory = read(studied, "trajectory")
    whole = trajectory[trajectory["tensor"] == "all"]
    assert sorted(whole["position"].unique()) == [0, 2, 4, 6]
    assert whole.groupby("group")["model"].nunique().to_dict() == {"100 %": 4, "50 %": 4}
    first = whole[(whole["position"] == 0) & (whole["measure"] == "gini")]["value"]
    assert first.nunique() == 1, "fractions start from the same weights"
    assert trajectory["suspect"].isna().all()
    concluded = read(studied, "abruptness")
    reached = ~concluded["measure"].str.startswith("essential sparsity")
    assert set(concluded[reached]["conclusion"]) == {"too few checkpoints"}
    assert set(concluded[~reached]["conclusion"]) <= {"too few checkpoints", "beyond the levels"}
    contrasts = read(studied, "contrasts")
    assert set(contrasts["tensor"]) == set(trajectory["tensor"])
    assert contrasts["n_positions"].value_counts().idxmax() == 4
    compared = read(studied, "comparisons").query("task == 'ws353'")
    assert compared[["model_a", "model_b"]].to_numpy().tolist() == [["tiny-100-6", "tiny-50-6"]]
    losses = tables.read(studied.folder / f"{STORE}/pretraining/tiny-100/losses.parquet", "losses")
    assert losses["step"].iloc[-1] == 6


def test_masks_of_neighbouring_checkpoints_are_compared(studied):
    """Of checkpoints that were only measured and of those that were pruned; tickets where two neighbours have them."""
    alike = read(studied, "similarity")
    near = alike[alike["between"] == "checkpoint"]
    whole = near[near["scope"] == "model"]
    one_shot = whole[whole["pattern_a"] == "global"]
    places = one_shot.groupby(["group", "sparsity"])[["position_a", "position_b"]].apply(
        lambda part: part.to_numpy().tolist()
    )
    assert places.index.tolist() == [(group, s) for group in ("100 %", "50 %") for s in (0.3, 0.5)]
    assert all(found == [[0, 2], [2, 4], [4, 6]] for found in places)
    assert (one_shot["pruned_a"] == (one_shot["sparsity"] * one_shot["n"] + 0.5).astype(int)).all()
    assert (one_shot["cosine_kept"] > one_shot["cosine_kept_chance"] + 0.1).all(), "one step of training changes little"
    assert set(near["training"]) == {"tiny-100", "tiny-50"}
    assert set(near["scope"]) == {"model", "layer", "matrix"}
    tickets = whole[whole["pattern_a"] == "lth"]
    assert tickets[["model_a", "model_b", "task_b", "sparsity"]].to_numpy().tolist() == [
        ["tiny-100-4", "tiny-100-6", "reviews-long", 0.5]
    ]
    assert set(alike.loc[alike["between"] == "pattern", "model_b"]) == {"tiny-100-4", "tiny-100-6"}
    assert alike.loc[alike["between"] == "pattern", "series"].isna().all()


def test_figures_are_drawn(studied):
    for name in ("trajectory", "distributions", "similarity/checkpoints"):
        assert "<svg" in (studied.folder / f"results/mine/figures/{name}/tiny.svg").read_text()[:2000]


def test_nothing_runs_again_but_what_changed(studied):
    assert studied.planned() == {}
    with studied.edit(
        "workflow/scripts/essential_sparsity/emergence/measures.py", "CONVINCING = 0.9", "CONVINCING = 0.95"
    ):
        assert studied.planned() == {
            "measure_series": 1, "plot_trajectory": 1, "plot_distributions": 1, "plot_neighbours": 1,
        } | JUDGED  # fmt: skip
    again = {"compare_checkpoints": 2, "collect_similarity": 1, "plot_neighbours": 1, "plot_similarity": 2} | JUDGED
    with studied.edit("workflow/scripts/essential_sparsity/emergence/neighbours.py", *CODE):
        assert studied.planned() == again
    with studied.edit("config/config.yaml", "- 0.3\n  - 0.5\n", "- 0.3\n  - 0.5\n  - 0.7\n"):
        assert studied.planned() == again
    with studied.edit("config/pretraining.tsv", "tiny, 50 %", "half"):
        assert studied.planned() == {}, "a label is no setting"
    with studied.edit("config/models.tsv", "0:6:2", "0,4,6"):
        planned = studied.planned()
    assert not planned.keys() & {
        "pretrain",
        "fetch_model",
        "measure_spectrum",
        "prune_eval",
        "find_ticket",
        "fit_knees",
    }, planned
    assert (planned["tabulate_series"], planned["compare_checkpoints"], planned["measure_series"]) == (1, 1, 1)


def test_checkpoints_of_another_training_than_is_asked_for_pass_for_nothing(studied, monkeypatch):
    """Where nothing is made (`make tables`, an export), it is their pre-training and its record that say what they are."""
    monkeypatch.chdir(studied.folder)
    made = f"{STORE}/pretraining/tiny-50/manifest.json"
    steps = {step: f"{STORE}/checkpoints/tiny-50-{step}/manifest.json" for step in (0, 2, 4, 6)}

    def asked(**changed):
        config = configuration.read_config("config/config.yaml") | changed
        return opening.read(config)

    assert asked().of_other == []
    assert records.lost(asked()) == []
    assert len(asked(missing_runs="skip").members) == 8
    with studied.edit("config/pretraining.tsv", "tiny, 50 %\tmasked-lm", "half\tmasked-lm"):
        assert asked().of_other == [], "a label is no setting"
    row = next(line for line in Path("config/pretraining.tsv").read_text().splitlines() if line.startswith("tiny-50"))
    with studied.edit("config/pretraining.tsv", row, row.replace("1e-3", "2e-3")):
        assert asked().of_other == sorted([*steps.values(), made])
        assert {member["group"] for member in asked(missing_runs="skip").members} == {"100 %"}
        again = settled.outdated(opening.unlocked(configuration.read_config("config/config.yaml")))
        assert made in again
        assert {path.split("/")[0] for path in again} == {"results", "tiny-50-6"}
        monkeypatch.setattr(records, "made_with", lambda path, *params: None)
        assert made in asked().of_other, "as it says itself, where no record does"
        monkeypatch.setattr(records, "_record", lambda place, path: False)
        assert made in records.lost(asked())
    assert made not in records.lost(asked())
    monkeypatch.undo()
    monkeypatch.chdir(studied.folder)
    kept = Path(made).read_bytes()
    said = files.read_json(made)
    said["files"] = [
        file | {"sha256": "0" * 64} if file["path"] == "step-4/model.safetensors" else file for file in said["files"]
    ]
    files.write_json(Path(made), said)
    try:
        there = [path for path in asked().of_other if path.endswith("/manifest.json")]
        assert there == [steps[4]], "trained anew, and not read since"
        Path(made).unlink()
        there = [path for path in asked().of_other if path.endswith("/manifest.json")]
        assert there == sorted(steps.values()), "trained anew, and killed"
        assert {member["group"] for member in asked(missing_runs="skip").members} == {"100 %"}
    finally:
        Path(made).write_bytes(kept)
    data = Path(f"{STORE}/datasets/movie-reviews/manifest.json")
    kept = data.read_bytes()
    try:
        data.write_bytes(kept + b"\n")
        assert {made, *steps.values()} <= {*asked().of_other}, "other data have been fetched, and not been trained on"
        data.unlink()
        assert asked().of_other == [], "the next call fetches the same"
        monkeypatch.setattr(records, "made_with", lambda path, *params: None)
        assert {made, *steps.values()} <= {*asked().of_other}
    finally:
        data.write_bytes(kept)


def test_without_sparsities_no_masks_of_checkpoints_are_compared(studied):
    with studied.edit("config/config.yaml", "mask_sparsities:\n  - 0.3\n  - 0.5\n", "mask_sparsities: []\n"):
        planned = studied.planned()
    assert not planned.keys() & {"compare_checkpoints", "plot_neighbours", "prune_eval", "measure_series"}, planned


def test_a_shard_of_another_step_is_found_and_left_out(studied):
    """The step's own file is replaced by the weights of a later step, which the manifest has to say, or it is refused."""
    import shutil

    folder = studied.folder / f"{STORE}/pretraining/tiny-100"
    kept, said = folder / "step-2.kept", (folder / "manifest.json").read_bytes()
    shutil.copytree(folder / "step-2", kept)
    try:
        shutil.copy(folder / "step-6/model.safetensors", folder / "step-2/model.safetensors")
        wanted = ("measure_series", "collect_similarity")
        again = ("--quiet", "rules", "host", "--forcerun", "measure_pretraining_tiny-100", "--until", *wanted)
        assert "step-2/model.safetensors is gone, or is not what the pre-training wrote" in studied.snakemake(
            *again, check=False
        )
        record = files.read_json(folder / "manifest.json")
        listed = {file["path"]: file for file in record["files"]}
        listed["step-2/model.safetensors"]["sha256"] = listed["step-6/model.safetensors"]["sha256"]
        files.write_json(folder / "manifest.json", record)
        studied.snakemake("--quiet", "all", "--forcerun", "measure_pretraining_tiny-100", "--until", *wanted)
        trajectory = read(studied, "trajectory")
        suspect = trajectory[trajectory["suspect"].notna()]
        assert set(suspect["model"]) == {"tiny-100-2"}
        assert set(suspect["suspect"]) == {"the same weights as 6"}
        log = (studied.folder / "results/mine/logs/measure_series.log").read_text()
        assert "tiny-100-2 is left out of fits: it has the same weights as 6" in log
        alike = read(studied, "similarity")
        near = alike[(alike["training"] == "tiny-100") & (alike["scope"] == "model") & (alike["sparsity"] == 0.3)]
        assert near[["position_a", "position_b"]].to_numpy().tolist() == [[0, 4], [4, 6]]
    finally:
        shutil.rmtree(folder / "step-2")
        kept.rename(folder / "step-2")
        (folder / "manifest.json").write_bytes(said)
