"""Claims: each of the shipped ones reaches each verdict; wrong claims are refused; points decide nothing."""

import itertools
import json
import math
import re
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.stats import norm, ttest_ind
from scipy.stats import t as student

from essential_sparsity import codefiles, tables
from essential_sparsity.curves import claims, evidence, knees, training_evidence
from essential_sparsity.curves import pieces as pieces_of
from essential_sparsity.curves.evidence import CURVE, ONE_SEED, both_ways
from essential_sparsity.curves.knees import NOTHING_TO_LOSE
from essential_sparsity.curves.pieces import Known, Piece
from essential_sparsity.curves.verdicts import NOT_SUPPORTED, NOT_TESTABLE, SUPPORTED, UNDECIDED
from essential_sparsity.figures import claims as pages
from essential_sparsity.figures import curves, summary
from essential_sparsity.study import claims as asked
from essential_sparsity.study import series
from essential_sparsity.study.configuration import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = asked.read(str(ROOT / "config/claims.yaml"))
TYPES = {
    "minilm": "encoder", "bert-base": "encoder", "opt-125m": "decoder", "opt-350m": "decoder", "vicuna-7b": "decoder",
    "vit-base": "vision", "deit-base": "vision", "dino-base": "vision",
}  # fmt: skip
HALF = student.ppf(0.975, 2) * math.sqrt(2)  # half Welch's interval of x ± 1 less y ± 1
KNOWN = Known(TYPES, series.amount)
BLANK = {"text": "", "whole number": 0, "number": 0.0, "yes or no": False}


def rows_of(table: str, *given: dict) -> pd.DataFrame:
    """A table with these values, all others blank, as a program reads it."""
    if not given:
        return tables.empty(table)
    columns = codefiles.described(table)["columns"]
    blank = {name: None if said.get("nullable") else BLANK[said["type"]] for name, said in columns.items()}
    assert all({*row} <= {*columns} for row in given)
    keys = codefiles.described(table)["key"]
    frame = pd.DataFrame([blank | row for row in given], columns=list(columns)).drop_duplicates(keys)
    with tempfile.TemporaryDirectory() as folder:
        tables.write(frame, table, Path(folder) / "a.parquet")
        return tables.read(Path(folder) / "a.parquet", table)


def knee(model="minilm", task="sst2", pattern="global", low=0.3, high=0.5, seeds=2, **more) -> dict:
    """A row of the table of knees with an interval."""
    return {
        "model": model, "task": task, "pattern": pattern, "metric": "accuracy", "headline": True, "protocol": "finetune",
        "epsilon": 0.01, "essential_sparsity": (low + high) / 2, "essential_sparsity_low": low,
        "essential_sparsity_high": high, "n_seeds_max": seeds, "seed_freedom": 4 * (seeds - 1), "n_replicates": 100,
    } | more  # fmt: skip


def judged(claim: dict, found: dict[str, pd.DataFrame]) -> tuple[dict, list[dict]]:
    rows, evidence = claims.judge([claim], {claim["claim"]: asked.reading(claim)}, found, KNOWN)
    return rows.iloc[0].to_dict(), evidence.to_dict("records")


def concrete(claim: dict, column: str, other: str = "x") -> str:
    """A value that a claim's `where` lets through."""
    value = claim["where"].get(column, other)
    value = value[-1] if isinstance(value, list) else value
    known = {"nm*": "nm4", "opt-*": "opt-350m" if column.endswith("b") else "opt-125m"}
    return known.get(value, value.replace("*", "1")) if isinstance(value, str) else value


def evidence_of(claim: dict, ends: list[tuple[float, float]], words: list[str]) -> dict[str, pd.DataFrame]:
    """A study whose evidence for a claim has these intervals, or these words."""
    table, columns = claim["table"], codefiles.described(claim["table"])["columns"]
    fixed = {column: concrete(claim, column) for column in claim["where"] if column in columns}
    tasks = [claim["where"].get("task", "task*").replace("*", str(i)) for i in range(len(ends or words))]
    curves = []
    if table == "knees":
        pattern, model = concrete(claim, "pattern"), concrete(claim, "model", "minilm")
        if asked.reading(claim) == "shape":
            curves = [knee(task=task, shape=word, evidence_hinge=0.5) for task, word in zip(tasks, words, strict=True)]
        elif "groups" in claim:  # two models a side; ratios e^low and e^high above 1, evenly
            (low, high), models = ends[0], {"a": ("vit-base", "dino-base"), "b": ("bert-base", "opt-125m")}
            middle, spread = (low + high) / 2, (high - low) / 2 / HALF
            values = zip(models["a"] + models["b"], (middle + spread, middle - spread, spread, -spread), strict=True)
            curves = [knee(model, slope_ratio=math.exp(value)) for model, value in values]
        elif "pairs" in claim:  # the first task against the second
            (low, high), second = ends[0], (0.2, 0.25)
            curves = [knee(task="a", low=low + second[1], high=high + second[0]), knee(task="b", low=0.2, high=0.25)]
        else:
            curves = [knee(model, task, pattern, *pair) for task, pair in zip(tasks, ends, strict=True)]
        return {"knees": rows_of("knees", *curves)}
    rows, trajectory, jumps = [], [], []
    for i, task in enumerate(tasks):
        row = dict(fixed)
        if ends:
            row |= {"low": ends[i][0], "high": ends[i][1], "difference": sum(ends[i]) / 2} if "low" in columns else {}
        if table == "comparisons":
            row = {"model_a": "minilm", "model_b": "minilm", "between": "pattern"} | row
            row |= {
                "pattern_b": row.get("pattern_b", row["pattern_a"]),
                "task": task,
                "metric": "accuracy",
                "n_replicates": 9,
            }
            curves += [knee(row[f"model_{s}"], task, row[f"pattern_{s}"]) for s in "ab"]
        elif table == "differences":
            row |= {name: value * 0.01 for name, value in row.items() if name in ("low", "high", "difference")}
            row |= {"model": "minilm", "task": task, "metric": "accuracy", "n_levels": 1, "n_seeds": 2}
            row |= {"sparsity_from": claim["levels"][1], "sparsity_to": claim["levels"][1]}
            curves += [knee(task=task, pattern=row[f"pattern_{s}"]) for s in "ab"]
        elif table == "layers":
            value, rate = ends[i][0], asked.reading(claim) == "rate_of_mlp_less_attention"
            pruned = (
                {"mlp": 500 + 1000 * value, "attention": 500}
                if rate
                else {"mlp": 1000 * value, "attention": 1000 - 1000 * value}
            )
            rows += [
                {
                    "model": task,
                    "pattern": "global",
                    "sparsity": 0.2,
                    "tensor": part,
                    "sublayer": part,
                    "n": 2000 if not rate else 1000,
                    "pruned": round(pruned[part]),
                }
                for part in pruned
            ]
            continue
        elif table == "similarity":
            row |= {
                "model_a": "minilm",
                "model_b": "minilm",
                "scope": "model",
                "sparsity": 0.2,
                "seed_b": i,
                "task_b": task,
            }
            row |= {"cosine_kept": ends[i][0], "cosine_kept_chance": 0.8}
        elif table == "abruptness":
            row |= {"series": "s", "training": task, "conclusion": words[i]}
        elif table == "contrasts":
            groups = {
                "group_a": concrete(claim, "group_a", "100 % of the data"),
                "group_b": concrete(claim, "group_b", f"{10 + i} % of the data"),
            }
            row |= {"series": task, "tensor": "all", "n_trainings_a": 2, "n_trainings_b": 2} | groups
            row.pop("more_data", None)
            (low, high), measure = ends[i], row["measure"]
            spread = (high - low) / 2 / HALF
            if asked.reading(claim) == "jump_at":  # between two checkpoints that lie as good as together
                for group, middle in ((groups["group_a"], (low + high) / 2), (groups["group_b"], 0.0)):
                    for name, at in (("one", middle + spread / 4), ("two", middle - spread / 4)):
                        of = {"series": task, "group": group, "training": group + name, "measure": measure}
                        jump = {
                            "jump_at": at,
                            "jump_at_low": at,
                            "jump_at_high": at,
                            "jump": 0.1,
                            "conclusion": "abrupt",
                        }
                        jumps.append(of | jump)
                        trajectory += [
                            of
                            | {
                                "tensor": "all",
                                "model": f"{group}{name}{side}",
                                "position": at + side * 1e-9,
                                "value": 0.1,
                            }
                            for side in (-1, 1)
                        ]
                rows.append(row)
                continue
            for group, middle in ((groups["group_a"], (low + high) / 2), (groups["group_b"], 0.0)):
                for name, value in (("one", middle + spread), ("two", middle - spread)):
                    of = {"series": task, "group": group, "training": group + name, "model": group + name}
                    trajectory.append(of | {"tensor": "all", "measure": measure, "value": value})
        rows.append(row)
    found = {"trajectory": rows_of("trajectory", *trajectory)} if trajectory else {}
    found |= {"abruptness": rows_of("abruptness", *jumps)} if jumps else {}
    return {table: rows_of(table, *rows)} | found | ({"knees": rows_of("knees", *curves)} if curves else {})


def wanted(claim: dict, kind: str, pieces: int) -> tuple[list[tuple[float, float]], list[str]]:
    """Intervals, or words, that are all for a claim, all against it, or all neither."""
    ((way, value),) = claim["expect"].items()
    if way == "word":
        read = asked.reading(claim)
        other = next(word for word in asked.WORDS[read] if word != value)
        return [], [{"for": value, "against": other}.get(kind)] * pieces
    if claim["table"] in claims.COUNTED:
        return [(value + 0.01, 0.0) if kind == "for" else (value - 0.01, 0.0)] * pieces, []
    least, most = value if way == "within" else (value, value + 0.3) if way == "above" else (value - 0.3, value)
    width = (most - least) / 10
    if kind == "for":
        return [(least + 2 * width, most - 2 * width)] * pieces, []
    if kind == "neither":
        return [(least - width, least + width) if way != "below" else (most - width, most + width)] * pieces, []
    return [(most + width, most + 2 * width) if way == "below" else (least - 2 * width, least - width)] * pieces, []


@pytest.mark.parametrize("claim", SHIPPED, ids=lambda claim: claim["claim"])
@pytest.mark.parametrize(("kind", "verdict"), [("for", SUPPORTED), ("against", NOT_SUPPORTED), ("neither", UNDECIDED)])
def test_each_shipped_claim_reaches_each_verdict(claim, kind, verdict):
    if kind == "neither" and claim["table"] in (*claims.COUNTED, "abruptness"):
        pytest.skip("what is counted, or concluded, allows one answer")
    ends, words = wanted(claim, kind, max(2, claim.get("fewest", 1)))
    row, evidence = judged(claim, evidence_of(claim, ends, words))
    assert row["verdict"] == verdict, row["because"]
    assert row["n_evidence"] == len(evidence) >= 1
    assert {piece["agrees"] for piece in evidence} == {kind}


@pytest.mark.parametrize("claim", SHIPPED, ids=lambda claim: claim["claim"])
def test_each_shipped_claim_says_what_is_missing(claim):
    for found in ({}, {claim["table"]: rows_of(claim["table"]), "knees": rows_of("knees")}):
        row, evidence = judged(claim, found)
        assert row["verdict"] == NOT_TESTABLE
        assert not evidence
        assert row["because"].endswith(f"It takes {claim['needs']}.")


EVERY = {
    "claim": "c", "says": "s", "source": "o", "table": "knees", "where": {"pattern": "global"}, "expect": {"above": 0.2},
    "over": "every", "refuted_by": "r", "needs": "n",
}  # fmt: skip


def test_one_of_many_decides_only_by_an_interval_that_holds_for_all():
    """Twenty pieces: one whose 95 % interval just misses is what chance gives."""
    just = knee(task="off", low=0.1, high=0.19)
    fine = [knee(task=f"t{i}") for i in range(19)]
    assert judged(EVERY, {"knees": rows_of("knees", *fine, just)})[0]["verdict"] == UNDECIDED
    assert judged(EVERY, {"knees": rows_of("knees", just)})[0]["verdict"] == NOT_SUPPORTED
    far = knee(task="off", low=0.05, high=0.07)
    row = judged(EVERY, {"knees": rows_of("knees", *fine, far)})[0]
    assert row["verdict"] == NOT_SUPPORTED
    assert row["n_against"] == row["n_against_all"] == 1
    some = EVERY | {"over": "some", "expect": {"below": 0.2}}
    assert judged(some, {"knees": rows_of("knees", *fine, just)})[0]["verdict"] == UNDECIDED
    assert judged(some, {"knees": rows_of("knees", *fine, far)})[0]["verdict"] == SUPPORTED
    assert judged(some, {"knees": rows_of("knees", *fine)})[0]["verdict"] == NOT_SUPPORTED


