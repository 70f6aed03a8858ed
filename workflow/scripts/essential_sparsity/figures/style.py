"""How every figure looks, and how it is saved: readable in print, the same bytes for the same data."""

import os
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from essential_sparsity import files

MM = 1 / 25.4  # inches
RC = {
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "legend.frameon": False,
    "svg.hashsalt": "essential-sparsity",  # ids in the file, else random
    "svg.fonttype": "path",
}


def sentence(text: str) -> Figure:
    """A sentence in the place of a figure, where there is nothing to draw: the other figures are drawn all the same."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(180 * MM, 20 * MM))
        figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write SVG, PNG (300 dpi) or PDF by the path's suffix, without time stamps: the same figure, the same bytes."""
    kind = Path(path).suffix.lower()
    metadata = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    if kind not in metadata:
        raise ValueError(f"{path}: figures are written as .svg, .png or .pdf.")
    with files.atomic(path) as temporary, mpl.rc_context(RC):
        figure.savefig(temporary, dpi=300, metadata=metadata[kind])
