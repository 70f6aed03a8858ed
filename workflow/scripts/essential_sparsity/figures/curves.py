"""Curves for print and report: quality against sparsity, one line per pattern or model."""

import textwrap
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from essential_sparsity import patterns
from essential_sparsity.curves.intervals import coarse, of_one_seed
from essential_sparsity.curves.means import dense_mean, level_means
from essential_sparsity.curves.metrics import METRICS, Metric, headline
from essential_sparsity.figures import style, summary
from essential_sparsity.figures.style import COLUMN, MM, PERCENT, RC

PITCH, FOOT = 0.028, 0.036  # between the bars at the foot, and below them, of the axis
BLOW_UP = (
    10  # a logarithmic axis ends at this multiple of the largest dense value: beyond it a model is broken, however much
)


def curve(
    runs: pd.DataFrame,
    knee_table: pd.DataFrame,
    model: str,
    task: str,
    labels: dict | None = None,
    missing: pd.DataFrame | None = None,
) -> Figure:
    """Quality against sparsity for every pattern of one model and task, with the essential sparsity of each marked.

    `runs`, `knee_table`: the tables `runs` and `knees`; `labels`: {"model": name, "task": name} for the title; `missing`:
    the table `missing_runs`, whose runs are counted below. With several metrics, the headline is drawn. The line is the
    mean over seeds on the fitted scale that the knee is read on, the band their range; the dense level and its tolerance are
    those of the first pattern's seeds. A sentence where no run has a defined metric.
    """
    runs = runs[(runs["model"] == model) & (runs["task"] == task)]
    gone = 0 if missing is None else int(((missing["model"] == model) & (missing["task"] == task)).sum())
    means = level_means(runs)
    if means.empty:
        return style.sentence(_nothing(f"of {model} on {task}", gone))
    metric = METRICS[headline(means["metric"])]
    means = means[means["metric"] == metric.name]
    found = knee_table[
        (knee_table["model"] == model) & (knee_table["task"] == task) & (knee_table["metric"] == metric.name)
    ].set_index("pattern", drop=False)
    names = sorted(set(means["pattern"]) - {"dense"}, key=_order)
    styles = style.looks(names)
    labels = {"model": model, "task": task} | (labels or {})
    title = style.title(labels["model"], labels["task"])
    with mpl.rc_context(RC):
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        handles = []
        for rank, name in enumerate(names):
            points = means[means["pattern"] == name]
            knee = found.loc[name] if name in found.index else None
            handles.append(draw_line(axes, points, metric, patterns.find(name).label, styles[name], knee, rank))
        dense, of = dense_mean(means, names)
        if dense is not None:
            epsilon = found["epsilon"].iloc[0] if len(found) else metric.epsilon
            handles += _draw_dense(axes, dense, metric, epsilon, of)
        drawn = means[means["pattern"].isin(names or ["dense"])]
        axes_of_curve(axes, drawn, metric, FOOT / 2 + PITCH * len(names))
        figure.suptitle(title, fontsize=8)
        heading = "\n".join([_heading("Pattern", found, gone), *of_seeds(drawn, of)])
        columns, lines = style.columns(handles, COLUMN, 2)
        lines += title.count("\n") + heading.count("\n")
        figure.set_size_inches(COLUMN * MM, (54.5 + 3.6 * lines) * MM)
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=heading, title_fontsize=7)
    return figure


def _nothing(what: str, gone: int) -> str:
    told = f"; {gone} run{'s are' if gone > 1 else ' is'} missing (see missing_runs.parquet)" if gone else ""
    return f"Nothing to draw: no run {what} has a defined metric{told}."


def _heading(subject: str, found: pd.DataFrame, gone: int) -> str:
    """What the legend's numbers are; that they are one seed's, where one was run; how many runs are missing."""
    intervals = found["essential_sparsity_low"].notna() if len(found) else pd.Series(dtype=bool)
    said = f"{subject} — essential sparsity {diamond(found)}"
    said += "(95 % interval)" if intervals.any() or found.empty else "[between levels]"
    said += f"\n{shows}" if (shows := at_the_foot(found)) else ""
    known = found[intervals]
    single = pd.Series([of_one_seed(row) for row in known.to_dict("records")], known.index, dtype=bool)
    if single.all() and len(single):
        said += "\none seed: intervals are that seed's, not the spread of seeds"
    elif single.any():
        names = ", ".join(map(str, single[single].index))
        said += "\n" + textwrap.fill(f"one seed, whose interval says nothing of others: {names}", 60)
    if gone:
        said += f"\n{gone} run{'s are' if gone > 1 else ' is'} missing (see missing_runs.parquet)"
    return said


