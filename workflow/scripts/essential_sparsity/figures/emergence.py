"""Figures of studies along series: measures over steps per group, and the weights of each layer at the end."""

import re
from collections.abc import Mapping
from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from essential_sparsity import errors
from essential_sparsity.curves.intervals import ranged
from essential_sparsity.emergence import measures
from essential_sparsity.figures import style
from essential_sparsity.figures.style import BLACK, BLUE, GREEN, GREY, MM, ORANGE, PAGE, PURPLE, RC, SKY, VERMILLION
from essential_sparsity.pruning.bins import INFINITY_BIN, counts_of, describe_bins

COLOURS = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK]  # of the groups of a series, in their order
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1, 1, 1))]
ESSENTIAL = "essential sparsity "  # measures of the table `trajectory` by task (`trajectories`)
SHOWN = {  # measure -> label of its panel
    "below 0.01": "|w| < 0.01 (% of weights)",
    "below 0.001": "|w| < 0.001 (% of weights)",
    "below 0.1 std": "|w| < 0.1 std (% of weights)",
    "hoyer": "Hoyer sparsity",
    "kurtosis": "Kurtosis about zero",
}
ABOVE = {"marker": "^", "markersize": 4, "markerfacecolor": "none", "markeredgewidth": 0.8}  # beyond the last level
ACROSS = 3  # panels beside each other
BINS_PER_DECADE = 12
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def trajectory(table: pd.DataFrame, abruptness: pd.DataFrame, losses: pd.DataFrame, series: str) -> Figure:
    """One panel per measure of all prunable weights, essential sparsity per task, and training loss; one line per training, coloured by group.

    `table`, `abruptness`: the tables `trajectory` and `abruptness`; `losses`: table of that name with the column `training`.
    Suspect checkpoints, which are left out of fits, are crossed; a vertical line marks an abrupt change, with its interval as a band.
    An essential sparsity that was not reached is an open triangle at the last level, without a line to it.
    """
    here = table[(table["series"] == series) & (table["tensor"] == measures.WHOLE)]
    if here.empty:
        raise errors.UserError(f"There is nothing to draw: the table trajectory has no series {series!r}.")
    colours = _colours(here["group"])
    tasks = sorted(m for m in here["measure"].unique() if m.startswith(ESSENTIAL) and _varies(here, m))
    panels = [*SHOWN, *tasks]
    rows = -(-(len(panels) + (not losses.empty)) // ACROSS)
    fitted = abruptness[abruptness["series"] == series]
    with mpl.rc_context(RC):
        figure = Figure(layout="constrained")
        axes = list(figure.subplots(rows, ACROSS).flat)
        for place, measure in zip(axes, panels, strict=False):
            label = SHOWN.get(measure) or f"Essential sparsity, {measure.removeprefix(ESSENTIAL)} (% of weights)"
            _panel(place, here[here["measure"] == measure], colours, label)
            _abrupt(place, fitted[fitted["measure"] == measure], colours)
        if not losses.empty:
            for training, part in losses.groupby("training", sort=True):
                group = here.loc[here["training"] == training, "group"]
                if len(group):
                    axes[len(panels)].plot(part["step"], part["loss"], color=colours[group.iloc[0]], linewidth=0.8)
            _labels(axes[len(panels)], "Training loss")
            _abrupt(axes[len(panels)], fitted[fitted["measure"] == "loss"], colours)
        for place in axes[len(panels) + (not losses.empty) :]:
            place.set_visible(False)
        unit = here["axis"].iloc[0].replace("_", " ")
        figure.supxlabel(f"Pre-training {unit}", fontsize=7)
        handles = [
            Line2D([], [], color=colour, marker="o", markersize=2.5, label=group) for group, colour in colours.items()
        ]
        drawn = fitted["measure"].isin([*panels, *([] if losses.empty else ["loss"])])
        if (fitted.loc[drawn, "conclusion"] == "abrupt").any():
            handles.append(Line2D([], [], color=GREY, linestyle="--", label="abrupt change (95 % interval)"))
        if here["suspect"].notna().any():
            handles.append(Line2D([], [], color=GREY, marker="x", linestyle="none", label="left out: suspect weights"))
        if here.loc[here["measure"].isin(panels) & here["suspect"].isna(), "beyond"].notna().any():
            handles.append(
                Line2D([], [], color=GREY, linestyle="none", label="no drop up to this level: it lies above", **ABOVE)
            )
        across, lines = style.columns(handles, PAGE, 4)
        figure.set_size_inches(PAGE * MM, (54 * rows + style.LINE * lines) * MM)
        figure.legend(handles=handles, loc="outside upper center", ncols=across)
    return figure


def _colours(groups: pd.Series) -> dict[str, str]:
    """Group -> colour, in the order of their numbers."""
    return dict(zip(sorted(groups.unique(), key=_natural), cycle(COLOURS), strict=False))


def _natural(name: str) -> list:
    """Sorts 10 before 100, both after 9."""
    return [(0, float(part), "") if part[:1].isdigit() else (1, 0.0, part) for part in re.split(r"(\d+\.?\d*)", name)]


def _varies(here: pd.DataFrame, measure: str) -> bool:
    return ranged(here[here["measure"] == measure]).groupby("training").size().max() > 1


def _panel(axes: Axes, rows: pd.DataFrame, colours: Mapping[str, str], label: str) -> None:
    factor = 100 if "%" in label else 1
    for (group, _), part in rows.groupby(["group", "training"], sort=True):
        part = part.sort_values("position").astype({"value": float, "beyond": float})
        kept, suspect = part[part["suspect"].isna()], part[part["suspect"].notna()]
        axes.plot(
            kept["position"], factor * kept["value"], color=colours[group], marker="o", markersize=1.8, linewidth=0.9
        )  # nothing where there is no value: no line goes across
        axes.plot(kept["position"], factor * kept["beyond"], color=colours[group], linestyle="none", **ABOVE)
        axes.plot(suspect["position"], factor * suspect["value"], "x", color=colours[group], markersize=4)
    _labels(axes, label)


def _labels(axes: Axes, label: str) -> None:
    axes.set_title(label, fontsize=7, loc="left")
    axes.xaxis.set_major_locator(ticker.MaxNLocator(5))
    style.guides(axes, 5)


def _abrupt(axes: Axes, rows: pd.DataFrame, colours: Mapping[str, str]) -> None:
    for row in rows[rows["conclusion"] == "abrupt"].itertuples():
        axes.axvline(row.jump_at, color=colours[row.group], linestyle="--", linewidth=0.8)
        axes.axvspan(row.jump_at_low, row.jump_at_high, color=colours[row.group], alpha=0.12, linewidth=0)


def neighbours(table: pd.DataFrame, series: str) -> Figure:
    """How alike the masks of each checkpoint and of the one before it are: cosine above overlap, a column per sparsity.

    `table`: the table `similarity`. One line per training, coloured by group, at the later checkpoint of each pair;
    lottery tickets (means over tasks and seeds) are dashed. Levels that only tickets have are left to the table.
    """
    here = table[(table["between"] == "checkpoint") & (table["series"] == series) & (table["scope"] == "model")]
    one_shot = here[here["pattern_a"] == "global"]
    levels = sorted(one_shot["sparsity"].unique())
    if not levels:
        return style.sentence(
            f"Nothing to compare in {series}: no two checkpoints of a training are left (see trajectory.parquet)."
        )
    colours = _colours(here["group"])
    columns = 2 if len(levels) == 4 else min(3, len(levels))
    bands = -(-len(levels) // columns)
    with mpl.rc_context(RC):
        figure = Figure(layout="constrained")
        axes = figure.subplots(2 * bands, columns, squeeze=False, sharex=True, sharey=True)
        for i in range(bands * columns):
            for j, (measure, label) in enumerate(style.ALIKE.items()):
                place = axes[i // columns * 2 + j, i % columns]
                if i >= len(levels):
                    place.set_visible(False)
                    continue
                _alike(place, here[here["sparsity"] == levels[i]], measure, colours)
                place.set_title(f"{100 * levels[i]:g} % pruned" if j == 0 else "", fontsize=7, loc="left")
                place.set_ylabel(label if i % columns == 0 else "")
                place.tick_params(labelbottom=j == 1)
        axes[0, 0].set_ylim(style.SIMILARITY_LIMITS)
        axes[0, 0].xaxis.set_major_locator(ticker.MaxNLocator(5))
        lines = [Line2D([], [], color=colour, marker="o", ms=2.5, label=group) for group, colour in colours.items()]
        across, high = style.columns(lines, PAGE, 5)
        figure.set_size_inches(PAGE * MM, (20 + style.LINE * high + 88 * bands) * MM)
        figure.legend(handles=lines, loc="outside upper center", ncols=across, title=series, title_fontsize=8)
        tickets = {"color": GREY, "marker": "^", "ms": 3, "linestyle": "--", "label": "lottery tickets"}
        grey = [Line2D([], [], **tickets)] if set(here["pattern_a"]) - {"global"} else []
        for text, dashes in style.CHANCE.values():
            grey.append(Line2D([], [], color=GREY, linewidth=1, linestyle=dashes, label=text))
        unit = here["axis"].iloc[0].replace("_", " ")
        named = f"Pre-training {unit}: each checkpoint beside the one before it"  # of the x axes, above the legend
        figure.legend(handles=grey, loc="outside lower center", ncols=len(grey), title=named, title_fontsize=7)
    return figure


def _alike(axes: Axes, rows: pd.DataFrame, measure: str, colours: Mapping[str, str]) -> None:
    for (group, _, pattern), part in rows.groupby(["group", "training", "pattern_a"], sort=True):
        found = part.groupby("position_b")[measure].mean()
        marker, size, dashes = ("o", 1.8, "-") if pattern == "global" else ("^", 2.5, "--")
        look = {"marker": marker, "markersize": size, "linestyle": dashes, "linewidth": 0.9, "zorder": 3}
        axes.plot(found.index.to_numpy(), found, color=colours[group], **look)
    style.chance(axes, rows[rows["pattern_a"] == "global"], measure, "position_b")
    style.guides(axes, 6)


def distributions(spectra: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Share of weights per decade of |w|, one panel per layer; `spectra`: group -> table `spectrum` of its checkpoint."""
    edges = np.linspace(-6, 1, 7 * BINS_PER_DECADE + 1)
    layers = sorted(set().union(*(frame["layer"].unique() for frame in spectra.values())))
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    with mpl.rc_context(RC):
        figure = Figure(layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        handles = {}
        for place, layer in zip(axes.flat, layers, strict=False):
            for i, (group, frame) in enumerate(sorted(spectra.items(), key=lambda pair: _natural(pair[0]))):
                heights = _density(frame[frame["layer"] == layer], edges)
                look = {"color": COLOURS[i % len(COLOURS)], "linestyle": DASHES[i % len(DASHES)], "linewidth": 1.1}
                handles[group] = place.stairs(heights, 10**edges, label=group, **look)
            place.set_title(f"block {layer}", fontsize=7, loc="left")
            place.set_xscale("log")
            place.xaxis.set_major_formatter(ticker.FuncFormatter(_power_of_ten))  # matplotlib's own are mathematics
            place.xaxis.set_minor_formatter(ticker.NullFormatter())
            place.set_xlim(1e-5, 1)
            place.set_ylim(bottom=0)
        for place in axes.flat[len(layers) :]:
            place.set_visible(False)
        figure.supxlabel("Weight magnitude |w|", fontsize=7)
        figure.supylabel("Share of the block's weights per decade", fontsize=7)
        drawn = list(handles.values())
        across, lines = style.columns(drawn, PAGE, len(drawn))
        figure.set_size_inches(PAGE * MM, (24 + style.LINE * lines + 38 * rows) * MM)
        figure.legend(handles=drawn, loc="outside upper center", ncols=across, title=title, title_fontsize=8)
    return figure


def _power_of_ten(value: float, _: int) -> str:
    return "10" + str(round(np.log10(value))).translate(SUPERSCRIPTS)


def _density(frame: pd.DataFrame, edges: np.ndarray) -> np.ndarray:
    dtype = frame["dtype"].iloc[0]
    low = describe_bins(dtype)[: INFINITY_BIN[dtype]]
    counts = sum(counts_of(rows) for _, rows in frame.groupby("tensor"))[: len(low)]
    with np.errstate(divide="ignore"):
        found, _ = np.histogram(np.log10(low), bins=edges, weights=counts)
    return found / counts.sum() * BINS_PER_DECADE