@pytest.mark.parametrize(
    ("expect", "low", "high", "agrees"),
    [
        ({"above": 0.1}, 0.1, 0.2, "for"),  # ends are levels of the grid: it drops at 0.1 or later
        ({"above": 0.1}, 0.0, 0.1, "against"),
        ({"above": 0.1}, 0.0, 0.2, "neither"),
        ({"above": 0.0}, 0.0, 0.0, "neither"),
        ({"below": -5}, -9.0, -5.0, "for"),
        ({"below": -5}, -5.0, 1.0, "against"),
        ({"below": -5}, -math.inf, -6.0, "for"),
        ({"above": 0.2}, 0.3, math.inf, "for"),
        ({"within": [-1, 1]}, -1.0, 1.0, "for"),
        ({"within": [-1, 1]}, 0.0, 0.0, "for"),
        ({"within": [-1, 1]}, 0.5, 1.5, "neither"),
        ({"within": [-1, 1]}, 1.5, 2.0, "against"),
        ({"within": [-1, 1]}, 1.0, 2.0, "neither"),
        ({"within": [-1, 1]}, -2.0, -1.0, "neither"),
        ({"within": [-1, 1]}, -math.inf, 2.0, "neither"),
    ],
)
def test_what_an_interval_says(expect, low, high, agrees):
    row = knee(low=low, high=high)
    _, (piece,) = judged(EVERY | {"expect": expect}, {"knees": rows_of("knees", row)})
    assert piece["agrees"] == agrees


def test_widened_interval_is_bonferronis():
    piece = Piece("x", 1.0, 0.0, 3.0)
    low, high = piece.widened(10)
    factor = norm.ppf(1 - 0.05 / 20) / norm.ppf(0.975)
    assert np.allclose([1 - low, high - 1], [factor, 2 * factor])
    assert piece.widened(1) == (0.0, 3.0)
    assert Piece("x", math.nan, 0.1, math.inf).widened(2) == (-math.inf, math.inf)


def test_few_seeds_widen_an_interval_by_their_degrees_of_freedom():
    """Of three seeds a mean is a t variable of two degrees of freedom: of ten pieces one would be surely wrong in every eighth study."""
    claim = next(claim for claim in SHIPPED if claim["claim"] == "tickets-win-above")
    base = {"model": "minilm", "metric": "accuracy", "pattern_a": "lth", "pattern_b": "global", "n_levels": 1}
    base |= {"sparsity_from": 0.6, "sparsity_to": 0.6, "difference": 0.0, "low": -0.01, "high": 0.01}
    for seeds, protocol, freedom in ((2, "probe", 1), (3, "finetune", 2), (1, "zero-shot", math.inf)):
        pattern = "layerwise" if protocol == "zero-shot" else "lth"
        rows = [base | {"task": f"t{i}", "n_seeds": seeds, "pattern_a": pattern} for i in range(10)]
        curves = [knee(task=f"t{i}", pattern=p, protocol=protocol) for i in range(10) for p in (pattern, "global")]
        found = {"differences": rows_of("differences", *rows), "knees": rows_of("knees", *curves)}
        _, evidence = judged(claim | {"where": {"pattern_a": pattern}}, found)
        factor = student.ppf(1 - 0.05 / 20, freedom) / student.ppf(0.975, freedom)
        assert np.allclose([[piece["low_all"], piece["high_all"]] for piece in evidence], [-factor, factor])
    hinges = [knee(task=t, hinge=0.4, hinge_low=0.3, hinge_high=0.5, seed_freedom=4) for t in "ab"]
    factor = student.ppf(1 - 0.05 / 4, 4) / student.ppf(0.975, 4)
    _, evidence = judged(EVERY | {"read": "hinge"}, {"knees": rows_of("knees", *hinges)})
    assert np.allclose([piece["low_all"] for piece in evidence], 0.4 - 0.1 * factor)
    _, (piece,) = judged(EVERY | {"read": "hinge", "pairs": "task"}, {"knees": rows_of("knees", *hinges)})
    assert piece["low_all"] == piece["low"], "one piece has its own interval"


def test_chance_of_a_false_verdict_is_five_per_cent_at_most():
    """Twenty true values on the very edge of what is claimed: 'every' is seldom refuted, 'some' seldom supported."""
    generator = np.random.default_rng(0)
    refuted = shown = 0
    for _ in range(200):
        found = generator.normal(0.2, 0.03, 20)
        half = 0.03 * norm.ppf(0.975)
        frame = rows_of("knees", *(knee(task=f"t{i}", low=x - half, high=x + half) for i, x in enumerate(found)))
        refuted += judged(EVERY, {"knees": frame})[0]["verdict"] == NOT_SUPPORTED
        shown += judged(EVERY | {"over": "some"}, {"knees": frame})[0]["verdict"] == SUPPORTED
    assert refuted / 200 < 0.06
    assert shown / 200 < 0.06


def test_one_seed_of_a_trained_task_or_a_random_mask_decides_nothing():
    for row in (
        knee(seeds=1),
        *(knee(pattern=name, seeds=1, protocol="zero-shot") for name in ("random", "sparsegpt")),
    ):
        claim = EVERY | {"where": {"pattern": row["pattern"]}}
        found, evidence = judged(claim, {"knees": rows_of("knees", row)})
        assert found["verdict"] == UNDECIDED
        assert "one seed" in evidence[0]["note"]
    assert judged(EVERY, {"knees": rows_of("knees", knee(seeds=1, protocol="zero-shot"))})[0]["verdict"] == SUPPORTED


def test_a_second_seed_at_far_levels_alone_is_no_second_seed():
    levels, items = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], pd.DataFrame({"item": [f"{i:03}" for i in range(400)]})
    items = items.assign(second_score=np.nan, prediction=np.nan, target=np.nan, weight=1.0, group=None)
    for other, verdict in (([0.0, 0.6], UNDECIDED), (levels[:6], SUPPORTED)):
        runs, parts = [], []
        for seed, level in (*((0, level) for level in levels), *((1, level) for level in other)):
            score = (np.arange(400) < 360 - max(0, level - 0.25) * 240).astype(float)
            run = {
                "model": "minilm",
                "task": "t",
                "pattern": "global" if level else "dense",
                "sparsity": level,
                "seed": seed,
            }
            more = {"protocol": "finetune", "metric": "accuracy", "value": score.mean(), "n_items": 400}
            runs.append(run | more)
            parts.append(items.assign(score=score, **run))
        table, _ = knees.table(pd.DataFrame(runs), lambda _, parts=parts: pd.concat(parts), replicates=200)
        assert (table["n_seeds_min"].item(), table["n_seeds_max"].item()) == (1, 2)
        row, (piece,) = judged(EVERY | {"expect": {"above": 0.05}}, {"knees": table})
        said = [piece["note"] or "", *summary.notes(table.iloc[0])]
        said.append(curves.curve(pd.DataFrame(runs), table, "minilm", "t").legends[0].get_title().get_text())
        assert row["verdict"] == verdict
        assert sum("one seed" in part for part in said) == (3 if verdict == UNDECIDED else 0)


def test_a_difference_of_one_shared_seed_of_a_random_mask_decides_nothing():
    """Both curves may have more seeds: what counts is how many both have."""
    claim = next(claim for claim in SHIPPED if claim["claim"] == "random-far-below")
    row = {
        "model": "minilm", "task": "t", "metric": "accuracy", "pattern_a": "random", "pattern_b": "global", "sparsity_from": 0.6,
        "sparsity_to": 0.6, "n_levels": 1, "difference": -0.1, "low": -0.12, "high": -0.08,
    }  # fmt: skip
    curves = rows_of(
        "knees", *(knee(task="t", pattern=pattern, protocol="zero-shot") for pattern in ("global", "random"))
    )
    for seeds, verdict in ((1, UNDECIDED), (2, SUPPORTED)):
        found = {"differences": rows_of("differences", row | {"n_seeds": seeds}), "knees": curves}
        assert judged(claim, found)[0]["verdict"] == verdict


def test_curves_that_do_not_drop_and_curves_without_intervals():
    still = knee(low=0.6, high=1.0, no_drop=True, essential_sparsity=None, essential_sparsity_high=None)
    row, (piece,) = judged(EVERY, {"knees": rows_of("knees", still)})
    assert row["verdict"] == SUPPORTED
    assert piece["note"] == "it does not drop"
    assert pd.isna(piece["high"])
    lone = knee(task="other", n_replicates=0)
    row, evidence = judged(EVERY, {"knees": rows_of("knees", lone)})
    assert row["verdict"] == NOT_TESTABLE
    assert not evidence
    assert "1 more has no interval" in row["because"]
    _, (piece,) = judged(EVERY, {"knees": rows_of("knees", knee(), lone)})
    assert (piece["low_all"], piece["high_all"]) == (piece["low"], piece["high"]), "what is no evidence widens none"


def test_a_pair_counts_once_and_either_way():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "size-does-not-matter")
    row = {
        "task": "t", "metric": "accuracy", "between": "model", "model_a": "opt-350m", "model_b": "opt-125m", "pattern_a": "global",
        "pattern_b": "global", "difference": 0.2, "low": 0.15, "high": 0.25, "n_replicates": 9,
    }  # fmt: skip
    curves = [knee(model, "t") for model in ("opt-125m", "opt-350m")]
    found = {"comparisons": rows_of("comparisons", row), "knees": rows_of("knees", *curves)}
    _, evidence = judged(claim | {"fewest": 1}, found)
    assert len(evidence) == 1
    turned = claim | {"fewest": 1, "where": {"between": "model", "model_a": "opt-125m", "model_b": "opt-350m"}}
    _, (piece,) = judged(turned, found)
    assert np.allclose([piece["estimate"], piece["low"], piece["high"]], [-0.2, -0.25, -0.15])


def test_a_pair_that_fits_both_ways_is_not_read_the_way_that_its_names_sort():
    row = {
        "task": "t", "metric": "accuracy", "between": "model", "model_a": "opt-125m", "model_b": "opt-350m", "pattern_a": "global",
        "pattern_b": "global", "difference": 0.2, "low": 0.15, "high": 0.25, "n_replicates": 9,
    }  # fmt: skip
    curves = [knee(model, "t") for model in ("opt-125m", "opt-350m")]
    found = {"comparisons": rows_of("comparisons", row), "knees": rows_of("knees", *curves)}
    claim = EVERY | {"table": "comparisons", "where": {"model_a": "opt-*", "model_b": "opt-*"}}
    for expect in ({"above": 0}, {"below": 0}, {"within": [-0.3, 0.1]}):
        verdict, evidence = judged(claim | {"expect": expect}, found)
        assert verdict["verdict"] == NOT_SUPPORTED
        assert {piece["agrees"] for piece in evidence} == {"for", "against"}


def test_ranges_of_levels_stand_for_their_levels():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "random-far-below")
    base = {
        "model": "minilm",
        "task": "t",
        "metric": "accuracy",
        "pattern_a": "global",
        "pattern_b": "random",
        "n_seeds": 2,
    }
    rows = [
        base | {"sparsity_from": low, "sparsity_to": high, "n_levels": n, "difference": 0.1, "low": 0.08, "high": 0.12}
        for low, high, n in ((0.1, 0.5, 3), (0.5, 0.5, 1), (0.7, 0.7, 1), (0.9, 0.9, 1), (0.7, 0.9, 2))
    ]
    curves = [knee(task="t", pattern=pattern) for pattern in ("global", "random")]
    row, evidence = judged(claim, {"differences": rows_of("differences", *rows), "knees": rows_of("knees", *curves)})
    assert [piece["evidence"] for piece in evidence] == [
        "minilm, t: random less global, 50 %",
        "minilm, t: random less global, 70–90 %",
    ]
    assert row["verdict"] == SUPPORTED
    assert np.allclose([piece["estimate"] for piece in evidence], -10)