def diamond(knees: pd.DataFrame) -> str:
    """The mark of an essential sparsity, with a blank after it; empty where none of the curves has one."""
    known = knees[knees["essential_sparsity"].notna()] if len(knees) else knees
    return "" if all(coarse(row) for row in known.to_dict("records")) else "◇ "


def at_the_foot(knees: pd.DataFrame) -> str:
    """What a legend says of the bars below the curves; empty where there are none."""
    known = knees[knees["essential_sparsity"].notna()]
    if known.empty:
        return ""
    return "at the foot: the levels that hold it (shaded)" + (
        ", its interval (thin)" if known["essential_sparsity_low"].notna().any() else ""
    )


def of_seeds(drawn: pd.DataFrame, of: str | None) -> list[str]:
    """The lines that a legend says of several seeds, of curves of different ones (`of`: whose dense level is drawn), and of levels that
    lack some."""
    said = ["means over seeds, in bands of their range"] * bool((drawn["n_seeds"] > 1).any())
    if of is not None:
        said += ["curves start at the dense mean of their own seeds,", "the tolerance at that of the first"]
    return said + ["a level that lacks seeds is as far from dense as its own are"] * bool(drawn["ragged"].any())


def models(
    runs: pd.DataFrame,
    knee_table: pd.DataFrame,
    task: str,
    pattern: str,
    labels: dict[str, str],
    title: str,
    missing: pd.DataFrame | None = None,
) -> Figure:
    """Quality against sparsity for every model of one task under one pattern, with the essential sparsity of each marked.

    `labels`: model -> name; models without one are not drawn. Means, ranges over seeds, `missing` and what is drawn where
    no run has a defined metric are as in `curve`.
    """
    runs, lost = (
        rows[(rows["task"] == task) & rows["model"].isin(labels) & rows["pattern"].isin(["dense", pattern])]
        for rows in (runs, runs.iloc[:0] if missing is None else missing)
    )
    means = level_means(runs)
    if means.empty:
        return style.sentence(_nothing(f"on {task} with pattern {pattern}", len(lost)))
    metric = METRICS[headline(means["metric"])]
    means = means[means["metric"] == metric.name]
    wanted = (knee_table["task"] == task) & (knee_table["metric"] == metric.name) & (knee_table["pattern"] == pattern)
    found = knee_table[wanted].set_index("model", drop=False)
    names = [name for name in labels if name in set(means["model"])]
    styles = dict(zip(names, cycle(style.STYLES.values()), strict=False))
    with mpl.rc_context(RC):
        own = means["pattern"] == pattern
        drawn = means[own | ~means["model"].isin(means.loc[own, "model"])].sort_values("sparsity")
        heading = _heading(f"Model ({pattern})", found.rename(index=labels), len(lost))
        heading = "\n".join([heading, *of_seeds(drawn, None)])
        figure = Figure(layout="constrained")
        axes = figure.add_subplot()
        handles = []
        for rank, name in enumerate(names):
            knee = found.loc[name] if name in found.index else None
            points = drawn[drawn["model"] == name]
            handles.append(draw_line(axes, points, metric, labels[name], styles[name], knee, rank))
        axes_of_curve(axes, drawn, metric, FOOT / 2 + PITCH * len(names))
        lines = style.columns(handles, COLUMN, 1)[1] + heading.count("\n")
        figure.set_size_inches(COLUMN * MM, (58 + 3.6 * lines) * MM)
        figure.suptitle(style.title(title), fontsize=8)
        figure.legend(handles=handles, loc="outside lower center", ncols=1, title=heading, title_fontsize=7)
    return figure


