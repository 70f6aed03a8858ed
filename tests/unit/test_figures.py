"""Figures and the summary: they say what the tables say, and nothing is cut off or too small."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.text import Text

from essential_sparsity import tables
from essential_sparsity.curves import intervals, knees
from essential_sparsity.emergence import measures
from essential_sparsity.figures import curves, emergence, heat_maps, style, summary, tickets

LEVELS = np.arange(10) / 10
LONG = {"model": "SmolLM2-135M-Instruct (4-bit GGUF, dequantised to float32)", "task": "Encyclopaedia leads " * 5}


def runs_of(curves: dict, metric: str = "accuracy", seeds: int = 1) -> pd.DataFrame:
    """Table `runs` as far as figures read it: pattern -> {sparsity: value}; later seeds are a little worse."""
    rows = [
        (pattern, sparsity, seed, value * (1 + (0.001 if metric == "perplexity" else -0.001) * seed))
        for pattern, levels in curves.items()
        for sparsity, value in levels.items()
        for seed in range(seeds)
    ]
    frame = pd.DataFrame(rows, columns=["pattern", "sparsity", "seed", "value"])
    return frame.assign(model="m", task="t", protocol="probe", metric=metric, n_items=100)


def curve_of(function, levels=LEVELS[1:]) -> dict:
    return {float(level): float(function(level)) for level in levels}


GLOBAL = curve_of(lambda s: 0.9 - max(s - 0.5, 0))  # essential sparsity 0.51
CASES = {
    "plain": runs_of({"dense": {0.0: 0.9}, "global": GLOBAL, "random": curve_of(lambda s: 0.9 - s)}, seeds=3),
    "many patterns": runs_of(
        {"dense": {0.0: 0.9}, "nm2": {0.5: 0.8}}
        | dict.fromkeys(("global", "layerwise", "erk", "erk-random", "random", "nm4", "nm8", "nm16", "lth"), GLOBAL)
    ),
    "controls at one level": runs_of(
        {"dense": {0.0: 0.838}, "global": GLOBAL, "lth": GLOBAL}
        | {name: {0.5: 0.72} for name in ("deletion", "erk", "layer-shuffle", "random")},
        seeds=3,
    ),
    "blow-up": runs_of(
        {"dense": {0.0: 16.2}, "global": {0.1: 16.3, 0.2: 18.2, 0.3: 28.8, 0.4: 75, 0.5: 5.9e3, 0.6: 1.7e5}},
        metric="perplexity",
    ),
    "flat perplexity": runs_of({"dense": {0.0: 30.0}, "global": curve_of(lambda s: 30.0)}, metric="perplexity"),
    "no dense": runs_of({"global": GLOBAL}),
    "one level": runs_of({"dense": {0.0: 0.73}, "nm2": {0.5: 0.71}}, metric="spearman"),
    "only dense": runs_of({"dense": {0.0: 0.73}}, metric="spearman"),
}


def draw(runs: pd.DataFrame, **kwargs):
    table = tables.empty("knees") if set(runs["pattern"]) == {"dense"} else knees.table(runs)[0]
    return curves.curve(runs, table, "m", "t", **kwargs)


def legend(figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def assert_readable(figure) -> None:
    """Every text lies inside the figure, is at least 7 pt, and no two overlap."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes, not_drawn = [], set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            not_drawn |= set() if low <= tick.get_loc() <= high else {tick.label1, tick.label2}
    for text in figure.findobj(Text):
        if not text.get_visible() or not text.get_text().strip() or text in not_drawn:
            continue
        box = text.get_window_extent(canvas.get_renderer())
        assert text.get_fontsize() >= 7, text.get_text()
        assert box.x0 >= 0, text.get_text()
        assert box.y0 >= 0, text.get_text()
        assert box.x1 <= figure.bbox.x1, text.get_text()
        assert box.y1 <= figure.bbox.y1, text.get_text()
        boxes.append((text.get_text(), box))
    for i, (first, a) in enumerate(boxes):
        for second, b in boxes[:i]:
            shared = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert min(shared) < 1, (first, second)


def assert_inside(figure) -> None:
    """Legends, with the marks before their entries."""
    for box in (legend.get_window_extent() for legend in figure.legends):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("labels", [None, LONG], ids=["short", "long"])
def test_curves_are_readable_in_one_column(case, labels):
    figure = draw(CASES[case], labels=labels)
    assert figure.get_figwidth() * 25.4 == pytest.approx(85)
    assert_readable(figure)


def test_the_legend_holds_the_essential_sparsity_and_the_tolerance():
    runs = runs_of({"dense": {0.0: 0.9}, "global": GLOBAL, "erk": curve_of(lambda s: 0.9), "nm2": {0.5: 0.9}})
    assert legend(draw(runs)) == [
        "global — 51 % [50–60]",
        "erk — no drop",
        "nm2 — too few levels",
        "dense: 90 %",
        "tolerance: 1 point",
    ]
    perplexity = legend(draw(CASES["blow-up"]))
    assert perplexity[1:] == ["dense: 16.2", "tolerance: 1 %"]


def test_no_number_is_printed_outside_of_its_levels():
    """Levels of half a per cent, as refined grids have them, stand as they are."""
    runs = runs_of({"dense": {0.0: 0.9}, "global": {0.45: 0.9, 0.475: 0.8905, 0.5: 0.85, 0.6: 0.7}})
    line = summary.knee_lines(knees.table(runs)[0])[1]
    assert "47.5–50 %" in line
    assert legend(draw(runs))[0] == "global — 47.5 % [47.5–50]"
    assert [summary.level(s) for s in (0.5, 0.475, 0.123, 0.0)] == ["50", "47.5", "12.3", "0"]
    assert summary.interval(0.475, None) == "≥ 47.5 %"


