"""What patterns are calibrated on: chosen in the configuration, refused where it does not fit, and a part of what decides runs."""

import pandas as pd
import pytest
import yaml
from changes import Study, append, edit

from essential_sparsity import tables
from essential_sparsity.study import configuration, opening

HEADER = "calibration\tdataset\tsource\tid\trevision\tformat\tcolumns\tsplit\tsequences\tlength\tsampling\tseed\tnote"
ROW = "mine\ttexts\tpath\tdata/texts.csv\t\tcsv\t\t\t8\t16\tjoined\t0\t"
CALIBRATIONS = "config/calibrations.tsv"
GRID = [
    {"models": ["one"], "tasks": ["short"], "patterns": ["random"], "sparsities": [0.2, 0.4], "seeds": [0]},
    {"models": ["one"], "tasks": ["short"], "patterns": ["wanda", "sparsegpt"], "sparsities": [0.2, 0.4], "seeds": [0]},
]
AGAIN = {
    "collect_runs": 1,
    "collect_costs": 1,
    "fit_knees": 1,
    "collect_knees": 1,
    "tabulate_knees": 1,
    "plot_curve": 1,
    "measure_differences": 1,
    "judge_claims": 1,
    "write_claims": 1,
    "write_explorer": 1,
    "write_provenance": 1,
}
GRIDDED = AGAIN | {"tabulate_grid": 1, "count_layers": 1, "plot_layers": 1}


@pytest.fixture
def calibrated(tmp_path):
    made = Study(tmp_path / "study")
    made.build()
    (made.folder / "data/texts.csv").write_text("text\nsome words\n")
    (made.folder / CALIBRATIONS).write_text(f"{HEADER}\n{ROW}\n")
    made.study(grid=GRID, calibration={"encoder": "mine"}, references=None)
    return made


def without_references(planned):
    return {rule: count for rule, count in planned.items() if rule != "check_references"}


def test_what_a_pattern_is_calibrated_on_decides_its_runs_and_no_others(calibrated):
    assert calibrated.planned()["fetch_dataset"] == 2
    calibrated.run()
    assert calibrated.planned() == {}
    runs = tables.read(calibrated.folder / "results/mine/tables/runs.parquet", "runs")
    given = runs.groupby("pattern")["calibration_sha256"].nunique()
    assert given.to_dict() == {"dense": 0, "random": 0, "sparsegpt": 1, "wanda": 1}
    append(CALIBRATIONS, "other\ttexts\tpath\tdata/texts.csv\t\tcsv\t\t\t9\t16\tjoined\t0\t\n")(calibrated)
    assert calibrated.planned() == {}, "a row that is not chosen decides nothing"
    edit(CALIBRATIONS, "\t8\t16\t", "\t8\t32\t")(calibrated)
    assert without_references(calibrated.planned()) == {"prune_eval": 4} | GRIDDED
    calibrated.run()
    assert calibrated.planned() == {}, "one call is enough"
    append("data/texts.csv", "more words\n")(calibrated)
    assert without_references(calibrated.planned()) == {"fetch_dataset": 1, "prune_eval": 4} | AGAIN
    calibrated.run()
    assert calibrated.planned() == {}
    after = tables.read(calibrated.folder / "results/mine/tables/runs.parquet", "runs")
    same = runs.merge(after, on=["pattern", "sparsity", "metric"])
    changed = same.groupby("pattern").apply(
        lambda rows: (rows["digest_x"] != rows["digest_y"]).all(), include_groups=False
    )
    assert changed.to_dict() == {"dense": False, "random": False, "sparsegpt": True, "wanda": True}
    append("workflow/scripts/essential_sparsity/pruning/sparsegpt.py", "MORE = 1\n")(calibrated)
    assert without_references(calibrated.planned()) == {"prune_eval": 4} | GRIDDED, (
        "code of calibrated pruning is theirs alone"
    )


def test_runs_of_another_calibration_are_not_tabulated(calibrated):
    calibrated.run()
    manifest = calibrated.folder / "results/store/datasets/texts/manifest.json"
    manifest.write_text(manifest.read_text().replace('"sha256": "', '"sha256": "0'))
    said = calibrated.run(
        "--allowed-rules", "collect_runs", "--forcerun", "collect_runs", "--rerun-triggers", "params", check=False
    )
    assert "other calibration" in said
    assert "/wanda/" in said
    assert "/random/" not in said


def read(folder, **changes):
    config = yaml.safe_load((folder / "config/config.yaml").read_text())
    return opening.read(config | changes)


@pytest.mark.parametrize(
    ("rows", "chosen", "message"),
    [
        (ROW, {}, r"grid\[1\]\.patterns: 'wanda' needs a calibration for 'one'\. Name a row of .* under `calibration: \{encoder: …\}`"),
        (ROW, {"encoder": "mini"}, "calibration.encoder: .* has no row 'mini'; did you mean 'mine'"),
        (ROW.replace("\t16\tjoined", "\t\t"), {"encoder": "mine"}, "'mine' does not fit; models of type encoder are calibrated on texts"),
        (ROW.replace("joined", ""), {"encoder": "mine"}, "column sampling: blank, but texts need it"),
        (ROW.replace("texts\tpath\tdata/texts.csv", "news\tpath\tdata/other.csv"), {"encoder": "mine"}, "column id: 'data/other.csv' but the task 'short' gives the same dataset 'news' 'data/news.csv'"),
        (ROW.replace("\t8\t", "\tmany\t"), {"encoder": "mine"}, "line 2, column sequences: 'many'"),
        (ROW.replace("path\tdata", "hub\tdata"), {"encoder": "mine"}, "column revision: blank, but a hub source needs the commit"),
    ],
)  # fmt: skip
def test_calibrations_that_do_not_fit_are_refused_by_name(calibrated, monkeypatch, rows, chosen, message):
    monkeypatch.chdir(calibrated.folder)
    (calibrated.folder / CALIBRATIONS).write_text(f"{HEADER}\n{rows}\n")
    with pytest.raises(configuration.ConfigError, match=message):
        read(calibrated.folder, calibration=chosen)


def test_rows_that_no_block_needs_are_not_looked_at(calibrated, monkeypatch):
    monkeypatch.chdir(calibrated.folder)
    found = read(calibrated.folder, grid=GRID[:1], calibration={"encoder": "nothing"})
    assert found.calibrations == {}
    assert found.used_datasets == ["news"]
    assert pd.isna(found.rows()[0]["calibration"])