def test_a_curve_that_drops_before_the_first_level_refutes_however_many_others_there_are():
    """Ends are levels: how sure they are say the resamples, and no interval of a grid ends between two of its levels."""
    curves = [knee(task=f"t{i}", low=0.0, high=0.1) if i == 0 else knee(task=f"t{i}") for i in range(20)]
    claim = EVERY | {"expect": {"above": 0.1}}
    levels = [0.0, 0.1, 0.3, 0.5]
    for share, verdict in ((0.0, NOT_SUPPORTED), (0.01, UNDECIDED)):  # of the resamples leave later
        outside = np.ones(10_000, int)
        outside[: int(share * 10_000)] = 2
        rows = [
            {
                **{name: curve[name] for name in ("model", "task", "pattern", "metric", "essential_sparsity")},
                "bracket_low": curve["essential_sparsity_low"], "bracket_high": curve["essential_sparsity_high"],
                "levels": json.dumps(levels), "stream": "s",
                "outside": json.dumps((outside if i == 0 else np.full(10_000, 3)).tolist()),
            }
            for i, curve in enumerate(curves)
        ]  # fmt: skip
        found = {"knees": rows_of("knees", *curves), "resamples": rows_of("resamples", *rows)}
        row, evidence = judged(claim, found)
        assert row["verdict"] == verdict
        first = next(piece for piece in evidence if "t0" in piece["evidence"])
        assert first["agrees"] == "against"
        assert first["high_all"] == (0.1 if share == 0 else 0.3)


def test_differences_of_levels_are_compared_up_to_rounding():
    """0.4 - 0.3 is not 0.1, 0.3 - 0.4 is not -0.1."""
    claim = EVERY | {"pairs": "task", "expect": {"above": 0.1}, "over": "some"}
    for low, high in ((0.1, 0.2), (0.2, 0.3), (0.3, 0.4), (0.5, 0.6)):
        same = rows_of("knees", knee(task="a", low=low, high=high), knee(task="b", low=low, high=high))
        assert judged(claim, {"knees": same})[0]["verdict"] == NOT_SUPPORTED
        equal = claim | {"expect": {"within": [-0.1, 0.1]}}
        assert judged(equal, {"knees": same})[0]["verdict"] == SUPPORTED
        apart = rows_of("knees", knee(task="a", low=high, high=high + 0.1), knee(task="b", low=low - 0.1, high=low))
        assert judged(claim, {"knees": apart})[0]["verdict"] == SUPPORTED


@pytest.mark.parametrize(
    ("expect", "verdict"),
    [
        ({"below": 0.1}, UNDECIDED),
        ({"above": 0.1}, UNDECIDED),
        ({"within": [-0.1, 0.1]}, UNDECIDED),
        ({"below": 0.3}, SUPPORTED),
        ({"above": 0.3}, NOT_SUPPORTED),
        ({"above": -0.1}, UNDECIDED),
        ({"above": 0}, UNDECIDED),
    ],
)
@pytest.mark.parametrize("first", [0.485, 0.495])
def test_which_of_a_pair_is_the_larger_decides_nothing_where_it_is_not_known(expect, verdict, first):
    """One lies from 0.2 to 0.5, the other from 0.4 to 0.5: they may be 0.3 apart, whichever estimate is the larger."""
    curves = [
        knee(task="a", low=0.2, high=0.5, essential_sparsity=first),
        knee(task="b", low=0.4, high=0.5, essential_sparsity=0.49),
    ]
    claim = EVERY | {"pairs": "task", "expect": expect}
    assert judged(claim, {"knees": rows_of("knees", *curves)})[0]["verdict"] == verdict


def test_a_curve_that_does_not_drop_is_the_later_of_a_pair():
    still = {"no_drop": True, "essential_sparsity": None, "essential_sparsity_high": None, "high": 1.0}
    claim = EVERY | {"pairs": "task", "expect": {"above": 0.1}, "over": "some"}
    for names in (("a", "b"), ("b", "a")):
        curves = [knee(task=names[0], low=0.9, **still), knee(task=names[1], low=0.2, high=0.3)]
        row, (piece,) = judged(claim, {"knees": rows_of("knees", *curves)})
        assert row["verdict"] == SUPPORTED
        assert piece["evidence"] == f"minilm, global: {names[0]} less {names[1]}"
        assert np.isclose(piece["low"], 0.6)
        assert piece["note"] == "it does not drop"
    both = [knee(task=name, low=0.9, **still) for name in ("a", "b")]
    row, (piece,) = judged(claim, {"knees": rows_of("knees", *both)})
    assert (row["verdict"], piece["agrees"]) == (UNDECIDED, "neither")


def test_two_curves_that_do_not_drop_are_evidence_that_allows_both():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "bert-over-opt")
    row = {
        "metric": "accuracy", "between": "model", "model_a": "bert-base", "model_b": "opt-125m", "pattern_a": "global",
        "pattern_b": "global", "n_replicates": 9,
    }  # fmt: skip
    rows = [row | {"task": f"t{i}", "difference": 0.2, "low": 0.1, "high": 0.3} for i in range(2)]
    curves = [knee(model, f"t{i}") for model in ("bert-base", "opt-125m") for i in range(3)]
    found = {"comparisons": rows_of("comparisons", *rows, row | {"task": "t2"}), "knees": rows_of("knees", *curves)}
    verdict, evidence = judged(claim, found)
    assert (verdict["verdict"], len(evidence)) == (UNDECIDED, 3)


def test_what_has_too_few_levels_or_checkpoints_is_no_evidence():
    sharp, abrupt = (next(claim for claim in SHIPPED if claim["claim"] == name) for name in ("sharp-drop", "abrupt"))
    bends = knee(shape="hinge", evidence_hinge=0.95)
    row, evidence = judged(sharp, {"knees": rows_of("knees", bends, knee(task="few levels"))})
    assert (row["verdict"], len(evidence)) == (SUPPORTED, 1)
    assert "1 more has too few levels or checkpoints" in row["because"]
    smooth = knee(task="t", shape="smooth", evidence_hinge=0.05)
    because = judged(sharp, {"knees": rows_of("knees", bends, smooth)})[0]["because"]
    assert because == "1 of 2 against it.", "words have no intervals"
    undecided = knee(task="t", evidence_hinge=0.5)
    assert judged(sharp, {"knees": rows_of("knees", bends, undecided)})[0]["verdict"] == UNDECIDED
    base = {"series": "s", "measure": "below 0.1 std"}
    rows = [
        base | {"training": "long", "conclusion": "abrupt"},
        base | {"training": "one", "conclusion": "too few checkpoints"},
    ]
    assert judged(abrupt, {"abruptness": rows_of("abruptness", *rows)})[0]["verdict"] == SUPPORTED
    assert judged(abrupt, {"abruptness": rows_of("abruptness", rows[1])})[0]["verdict"] == NOT_TESTABLE


def test_levels_close_to_each_other_are_pieces_of_their_own(tmp_path):
    claim = next(claim for claim in SHIPPED if claim["claim"] == "mlp-holds-most")
    rows = [
        {
            "model": "m",
            "pattern": "global",
            "sparsity": level,
            "tensor": part,
            "sublayer": part,
            "n": 1000,
            "pruned": 200,
        }
        for level in (0.312, 0.314, 0.29)
        for part in ("mlp", "attention")
    ]
    _, evidence = claims.judge([claim], {claim["claim"]: "share_of_mlp"}, {"layers": rows_of("layers", *rows)}, KNOWN)
    tables.write(evidence, "evidence", tmp_path / "evidence.parquet")
    assert sorted(evidence["evidence"]) == ["m, global, 29 %", "m, global, 31.2 %", "m, global, 31.4 %"]
    alike = next(claim for claim in SHIPPED if claim["claim"] == "tickets-alike")
    row = {
        "model_a": "m", "model_b": "m", "between": "pattern", "pattern_a": "global", "pattern_b": "lth", "scope": "model",
        "cosine_kept": 0.97, "cosine_kept_chance": 0.8,
    }  # fmt: skip
    rows = [row | {"sparsity": level} for level in (0.312, 0.314)]
    _, evidence = judged(alike, {"similarity": rows_of("similarity", *rows)})
    assert len({piece["evidence"] for piece in evidence}) == 2


SHARPER = next(claim for claim in SHIPPED if claim["claim"] == "vision-sharper")


def grouped(*more: dict) -> tuple[dict, list[dict]]:
    """Vision models with ratios above 20, language models with ratios below 3, and more curves."""
    ratios = {"vit-base": 30.0, "dino-base": 20.0, "bert-base": 2.0, "opt-125m": 3.0}
    curves = [knee(model, slope_ratio=ratio, slope_after=-1.0) for model, ratio in ratios.items()]
    return judged(SHARPER, {"knees": rows_of("knees", *curves, *more)})


@pytest.mark.parametrize(
    ("mlp", "ties", "verdict"), [(510, 5, SUPPORTED), (510, 20, UNDECIDED), (480, 5, NOT_SUPPORTED)]
)
def test_bins_bound_what_is_counted(mlp, ties, verdict):
    for name in ("mlp-holds-most", "mlp-pruned-more"):
        claim = next(claim for claim in SHIPPED if claim["claim"] == name)
        rows = [
            {"model": f"m{i}", "pattern": "global", "sparsity": 0.2, "tensor": part, "sublayer": part, "n": 2000}
            | {"pruned": count, "boundary": ties}
            for i in range(2)
            for part, count in (("mlp", mlp), ("attention", 1000 - mlp))
        ]
        row, (piece, _) = judged(claim, {"layers": rows_of("layers", *rows)})
        assert row["verdict"] == verdict
        assert piece["low"] == piece["low_all"] < piece["estimate"] < piece["high"] == piece["high_all"]


def test_a_model_without_attention_has_no_share_of_feed_forward_layers():
    """All that is pruned would lie in these."""
    base = {"pattern": "global", "sparsity": 0.2, "n": 1000}
    parts = [("m", "mlp", 300), ("m", "attention", 700), ("mixer", "mlp", 200)]
    rows = [base | {"model": m, "tensor": part, "sublayer": part, "pruned": pruned} for m, part, pruned in parts]
    claim = next(claim for claim in SHIPPED if claim["claim"] == "mlp-holds-most")
    row, (piece,) = judged(claim, {"layers": rows_of("layers", *rows)})
    assert (row["verdict"], piece["evidence"]) == (NOT_SUPPORTED, "m, global, 20 %")
    assert piece["estimate"] == pytest.approx(0.3)


def test_ratios_are_compared_as_logarithms_and_say_so():
    row, (piece,) = grouped()
    assert row["verdict"] == SUPPORTED
    assert np.isclose(piece["estimate"], math.log(30 * 20 / 6) / 2)
    assert piece["unit"] == "natural logarithm of the ratio"


@pytest.mark.parametrize(
    ("model", "curve", "verdict"),
    [
        ("bert-base", {"slope_ratio": None, "slope_before": 0.1, "slope_after": -1.0}, UNDECIDED),  # infinitely sharp
        ("vit-base", {"slope_ratio": None, "slope_before": 0.1, "slope_after": -1.0}, SUPPORTED),
        ("bert-base", {"slope_ratio": -0.1, "slope_before": -1.0, "slope_after": 0.1}, SUPPORTED),
        ("vit-base", {"slope_ratio": -0.1, "slope_before": -1.0, "slope_after": 0.1}, UNDECIDED),
        ("bert-base", {}, SUPPORTED),  # no slopes: nothing is known
    ],
)
def test_curves_without_a_ratio_open_the_interval_on_their_side(model, curve, verdict):
    row, (piece,) = grouped(knee(model, task="t", **curve))
    assert row["verdict"] == verdict
    assert (piece["note"] or "").startswith("1 curves do not fall") is bool(curve)


def test_a_curve_that_falls_nowhere_is_not_infinitely_sharp():
    row, (piece,) = grouped(knee("bert-base", task="t", slope_ratio=None, slope_before=0.1, slope_after=0.2))
    assert (row["verdict"], piece["note"]) == (SUPPORTED, None)


def test_a_dense_model_with_nothing_to_lose_is_no_evidence_of_differences():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "tickets-equal-below")
    row = {
        "model": "minilm", "metric": "accuracy", "pattern_a": "global", "pattern_b": "lth", "sparsity_from": 0.1, "sparsity_to": 0.5,
        "n_levels": 5, "n_seeds": 3, "low": -0.001, "high": 0.001,
    }  # fmt: skip
    for reason, count in ((f"the dense model guesses: x; {NOTHING_TO_LOSE}", 0), ("too few levels", 1), (None, 1)):
        curves = [knee(task="t", pattern=pattern, reason=reason) for pattern in ("global", "lth")]
        found = {"differences": rows_of("differences", row | {"task": "t"}), "knees": rows_of("knees", *curves)}
        verdict, evidence = judged(claim, found)
        assert len(evidence) == count
        assert verdict["verdict"] == (SUPPORTED if count else NOT_TESTABLE)
    curves = [knee(task="t", pattern="lth", reason=f"the dense model guesses: x; {NOTHING_TO_LOSE}"), knee(task="t")]
    found = {"differences": rows_of("differences", row | {"task": "t"}), "knees": rows_of("knees", *curves)}
    assert judged(claim, found)[1] == [], "of the seeds that one of the two has"


