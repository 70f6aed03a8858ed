"""What a study says of claims, as a page and as lines."""

from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from essential_sparsity.curves.intervals import or_none
from essential_sparsity.curves.verdicts import NOT_TESTABLE, VERDICTS

WIDTH, MARGIN = 220, 6  # of the drawing of an interval
PERCENT = ("sparsity", "fraction")  # units shown times 100


def page(claims: pd.DataFrame, evidence: pd.DataFrame, n_missing: int, study: str, template: str | Path) -> str:
    """The page (HTML, nothing loaded from elsewhere) of the tables `claims` and `evidence` of a study, of whose runs `n_missing` have no
    result; `template`: its file."""
    rows = claims.sort_values("position").to_dict("records")
    pieces = {claim: part.to_dict("records") for claim, part in evidence.groupby("claim")}
    judged = [row for row in rows if row["verdict"] != NOT_TESTABLE]
    for row in judged:
        own = pieces[row["claim"]]
        row |= {"unit": own[0]["unit"], "exact": own[0]["exact"]}
        row["evidence"] = _shown(own, *(or_none(row[f"expected_{end}"]) for end in ("low", "high")))
    found = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    return found.from_string(Path(template).read_text(encoding="utf-8")).render(
        study=study,
        n_missing=n_missing,
        claims=rows,
        counts=[(verdict, sum(row["verdict"] == verdict for row in rows)) for verdict in VERDICTS],
        judged=judged,
        untested=[row for row in rows if row["verdict"] == NOT_TESTABLE],
    )


def _shown(pieces: list[dict[str, Any]], least: float | None, most: float | None) -> list[dict[str, Any]]:
    """Pieces of evidence as texts, with where to draw them; `least`, `most`: what is expected of their intervals."""
    ends = [or_none(piece[name]) for piece in pieces for name in ("estimate", "low", "high")]
    known = [value for value in (*ends, least, most) if value is not None]
    drawn = pieces[0]["unit"] != "word" and len(set(known)) > 1
    first, last = (min(known), max(known)) if known else (0.0, 0.0)

    def place(value: float | None, otherwise: float) -> float:
        """Where a value is drawn; what lies beyond what was measured goes to the end of the drawing."""
        if value is None:
            return otherwise
        return round(MARGIN + (WIDTH - 2 * MARGIN) * (value - first) / (last - first), 1)

    found = []
    for piece in pieces:
        estimate, low, high = (or_none(piece[name]) for name in ("estimate", "low", "high"))
        shown = {name: piece[name] for name in ("evidence", "agrees")}
        shown |= {"note": None if pd.isna(piece["note"]) else piece["note"], "plot": None, "interval": ""}
        shown["estimate"] = _text(estimate, piece["unit"], "–")
        if not piece["exact"] and (low is not None or high is not None):
            shown["interval"] = f"{_text(low, piece['unit'], '…')} to {_text(high, piece['unit'], '…')}"
        if drawn:
            shown["plot"] = {
                "band": [place(least, 0), place(most, WIDTH)],
                "edges": [place(value, 0) for value in (least, most) if value is not None],
                "line": None if low is None and high is None else [place(low, 0), place(high, WIDTH)],
                "at": None if estimate is None else place(estimate, 0),
            }
        found.append(shown)
    return found


def _text(value: float | None, unit: str, otherwise: str) -> str:
    if value is None:
        return otherwise
    return f"{100 * value:.1f} %".replace("-", "−") if unit in PERCENT else f"{value:.3g}".replace("-", "−")
