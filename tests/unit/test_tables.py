"""Tables: what is refused, what survives a round trip, and how files are collected."""

import hashlib
import json
import types
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import collect_costs
from essential_sparsity import files, tables
from essential_sparsity.tables import costs, provenance, runs

UNCALIBRATED = [name for name in tables.schema("runs").names if name.startswith("calibration")] + [
    "damping",
    "uncalibrated",
]
TABLES = ["costs", "differences", "items", "knees", "layers", "runs", "similarity", "spectrum"]


def run_rows(seed: int = 0, sparsities: tuple[float, ...] = (0.3, 0.1, 0.2)) -> pd.DataFrame:
    row = {
        "model": "tiny",
        "task": "words",
        "pattern": "global",
        "seed": seed,
        "protocol": "zero-shot",
        "metric": "spearman",
        "value": 0.5,
        "n_items": 10,
        "sparsity_actual": 0.1,
        "sparsity_total": 0.05,
        "k": 3,
        "n_prunable": 30,
        "n_total": 60,
        "keep": None,
        "group": None,
        "dtype": "float32",
        "weights_sha256": "0" * 64,
        "torch": "2",
        "transformers": "5",
        "workflow": "0.1.0",
        "device": "cpu",
        "hardware": "x86_64, AVX2",
        "collapsed": None,
        "ticket_sha256": None,
        **dict.fromkeys(UNCALIBRATED),
        **{f"{part}_sha256": part for part in ("settings", "checkpoint", "data", "code", "items")},
        "digest": "d",
    }
    return pd.DataFrame([row | {"sparsity": sparsity} for sparsity in sparsities])


def grid_rows(folder: Path, pattern: str, sparsities: tuple[float, ...] = (0.2,), seed: int = 0) -> pd.DataFrame:
    """Rows of table `grid` of one job, with the manifests and the ticket that they name in a folder."""
    token = "+".join(f"{sparsity:.3f}" for sparsity in sparsities)
    job = f"tiny/words/{pattern}/{token}/seed{seed}"
    rows = pd.DataFrame({"sparsity": sparsities, "model": "tiny", "task": "words", "pattern": pattern, "seed": seed})
    for name in ("checkpoint", "dataset"):
        path = folder / f"{name}s/tiny/manifest.json"
        files.write_json(path, {"files": [{"path": "a", "sha256": name}]})
        rows[name] = str(path)
    rows["ticket"] = rows["calibration"] = None
    if pattern == "wanda":
        path = folder / "datasets/calibration/manifest.json"
        files.write_json(path, {"files": [{"path": "a", "sha256": "calibration"}]})
        rows["calibration"] = str(path)
    if pattern == "lth":
        rows["ticket"] = [
            str(folder / f"tickets/tiny/words/seed{seed}/{sparsity:.3f}.sha256") for sparsity in sparsities
        ]
        for path in map(Path, rows["ticket"]):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"ticket {path.stem}  {path.stem}.safetensors\n")
    said = {"settings_sha256": "settings", "code_sha256": "code", "metrics": "spearman", "named": False, "job": job}
    return rows.assign(run=str(folder / f"runs/{job}.parquet"), items=str(folder / f"items/{job}.parquet"), **said)


def of_task(grid: pd.DataFrame, task: str) -> pd.DataFrame:
    """The same rows of table `grid`, of another task."""
    renamed = {name: grid[name].str.replace("/words/", f"/{task}/") for name in ("job", "run", "items")}
    return grid.assign(task=task, **renamed)


def made_of(row) -> dict:
    """What a row of table `grid` asks its run to have been made of, as far as files say it."""
    return {
        "checkpoint_sha256": provenance.of_manifest(row.checkpoint),
        "data_sha256": provenance.of_manifest(row.dataset),
        "calibration_sha256": provenance.of_manifest(row.calibration) if row.calibration else None,
        "ticket_sha256": provenance.of_ticket(row.ticket) if row.ticket else None,
    }


def write_runs(grid: pd.DataFrame, metrics: tuple[str, ...] = ("spearman",), **changed) -> None:
    """The files of runs that a grid names, made of what it asks for but for what is `changed`."""
    for path, rows in grid.groupby("run"):
        found = [
            run_rows(row.seed, (row.sparsity,)).assign(
                task=row.task, pattern=row.pattern, metric=metric, **(made_of(row) | changed)
            )
            for row in rows.itertuples()
            for metric in metrics
        ]
        tables.write(pd.concat(found), "runs", path)


