"""Finished studies in a notebook: what the reader gives is what the tables hold, in every way that docs/reading.md shows."""

import itertools
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats

import write_dictionary
from essential_sparsity import codefiles, files, reader, tables
from essential_sparsity.curves import knees
from essential_sparsity.figures import curves
from essential_sparsity.tables import crate, dictionary

ROOT = Path(__file__).parents[2]
READING = (ROOT / "docs/reading.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```python (pandas|duckdb|polars)\n(.*?)```", READING, re.DOTALL)
SCALES = {"ws353": "spearman", "reviews-probe": "accuracy", "wiki-ppl": "perplexity"}
SEEDS = {"dense": (0, 1), "global": (0, 1), "random": (0, 1), "nm4": (0,)}
LEVELS = (0.25, 0.5, 0.75)
NOT_ASKED = 0.9  # a level of the jobs that the study does not ask for
N_ITEMS = 40


def a_run(model, task, pattern, sparsity, seed, metric, value):
    """A row of table `runs`, with what it takes."""
    row = {name: value_of(field) for name, field in codefiles.described("runs")["columns"].items()}
    told = {"model": model, "task": task, "pattern": pattern, "sparsity": sparsity, "seed": seed, "metric": metric}
    return row | told | {"value": value, "n_items": 100, "sparsity_actual": sparsity + 1e-4 * (pattern == "nm4")}


def value_of(field):
    if field.get("nullable"):
        return None
    return {"text": "x", "whole number": 1, "number": 0.5, "yes or no": True}[field["type"]]


def evaluated(task, pattern, sparsity, seed, draw):
    """Rows of table `items`: ratings with ties for ws353; else right where the item's number is above a bar that rises with the sparsity."""
    number = np.arange(N_ITEMS)
    target = number // 2 * 1.0
    noise = draw.normal(0, 1 + 20 * sparsity * (1 + (pattern == "random")), N_ITEMS)
    scores = {"ws353": np.round(target + noise), "reviews-probe": (number >= 4 + 40 * sparsity**2 + seed) * 1.0}
    told = {"model": "minilm", "task": task, "pattern": pattern, "sparsity": sparsity, "seed": seed}
    items = pd.DataFrame({"item": [f"{one:04d}" for one in number], "score": scores.get(task, 1.0 * number)})
    return items.assign(**told, target=target, second_score=None, prediction=None, weight=1.0, group=None)