def with_intervals(runs, seeds=1):
    table = knees.table(runs)[0]
    there = table["essential_sparsity"].notna()
    return table.assign(
        essential_sparsity_low=np.where(there, 0.4, 0.3),
        essential_sparsity_high=np.where(there, 0.7, np.nan),
        seed_freedom=seeds - 1,
    )


def test_the_gap_that_holds_the_knee_is_shaded_under_its_interval():
    runs = runs_of({"dense": {0.0: 0.9}, "global": GLOBAL, "erk": curve_of(lambda s: 0.9)})
    figure = curves.curve(runs, with_intervals(runs), "m", "t")
    assert legend(figure)[:2] == ["global — 51 % (40–70)", "erk — no drop (≥ 30)"]
    foot = [line for line in figure.axes[0].lines if line.get_transform() == figure.axes[0].get_xaxis_transform()]
    spans = [line.get_xdata() for line in foot if len(line.get_xdata()) == 2]
    assert [list(span) for span in spans] == [pytest.approx([50, 60]), pytest.approx([40, 70])]
    assert_readable(figure)
    told = figure.legends[0].get_title().get_text()
    assert "at the foot: the levels that hold it (shaded), its interval (thin)" in told
    table = with_intervals(runs).set_index("pattern", drop=False)
    table.loc["global", ["essential_sparsity_low", "essential_sparsity_high"]] = np.nan
    told = curves.curve(runs, table, "m", "t").legends[0].get_title().get_text()
    assert "the levels that hold it (shaded)\n" in f"{told}\n", "of a curve that does not drop no interval is drawn"


def test_levels_far_apart_are_told_in_the_place_of_a_number_that_nobody_measured():
    runs = runs_of({"dense": {0.0: 0.9}, "global": {0.5: 0.85, 0.7: 0.8, 0.9: 0.7}, "nm4": GLOBAL})
    figure = draw(runs)
    assert legend(figure)[:2] == ["global — 0–50 %", "nm4 — 51 % [50–60]"]
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "D" and len(line.get_xdata()) == 1]
    assert [list(mark.get_xdata()) for mark in marks] == [pytest.approx([51])]
    told = {line.split()[2]: " ".join(line.split()[5:9]) for line in summary.knee_lines(knees.table(runs)[0])[1:]}
    assert told == {"global": "0–50 % 0–50 %", "nm4": "51.0 % 50–60 %"}
    report = summary.report_table(knees.table(runs)[0]).set_index("pattern")
    assert list(report["essential sparsity"]) == ["0–50 %", "51.0 %"]


@pytest.mark.parametrize("seeds", [[1, 1], [1, 3], [3, 3]])
def test_one_seed_is_said_to_be_one(seeds):
    runs = runs_of({"dense": {0.0: 0.9}, "global": GLOBAL, "random": curve_of(lambda s: 0.9 - s)})
    table = with_intervals(runs).sort_values("pattern").assign(seed_freedom=np.array(seeds) - 1, protocol="probe")
    figure = curves.curve(runs, table, "m", "t", labels=LONG)
    assert_readable(figure)
    said = figure.legends[0].get_title().get_text()
    assert ("that seed's" in said) == (seeds == [1, 1])
    assert ("one seed, whose interval says nothing of others: global" in said) == (seeds == [1, 3])
    assert any("one seed" in line for line in summary.knee_lines(table)) == (1 in seeds)
    drawn = curves.models(runs, table, "t", "global", {"m": "A model"}, "T")
    assert_readable(drawn)
    assert ("one seed" in drawn.legends[0].get_title().get_text()) == (seeds[0] == 1)


@pytest.mark.parametrize(
    ("pattern", "protocol", "said"),
    [
        ("global", "zero-shot", False),
        ("nm4", "zero-shot", False),
        ("global", "probe", True),
        ("nm4", "finetune", True),
        ("random", "zero-shot", True),
        ("wanda", "zero-shot", True),
    ],
)
def test_one_seed_is_said_where_another_would_be_another_computation(pattern, protocol, said):
    runs = runs_of({"dense": {0.0: 0.9}, pattern: GLOBAL})
    table = with_intervals(runs).assign(seed_freedom=0, protocol=protocol)
    assert ("one seed" in curves.curve(runs, table, "m", "t", labels=LONG).legends[0].get_title().get_text()) == said
    assert any("one seed" in line for line in summary.knee_lines(table)) == said


def test_a_pattern_that_is_known_no_longer_counts_as_drawn():
    assert intervals.drawn({"protocol": "zero-shot", "pattern": "of-before"})


def test_the_report_tells_how_many_seeds_the_levels_have():
    runs = runs_of({"dense": {0.0: 0.9}, "global": GLOBAL}, seeds=3)
    runs = runs[(runs["sparsity"] != 0.9) | (runs["seed"] == 0)]
    table = summary.report_table(knees.table(runs)[0])
    assert table["seeds"].tolist() == ["1–3"]
    assert table["between levels"].tolist() == ["50–60 %"]
    assert any("seeds missing" in line for line in summary.knee_lines(knees.table(runs)[0]))