@pytest.mark.parametrize("name", TABLES)
def test_schema_says_what_each_column_means(name):
    schema = tables.schema(name)
    assert schema.metadata[b"version"].isdigit()
    assert set(tables.key(name)) <= set(schema.names)
    assert not any(schema.field(column).nullable for column in tables.key(name))
    for field in schema:
        assert field.metadata[b"description"], field.name
        if field.type == tables.TYPES["number"]:
            assert field.metadata[b"unit"], field.name


def test_an_unknown_table_names_the_known_ones():
    known = "abruptness, claims, comparisons, contrasts, costs, differences, evidence, fingerprints, grid, items, knees, layers, losses, missing_runs, references, resamples, runs, series, similarity"
    with pytest.raises(ValueError, match=f"'run'; known are {known}"):
        tables.schema("run")


def test_round_trip_sorts_by_key_and_keeps_nulls(tmp_path):
    rows = run_rows().assign(value=[None, 0.25, np.nan], keep=[2.0, np.nan, 1.0])
    tables.write(rows, "runs", tmp_path / "a.parquet")
    back = tables.read(tmp_path / "a.parquet", "runs")
    assert list(back.columns) == tables.schema("runs").names
    assert back["sparsity"].tolist() == [0.1, 0.2, 0.3]
    assert back["value"].isna().tolist() == [False, True, True]
    assert back["keep"].tolist() == [pd.NA, 1, 2]
    assert back["group"].isna().all()
    assert back["k"].dtype == np.int64


def test_same_rows_in_any_order_give_the_same_bytes(tmp_path):
    rows = pd.concat([run_rows(seed).assign(metric=metric) for seed in (1, 0) for metric in ("spearman", "pearson")])
    tables.write(rows, "runs", tmp_path / "a.parquet")
    tables.write(rows.iloc[::-1, ::-1], "runs", tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert b"pandas" not in pq.read_schema(tmp_path / "a.parquet").metadata


@pytest.mark.parametrize("name", TABLES)
def test_a_table_can_be_empty(name, tmp_path):
    tables.write(pd.DataFrame([]), name, tmp_path / "a.parquet")
    back = tables.read(tmp_path / "a.parquet", name)
    assert len(back) == 0
    assert list(back.columns) == tables.schema(name).names


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": [0, 0.5, 0]}, r"'runs', column 'seed': a whole number expected.*0\.5.*row 1.*sparsity=0\.1"),
        ({"seed": "1"}, "column 'seed': a whole number expected.*'1'.*row 0"),
        ({"k": [True, True, False]}, "column 'k': a whole number expected.*True"),
        ({"k": [3, True, 3]}, "column 'k': a whole number expected.*True.*row 1"),
        ({"n_total": [1, 2**70, 3]}, "column 'n_total': a whole number expected.*row 1"),
        ({"value": [0.1, 0.2, "high"]}, "column 'value': a number expected.*'high'.*row 2"),
        ({"value": "0.5"}, "column 'value': a number expected.*'0.5'"),
        ({"value": ["0.5", None, "0.7"]}, "column 'value': a number expected.*'0.5'.*row 0"),
        ({"model": 3}, "column 'model': a text expected.*3.*row 0"),
        ({"model": ["a", None, "b"]}, "column 'model': no value in row 1"),
        ({"n_items": [1, np.nan, 3]}, "column 'n_items': no value in row 1"),
        ({"sparsity": [0.1, 0.2, 0.1]}, "more than one row with the key.*task=words.*sparsity=0.1"),
        (
            {"sparsity": [0.1, 0.2, 0.1], "value": [0.5, 0.6, 0.7]},
            "more than one row with the key.*task=words.*sparsity=0.1",
        ),
        ({"host": "node1"}, "columns unknown: host"),
    ],
)
def test_a_wrong_frame_is_refused_and_nothing_is_written(change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        tables.write(run_rows().assign(**change), "runs", tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("rows", [3, 0])
def test_missing_columns_are_named(tmp_path, rows):
    """Also of a frame without rows, which is no table for that."""
    with pytest.raises(ValueError, match="columns missing: task, k"):
        tables.write(run_rows()[:rows].drop(columns=["task", "k"]), "runs", tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": [3, 3, "many"]}, r"got 'many' in row 2 \(.*sparsity=0\.2"),
        ({"model": ["a", "b", None]}, r"no value in row 2 \(.*sparsity=0\.2"),
        ({"sparsity": [0.1, 0.2, 0.2]}, r"more than one row with the key .*sparsity=0\.2, seed=0, metric=spearman\."),
    ],
)
@pytest.mark.parametrize("index", [[0, 0, 0], [2, 1, 0]])
def test_a_wrong_row_is_named_by_its_place_whatever_the_frame_calls_its_rows(tmp_path, change, message, index):
    """Frames that were put together repeat the names of rows."""
    frame = run_rows().assign(**change).set_axis(index)
    with pytest.raises(ValueError, match=message):
        tables.write(frame, "runs", tmp_path / "a.parquet")


@pytest.mark.parametrize("keep", [0, 3, 0.5, 0.9, -1])
def test_a_damaged_file_is_refused_by_name(keep, tmp_path):
    path = tmp_path / "seed0.parquet"
    tables.write(run_rows(), "runs", path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match=r"seed0.parquet is not a whole Parquet file.*Delete it and run again"):
        tables.read(path, "runs")


def test_a_file_with_garbage_inside_is_refused_by_name(tmp_path):
    path = tmp_path / "seed0.parquet"
    tables.write(run_rows(), "runs", path)
    data = bytearray(path.read_bytes())
    data[4:400] = b"\xff" * 396
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"seed0.parquet is not a whole Parquet file"):
        tables.read(path, "runs")


def test_another_table_and_another_version_are_refused(tmp_path):
    tables.write(run_rows(), "runs", tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="does not hold the table 'items' but 'runs'"):
        tables.read(tmp_path / "a.parquet", "items")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.replace_schema_metadata({"table": "runs", "version": "0"}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet is version 0 of the table 'runs'.*Delete it and run again"):
        tables.read(tmp_path / "b.parquet", "runs")
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"table": b"items"}), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="does not hold the table 'runs' but 'items'"):
        tables.read(tmp_path / "d.parquet", "runs")
    pq.write_table(table.drop_columns(["k"]), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match="columns of the table 'runs' differ from its schema: k"):
        tables.read(tmp_path / "c.parquet", "runs")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"a\.parquet is not there"):
        tables.read(tmp_path / "a.parquet", "runs")