def laid_out(rows):
    """Table `layers`: two matrices in each of three blocks, of which the second is emptied first and the first never by half."""
    block = rows["layer"]
    pruned = (block != 0) * np.minimum(100, 100 * rows["sparsity"] + 20 * (block == 1)).astype(int)
    rates = {"n": 100, "pruned": pruned, "rate": pruned / 100, "share": 0.0, "boundary": 0}
    return rows.assign(**rates, role=rows["tensor"], sublayer="mlp")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the study `demo`: three tasks, three patterns, two seeds of two; files of items have a level more than the study."""
    folder = tmp_path_factory.mktemp("place")
    rows, grid = [], []
    draw = np.random.default_rng(3)
    for task, metric in SCALES.items():
        for pattern, seed in ((pattern, seed) for pattern, seeds in SEEDS.items() for seed in seeds):
            levels = (0.0,) if pattern == "dense" else LEVELS
            job = f"minilm/{task}/{pattern}/{'+'.join(f'{level:.3f}' for level in levels)}/seed{seed}"
            items = f"results/store/items/{job}.parquet"
            beside = () if pattern == "dense" else (NOT_ASKED,)
            found = pd.concat([evaluated(task, pattern, level, seed, draw) for level in levels + beside])
            tables.write(found, "items", folder / items)
            for sparsity in levels:
                value = 17 + 40 * sparsity**3 if metric == "perplexity" else 0.8 - 0.6 * sparsity**3
                value += draw.normal(0, 0.001) * (pattern != "dense")
                run = a_run("minilm", task, pattern, sparsity, seed, metric, value)
                rows.append(run | {"items_sha256": files.sha256_file(folder / items)})
                key = {name: run[name] for name in ("model", "task", "pattern", "sparsity", "seed")}
                told = {name: value_of(field) for name, field in codefiles.described("grid")["columns"].items()}
                grid.append(told | key | {"items": items, "job": job})
    runs = pd.DataFrame(rows)
    study = folder / "results/demo"
    tables.write(runs, "runs", study / "tables/runs.parquet")
    tables.write(pd.DataFrame(grid), "grid", study / "grid.parquet")
    found = knees.table(runs.assign(protocol="zero-shot", collapsed=None))[0]
    within = found["essential_sparsity"].notna() & (found["task"] != "ws353")
    found["essential_sparsity_low"] = found["bracket_low"].where(within)
    tables.write(found, "knees", study / "tables/knees.parquet")
    matrices = itertools.product(["minilm"], ["global", "random"], LEVELS, range(3), ["up", "down"])
    columns = ["model", "pattern", "sparsity", "layer", "tensor"]
    layers = pd.DataFrame(list(matrices), columns=columns)
    layers["tensor"] = layers["layer"].astype(str) + layers["tensor"]
    tables.write(laid_out(layers), "layers", study / "tables/layers.parquet")
    return folder


@pytest.fixture
def demo(place, monkeypatch):
    monkeypatch.chdir(place)
    return reader.read("demo")


def test_tables_are_what_was_written(demo):
    assert demo.names() == ["knees", "layers", "runs"]
    pd.testing.assert_frame_equal(demo.runs, tables.read("results/demo/tables/runs.parquet", "runs"))
    pd.testing.assert_frame_equal(demo["runs"], demo.runs)
    frame = demo.runs
    frame["value"] = 0.0
    assert demo.runs["value"].max() > 0, "a frame is a copy"
    assert "knees" in dir(demo)
    assert repr(demo) == "demo: knees, layers, runs"


def test_a_table_that_the_study_asks_for_no_more_is_read_with_a_warning(place, tmp_path):
    """Of an earlier configuration, or written by a call that did not reach its end: the study's provenance lists what is its own."""
    folder = tmp_path / "demo"
    shutil.copytree(place / "results/demo", folder)
    own = {f"tables/{name}.parquet": files.sha256_file(folder / f"tables/{name}.parquet") for name in ("runs", "knees")}
    graph = [{"@id": path, "@type": "File", "sha256": digest} for path, digest in own.items()]
    files.write_json(folder / crate.NAME, {"@graph": [{"@id": "#configuration"}, *graph]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(reader.Results(folder).runs)
    with pytest.warns(
        UserWarning, match=r"layers\.parquet is no table that .*ro-crate-metadata\.json was written of"
    ) as told:
        reader.Results(folder)["layers"]
    assert told[0].filename == __file__
    rewritten = tables.read(place / "results/demo/tables/runs.parquet", "runs").assign(value=0.0)
    tables.write(rewritten, "runs", folder / "tables/runs.parquet")
    with pytest.warns(UserWarning, match=r"runs\.parquet is no table"):
        reader.Results(folder)["runs"]


@pytest.mark.parametrize("task", list(SCALES))
def test_a_curve_is_the_mean_over_seeds_on_the_fitted_scale(demo, task):
    found = demo.curve(model="minilm", task=task, pattern="global")
    assert found["sparsity"].tolist() == [0, 0.25, 0.5, 0.75]
    assert found["n_seeds"].tolist() == [2, 2, 2, 2]
    runs = demo.runs[(demo.runs["task"] == task) & demo.runs["pattern"].isin(["dense", "global"])]
    values = runs.groupby("sparsity")["value"]
    mean = values.apply(lambda own: np.exp(np.log(own).mean())) if task == "wiki-ppl" else values.mean()
    np.testing.assert_allclose(found["value"], mean)
    np.testing.assert_allclose(found["low"], values.min())
    np.testing.assert_allclose(found["high"], values.max())
    assert demo.curve("minilm", task, "nm4")["n_seeds"].tolist() == [1, 1, 1, 1], "dense over the curve's seeds"


def test_a_curve_with_a_level_that_lacks_a_seed_is_what_its_knee_is_read_on(demo, monkeypatch):
    runs = demo.runs[(demo.runs["task"] == "reviews-probe") & demo.runs["pattern"].isin(["dense", "global"])]
    runs["value"] = 0.9 - 0.1 * runs["seed"] - 0.1 * (runs["sparsity"] == 0.75)
    runs = runs[(runs["sparsity"] != 0.5) | (runs["seed"] == 1)]
    monkeypatch.setitem(demo._read, "runs", runs)
    found = demo.curve("minilm", "reviews-probe", "global")
    assert found["value"].tolist() == pytest.approx([0.85, 0.85, 0.85, 0.75])
    assert found["low"].tolist() == pytest.approx([0.8, 0.8, 0.85, 0.7])
    assert found["n_seeds"].tolist() == [2, 2, 1, 2]
    knee = knees.table(runs.assign(protocol="zero-shot", collapsed=None))[0].iloc[0]
    at_knee = np.interp(knee["essential_sparsity"], found["sparsity"], found["value"])
    assert knee["metric_at_knee"] == pytest.approx(at_knee)


def test_a_knee_is_the_row_of_the_table(demo):
    own = demo.knees[(demo.knees["task"] == "ws353") & (demo.knees["pattern"] == "global")].iloc[0]
    assert demo.knee("minilm", "ws353", "global").equals(own)


def test_a_plot_is_the_figure_of_the_study_of_that_pattern(demo, monkeypatch, tmp_path):
    seen, curve = [], curves.curve
    monkeypatch.setattr(curves, "curve", lambda *given: seen.append(given) or curve(*given))
    drawn = demo.plot(model="minilm", task="ws353", pattern="global")
    runs, knees, *_ = seen[0]
    assert set(runs["pattern"]) == {"dense", "global"}
    assert set(knees["pattern"]) == {"global"}
    assert drawn._repr_png_().startswith(b"\x89PNG")
    drawn.save(tmp_path / "a.svg")
    assert "global" in [text.get_text().split()[0] for text in drawn.figure.legends[0].get_texts()]
    demo.plot("minilm", "wiki-ppl").save(tmp_path / "b.png")
    assert set(seen[1][0]["pattern"]) == {"dense", "global", "nm4", "random"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda demo: reader.read("dem"), r"the study 'dem' has not been run; did you mean 'demo'\? There are: demo\."),
        (lambda demo: reader.read("store"), "has not been run"),
        (lambda demo: demo["run"], r"is not there; did you mean 'runs'\? This study has: knees, layers, runs\."),
        (lambda demo: demo.curve("minlm", "ws353", "global"), r"no model 'minlm'; did you mean 'minilm'\?"),
        (lambda demo: demo.plot("minilm", "ws353", "lth"), r"no pattern 'lth'\. It has: global, nm4, random\."),
        (lambda demo: demo.plot("minilm", "mnli"), r"no task 'mnli'\. It has: reviews-probe, wiki-ppl, ws353\."),
        (
            lambda demo: demo.curve("minilm", "wiki-ppl", "nm4", "accuracy"),
            r"no metric 'accuracy'\. It has: perplexity\.",
        ),
        (lambda demo: demo.knee("minilm", "wiki-ppl", "lth"), r"the table of knees has no pattern 'lth'\."),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(demo, call, message):
    with pytest.raises(ValueError, match=message):
        call(demo)
    with pytest.raises(AttributeError, match="'costs' is no table of this study, which has: knees, layers, runs"):
        demo.costs  # noqa: B018


def test_a_table_of_another_version_is_refused_by_name(place, tmp_path):
    target = tmp_path / "results/old/tables/runs.parquet"
    target.parent.mkdir(parents=True)
    table = pq.read_table(place / "results/demo/tables/runs.parquet")
    pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"version": b"1"}), target)
    with pytest.raises(ValueError, match=r"runs\.parquet is version 1 of the table 'runs', but version \d+ is read"):
        reader.read("old", tmp_path).runs  # noqa: B018