def test_the_report_says_that_an_interval_is_of_one_seed_though_levels_have_several():
    runs = runs_of({"dense": {0.0: 0.9}, "global": GLOBAL}, seeds=3)
    table = with_intervals(runs).assign(protocol="probe")
    assert summary.report_table(table.assign(seed_freedom=2))["seeds"].tolist() == ["3"]
    assert summary.report_table(table.assign(seed_freedom=0))["seeds"].tolist() == ["3 (interval: of one)"]
    assert summary.report_table(table.assign(seed_freedom=0, essential_sparsity_low=None))["seeds"].tolist() == ["3"]
    alone = table.assign(seed_freedom=0, n_seeds_min=1, n_seeds_max=1)
    assert summary.report_table(alone)["seeds"].tolist() == ["1"]


def test_the_line_is_the_mean_of_the_seeds_and_starts_at_dense():
    figure = draw(CASES["plain"])
    line = next(line for line in figure.axes[0].lines if line.get_color() == style.STYLES["global"][0])
    assert line.get_xdata().tolist() == pytest.approx(list(range(0, 100, 10)))
    assert line.get_ydata()[0] == pytest.approx(90 * 0.999)
    assert line.get_ydata()[-1] == pytest.approx(50 * 0.999)


def of_fewer_seeds() -> pd.DataFrame:
    """Dense seed 0 is better than the two that layerwise was not run with."""
    good, poor = (
        runs_of({"dense": {0.0: dense}, "global": curve_of(lambda s, dense=dense: dense - max(s - 0.5, 0))})
        for dense in (0.9, 0.8)
    )
    seeds = pd.concat([good, poor.assign(seed=1), poor.assign(seed=2)])
    return pd.concat([seeds, runs_of({"layerwise": curve_of(lambda s: 0.9 - s / 10)})])


def assert_the_diamond_is_on_its_line(axes, pattern: str) -> None:
    line, mark = (
        next(line for line in axes.lines if condition(line) and style.STYLES[pattern][0] == colour(line))
        for condition, colour in (
            (lambda line: len(line.get_xdata()) > 2, Line2D.get_color),
            (lambda line: line.get_marker() == "D", Line2D.get_markeredgecolor),
        )
    )
    (x,), (y,) = mark.get_data()
    assert y == pytest.approx(np.interp(x, *line.get_data()))


def test_a_curve_starts_at_the_dense_mean_of_its_own_seeds():
    figure = draw(of_fewer_seeds())
    starts = {line.get_color(): line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_xdata()) == 10}
    assert starts[style.STYLES["global"][0]] == pytest.approx(100 * 2.5 / 3)
    assert starts[style.STYLES["layerwise"][0]] == pytest.approx(90)
    for pattern in ("global", "layerwise"):
        assert_the_diamond_is_on_its_line(figure.axes[0], pattern)
    assert "dense: 83.3 % (seeds of global)" in legend(figure)
    assert "curves start at the dense mean of their own seeds" in figure.legends[0].get_title().get_text()
    assert_readable(figure)
    same = draw(CASES["plain"])
    assert "start" not in same.legends[0].get_title().get_text()
    assert "dense: 89.9 %" in legend(same)


def test_the_tolerance_ends_where_the_knee_is_read():
    runs = of_fewer_seeds()
    figure = draw(runs[runs["pattern"] != "global"])
    assert "dense: 90 %" in legend(figure), "of the one seed that layerwise has"
    (band,) = figure.axes[0].patches
    assert [band.get_y(), band.get_y() + band.get_height()] == pytest.approx([89, 90])


def test_the_tolerance_that_is_drawn_is_that_of_the_task():
    runs = runs_of({"dense": {0.0: 0.9}, "global": GLOBAL})
    figure = curves.curve(runs, knees.table(runs, epsilon={"t": 0.03})[0], "m", "t")
    (band,) = figure.axes[0].patches
    assert [band.get_y(), band.get_y() + band.get_height()] == pytest.approx([87, 90])
    assert "tolerance: 3 points" in legend(figure)


def test_a_level_that_lacks_a_seed_is_drawn_as_its_knee_is_read():
    runs = of_fewer_seeds()
    runs = runs[(runs["pattern"] != "layerwise") & ~((runs["sparsity"] == 0.5) & (runs["seed"] == 0))]
    for figure in (draw(runs), curves.models(runs, knees.table(runs)[0], "t", "global", {"m": "M"}, "T")):
        line = next(line for line in figure.axes[0].lines if len(line.get_xdata()) == 10)
        assert line.get_ydata()[5] == pytest.approx(100 * 2.5 / 3), "nothing is lost there"
        band = figure.axes[0].collections[0].get_paths()[0].vertices
        assert set(np.round(band[np.isclose(band[:, 0], 50), 1], 6)) == {83.333333}
        assert "a level that lacks seeds is as far from dense" in figure.legends[0].get_title().get_text()
        assert_readable(figure)
    assert_the_diamond_is_on_its_line(draw(runs).axes[0], "global")


def test_a_seed_without_a_dense_run_is_in_no_curve():
    runs = of_fewer_seeds()
    runs = runs[(runs["pattern"] != "dense") | (runs["seed"] == 0)]
    line = next(line for line in draw(runs).axes[0].lines if len(line.get_xdata()) == 10)
    assert line.get_ydata()[:6] == pytest.approx([90] * 6)


def test_a_blow_up_does_not_flatten_the_rest():
    axes = draw(CASES["blow-up"]).axes[0]
    assert axes.get_yscale() == "log"
    assert 162 <= axes.get_ylim()[1] < 200
    assert "ends at 10 × dense; highest value: 1.7e5" in axes.get_xlabel()
    assert "cut" not in draw(CASES["flat perplexity"]).axes[0].get_xlabel()


