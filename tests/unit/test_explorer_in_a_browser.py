"""The explorer in a headless Chromium: what it draws, what its controls do, and that it says and asks for nothing else."""

import csv
import io
import json
import operator

import browser
import explored_study as study
import numpy as np
import pandas as pd
import pytest

from essential_sparsity import tables
from essential_sparsity.curves import knees
from essential_sparsity.figures import explorer

MODELS = {"one": "Model One", "two": study.EVIL}
TASKS = {"reviews": ("Reviews", "accuracy"), "text": ("Text <b>%{x}</b>", "perplexity")}
PATTERNS = {"global": study.LEVELS, "random": study.LEVELS, "nm4": (0.5,)}
VIEWS = ("curves", "pairs", "layers", "items", "data")
CHARTS = "[...document.querySelectorAll('.js-plotly-plot')]"
SAID = "document.getElementById('said').textContent"
TRACES = f"""{CHARTS}.map((plot) => plot.data.map((trace) => [trace.meta ?? null, trace.name ?? null, [...(trace.x ?? [])], [...(trace.y ?? [])]]))"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("made")
        patch.chdir(folder)
        made = study.make(folder, MODELS, TASKS, PATTERNS, seeds=(0, 1))
        made.write()
        yield made


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    one = browser.Browser(tmp_path_factory.mktemp("browser"))
    yield one
    one.close()


@pytest.fixture
def shown(started, made):
    """The page at its first view; nothing was complained about and nothing asked for when the test ends."""
    started.size(1400)
    started.scheme("light")
    started.errors.clear()
    started.open(made.home / "explorer.html")
    yield started
    assert started.errors == []
    assert started.requests == []


def click(page, text, within="document"):
    one = f"[...{within}.querySelectorAll('button, label, nav a')].find((one) => one.textContent.trim().startsWith({json.dumps(text)}))"
    page.run(f"{one}.dispatchEvent(new MouseEvent('click', {{ bubbles: true, cancelable: true }}))")


def choose(page, label, value):
    page.run(
        f"(() => {{ const one = [...document.querySelectorAll('select')].find((each) => each.closest('label').textContent.startsWith({json.dumps(label)}));"
        f"one.value = {json.dumps(value)}; one.dispatchEvent(new Event('change', {{ bubbles: true }})); }})()"
    )


def saved(page, name):
    """The rows of a download."""
    page.run(
        "window.kept = []; URL.createObjectURL = (blob) => { kept.push(blob.text()); return 'blob:nothing'; }; HTMLAnchorElement.prototype.click = () => {}"
    )
    click(page, f"Download {name}.csv")
    return list(csv.DictReader(io.StringIO(page.run("kept[0]"), newline="")))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 400])
def test_every_view_is_drawn_at_every_width_without_a_word(shown, made, width, scheme):
    shown.size(width)
    shown.scheme(scheme)
    shown.wait(f"{CHARTS}[0].layout.font.color === '{'#ececec' if scheme == 'dark' else '#1a1a1a'}'")
    for view, charts in zip(VIEWS, (4, 5, 1, 2, 0), strict=True):
        click(shown, view.capitalize(), "document.querySelector('nav')")
        assert shown.run(f"{CHARTS}.length") == charts, view
        assert shown.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), view
        assert shown.run("document.querySelector('nav a[aria-current=page]').dataset.view") == view
        dark = shown.run("getComputedStyle(document.body).backgroundColor") == "rgb(22, 22, 22)"
        assert dark == (scheme == "dark")
        if charts:
            colour = shown.run(f"{CHARTS}[0].layout.font.color")
            assert colour == ("#ececec" if scheme == "dark" else "#1a1a1a")


def test_what_is_drawn_equals_the_tables(shown, made):
    runs, knees = made.table("runs"), made.table("knees")
    charts = shown.run(TRACES)
    seen = 0
    for chart, (task, model) in zip(charts, [(task, model) for task in TASKS for model in MODELS], strict=True):
        metric = {"reviews": "matthews", "text": "perplexity"}[task]
        own = runs[(runs["model"] == model) & (runs["task"] == task) & (runs["metric"] == metric)]
        for meta, name, x, y in chart:
            if meta == "curve":
                curve = own[own["pattern"].isin([name, *(["dense"] if name != "nm4" else [])])].groupby("sparsity")[
                    "value"
                ]
                mean = curve.apply(lambda values: np.exp(np.log(values).mean())) if task == "text" else curve.mean()
                np.testing.assert_allclose(x, 100 * mean.index)
                np.testing.assert_allclose(y, mean, rtol=6e-6)
                seen += 1
        of = (
            knees[(knees["model"] == model) & (knees["task"] == task) & (knees["metric"] == metric)]
            .set_index("pattern")
            .loc[["global", "random", "nm4"]]
        )
        known = of[of["essential_sparsity"].notna()]
        drawn = {what: [x for meta, _, x, _ in chart if meta == what] for what in ("bracket", "interval", "knee")}
        np.testing.assert_allclose(drawn["bracket"], 100 * known[["bracket_low", "bracket_high"]].to_numpy())
        ends = known[["essential_sparsity_low", "essential_sparsity_high"]].fillna(study.LEVELS[-1])
        np.testing.assert_allclose(drawn["interval"], 100 * ends.to_numpy())
        fine = known[known["bracket_high"] - known["bracket_low"] < 0.1001]
        np.testing.assert_allclose([x[0] for x in drawn["knee"]], 100 * fine["essential_sparsity"], rtol=6e-6)
        heights = [y[0] for meta, _, _, y in chart if meta == "knee"]
        np.testing.assert_allclose(heights, fine["metric_at_knee"], rtol=6e-6)
    assert seen == len(MODELS) * len(TASKS) * len(PATTERNS)


def test_pairs_layers_and_items_equal_the_tables(shown, made):
    click(shown, "Pairs")
    differences = made.table("differences")
    own = differences[
        (differences["model"] == "one")
        & (differences["task"] == "text")
        & (differences["n_levels"] == 1)
        & (differences["pattern_a"] == "random")
    ]
    chart = next(traces for traces in shown.run(TRACES) if traces[0][0] == "difference")
    trace = next(one for one in chart if one[0] == "difference" and len(one[2]) == len(own))
    np.testing.assert_allclose(trace[3], own["difference"], rtol=6e-6)
    click(shown, "Layers")
    layers = made.table("layers")
    level = layers[(layers["model"] == "one") & (layers["pattern"] == "global") & (layers["sparsity"] == 0.5)]
    wanted = 100 * level.pivot_table(index="role", columns="layer", values="rate")
    roles = shown.run(f"{CHARTS}[0].layout.yaxis.ticktext")
    np.testing.assert_allclose(shown.run(f"{CHARTS}[0].data[0].z"), wanted.loc[roles], rtol=6e-6)
    click(shown, "Items")
    items = pd.concat(
        [
            tables.read(made.folder / f"results/store/items/one/reviews/{name}/0.parquet", "items")
            for name in ("dense", "global")
        ]
    )
    marks = items[items["sparsity"] != study.NOT_ASKED].pivot_table(index="item", columns="sparsity", values="score")
    last = operator.itemgetter(slice(-5, None))  # they are cut in their middle
    ids = shown.run(f"{CHARTS}[1].layout.yaxis.ticktext")
    np.testing.assert_array_equal(shown.run(f"{CHARTS}[1].data[0].z"), marks.rename(index=last).loc[[*map(last, ids)]])


def test_filters_change_what_is_drawn(shown):
    assert shown.run(SAID) == "12 curves in 4 charts are drawn."
    click(shown, "Model One (one)")
    assert shown.run(SAID) == "6 curves in 2 charts are drawn."
    assert all(
        "onerror" in text
        for text in shown.run("[...document.querySelectorAll('.panel h3')].map((one) => one.textContent)")
    )
    click(shown, "random")
    click(shown, "Reviews (reviews)")
    assert {name for chart in shown.run(TRACES) for meta, name, *_ in chart if meta == "curve"} == {"global", "nm4"}
    assert shown.run(SAID) == "2 curves in 1 chart are drawn."
    choose(shown, "Metric", "matthews")
    assert shown.run(SAID) == "No curve is drawn."
    assert "No curve is of what is chosen" in shown.run("document.getElementById('view').textContent")
    for title in ("Models", "Tasks", "Patterns"):
        shown.run(f"document.querySelector('button[aria-label=\"all, {title}\"]').click()")
    assert shown.run(SAID) == "6 curves in 2 charts are drawn."
    choose(shown, "Lines of a chart are", "model")
    assert shown.run(SAID) == "6 curves in 3 charts are drawn."
    assert {name for chart in shown.run(TRACES) for meta, name, *_ in chart if meta == "curve"} == {"one", "two"}


def test_a_link_restores_the_view_and_so_does_going_back(shown, made):
    click(shown, "Model One (one)")
    choose(shown, "Metric", "accuracy")
    choose(shown, "Lines of a chart are", "model")
    said, traces, link = (
        shown.run(SAID),
        shown.run(TRACES),
        shown.run("document.getElementById('link').getAttribute('href')"),
    )
    assert link == shown.run("location.hash")
    shown.open(made.home / "explorer.html", link)
    assert (shown.run(SAID), shown.run(TRACES)) == (said, traces)
    assert shown.run("[...document.querySelectorAll('input[type=checkbox]')].map((one) => one.checked)") == [
        False,
        *[True] * 6,
    ]
    assert shown.run("[...document.querySelectorAll('#bars select')].slice(0, 2).map((one) => one.value)") == [
        "accuracy",
        "model",
    ]
    click(shown, "Layers")
    choose(shown, "Pattern", "random")
    layers = shown.run(SAID)
    click(shown, "Data", "document.querySelector('nav')")
    shown.run("history.back()")
    shown.wait(f"{SAID} === {json.dumps(layers)}")
    shown.run("history.go(-2)")
    shown.wait(f"{SAID} === {json.dumps(said)}")
    shown.open(made.home / "explorer.html", "#view=nothing&model=gone&metric=gone&page=x&layers=%7C%7C&by=1&items=2")
    assert shown.run(SAID) == "No curve is drawn."
    assert shown.run("document.querySelectorAll('.nothing').length") == 1, (
        "a model that is not there is none of those chosen"
    )


def test_a_download_has_the_rows_that_are_shown(shown, made):
    click(shown, "Model One (one)")
    found = pd.DataFrame(saved(shown, "curves"))
    runs = made.table("runs")
    own = runs[(runs["model"] == "two") & runs["metric"].isin(["matthews", "perplexity"])]
    pruned = own[own["pattern"] != "dense"]
    assert len(found) == len(pruned.drop_duplicates(["task", "pattern", "sparsity"])) + 2 * len(PATTERNS), "and dense"
    assert found["note"].isin(["", "2 of every 4 kept"]).all()
    for row in found.to_dict("records"):
        values = own[
            (own["task"] == row["task"])
            & (own["pattern"] == (row["pattern"] if float(row["sparsity"]) else "dense"))
            & (own["sparsity"] == float(row["sparsity"]))
        ]["value"]
        assert float(row["low"]) == pytest.approx(values.min(), rel=6e-6)
        assert float(row["high"]) == pytest.approx(values.max(), rel=6e-6)
    shown.run("document.querySelectorAll('.panel details').forEach((one) => { one.open = true; })")
    shown.wait("document.querySelectorAll('.panel table').length === 2")
    cells = shown.run(
        "[...document.querySelectorAll('.panel tbody tr')].map((row) => [...row.cells].map((one) => one.textContent))"
    )
    told = [["–" if value == "" else value for value in row.values()] for row in found.to_dict("records")]
    assert sorted(cells) == sorted(told)
    knees = saved(shown, "knees")
    assert [row["pattern"] for row in knees] == ["global", "random", "nm4"] * 2
    assert shown.run("document.querySelectorAll('#view > details tbody tr').length") == 6
    click(shown, "Data", "document.querySelector('nav')")
    assert [row["model"] for row in saved(shown, "checkpoints")] == ["one", "two"]
    assert saved(shown, "checkpoints")[1]["name"] == study.EVIL
    assert saved(shown, "evaluated")[0]["patterns"] == "global, nm4, random"


def test_a_label_that_is_markup_is_a_text_everywhere(shown):
    for view in VIEWS:
        shown.run(f"document.querySelector('nav a[data-view={view}]').click()")
        assert shown.run("document.querySelectorAll('img, b, main script').length") == 0, view
    click(shown, "Curves")
    choose(shown, "Lines of a chart are", "model")
    shown.run(
        f"Plotly.Fx.hover({CHARTS}[0], [{{ curveNumber: {CHARTS}[0].data.findLastIndex((one) => one.meta === 'curve'), pointNumber: 2 }}])"
    )
    text = shown.wait(f"{CHARTS}[0].querySelector('.hoverlayer .hovertext')?.textContent")
    assert text.startswith(study.EVIL)
    assert "sparsity 30 %" in text
    assert shown.run("document.querySelectorAll('img').length") == 0
    choose(shown, "Lines of a chart are", "task")
    choose(shown, "Metric", "perplexity")
    shown.run(
        f"Plotly.Fx.hover({CHARTS}[0], [{{ curveNumber: {CHARTS}[0].data.findLastIndex((one) => one.meta === 'curve'), pointNumber: 1 }}])"
    )
    text = shown.wait(f"{CHARTS}[0].querySelector('.hoverlayer .hovertext')?.textContent")
    assert text.startswith("Text <b>%{x}</b>"), "neither a tag of plotly's nor a place for a value"


def test_long_names_are_told_apart_where_they_are_cut(shown):
    shown.run("document.querySelector('nav a[data-view=items]').click()")
    names = shown.wait(f"{CHARTS}[1]?.layout?.yaxis?.ticktext")
    assert len(names) == len({*names}) > 3
    assert {len(name) for name in names} == {22}
    assert {name[:8] for name in names} == {"photogr…"}


def test_the_keyboard_reaches_and_works_every_control(shown):
    shown.run("document.body.focus()")
    reached = []
    for _ in range(24):
        shown.press("Tab", 9)
        reached.append(
            shown.run(
                "(() => { const one = document.activeElement; const look = getComputedStyle(one); return [one.tagName, one.type ?? '', one.textContent.trim().slice(0, 30), look.outlineStyle]; })()"
            )
        )
    tags = [tag for tag, *_ in reached]
    assert tags[:6] == ["BUTTON", *["A"] * 5]
    assert "INPUT" in tags
    assert "SELECT" in tags
    assert all(style != "none" for *_, style in reached), "what has the focus shows it"
    shown.run("document.querySelector('#filters input').focus()")
    shown.press(" ", 32, " ")
    assert shown.run(SAID) == "6 curves in 2 charts are drawn."
    assert shown.run("document.activeElement === document.querySelector('#filters input')"), "the focus stays"
    click(shown, "Layers")
    shown.run("document.getElementById('level').focus()")
    before = shown.run("document.getElementById('level').getAttribute('aria-valuetext')")
    shown.press("ArrowRight", 39)
    assert (before, shown.run("document.getElementById('level').getAttribute('aria-valuetext')")) == ("50 %", "70 %")
    assert "70 %" in shown.run(SAID)
    assert shown.run("location.hash").endswith("0.7")


def test_what_is_seen_has_words_too(shown):
    for view in VIEWS:
        shown.run(f"document.querySelector('nav a[data-view={view}]').click()")
        assert shown.run("document.querySelector('[role=status][aria-live=polite]').textContent").endswith("."), view
        bare = "[...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length"
        assert shown.run(bare) == 0, view
        charts = shown.run(
            f"{CHARTS}.map((one) => [one.getAttribute('role'), one.getAttribute('aria-label'), one.closest('.panel').querySelectorAll('details').length])"
        )
        assert all(role == "img" and len(text) > 30 and rows == 1 for role, text, rows in charts), view
    click(shown, "Curves")
    said = shown.run("[...document.querySelectorAll('.panel:first-child .legend li')].map((one) => one.textContent)")
    described = shown.run(f"{CHARTS}[0].getAttribute('aria-label')")
    assert len(said) == 3
    assert all(text.split(": ")[1] in described for text in said)


def test_on_paper_it_is_light_and_without_controls(shown, tmp_path):
    shown.scheme("dark")
    shown.printed(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").stat().st_size > 10_000
    assert shown.run(f"{CHARTS}[0].layout.font.color") == "#ececec", "afterwards it is as it was"
    shown.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    shown.size(720)
    shown.run("dispatchEvent(new Event('beforeprint'))")
    assert shown.run(f"{CHARTS}[0].layout.font.color") == "#1a1a1a"
    assert shown.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert shown.run(
        "[document.querySelector('nav'), document.getElementById('filters')].every((one) => getComputedStyle(one).display === 'none')"
    )
    assert shown.run("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    shown.call("Emulation.setEmulatedMedia", media="", features=[])


def test_a_study_of_which_nothing_is_left_says_so(started, made, tmp_path):
    started.errors.clear()
    frames = {name: tables.empty(name) for name in ("knees", "comparisons", "layers", "missing_runs")}
    frames["runs"] = made.table("runs").assign(value=np.nan)
    grid = tables.read(made.home / "grid.parquet", "grid")
    page = tmp_path / "empty.html"
    page.write_text(
        explorer.page(frames, grid.assign(items="gone"), "made", made.labels, study.PAGE),
        encoding="utf-8",
    )
    started.open(page)
    for view, told in {
        "curves": "No run of this study has a defined metric",
        "pairs": "This study has no paired differences",
        "layers": "The weights of no model of this study were measured",
        "items": "No curve of this study has items that are right or wrong.",
        "data": "",
    }.items():
        click(started, view.capitalize(), "document.querySelector('nav')")
        assert told in started.run("document.getElementById('view').textContent")
    assert started.errors == []


def test_a_curve_and_the_tolerance_start_at_the_dense_mean_of_their_own_seeds(started, made, tmp_path):
    runs, before = made.table("runs"), {name: made.table(name) for name in ("runs", "knees")}
    one = (runs["model"] == "one") & (runs["task"] == "reviews")
    runs.loc[one, "value"] -= 0.1 * (runs["seed"] == 1)
    runs = runs[~one | (runs["seed"] == 0) | (runs["pattern"] != "random")]
    made.replace("runs", runs)
    made.replace("knees", knees.table(runs)[0])
    page = made.write(tmp_path / "explorer.html")
    for name, table in before.items():
        made.replace(name, table)
    started.open(page)
    found = {
        name: dict(zip(x, y, strict=True))
        for meta, name, x, y in started.run(TRACES)[0]
        if meta == "curve" and len(x) > 1
    }
    assert found["global"][0] == pytest.approx(0.86)
    assert found["random"][0] == pytest.approx(0.91), "of the one seed that it has"
    (dashed,), (band,) = started.run(
        f"['line', 'rect'].map((type) => {CHARTS}[0].layout.shapes.filter((one) => one.type === type).map((one) => [one.y0, one.y1]))"
    )
    assert dashed == pytest.approx([0.86, 0.86])
    assert band == pytest.approx([0.86, 0.85]), "of one pattern's seeds"
    told = started.run("document.querySelector('.panel p.soft').textContent")
    assert "of the seeds of global, and so is its tolerance" in told
    bands = started.run(f"{CHARTS}[0].data.filter((one) => one.fill === 'toself').flatMap((one) => [...one.y])")
    low, high = started.run(f"{CHARTS}[0].layout.yaxis.range")
    assert max(bands) > found["random"][0] - 0.001, "a seed is above all means"
    assert low < min(bands) < max(bands) < high, "bands are drawn whole"