def test_groups_of_trainings_are_samples_of_trainings():
    """An interval along the trainings that are there says nothing of others."""
    claim = next(claim for claim in SHIPPED if claim["claim"] == "more-data-more-small")
    row = {
        "series": "s", "measure": "below 0.1 std", "tensor": "all", "group_a": "1B words", "group_b": "100M words",
        "n_trainings_a": 2, "n_trainings_b": 2, "difference": 0.1, "low": 0.09, "high": 0.11,
    }  # fmt: skip
    for spread, verdict in ((0.08, UNDECIDED), (0.001, SUPPORTED)):
        values = {"1B words": (0.3 - spread, 0.3 + spread), "100M words": (0.2 - spread, 0.2 + spread)}
        rows = [
            {
                "series": "s",
                "measure": "below 0.1 std",
                "tensor": "all",
                "group": group,
                "training": f"{group}{i}",
                "value": value,
            }
            | {"model": f"{group}{i}-{position}", "position": position, "suspect": suspect}
            for group, both in values.items()
            for i, value in enumerate(both)
            for position, suspect in ((0.0, None), (1.0, None), (3.0, "repeated"))
        ]
        rows = [row | ({"value": 50 * row["value"]} if row["suspect"] else {}) for row in rows]
        rows += [
            rows[0] | {"position": 2.0, "value": 99.0},
            *(row | {"tensor": "q", "value": 9 * row["value"]} for row in rows),
        ]
        found = {
            "contrasts": rows_of("contrasts", row, row | {"tensor": "q"}),
            "trajectory": rows_of("trajectory", *rows),
        }
        found_row, (piece,) = judged(claim, found)
        assert found_row["verdict"] == verdict
        assert np.isclose(piece["estimate"], 0.1), "at the checkpoints that all of them have"
        turned = {
            **found,
            "contrasts": rows_of(
                "contrasts", row | {"group_a": "100M words", "group_b": "1B words", "difference": -0.1}
            ),
        }
        assert judged(claim, turned)[1][0]["estimate"] == piece["estimate"]
    alone = {**found, "contrasts": rows_of("contrasts", row | {"n_trainings_b": 1})}
    assert judged(claim, alone)[0]["verdict"] == UNDECIDED


def reached(values: dict[str, list[tuple[float | None, float | None]]], trainings: int = 3) -> dict[str, pd.DataFrame]:
    """Tables of two groups of trainings: at each checkpoint an essential sparsity, or the last level, beyond which it lies.

    Beside them are values that play no part: of another measure, and of another series.
    """
    base = {"series": "s", "measure": "essential sparsity sst2"}
    rows = [
        base | {"tensor": "all", "group": group, "training": f"{group}{i}", "model": f"{group}{i}-{position}"}
        | {"position": float(position), "value": value and value + 0.001 * i, "beyond": beyond}
        for group, own in values.items()
        for i in range(trainings)
        for position, (value, beyond) in enumerate(own)
    ]  # fmt: skip
    rows += [
        row | other | {"value": 9.0, "beyond": None} for row in rows for other in ({"measure": "std"}, {"series": "t"})
    ]
    a, b = values
    pair = base | {"tensor": "all", "group_a": a, "group_b": b, "n_trainings_a": trainings, "n_trainings_b": trainings}
    return {"contrasts": rows_of("contrasts", pair), "trajectory": rows_of("trajectory", *rows)}


def test_no_verdict_rests_on_leaving_out_checkpoints_whose_curves_do_not_drop():
    """By the first checkpoint alone more data would be sparser; what the second of less data is from 0.9 to 1 decides it."""
    shipped = next(claim for claim in SHIPPED if claim["claim"] == "more-data-more-small")
    claim = shipped | {"where": {"measure": "essential sparsity *", "more_data": True}}
    more, less = "1B words", "100M words"
    row, (piece,) = judged(claim, reached({more: [(0.6, None), (0.6, None)], less: [(0.4, None), (0.4, None)]}))
    assert (row["verdict"], piece["note"]) == (SUPPORTED, None)
    row, (piece,) = judged(claim, reached({more: [(0.3, None), (0.3, None)], less: [(0.4, None), (None, 0.9)]}))
    assert row["verdict"] == NOT_SUPPORTED, "about (0.3 + 0.3 − 0.4 − 1) / 2 to (0.3 + 0.3 − 0.4 − 0.9) / 2"
    assert piece["estimate"] is None
    assert piece["low"] < -0.4
    assert -0.35 < piece["high"] < 0
    assert piece["note"].startswith("of 1 of 2 checkpoints some essential sparsity lies beyond the last level")
    row, _ = judged(claim, reached({more: [(0.95, None)], less: [(None, 0.9)]}))
    assert row["verdict"] == UNDECIDED
    row, _ = judged(claim, reached({more: [(None, 0.9)], less: [(None, 0.9)]}))
    assert row["verdict"] == UNDECIDED
    row, _ = judged(claim, reached({more: [(None, None)], less: [(None, None)]}))
    assert row["verdict"] == NOT_TESTABLE


def test_trainings_that_do_not_drop_may_differ_by_all_that_lies_beyond_the_last_level():
    """Were they taken for alike, the interval would be that of the others' spread alone."""
    shipped = next(claim for claim in SHIPPED if claim["claim"] == "more-data-more-small")
    claim = shipped | {"where": {"measure": "essential sparsity *", "more_data": True}}
    row, (piece,) = judged(claim, reached({"1B words": [(None, 0.9)], "100M words": [(0.5, None)]}, trainings=2))
    assert row["verdict"] == UNDECIDED
    for last in itertools.product((0.9, 0.95, 1.0), repeat=2):
        one = ttest_ind(last, [0.5, 0.501], equal_var=False).confidence_interval()
        assert piece["low"] <= one.low < one.high <= piece["high"]


@pytest.mark.parametrize("pieces", [1, 5])
def test_a_contrast_of_trainings_among_others_holds_for_all_by_welch(pieces):
    """With three trainings a group a t interval at a fifth of 5 % is far wider than a normal one."""
    found = reached({"a": [(0.6, None)], "b": [(0.4, None)]})
    (piece,) = training_evidence.contrasts({}, "difference", found["contrasts"], found)
    values = ([start + 0.001 * i for i in range(3)] for start in (0.6, 0.4))
    told = ttest_ind(*values, equal_var=False).confidence_interval(1 - 0.05 / pieces)
    assert piece.widened(pieces) == pytest.approx((told.low, told.high))


@pytest.mark.parametrize("scale", [1e-200, 1e-90, 1e80, 1e300])
def test_welch_s_interval_is_the_same_in_any_unit(scale):
    """Squares of perplexities above 1e154 overflow, fourth powers above 1e77, and those of small losses are nothing."""
    a, b = np.array([0.6, 0.61, 0.64]), np.array([0.4, 0.43])
    estimate, at = pieces_of.welch(a * scale, b * scale, 0.02 * scale, np.array([0.01, 0.02]) * scale)
    one, of_one = pieces_of.welch(a, b, 0.02, np.array([0.01, 0.02]))
    assert estimate == pytest.approx(one * scale)
    assert at(0.05) == pytest.approx([end * scale for end in of_one(0.05)])


def test_trainings_whose_curves_do_not_all_drop_are_neither_abrupt_nor_gradual():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "abrupt")
    base = {"series": "s", "group": "g", "measure": "essential sparsity sst2"}
    claim = claim | {"where": {"measure": base["measure"]}}
    rows = [base | {"training": word, "conclusion": word} for word in ("abrupt", "beyond the levels")]
    row, pieces = judged(claim, {"abruptness": rows_of("abruptness", *rows)})
    assert (row["verdict"], [piece["agrees"] for piece in pieces]) == (UNDECIDED, ["for", "neither"])
    assert "do not drop up to the last level" in pieces[1]["note"]
    known = jumping({ALL: [25.0] * 4, PART: [75.0] * 4})
    more = known["abruptness"][0] | {"training": "another", "conclusion": "beyond the levels", "jump_at": None}
    known["abruptness"].append(more)
    row, (piece,) = earlier(known)
    assert row["verdict"] == UNDECIDED
    assert "4 of 5 trainings of 100 % of the data jump up" in piece["note"]


EARLIER = next(claim for claim in SHIPPED if claim["claim"] == "more-data-earlier")


def jumping(places: dict[str, list[float | None]], low: float = 0.0, high: float = 0.0) -> dict[str, list[dict]]:
    """Rows of tables: trainings by group that jump up at these places (None: gradually), with checkpoints at every 10.

    Of what plays no part there is enough to be seen if it did: another measure and series, tensors, and what is suspect or null.
    """
    base, (a, b) = {"series": "s", "measure": "below 0.01"}, places
    pair = base | {"tensor": "all", "group_a": a, "group_b": b, "n_trainings_a": 2, "n_trainings_b": 2}
    jumps, along = [], []
    for group, own in places.items():
        for i, at in enumerate(own):
            training = base | {"group": group, "training": f"{group} {i}"}
            known = {"jump_at": at, "jump_at_low": at and at - low, "jump_at_high": at and at + high, "jump": 0.1}
            jumps.append(training | known | {"conclusion": "gradual" if at is None else "abrupt"})
            point = training | {"tensor": "all", "value": 0.3}
            along += [point | {"model": f"{group}{i}-{p}", "position": p} for p in range(0, 100, 10)]
            for p in (29, 31, 39, 41, 49, 51, 59, 61):
                along.append(point | {"model": f"s{group}{i}-{p}", "position": p, "suspect": "repeated"})
                along.append(point | {"model": f"n{group}{i}-{p}", "position": p, "value": None})
                along.append(point | {"model": f"t{group}{i}-{p}", "position": p, "tensor": "q"})
                along.append(point | {"model": f"o{group}{i}-{p}", "position": p, "training": "another"})
            for other in ({"measure": "std"}, {"series": "another"}):
                jumps.append(training | other | {"jump_at": 5.0, "jump": 0.1, "conclusion": "abrupt"})
                along += [row | other for row in along if row["training"] == training["training"]][:1]
    return {"contrasts": [pair], "abruptness": jumps, "trajectory": along}


def earlier(rows: dict[str, list[dict]]) -> tuple[dict, list[dict]]:
    return judged(EARLIER, {table: rows_of(table, *own) for table, own in rows.items()})


ALL, PART = "100 % of the data", "60 % of the data"


def test_more_data_is_earlier_by_where_the_trainings_jump():
    """By hand: Welch on the places, whose variances hold that of a place that is anywhere in its gap."""
    a, b = [25.0, 35.0, 25.0], [75.0, 65.0]
    _, (piece,) = earlier(jumping({ALL: a, PART: b}))
    parts = [(np.var(own, ddof=1) + 5**2 / 3) / len(own) for own in (a, b)]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    half = student.ppf(0.975, freedom) * math.sqrt(sum(parts))
    assert np.allclose([piece["estimate"], piece["low"], piece["high"]], [-125 / 3, -125 / 3 - half, -125 / 3 + half])
    assert piece["unit"] == "that of the axis"
    assert piece["note"] is None
    row, (piece,) = earlier(jumping({ALL: [35.0, 35.0], PART: [45.0, 45.0]}))
    assert row["verdict"] == UNDECIDED, "alike places are no exact ones"
    wide = jumping({ALL: [35.0, 35.0], PART: [45.0, 45.0]}, low=10.0, high=20.0)
    half = student.ppf(0.975, 2) * 25 / math.sqrt(3)  # to the checkpoint beyond the farther end
    assert np.isclose(earlier(wide)[1][0]["high"], -10 + half)
    row, _ = earlier(jumping({ALL: [25.0] * 4, PART: [75.0] * 4}))
    assert row["verdict"] == SUPPORTED
    row, _ = earlier(jumping({ALL: [75.0] * 4, PART: [25.0] * 4}))
    assert row["verdict"] == NOT_SUPPORTED