def test_reading_imports_nothing_that_draws_or_computes():
    code = "import sys; sys.path.insert(0, sys.argv[1]); import essential_sparsity.reader; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(ROOT / "workflow/scripts")], capture_output=True, text=True, check=True
    )
    assert not {"torch", "transformers", "matplotlib", "scipy"} & set(done.stdout.split())


def test_items_are_those_of_the_study_from_files_that_are_whole(place, tmp_path):
    shutil.copytree(place, tmp_path / "copy")
    found = reader.read("demo", tmp_path / "copy").items("minilm", "ws353")
    assert set(found["sparsity"]) == {0.0, *LEVELS}
    assert len(found) == N_ITEMS * (2 + 5 * len(LEVELS))
    other = tmp_path / "copy/results/store/items/minilm/ws353/dense/0.000/seed0.parquet"
    tables.write(tables.read(other, "items").assign(score=0.0), "items", other)
    with pytest.raises(ValueError, match=r"dense/0\.000/seed0\.parquet does not hold the items that its runs"):
        reader.read("demo", tmp_path / "copy").items("minilm", "ws353")
    with pytest.raises(ValueError, match="has no task 'ws354'; did you mean 'ws353'"):
        reader.read("demo", place).items("minilm", "ws354")


# --- docs/reading.md