def test_a_logarithmic_axis_holds_the_dense_values_of_all_models():
    good, poor = ({0.1: 1.0, 0.2: 1.1, 0.3: 1.4, 0.4: 2.0, 0.5: last} for last in (2.5, 3e4))
    runs = pd.concat(
        runs_of(
            {"dense": {0.0: dense}, "global": {level: dense * times for level, times in worse.items()}}, "perplexity"
        ).assign(model=model)
        for model, dense, worse in (("a", 5.0, good), ("b", 80.0, poor))
    )
    figure = curves.models(runs, knees.table(runs)[0], "t", "global", {"a": "A", "b": "B"}, "T")
    assert 800 <= figure.axes[0].get_ylim()[1] < 900
    assert "ends at 10 × the largest dense value;\nhighest value: 2.4e6" in figure.axes[0].get_xlabel()
    assert_readable(figure)


def test_a_curve_of_one_level_beyond_the_axis_is_named():
    """It has no line that leaves the axis, so that nothing would show which one it is."""
    levels = {"dense": {0.0: 5.0}, "global": {0.9: 6.0}, "random": {0.9: 900.0}, "erk": {0.5: 6.0, 0.9: 900.0}}
    figure = draw(runs_of(levels, "perplexity"))
    assert figure.axes[0].get_xlabel().endswith("highest value: 900\nbeyond it: random")
    assert_readable(figure)
    assert "beyond" not in draw(runs_of(levels | {"random": {0.9: 9.0}}, "perplexity")).axes[0].get_xlabel()


@pytest.mark.parametrize("metric", ["accuracy", "perplexity"])
def test_bands_of_seeds_are_drawn_whole(metric):
    """Also where the axis ends at the means otherwise: on a logarithm, and where it is cut below."""
    fall = {"accuracy": lambda s: 0.8 - s / 10, "perplexity": lambda s: 20 + 30 * s}[metric]
    far = {"random": curve_of(lambda s: 0.2)} if metric == "accuracy" else {}
    runs = runs_of({"dense": {0.0: fall(0)}, "global": curve_of(fall), **far}, metric, seeds=2)
    own = runs["pattern"] != "random"
    apart = {"accuracy": 0.05, "perplexity": 6}[metric]
    runs.loc[own, "value"] += np.where(runs.loc[own, "seed"] == 0, apart, -apart)
    axes, unit = draw(runs).axes[0], 100 if metric == "accuracy" else 1
    shown = unit * runs.loc[own, "value"]
    low, high = axes.get_ylim()
    assert low < shown.min() < shown.max() < high
    assert ("axis is cut" in axes.get_xlabel()) == (metric == "accuracy")


def test_a_random_pattern_does_not_flatten_the_rest():
    runs = runs_of({"dense": {0.0: 0.9}, "global": curve_of(lambda s: 0.9 - s / 10), "random": curve_of(lambda s: 0.2)})
    axes = draw(runs).axes[0]
    assert 70 < axes.get_ylim()[0] < 81
    assert "vertical axis is cut; lowest value: 20 %" in axes.get_xlabel()
    alone = draw(runs[runs["pattern"] != "global"]).axes[0]
    assert alone.get_ylim()[0] < 20
    assert "cut" not in alone.get_xlabel()


def test_what_falls_while_the_rest_is_flat_is_shown():
    """Ten tolerances below the best value are on the axis in any case."""
    runs = runs_of(
        {"dense": {0.0: 0.6}, "global": curve_of(lambda s: 0.6 - s / 60), "random": curve_of(lambda s: 0.6 - s / 11)}
    )
    axes = draw(runs).axes[0]
    assert "cut" not in axes.get_xlabel()
    assert axes.get_ylim()[0] < 52
    lower = runs_of(
        {"dense": {0.0: 0.6}, "global": curve_of(lambda s: 0.6 - s / 60), "random": curve_of(lambda s: 0.3)}
    )
    assert "vertical axis is cut; lowest value: 30 %" in draw(lower).axes[0].get_xlabel()


def test_patterns_differ_in_colour_or_marker_and_known_ones_keep_theirs():
    names = [*style.STYLES, "nm16", "nm32", "nm64", "nm128"]
    assert len(set(style.looks(names).values())) == len(names)
    assert style.looks(["nm16", "global"])["global"] == style.STYLES["global"]


def test_nothing_to_draw_is_said():
    figure = draw(CASES["plain"].assign(value=np.nan))
    assert_readable(figure)
    assert "no run of m on t has a defined metric" in figure.texts[0].get_text()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("count", [1, 12])
def test_missing_runs_are_counted_in_the_figure(case, count):
    lost = pd.DataFrame({"model": "m", "task": ["t"] * count + ["u"], "pattern": "global"})
    figure = draw(CASES[case], missing=lost)
    assert_readable(figure)
    told = f"{count} run{'s are' if count > 1 else ' is'} missing"
    assert told in figure.legends[0].get_title().get_text()
    assert "missing" not in draw(CASES[case], missing=lost.iloc[:0]).legends[0].get_title().get_text()


def test_a_model_and_task_without_any_run_is_a_sentence_with_their_number():
    lost = pd.DataFrame({"model": "n", "task": "t", "pattern": ["dense", "global", "nm4"]})
    nothing = CASES["plain"].iloc[:0]
    figure = curves.curve(nothing, tables.empty("knees"), "n", "t", missing=lost)
    assert_readable(figure)
    assert "3 runs are missing" in figure.texts[0].get_text()
    figure = curves.models(nothing, tables.empty("knees"), "t", "global", {"n": "N"}, "T", lost)
    assert "2 runs are missing" in figure.texts[0].get_text()