@pytest.mark.parametrize("batch", [tables.BATCH, 7, 8])
def test_collect_keeps_order_and_every_row(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(tables, "BATCH", batch)
    paths = [tmp_path / f"seed{seed}.parquet" for seed in range(40)]
    for seed, path in enumerate(paths):
        tables.write(run_rows(seed), "runs", path)
    frame = tables.collect(reversed(paths), "runs")
    assert frame["seed"].tolist() == [seed for seed in range(39, -1, -1) for _ in range(3)]
    pd.testing.assert_frame_equal(frame[:3], tables.read(paths[39], "runs"))
    assert tables.collect([], "runs").empty


@pytest.mark.parametrize("batch", [tables.BATCH, 2])
def test_collect_names_the_files_that_repeat_a_row(tmp_path, monkeypatch, batch):
    monkeypatch.setattr(tables, "BATCH", batch)
    tables.write(run_rows(0), "runs", tmp_path / "a.parquet")
    tables.write(run_rows(1), "runs", tmp_path / "b.parquet")
    for value in (0.5, 0.6):  # the same, or what another evaluation found
        tables.write(run_rows(0, (0.2,)).assign(value=value), "runs", tmp_path / "c.parquet")
        with pytest.raises(ValueError, match=r"a.parquet and \S*c.parquet hold the same row.*sparsity=0.2, seed=0"):
            tables.collect([tmp_path / f"{name}.parquet" for name in "abc"], "runs")


def test_a_reworded_column_is_still_read_and_another_unit_is_not(tmp_path):
    """Words about a column are not what it is: results of years are not thrown away for a better sentence."""
    tables.write(run_rows(), "runs", tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    before = tables.read(tmp_path / "a.parquet", "runs")

    def changed(column, name, text):
        index, field = table.schema.get_field_index(column), table.schema.field(column)
        assert name in field.metadata
        return table.cast(table.schema.set(index, field.with_metadata(field.metadata | {name: text})))

    pq.write_table(changed("sparsity", b"description", "Said in other words"), tmp_path / "b.parquet")
    back = tables.read(tmp_path / "b.parquet", "runs")
    pd.testing.assert_frame_equal(back, before)
    pq.write_table(changed("sparsity", b"unit", "per cent"), tmp_path / "c.parquet")
    with pytest.raises(ValueError, match=r"columns of the table 'runs' differ from its schema: sparsity\."):
        tables.read(tmp_path / "c.parquet", "runs")
    place, field = table.schema.get_field_index("k"), table.schema.field("k")
    for other in (field.with_nullable(True), field.with_type(pa.int32())):
        pq.write_table(table.cast(table.schema.set(place, other)), tmp_path / "e.parquet")
        with pytest.raises(ValueError, match=r"columns of the table 'runs' differ from its schema: k\."):
            tables.read(tmp_path / "e.parquet", "runs")
    pq.write_table(table.select(table.column_names[::-1]), tmp_path / "d.parquet")
    with pytest.raises(ValueError, match="differ from its schema: their order"):
        tables.read(tmp_path / "d.parquet", "runs")


# --- the runs of a grid


@pytest.fixture
def grid(tmp_path) -> pd.DataFrame:
    """Two jobs of two levels, one of them of lottery tickets, and a dense run."""
    parts = [
        grid_rows(tmp_path, "dense", (0.0,)),
        grid_rows(tmp_path, "global", (0.2, 0.4)),
        grid_rows(tmp_path, "lth"),
    ]
    return pd.concat(parts, ignore_index=True)


def test_the_runs_of_a_grid_are_the_ones_it_asks_for(grid):
    write_runs(grid)
    asked = grid[grid["sparsity"] != 0.4]  # a level that was taken away stays in its file
    found = runs.collect(asked)
    assert sorted(zip(found["pattern"], found["sparsity"], strict=True)) == [
        ("dense", 0.0),
        ("global", 0.2),
        ("lth", 0.2),
    ]
    tables.write(found, "runs", Path(grid["run"][0]).parents[4] / "all.parquet")


def test_metrics_are_those_that_the_task_names_and_others_as_far_as_they_are_defined(grid):
    write_runs(grid, ("spearman", "pearson"))
    assert set(runs.collect(grid)["metric"]) == {"spearman"}
    assert len(runs.collect(grid.assign(metrics="pearson,spearman"))) == 2 * len(grid)
    assert len(runs.collect(grid.assign(metrics="pearson,kendall"))) == len(grid)
    with pytest.raises(ValueError, match=r"has no metric 'kendall', which the task 'words' asks for.*not defined"):
        runs.collect(grid.assign(metrics="pearson,kendall", named=True))


def test_a_run_whose_metric_is_undefined_stays_in_the_table(grid):
    write_runs(grid, value=None)
    for named in (False, True):  # the data have the metric that the task asks for, though this run has no value of it
        found = runs.collect(grid.assign(named=named))
        assert len(found) == len(grid)
        assert found["value"].isna().all()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"settings_sha256": "x"}, "other settings"),
        ({"code_sha256": "x"}, "other code"),
        ({"checkpoint_sha256": "x"}, "other checkpoint"),
        ({"data_sha256": "x", "code_sha256": "x"}, "other code, data"),
        ({"ticket_sha256": "x"}, "other lottery ticket"),
        ({"calibration_sha256": "x"}, "other calibration"),
    ],
)
def test_a_stale_file_is_refused_by_name_and_with_what_it_was_made_of(grid, changed, told):
    """One file among good ones."""
    write_runs(grid)
    stale = grid[grid["pattern"] == "lth"]
    write_runs(stale, **changed)
    with pytest.raises(ValueError, match=r"1 of 3 files of runs were made of something else") as raised:
        runs.collect(grid)
    assert str(raised.value).endswith(f"\n  {stale['run'].iloc[0]}: {told}")