def test_there_are_five_questions_each_in_three_ways():
    assert [kind for kind, _ in QUERIES] == ["pandas", "duckdb", "polars"] * 5


def answer(kind, code, demo):
    namespace = {"demo": demo, "pd": pd, "duckdb": duckdb, "pl": polars}
    exec(code, namespace)
    found = namespace["answer"]
    return found.to_pandas() if kind == "polars" else found


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("kind", ["duckdb", "polars"])
def test_a_query_gives_the_same_in_every_way(number, kind, demo):
    expected = answer("pandas", dict(QUERIES[3 * number : 3 * number + 3])["pandas"], demo).reset_index(drop=True)
    found = answer(kind, dict(QUERIES[3 * number : 3 * number + 3])[kind], demo).reset_index(drop=True)
    assert len(expected)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_column_type=False, rtol=1e-9)


def in_pandas(number, demo):
    return answer("pandas", QUERIES[3 * number][1], demo).reset_index(drop=True)


def test_the_knees_are_one_a_task_with_their_intervals(demo):
    found = in_pandas(1, demo).set_index("task")
    assert set(found.index) == set(SCALES)
    assert found["essential_sparsity_low"].notna().to_dict() == {
        "ws353": False,
        "reviews-probe": True,
        "wiki-ppl": True,
    }


def test_the_layer_that_goes_first_is_the_one_that_reaches_half_at_the_lowest_level(demo):
    assert in_pandas(2, demo).to_numpy().tolist() == [[1, 0.5, 0.7], [2, 0.5, 0.5]]


def test_the_paired_test_is_of_rho(demo):
    items = demo.items("minilm", "ws353")
    items = items[items["sparsity"] == 0.5]
    rho = {
        pattern: np.mean([stats.spearmanr(own["score"], own["target"])[0] for _, own in runs.groupby("seed")])
        for pattern, runs in items.groupby("pattern")
    }
    found = in_pandas(3, demo).iloc[0]
    np.testing.assert_allclose(found["difference"], rho["global"] - rho["random"], atol=0.01)  # ties
    assert found["low"] < found["difference"] < found["high"]
    assert found["n_items"] == N_ITEMS, "seeds are no further items"


def test_items_flip_at_the_first_level_that_gets_them_wrong_of_those_that_dense_got_right(demo):
    found = in_pandas(4, demo)
    expected = {
        (seed, f"{item:04d}"): next(level for level in LEVELS if item < 4 + 40 * level**2 + seed)
        for seed in (0, 1)
        for item in range(4 + seed, N_ITEMS)
        if item < 4 + 40 * LEVELS[-1] ** 2 + seed
    }
    assert found.set_index(["seed", "item"])["sparsity"].to_dict() == expected
    assert found["sparsity"].is_monotonic_increasing