def test_trainings_that_do_not_jump_up_are_no_jumps():
    row, (piece,) = earlier(jumping({ALL: [25.0, 25.0, 25.0, None], PART: [75.0, 75.0, 75.0]}))
    assert (row["verdict"], piece["agrees"]) == (UNDECIDED, "neither")
    assert piece["note"].endswith("where they would is not known; 3 of 4 trainings of 100 % of the data jump up")
    row, (piece,) = earlier(jumping({ALL: [25.0, None], PART: [75.0, 65.0]}))
    assert (row["verdict"], piece["low"], piece["high"]) == (UNDECIDED, -60.0, -30.0)
    assert piece["note"].startswith("one training of a group")
    row, (piece,) = earlier(jumping({ALL: [25.0, 35.0], PART: [75.0, None]}))
    assert (piece["estimate"], piece["low"], piece["high"]) == (-45.0, -60.0, -30.0)
    row, evidence = earlier(jumping({ALL: [None, None], PART: [75.0, 75.0]}))
    assert (row["verdict"], evidence) == (NOT_TESTABLE, [])
    assert "1 more has no jump on either side, or on one." in row["because"]
    fallen = jumping({ALL: [25.0, 25.0], PART: [75.0, 75.0]})
    fallen["abruptness"] = [jump | {"jump": -0.1} for jump in fallen["abruptness"]]
    assert earlier(fallen)[0]["verdict"] == NOT_TESTABLE, "weights that become less sparse"
    few = jumping({ALL: [25.0] * 4, PART: [75.0] * 4})
    more = few["abruptness"][0] | {"training": "short", "conclusion": "too few checkpoints", "jump_at": None}
    few["abruptness"].append(more)
    assert earlier(few)[0]["verdict"] == SUPPORTED, "of a short training nothing is said"


def test_chance_of_a_false_word_about_jumps_is_small():
    """Five shares of the data that jump alike, two trainings each, at the width of a gap or several: seldom called earlier."""
    generator = np.random.default_rng(0)
    found = 0
    for spread in (10, 20):
        for _ in range(40):
            rows = {"contrasts": [], "abruptness": [], "trajectory": []}
            places = {
                f"{share} % of the data": 10 * np.round(generator.normal(50, spread, 2) / 10) + 5
                for share in range(60, 110, 10)
            }
            for b, a in itertools.combinations(places, 2):
                made = jumping({a: list(places[a]), b: list(places[b])})
                rows["contrasts"] += made["contrasts"]
                rows["abruptness"] += made["abruptness"]
                rows["trajectory"] += made["trajectory"]
            rows = {
                table: [json.loads(each) for each in {json.dumps(row): 1 for row in own}] for table, own in rows.items()
            }
            found += earlier(rows)[0]["verdict"] == SUPPORTED
    assert found / 80 < 0.05


def test_tasks_of_better_models_are_those_that_the_presets_have():
    (claim,) = (claim for claim in SHIPPED if claim["claim"] == "more-data-better")
    tasks = set()
    for path in (ROOT / "config").glob("emergence-*.yaml"):
        tasks |= {task for block in yaml.safe_load(path.read_text()).get("grid") or [] for task in block["tasks"]}
    assert set(claim["where"]["measure"]) <= {f"dense {task}" for task in tasks}


def resample_of(curve: dict, levels: list[float], outside: np.ndarray) -> dict:
    """A row of the table of resamples of a curve: the place of the first level that is out, of each."""
    row = {name: curve[name] for name in ("model", "task", "pattern", "metric", "essential_sparsity")}
    place = int(np.median(outside))
    row |= {"bracket_low": levels[place - 1], "bracket_high": levels[place], "levels": json.dumps(levels)}
    return row | {"outside": json.dumps(outside.tolist()), "stream": "s"}


def test_pairs_of_curves_hold_for_all_pieces_by_their_resamples():
    """Read either way round: a less b, at a level of 5 % over the pieces."""
    claim = next(claim for claim in SHIPPED if claim["claim"] == "bert-over-opt")
    row = {
        "metric": "accuracy", "between": "model", "model_a": "opt-125m", "model_b": "bert-base", "pattern_a": "global",
        "pattern_b": "global", "n_replicates": 1000, "difference": -0.3, "low": -0.5, "high": -0.1,
    }  # fmt: skip
    levels, early = [0.0, 0.1, 0.2, 0.4, 0.6], np.full(1000, 1)
    late = np.where(
        np.arange(1000) < 20, 2, 4
    )  # 2 % of the resamples drop in the second gap: rare for one piece, not for two
    rows, curves, resamples = [], [], []
    for task in ("t0", "t1"):
        rows.append(row | {"task": task})
        for model, outside in (("bert-base", late), ("opt-125m", early)):
            curves.append(knee(model, task))
            resamples.append(resample_of(curves[-1], levels, outside))
    found = {"comparisons": rows_of("comparisons", *rows), "knees": rows_of("knees", *curves)}
    found["resamples"] = rows_of("resamples", *resamples)
    _, evidence = judged(claim, found)
    for piece in evidence:
        assert piece["evidence"].endswith("bert-base less opt-125m")
        assert np.allclose([piece["low"], piece["high"]], [0.1, 0.5])
        assert np.allclose([piece["low_all"], piece["high_all"]], [0.0, 0.6])


def test_pairs_of_tasks_hold_for_all_pieces_by_their_resamples():
    claim = EVERY | {"pairs": "task", "expect": {"above": 0.1}, "over": "some"}
    levels, curves = (
        [0.0, 0.2, 0.3, 0.5, 0.6],
        [knee(task="a", low=0.5, high=0.6), *(knee(task=t, low=0.2, high=0.3) for t in "bc")],
    )
    outside = [np.full(1000, 4), *(np.where(np.arange(1000) < 20, 3, 2) for _ in "bc")]
    resamples = [resample_of(curve, levels, own) for curve, own in zip(curves, outside, strict=True)]
    found = {"knees": rows_of("knees", *curves), "resamples": rows_of("resamples", *resamples)}
    row, evidence = judged(claim, found)
    ends = {piece["evidence"][-8:]: (piece["low"], piece["low_all"], piece["high_all"]) for piece in evidence}
    assert np.allclose(ends["a less b"], (0.2, 0.0, 0.4))
    assert row["verdict"] == UNDECIDED


@pytest.mark.parametrize("column", ["a", "b"])
def test_one_seed_of_either_curve_of_a_pair_decides_nothing(column):
    claim = next(claim for claim in SHIPPED if claim["claim"] == "sparsegpt-extends")
    row = {
        "task": "t", "metric": "accuracy", "between": "pattern", "model_a": "m", "model_b": "m", "pattern_a": "global",
        "pattern_b": "sparsegpt", "difference": -0.2, "low": -0.3, "high": -0.1, "n_replicates": 9,
    }  # fmt: skip
    curves = [knee("m", "t", row[f"pattern_{s}"], seeds=1 if s == column else 2) for s in "ab"]
    found = {"comparisons": rows_of("comparisons", row), "knees": rows_of("knees", *curves)}
    verdict, (piece,) = judged(claim, found)
    assert (verdict["verdict"], piece["agrees"]) == (UNDECIDED, "neither")
    assert "one seed" in piece["note"]
    lone = {**found, "comparisons": rows_of("comparisons", row | {"low": None, "high": None, "n_replicates": 0})}
    assert judged(claim, lone)[0]["verdict"] == NOT_TESTABLE
    tasks = EVERY | {"pairs": "task"}
    both = rows_of("knees", *(knee(task=t, low=low, high=low + 0.1, seeds=n) for t, low, n in
                              (("a", 0.7, 1 if column == "a" else 2), ("b", 0.1, 1 if column == "b" else 2))))  # fmt: skip
    assert judged(tasks, {"knees": both})[0]["verdict"] == UNDECIDED


def test_other_metrics_than_the_headline_are_no_evidence():
    perplexity = {"metric": "perplexity", "headline": False}
    row, evidence = judged(EVERY, {"knees": rows_of("knees", knee(), knee(low=0.0, high=0.1, **perplexity))})
    assert (row["verdict"], len(evidence)) == (SUPPORTED, 1)
    base = {"model": "minilm", "task": "t", "pattern_a": "lth", "pattern_b": "global"}
    level = {"sparsity_from": 0.6, "sparsity_to": 0.6, "n_levels": 1, "n_seeds": 2}
    good, bad = ({"difference": v, "low": v - 0.001, "high": v + 0.001} for v in (0.1, -0.1))
    curves = [knee(task="t", pattern=p, **more) for p in ("lth", "global") for more in ({}, perplexity)]
    rows = [base | level | {"metric": "accuracy"} | good, base | level | {"metric": "perplexity"} | bad]
    claim = next(claim for claim in SHIPPED if claim["claim"] == "tickets-win-above")
    found = {"differences": rows_of("differences", *rows), "knees": rows_of("knees", *curves)}
    assert judged(claim, found)[0]["verdict"] == SUPPORTED
    pair = {"task": "t", "between": "pattern", "model_a": "minilm", "model_b": "minilm", "n_replicates": 9}
    pair |= {"pattern_a": "lth", "pattern_b": "global"}
    rows = [pair | {"metric": "accuracy"} | good, pair | {"metric": "perplexity"} | bad]
    of = EVERY | {"table": "comparisons", "where": {"pattern_a": "lth"}, "expect": {"above": 0}}
    found = {"comparisons": rows_of("comparisons", *rows), "knees": rows_of("knees", *curves)}
    assert judged(of, found)[0]["verdict"] == SUPPORTED


def test_differences_are_in_tolerances_of_their_own_task():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "random-far-below")
    row = {"model": "minilm", "metric": "accuracy", "pattern_a": "random", "pattern_b": "global", "sparsity_from": 0.6}
    row |= {"sparsity_to": 0.6, "n_levels": 1, "n_seeds": 2, "difference": -0.1, "low": -0.12, "high": -0.08}
    curves = [knee(task=t, pattern=p, epsilon=e) for t, e in (("a", 0.01), ("b", 0.05)) for p in ("random", "global")]
    rows = [row | {"task": task} for task in "ab"]
    _, (a, b) = judged(claim, {"differences": rows_of("differences", *rows), "knees": rows_of("knees", *curves)})
    assert np.allclose([a["estimate"], a["low"], a["high"]], [-10, -12, -8])
    assert np.allclose([b["estimate"], b["low"], b["high"]], [-2, -2.4, -1.6])
    assert a["unit"] == "tolerances"


def test_models_are_the_sample_of_groups_each_with_its_mean():
    """By hand: two means a side, Welch's degrees of freedom."""
    ratios = {"vit-base": [20.0, 40.0], "dino-base": [90.0], "bert-base": [2.0, 3.0, 5.0], "opt-125m": [11.0]}
    curves = [
        knee(m, task=f"t{i}", slope_ratio=r, slope_after=-1.0) for m, own in ratios.items() for i, r in enumerate(own)
    ]
    _, (piece,) = judged(SHARPER, {"knees": rows_of("knees", *curves)})
    means = {model: np.mean(np.log(own)) for model, own in ratios.items()}
    a, b = ([means[m] for m in names] for names in (("vit-base", "dino-base"), ("bert-base", "opt-125m")))
    expected = ttest_ind(a, b, equal_var=False)
    assert np.isclose(piece["estimate"], np.mean(a) - np.mean(b))
    assert np.allclose([piece["low"], piece["high"]], expected.confidence_interval())
    assert "(2 models)" in piece["evidence"]


GROUPS = EVERY | {"groups": {"column": "type", "a": ["vision"], "b": ["encoder", "decoder"]}, "expect": {"above": 0}}


def undropped(model: str, last: float = 0.9, **more) -> dict:
    """A row of the table of knees of a curve that does not drop up to its last level."""
    none = dict.fromkeys(("essential_sparsity", "essential_sparsity_high", "bracket_high"))
    return knee(model, low=last, high=last, bracket_low=last, no_drop=True, last_compliant=last) | none | more


@pytest.mark.parametrize("read", ["essential_sparsity", "last_compliant"])
def test_models_that_do_not_drop_are_of_their_group_wherever_they_would(read):
    """Left out, they would turn the verdict round: the others of their kind drop early."""
    claim = GROUPS | {"read": read}
    points = {"vit-base": 0.5, "deit-base": 0.51, "bert-base": 0.3, "opt-125m": 0.31}
    early = [knee(model, essential_sparsity=x, last_compliant=x) for model, x in points.items()]
    assert judged(claim, {"knees": rows_of("knees", *early)})[0]["verdict"] == SUPPORTED
    late = [undropped("minilm"), undropped("opt-350m", 0.8), undropped("vicuna-7b")]
    row, (piece,) = judged(claim, {"knees": rows_of("knees", *early, *late)})
    assert row["verdict"] == UNDECIDED
    assert piece["note"] == "3 of 5 curves of encoder and decoder do not drop up to 80–90 %"
    assert piece["evidence"].endswith("encoder and decoder (5)")
    assert pd.isna(piece["estimate"])
    assert pd.isna(piece["low"])
    all_late = [*early[:2], *(undropped(model) for model in ("minilm", "opt-350m", "vicuna-7b", "opt-125m"))]
    row, (piece,) = judged(claim, {"knees": rows_of("knees", *all_late)})
    assert row["verdict"] == NOT_SUPPORTED, "wherever from 90 to 100 % they drop, vision models drop before"
    assert piece["high"] < 0