def test_a_run_with_a_ticket_that_asks_for_none_and_the_other_way_round_are_stale(grid):
    write_runs(grid)
    plain, lottery = grid[grid["pattern"] == "global"], grid[grid["pattern"] == "lth"]
    write_runs(plain, ticket_sha256="x")
    with pytest.raises(ValueError, match="other lottery ticket"):
        runs.collect(plain)
    write_runs(lottery, ticket_sha256=None)
    with pytest.raises(ValueError, match="other lottery ticket"):
        runs.collect(lottery)


def test_many_stale_files_are_counted_and_some_are_named(tmp_path):
    grid = pd.concat([grid_rows(tmp_path, "global", seed=seed) for seed in range(8)], ignore_index=True)
    write_runs(grid)
    with pytest.raises(ValueError, match=r"8 of 8 files.*") as raised:
        runs.collect(grid.assign(settings_sha256="other"))
    assert str(raised.value).count(": other settings") == runs.SHOWN
    assert "and 3 more" in str(raised.value)
    with pytest.raises(ValueError, match=r"5 of 5 files") as raised:
        runs.collect(grid[: runs.SHOWN].assign(settings_sha256="other"))
    assert str(raised.value).count(": other settings") == runs.SHOWN
    assert "more" not in str(raised.value).splitlines()[-1]


