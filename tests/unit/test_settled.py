"""What is said of a study whose tables are of something else than is asked for now: each thing once, and of the runs that are."""

from types import SimpleNamespace

import pandas as pd
import pytest

from essential_sparsity import tables
from essential_sparsity.runs import settled
from essential_sparsity.study import estimate, opening
from essential_sparsity.tables import missing, runs

RUN = {"model": "m", "task": "t", "pattern": "global", "sparsity": 0.5, "seed": 0}


def rows_of(*more: dict) -> pd.DataFrame:
    return pd.DataFrame([RUN | row for row in more])


@pytest.mark.parametrize("column", ["checkpoint", "dataset", "calibration", "ticket", "items"])
def test_a_file_that_runs_were_made_of_and_that_is_gone_is_named(tmp_path, column):
    there = tmp_path / "there"
    there.touch()
    files = dict.fromkeys(("checkpoint", "dataset", "calibration", "ticket", "items"), str(there))
    grid = rows_of(files, files | {"seed": 1, column: str(tmp_path / "gone")}, files | {"seed": 2, column: None})
    with pytest.raises(ValueError, match="gone is not there: runs of the tables were made of it"):
        settled._compared(grid, pd.DataFrame())


def test_runs_of_other_code_alone_are_not_counted_with_those_that_are_refused(monkeypatch):
    files = dict.fromkeys(("checkpoint", "dataset", "calibration", "ticket", "items"))
    grid = rows_of(*(files | {"run": name} for name in "abcd"))
    monkeypatch.setattr(runs, "beside", lambda grid, found: grid)
    monkeypatch.setattr(runs, "differing", lambda joined: pd.Series(["", "code", "settings, code", "data"]))
    with pytest.raises(
        ValueError, match=r"^2 runs of the tables were made of other data and settings than .* such as c\."
    ):
        settled._compared(grid, grid)
    monkeypatch.setattr(runs, "differing", lambda joined: pd.Series(["", "code", "code", ""]))
    assert settled._compared(grid, grid) == ["The code that evaluates has changed since some runs were computed."]
    monkeypatch.setattr(runs, "differing", lambda joined: pd.Series([""] * 4))
    assert settled._compared(grid, grid) == []


def test_runs_of_other_settings_are_counted_once_and_those_that_are_not_there_are_none(tmp_path, monkeypatch):
    asked = [RUN | {"seed": seed, "settings_sha256": "now"} for seed in range(4)]
    found = [
        RUN | {"seed": seed, "metric": metric, "settings_sha256": said}
        for seed, said in enumerate(["now", "then", "then"])
        for metric in ("accuracy", "f1")
    ]
    study = SimpleNamespace(folder=str(tmp_path), rows=lambda: asked)
    assert settled.other_settings(study) is None, "there is no table"
    path = tmp_path / "tables/runs.parquet"
    path.parent.mkdir()
    path.touch()
    monkeypatch.setattr(tables, "read", lambda path, name: pd.DataFrame(found))
    assert settled.other_settings(study).startswith("2 runs of these tables are of other settings than ")
    found[2:] = []
    assert settled.other_settings(study) is None


def test_what_was_trained_of_another_source_is_computed_anew_beside_evaluations(monkeypatch):
    other = [f"{place}a" for place in estimate.TRAINED] + ["results/store/datasets/t/manifest.json"]
    monkeypatch.setattr(opening, "read", lambda config: SimpleNamespace(of_other=other))
    monkeypatch.setattr(
        missing, "outdated", lambda there, of_other: {"job": f"{len(there)} rows, {len(of_other)} files"}
    )
    study = SimpleNamespace(given={}, jobs=["a"], stored=lambda jobs: jobs, rows=lambda jobs: [RUN] * len(jobs))
    told = "made of something else than is asked for now"
    assert settled.outdated(study) == {"job": "1 rows, 3 files"} | dict.fromkeys(other[:-1], told)
    study.stored = lambda jobs: []
    assert settled.outdated(study) == dict.fromkeys(other[:-1], told)


def test_a_run_that_is_both_tabulated_and_told_as_missing_is_one():
    asked = rows_of(*({"seed": seed, "run": str(seed)} for seed in range(3)))
    kept = settled._tabulated("s", asked, rows_of({}, {"seed": 1}), rows_of({"seed": 1}, {"seed": 2}))
    assert kept["seed"].tolist() == [0, 1]
    with pytest.raises(ValueError, match=r"have 1 runs too few \(m, t, global, 0\.5, 2"):
        settled._tabulated("s", asked, rows_of({}, {"seed": 1}), rows_of({"seed": 1}))
    with pytest.raises(
        ValueError, match=r"have 1 runs that its configuration does not ask for \(m, t, global, 0\.5, 9"
    ):
        settled._tabulated("s", asked, rows_of({}, {"seed": 9}), rows_of({"seed": 1}, {"seed": 2}))