def test_the_two_lines_of_a_notebook(demo):
    lines = next(code for code in re.findall(r"```python\n(.*?)```", READING, re.DOTALL) if ".plot(" in code)
    first, second = filter(None, lines.splitlines())
    namespace = {}
    exec(first, namespace)
    assert eval(second, namespace)._repr_png_()


# --- docs/tables.md


def test_the_dictionary_is_what_the_program_writes(tmp_path):
    write_dictionary.main(["--out", str(tmp_path / "tables.md")])
    written = (tmp_path / "tables.md").read_bytes()
    assert written == (ROOT / "docs/tables.md").read_bytes(), "run python workflow/scripts/write_dictionary.py"


def test_the_dictionary_has_every_column_and_says_where_every_table_lies():
    text = (ROOT / "docs/tables.md").read_text(encoding="utf-8")
    by_itself = set()
    for path in (ROOT / "workflow/schemas/tables").glob("*.yaml"):
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
        part = text.partition(f"\n## {path.stem}\n")[2].partition("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE) == list(said["columns"])
        assert f"- Version: {said['version']}\n" in part
        by_itself |= {path.stem} if said["asked"] == "never" else set()
        assert said["asked"] == "never" or said["asked"] in dictionary.ASKED
    assert by_itself == dictionary.PLACES.keys()


def test_the_reader_is_installed_from_the_repository_with_all_that_it_needs(place, tmp_path):
    """As pip makes a package of it, in a process that knows nothing of the repository."""
    source = tmp_path / "source"
    for name in ("pyproject.toml", "setup.py", "README.md", "workflow"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    target = tmp_path / "target"
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--no-build-isolation",
        "--target",
    ]
    subprocess.run([*command, target, source], check=True, capture_output=True)
    shutil.rmtree(source)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from essential_sparsity import reader; study = reader.read('demo'); "
        + ("print(reader.__file__, len(study.knees), type(study.plot('minilm', 'ws353')).__name__)")
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, target], cwd=place, check=True, capture_output=True, text=True
    )
    where, count, figure = done.stdout.split()
    assert where.startswith(str(target))
    assert int(count) > 0
    assert figure == "Drawing"


@pytest.mark.parametrize("dense", [None, 0.9])
def test_a_curve_of_which_no_run_has_a_defined_metric_is_told(dense, tmp_path):
    rows = [
        a_run("m", "t", *level, 0, "accuracy", value)
        for level, value in ((("dense", 0.0), dense), (("global", 0.5), None))
    ]
    folder = tmp_path / "results/x/tables"
    folder.mkdir(parents=True)
    tables.write(pd.DataFrame(rows), "runs", folder / "runs.parquet")
    with pytest.raises(ValueError, match="No run of m on t, pattern global, has a defined metric"):
        reader.read("x", tmp_path).curve("m", "t", "global")


def test_another_metric_does_not_stand_for_a_headline_that_is_undefined(tmp_path):
    """Matthews' correlation, of labels that are all alike, has no knee; the curve of the accuracy is read by its name alone."""
    levels = (("dense", 0.0), ("global", 0.5))
    rows = [
        a_run("m", "t", *level, 0, metric, value)
        for level in levels
        for metric, value in (("matthews", None if level == levels[1] else 0.5), ("accuracy", 0.9))
    ]
    folder = tmp_path / "results/x/tables"
    folder.mkdir(parents=True)
    tables.write(pd.DataFrame(rows), "runs", folder / "runs.parquet")
    study = reader.read("x", tmp_path)
    with pytest.raises(ValueError, match=r"pattern global has no metric 'matthews'.* It has: accuracy\."):
        study.curve("m", "t", "global")
    assert study.curve("m", "t", "global", "accuracy")["value"].tolist() == pytest.approx([0.9, 0.9])
