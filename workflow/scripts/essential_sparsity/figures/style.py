"""How every figure looks, and how it is saved: readable in print, the same bytes for the same data.

Sized for one or two columns of a journal, nothing smaller than 7 pt, colours of Okabe and Ito (told apart with any
colour vision) together with a marker or dashes each.
"""

import os
import textwrap
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import font_manager, ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from essential_sparsity import errors, files, patterns
from essential_sparsity.curves.metrics import METRICS, Metric

MM, POINT = 1 / 25.4, 25.4 / 72  # inches; mm
COLUMN, PAGE = 85, 180  # mm: one column and two columns of a journal
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
GREY = "#555555"  # what belongs to no colour: chance, marks that are explained once
DENSE = (0, (4, 2))  # dashes of what a curve is measured against: the dense model, chance, no difference
ALIKE = {"cosine_kept": "Cosine of the masks", "iou_pruned": "Overlap of the pruned sets (IoU)"}  # column -> its panel
CHANCE = {  # suffix of these columns -> legend entry, dashes
    "_chance": ("chance", DENSE),
    "_chance_matrix": ("chance within each matrix", (0, (1, 1.5))),
}
# pattern -> colour, marker, for those that have their own; in the order of legends
STYLES = {name: (entry.colour, entry.marker) for name, entry in patterns.PATTERNS.items() if entry.colour}
STYLES |= patterns.STYLES
OTHERS = [("#CC79A7", "h"), ("#56B4E9", "8"), ("#E69F00", "<"), ("#009E73", "X"), ("#D55E00", "d")]
SIMILARITY_LIMITS = (0, 1.03)  # of cosine and overlap
TOLERANCES = 10  # that a linear axis shows below the best value
PERCENT = {
    *(metric.name for metric in METRICS.values() if metric.group),
    "accuracy",
    "normalised_accuracy",
    "masked_accuracy",
    "answer_accuracy",
    "f1",
    "token_f1",
    "exact_match",
}  # shown times 100
WIDEST_TITLE = 54  # characters of a column at 8 pt
HANDLE, BETWEEN, EDGE = 7, 5, 4.8  # mm of a legend at 7 pt: before an entry, from one column to the next, and around it
LINE = 4  # mm of its lines, in figures over a page
FONT = "DejaVu Sans"  # comes with matplotlib
FALLBACKS = (  # for signs that it has not, where one of these is installed: Chinese, Japanese, Korean; other scripts
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans JP",
    "Noto Sans SC",
    "Noto Sans KR",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei",
    "Hiragino Sans",
    "PingFang SC",
    "Apple SD Gothic Neo",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Droid Sans Fallback",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
    "Arial Unicode MS",
)


def families(fallbacks: Sequence[str] = FALLBACKS) -> list[str]:
    """The fonts of figures: each sign is drawn by the first that has it."""
    return [FONT, *(name for name in fallbacks if name in font_manager.get_font_names())]


RC = {
    "font.family": families(),
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
    "text.parse_math": False,  # labels are what users type: two dollars in one are no mathematics
    "svg.hashsalt": "essential-sparsity",  # ids in the file, else random
    "svg.fonttype": "path",
}
ENTRY = FontProperties(family=RC["font.family"], size=7)


