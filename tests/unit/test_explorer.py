"""The explorer holds what the tables hold, within its bounds, and nothing of a cell is markup."""

import base64
import hashlib
import json
import re

import explored_study as study
import numpy as np
import pandas as pd
import pytest
from test_figures import of_fewer_seeds

from essential_sparsity import tables
from essential_sparsity.curves import flips, knees
from essential_sparsity.figures import explored, explorer, summary
from essential_sparsity.tables import runs as run_tables

MODELS = {"one": "Model One", "two": study.EVIL}
TASKS = {"reviews": ("Reviews", "accuracy"), "words": ("Word <b>pairs</b>", "spearman"), "text": ("Text", "perplexity")}
PATTERNS = {"global": study.LEVELS, "random": study.LEVELS, "nm4": (0.5,)}
CURVE = ["model", "task", "pattern", "metric"]
CLOSE = {"rtol": 6e-6, "check_dtype": False}  # six significant digits


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with a label that is markup, two seeds, a collapsed run, an undefined one, a missing one and a reference."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("made")
        patch.chdir(folder)
        made = study.make(folder, MODELS, TASKS, PATTERNS, seeds=(0, 1))
        runs = made.table("runs")
        random = (runs["model"] == "one") & (runs["task"] == "reviews") & (runs["pattern"] == "random")
        runs.loc[random & (runs["sparsity"] == 0.9) & (runs["seed"] == 1), "collapsed"] = "one class for all items"
        runs.loc[random & (runs["sparsity"] == 0.7), "value"] = None
        made.replace("runs", runs)
        lost = {"model": "two", "task": "text", "pattern": "global", "sparsity": 0.95, "reason": "</script><b>lost</b>"}
        made.replace("missing_runs", pd.DataFrame([study.filled("missing_runs", **lost)]))
        made.replace(
            "references",
            pd.DataFrame([study.filled("references", model="one", task="reviews", pattern="dense", sparsity=0.0)]),
        )
        made.write()
        yield made


@pytest.fixture(scope="module")
def page(made):
    return (made.home / "explorer.html").read_text(encoding="utf-8")