def test_models_that_share_a_level_of_the_grid_show_no_spread():
    """Two of 50 % and two of 30 % would else differ by exactly 20 points, whatever other models do."""
    for read in ("last_compliant", "kneedle"):
        points = {"vit-base": 0.5, "deit-base": 0.5, "bert-base": 0.3, "opt-125m": 0.3}
        curves = [knee(model, **{read: level}) for model, level in points.items()]
        row, (piece,) = judged(GROUPS | {"read": read}, {"knees": rows_of("knees", *curves)})
        assert (row["verdict"], round(piece["estimate"], 9)) == (UNDECIDED, 0.2)
        assert pd.isna([piece["low"], piece["high"]]).all()
        means = [knee(model, task=task, **{read: 0.1}) for model in ("vit-base", "bert-base") for task in "abc"]
        ones = [knee(model, **{read: 0.1}) for model in ("deit-base", "opt-125m")]
        _, (piece,) = judged(GROUPS | {"read": read}, {"knees": rows_of("knees", *means, *ones)})
        assert pd.isna([piece["low"], piece["high"]]).all(), "a mean of the same level may differ from it by rounding"


def test_models_that_are_back_at_their_last_level_are_compliant_there_or_beyond():
    claim = GROUPS | {"read": "last_compliant", "expect": {"below": 0.9}}
    points = {"vit-base": 0.9, "deit-base": 0.9, "bert-base": 0.3, "opt-125m": 0.31}
    curves = {model: knee(model, low=0.2, high=0.3, last_compliant=x) for model, x in points.items()}
    resamples = [{name: row[name] for name in CURVE} | {"levels": json.dumps([0, 0.3, 0.9])} for row in curves.values()]
    found = {"knees": rows_of("knees", *curves.values()), "resamples": rows_of("resamples", *resamples)}
    row, (piece,) = judged(claim, found)
    assert piece["note"] == "2 of 2 curves of vision are back within the tolerance at 90 %"
    assert row["verdict"] == UNDECIDED
    assert pd.isna(piece["estimate"])
    assert pd.isna(piece["high"])
    assert not pd.isna(piece["low"])
    early = {"knees": found["knees"].assign(last_compliant=found["knees"]["last_compliant"] - 0.1)}
    assert judged(claim, found | early)[0]["verdict"] == SUPPORTED


def test_a_curve_without_runs_has_no_last_level():
    """All of its runs are missing, and the tables of the others are made."""
    claim = GROUPS | {"read": "last_compliant"}
    points = {"vit-base": 0.9, "deit-base": 0.9, "bert-base": 0.3, "opt-125m": 0.31}
    curves = {model: knee(model, last_compliant=x) for model, x in points.items()}
    none = ("essential_sparsity", "essential_sparsity_low", "essential_sparsity_high", "last_compliant")
    lost = knee("minilm") | dict.fromkeys(none)
    resamples = [
        {name: row[name] for name in CURVE} | {"levels": json.dumps([0, 0.3, 0.9] if row is not lost else [])}
        for row in (*curves.values(), lost)
    ]
    found = {"knees": rows_of("knees", *curves.values(), lost), "resamples": rows_of("resamples", *resamples)}
    whole = judged(claim, {"knees": rows_of("knees", *curves.values()), "resamples": found["resamples"].iloc[:-1]})
    assert judged(claim, found)[0]["verdict"] == whole[0]["verdict"]


@pytest.mark.parametrize(
    ("more", "verdict"),
    [
        ({}, UNDECIDED),
        ({"protocol": "zero-shot"}, SUPPORTED),
        ({"protocol": "zero-shot", "pattern": "random"}, UNDECIDED),
        ({"slope_ratio": None}, SUPPORTED),  # it is no evidence
    ],
)
def test_one_seed_of_a_curve_in_groups_decides_nothing(more, verdict):
    """As of one curve and of pairs: all models of a task may have drawn the same training subset."""
    claim = SHARPER | {"where": {}}
    ratios = {"vit-base": 30.0, "dino-base": 20.0, "bert-base": 2.0, "opt-125m": 3.0}
    curves = [knee(model, slope_ratio=ratio, slope_after=-1.0) for model, ratio in ratios.items()]
    one = knee("bert-base", task="t", seeds=1, **{"slope_ratio": 2.5, "slope_after": None} | more)
    row, (piece,) = judged(claim, {"knees": rows_of("knees", *curves, one)})
    assert row["verdict"] == verdict
    assert (piece["note"] == ONE_SEED) == (verdict == UNDECIDED)


def test_the_closed_end_of_groups_holds_wherever_curves_drop_that_do_not():
    generator = np.random.default_rng(0)
    for _ in range(40):
        last = [generator.choice([0.6, 0.8, 0.9]) for _ in range(generator.integers(1, 4))]
        known = dict(
            zip(("vit-base", "deit-base", "opt-125m", "opt-350m"), generator.uniform(0.2, 0.95, 4), strict=True)
        )
        curves = [knee(model, essential_sparsity=value) for model, value in known.items()]
        more = [undropped(model, at) for model, at in zip(("minilm", "bert-base", "vicuna-7b"), last, strict=False)]
        high = judged(GROUPS, {"knees": rows_of("knees", *curves, *more)})[1][0]["high"]
        a = [value for model, value in known.items() if TYPES[model] == "vision"]
        rest = [value for model, value in known.items() if TYPES[model] != "vision"]
        for _ in range(20):
            b = [*rest, *generator.uniform(last, 1)]
            assert ttest_ind(a, b, equal_var=False).confidence_interval().high <= high + 1e-9


def test_fewer_pieces_than_a_claim_speaks_of_decide_nothing():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "bert-free")
    for tasks, verdict in (("a", NOT_TESTABLE), ("ab", SUPPORTED)):
        found = {"knees": rows_of("knees", *(knee("bert-base", task) for task in tasks))}
        row, _ = judged(claim, found)
        assert row["verdict"] == verdict
        assert row["n_evidence"] == len(tasks)
        assert ("1 piece of evidence, where 2 are needed" in row["because"]) is (verdict == NOT_TESTABLE)


def test_runs_that_are_missing_are_told():
    _, (piece,) = judged(EVERY, {"knees": rows_of("knees", knee(n_missing=3))})
    assert piece["note"] == "3 runs missing"


def test_a_pair_tells_the_notes_of_both_curves():
    claim = EVERY | {"pairs": "task"}
    for missing, told in ((2, "it does not drop; 2 runs missing"), (0, "it does not drop")):
        curves = [undropped("minilm", task="a"), knee(task="b", n_missing=missing)]
        _, (piece,) = judged(claim, {"knees": rows_of("knees", *curves)})
        assert piece["note"] == told
    curves = [knee(task=task, n_missing=count) for task, count in (("a", 2), ("b", 3))]
    _, (piece,) = judged(claim, {"knees": rows_of("knees", *curves)})
    assert piece["note"] == "2 runs missing; 3 runs missing"


def test_of_a_curve_that_does_not_drop_nothing_is_known_without_a_lower_end():
    row, evidence = judged(EVERY, {"knees": rows_of("knees", undropped("minilm", essential_sparsity_low=None))})
    assert (row["verdict"], evidence) == (NOT_TESTABLE, [])
    assert "1 more has no interval" in row["because"]


def test_an_unknown_lower_end_is_no_lower_end():
    """Null is beyond what was measured, not 0."""
    row = knee(low=0.0, high=0.3) | {"last_compliant": 0.3, "last_compliant_low": None, "last_compliant_high": 0.4}
    for expect, agrees in (({"above": 0}, "neither"), ({"below": 0.5}, "for")):
        _, (piece,) = judged(EVERY | {"read": "last_compliant", "expect": expect}, {"knees": rows_of("knees", row)})
        assert piece["agrees"] == agrees
        assert pd.isna(piece["low"])
    row |= {"last_compliant_low": 0.3, "last_compliant_high": None}
    _, (piece,) = judged(EVERY | {"read": "last_compliant", "expect": {"below": 1}}, {"knees": rows_of("knees", row)})
    assert piece["agrees"] == "neither"


def test_counts_of_claims_and_what_is_expected_stand_in_the_table():
    curves = [knee(task="a", low=0.05, high=0.19), *(knee(task=f"t{i}") for i in range(9))]
    row, evidence = judged(EVERY, {"knees": rows_of("knees", *curves)})
    assert (row["n_for"], row["n_against"], row["n_against_all"]) == (9, 1, 0)
    assert row["expected_low"] == 0.2
    assert pd.isna(row["expected_high"])
    assert all(piece["low_all"] < piece["low"] < piece["high"] < piece["high_all"] for piece in evidence)
    assert not any(piece["exact"] for piece in evidence)


def test_claims_are_numbered_in_their_order_and_each_has_its_unit():
    reads = {"knee": "essential_sparsity", "ratio": "slope_ratio", "logarithm": "slope_ratio"}
    both = [EVERY | {"claim": name, "read": read} for name, read in reads.items()]
    both[2] |= {"groups": GROUPS["groups"]}
    ratios = {"slope_ratio": 3.0, "slope_ratio_low": 2.0, "slope_ratio_high": 5.0}
    curves = [knee(model, **ratios) for model in ("vit-base", "deit-base", "bert-base", "opt-125m")]
    rows, pieces = claims.judge(both, reads, {"knees": rows_of("knees", *curves)}, KNOWN)
    assert rows["position"].tolist() == [0, 1, 2]
    units = pieces.groupby("claim")["unit"].unique().map(list).to_dict()
    assert units == {"knee": ["sparsity"], "ratio": ["ratio"], "logarithm": ["natural logarithm of the ratio"]}


def test_the_sentences_of_a_verdict_say_every_or_some_and_nothing_of_intervals_where_all_is_counted():
    for over, which in (("every", "every"), ("some", "at least one")):
        row, _ = judged(EVERY | {"over": over}, {"knees": rows_of("knees", knee())})
        assert row["expected"] == f"{which} interval above 0.2 (sparsity)"
    base = {"pattern": "global", "sparsity": 0.2, "n": 1000}
    counts = [("m", "mlp", 700), ("m", "attention", 300), ("n", "mlp", 300), ("n", "attention", 700)]
    rows = [base | {"model": m, "tensor": part, "sublayer": part, "pruned": k} for m, part, k in counts]
    claim = EVERY | {"table": "layers", "expect": {"above": 0.5}}
    assert judged(claim, {"layers": rows_of("layers", *rows)})[0]["because"] == "1 of 2 against it."


def test_masks_are_compared_as_wholes():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "tickets-alike")
    row = {
        "model_a": "m", "model_b": "m", "between": "pattern", "pattern_a": "global", "pattern_b": "lth", "sparsity": 0.2,
        "cosine_kept_chance": 0.8,
    }  # fmt: skip
    rows = [row | {"scope": "model", "cosine_kept": 0.97}, row | {"scope": "layer", "part": "0", "cosine_kept": 0.5}]
    verdict, (piece,) = judged(claim, {"similarity": rows_of("similarity", *rows)})
    assert verdict["verdict"] == SUPPORTED
    assert piece["exact"]


def test_a_curve_that_does_not_drop_has_no_sharp_or_gradual_drop():
    claim = next(claim for claim in SHIPPED if claim["claim"] == "sharp-drop")
    flat = knee(shape="smooth", evidence_hinge=0.01, no_drop=True)
    row, evidence = judged(claim, {"knees": rows_of("knees", flat)})
    assert row["verdict"] == NOT_TESTABLE
    assert not evidence
    row, _ = judged(claim, {"knees": rows_of("knees", flat | {"no_drop": False})})
    assert row["verdict"] == NOT_SUPPORTED


def test_where_a_curve_that_does_not_drop_bends_and_how_sharply_is_no_evidence():
    ends = {
        f"{read}{end}": 0.6
        for read in ("slope_ratio", "kneedle", "hinge", "last_compliant")
        for end in ("", "_low", "_high")
    }
    for read in ("slope_ratio", "kneedle", "hinge"):
        claim = EVERY | {"read": read, "expect": {"within": [0.5, 0.7]}}
        row, evidence = judged(claim, {"knees": rows_of("knees", undropped("minilm", **ends))})
        assert (row["verdict"], evidence) == (NOT_TESTABLE, [])
        assert "1 more has no interval, or no drop" in row["because"]
        assert judged(claim, {"knees": rows_of("knees", knee(**ends))})[0]["verdict"] == SUPPORTED
    claim = EVERY | {"read": "last_compliant", "expect": {"below": 0.95}}
    row, (piece,) = judged(claim, {"knees": rows_of("knees", undropped("minilm", 0.6, **ends))})
    assert (row["verdict"], piece["low"], piece["note"]) == (UNDECIDED, 0.6, "it does not drop")
    assert pd.isna(piece["estimate"])
    assert pd.isna(piece["high"])