def test_a_stale_file_of_several_levels_is_counted_and_named_once(grid):
    write_runs(grid)
    with pytest.raises(ValueError, match=r"3 of 3 files of runs were made of something else") as raised:
        runs.collect(grid.assign(settings_sha256="other"))
    assert str(raised.value).count(": other settings") == 3


def test_what_other_files_hold_is_no_matter(grid):
    """Versions of libraries and workflow are told in the rows; a study can be finished on another machine."""
    write_runs(grid, torch="3", transformers="6", workflow="9", device="cuda")
    assert len(runs.collect(grid)) == len(grid)


@pytest.mark.parametrize("mixed", ["stop", "warn"])
@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"dtype": "float16"}, "data type of the weights float16"),
        ({"weights_sha256": "1" * 64}, "SHA-256 of the weights 0+"),
    ],
)
def test_runs_of_one_model_that_scored_other_weights_are_refused_by_name(grid, tmp_path, changed, told, mixed):
    """Of one curve, or of another task: a model is one set of weights."""
    grid = pd.concat([grid, grid_rows(tmp_path, "dense", (0.0,)).pipe(of_task, "sums")], ignore_index=True)
    for odd in (grid["pattern"] == "global", grid["task"] == "sums"):
        write_runs(grid)
        assert len(runs.collect(grid, mixed)) == len(grid)
        write_runs(grid[odd], **changed)
        with pytest.raises(ValueError, match=rf"(?s)scored other weights.*run again:\n  tiny: {told} \(") as raised:
            runs.collect(grid, mixed)
        assert grid[odd]["run"].iloc[0] in str(raised.value)


@pytest.mark.parametrize("changed", [{"torch": "3"}, {"transformers": "6"}, {"device": "cuda"}])
def test_runs_of_a_curve_that_were_computed_differently_stop_the_tables_or_are_told(grid, capsys, changed):
    write_runs(grid)
    write_runs(grid[grid["pattern"] == "global"], **changed)
    (value,) = changed.values()
    with pytest.raises(
        ValueError, match=rf"(?s)computed differently.*`mixed_runs: warn`.*:\n  tiny on words: .* {value} \("
    ):
        runs.collect(grid)
    assert len(runs.collect(grid, "warn")) == len(grid)
    assert f"warning: tiny on words: {provenance.PARTS[next(iter(changed))]}" in capsys.readouterr().err


def test_runs_of_a_curve_from_other_hardware_are_told(grid, capsys):
    write_runs(grid)
    assert len(runs.collect(grid)) == len(grid)
    assert capsys.readouterr().err == ""
    write_runs(grid[grid["pattern"] == "global"], hardware="NVIDIA H200")
    assert len(runs.collect(grid)) == len(grid)
    assert (
        "on different hardware, which rounds otherwise and may draw other dropout: tiny on words (NVIDIA H200, x86_64, AVX2)"
        in (capsys.readouterr().err)
    )


