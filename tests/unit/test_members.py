"""The table of studied checkpoints, and the programs that read it."""

import shutil

import pandas as pd
import pytest
import torch

import measure_series
import plot_distributions
import plot_trajectory
from essential_sparsity import tables
from essential_sparsity.checkpoints import fingerprints
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.emergence import members
from essential_sparsity.errors import UserError
from essential_sparsity.pruning import spectrum

GROUPS = {"first": "lr=1e-3", "second": "lr=1e-4 of $ 5_ = b"}
STEPS = (0, 1, 2)


def rows_of(training, group):
    return [
        {"series": "s", "group": group, "training": training, "model": f"{training}-{step}", "axis": "step"}
        | {"position": float(step)}
        for step in STEPS
    ]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """Two trainings of one small matrix, the first of which was trained here: the folder of the results."""
    root = tmp_path_factory.mktemp("results")
    weight = PrunableWeight("0.a", 0, "a", "mlp", (40, 30), 1)
    for training, group in GROUPS.items():
        for step in STEPS:
            generator = torch.Generator().manual_seed(step)
            values = torch.randn(weight.shape, generator=generator) * (0.01 if training == "first" else 0.02)
            model = f"{training}-{step}.parquet"
            tables.write(spectrum.build([(weight, values)]), "spectrum", root / "spectra" / model)
            tables.write(fingerprints.of_tensor(weight, values), "fingerprints", root / "fingerprints" / model)
        losses = str(root / "made/losses.parquet") if training == "first" else None
        found = members.tabulated(rows_of(training, group), str(root), losses)
        tables.write(found, "series", root / f"series/{training}.parquet")
    losses = pd.DataFrame({"pretraining": "made", "step": STEPS, "loss": [3.0, 2.0, 1.0], "learning_rate": 1e-3})
    tables.write(losses, "losses", root / "made/losses.parquet")
    tables.write(tables.empty("knees"), "knees", root / "knees.parquet")
    return root


def series_of(root):
    return [str(root / f"series/{training}.parquet") for training in GROUPS]


def test_a_row_says_where_what_was_measured_of_a_checkpoint_stands(studied):
    series = tables.collect(series_of(studied), "series")
    assert series["model"].tolist() == [f"{training}-{step}" for training in GROUPS for step in STEPS]
    assert series["group"].unique().tolist() == list(GROUPS.values())
    assert set(members.fingerprints(series)) == set(series["model"])
    assert tables.read(series["spectra"][0], "spectrum")["tensor"].unique().tolist() == ["0.a"]
    assert series.loc[series["training"] == "second", "losses"].isna().all()
    losses = members.losses(series)
    assert losses[["training", "step", "loss"]].to_numpy().tolist() == [
        ["first", step, 3.0 - step] for step in STEPS
    ]  # fmt: skip


def test_losses_of_another_pre_training_are_refused_by_name(studied):
    series = tables.collect(series_of(studied), "series")
    shutil.copytree(studied / "made", studied / "other")
    series["losses"] = series["losses"].str.replace("/made/", "/other/")
    with pytest.raises(UserError, match=r"other/losses.parquet holds the losses of made. Delete it"):
        members.losses(series)


def test_groups_keep_their_names_whatever_characters_they_hold(studied):
    made = {name: str(studied / f"tables/{name}.parquet") for name in ("trajectory", "abruptness", "contrasts")}
    common = ["--series-table", *series_of(studied)]
    out = [part for name, path in made.items() for part in (f"--{name}", path)]
    measure_series.main([*common, "--knees", str(studied / "knees.parquet"), *out])
    found = tables.read(made["trajectory"], "trajectory")
    assert found.groupby("training")["group"].unique().map(list).to_dict() == {n: [g] for n, g in GROUPS.items()}
    assert found["suspect"].isna().all()
    fitted = tables.read(made["abruptness"], "abruptness")
    assert fitted.loc[fitted["measure"] == "loss", "training"].tolist() == ["first"]
    assert tables.read(made["contrasts"], "contrasts")["group_a"].unique().tolist() == ["lr=1e-3"]
    drawn = [*common, "--series", "s", "--out", str(studied / "figure.svg")]
    plot_trajectory.main(["--trajectory", made["trajectory"], "--abruptness", made["abruptness"], *drawn])
    plot_distributions.main(drawn)
