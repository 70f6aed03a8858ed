"""Lottery tickets beside one-shot masks: what a ticket gains, and how alike the masks are."""

import textwrap

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from essential_sparsity import patterns
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.metrics import METRICS, headline
from essential_sparsity.figures import style
from essential_sparsity.figures.style import BLUE, COLUMN, GREEN, MM, PERCENT, PURPLE, RC

BETWEEN = {  # what the masks differ in -> legend entry, colour, marker
    "pattern": ("one-shot and ticket", BLUE, "o"),
    "task": ("tickets of two tasks", GREEN, "^"),
    "seed": ("tickets of two seeds", PURPLE, "P"),
}
WIDEST = 3  # times the largest difference: a longer axis would show the seeds' spread and nothing else


def difference(table: pd.DataFrame, model: str, task: str, labels: dict | None = None) -> Figure:
    """Quality of tickets minus quality of one-shot masks over sparsity, with 95 % intervals, and means of two ranges.

    `table`: the table `differences`; with several metrics, the headline is drawn. Of a perplexity it is the share by which it is lower.
    A sentence where no difference is defined.
    """
    rows = table[(table["model"] == model) & (table["task"] == task) & (table["pattern_b"] == "global")]
    rows = rows[[patterns.find(name).score == "given" for name in rows["pattern_a"]]]
    if rows.empty:
        return style.sentence(
            f"Nothing to compare for {model} on {task}: no metric is defined for a ticket and its one-shot mask."
        )
    metric = METRICS[headline(rows["metric"])]
    rows = rows[rows["metric"] == metric.name]
    scale, found = 100 if metric.name in PERCENT or metric.scale == "log" else 1, ["difference", "low", "high"]
    # of logarithms the share by which the value is lower
    rows = rows.assign(
        **(scale * (-np.expm1(-rows[found].clip(lower=-LARGEST)) if metric.scale == "log" else rows[found]))
    )
    levels, ranges = rows[rows["n_levels"] == 1], rows[rows["n_levels"] > 1]
    ticket = patterns.find(rows["pattern_a"].iloc[0])
    colour, marker = ticket.colour, ticket.marker
    labels = {"model": model, "task": task} | (labels or {})
    title = style.title(labels["model"], labels["task"])
    with mpl.rc_context(RC):
        figure = Figure(
            figsize=(COLUMN * MM, (56 + 3.6 * (title.count("\n") + len(ranges))) * MM), layout="constrained"
        )
        axes = figure.add_subplot()
        axes.axhline(0, color="black", linewidth=0.8, linestyle=style.DENSE, zorder=1)
        middle, low, high = (levels[name].to_numpy() for name in found)
        errors = np.clip([middle - low, high - middle], 0, None)
        axes.errorbar(
            100 * levels["sparsity_to"], middle, errors, color=colour, marker=marker, ms=5, capsize=2, elinewidth=0.9
        )
        handles = [Line2D([], [], color=colour, marker=marker, ms=5, label="one level (95 % interval)")]
        for row in ranges.itertuples():
            ends = 100 * row.sparsity_from, 100 * row.sparsity_to
            axes.hlines(row.difference, *ends, color=BLUE, linewidth=2, zorder=4)
            axes.fill_between(ends, row.low, row.high, color=BLUE, alpha=0.13, linewidth=0)
            mean, *interval = (_signed(value, scale) for value in (row.difference, row.low, row.high))
            said = f"{mean} ({' to '.join(interval)}{'; one seed' if row.n_seeds == 1 else ''})"
            handles.append(Line2D([], [], color=BLUE, linewidth=2, label=f"mean of {ends[0]:g}–{ends[1]:g} %: {said}"))
        unit = "points" if metric.name in PERCENT else "% less" if metric.scale == "log" else ""
        axes.set_ylabel(f"{metric.label}:\nticket − one-shot" + (f" ({unit})" if unit else ""))
        _levels_axis(axes, levels["sparsity_to"])
        if (end := WIDEST * np.abs(middle).max()) and max(-low.min(), high.max()) > end:
            axes.set_ylim(-end, end)
            ends = " to ".join(_signed(value, scale) for value in (low.min(), high.max()))
            axes.set_xlabel(f"{axes.get_xlabel()}\naxis is cut: bars from {ends}")
        figure.suptitle(title, fontsize=8)
        figure.legend(handles=handles, loc="outside lower center", ncols=1)
    return figure


def similarity(table: pd.DataFrame, model: str, label: str | None = None) -> Figure:
    """Cosine of the masks and overlap of the pruned sets over sparsity, beside chance, for the whole model.

    `table`: the table `similarity`. Lines are means over the pairs of a kind, bands their range; chance is that of
    one-shot and ticket. A sentence where no masks were compared.
    """
    rows = table[(table["model_a"] == model) & (table["scope"] == "model") & table["between"].isin(BETWEEN)]
    if rows.empty:
        return style.sentence(f"Nothing to compare: no ticket of {model} is there.")
    with mpl.rc_context(RC):
        figure = Figure(figsize=(COLUMN * MM, 112 * MM), layout="constrained")
        handles = {}
        for axes, (measure, name) in zip(figure.subplots(2, 1, sharex=True), style.ALIKE.items(), strict=True):
            for between, (text, colour, marker) in BETWEEN.items():
                found = rows[rows["between"] == between].groupby("sparsity")[measure].agg(["mean", "min", "max"])
                if found.empty:
                    continue
                x = 100 * found.index.to_numpy()
                handles[text] = axes.plot(x, found["mean"], color=colour, marker=marker, label=text, zorder=3)[0]
                axes.fill_between(x, found["min"], found["max"], color=colour, alpha=0.15, linewidth=0)
            handles |= style.chance(axes, rows[rows["between"] == "pattern"], measure, "sparsity", 100)
            axes.set_ylabel(textwrap.fill(name, 24))
            axes.set_ylim(style.SIMILARITY_LIMITS)
        _levels_axis(axes, rows["sparsity"])
        figure.suptitle(style.title(label or model), fontsize=8)
        figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=2)
    return figure


def _signed(value: float, scale: float) -> str:
    said = f"{value:+.1f}" if scale > 1 else f"{value:+.3f}"
    return said.replace("-", "−") if float(said) else said[1:]  # no sign before a zero


def _levels_axis(axes: Axes, levels: pd.Series) -> None:
    style.sparsity_axis(axes, -2, 100 * levels.max() + 4)
    for each in axes.figure.axes:
        style.guides(each, 6)