def contents(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="contents">(.*?)</script>', page)[1])


def frame(packed: dict) -> pd.DataFrame:
    """A packed table as the page unpacks it."""

    def values(column: dict) -> list:
        if "all" in column:
            return [column["all"]] * packed["rows"]
        return [column["of"][at] for at in column["at"]] if "of" in column else column["each"]

    return pd.DataFrame({name: values(column) for name, column in packed["columns"].items()})


def test_curves_are_the_means_over_seeds_of_the_table_of_runs(made, page):
    found = frame(contents(page)["curves"])
    runs = made.table("runs").dropna(subset="value")
    assert {tuple(row) for row in found[CURVE].to_numpy()} == {
        tuple(row) for row in runs[CURVE].drop_duplicates().to_numpy()
    }
    for row in found.to_dict("records"):
        dense = (runs[CURVE] == [{**row, "pattern": "dense"}[name] for name in CURVE]).all(axis=1)
        own = runs[dense | (runs[CURVE] == [row[name] for name in CURVE]).all(axis=1)].groupby("sparsity")["value"]
        mean = own.apply(lambda values: np.exp(np.log(values).mean())) if row["metric"] == "perplexity" else own.mean()
        np.testing.assert_array_equal(row["sparsity"], mean.index)
        np.testing.assert_allclose(row["value"], mean, rtol=6e-6)
        np.testing.assert_allclose(row["low"], own.min(), rtol=6e-6)
        np.testing.assert_allclose(row["high"], own.max(), rtol=6e-6)
        assert row["n_seeds"] == own.size().tolist()
        assert row["headline"] == (row["metric"] != "accuracy"), "matthews comes before accuracy"
    assert (
        0.7
        not in found[(found["model"] == "one") & (found["task"] == "reviews") & (found["pattern"] == "random")][
            "sparsity"
        ].iloc[0]
    )


def test_what_is_said_of_a_level_stands_beside_it(page):
    found = frame(contents(page)["curves"]).set_index(CURVE)["notes"]
    assert found["one", "reviews", "random", "matthews"] == {"4": "collapsed (1 of 2 seeds): one class for all items"}
    assert found["two", "reviews", "nm4", "matthews"] == {"1": "2 of every 4 kept"}
    assert found["one", "reviews", "global", "matthews"] is None


def test_a_curve_and_its_tolerance_start_at_the_dense_mean_of_its_own_seeds():
    runs = of_fewer_seeds().assign(collapsed=None, group=None, keep=None)
    runs = runs[(runs["pattern"] != "global") | (runs["sparsity"] != 0.5) | (runs["seed"] != 0)]
    found = explored.curves(runs, []).set_index("pattern")
    assert found["value"].map(lambda values: values[0]).to_dict() == pytest.approx(
        {"dense": 2.5 / 3, "global": 2.5 / 3, "layerwise": 0.9}
    )
    assert found.loc["global", "value"][5] == pytest.approx(2.5 / 3), (
        "as far from dense as its two seeds: nothing is lost"
    )
    assert found.loc["global", "notes"] == {"5": "lacks seeds: as far from dense as its own are"}
    assert found.loc["layerwise", "notes"] is None
    for knee in explored.knees(knees.table(runs)[0], found.reset_index()).to_dict("records"):
        own = found.loc[knee["pattern"]]
        assert knee["dense"] == pytest.approx(own["value"][0])
        assert knee["limit"] == pytest.approx(own["value"][0] - 0.01)
        assert knee["metric_at_knee"] == pytest.approx(
            np.interp(knee["essential_sparsity"], own["sparsity"], own["value"])
        )


def test_the_tolerance_that_is_drawn_is_that_of_the_task():
    runs = of_fewer_seeds().assign(collapsed=None, group=None, keep=None)
    found = explored.curves(runs, [])
    own = explored.knees(knees.table(runs, epsilon={"t": 0.03})[0], found)
    assert (own["dense"] - own["limit"]).to_list() == pytest.approx([0.03] * len(own))


def test_a_collapsed_dense_run_is_said_of_the_curves_that_have_its_seed():
    runs = of_fewer_seeds().assign(collapsed=None, group=None, keep=None)
    runs.loc[(runs["pattern"] == "dense") & (runs["seed"] == 2), "collapsed"] = "one class"
    found = explored.curves(runs, []).set_index("pattern")["notes"]
    assert found["global"] == {"0": "collapsed (1 of 3 seeds): one class"}
    assert found["layerwise"] is None


@pytest.mark.parametrize("name", ["knees", "comparisons", "differences"])
def test_rows_equal_those_of_the_tables(made, page, name):
    found = frame(contents(page)[name])
    table = made.table(name)
    key = [column for column in tables.key(name) if column in found]
    own = [column for column in found if column in table]
    assert len(found) == len(table) > 10
    assert len(own) > 9
    pair = (rows[own].sort_values(key).reset_index(drop=True) for rows in (found, table))
    pd.testing.assert_frame_equal(
        *(rows.astype(object).where(rows.notna(), None).infer_objects() for rows in pair), **CLOSE
    )


def test_a_knee_says_what_the_figures_say_and_where_its_tolerance_ends(made, page):
    found = frame(contents(page)["knees"]).set_index(CURVE)
    for row in made.table("knees").to_dict("records"):
        shown = found.loc[tuple(row[name] for name in CURVE)]
        if pd.notna(row["essential_sparsity"]):
            assert shown["said"].startswith(summary.essential(row))
            assert summary.interval(row["essential_sparsity_low"], row["essential_sparsity_high"]) in shown["said"]
            assert shown["coarse"] == (row["bracket_high"] - row["bracket_low"] > 0.1001)
        else:
            assert shown["said"] == row["reason"].partition(":")[0]
        limit = row["dense"] * 1.01 if row["metric"] == "perplexity" else row["dense"] - 0.01
        assert shown["limit"] == pytest.approx(limit, rel=1e-4)


def test_counts_are_whole_and_other_numbers_have_six_digits():
    frame = pd.DataFrame({"n": [2359297, 2359298], "pruned": [[1179649, None]] * 2, "at": [0.123456789, 12345678.9]})
    found = explorer.packed(frame.astype({"n": "Int64"}))["columns"]
    assert found["n"] == {"each": [2359297, 2359298]}
    assert found["pruned"]["all"] == [1179649, None]
    assert found["at"] == {"each": [0.123457, 12345700]}


def test_layers_are_the_table_s_with_matrices_of_one_role_added_up(made):
    layers = made.table("layers")
    experts = pd.concat([layers, layers.assign(tensor=layers["tensor"] + ".expert")])
    experts = experts[~((experts["role"] == "mlp.up") & (experts["layer"] == 1))]
    found = explored.layers(experts, [])
    for level in found["levels"]:
        model = found["models"][level["model"]]
        own = experts[
            (experts["model"] == level["model"])
            & (experts["pattern"] == level["pattern"])
            & (experts["sparsity"] == level["sparsity"])
        ]
        sums = own.groupby(["role", "layer"])[["n", "pruned"]].sum()
        places = [(role, layer) for role in model["roles"] for layer in model["layers"]]
        for what, cells in (("n", model["n"]), ("pruned", level["pruned"])):
            assert cells == [int(sums.loc[place, what]) if place in sums.index else None for place in places]
            assert cells.count(None) == 1
    assert len(found["levels"]) == len(MODELS) * sum(map(len, PATTERNS.values()))


def test_items_that_turn_wrong_are_those_of_the_table_of_items(made, page):
    """As docs/reading.md asks for them."""
    found = {(one["model"], one["task"], one["pattern"]): one for one in contents(page)["items"]}
    assert set(found) == {(model, "reviews", pattern) for model in MODELS for pattern in PATTERNS}
    for (model, task, pattern), one in found.items():
        files = [made.folder / f"results/store/items/{model}/{task}/{name}/0.parquet" for name in ("dense", pattern)]
        items = pd.concat([tables.read(path, "items") for path in files])
        items = items[items["sparsity"] != study.NOT_ASKED]
        right = items[(items["pattern"] == "dense") & (items["score"] == 1)]
        wrong = items[(items["pattern"] == pattern) & (items["score"] == 0) & items["item"].isin(right["item"])]
        first = wrong.groupby("item")["sparsity"].min()
        assert (one["n_items"], one["right"], one["turned"]) == (40, len(right), len(first))
        assert one["first"] == [int((first == level).sum()) for level in PATTERNS[pattern]]
        assert len(one["items"]) == min(explored.ITEMS, len(first))
        shown = [one["levels"][1:][marks[1:].index("0")] for marks in one["marks"]]
        assert shown == sorted(shown) == [first[item] for item in one["items"]]
        scores = items.set_index(["item", "sparsity"])["score"]
        for item, marks in zip(one["items"], one["marks"], strict=True):
            assert marks == "".join(str(int(scores[item, level])) for level in one["levels"])
    assert "one on text: its items are neither right nor wrong." in contents(page)["without_items"]


def test_a_pattern_without_some_scores_leaves_those_of_others(tmp_path):
    """A score that is missing is no mark; whether a task has marks at all, the dense model says."""
    levels = [("dense", 0.0), ("global", 0.5), ("random", 0.5)]
    place = tmp_path / "items"
    place.touch()
    key = [{"model": "m", "task": "t", "pattern": pattern, "sparsity": level, "seed": 0} for pattern, level in levels]
    runs = pd.DataFrame(key).assign(n_items=2, items_sha256="0")
    grid = pd.DataFrame(key).assign(items=str(place))

    def read(own):
        scored = own[run_tables.KEY].merge(pd.DataFrame({"item": ["a", "b"]}), how="cross")
        missing = (scored["pattern"] == "global") & (scored["item"] == "b")
        return scored.assign(score=[None if lost else 1.0 for lost in missing], second_score=None)

    found, none = explored.items(runs, grid, [], read)
    assert [one["pattern"] for one in found] == ["random"]
    assert none == ["m on t, global: its items are neither right nor wrong."]


def test_an_item_is_read_by_exact_match_where_its_score_is_no_mark_and_stays_unread_where_nothing_is():
    rows = pd.DataFrame(
        {
            "item": ["a", "b", "a", "b", "a"],
            "sparsity": [0.0, 0.0, 0.5, 0.5, 0.7],
            "score": [0.3, 1, 0.2, 1, 0.5],
            "second_score": [1.0, 1, 0, 1, 1],
        }
    )
    found = flips.marks(rows)
    assert found.loc["a"].tolist() == [1, 0, 1]
    assert np.isnan(found.loc["b", 0.7])
    assert flips.first_wrong(found).to_dict() == {"a": 0.5}
    assert flips.marks(rows.assign(second_score=None)) is None
    assert flips.marks(rows.iloc[:0]) is None


def test_items_that_stay_wrong_come_before_those_that_come_back():
    marks = pd.DataFrame(
        [[1, 0, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], index=list("abcde"), columns=[0.0, 0.2, 0.4]
    )
    assert flips.first_wrong(marks.rename_axis("item")).to_dict() == {"b": 0.2, "a": 0.2, "c": 0.4}
    assert list(flips.first_wrong(marks.rename_axis("item")).index) == ["b", "a", "c"]


def test_nothing_of_a_cell_is_markup(page):
    assert "<img" not in page.replace(explorer.get_plotlyjs(), "")
    assert page.count("</script>") == 3
    assert "\\u003cimg src=x" in page, "in the data"
    assert "&lt;img src=x onerror=alert(1)&gt;" in page, "in the tables"
    assert "&lt;/script&gt;&lt;b&gt;lost" in page
    assert contents(page)["models"]["two"] == study.EVIL


def test_no_script_runs_but_those_of_the_page_and_nothing_is_loaded(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    scripts = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    assert policy.startswith("default-src 'none'; script-src ")
    assert re.findall("'sha256-([^']*)'", policy) == hashes
    assert not re.search(r"script-src[^;]*unsafe", policy)
    rest = page.replace(explorer.get_plotlyjs(), "")
    assert not re.search(r"""(src|href)=["'](?!#|data:,)""", rest)


def test_the_data_report_says_what_was_evaluated_and_what_is_missing(page):
    for text in (
        "hub: owner/two",
        "abc123",
        "1,234,567",
        "0123456789ab",
        "Missing runs",
        "Reference values",
        "one on text: its items",
    ):
        assert text in page
    assert page.count('data-value="24">24') == 2 * len(MODELS) * len(TASKS), "runs there, and asked"


def test_a_second_page_has_the_same_bytes(made, page):
    again = made.write(made.home / "again.html")
    assert again.read_bytes() == page.encode()
    again.unlink()


def test_three_hundred_curves_stay_under_six_megabytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    models = {f"model-{number}": f"Model number {number}" for number in range(10)}
    tasks = {f"task-{number}": (f"Task number {number}", ("accuracy", "spearman")[number % 2]) for number in range(10)}
    levels = tuple(round(0.05 * step, 3) for step in range(1, 20))
    patterns = dict.fromkeys(("global", "layerwise", "random"), levels)
    made = study.make(tmp_path, models, tasks, patterns, seeds=(0, 1), n_items=45, blocks=24, fitted=False)
    page = made.write().read_bytes()
    found = contents(page.decode())
    assert found["curves"]["rows"] - found["curves"]["rows"] // 4 == 450, (
        "300 curves, half of them with two metrics, and the dense"
    )
    assert len(page) < 6e6
    assert any("of layers are not on this page" in text for text in found["left_out"])
    assert all(f'<p class="soft left-out">{text}</p>' in page.decode() for text in found["left_out"])


def test_what_is_beyond_the_bounds_is_left_out_and_said(made, monkeypatch):
    frames = {
        name: made.table(name) for name in ("runs", "knees", "comparisons", "differences", "layers", "missing_runs")
    }
    grid = tables.read(made.home / "grid.parquet", "grid")
    for name, most in {"POINTS": 40, "PAIRS": 3, "CELLS": 30, "ITEM_MARKS": 60, "ITEM_ROWS": 1000, "ITEMS": 7}.items():
        monkeypatch.setattr(explored, name, most)
    found = explorer.contents(frames, grid, made.labels)
    curves = frame(found["curves"])
    assert 30 < curves["sparsity"].map(len).sum() <= 40
    assert curves["headline"].all(), "headlines are there first"
    assert found["comparisons"]["rows"] == found["differences"]["rows"] == 3
    levels = frame(found["layers"]["levels"])
    assert 0 < levels["pruned"].map(len).sum() <= 30
    assert sum(len(one["items"]) * len(one["levels"]) for one in found["items"]) <= 60
    assert all(len(one["items"]) <= 7 for one in found["items"])
    assert sum(one["turned"] for one in found["items"]) > 14, "all are counted"
    told = " ".join(found["left_out"])
    for text in (
        "curves are not on this page",
        "pairs of curves are",
        "paired differences are",
        "levels of layers are",
        "were not read for this page",
    ):
        assert text in told


def test_what_is_not_there_leaves_a_page(made, tmp_path, monkeypatch):
    """No layers, comparisons, differences, items, manifests; every value undefined."""
    monkeypatch.chdir(tmp_path)
    frames = {name: made.table(name) for name in ("runs", "knees", "comparisons", "layers", "missing_runs")}
    grid = tables.read(made.home / "grid.parquet", "grid")
    bare = explorer.contents(
        frames | {"comparisons": tables.empty("comparisons"), "layers": tables.empty("layers")}, grid, made.labels
    )
    assert bare["items"] == []
    assert any("is not there." in text for text in bare["without_items"])
    assert bare["layers"] == {"models": {}, "levels": {"rows": 0, "columns": {}}}
    assert bare["differences"]["rows"] == bare["comparisons"]["rows"] == 0
    nothing = frames | {"runs": frames["runs"].assign(value=np.nan), "knees": tables.empty("knees")}
    page = explorer.page(nothing, grid, "made", made.labels, study.PAGE)
    assert contents(page)["curves"]["rows"] == contents(page)["knees"]["rows"] == 0
    assert "results/store/checkpoints/one/manifest.json is not there" in page
    assert "takes lottery tickets, or a pattern beside one" in page
    page = explorer.page(nothing | {"runs": tables.empty("runs")}, grid, "made", made.labels, study.PAGE)
    assert contents(page)["curves"]["rows"] == 0


def test_columns_are_packed_without_loss():
    given = pd.DataFrame(
        {
            "text": ["a", None, "a"],
            "same": [1.5, 1.5, 1.5],
            "number": [1 / 3, np.nan, np.inf],
            "lists": [[1.0, 2.0], [1.0, np.nan], None],
            "truth": [True, False, True],
            "mixed": [1, True, 1.0],
        }
    )
    packed = explorer.packed(given)
    assert packed["columns"]["same"] == {"all": 1.5}
    assert packed["columns"]["text"] == {"of": ["a", None], "at": [0, 1, 0]}
    found = {name: list(column) for name, column in frame(json.loads(explorer._text(packed))).astype(object).items()}
    assert [None if pd.isna(value) else value for value in found["number"]] == [0.333333, None, None]
    assert found["lists"][:2] == [[1, 2], [1, None]]
    assert found["truth"] == [True, False, True]
    assert [type(value) for value in found["mixed"]] == [int, bool, int]
    assert "<" not in explorer._text({"a": "</script><!--"})