def draw_line(
    axes: Axes,
    points: pd.DataFrame,
    metric: Metric,
    label: str,
    style: tuple[str, str],
    knee: pd.Series | None,
    rank: int,
    pitch: float = PITCH,
) -> Line2D:
    """One line's mean, range over seeds and knee; returns its legend entry.

    At the foot, one line above the other (`pitch`: how far, of the axis): the gap of the grid that holds the knee, shaded, and the
    interval, a bar.
    """
    colour, marker = style
    x = 100 * points["sparsity"].to_numpy()
    low, mean, high = (_shown(points[column], metric) for column in ("low", "quality", "high"))
    edge = {"markerfacecolor": colour, "markeredgecolor": colour if marker in "x" else "white", "markeredgewidth": 0.4}
    if marker == "x":
        edge["markeredgewidth"] = 1.0
    if (points["sparsity"] > 0).sum() == 1:  # of one level there is no curve
        x, mean, edge["linestyle"] = x[-1:], mean[-1:], "none"
    axes.plot(x, mean, color=colour, marker=marker, zorder=3, **edge)
    if points["n_seeds"].max() > 1:
        axes.fill_between(x, low[-len(x) :], high[-len(x) :], color=colour, alpha=0.15, linewidth=0, zorder=1)
    text = label
    if knee is not None and pd.notna(knee["essential_sparsity"]):
        s, height = 100 * knee["essential_sparsity"], FOOT + pitch * rank
        foot = {"transform": axes.get_xaxis_transform(), "color": colour, "solid_capstyle": "butt"}
        bracket = 100 * knee[["bracket_low", "bracket_high"]].to_numpy(float)
        axes.plot(bracket, [height] * 2, linewidth=3.8, alpha=0.35, zorder=3, **foot)
        known = not coarse(knee)
        if known:
            axes.plot(s, height, "|", markersize=5, zorder=4, **foot)
        text += " — below 1 %" if known and s < 1 else f" — {summary.essential(knee, short=True)}"
        if pd.notna(low_end := knee["essential_sparsity_low"]):
            open_end = pd.isna(knee["essential_sparsity_high"])
            high_end = points["sparsity"].max() if open_end else knee["essential_sparsity_high"]
            axes.plot([100 * low_end, 100 * high_end], [height] * 2, linewidth=1.6, zorder=4, **foot)
            least, most = map(summary.level, (low_end, high_end))
            text += f" (≥ {least})" if open_end else f" ({least}–{most})"
        elif known:
            text += f" [{'–'.join(map(summary.level, bracket / 100))}]"
        if known:
            at_knee = _shown(pd.Series([metric.quality(knee["metric_at_knee"])]), metric)
            look = {"markerfacecolor": "white", "markeredgecolor": colour, "markeredgewidth": 1}
            axes.plot(s, at_knee, "D", ms=4.5, zorder=6 - rank / 100, **look)
    elif knee is not None:
        text += f" — {str(knee['reason']).partition(':')[0]}"
        low_end = knee["essential_sparsity_low"]
        text += f" (≥ {summary.level(low_end)})" if pd.notna(low_end) and low_end > 0 else ""
    return Line2D([], [], color=colour, marker=marker, label=text, **edge)


def _draw_dense(axes: Axes, quality: float, metric: Metric, epsilon: float, of: str | None) -> list:
    """The dense level and the tolerance below it; returns their legend entries. `of`: the pattern whose seeds' they are."""
    dense = draw_tolerance(axes, quality, metric, epsilon)
    axes.axhline(dense, color="black", linewidth=0.8, linestyle=style.DENSE, zorder=2)
    if metric.scale == "log":
        tolerance = f"{100 * np.expm1(epsilon):.2g} %"
    elif metric.name in PERCENT:
        tolerance = f"{100 * epsilon:.3g} point{'' if np.isclose(epsilon, 0.01) else 's'}"
    else:
        tolerance = f"{epsilon:.3g}"
    unit = " %" if metric.name in PERCENT else ""
    whose = "" if of is None else f" (seeds of {patterns.find(of).label})"
    return [
        Line2D([], [], color="black", linewidth=0.8, linestyle=style.DENSE, label=f"dense: {dense:.3g}{unit}{whose}"),
        Patch(color="black", alpha=0.13, linewidth=0, label=f"tolerance: {tolerance}"),
    ]