def layer_rows(n_layers: int, roles: dict[str, str]) -> pd.DataFrame:
    rows = [
        (f"{layer}.{role}", layer, role, sublayer, 100 * (i + 1), 10 * (i + 1) + layer)
        for layer in range(n_layers)
        for i, (role, sublayer) in enumerate(roles.items())
    ]
    frame = pd.DataFrame(rows, columns=["tensor", "layer", "role", "sublayer", "n", "pruned"])
    return frame.assign(model="m", pattern="global", sparsity=0.3)


BERT = {
    "attention.self.query": "attention",
    "attention.output.dense": "attention",
    "intermediate.dense": "mlp",
    "output.dense": "mlp",
}


@pytest.mark.parametrize("n_layers", [1, 6, 30, 96])
@pytest.mark.parametrize("roles", [BERT, {"fc": "mlp"}], ids=["bert", "one role"])
def test_heat_maps_are_readable(n_layers, roles):
    figure = heat_maps.heat_map(layer_rows(n_layers, roles), "m", "global", 0.3, "A model with a rather long name")
    assert 84 < figure.get_figwidth() * 25.4 < 181
    assert_readable(figure)


def test_heat_map_shows_rates_and_shares():
    rows = layer_rows(2, {"q": "attention", "up": "mlp"})
    experts = rows[rows["role"] == "up"].assign(tensor=["0.second", "1.second"])  # adds to the same cell
    figure = heat_maps.heat_map(pd.concat([rows, experts]), "m", "global", 0.3)
    rate, share = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:2])
    assert rate == pytest.approx(np.array([[10, 11], [10, 10.5]]))
    pruned = np.array([[10, 11], [40, 42]])
    assert share == pytest.approx(100 * pruned / pruned.sum())
    assert "Attention: 10 % pruned, 20 % of all pruned (20 % of the weights)" in figure.get_supxlabel()


def test_a_model_that_was_not_measured_is_a_sentence():
    figure = heat_maps.heat_map(layer_rows(2, BERT), "n", "global", 0.5)
    assert_readable(figure)
    assert "weights of n have not been measured" in figure.texts[0].get_text()


def test_heat_map_of_a_level_that_is_not_there_names_the_others():
    with pytest.raises(ValueError, match=r"no sparsity 0\.5 of m, global; it has: 0\.300"):
        heat_maps.heat_map(layer_rows(2, BERT), "m", "global", 0.5)


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_the_same_data_give_the_same_bytes(suffix, tmp_path):
    for name in ("a", "b"):
        style.save(draw(CASES["plain"]), tmp_path / f"{name}{suffix}")
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert len((tmp_path / f"a{suffix}").read_bytes()) > 5000


def test_another_kind_of_file_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.bmp: figures are written as"):
        style.save(draw(CASES["only dense"]), tmp_path / "a.bmp")


