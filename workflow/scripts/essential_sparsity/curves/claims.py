"""What a study says of claims about it: the tables `claims` and `evidence`.

A piece of evidence is a number with its 95 % interval; it is for a claim when the whole interval is where the claim expects it,
against it when the whole interval is elsewhere, else neither. A point alone decides nothing. A claim about *every* piece is
supported when each is for it (an intersection-union test: no correction), and not supported when one is against it by
intervals that hold for all pieces at once (Bonferroni). A claim about *some* piece is the mirror of that. Equivalence is a
claim like any other: the interval lies within two margins.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from essential_sparsity.curves import evidence
from essential_sparsity.curves.intervals import or_none
from essential_sparsity.curves.pieces import Found, Known, Piece
from essential_sparsity.curves.verdicts import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDECIDED

FOR, AGAINST, NEITHER = "for", "against", "neither"
COUNTED = {"layers", "similarity"}  # tables of counts: nothing in them is sampled
ROUNDING = 1e-9  # 0.4 - 0.3 is not 0.1


def judge(
    claims: Sequence[Mapping[str, Any]],
    readings: Mapping[str, str],
    found: Found,
    known: Known,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables `claims` and `evidence`.

    `claims`: as the claims file has them; `readings`: what each of them reads, by its id; `found`: the tables that the study has.
    """
    rows, pieces_of = [], []
    for position, claim in enumerate(claims):
        read, table = readings[claim["claim"]], claim["table"]
        least, most = _ends(claim["expect"])
        once = least == -most
        gathered = list(evidence.gathered(claim, read, found, known, once)) if table in found else []
        pieces = [piece for piece in gathered if piece.measured]
        agreed = [_agrees(claim["expect"], piece, piece.low, piece.high) for piece in pieces]
        wide = [piece.widened(len(pieces)) for piece in pieces]
        sure = [_agrees(claim["expect"], piece, *ends) for piece, ends in zip(pieces, wide, strict=True)]
        lacking = f"the study has no table {table}" if table not in found else None
        if table in found and not gathered:
            lacking = evidence.lacking(claim, found, known)
        verdict, decisive = _verdict(claim["over"], agreed, sure, claim.get("fewest", 1))
        rows.append(
            {name: claim[name] for name in ("claim", "says", "source", "refuted_by")}
            | {
                "position": position,
                "verdict": verdict,
                "because": _because(claim, verdict, agreed, decisive, lacking, len(gathered) - len(pieces)),
                "expected": expected(claim, unit(claim, read)),
                "expected_low": or_none(least),
                "expected_high": or_none(most),
                "n_evidence": len(pieces),
                "n_for": agreed.count(FOR),
                "n_against": agreed.count(AGAINST),
                "n_against_all": sure.count(AGAINST),
            }
        )
        for piece, ends, agrees in zip(pieces, wide, agreed, strict=True):
            pieces_of.append(_row(claim["claim"], unit(claim, read), piece, ends, agrees))
    return pd.DataFrame(rows), pd.DataFrame(pieces_of)


def unit(claim: Mapping[str, Any], read: str) -> str:
    """The unit of a claim's evidence."""
    table = claim["table"]
    if table == "differences":
        return "tolerances"
    if read in ("shape", "conclusion"):
        return "word"
    if table == "contrasts":
        return "that of the axis" if read == "jump_at" else "that of the measure"
    if read == "slope_ratio" and "groups" in claim:
        return "natural logarithm of the ratio"
    return {"slope_ratio": "ratio", "cosine_kept": "cosine", "cosine_pruned": "cosine"}.get(
        read, "fraction" if table in COUNTED else "sparsity"
    )


def expected(claim: Mapping[str, Any], unit_: str) -> str:
    """What a claim expects, in words."""
    ((kind, value),) = claim["expect"].items()
    which = "every" if claim["over"] == "every" else "at least one"
    if kind == "word":
        return f"{which} piece of evidence says {value}"
    said = f"within {value[0]:g} and {value[1]:g}" if kind == "within" else f"{kind} {value:g}"
    return f"{which} interval {said} ({unit_})"