def looks(names: list[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each pattern: fixed for those that have their own, so that figures can be compared."""
    spare = cycle(OTHERS)
    return {name: STYLES.get(name) or next(spare) for name in names}


def sentence(text: str) -> Figure:
    """A sentence in the place of a figure, where there is nothing to draw: the other figures are drawn all the same."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(PAGE * MM, 20 * MM))
        figure.text(0.5, 0.5, text, ha="center", va="center")
    return figure


def title(*labels: str) -> str:
    """Names of models and tasks as lines that fit over one column."""
    return "\n".join(textwrap.fill(label, WIDEST_TITLE) for label in labels)


def columns(handles: Sequence[Artist], width: float, most: int) -> tuple[int, int]:
    """Columns, `most` at most, of a legend that is no wider than `width` mm, and its lines; in one column wide entries are folded."""
    sizes = [_wide(handle.get_label()) for handle in handles]
    for number in range(min(most, len(sizes)), 1, -1):
        parts = np.array_split(sizes, number)  # as matplotlib shares them out
        if sum(HANDLE + BETWEEN + part.max() for part in parts) - BETWEEN + EDGE <= width:
            return number, len(parts[0])
    room = width - HANDLE - EDGE
    for handle, size in zip(handles, sizes, strict=True):
        if size > room:
            handle.set_label(_folded(handle.get_label(), room))
    return 1, sum(handle.get_label().count("\n") + 1 for handle in handles)


def _wide(text: str) -> float:
    """How wide a line of a legend is, in mm; of several, the widest."""
    return max(text_to_path.get_text_width_height_descent(line, ENTRY, False)[0] for line in text.split("\n")) * POINT


def _folded(text: str, width: float) -> str:
    """A legend's entry in lines no wider than `width` mm; what stands after its dash begins one."""
    parts = [part for part in text.rpartition(" — ")[::2] if part]
    for letters in range(len(text), 1, -1):
        found = "\n  — ".join(textwrap.fill(part, letters, subsequent_indent="  ") for part in parts)
        if _wide(found) <= width:
            return found
    return text


def guides(axes: Axes, most: int) -> None:
    """Thin horizontal guides, behind what is drawn, at `most` round values or fewer."""
    axes.yaxis.set_major_locator(ticker.MaxNLocator(most))
    axes.grid(axis="y", color="#dddddd", linewidth=0.4)
    axes.set_axisbelow(True)


def sparsity_axis(axes: Axes, left: float, right: float) -> None:
    """A horizontal axis of sparsities in per cent, from `left` to `right`."""
    axes.set_xlim(left, right)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(10, steps=[1, 2, 5, 10]))
    axes.set_xlabel("Sparsity (% of prunable weights pruned)")


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis between two ends, with round numbers."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(ticker.FixedLocator(_log_ticks(low, high)))
    axes.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(ticker.NullLocator())


def _log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between the ends of a logarithmic axis: 1, 2, 5 of each decade, or evenly spaced on a short one."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= high]
    if len(ticks) < 3:
        ticks = [tick for tick in ticker.MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return ticks if len(ticks) <= 8 else [tick for tick in ticks if f"{tick:e}".startswith("1")]


def chance(axes: Axes, rows: pd.DataFrame, measure: str, by: str, scale: float = 1) -> dict[str, Line2D]:
    """What chance gives for a column of table `similarity`, over `scale` times the column `by`: legend entry -> line."""
    drawn = {}
    for suffix, (text, dashes) in CHANCE.items():
        found = rows.groupby(by)[measure + suffix].mean()
        look = {"color": GREY, "linestyle": dashes, "linewidth": 1, "label": text, "zorder": 2}
        if len(found) == 1:  # of one point there is no line
            drawn[text] = axes.axhline(found.iloc[0], **look)
        else:
            drawn[text] = axes.plot(scale * found.index.to_numpy(), found, **look)[0]
    return drawn


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write SVG, PNG (300 dpi) or PDF by the path's suffix, without time stamps: the same figure, the same bytes."""
    kind = Path(path).suffix.lower()
    metadata = {".svg": {"Date": None}, ".png": {"Software": None}, ".pdf": {"CreationDate": None}}
    if kind not in metadata:
        raise errors.UserError(f"{path}: figures are written as .svg, .png or .pdf.")
    with files.atomic(path) as temporary, mpl.rc_context(RC):
        figure.savefig(temporary, dpi=300, metadata=metadata[kind])


def always_shown(metric: Metric) -> float:
    """How far below the best value a linear axis reaches in any case, in its unit: where a curve is flat, what leaves it is the finding."""
    return TOLERANCES * metric.epsilon * (100 if metric.name in PERCENT else 1)