def draw_tolerance(axes: Axes, quality: float, metric: Metric, epsilon: float) -> float:
    """The tolerance below a dense level, which is returned as the axis shows it."""
    dense, limit = _shown(pd.Series([quality, quality - epsilon]), metric)
    axes.axhspan(*sorted((dense, limit)), color="black", alpha=0.13, linewidth=0, zorder=0)
    return dense


def axes_of_curve(axes: Axes, means: pd.DataFrame, metric: Metric, foot: float) -> None:
    """Labels, ticks and limits of the curves that are drawn, rows of `level_means`.

    The vertical axis is cut, and says so, where a broken model would flatten the rest.

    `foot`: the share of the axis that is left to the bars below the curves.
    """
    style.sparsity_axis(axes, -2, max(100 * means["sparsity"].max(), 20) + 2)
    style.guides(axes, 5)
    scale = "log axis" if metric.scale == "log" else "%" if metric.name in PERCENT else ""
    axes.set_ylabel(f"{metric.label} ({scale})" if scale else metric.label)
    told = ""
    values = _shown(means["quality"], metric)
    ends = np.concatenate([values, *(_shown(means[end], metric) for end in ("low", "high"))])  # bands are drawn whole
    if metric.scale == "log":
        low, high = ends.min(), ends.max()
        end = high
        starts = _shown(means.loc[means["sparsity"] == 0, "quality"], metric)
        if len(starts) and high > BLOW_UP * starts.max():
            end = BLOW_UP * starts.max()
            of = "dense; " if np.allclose(starts, starts.max()) else "the largest dense value;\n"
            told = f"\nvertical axis ends at {BLOW_UP} × {of}highest value: {_short(high)}"
        low, end = low / 1.03, end * 1.07
        low = float(np.exp((np.log(low) - foot * np.log(end)) / (1 - foot)))
        style.log_axis(axes, low, end)
    else:
        chosen = [patterns.find(name).score != "random" for name in means["pattern"]]
        shaped = _shown(means.loc[chosen, "quality"], metric)
        low, high = (shaped.min(), shaped.max()) if set(means.loc[chosen, "pattern"]) - {"dense"} else (0, 0)
        bands = _shown(means.loc[chosen, "low"], metric).min(
            initial=low
        )  # of what shapes the axis they are drawn whole
        cut = min(low - 0.35 * (high - low), high - style.always_shown(metric), bands)
        if high > low and values.min() < min(cut, low - (high - low)):
            axes.set_ylim(cut, ends.max() + 0.08 * (high - cut))
            told = f"\nvertical axis is cut; lowest value: {values.min():.3g}{' %' if metric.name in PERCENT else ''}"
        bottom, top = axes.get_ylim()
        axes.set_ylim((bottom - foot * top) / (1 - foot), top)
    axes.set_xlabel(axes.get_xlabel() + told + _out_of_view(means, metric, *axes.get_ylim()))


def _out_of_view(means: pd.DataFrame, metric: Metric, low: float, high: float) -> str:
    """A line that names the curves of one level, which have a point and no line, whose point is beyond the axis."""
    curves = means[means["sparsity"] > 0].groupby(["model", "pattern"], sort=False).filter(lambda rows: len(rows) == 1)
    values = _shown(curves["quality"], metric)
    beyond = curves[(values < low) | (values > high)]
    several = len(set(means["model"])) > 1
    names = beyond["model"] if several else [patterns.find(name).label for name in beyond["pattern"]]
    return "\n" + textwrap.fill(f"beyond it: {', '.join(names)}", 48) if len(beyond) else ""


def _shown(quality: pd.Series, metric: Metric) -> np.ndarray:
    """Quality back in the metric's unit, as the axis shows it."""
    return np.array([metric.value(value) for value in quality]) * (100 if metric.name in PERCENT else 1)


def _order(pattern: str) -> tuple[int, str]:
    return (list(style.STYLES).index(pattern) if pattern in style.STYLES else len(style.STYLES), pattern)


def _short(value: float) -> str:
    return (
        f"{value:.3g}"
        if value < 1e3
        else f"{value:,.0f}"
        if value < 1e4
        else f"{value:.1e}".replace("e+0", "e").replace("e+", "e")
    )
