"""Many curves at one glance: a panel per task, with the lines of its models under one pattern, or of one model's patterns."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from essential_sparsity import patterns
from essential_sparsity.curves.means import dense_mean, level_means
from essential_sparsity.curves.metrics import METRICS, with_groups
from essential_sparsity.figures import curves, style
from essential_sparsity.figures.style import MM, PAGE, RC

ACROSS = 3  # panels beside each other
TALL = 46  # mm of a panel
WIDEST = 36  # characters below a panel, and of the legend's heading for each
PITCH = 0.045  # between the bars at a panel's foot


def panels(
    runs: pd.DataFrame,
    knees: pd.DataFrame,
    lines: Sequence[tuple[str, str]],
    tasks: Sequence[str],
    labels: Mapping[str, Mapping[str, str]],
    missing: pd.DataFrame | None = None,
) -> Figure:
    """Quality against sparsity, a panel per task and metric of a group of its items, a line per (model, pattern) of `lines`.

    `runs`, `knees`, `missing`: the tables of these names; `labels`: {"models": {id: name}, "tasks": {id: name}}. Lines are means
    over seeds, bands their range; diamonds, and the bars at the foot, are the essential sparsities with their 95 % intervals, as
    in single figures. A line has the same look in every panel. A sentence where no run has a defined metric.
    """
    wanted = pd.MultiIndex.from_tuples([*lines, *((model, "dense") for model in {model for model, _ in lines})])
    runs = runs[runs["task"].isin(tasks) & pd.MultiIndex.from_frame(runs[["model", "pattern"]]).isin(wanted)]
    gone = 0
    if missing is not None:
        gone = int(
            (missing["task"].isin(tasks) & pd.MultiIndex.from_frame(missing[["model", "pattern"]]).isin(wanted)).sum()
        )
    means = level_means(runs)
    shown = [(task, metric) for task in tasks for metric in with_groups(means[means["task"] == task]["metric"])]
    if not shown:
        return style.sentence("Nothing to draw: no run of these models and tasks has a defined metric.")
    looks, names = _looks(lines, labels["models"])
    rows = math.ceil(len(shown) / ACROSS)
    columns = min(len(shown), ACROSS)
    with mpl.rc_context(RC):
        figure, width = Figure(layout="constrained"), PAGE * columns / ACROSS
        grid = figure.subplots(rows, columns, squeeze=False).ravel()
        told = [f"{gone} run{'s are' if gone > 1 else ' is'} missing (see missing_runs.parquet)"] if gone else []
        own = [(*curve, *panel) for curve in lines for panel in shown]
        drawn = knees[pd.MultiIndex.from_frame(knees[["model", "pattern", "task", "metric"]]).isin(own)]
        told += [f"{curves.diamond(drawn)}essential sparsity; {foot}"] if (foot := curves.at_the_foot(drawn)) else []
        for axes, (task, metric) in zip(grid, shown, strict=False):
            told += _panel(
                axes, means[(means["task"] == task) & (means["metric"] == metric)], knees, lines, looks, task, metric
            )
            group = f", {METRICS[metric].label.split(', ')[-1]}" if METRICS[metric].group else ""
            axes.set_title(style.title(f"{labels['tasks'].get(task, task)}{group}"), fontsize=7)
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        for axes in grid[: max(len(shown) - columns, 0)]:  # the lowest of each column names what is across
            axes.set_xlabel(axes.get_xlabel().removeprefix("Sparsity (%)").lstrip())
        handles = [
            Line2D(
                [],
                [],
                color=looks[line][0],
                marker=looks[line][1],
                markeredgecolor="white",
                markeredgewidth=0.4,
                label=names[line],
            )
            for line in lines
        ]
        if len({model for model, _ in lines}) == 1:
            handles.append(Patch(color="black", alpha=0.13, linewidth=0, label="tolerance below dense"))
        if len({model for model, _ in lines}) == 1:
            figure.suptitle(style.title(labels["models"].get(lines[0][0], lines[0][0])), fontsize=8)
        told = [part for line in dict.fromkeys(told) for part in textwrap.wrap(line, WIDEST * columns)]
        across, entries = style.columns(handles, width, columns)
        figure.set_size_inches(width * MM, (TALL * rows + 7 + style.LINE * (entries + len(told))) * MM)
        figure.legend(
            handles=handles, loc="outside lower center", ncols=across, title="\n".join(told) or None, title_fontsize=7
        )
    return figure


def _looks(
    lines: Sequence[tuple[str, str]], labels: Mapping[str, str]
) -> tuple[dict[tuple[str, str], tuple[str, str]], dict[tuple[str, str], str]]:
    """Colour and marker, and name, of each line: those of patterns where one model is shown, else of models."""
    models, found = {model for model, _ in lines}, {pattern for _, pattern in lines}
    if len(models) == 1:
        known = style.looks([pattern for _, pattern in lines])
        return {line: known[line[1]] for line in lines}, {line: patterns.find(line[1]).label for line in lines}
    looks = dict(zip(lines, cycle(style.STYLES.values()), strict=False))
    names = {line: labels.get(line[0], line[0]) for line in lines}
    if len(found) > 1:
        names = {line: f"{name}, {patterns.find(line[1]).label}" for line, name in names.items()}
    return looks, names


def _panel(axes, means, knees, lines, looks, task, metric) -> list[str]:
    """One panel; where its lines share a model, with the tolerance below the first one's dense level. Returns what is to be said of seeds."""
    known = METRICS[metric]
    own = knees[(knees["task"] == task) & (knees["metric"] == metric)].set_index(["model", "pattern"])
    drawn, of = [], None
    for model, pattern in lines:
        points = means[(means["model"] == model) & (means["pattern"] == pattern)]
        if points.empty:
            continue
        knee = own.loc[model, pattern] if (model, pattern) in own.index else None
        curves.draw_line(axes, points, known, "", looks[model, pattern], knee, len(drawn), PITCH)
        drawn.append(points)
    if len({model for model, _ in lines}) == 1:
        dense, of = dense_mean(means, [pattern for _, pattern in lines])
        if dense is not None:
            curves.draw_tolerance(axes, dense, known, own["epsilon"].iloc[0] if len(own) else known.epsilon)
    found = pd.concat(drawn) if drawn else means
    curves.axes_of_curve(axes, found, known, curves.FOOT / 2 + PITCH * len(drawn))
    _, _, told = axes.get_xlabel().partition("\n")
    axes.set_xlabel("\n".join(["Sparsity (%)", *textwrap.wrap(told, WIDEST)]))
    return curves.of_seeds(found, of)
