"""What calibration gains: quality of calibrated patterns minus that of magnitude with the same structure."""

import textwrap
from collections.abc import Callable, Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from essential_sparsity import patterns
from essential_sparsity.curves.metrics import METRICS, Metric, with_groups
from essential_sparsity.figures import style
from essential_sparsity.figures.style import MM, PAGE, PERCENT, RC

WIDEST = 1e4  # ratio at which an axis ends: beyond it a model is broken, however much
APART = 2.0  # points of sparsity between the first and the last of the bars of one level


def gain(table: pd.DataFrame, model: str, task: str, labels: dict | None = None) -> Figure:
    """Calibrated minus magnitude over sparsity with 95 % intervals; `table`: the table `differences`.

    A panel for the headline metric, and one for each metric of a group of the items (MMLU's four). A sentence where no
    difference is defined.
    """
    rows = table[(table["model"] == model) & (table["task"] == task) & (table["n_levels"] == 1)]
    beside = {
        name: patterns.magnitude(name, set(rows[rows["pattern_a"] == name]["pattern_b"]))
        for name in rows["pattern_a"].unique()
    }
    rows = rows[[beside[row.pattern_a] == row.pattern_b for row in rows.itertuples()]]
    labels = {"model": model, "task": task} | (labels or {})
    if rows.empty:
        return style.sentence(
            f"Nothing to compare for {model} on {task}: no sparsity and seed has both a calibrated pattern and magnitude."
        )
    metrics = [METRICS[name] for name in with_groups(rows["metric"])]
    first = metrics[0].name
    names = sorted(rows["pattern_a"].unique())
    looks = style.looks(names)
    with mpl.rc_context(RC):
        figure = Figure(layout="constrained")
        panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        handles: dict[str, Line2D] = {}
        for axes, metric in zip(panels, metrics, strict=True):
            handles |= _panel(axes, rows[rows["metric"] == metric.name], names, looks, _shown(metric))
            style.sparsity_axis(axes, -2, 100 * rows["sparsity_to"].max() + 4)
            style.guides(axes, 6)
            if len(metrics) > 1:
                axes.set_title(textwrap.fill(metric.label.rpartition(", ")[2], 14), fontsize=7)
                axes.set_xlabel("Sparsity (%)")
                axes.xaxis.set_major_locator(ticker.MaxNLocator(4))
        what, told = METRICS[first].label + ":\n" if len(metrics) == 1 else "", ""
        if METRICS[first].scale == "log":
            panels[0].set_ylabel(f"{what}magnitude ÷ calibrated")
            told = _ratio_axis(
                panels[0], rows.loc[rows["metric"] == first, ["difference", "low", "high"]].to_numpy(float)
            )
        else:
            panels[0].set_ylabel(f"{what}gain by calibration" + (" (points)" if first in PERCENT else ""))
        figure.suptitle(style.title(labels["model"], labels["task"]), fontsize=8)
        drawn = list(handles.values())
        across, lines = style.columns(drawn, PAGE, 3)
        lines += told.count("\n")
        figure.set_size_inches(PAGE * MM, (58 + style.LINE * lines) * MM)
        figure.legend(handles=drawn, loc="outside lower center", ncols=across)
    return figure


def _shown(metric: Metric) -> Callable[[np.ndarray], np.ndarray]:
    """Differences as they are drawn: in points, or where they are of logarithms as the ratio of the values."""
    if metric.scale == "log":
        return lambda values: np.exp(np.clip(values, -2 * np.log(WIDEST), 2 * np.log(WIDEST)))  # outside of the axis
    return lambda values: values * (100 if metric.name in PERCENT else 1)


def _ratio_axis(axes: Axes, logarithms: np.ndarray) -> str:
    """A logarithmic axis that holds the ratios of these logarithms and 1, up to WIDEST either way; what is said of one that is cut."""
    most = np.log(WIDEST)
    low, high = min(np.nanmin(logarithms), 0), max(np.nanmax(logarithms), 0)
    bottom, top = np.clip([low, high], -most, most)
    room = max(0.05 * (top - bottom), 0.01)
    style.log_axis(axes, np.exp(bottom - room), np.exp(top + room))
    if -most <= low and high <= most:
        return ""
    reached = " and ".join(f"1e{value / np.log(10):.0f}" for value in (low, high) if abs(value) > most)
    told = f"\nvertical axis is cut at ratios of {WIDEST:,.0f} and 1/{WIDEST:,.0f}; they reach {reached}"
    axes.set_xlabel(axes.get_xlabel() + told)
    return told


def _panel(
    axes: Axes,
    rows: pd.DataFrame,
    names: Sequence[str],
    looks: Mapping[str, tuple[str, str]],
    shown: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Line2D]:
    """Draw the differences of one metric: pattern -> entry of the legend."""
    axes.axhline(shown(np.zeros(1))[0], color="black", linewidth=0.8, linestyle=style.DENSE, zorder=1)
    handles = {}
    for place, name in enumerate(names):
        own = rows[rows["pattern_a"] == name].sort_values("sparsity_to")
        if own.empty:
            continue
        middle, low, high = (shown(own[column].to_numpy()) for column in ("difference", "low", "high"))
        bars = np.clip([middle - low, high - middle], 0, None)
        colour, marker = looks[name]
        x = 100 * own["sparsity_to"] + APART * (place - (len(names) - 1) / 2) / max(len(names) - 1, 1)
        look = {"color": colour, "marker": marker, "ms": 4, "linestyle": "-" if len(own) > 1 else "none"}
        axes.errorbar(x, middle, bars, capsize=2, elinewidth=0.9, **look)
        one = ", one seed" if own["n_seeds"].min() == 1 else ""
        text = f"{patterns.find(name).label} beside {own['pattern_b'].iloc[0]}{one}"
        handles[name] = Line2D([], [], label=text, **look)
    return handles
