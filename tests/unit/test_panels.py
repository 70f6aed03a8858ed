"""Many curves at one glance: which stand beside each other, and how they are drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from test_figures import assert_inside, assert_readable, assert_the_diamond_is_on_its_line, of_fewer_seeds

from essential_sparsity.curves import knees
from essential_sparsity.figures import panels as drawn
from essential_sparsity.study import panels
from essential_sparsity.study.configuration import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = yaml.safe_load((ROOT / "config/config.yaml").read_text())["figures"]["panels"]
MODELS = {"bert": {"type": "encoder"}, "opt": {"type": "decoder"}, "vit": {"type": "vision"}}
TASKS = {name: {"protocol": "finetune"} for name in ("a", "b", "c", "d")} | {
    "ppl": {"protocol": "zero-shot"},
    "qa": {"protocol": "zero-shot"},
}
CURVES = {
    ("bert", "a"): ["dense", "global", "random"],
    ("bert", "b"): ["dense", "global"],
    ("opt", "a"): ["dense", "global", "nm4"],
    ("opt", "ppl"): ["dense", "global", "wanda"],
    ("vit", "c"): ["dense", "global"],
    ("vit", "d"): ["dense", "global"],
}


def test_shipped_figures_hold_the_curves_that_they_name():
    found = panels.chosen(SHIPPED, CURVES, MODELS, TASKS)
    assert found["language"] == {"lines": [("bert", "global"), ("opt", "global")], "tasks": ["a", "b"]}
    assert found["vision"] == {"lines": [("vit", "global")], "tasks": ["c", "d"]}
    assert "nm" not in found, "one task has a figure of its own"
    assert "language-models" not in found
    more = CURVES | {("opt", "b"): ["dense", "nm8", "layerwise"], ("opt", "qa"): ["dense", "wanda"]}
    found = panels.chosen(SHIPPED, more, MODELS, TASKS)
    assert found["nm"] == {
        "lines": [("opt", "global"), ("opt", "layerwise"), ("opt", "nm4"), ("opt", "nm8")],
        "tasks": ["a", "b"],
    }
    assert found["language-models"]["lines"] == [("opt", "global"), ("opt", "wanda")]
    more = {("opt", task): ["dense", "global", "lth", "random"] for task in "ab"} | {("bert", "a"): ["dense", "global"]}
    assert panels.chosen(SHIPPED, more, MODELS, TASKS)["tickets"] == {
        "lines": [("opt", "global"), ("opt", "lth")],
        "tasks": ["a", "b"],
    }, "a model without tickets has no line among them"
    pair = {(model, task): ["dense", "global"] for model in ("vit-base", "dino-base", "vit-large") for task in "cd"}
    models = {model: {"type": "vision"} for model, _ in pair}
    assert panels.chosen(SHIPPED, pair, models, TASKS)["objectives"]["lines"] == [
        ("dino-base", "global"),
        ("vit-base", "global"),
    ]
    alone = {("vit-base", task): ["dense", "global"] for task in "cd"}
    assert list(panels.chosen(SHIPPED, alone, models, TASKS)) == ["vision"], "one model is no comparison of objectives"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"types": ["encodr"]}, r"panels\.mine\.types: there is no 'encodr'; did you mean 'encoder'\?"),
        ({"protocols": ["zeroshot"]}, r"panels\.mine\.protocols: there is no 'zeroshot'; did you mean 'zero-shot'\?"),
        ({"patterns": ["nm*", "globl"]}, r"panels\.mine\.patterns: unknown pattern 'globl'"),
        ({"beside": ["lht"]}, r"panels\.mine\.beside: unknown pattern 'lht'"),
    ],
)
def test_words_that_nothing_can_have_are_refused(entry, told):
    panels.check(SHIPPED | {"off": None, "some": {"types": ["?ncoder"], "patterns": ["nm[24]"]}}, "mine.yaml")
    with pytest.raises(ConfigError, match=told):
        panels.check({"mine": entry | {"caption": "of nothing"}}, "mine.yaml")


def test_names_of_models_and_tasks_choose_too():
    own = {"mine": {"models": ["b*"], "tasks": ["a", "b"], "patterns": ["global"], "caption": "x"}}
    assert panels.chosen(own, CURVES, MODELS, TASKS) == {"mine": {"lines": [("bert", "global")], "tasks": ["a", "b"]}}


def test_what_is_switched_off_is_not_drawn():
    assert panels.chosen(None, CURVES, MODELS, TASKS) == {}
    assert "vision" not in panels.chosen(SHIPPED | {"vision": None}, CURVES, MODELS, TASKS)


def runs_of(*curves: tuple[str, str, str], metrics=("accuracy",)) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "model": m,
                "task": t,
                "pattern": "dense" if s == 0 else p,
                "sparsity": s,
                "seed": 0,
                "metric": metric,
                "value": 0.9 - s / 5,
            }
            for m, t, p in curves
            for s in np.arange(0, 0.9, 0.2)
            for metric in metrics
        ]
    ).drop_duplicates(["model", "task", "pattern", "sparsity", "metric"])


KNEES = pd.DataFrame(
    [
        {
            "model": "bert", "task": "a", "pattern": "global", "metric": "accuracy", "epsilon": 0.01, "essential_sparsity": 0.05,
            "bracket_low": 0.0, "bracket_high": 0.1, "essential_sparsity_low": 0.0, "essential_sparsity_high": 0.2,
            "metric_at_knee": 0.89, "reason": None, "seed_freedom": 0,
        }
    ]
)  # fmt: skip
LABELS = {"models": {"bert": "BERT", "opt": "OPT"}, "tasks": {"a": "Task A"}}


def axes_of(figure):
    return [axes for axes in figure.axes if axes.axison]


def test_a_panel_per_task_with_the_lines_that_it_has():
    runs = runs_of(("bert", "a", "global"), ("opt", "a", "global"), ("bert", "b", "global"))
    figure = drawn.panels(runs, KNEES, [("bert", "global"), ("opt", "global")], ["a", "b"], LABELS)
    first, second = axes_of(figure)
    assert [axes.get_title() for axes in (first, second)] == ["Task A", "b"]
    marked = [[line for line in axes.lines if len(line.get_xdata()) == 5] for axes in (first, second)]
    assert [len(lines) for lines in marked] == [2, 1]
    assert marked[0][0].get_color() == marked[1][0].get_color(), "a line looks the same everywhere"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["BERT", "OPT"]
    ends = [tuple(line.get_xdata()) for line in first.lines if len(line.get_xdata()) == 2]
    assert (0.0, 20.0) in [tuple(np.round(pair, 6)) for pair in ends], "its interval stands at the foot"


@pytest.mark.parametrize("count", [4, 5])
@pytest.mark.parametrize("tasks", [["a"], ["a", "b", "c"]])
def test_names_of_any_length_stay_inside(tasks, count):
    names = [f"small BERT, weight decay 0.01, seed {seed}, step 3000" for seed in range(count)]
    runs = runs_of(*((name, task, "global") for name in names for task in tasks))
    lines = [(name, "global") for name in names]
    assert_readable(figure := drawn.panels(runs, KNEES, lines, tasks, LABELS))
    assert_inside(figure)


def test_groups_of_items_have_panels_and_one_model_shows_its_patterns():
    runs = runs_of(("opt", "mmlu", "global"), ("opt", "mmlu", "wanda"), metrics=("accuracy", "accuracy_stem"))
    figure = drawn.panels(runs, KNEES, [("opt", "global"), ("opt", "wanda")], ["mmlu"], LABELS)
    assert [axes.get_title() for axes in axes_of(figure)] == ["mmlu", "mmlu, STEM"]
    assert [axes.get_ylabel() for axes in axes_of(figure)] == ["Accuracy (%)", "Accuracy, STEM (%)"], "in one unit"
    assert figure.get_suptitle() == "OPT"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["global", "Wanda", "tolerance below dense"]


def test_a_group_of_items_that_is_the_headline_has_one_panel():
    runs = runs_of(("opt", "mmlu", "global"), metrics=("accuracy_other", "accuracy_stem"))
    figure = drawn.panels(runs, KNEES, [("opt", "global")], ["mmlu"], LABELS)
    assert [axes.get_title() for axes in axes_of(figure)] == ["mmlu, STEM", "mmlu, other subjects"]


def test_missing_runs_are_counted_and_nothing_is_a_sentence():
    runs = runs_of(("bert", "a", "global"), ("bert", "b", "global"))
    missing = pd.DataFrame(
        [{"model": "bert", "task": "b", "pattern": "global"}, {"model": "x", "task": "b", "pattern": "global"}]
    )
    figure = drawn.panels(runs, KNEES, [("bert", "global")], ["a", "b"], LABELS, missing)
    told, *more = figure.legends[0].get_title().get_text().split("\n")
    assert told == "1 run is missing (see missing_runs.parquet)"
    assert " ".join(more) == "◇ essential sparsity; at the foot: the levels that hold it (shaded), its interval (thin)"
    other = KNEES.assign(task="b", essential_sparsity_low=np.nan, essential_sparsity_high=np.nan)
    both = drawn.panels(runs, pd.concat([KNEES, other]), [("bert", "global")], ["a", "b"], LABELS, missing)
    assert both.legends[0].get_title().get_text().split("\n") == [told, *more], "once for all panels"
    empty = drawn.panels(runs.assign(value=np.nan), KNEES, [("bert", "global")], ["a", "b"], LABELS)
    assert "Nothing to draw" in empty.texts[0].get_text()


def test_a_logarithmic_axis_holds_the_dense_values_of_all_models():
    runs = runs_of(("bert", "a", "global"), ("opt", "a", "global"), metrics=("perplexity",))
    broken = np.where(runs["sparsity"] > 0.7, 1e4, 1.0)
    runs["value"] = broken * (1 + runs["sparsity"]) * np.where(runs["model"] == "bert", 5.0, 80.0)
    figure = drawn.panels(runs, KNEES, [("bert", "global"), ("opt", "global")], ["a"], LABELS)
    assert 800 <= axes_of(figure)[0].get_ylim()[1] < 900
    assert "ends at 10 × the largest dense value" in axes_of(figure)[0].get_xlabel().replace("\n", " ")


def test_a_line_starts_at_the_dense_mean_of_its_own_seeds_and_the_tolerance_at_that_of_the_first():
    runs = of_fewer_seeds()
    runs = runs[(runs["pattern"] != "global") | (runs["sparsity"] != 0.5) | (runs["seed"] != 0)]
    lines = [("m", "global"), ("m", "layerwise")]
    figure = drawn.panels(runs, knees.table(runs)[0], lines, ["t"], LABELS)
    (axes,) = axes_of(figure)
    starts = [line.get_ydata()[0] for line in axes.lines if len(line.get_xdata()) == 10]
    assert starts == pytest.approx([100 * 2.5 / 3, 90])
    for _, pattern in lines:
        assert_the_diamond_is_on_its_line(axes, pattern)
    (band,) = axes.patches
    assert band.get_y() + band.get_height() == pytest.approx(100 * 2.5 / 3)
    said = figure.legends[0].get_title().get_text().replace("\n", " ")
    assert "own seeds, the tolerance at that of the first a level that lacks seeds" in said
    assert_readable(figure)
