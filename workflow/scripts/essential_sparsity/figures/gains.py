"""What calibration gains: quality of calibrated patterns minus that of magnitude with the same structure."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from essential_sparsity import patterns
from essential_sparsity.curves.metrics import METRICS, headline
from essential_sparsity.figures import style
from essential_sparsity.figures.style import MM, PAGE, PERCENT, RC

APART = 0.5  # points of sparsity between the bars of two patterns at one level


def gain(table: pd.DataFrame, model: str, task: str, labels: dict | None = None) -> Figure:
    """Calibrated minus magnitude over sparsity with 95 % intervals, one panel; `table`: the table `differences`.

    With several metrics the headline is drawn. A sentence where no difference is defined.
    """
    rows = table[(table["model"] == model) & (table["task"] == task) & (table["n_levels"] == 1)]
    rows = rows[[patterns.find(row.pattern_a).peer == row.pattern_b for row in rows.itertuples()]]
    labels = {"model": model, "task": task} | (labels or {})
    if rows.empty:
        return style.sentence(
            f"Nothing to compare for {model} on {task}: no sparsity and seed has both a calibrated pattern and magnitude."
        )
    metric = METRICS[headline(rows["metric"])]
    rows = rows[rows["metric"] == metric.name]
    scale = 100 if metric.name in PERCENT or metric.scale == "log" else 1
    names = sorted(rows["pattern_a"].unique())
    looks = style.looks(names)
    with mpl.rc_context(RC):
        figure = Figure(figsize=(PAGE * MM, (62 + 4 * (len(names) // 3)) * MM), layout="constrained")
        axes = figure.add_subplot()
        axes.axhline(0, color="black", linewidth=0.8, linestyle=style.DENSE, zorder=1)
        handles = []
        for place, name in enumerate(names):
            own = rows[rows["pattern_a"] == name].sort_values("sparsity_to")
            middle, low, high = (scale * own[column].to_numpy() for column in ("difference", "low", "high"))
            bars = np.clip([middle - low, high - middle], 0, None)
            colour, marker = looks[name]
            x = 100 * own["sparsity_to"] + APART * (place - (len(names) - 1) / 2)
            line = "-" if len(own) > 1 else "none"
            axes.errorbar(x, middle, bars, color=colour, marker=marker, ms=4, capsize=2, elinewidth=0.9, linestyle=line)
            peer, entry = own["pattern_b"].iloc[0], patterns.find(name)
            one = ", one seed" if own["n_seeds"].min() == 1 else ""
            handles.append(
                Line2D([], [], color=colour, marker=marker, ms=4, linestyle=line, label=f"{entry.label} − {peer}{one}")
            )
        unit = "points" if metric.name in PERCENT else "% less" if metric.scale == "log" else ""
        axes.set_ylabel(f"{metric.label}:\ngain by calibration" + (f" ({unit})" if unit else ""))
        style.sparsity_axis(axes, -2, 100 * rows["sparsity_to"].max() + 4)
        style.guides(axes, 6)
        figure.suptitle(style.title(labels["model"], labels["task"]), fontsize=8)
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