def test_the_summary_fits_a_terminal_and_says_why_there_is_no_reading(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # narrower ones get lines of WIDTH all the same
    table = pd.concat([knees.table(runs)[0] for case, runs in CASES.items() if case != "only dense"])
    table.loc[table["metric"] == "perplexity", "headline"] = False
    table.loc[table["pattern"] == "nm16", ["model", "task"]] = "a-model-with-a-very-long-name-that-cannot-all-fit"
    lines = summary.knee_lines(table)
    assert len(lines) == 1 + table["headline"].sum() < 1 + len(table)
    assert max(map(len, lines)) <= summary.WIDTH
    plain = next(line for line in lines if "global" in line and "accuracy" in line)
    assert plain.split()[:10] == ["m", "t", "global", "accuracy", "0.8991", "51.0", "%", "50–60", "%", "–"]
    assert any(line.endswith("no dense value") for line in lines)
    assert any(line.endswith("too few levels") for line in lines)


def test_names_that_differ_at_their_end_differ_in_the_summary(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    table = knees.table(CASES["plain"])[0].assign(
        task="classes-of-my-own-shapes-under-a-linear-probe", reason="a long reason " * 9
    )
    both = pd.concat([table.assign(model=f"my-own-checkpoint-of-shapes-{name}") for name in ("crop", "dino")])
    *lines, told = summary.knee_lines(both)[1:]
    assert {line.split()[0] for line in lines} == {"my-ow…-crop", "my-ow…-dino"}
    assert told == summary.CUT
    assert max(map(len, lines)) <= summary.WIDTH
    monkeypatch.setenv("COLUMNS", "400")
    assert {line.split()[0] for line in summary.knee_lines(both)[1:]} == set(both["model"])


def test_names_give_way_before_the_note_that_says_one_seed(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    names = {
        "model": "my-checkpoint",
        "task": "topics-of-mine",
        "pattern": "owl-sparsegpt",
        "reason": "no drop: it stays",
    }
    one = knees.table(CASES["plain"])[0].assign(**names)
    monkeypatch.setattr(summary, "of_one_seed", lambda row: True)
    lines = summary.knee_lines(one)
    assert all(line.endswith("no drop, one seed") for line in lines[1:]), "no line says that notes are cut"
    assert max(map(len, lines)) <= summary.WIDTH


def test_the_summary_names_models_that_are_sparse_before_pruning():
    few, many = (pd.DataFrame({"bin": [0, 5, 0, 7], "count": [zeros, 400 - zeros, 0, 600]}) for zeros in (9, 400))
    assert summary.zero_lines({"dense": few.iloc[1:], "few": few}) == []
    (line,) = summary.zero_lines({"few": few, "pruned": many})
    assert line.startswith("pruned: 40.0 % of its prunable weights are zero in its checkpoint.")


def test_the_summary_adds_costs_up_by_rule():
    rows = [("a", 5.0, np.nan, np.nan), ("b", 3599.0, 60, 500), ("b", 121.0, 1, 900)]
    costs = pd.DataFrame(rows, columns=["rule", "wall_s", "cpu_s", "max_rss_mb"])
    lines = [line.split("  ") for line in summary.cost_lines(costs)]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[1] == ["b", "2", "1 h 02 min", "59 min 59 s", "1 min 01 s", "0.9 GB"]
    assert cells[2] == ["a", "1", "5.0 s", "5.0 s", "–", "–"]
    assert cells[3] == ["all", "3", "1 h 02 min", "1 min 01 s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3600, "1 h 00 min"), (90061, "25 h 01 min")],
)
def test_durations(seconds, text):
    assert summary.duration(seconds) == text


def test_models_of_a_task_are_drawn_together():
    runs = pd.concat([CASES["plain"].assign(model=name) for name in ("m", "n", "other")])
    labels = {"m": "Small ViT, masked autoencoding, step 600", "n": "Small ViT, self-distillation, step 600"}
    figure = curves.models(runs, knees.table(runs)[0], "t", "global", labels, LONG["task"])
    assert_readable(figure)
    assert [text.split(" — ")[0].strip() for text in legend(figure)] == list(labels.values())
    longer = {"m": "Small ViT, masked autoencoding, weight decay 0.01, seed 1, step 600", "n": "W" * 70}
    figure = curves.models(runs, knees.table(runs)[0], "t", "global", longer, LONG["task"])
    assert_readable(figure)
    assert_inside(figure)
    lost = pd.DataFrame({"model": ["m", "n", "other"], "task": "t", "pattern": ["global", "dense", "global"]})
    figure = curves.models(runs, knees.table(runs)[0], "t", "global", labels, LONG["task"], lost)
    assert_readable(figure)
    assert "2 runs are missing" in figure.legends[0].get_title().get_text()
    figure = curves.models(runs, knees.table(runs)[0], "t", "erk", {"p": "P"}, "T")
    assert figure.texts[0].get_text() == "Nothing to draw: no run on t with pattern erk has a defined metric."


def trajectory_of(groups, suspect=None) -> pd.DataFrame:
    rows = [
        {"series": "s", "group": group, "training": group, "axis": "step", "tensor": "all", "position": float(step)}
        | {"measure": measure, "value": 0.3 + 1e-4 * step, "beyond": None, "suspect": suspect if step == 200 else None}
        for group in groups
        for step in range(0, 1000, 100)
        for measure in measures.MEASURES
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("entries", "most", "columns", "lines"),
    [(["a"] * 5, 4, 4, 2), (["a"] * 4, 3, 3, 2), (["a", "a", "w" * 60], 2, 1, 3), ([], 3, 1, 0), (["a"], 3, 1, 1)],
)
def test_columns_of_a_legend(entries, most, columns, lines):
    handles = [Line2D([], [], label=entry) for entry in entries]
    assert style.columns(handles, 85, most) == (columns, lines + (columns == 1 and "w" * 60 in entries))


def test_what_is_folded_keeps_its_words_and_its_number_on_a_line():
    handle = Line2D([], [], label="a model — of a long name — of weights that are many — 50 % (40–60)")
    assert style.columns([handle], 60, 3) == (1, 3)
    *name, number = handle.get_label().split("\n")
    assert number == "  — 50 % (40–60)"
    assert " ".join(line.strip() for line in name) == "a model — of a long name — of weights that are many"


@pytest.mark.parametrize("count", [4, 20])
def test_series_of_many_groups_with_long_names_are_readable(count):
    groups = [f"masked language model, {number} % of all leads" for number in range(10, 10 + count)]
    table = trajectory_of(groups)
    fitted = pd.DataFrame({"series": "s", "group": groups[:1], "measure": "hoyer", "conclusion": "abrupt"})
    fitted = fitted.assign(jump_at=450.0, jump_at_low=400.0, jump_at_high=500.0)
    losses = pd.DataFrame({"training": groups[0], "step": range(1, 900, 10), "loss": 5.0, "learning_rate": 1e-3})
    for figure in (
        emergence.trajectory(table, fitted, losses, "s"),
        emergence.distributions({group: spectrum_of() for group in groups}, "s"),
        emergence.neighbours(masks_of_neighbours(groups, [0.5]), "s"),
    ):
        assert_readable(figure)
        assert_inside(figure)
        assert min(axes.get_window_extent().height for axes in figure.axes if axes.get_visible()) > 60


@pytest.mark.parametrize("suspect", [None, "the same weights as 900"])
def test_a_series_is_drawn_with_its_loss_and_its_abrupt_changes(suspect):
    groups = ["100 % of the data", "50 % of the data", "9 % of the data"]
    losses = pd.DataFrame({"training": groups[0], "step": range(1, 900, 10), "loss": 5.0, "learning_rate": 1e-3})
    fitted = pd.DataFrame({"series": "s", "group": groups[:1], "measure": "hoyer", "conclusion": "abrupt"})
    fitted = fitted.assign(jump_at=450.0, jump_at_low=400.0, jump_at_high=500.0)
    for log in (losses, losses[:0]):
        figure = emergence.trajectory(trajectory_of(groups, suspect), fitted, log, "s")
        assert_readable(figure)
        assert legend(figure)[:3] == groups[::-1], "in the order of their numbers"
        assert ("left out: suspect weights" in legend(figure)) == (suspect is not None)
        assert "abrupt change (95 % interval)" in legend(figure)
        undrawn = emergence.trajectory(trajectory_of(groups), fitted.assign(measure="below 1e-05"), log, "s")
        assert "abrupt change (95 % interval)" not in legend(undrawn), "of what is not drawn"
    with pytest.raises(ValueError, match="no series 'other'"):
        emergence.trajectory(trajectory_of(groups), fitted, losses, "other")


def test_checkpoints_whose_curves_do_not_drop_are_marked_and_no_line_goes_across_them():
    table = trajectory_of(["a", "b"])
    reached = table[table["measure"] == "std"].assign(measure="essential sparsity t")
    out = (reached["group"] == "a") & reached["position"].between(300, 600)
    reached = reached.assign(value=reached["value"].mask(out), beyond=out.map({True: 0.9, False: None}))
    fitted = pd.DataFrame({"series": [], "measure": [], "conclusion": []})
    figure = emergence.trajectory(pd.concat([table, reached]), fitted, NO_LOSSES, "s")
    assert_readable(figure)
    assert "no drop up to this level: it lies above" in legend(figure)
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == "Essential sparsity, t (% of weights)")
    lines = [line.get_xydata() for line in axes.lines]
    through, above, *_ = lines
    assert np.isnan(through[3:7, 1]).all(), "the line is open there"
    assert above[~np.isnan(above[:, 1])].tolist() == [[300, 90], [400, 90], [500, 90], [600, 90]]
    assert axes.lines[1].get_linestyle() == "None"
    assert "no drop up to this level: it lies above" not in legend(emergence.trajectory(table, fitted, NO_LOSSES, "s"))
    never = reached.assign(value=None, beyond=0.9)
    drawn = emergence.trajectory(pd.concat([table, never]), fitted, NO_LOSSES, "s")
    assert "Essential sparsity, t (% of weights)" in {axes.get_title(loc="left") for axes in drawn.axes}, (
        "if it was never reached too"
    )


def test_the_essential_sparsity_of_each_task_is_drawn_beside_the_loss():
    table = trajectory_of(["a", "b"])
    one = table[table["measure"] == "std"]
    tasks = [f"essential sparsity t{number}" for number in range(3)]
    fitted = pd.DataFrame({"series": [], "measure": [], "conclusion": []})
    losses = pd.DataFrame({"training": "a", "step": range(1, 900, 10), "loss": 5.0, "learning_rate": 1e-3})
    for log in (NO_LOSSES, losses):
        figure = emergence.trajectory(
            pd.concat([table, *(one.assign(measure=task) for task in tasks)]), fitted, log, "s"
        )
        assert_readable(figure)
        assert_inside(figure)
        shown = [axes.get_title(loc="left") for axes in figure.axes if axes.get_visible()]
        named = [f"Essential sparsity, t{number} (% of weights)" for number in range(3)]
        assert shown == [*emergence.SHOWN.values(), *named, *([] if log.empty else ["Training loss"])]


def masks_of_neighbours(groups, levels, patterns=("global",), steps=range(0, 1000, 100)) -> pd.DataFrame:
    rows = [
        {
            "series": "s",
            "group": group,
            "training": f"{group} {seed}",
            "axis": "step",
            "between": "checkpoint",
            "scope": "model",
        }
        | {"position_a": float(step - 100), "position_b": float(step), "sparsity": s, "pattern_a": pattern}
        | {"cosine_kept": 0.99, "cosine_kept_chance": 1 - s, "cosine_kept_chance_matrix": 1.01 - s}
        | {"iou_pruned": 0.9, "iou_pruned_chance": s / (2 - s), "iou_pruned_chance_matrix": s / (2 - s) + 0.01}
        for group in groups
        for seed in (0, 1)
        for step in steps[1:]
        for s in levels
        for pattern in patterns
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("levels", [[0.5], [0.3, 0.5, 0.7], [0.1, 0.3, 0.5, 0.9], [0.1, 0.2, 0.3, 0.4, 0.5]], ids=len)
@pytest.mark.parametrize("patterns", [("global",), ("global", "lth")], ids=len)
def test_masks_of_neighbouring_checkpoints_are_drawn_beside_chance(levels, patterns):
    groups = ["100 % of the data", "50 % of the data", "9 % of the data"]
    table = masks_of_neighbours(groups, levels, patterns)
    figure = emergence.neighbours(table, "s")
    assert_readable(figure)
    assert legend(figure) == groups[::-1]
    grey = [text.get_text() for text in figure.legends[1].get_texts()]
    assert grey == ["lottery tickets"] * (len(patterns) - 1) + ["chance", "chance within each matrix"]
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in shown if axes.get_title(loc="left")] == [
        f"{100 * s:g} % pruned" for s in levels
    ]
    assert len(shown) == 2 * len(levels)
    cosine, chance = shown[0].lines[0], shown[0].lines[-2]
    assert cosine.get_xdata().tolist() == list(range(100, 1000, 100)), "at the later checkpoint of each pair"
    assert set(cosine.get_ydata()) == {0.99}
    assert chance.get_ydata() == pytest.approx([1 - levels[0]] * 9)
    assert len(shown[0].lines) == len(groups) * 2 * len(patterns) + 2, "one line per training and pattern"


def test_chance_is_seen_beside_a_single_pair_of_checkpoints():
    figure = emergence.neighbours(masks_of_neighbours(["all"], [0.5], steps=range(0, 200, 100)), "s")
    assert_readable(figure)
    for line in figure.axes[0].lines[-2:]:
        assert len(line.get_xdata()) == 2


def test_a_series_without_two_sound_checkpoints_says_so():
    table = masks_of_neighbours(["all"], [0.5])
    figure = emergence.neighbours(table, "other")
    assert_readable(figure)
    assert "Nothing to compare in other" in figure.texts[0].get_text()


def test_distributions_of_layers_are_shares_of_the_weights():
    from essential_sparsity.checkpoints.prunable import PrunableWeight
    from essential_sparsity.pruning import spectrum

    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 0.02
    weights = [(PrunableWeight(f"l{i}", i, "a", "mlp", (64, 64), 1), values) for i in range(5)]
    frames = {f"{share} % of the data": spectrum.build(weights) for share in (100, 50)}
    figure = emergence.distributions(frames, "a series")
    assert_readable(figure)
    found = figure.axes[0].patches[0].get_data().values
    assert found.sum() / emergence.BINS_PER_DECADE == pytest.approx(1, abs=0.01)


def similarity_of(model: str) -> pd.DataFrame:
    table = masks_of_neighbours(["all"], [0.3, 0.5]).assign(model_a=model, model_b=model)
    return pd.concat([table.assign(between=between) for between in ("pattern", "task", "seed")])


def differences_of(model: str) -> pd.DataFrame:
    frame = pd.DataFrame({"sparsity_from": [0.3, 0.5, 0.3], "sparsity_to": [0.3, 0.5, 0.5], "n_levels": [1, 1, 2]})
    frame = frame.assign(model=model, task="t", metric="accuracy", pattern_a="lth", pattern_b="global")
    return frame.assign(difference=0.01, low=-0.01, high=0.02, n_seeds=2)


def spectrum_of() -> pd.DataFrame:
    from essential_sparsity.checkpoints.prunable import PrunableWeight
    from essential_sparsity.pruning import spectrum

    values = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) * 0.02
    return spectrum.build([(PrunableWeight("l0", 0, "a", "mlp", (64, 64), 1), values)])


def models_of(label: str):
    runs = CASES["plain"]
    return curves.models(runs, knees.table(runs)[0], "t", "global", {"m": label}, label)


def trajectory_figure(label: str):
    fitted = pd.DataFrame({"series": [], "measure": [], "conclusion": []})
    return emergence.trajectory(trajectory_of([label]), fitted, NO_LOSSES, "s")


NO_LOSSES = pd.DataFrame({"training": [], "step": [], "loss": []})
DRAWN = {  # figure -> the figure with a label that a user has typed
    "curve": lambda label: draw(CASES["plain"], labels={"model": label, "task": label}),
    "models": models_of,
    "heat_map": lambda label: heat_maps.heat_map(layer_rows(2, BERT), "m", "global", 0.3, label),
    "difference": lambda label: tickets.difference(differences_of("m"), "m", "t", {"model": label, "task": label}),
    "similarity": lambda label: tickets.similarity(similarity_of("m"), "m", label),
    "trajectory": trajectory_figure,
    "neighbours": lambda label: emergence.neighbours(masks_of_neighbours([label], [0.5]), "s"),
    "distributions": lambda label: emergence.distributions({label: spectrum_of()}, label),
    "sentence": style.sentence,
}


@pytest.mark.parametrize("label", ["A $x^$ B", "price $5_$", "US$ 5 to US$ 6 a_b", "_x"])
@pytest.mark.parametrize("name", DRAWN)
def test_labels_are_drawn_as_they_stand(name, label, tmp_path):
    """Between two dollars matplotlib would read mathematics, and it leaves names that begin with _ out of legends."""
    figure = DRAWN[name](label)
    style.save(figure, tmp_path / "figure.svg")
    texts = [text for text in figure.findobj(Text) if label in text.get_text()]
    assert texts
    assert not any(text.get_parse_math() for text in texts)


def test_signs_that_the_font_lacks_are_drawn_by_one_that_has_them(tmp_path, recwarn):
    """STIX, which comes with matplotlib too, stands for a font of another script."""
    assert style.families(["No such font", "STIXGeneral"]) == ["DejaVu Sans", "STIXGeneral"]
    assert style.RC["font.family"][0] == "DejaVu Sans"
    sign = "\u2a1f"  # in STIX alone
    written = []
    for name, fallbacks in (("lacks", []), ("has", ["STIXGeneral"])):
        with mpl.rc_context():
            with mpl.rc_context(style.RC | {"font.family": style.families(fallbacks)}):
                figure = style.Figure(figsize=(1, 1))
                figure.text(0, 0, f"A {sign}", fontfamily=style.families(fallbacks))
            style.save(figure, tmp_path / f"{name}.svg")
        written.append("STIX" in (tmp_path / f"{name}.svg").read_text())
    assert written == [False, True]
    assert [str(one.message)[:13] for one in recwarn] == ["Glyph 10783 ("]


def test_every_figure_function_is_drawn_with_labels():
    public = {
        name
        for module in (curves, emergence, heat_maps, tickets, style)
        for name, made in vars(module).items()
        if getattr(made, "__module__", "") == module.__name__ and made.__annotations__.get("return") is style.Figure
    }
    assert {name for name in public if not name.startswith("_")} == set(DRAWN)


def test_powers_of_ten_are_written_without_mathematics(tmp_path):
    figure = emergence.distributions({"all": spectrum_of()}, "a series")
    style.save(figure, tmp_path / "figure.svg")
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert "10⁻⁵" in ticks
    assert not any("$" in tick for tick in ticks)