def _verdict(over: str, agreed: Sequence[str], sure: Sequence[str], fewest: int) -> tuple[str, int]:
    """The verdict, and how many pieces decide it."""
    if len(agreed) < fewest:
        return NOT_TESTABLE, 0
    whole, one = (FOR, AGAINST) if over == "every" else (AGAINST, FOR)
    names = {FOR: SUPPORTED, AGAINST: NOT_SUPPORTED}
    if sure.count(one):
        return names[one], sure.count(one)
    if agreed.count(whole) == len(agreed):
        return names[whole], len(agreed)
    return UNDECIDED, 0


def _because(
    claim: Mapping[str, Any], verdict: str, agreed: Sequence[str], decisive: int, lacking: str | None, without: int
) -> str:
    """Why, in a sentence."""
    lacks = "too few levels or checkpoints, or no drop" if "word" in claim["expect"] else "no interval"
    lacks = "no interval, or no drop" if claim.get("read") in ("slope_ratio", "kneedle", "hinge") else lacks
    lacks = "no jump on either side, or on one" if claim.get("read") == "jump_at" else lacks
    count, more = len(agreed), f" {without} more {'have' if without > 1 else 'has'} {lacks}." if without else ""
    if verdict == NOT_TESTABLE:
        if lacking is None:
            lacking = f"{count} piece{'' if count == 1 else 's'} of evidence, where {claim.get('fewest', 1)} are needed"
        return f"{lacking[0].upper()}{lacking[1:]}.{more} It takes {claim['needs']}."
    if verdict == UNDECIDED:
        told = (
            f"{agreed.count(FOR)} of {count} for it, {agreed.count(AGAINST)} against, {agreed.count(NEITHER)} neither"
        )
        what = "evidence allows" if "word" in claim["expect"] else "intervals allow"
        return f"The {what} both: {told}.{more}"
    side = "for" if verdict == SUPPORTED else "against"
    if decisive == count:
        return f"{'All' if count > 1 else 'The'} {count if count > 1 else 'one'} piece{'s' if count > 1 else ''} of evidence: {side} it.{more}"
    surely = (
        ""
        if claim["table"] in COUNTED or "word" in claim["expect"]
        else ", by intervals that hold for all of them at once"
    )
    return f"{decisive} of {count} {side} it{surely}.{more}"


def _row(claim: str, unit_: str, piece: Piece, ends: tuple[float, float], agrees: str) -> dict:
    said = [piece.word and f"it is {piece.word}", piece.limited, piece.note]
    return {
        "claim": claim,
        "evidence": piece.name,
        "unit": unit_,
        "estimate": or_none(piece.estimate),
        "low": or_none(piece.low),
        "high": or_none(piece.high),
        "low_all": or_none(ends[0]),
        "high_all": or_none(ends[1]),
        "exact": piece.counted,
        "agrees": agrees,
        "note": "; ".join(filter(None, said)) or None,
    }


def _agrees(expect: Mapping[str, Any], piece: Piece, low: float, high: float) -> str:
    """Whether an interval is for a claim, against it, or neither. Ends are differences of levels, up to rounding."""
    ((kind, value),) = expect.items()
    if piece.limited:
        return NEITHER
    if kind == "word":
        return NEITHER if piece.word is None else FOR if piece.word == value else AGAINST
    least, most = _ends(expect)
    if piece.unsigned and low < -ROUNDING:  # which of the two is larger is not known
        low, high = min(low, -high), max(high, -low)
    if kind != "within" and max(abs(low - value), abs(high - value)) <= ROUNDING:
        return NEITHER  # 0 is neither above 0 nor below
    if least - ROUNDING <= low and high <= most + ROUNDING:
        return FOR
    slack = ROUNDING if kind != "within" else -ROUNDING
    return AGAINST if high <= least + slack or low >= most - slack else NEITHER


def _ends(expect: Mapping[str, Any]) -> tuple[float, float]:
    """What the intervals of the evidence are to lie between; infinite for none."""
    ((kind, value),) = expect.items()
    known = {"above": (value, math.inf), "below": (-math.inf, value), "word": (-math.inf, math.inf)}
    return known[kind] if kind in known else tuple(value)