def test_hardware_is_mixed_where_runs_of_one_model_and_task_differ():
    curves = [("a", "s", "xy"), ("a", "t", "yx"), ("b", "t", "xy"), ("c", "s", "x"), ("c", "t", "y")]
    found = pd.DataFrame([(model, task, name) for model, task, names in curves for name in names])
    told = runs.mixed_hardware(found.set_axis(["model", "task", "hardware"], axis=1))
    assert told == ["a on s (x, y)", "a on t (x, y)", "b on t (x, y)"]


def test_a_file_that_lacks_a_level_of_its_name_is_named(grid):
    write_runs(grid[grid["sparsity"] != 0.4])
    with pytest.raises(ValueError, match=r"global/0\.200\+0\.400/seed0\.parquet has no run at sparsity 0\.4"):
        runs.collect(grid)


def test_items_are_read_from_the_files_of_the_rows_jobs(grid):
    write_runs(grid)
    for path, rows in grid.groupby("items"):
        items = [
            dict.fromkeys(tables.schema("items").names)
            | {name: getattr(row, name) for name in runs.KEY}
            | {"item": "i", "weight": 1.0}
            for row in rows.itertuples()
        ]
        tables.write(pd.DataFrame(items), "items", path)
    digests = {path: files.sha256_file(path) for path in grid["items"].unique()}
    found = runs.collect(grid).merge(grid[[*runs.KEY, "items"]], on=runs.KEY)
    found["items_sha256"] = found.pop("items").map(digests)
    read = runs.items(grid)
    assert len(read(found)) == len(grid)
    with pytest.raises(ValueError, match=r"seed0\.parquet does not hold the items that its runs were written with"):
        read(found.assign(items_sha256="0" * 64))
    level = read(found[found["sparsity"] == 0.4])
    assert set(level["sparsity"]) == {0.2, 0.4}, "a job's items lie in one file"
    assert set(level["pattern"]) == {"global"}


def test_items_of_another_seed_task_or_level_are_not_those_of_a_run(tmp_path):
    jobs = [grid_rows(tmp_path, "global", (level,), seed) for seed in (0, 1) for level in (0.2, 0.4)]
    grid = pd.concat(jobs, ignore_index=True)
    grid = pd.concat([grid, of_task(grid, "sums")], ignore_index=True)
    for row in grid.itertuples():
        items = dict.fromkeys(tables.schema("items").names) | {name: getattr(row, name) for name in runs.KEY}
        tables.write(pd.DataFrame([items | {"item": "i", "weight": 1.0}]), "items", row.items)
        write_runs(grid.loc[[row.Index]], items_sha256=files.sha256_file(row.items))
    read = runs.items(grid)
    found = runs.collect(grid)
    assert len(read(found)) == 8
    for _, row in found.iterrows():
        assert read(row.to_frame().T)[runs.KEY].to_numpy().tolist() == [row[runs.KEY].tolist()]


BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def test_costs_of_runs_and_of_other_rules(tmp_path):
    run = tmp_path / "prune_eval/tiny-1.3b/words/nm4/0.250+0.500/seed7.tsv"
    other = tmp_path / "fetch_model/tiny-1.3b.tsv"
    short = tmp_path / "measure_spectrum/tiny.tsv"
    for path, rows in (
        (run, "61.5\t0:01:01\t2100.25\t1\t1\t1\t-\t1\t99.0\t120.75\n"),
        (other, "1.5\t0:00:01\t10.0\t1\t1\t1\t1\t1\t5.0\t0.5\n2.5\t0:00:02\t30.0\t1\t1\t1\t1\t1\t5.0\t0.25\n"),
        (short, "0.1\t0:00:00\tNA\tNA\tNA\tNA\tNA\tNA\tNA\tNA\n"),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(BENCHMARK + rows)
    tables.write(costs.table([run, other, short], tmp_path), "costs", tmp_path / "costs.parquet")
    found = tables.read(tmp_path / "costs.parquet", "costs").set_index("rule")
    assert found.loc["prune_eval", ["model", "task", "pattern", "levels", "seed"]].tolist() == [
        "tiny-1.3b", "words", "nm4", "0.250+0.500", 7,
    ]  # fmt: skip
    assert found.loc["prune_eval", ["wall_s", "cpu_s", "max_rss_mb"]].tolist() == [61.5, 120.75, 2100.25]
    assert found.loc["fetch_model", ["wall_s", "cpu_s", "max_rss_mb"]].tolist() == [4.0, 0.75, 30.0]
    assert found.loc["fetch_model", "name"] == "tiny-1.3b"
    assert found.loc["fetch_model", ["model", "seed"]].isna().all()
    assert found.loc["measure_spectrum", ["cpu_s", "max_rss_mb"]].isna().all()


def test_seconds_in_which_results_were_only_found_are_no_costs(tmp_path, monkeypatch, capsys):
    names = ["prune_eval/m/t/nm4/0.500/seed0", "prune_eval/m/t/nm4/0.500/seed1", "fetch_model/m", "fetch_model/gone"]
    monkeypatch.setattr(collect_costs.opening, "read", lambda _: types.SimpleNamespace(benchmarks=lambda: names))
    for name, text in zip(
        names[:3], ("computed", "Not computed again: a, made of the same before.", None), strict=True
    ):
        for folder, suffix, written in (
            ("benchmarks", "tsv", BENCHMARK + "9.5" + "\t1" * 9 + "\n"),
            ("logs", "log", text),
        ):
            path = tmp_path / folder / f"{name}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if written:
                path.write_text(written)
    places = [
        "--benchmarks",
        f"{tmp_path}/benchmarks",
        "--logs",
        f"{tmp_path}/logs",
        "--out",
        f"{tmp_path}/costs.parquet",
    ]
    collect_costs.main(["--study", "{}", *places])
    found = tables.read(tmp_path / "costs.parquet", "costs")
    assert sorted(found["rule"]) == ["fetch_model", "prune_eval"]
    assert found.set_index("rule").loc["prune_eval", "seed"] == 0
    told = capsys.readouterr().out
    assert "1 of 4 jobs left no benchmark file" in told
    assert "1 of 4 jobs found results that were made before" in told


@pytest.mark.parametrize("text", ["", "rule failed\n", BENCHMARK.replace("cpu_time", "cpu") + "1\t" * 9 + "1\n"])
def test_a_file_that_is_no_benchmark_is_named(text, tmp_path):
    path = tmp_path / "measure_spectrum/tiny.tsv"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(ValueError, match=r"tiny.tsv is not a Snakemake benchmark file"):
        costs.table([path], tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.set_column(
            table.schema.get_field_index("value"), table.schema.field("value"), [pa.array([0.25] * len(table))]
        ),
        lambda table: table.slice(1),
        lambda table: pa.concat_tables([table.slice(1), table.slice(0, 1)]),
    ],
    ids=["a value", "a row less", "another order"],
)
def test_rows_that_were_changed_afterwards_are_noticed(tmp_path, change):
    """By a tool that keeps all that is said of the table."""
    path = tmp_path / "a.parquet"
    tables.write(run_rows(), "runs", path)
    table = pq.read_table(path)
    pq.write_table(table, path)
    assert len(tables.read(path, "runs")) == len(table), "stored otherwise, the same rows"
    pq.write_table(change(table), path)
    with pytest.raises(ValueError, match=r"a.parquet: its rows are not those that were written"):
        tables.read(path, "runs")
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, tables.DIGEST: b""}), path)
    with pytest.raises(ValueError, match=r"its rows are not those that were written"):
        tables.read(path, "runs")


@pytest.mark.parametrize("n", [0, 1, tables.PART, tables.PART + 1])
def test_the_digest_of_rows_is_of_all_of_them_and_stays_what_it_is(n):
    """Files carry it: what is hashed otherwise would refuse all that were written before."""
    values, size = list(range(n)), 65536
    written = [json.dumps({"a": values[start : start + size]}) for start in range(0, max(n, 1), size)]
    expected = hashlib.sha256("".join(written).encode()).hexdigest()
    assert tables.digest(pa.table({"a": pa.array(values, pa.int64())})) == expected


@pytest.mark.parametrize("values", [[0, 1], [2.0, np.nan], [0.0, 1.0]])
def test_numbers_are_no_truth_values(values, tmp_path):
    frame = pd.DataFrame([dict.fromkeys(tables.schema("grid").names)] * 2).assign(named=values)
    with pytest.raises(ValueError, match="column 'named': a yes or no expected"):
        tables._column(frame, "grid", tables.schema("grid").field("named"))
