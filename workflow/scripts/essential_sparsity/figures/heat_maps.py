"""Where the pruned weights sit: layer by role."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from essential_sparsity import errors
from essential_sparsity.figures import style
from essential_sparsity.figures.style import COLUMN, MM, PAGE, RC


def heat_map(layers: pd.DataFrame, model: str, pattern: str, sparsity: float, label: str | None = None) -> Figure:
    """Where the pruned weights of one level sit: share of each matrix pruned, and share of all pruned weights.

    `layers`: the table of that name; matrices of one block that share a role (experts) are added up. One row of cells
    per role, one column per layer. A sentence where the table has nothing of the model. Raises ValueError when it has no
    such level of it.
    """
    layers = layers[layers["model"] == model]
    if layers.empty:
        return style.sentence(f"Nothing to draw: the weights of {model} have not been measured.")
    layers = layers[layers["pattern"] == pattern]
    chosen = layers[np.isclose(layers["sparsity"], sparsity, atol=1e-6)]
    if chosen.empty:
        levels = ", ".join(f"{level:.3f}" for level in sorted(layers["sparsity"].unique())) or "none"
        raise errors.UserError(
            f"The table of layers has no sparsity {sparsity} of {model}, {pattern}; it has: {levels}."
        )
    order = chosen.sort_values(["sublayer", "layer"], kind="stable").drop_duplicates("role")["role"]
    n, pruned = (
        chosen.pivot_table(index="role", columns="layer", values=column, aggfunc="sum").reindex(order)
        for column in ("n", "pruned")
    )
    rate, share = 100 * pruned / n, 100 * pruned / max(chosen["pruned"].sum(), 1)
    n_roles, n_layers = rate.shape
    width = min(max(COLUMN, 34 + 6 * n_layers), PAGE)
    with mpl.rc_context(RC | {"axes.spines.top": True, "axes.spines.right": True}):
        figure = Figure(figsize=(width * MM, (42 + 2 * max(5.2 * n_roles, 14)) * MM), layout="constrained")
        cell = (width - 46) / n_layers  # mm
        panels = figure.subplots(2, 1, sharex=True)
        for axes, values, colours, title in (
            (panels[0], rate, "viridis", "Pruned share of each matrix (%)"),
            (panels[1], share, "cividis", "Share of all pruned weights (%)"),
        ):
            _draw_cells(figure, axes, values, colours, title, cell)
        panels[1].set_xlabel("Layer")
        figure.suptitle(f"{label or model}\n{pattern}, {100 * sparsity:g} % of prunable weights pruned", fontsize=8)
        figure.supxlabel(_sublayers(chosen), fontsize=7)
    return figure


def _draw_cells(figure: Figure, axes: Axes, values: pd.DataFrame, colours: str, title: str, cell: float) -> None:
    """One panel: roles down, layers across, annotated where the numbers fit into a cell of `cell` mm."""
    top = np.nanmax(values.to_numpy()) or 1.0
    image = axes.imshow(values, aspect="auto", cmap=colours, vmin=0, vmax=top, interpolation="nearest")
    axes.set_title(title, fontsize=7, loc="left")
    axes.set_yticks(range(len(values)), values.index)
    every = max(1, -(-len(values.columns) // int(max(1, len(values.columns) * cell / 4))))
    axes.set_xticks(range(0, len(values.columns), every), values.columns[::every])
    axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=axes, pad=0.01, aspect=12, ticks=ticker.MaxNLocator(min(len(values) + 1, 5)))
    bar.outline.set_linewidth(0.4)
    texts = [[f"{value:.1f}" if top < 10 else f"{value:.0f}" for value in row] for row in values.to_numpy()]
    widest = max(1.6 * len(text.replace(".", "")) + 0.8 * ("." in text) for row in texts for text in row)
    if widest > 0.95 * cell:  # mm: a digit of 7 pt is 1.6 wide
        return
    for i, row in enumerate(values.to_numpy()):
        for j, value in enumerate(row):
            if np.isfinite(value):
                dark = np.dot(image.cmap(image.norm(value))[:3], (0.299, 0.587, 0.114)) < 0.5
                axes.text(j, i, texts[i][j], ha="center", va="center", color="white" if dark else "black")


def _sublayers(level: pd.DataFrame) -> str:
    """Attention against MLP, in words."""
    total = level.groupby("sublayer")[["n", "pruned"]].sum()
    names = {"attention": "Attention", "mlp": "MLP"}
    return "\n".join(
        f"{names.get(sublayer, sublayer)}: {100 * row['pruned'] / row['n']:.0f} % pruned, "
        f"{100 * row['pruned'] / max(total['pruned'].sum(), 1):.0f} % of all pruned "
        f"({100 * row['n'] / total['n'].sum():.0f} % of the weights)"
        for sublayer, row in total.iterrows()
    )