def test_ratios_of_curves_that_do_not_drop_are_not_in_their_groups():
    flat = [undropped(model, slope_ratio=90.0, slope_after=-1.0) for model in ("minilm", "opt-350m")]
    row, (piece,) = grouped(*flat)
    assert row["verdict"] == SUPPORTED
    assert piece["note"] == "2 of 4 curves of encoder and decoder do not drop up to 90 %: no evidence"
    vision = [knee(model, slope_ratio=30.0) for model in ("vit-base", "dino-base")]
    row, _ = judged(SHARPER, {"knees": rows_of("knees", *vision, *flat)})
    assert row["verdict"] == NOT_TESTABLE
    assert "no interval, or no drop" in row["because"]


def test_probes_are_drawn_as_training_is():
    assert judged(EVERY, {"knees": rows_of("knees", knee(seeds=1, protocol="probe"))})[0]["verdict"] == UNDECIDED


def test_curves_of_two_patterns_are_no_pair_of_tasks():
    curves = [knee(task="a", pattern="global"), knee(task="b", pattern="nm4")]
    claim = EVERY | {"pairs": "task", "where": {"type": "encoder"}}
    assert judged(claim, {"knees": rows_of("knees", *curves)})[0]["verdict"] == NOT_TESTABLE


def test_amounts_of_data():
    assert series.amount("100 % of the data") > series.amount("50 % of the data")
    assert series.amount("1B words") == 10 * series.amount("100M words") == 1e9
    assert math.isnan(series.amount("supervised"))
    read = {
        "1,000 images": 1e3,
        "1 500 images": 1.5e3,
        "1.5 million": 1.5e6,
        "2 billion": 2e9,
        "100 K": 1e5,
        "900k": 9e5,
        "2e6": 2e6,
    }
    assert {group: series.amount(group) for group in read} == read
    assert series.amount("1,000 images") > series.amount("500 images")
    for unclear in ("0,5 %", "1.000.000 images", "1,50 images"):
        assert math.isnan(series.amount(unclear)), unclear


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"table": "kness"}, "did you mean 'knees'"),
        ({"read": "essential"}, "no reading 'essential'"),
        ({"where": {"patern": "global"}}, "did you mean 'pattern'"),
        ({"where": {"pattern": "gobal"}}, "did you mean 'global'"),
        ({"where": {"pattern": ["global", "nm1"]}}, "at least 2 inputs"),
        ({"where": {"type": "encodr"}}, "did you mean 'encoder'"),
        ({"where": {"metric": "acuracy"}}, "did you mean 'accuracy'"),
        ({"where": {"n_levels": "3"}}, "where.n_levels: '3'; a whole number"),
        ({"where": {"headline": 1}}, "where.headline: 1; a yes or no"),
        ({"where": {"model": True}}, "where.model: True; a text"),
        ({"where": {"epsilon": True}}, "where.epsilon: True; a number"),
        ({"table": "comparisons", "where": {"pattern_b": "gobal"}}, "where.pattern_b: unknown pattern 'gobal'"),
        ({"expect": {"word": "hinge"}}, "above, below or within"),
        ({"read": "shape"}, "word: one of hinge, smooth"),
        ({"read": "shape", "expect": {"word": "hinge"}, "pairs": "task"}, "either pairs or groups, of numbers"),
        ({"read": "shape", "expect": {"word": "abrupt"}}, "shape takes word: one of hinge, smooth; got word: 'abrupt'"),
        ({"table": "layers", "pairs": "model"}, "either pairs or groups, of numbers of the table knees"),
        ({"expect": {"within": [0.2, 0.1]}}, "expect.within"),
        ({"expect": {"within": [0.2, 0.2]}}, "expect.within"),
        ({"levels": [0.1, 0.5]}, "levels"),
        ({"table": "layers", "levels": [0.5, 0.1]}, "levels: [lowest, highest] sparsity"),
        ({"pairs": "task", "groups": {"column": "type", "a": ["vision"], "b": ["encoder"]}}, "either pairs or groups"),
        ({"groups": {"column": "type", "a": ["visoin"], "b": ["encoder"]}}, "groups.type: there is no 'visoin'"),
        ({"groups": {"column": "type", "a": ["encoder"], "b": ["visoin"]}}, "groups.type: there is no 'visoin'"),
        ({"groups": {"column": "tpye", "a": ["encoder"], "b": ["vision"]}}, "did you mean 'type'"),
        ({"groups": {"column": "type", "a": ["encoder"], "b": ["encoder", "decoder"]}}, "'encoder' stands in both"),
        ({"groups": {"column": "model", "a": ["vit-base"], "b": ["opt-*"]}}, "groups.model: 'opt-*'; a kind names"),
        ({"over": "most"}, "over"),
        ({"expect": {"above": 0, "below": 1}}, "expect"),
    ],
)
def test_wrong_claims_are_refused_by_name(tmp_path, change, told):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [EVERY | change]}), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        asked.read(str(path))
    assert str(path) in str(error.value)
    assert told in str(error.value)


def test_one_level_alone_may_be_asked_for(tmp_path):
    path = tmp_path / "claims.yaml"
    claim = EVERY | {"table": "layers", "levels": [0.5, 0.5]}
    path.write_text(yaml.safe_dump({"claims": [claim]}), encoding="utf-8")
    assert asked.read(str(path)) == [claim]


def test_what_no_row_has_is_named():
    """A misspelt model is no claim that waits for ever without a word."""
    found = {"knees": rows_of("knees", knee())}
    row, _ = judged(EVERY | {"where": {"pattern": "global", "model": ["bert-bse", "mini*x"]}}, found)
    assert row["because"].startswith("No row of the table knees has model bert-bse or mini*x.")
    row, _ = judged(EVERY | {"where": {"pattern": "lth", "type": "vision"}}, found)
    assert row["because"].startswith("No row of the table knees has pattern lth, nor one type vision.")
    groups = {"column": "model", "a": ["bert-bse"], "b": ["minilm", "opt-125m"]}
    row, _ = judged(EVERY | {"groups": groups}, found)
    assert row["because"].startswith("No row of the table knees has model bert-bse.")
    row, _ = judged(EVERY, {"knees": rows_of("knees", knee(headline=False))})
    assert row["because"].startswith("No row of the table knees is evidence.")


def test_a_claim_that_stands_there_twice_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [EVERY, EVERY]}), encoding="utf-8")
    with pytest.raises(ConfigError, match="twice"):
        asked.read(str(path))


def test_tables_hold_and_the_page_escapes_what_users_type(tmp_path):
    told = EVERY | {"says": "<script>alert(1)</script>"}
    every = [told, *(claim for claim in SHIPPED if claim["claim"] in ("abrupt", "mlp-holds-most"))]
    found = {"knees": rows_of("knees", knee(), knee(task="<b>"))}
    found |= evidence_of(every[1], [(0.7, 0)] if every[1]["table"] == "layers" else [], ["abrupt"])
    found |= evidence_of(every[2], [(0.7, 0)] if every[2]["table"] == "layers" else [], ["abrupt"])
    rows, evidence = claims.judge(every, {claim["claim"]: asked.reading(claim) for claim in every}, found, KNOWN)
    for name, frame in (("claims", rows), ("evidence", evidence)):
        tables.write(frame, name, tmp_path / f"{name}.parquet")
    page, of_one, of_two = (
        pages.page(
            *(tables.read(tmp_path / f"{name}.parquet", name) for name in ("claims", "evidence")),
            count,
            "my-study",
            ROOT / "workflow/report/claims.html.jinja",
        )
        for count in (0, 1, 2)
    )
    assert "missing" not in page
    assert "1 run of this study is missing" in of_one
    assert "2 runs of this study are missing" in of_two
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page
    assert page.count("<svg") == 2 + 0 + page.count('class="plot"><svg') - 2
    assert ">word</th>" not in page, "what is a word has no number"
    assert "src=" not in page
    assert "http" not in page


@pytest.mark.parametrize(("low", "high", "lines"), [(0.2, 0.6, 1), (0.2, math.nan, 1), (math.nan, math.nan, 0)])
def test_a_number_whose_interval_is_unknown_is_drawn_as_a_point(low, high, lines):
    piece = {"evidence": "a", "agrees": "neither", "note": None, "unit": "sparsity", "exact": False}
    (shown,) = pages._shown([piece | {"estimate": 0.4, "low": low, "high": high}], 0.5, None)
    assert (shown["plot"]["line"] is not None) == bool(lines)
    assert bool(shown["interval"]) == bool(lines)


def test_a_curve_of_uncertain_shape_says_so():
    (claim,) = (claim for claim in SHIPPED if claim["claim"] == "sharp-drop")
    curve = knee(shape=None, evidence_hinge=0.5, evidence_power=0.5)
    row, evidence = judged(claim, {"knees": rows_of("knees", curve)})
    assert row["because"].startswith("The evidence allows both: 0 of 1 for it")
    assert [piece["note"] for piece in evidence] == ["no kind of shape has nine tenths of the evidence"]


def test_levels_far_apart_are_told_beside_a_number_between_them():
    (claim,) = (claim for claim in SHIPPED if claim["claim"] == "free-weights")
    for ends, note in (
        ((0.3, 0.5), "between levels of 30–50 %"),
        ((0.35, 0.45), None),
        ((0.3, 0.475), "between levels of 30–47.5 %"),
    ):
        curve = knee(bracket_low=ends[0], bracket_high=ends[1])
        _, (piece,) = judged(claim | {"where": {}}, {"knees": rows_of("knees", curve)})
        assert piece["note"] == note


def test_the_shape_of_one_seed_of_what_is_drawn_is_neither_for_nor_against():
    (claim,) = (claim for claim in SHIPPED if claim["claim"] == "sharp-drop")
    for drawn in ({"protocol": "probe"}, {"pattern": "random", "protocol": "zero-shot"}):
        for word in ("smooth", "hinge"):
            curve = knee(shape=word, evidence_hinge=0.5, seeds=1, **drawn)
            row, (piece,) = judged(claim | {"where": {}}, {"knees": rows_of("knees", curve)})
            assert (row["verdict"], piece["note"]) == (UNDECIDED, f"it is {word}; {ONE_SEED}")
    curve = knee(shape="smooth", evidence_hinge=0.05, seeds=1, protocol="zero-shot")
    assert judged(claim, {"knees": rows_of("knees", curve)})[0]["verdict"] == NOT_SUPPORTED


@pytest.mark.parametrize(
    ("more", "freedom", "limited"),
    [
        ({"protocol": "probe", "seed_freedom": 0}, 1, ONE_SEED),
        ({"protocol": "probe", "seed_freedom": 1}, 1, None),
        ({"protocol": "probe", "seed_freedom": 3}, 3, None),
        ({"protocol": "zero-shot", "pattern": "random", "seed_freedom": 3}, 3, None),
        ({"protocol": "zero-shot", "seed_freedom": 0}, math.inf, None),
        ({"protocol": "zero-shot", "seed_freedom": 1}, math.inf, None),
    ],
)
def test_an_interval_has_the_freedom_of_its_seeds_where_these_draw_anything(more, freedom, limited):
    row = rows_of("knees", knee(hinge=0.4, hinge_low=0.3, hinge_high=0.5, **more)).iloc[0].to_dict()
    piece = evidence._of_curve(row, "hinge", lambda _: None)
    assert (piece.freedom, piece.limited) == (freedom, limited)


def test_a_pair_has_the_freedom_of_the_curve_that_has_less():
    rows = [{"model": "m", "task": task, "pattern": "global"} for task in "ab"]
    pieces = [Piece(task, at, at - 0.1, at + 0.1, freedom=free) for task, at, free in (("a", 0.5, 5), ("b", 0.3, 1))]
    (pair,) = evidence._paired(list(zip(rows, pieces, strict=True)), "task")
    assert (pair.freedom, pair.estimate) == (1, pytest.approx(0.2))


@pytest.mark.parametrize("flat", ["global", "random"])
def test_curves_that_are_flat_past_their_knee_open_the_interval_where_their_models_are_less_sharp(flat):
    """Their ratio is 0, which has no logarithm: of the others alone the mean is too large."""
    ratios = {"global": (8.0, 10.0), "random": (2.0, 3.0)}
    curves = [knee(f"{name}{r}", pattern=name, slope_ratio=r) for name, some in ratios.items() for r in some]
    curves.append(knee("flat", pattern=flat, slope_ratio=0.0, slope_before=-0.1, slope_after=0.0))
    rows = rows_of("knees", *curves).to_dict("records")
    (piece,) = evidence._grouped(rows, "slope_ratio", {}, "pattern", ["global"], ["random"])
    assert piece.estimate == pytest.approx(math.log(80 / 6) / 2)
    assert math.isinf(piece.low) == (flat == "global")
    assert math.isinf(piece.high) == (flat == "random")


