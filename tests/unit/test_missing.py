"""Runs that are not there: each is named with what its log says, and the others are tabulated and read."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from test_figures import spectrum_of
from test_tables import grid_rows, of_task, write_runs

import collect_knees
import collect_runs
import count_layers
from essential_sparsity import errors, files, tables
from essential_sparsity.curves import comparisons, differences, knees
from essential_sparsity.emergence import trajectories
from essential_sparsity.figures import curves as figures
from essential_sparsity.figures import summary
from essential_sparsity.study import refinement
from essential_sparsity.tables import missing, runs

# --- which are missing, and why


@pytest.fixture
def grid(tmp_path) -> pd.DataFrame:
    """Dense runs of two seeds, a job of two levels for each, and a lottery ticket; all of them there."""
    parts = [
        *(grid_rows(tmp_path, "dense", (0.0,), seed) for seed in (0, 1)),
        *(grid_rows(tmp_path, "global", (0.2, 0.4), seed) for seed in (0, 1)),
        grid_rows(tmp_path, "lth"),
    ]
    grid = pd.concat(parts, ignore_index=True)
    evaluate(grid)
    return grid


def evaluate(grid: pd.DataFrame, **changed) -> None:
    """Write the files of runs and of their items, which are texts here."""
    for path in grid["items"].unique():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(path)
    for path, rows in grid.groupby("items"):
        write_runs(rows, items_sha256=files.sha256_file(path), **changed)


def log_of(tmp_path: Path, name: str, text: str) -> str:
    path = tmp_path / f"logs/{name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def table(grid: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    missing._last_line.cache_clear()
    found = missing.table(grid, tmp_path / "logs")
    tables.write(found, "missing_runs", tmp_path / "missing_runs.parquet")
    return tables.read(tmp_path / "missing_runs.parquet", "missing_runs")


def only(grid: pd.DataFrame, **key) -> pd.DataFrame:
    return grid[(grid[list(key)] == pd.Series(key)).all(axis=1)]


def lose(rows: pd.DataFrame, column: str = "run") -> None:
    for path in rows[column].unique():
        Path(path).unlink()


def test_nothing_is_missing_of_a_finished_study(grid, tmp_path):
    assert table(grid, tmp_path).empty
    assert missing.without(grid, table(grid, tmp_path)).equals(grid)


def test_a_lost_file_takes_its_levels_and_no_others(grid, tmp_path):
    gone = only(grid, pattern="global", seed=1)
    lose(gone)
    found = table(grid, tmp_path)
    assert found[runs.KEY].to_numpy().tolist() == [["tiny", "words", "global", s, 1] for s in (0.2, 0.4)]
    assert found["run"].unique().tolist() == gone["run"].unique().tolist()
    assert found["log"].isna().all()
    assert set(found["reason"]) == {"It has no log: it was not started."}
    left = missing.without(grid, found)
    assert len(runs.collect(left)) == len(grid) - 2


@pytest.mark.parametrize("column", ["checkpoint", "dataset", "calibration", "ticket"])
def test_runs_of_a_file_that_is_of_something_else_are_missing(grid, tmp_path, column):
    """Although they are of that very file, which will be made anew."""
    texts = tmp_path / "datasets/my-texts/manifest.json"
    files.write_json(texts, {"files": []})
    grid.loc[grid["pattern"] == "global", "calibration"] = str(texts)
    evaluate(grid)
    other = grid[column].dropna().unique().tolist()
    of_it = grid[grid[column].isin(other)]
    kept, lost = missing.parted(grid, tmp_path / "logs", True, other)
    assert lost["run"].tolist() == of_it["run"].tolist()
    assert (
        lost["reason"].iloc[0]
        == f"The file {other[0]} is of another source than there is now: its row, or what that names, has changed."
    )
    assert kept.equals(grid.drop(index=of_it.index))
    assert set(missing.outdated(grid, other)) == set(of_it["job"])


@pytest.mark.parametrize("said", [b"", b"\n", b"\xff\xfe"])
def test_a_damaged_digest_of_a_ticket_takes_its_runs_and_no_others(grid, tmp_path, said):
    of_ticket = only(grid, pattern="lth")
    Path(of_ticket["ticket"].iloc[0]).write_bytes(said)
    found = table(grid, tmp_path)
    assert found["run"].tolist() == of_ticket["run"].tolist()
    assert found["reason"].str.startswith("Its file is of other lottery ticket").all()
    with pytest.raises(errors.UserError, match="other lottery ticket"):
        runs.collect(grid)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("loading\nerror: The text has no words.\n\n", "The text has no words."),
        ("10 %\r50 %\r\nTraceback:\nRuntimeError: out of memory\n", "its log ends: RuntimeError: out of memory"),
        ("x" * 9000, "its log ends: " + "x" * (missing.LONGEST - 15) + "…"),
        ("\n", "It has no log: it was not started."),
        (
            "tiny words global 0.400 seed 1: spearman 0.5 (0.5 s)\n",
            "It was computed, as its log says, but its file is gone: the next run computes it again.",
        ),
        (
            "Not computed again: seed1.parquet, taken back from work.\n",
            "It was computed, as its log says, but its file is gone: the next run computes it again.",
        ),
        (  # killed after the first of its two levels
            "tiny words global 0.200 seed 1: spearman 0.5 (0.5 s)\n",
            "its log ends: tiny words global 0.200 seed 1: spearman 0.5 (0.5 s)",
        ),
        (
            "tiny words global 0.400 seed 1: spearman 0.5 (0.5 s)\nKilled\n",
            "its log ends: Killed",
        ),
    ],
)
def test_the_reason_is_the_last_line_of_the_log(grid, tmp_path, text, reason):
    gone = only(grid, pattern="global", seed=1)
    lose(gone)
    log = log_of(tmp_path, f"prune_eval/{gone['job'].iloc[0]}", text)
    found = table(grid, tmp_path)
    assert set(found["reason"]) == {reason}
    assert found["log"].dropna().unique().tolist() == ([log] if text.strip() else [])


def test_what_a_run_waits_for_is_the_reason(grid, tmp_path):
    """The checkpoint before the data, these before the dense run, this before the ticket, all before its own log."""
    lose(only(grid, seed=1))
    lose(only(grid, pattern="lth"))
    lose(only(grid, pattern="lth"), "ticket")
    for row in grid.itertuples():
        log_of(tmp_path, f"prune_eval/{row.job}", "error: own")
    log_of(tmp_path, "prune_eval/tiny/words/dense/0.000/seed1", "error: disagrees")
    log_of(tmp_path, "find_ticket/tiny/words/seed0/0.100", "error: diverged")
    log_of(tmp_path, "find_ticket/tiny/words/seed0/0.300", "error: of a later one")
    found = table(grid, tmp_path).set_index(["pattern", "seed", "sparsity"])
    assert found["reason"].to_dict() == {
        ("dense", 1, 0.0): "disagrees",
        ("global", 1, 0.2): "Its dense run is missing: disagrees",
        ("global", 1, 0.4): "Its dense run is missing: disagrees",
        ("lth", 0, 0.2): "Its ticket is missing: diverged",
    }
    assert found["log"]["global", 1, 0.2].endswith("dense/0.000/seed1.log")
    log_of(tmp_path, "fetch_dataset/tiny", "error: no network")
    lose(grid, "dataset")
    told = table(grid, tmp_path)
    assert (set(told["reason"]), len(told)) == ({"The data are not there: no network"}, len(grid))
    lose(grid, "checkpoint")
    told = table(grid, tmp_path)
    assert (set(told["reason"]), len(told)) == ({"The checkpoint tiny is not there."}, len(grid))


def test_a_dense_run_of_another_seed_or_task_is_not_waited_for(grid, tmp_path):
    grid = pd.concat([grid, of_task(grid, "sums")], ignore_index=True)
    evaluate(grid)
    for key in ({"task": "words", "seed": 0}, {"task": "sums", "seed": 1}):
        lose(only(grid, pattern="dense", **key))
    lose(only(grid, pattern="global"))
    found = table(grid, tmp_path).query("pattern == 'global' and sparsity == 0.2").set_index(["task", "seed"])
    waiting, failed = "Its dense run is missing.", "It has no log: it was not started."
    assert found["reason"].to_dict() == {
        ("words", 0): waiting,
        ("words", 1): failed,
        ("sums", 0): failed,
        ("sums", 1): waiting,
    }


def test_runs_that_are_all_of_something_else_do_not_wait_for_their_dense_run(grid, tmp_path):
    evaluate(grid, settings_sha256="x")
    for row in grid.drop_duplicates("job").itertuples():
        last = f"{row.job.split('/')[3].split('+')[-1]} seed {row.seed}"
        log_of(tmp_path, f"prune_eval/{row.job}", f"tiny words {row.pattern} {last}: spearman 0.5 (0.5 s)")
    log_of(tmp_path, "prune_eval/tiny/words/dense/0.000/seed1", "error: disagrees")
    found = table(grid, tmp_path)
    waiting = found["reason"].eq("Its dense run is missing: disagrees")
    assert found[waiting][["pattern", "seed"]].drop_duplicates().to_numpy().tolist() == [["global", 1]]
    assert found[~waiting]["reason"].str.startswith("Its file is of other settings").all()
    for said in ("Not computed again: a and b, made of the same before.", "\n"):
        log_of(tmp_path, "prune_eval/tiny/words/dense/0.000/seed1", said)
        assert table(grid, tmp_path)["reason"].str.startswith("Its file is of other settings").all()


def test_a_checkpoint_of_a_pretraining_that_failed_waits_for_it(grid, tmp_path):
    lose(grid, "checkpoint")
    log_of(tmp_path, "fetch_model/tiny", "error: of an earlier call")
    log = log_of(tmp_path, "pretrain/small", "error: The loss is no number.")

    def told():
        missing._last_line.cache_clear()
        found = missing.table(grid, tmp_path / "logs", made={"tiny": "small", "other": "large"})
        ((where, reason),) = found[["log", "reason"]].drop_duplicates().to_numpy().tolist()
        return where, reason

    assert told() == (log, "The pre-training small is not there: The loss is no number.")
    Path(log).unlink()
    assert told() == (None, "The pre-training small is not there.")
    files.write_json(tmp_path / "pretraining/small/manifest.json", {})
    assert told()[1] == "The checkpoint tiny is not there: of an earlier call"


def test_collecting_is_told_which_models_are_of_a_pretraining(grid, tmp_path):
    lose(grid, "checkpoint")
    _, lost = collect(grid, tmp_path, "--missing", "skip", "--made", "tiny=small", "other=large")
    assert set(lost["reason"]) == {"The pre-training small is not there."}


def test_runs_whose_calibration_data_were_not_fetched_are_missing_and_no_others(grid, tmp_path):
    """Also where their files are there, from before: what they were calibrated on cannot be compared."""
    calibrated = grid["pattern"] == "global"
    grid.loc[calibrated, "calibration"] = str(tmp_path / "datasets/my-texts/manifest.json")
    log_of(tmp_path, "fetch_dataset/my-texts", "error: my-texts has no column 'paragraf'")
    told = table(grid, tmp_path)
    assert set(told["pattern"]) == {"global"}
    assert set(told["reason"]) == {"The data that it is calibrated on are not there: my-texts has no column 'paragraf'"}
    assert len(runs.collect(missing.without(grid, told), mixed=None)) == (~calibrated).sum()


def test_the_log_of_a_ticket_is_that_of_the_first_iteration_that_is_not_there(grid, tmp_path):
    gone = only(grid, pattern="lth")
    lose(gone, "ticket")
    (Path(gone["ticket"].iloc[0]).parent / "0.050.sha256").write_text("a  b")
    for name, said in (("0.050", "a ticket"), ("0.100", "error: diverged"), ("0.200", "error: of an older attempt")):
        log_of(tmp_path, f"find_ticket/tiny/words/seed0/{name}", said)
    assert table(grid, tmp_path)["reason"].tolist() == ["Its ticket is missing: diverged"]
    log_of(tmp_path, "find_ticket/tiny/words/seed0/0.300", "error: of a later iteration")
    for name in ("0.100", "0.200"):
        (tmp_path / f"logs/find_ticket/tiny/words/seed0/{name}.log").unlink()
    assert table(grid, tmp_path)["reason"].tolist() == ["Its ticket is missing."]
    log_of(tmp_path, "find_ticket/tiny/words/seed0/0.100", "\n")
    log_of(tmp_path, "find_ticket/tiny/words/seed0/0.200", "error: of the last iteration")
    assert table(grid, tmp_path)["reason"].tolist() == ["Its ticket is missing: of the last iteration"]


@pytest.mark.parametrize("kind", ["stale", "damaged", "other items", "no items", "a level short"])
def test_a_file_that_cannot_be_tabulated_is_missing_too(grid, tmp_path, kind):
    gone = only(grid, pattern="global", seed=1)
    if kind == "stale":
        evaluate(gone, settings_sha256="x", code_sha256="x")
        log_of(tmp_path, f"prune_eval/{gone['job'].iloc[0]}", "error: Out of memory.")
        said = "Its file is of other settings, code (delete it should the next run not compute it). Out of memory."
    elif kind == "damaged":
        Path(gone["run"].iloc[0]).write_bytes(b"PAR1")
        log_of(tmp_path, f"prune_eval/{gone['job'].iloc[0]}", "tiny words global 0.400 seed 1: spearman 0.5 (0.5 s)")
        said = f"{gone['run'].iloc[0]} is not a whole Parquet file"
    elif kind == "other items":
        Path(gone["items"].iloc[0]).write_text("others")
        said = f"The file {gone['items'].iloc[0]} is not the one of its run."
    elif kind == "no items":
        lose(gone, "items")
        said = f"The file {gone['items'].iloc[0]} is not there."
    else:
        gone = only(grid, pattern="global", seed=1, sparsity=0.4)
        evaluate(only(grid, pattern="global", seed=1, sparsity=0.2))
        said = "Its file has no run at this sparsity."
    found = table(grid, tmp_path)
    assert len(found) == len(gone)
    assert all(reason.startswith(said) for reason in found["reason"]), found["reason"].tolist()
    left = runs.collect(missing.without(grid, found))
    assert len(left) == len(grid) - len(gone)


def collect(grid: pd.DataFrame, tmp_path: Path, *arguments: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    missing._last_line.cache_clear()
    tables.write(grid, "grid", tmp_path / "grid.parquet")
    arguments += ("--digest", files.sha256_rows(pq.read_table(tmp_path / "grid.parquet").to_pylist()))
    given = {"grid": "grid.parquet", "work": "work", "logs": "logs", "out": "all.parquet", "missing-runs": "m.parquet"}
    options = [part for name, file in given.items() for part in (f"--{name}", str(tmp_path / file))]
    collect_runs.main([*options, *arguments])
    return tables.read(tmp_path / "all.parquet", "runs"), tables.read(tmp_path / "m.parquet", "missing_runs")


def test_a_grid_of_something_else_is_not_collected(grid, tmp_path):
    """That of another study, copied here, or one edited by hand."""
    digest = collect(grid, tmp_path) and files.sha256_rows(pq.read_table(tmp_path / "grid.parquet").to_pylist())
    for other in (grid.iloc[1:], grid.assign(settings_sha256="0" * 64), grid.assign(seed=grid["seed"] + 7)):
        tables.write(other, "grid", tmp_path / "grid.parquet")
        options = [f"--{name}={tmp_path / name}" for name in ("work", "logs", "out", "missing-runs")]
        with pytest.raises(errors.UserError, match="is not the grid of this configuration"):
            collect_runs.main(["--grid", str(tmp_path / "grid.parquet"), "--digest", digest, *options])


def test_collecting_skips_missing_runs_when_it_is_told_to_and_not_otherwise(grid, tmp_path, capsys):
    lose(only(grid, pattern="global", seed=1))
    with pytest.raises(FileNotFoundError, match=r"global/0\.200\+0\.400/seed1\.parquet is not there"):
        collect(grid, tmp_path)
    assert not (tmp_path / "all.parquet").exists()
    found, lost = collect(grid, tmp_path, "--missing", "skip")
    assert (len(found), len(lost)) == (len(grid) - 2, 2)
    assert f"2 of {len(grid)} runs are missing" in capsys.readouterr().out


def test_nothing_at_all_can_be_collected(grid, tmp_path):
    lose(grid)
    found, lost = collect(grid, tmp_path, "--missing", "skip")
    assert (len(found), len(lost)) == (0, len(grid))


def test_what_a_missing_run_goes_on_from_is_kept(grid, tmp_path):
    """Work folders are cleared when their results are safe, and no earlier."""
    lose(only(grid, pattern="global", seed=1))
    evaluate(only(grid, pattern="global", seed=0, sparsity=0.2))  # one level of two
    lose(only(grid, pattern="lth"))
    works = {row.job: tmp_path / f"work/prune_eval/{row.job}" for row in grid.itertuples()}
    works |= {f"{level}": tmp_path / f"work/find_ticket/tiny/words/seed0/{level}" for level in ("0.100", "0.200")}
    for folder in works.values():
        folder.mkdir(parents=True, exist_ok=True)
    collect(grid, tmp_path, "--missing", "skip")
    left = {name for name, folder in works.items() if folder.exists()}
    chunk = "tiny/words/global/0.200+0.400/seed{}"
    assert left == {chunk.format(0), chunk.format(1), "tiny/words/lth/0.200/seed0", "0.100", "0.200"}


@pytest.fixture
def gathered(grid, tmp_path):
    """The options of gathering one curve, whose tables are made in `curves/tiny/words`."""
    whole, _ = collect(grid, tmp_path)
    tables.write(whole, "runs", tmp_path / "curves/tiny/words/runs.parquet")
    found, resamples = knees.table(
        runs_of(asked(patterns=("global", "lth"))).assign(model="tiny", task="words"), replicates=50
    )
    none = tables.empty("missing_runs")
    for name, frame in (("knees", found), ("resamples", resamples), ("missing_runs", none)):
        tables.write(frame, name, tmp_path / f"curves/tiny/words/{name}.parquet")
    given = {"grid": "grid.parquet", "runs": "all.parquet", "curves": "curves", "knees": "knees.parquet"}
    given |= {"comparisons": "comparisons.parquet"}
    return [*(f"--{name}={tmp_path / file}" for name, file in given.items()), "--compare", "pattern"]


def test_knees_of_other_runs_than_those_that_are_tabulated_are_not_gathered(gathered, tmp_path, capsys):
    """Such as a table that was copied here, or one fitted while a file was damaged that came back since."""
    collect_knees.main(gathered)
    own = tables.read(tmp_path / "all.parquet", "runs")
    for other in (own.iloc[1:], own.assign(value=own["value"] + 1e-9), own.iloc[:0]):
        tables.write(other, "runs", tmp_path / "curves/tiny/words/runs.parquet")
        with pytest.raises(
            errors.UserError, match=r"words/knees\.parquet: fitted through other runs than those of .*all"
        ):
            collect_knees.main(gathered)
    capsys.readouterr()
    collect_knees.main([*gathered, "--missing", "skip"])
    assert "warning: " in capsys.readouterr().out
    assert len(tables.read(tmp_path / "knees.parquet", "knees")) == 2
    assert len(tables.read(tmp_path / "comparisons.parquet", "comparisons")) == 1


@pytest.mark.parametrize("skip", [[], ["--missing", "skip"]])
def test_tables_that_were_copied_from_another_curve_or_edited_are_not_gathered(gathered, tmp_path, skip):
    collect_knees.main([*gathered, *skip])
    places = {name: tmp_path / f"curves/tiny/words/{name}.parquet" for name in ("knees", "resamples")}
    whole = {name: tables.read(path, name) for name, path in places.items()}
    for change in (
        lambda frame: frame.assign(model="other"),
        lambda frame: frame[frame["pattern"] == "global"],
        lambda frame: frame.assign(essential_sparsity=0.9),
        lambda frame: frame.assign(bracket_high=0.8),
        lambda frame: frame.iloc[:0],
    ):
        for name, path in places.items():
            tables.write(change(whole[name]), name, path)
            with pytest.raises(errors.UserError, match=r"words/knees\.parquet: not of one fit"):
                collect_knees.main([*gathered, *skip])
            tables.write(whole[name], name, path)
    for name, path in places.items():
        tables.write(whole[name].assign(model="other"), name, path)
    with pytest.raises(errors.UserError, match="not of one fit"):
        collect_knees.main([*gathered, *skip])


def test_a_model_without_a_spectrum_is_left_out_of_the_layers_when_told_so(grid, tmp_path, capsys):
    both = pd.concat([grid, grid.assign(model="gone")])
    tables.write(both, "grid", tmp_path / "grid.parquet")
    tables.write(spectrum_of(), "spectrum", tmp_path / "tiny.parquet")
    given = ["--grid", str(tmp_path / "grid.parquet"), "--spectra", str(tmp_path), "--sparsity", "0.5"]
    given += ["--out", str(tmp_path / "layers.parquet")]
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet is not there"):
        count_layers.main(given)
    count_layers.main([*given, "--missing", "skip"])
    found = tables.read(tmp_path / "layers.parquet", "layers")
    assert set(found["model"]) == {"tiny"}
    assert sorted(found["sparsity"].unique()) == [0.2, 0.4, 0.5]
    assert "gone is left out" in capsys.readouterr().out
    count_layers.main([*given, "--missing", "skip", "--other", "tiny"])
    assert tables.read(tmp_path / "layers.parquet", "layers").empty
    assert "tiny is left out: its checkpoint is of something else" in capsys.readouterr().out


# --- the knees of what is there

LEVELS = [0.0, 0.2, 0.4, 0.6, 0.8]


def asked(models=("m",), patterns=("global", "random"), seeds=(0, 1)) -> pd.DataFrame:
    """A grid as far as knees read it."""
    rows = [
        {"model": model, "task": "t", "pattern": pattern if level else "dense", "sparsity": level, "seed": seed}
        for model in models
        for pattern in patterns
        for level in LEVELS
        for seed in seeds
    ]
    return pd.DataFrame(rows).drop_duplicates().assign(metrics="spearman,accuracy", items="")


def runs_of(grid: pd.DataFrame) -> pd.DataFrame:
    """The table runs of a grid, as far as it is read: quality falls from 0.4 on, a little more with each seed."""
    value = 0.9 - (grid["sparsity"] - 0.4).clip(lower=0) - 0.001 * grid["seed"] * grid["sparsity"]
    return grid.assign(protocol="probe", metric="accuracy", value=value, n_items=50).drop(columns=["metrics", "items"])


def items(found: pd.DataFrame) -> pd.DataFrame:
    """Fifty items of each run, of which as many are right as its value says."""
    rows = [
        {name: getattr(row, name) for name in runs.KEY}
        | {"item": f"{i:02}", "score": float(i < round(50 * row.value)), "weight": 1.0, "target": 1.0}
        for row in found.drop_duplicates(runs.KEY).itertuples()
        for i in range(50)
    ]
    return pd.DataFrame(rows).assign(prediction=0.0, second_score=np.nan, group=None)


def read(found: pd.DataFrame, grid: pd.DataFrame, tmp_path: Path) -> pd.DataFrame:
    """The tables knees and comparisons of what is there, written; the first, read, by pattern of the first model."""
    table, curves = knees.table(found, items, replicates=50, asked=grid)
    tables.write(table, "knees", tmp_path / "knees.parquet")
    tables.write(comparisons.table(curves, ["model", "pattern"]), "comparisons", tmp_path / "comparisons.parquet")
    tables.write(
        differences.table(found, items, {*zip(found["model"], found["task"], strict=True)}, 50),
        "differences",
        tmp_path / "differences.parquet",
    )
    table = tables.read(tmp_path / "knees.parquet", "knees")
    lost = grid.merge(found[runs.KEY], how="left", indicator="there").query("there == 'left_only'")
    assert summary.knee_lines(table)
    assert len(summary.report_table(table)) == len(table)
    for model in grid["model"].unique():
        figures.curve(found, table, model, "t", missing=lost)
    figures.models(found, table, "t", "global", {name: name for name in grid["model"]}, "T", lost)
    places = [
        {"series": "s", "group": "g", "training": m, "model": m, "axis": "step", "position": 0.0} for m in ("m", "n")
    ]
    trajectories.of_runs(places, table)
    return table


def without(found: pd.DataFrame, **key) -> pd.DataFrame:
    return found.drop(only(found, **key).index)


def test_a_whole_study_has_no_missing_runs(tmp_path):
    grid = asked()
    found = read(runs_of(grid), grid, tmp_path)
    assert found["n_missing"].tolist() == [0, 0]
    tables.write(knees.table(runs_of(grid), items, replicates=50)[0], "knees", tmp_path / "plain.parquet")
    pd.testing.assert_frame_equal(found, tables.read(tmp_path / "plain.parquet", "knees"))


def test_a_missing_level_of_one_seed_is_counted_and_the_knee_is_read(tmp_path):
    grid = asked()
    found = read(without(runs_of(grid), pattern="global", sparsity=0.6, seed=1), grid, tmp_path).set_index("pattern")
    assert found["n_missing"].to_dict() == {"global": 1, "random": 0}
    assert found.loc["global", "ragged"]
    assert 0.4 <= found.loc["global", "essential_sparsity"] <= 0.6
    assert found["reason"].isna().all()


def test_a_missing_dense_run_of_one_seed_leaves_the_other(tmp_path):
    grid = asked()
    found = read(without(runs_of(grid), pattern="dense", seed=1), grid, tmp_path)
    assert found["n_missing"].tolist() == [1, 1]
    assert found["n_unpaired"].tolist() == [4, 4]
    assert found["essential_sparsity"].notna().all()


def test_without_any_dense_run_the_reason_says_so(tmp_path):
    grid = asked()
    found = read(without(runs_of(grid), pattern="dense"), grid, tmp_path)
    assert found["n_missing"].tolist() == [2, 2]
    assert found["essential_sparsity"].isna().all()
    assert all(reason.startswith("the dense run is missing") for reason in found["reason"])


def test_a_missing_pattern_has_its_row_with_the_dense_value(tmp_path):
    grid = asked()
    found = read(without(runs_of(grid), pattern="random"), grid, tmp_path).set_index("pattern")
    row = found.loc["random"]
    assert (row["n_missing"], row["metric"], row["headline"], row["n_levels"]) == (8, "accuracy", True, 1)
    assert row["reason"] == "no pruned run is there: 8 runs are missing"
    assert row["dense"] == pytest.approx(0.9)
    assert found.loc["global", "n_missing"] == 0
    assert pd.notna(found.loc["global", "essential_sparsity"])


def test_a_missing_model_has_its_rows(tmp_path):
    grid = asked(("m", "n"))
    found = read(without(runs_of(grid), model="n"), grid, tmp_path)
    lost = found[found["model"] == "n"]
    assert lost["pattern"].tolist() == ["global", "random"]
    assert lost["n_missing"].tolist() == [10, 10]
    assert set(lost["reason"]) == {"no run is there: 10 runs are missing"}
    assert lost[["dense", "protocol"]].isna().all(axis=None)
    assert found.loc[found["model"] == "m", "essential_sparsity"].notna().all()


def test_a_missing_task_has_the_headline_that_its_grid_names(tmp_path):
    grid = asked()
    other = grid.assign(task="u", metrics="f1,spearman")
    both = pd.concat([grid, other], ignore_index=True)
    found = read(runs_of(grid), both, tmp_path)
    assert found.loc[found["task"] == "u", "metric"].tolist() == ["f1", "f1"]
    assert found.loc[found["task"] == "u", "headline"].all()


def test_nothing_at_all_is_read_as_nothing(tmp_path):
    grid = asked()
    found = read(runs_of(grid).iloc[:0], grid, tmp_path)
    assert found["n_missing"].tolist() == [10, 10]
    assert found["essential_sparsity"].isna().all()


def test_few_levels_say_how_many_are_missing(tmp_path):
    grid = asked(patterns=("global",), seeds=(0,))
    found = runs_of(grid)
    row = read(found[found["sparsity"].isin([0.0, 0.6])], grid, tmp_path).iloc[0]
    assert row["reason"].startswith("too few levels: 2 levels")
    assert row["reason"].endswith("; 3 runs are missing")


def test_a_curve_with_missing_runs_is_not_refined_and_the_others_are():
    grid = asked()
    found = without(runs_of(grid), pattern="global", sparsity=0.6, seed=1)
    table = knees.table(found, items, replicates=50, asked=grid)[0]
    added = refinement.next_round(found, table, 0.05, 9, 9)
    assert [entry["pattern"] for entry in added] == ["random"]


# --- what is told


def test_the_summary_names_curves_and_causes(tmp_path):
    """Runs that wait for the same are one cause; runs without a log are named one by one."""
    grid = asked()
    found = without(without(runs_of(grid), pattern="random"), pattern="global", sparsity=0.6)
    lost = grid.merge(found[runs.KEY], how="left", indicator="there").query("there == 'left_only'")
    lost = lost.assign(reason="It failed.", log=np.where(lost["pattern"] == "global", "one.log", None))
    table = knees.table(found, items, replicates=50, asked=grid)[0]
    told = summary.missing_lines(lost, table, Path("missing_runs.parquet"))
    assert told == [
        "m on t, global: 2 runs are missing",
        "m on t, random: 8 runs are missing",
        "m t global 0.600 seed 0: It failed.",
        "  see one.log",
        "m t random 0.200 seed 0: It failed.",
        "m t random 0.200 seed 1: It failed.",
        "All that are missing: missing_runs.parquet (10)",
    ]
    assert summary.missing_lines(lost.iloc[:0], knees.table(runs_of(grid), asked=grid)[0], Path("x")) == []
    notes = summary.knee_lines(table)
    assert "2 missing" in notes[1]
    assert "no pruned run is there" in notes[2]


def test_what_has_run_and_is_computed_anew_is_known_before_it_is(grid):
    assert missing.outdated(grid) == {}
    stale, damaged = only(grid, pattern="global", seed=1), only(grid, pattern="lth")
    evaluate(stale, settings_sha256="x")
    Path(damaged["items"].iloc[0]).write_text("others")
    found = missing.outdated(grid)
    assert found.keys() == {*stale["job"], *damaged["job"]}
    assert found[stale["job"].iloc[0]] == "Its file is of other settings"
    lose(grid, "checkpoint")
    assert missing.outdated(grid) == {}, "nothing to compare with"