def test_of_two_groups_with_as_much_data_neither_has_more():
    names = [("few", "many"), ("few", "as few"), ("few", "unknown")]
    rows = [{"group_a": a, "group_b": b, "difference": 0.1, "low": 0.0, "high": 0.2} for a, b in names]
    known = Known({}, {"few": 1.0, "as few": 1.0, "many": 2.0, "unknown": math.nan}.get)
    found = evidence._readable("contrasts", {"contrasts": pd.DataFrame(rows)}, known)
    assert found.loc[found["more_data"], ["group_a", "group_b"]].to_numpy().tolist() == [["many", "few"]]


@pytest.mark.parametrize(("low", "high", "within"), [(0.1, 0.5, True), (0.1, 0.7, False), (0.05, 0.5, False)])
def test_a_range_that_reaches_beyond_the_levels_of_a_claim_is_no_evidence(low, high, within):
    claim = EVERY | {"table": "differences", "levels": [0.1, 0.5], "where": {}}
    row = {"model": "minilm", "task": "t", "metric": "accuracy", "pattern_a": "lth", "pattern_b": "global"}
    row |= {"sparsity_from": low, "sparsity_to": high, "n_levels": 4, "n_seeds": 2}
    curves = [knee(task="t", pattern=pattern) for pattern in ("lth", "global")]
    found = {"differences": rows_of("differences", row), "knees": rows_of("knees", *curves)}
    assert bool(judged(claim, found)[1]) is within


@pytest.mark.parametrize(
    ("low", "high", "agrees"),
    [(0.1, None, "for"), (None, -0.1, "against"), (None, 0.2, "neither"), (-0.1, None, "neither")],
)
def test_a_comparison_says_what_is_less_what_and_is_open_beyond_the_levels(low, high, agrees):
    claim = EVERY | {"table": "comparisons", "expect": {"above": 0}}
    row = {"task": "t", "metric": "accuracy", "n_replicates": 9, "low": low, "high": high}
    models = row | {
        "between": "model",
        "model_a": "bert-base",
        "model_b": "opt-125m",
        "pattern_a": "global",
        "pattern_b": "global",
    }
    masks = row | {
        "between": "pattern",
        "model_a": "minilm",
        "model_b": "minilm",
        "pattern_a": "sparsegpt",
        "pattern_b": "global",
    }
    curves = [knee(name, "t") for name in ("bert-base", "opt-125m", "minilm")]
    curves.append(knee("minilm", "t", "sparsegpt"))
    found = {"comparisons": rows_of("comparisons", models, masks), "knees": rows_of("knees", *curves)}
    for where, name in (
        ({"model_a": "bert-base"}, "global, t: bert-base less opt-125m"),
        ({"pattern_a": "sparsegpt"}, "minilm, t: sparsegpt less global"),
        ({"type_a": "encoder", "type_b": "decoder"}, "global, t: bert-base less opt-125m"),
    ):
        _, (piece,) = judged(claim | {"where": where}, found)
        assert (piece["evidence"], piece["agrees"]) == (name, agrees)


def test_resamples_of_one_curve_of_a_pair_are_not_those_of_their_difference():
    """As where the other was fitted without its items: the interval of the table is all that is known."""
    row = {"metric": "accuracy", "between": "model", "model_a": "bert-base", "model_b": "opt-125m", "n_replicates": 9}
    row |= {"pattern_a": "global", "pattern_b": "global", "difference": 0.2, "low": 0.1, "high": 0.3}
    curves = [knee(model, task) for task in "tu" for model in ("bert-base", "opt-125m")]
    kept = [resample_of(curve, [0.0, 0.3, 0.5], np.full(40, 2)) for curve in curves if curve["model"] == "bert-base"]
    found = {"knees": rows_of("knees", *curves), "resamples": rows_of("resamples", *kept)}
    found["comparisons"] = rows_of("comparisons", *(row | {"task": task} for task in "tu"))
    claim = EVERY | {"table": "comparisons", "where": {"model_a": "bert-base"}, "expect": {"above": 0}}
    _, evidence = judged(claim, found)
    factor = norm.ppf(1 - 0.05 / 4) / norm.ppf(0.975)
    assert np.allclose([piece["low_all"] for piece in evidence], 0.2 - 0.1 * factor)
    tasks = judged(EVERY | {"pairs": "model", "expect": {"above": 0}}, found)[1]
    assert not any(pd.isna(piece["low_all"]) for piece in tasks)


def test_resamples_and_coarse_levels_are_of_the_essential_sparsity_alone():
    """Where a hinge bends is a number of its own: the gaps of the essential sparsity say nothing of it."""
    more = {"hinge": 0.6, "hinge_low": 0.55, "hinge_high": 0.65, "bracket_low": 0.3, "bracket_high": 0.5}
    curves = [knee(task=task, protocol="zero-shot", **more) for task in "ab"]
    found = {"knees": rows_of("knees", *curves)}
    found["resamples"] = rows_of("resamples", *(resample_of(c, [0.0, 0.3, 0.5], np.full(40, 2)) for c in curves))
    factor = norm.ppf(1 - 0.05 / 4) / norm.ppf(0.975)
    _, evidence = judged(EVERY | {"read": "hinge"}, found)
    assert np.allclose([[p["low_all"], p["high_all"]] for p in evidence], [0.6 - 0.05 * factor, 0.6 + 0.05 * factor])
    assert not any(piece["note"] for piece in evidence)
    _, evidence = judged(EVERY, found)
    assert np.allclose([[p["low_all"], p["high_all"]] for p in evidence], [0.3, 0.5])
    assert {piece["note"] for piece in evidence} == {"between levels of 30–50 %"}


def test_tasks_of_other_metrics_are_a_pair():
    curves = [knee(task="a", low=0.6, high=0.7), knee(task="b", low=0.2, high=0.3, metric="spearman")]
    row, (piece,) = judged(EVERY | {"pairs": "task", "expect": {"above": 0.2}}, {"knees": rows_of("knees", *curves)})
    assert (row["verdict"], piece["evidence"]) == (SUPPORTED, "minilm, global: a less b")
    assert np.allclose([piece["estimate"], piece["low"], piece["high"]], [0.4, 0.3, 0.5])


def test_of_two_curves_of_one_estimate_the_later_is_that_of_the_higher_lower_end():
    curves = [knee(task="a", low=0.3, high=0.6), knee(task="b", low=0.35, high=0.45)]
    curves = [curve | {"essential_sparsity": 0.4} for curve in curves]
    for own, name in ((curves, "b less a"), (curves[::-1], "b less a")):
        _, (piece,) = judged(EVERY | {"pairs": "task"}, {"knees": rows_of("knees", *own)})
        assert piece["evidence"] == f"minilm, global: {name}"
        assert np.allclose([piece["low"], piece["high"]], [-0.25, 0.15])


@pytest.mark.parametrize("bare", ["a", "b"])
@pytest.mark.parametrize("none", [{"n_replicates": 0}, {"essential_sparsity": None}])
def test_a_pair_with_a_curve_without_an_interval_is_no_evidence(bare, none):
    curves = [knee(task="a", low=0.6, high=0.7), knee(task="b", low=0.2, high=0.3)]
    curves = [curve | none if curve["task"] == bare else curve for curve in curves]
    row, evidence = judged(EVERY | {"pairs": "task"}, {"knees": rows_of("knees", *curves)})
    assert (row["verdict"], evidence) == (NOT_TESTABLE, [])
    assert "1 more has no interval" in row["because"]


def test_one_seed_of_a_curve_that_does_not_drop_decides_nothing_in_groups():
    points = {"vit-base": 0.3, "deit-base": 0.31, "bert-base": 0.7, "opt-125m": 0.71}
    curves = [knee(model, essential_sparsity=x) for model, x in points.items()]
    claim = GROUPS | {"expect": {"below": 0}}
    for freedom, verdict in ((4, SUPPORTED), (0, UNDECIDED)):
        row, _ = judged(claim, {"knees": rows_of("knees", *curves, undropped("minilm", seed_freedom=freedom))})
        assert row["verdict"] == verdict


def test_a_curve_that_does_not_drop_is_held_in_groups_by_its_last_level():
    """Some of its resamples may drop before: that is in the interval of the curve, of which a sample of models takes the number."""
    points = {"vit-base": 0.3, "deit-base": 0.31, "bert-base": 0.7, "opt-125m": 0.71}
    curves = [knee(model, essential_sparsity=x) for model, x in points.items()]
    ends = []
    for low in (0.9, 0.4):
        _, (piece,) = judged(
            GROUPS, {"knees": rows_of("knees", *curves, undropped("minilm", essential_sparsity_low=low))}
        )
        ends.append(piece["high"])
    assert ends[0] == ends[1]


def test_rates_of_layers_are_shares_of_their_own_weights():
    """By hand: 500 of 2,000 less 100 of 1,000, each of which may be 10 of a bin off."""
    base = {"model": "m", "pattern": "global", "sparsity": 0.2, "boundary": 10}
    parts = {"mlp": (2000, 500), "attention": (1000, 100), "embedding": (1000, 200)}
    rows = [base | {"tensor": part, "sublayer": part, "n": n, "pruned": k} for part, (n, k) in parts.items()]
    rows += [row | {"sparsity": 0.0, "pruned": 0, "boundary": 0} for row in rows]
    claim = EVERY | {"table": "layers", "where": {}, "expect": {"above": 0}}
    for read, value, bound in (("rate_of_mlp_less_attention", 0.15, 0.015), ("share_of_mlp", 0.625, 0.0125)):
        _, (piece,) = judged(claim | {"read": read}, {"layers": rows_of("layers", *rows)})
        assert np.allclose([piece["estimate"], piece["low"], piece["high"]], [value, value - bound, value + bound])
        assert (
            piece["note"]
            == f"these layers hold 0.500 of the prunable weights; counted to ± {bound:.2g}, a bin of the spectrum"
        )


def test_masks_are_told_by_name_with_what_chance_gives_and_none_without_a_number():
    row = {"model_a": "m", "between": "pattern", "pattern_a": "global", "pattern_b": "lth", "task_b": "t", "seed_b": 1}
    row |= {"scope": "model", "cosine_kept_chance": 0.8, "cosine_kept": 0.97}
    claim = EVERY | {"table": "similarity", "where": {"between": "pattern"}}
    rows = [row | {"sparsity": 0.2, "model_b": "m"}, row | {"sparsity": 0.3, "model_b": "n"}]
    rows.append(row | {"sparsity": 1.0, "model_b": "m", "cosine_kept": None, "cosine_kept_chance": None})
    _, evidence = judged(claim, {"similarity": rows_of("similarity", *rows)})
    assert [piece["evidence"] for piece in evidence] == [
        "m: global seed 0 and lth t seed 1, 20 %",
        "m and n: global seed 0 and lth t seed 1, 30 %",
    ]
    assert [(piece["low"], piece["note"]) for piece in evidence] == [(0.97, "chance 0.800")] * 2


def test_the_page_of_the_paper_names_each_claim_of_it_and_each_shipped_figure():
    page = (ROOT / "docs/paper.md").read_text()
    shown = yaml.safe_load((ROOT / "config/config.yaml").read_text())["figures"]["panels"]
    ours = {"random-far-below"}  # of the paper's code, not of its text
    named = set(re.findall(r"`([a-z-]+)`", page))
    assert {claim["claim"] for claim in SHIPPED} - ours <= named
    assert all(f"panels/{name}.svg" in page for name in shown), "a figure without an experiment"
    presets = re.findall(r"`([a-z-]+\.yaml)`", page)
    assert len(presets) > 6
    assert all((ROOT / "config" / name).is_file() for name in presets)


def test_a_pair_that_is_turned_says_of_the_other_side_what_it_said_of_the_first():
    told = {"model_a": "x", "model_b": "y", "difference": 0.2, "low": 0.1, "high": 0.3, "larger": "a"}
    unknown = told | {"low": -0.1, "larger": None, "share_a_larger": 0.75}
    found = both_ways(pd.DataFrame([told | {"share_a_larger": 0.99}, unknown]))
    turned = found.iloc[2:].to_dict("list")
    assert turned["model_a"] == ["y", "y"]
    assert (turned["difference"], turned["low"], turned["high"]) == ([-0.2, -0.2], [-0.3, -0.3], [-0.1, 0.1])
    assert turned["larger"][0] == "b"
    assert pd.isna(turned["larger"][1])
    assert np.allclose(turned["share_a_larger"], [0.01, 0.25])
