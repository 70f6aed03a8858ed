"""The registry: names, parts, what decides a mask; and a pattern that one file from outside the package adds."""

import dataclasses
import importlib
import re
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiny_models as tiny
import torch

from essential_sparsity import patterns
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.figures import explored
from essential_sparsity.pruning import masks
from essential_sparsity.pruning.spectrum import level_count
from essential_sparsity.runs import evaluation
from essential_sparsity.study import configuration, grid
from essential_sparsity.training import finetuning

ROOT = Path(__file__).parents[2]


def test_names_are_found_and_carry_their_parts():
    assert [patterns.find(name).name for name in patterns.PATTERNS] == list(patterns.PATTERNS)
    member = patterns.find("nm16")
    assert (member.name, member.label, member.structure, member.group) == ("nm16", "nm16", "nm", 16)
    assert [name for name in patterns.PATTERNS if patterns.find(name).needs == "training"] == ["lth", "deletion"]
    assert [name for name in patterns.PATTERNS if not patterns.find(name).held] == ["deletion"]
    assert [name for name in patterns.PATTERNS if patterns.find(name).score == "given"] == ["lth"]
    assert [name for name in patterns.PATTERNS if not patterns.find(name).in_spectrum] == [
        "lth",
        "owl-wanda",
        "owl-sparsegpt",
    ]
    calibrated = {name for name in patterns.PATTERNS if patterns.find(name).needs == "calibration"}
    assert calibrated == {"wanda", "wanda-onepass", "sparsegpt", "owl-wanda", "owl-sparsegpt"}
    assert patterns.find("sparsegpt-nm8").group == 8
    assert patterns.find("wanda-nm4").score == "wanda"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "globl",
            r"unknown pattern 'globl'; did you mean 'global'\? Known: dense, .* and nm2, nm4, …, wanda-nm2, wanda-nm4, …, sparsegpt-nm2, .* \(N:M groups\)",
        ),
        ("nm", "unknown pattern 'nm'"),
        ("nm04", "unknown pattern 'nm04'; did you mean 'nm4'"),
        ("2nm4", "unknown pattern '2nm4'"),
        ("nm1", "'nm1': a group has at least 2 inputs"),
    ],
)
def test_unknown_names_are_refused_with_a_near_one(name, message):
    with pytest.raises(ValueError, match=message):
        patterns.find(name)


def test_dense_is_not_asked_for_in_a_block():
    with pytest.raises(configuration.ConfigError, match=r"grid\[0\]\.patterns: 'dense' is added to every curve"):
        grid.check_pattern("dense", ["0.000"], "grid[0]")


@pytest.mark.parametrize("name", [*patterns.PATTERNS, "nm2", "nm16"])
def test_the_expression_matches_each_name_and_nothing_else(name):
    assert re.fullmatch(patterns.expression(), name)
    assert not re.fullmatch(patterns.expression(), f"{name}x")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"allocation": "some"}, "pattern 'p': allocation 'some' is not one of: all, matrix, erk"),
        ({"structure": "blocks"}, "pattern 'p': structure 'blocks' is not one of: free, rows, nm"),
        ({"structure": "rows"}, "its allocation is 'matrix' or 'owl'"),
        ({"score": "wanda"}, "the scores wanda and sparsegpt need 'calibration', and they alone do"),
        (
            {"score": "a:b", "needs": "calibration"},
            "the scores wanda and sparsegpt need 'calibration', and they alone do",
        ),
        ({"allocation": "owl"}, "the allocation 'owl' is found by calibration"),
        ({"inputs": "dense"}, "only the score 'wanda' is defined on inputs of the dense model"),
        ({"needs": "luck"}, "pattern 'p': needs 'luck'"),
        (
            {"score": "magnitud"},
            "pattern 'p': score 'magnitud' is not one of: magnitude, random, given, wanda, sparsegpt, module:function",
        ),
        ({"statistics": "a.b"}, "pattern 'p': statistics 'a.b' is not one of: module:function"),
        ({"structure": "nm"}, "its allocation is 'matrix'"),
        ({"group": 4}, "only the structure 'nm' has groups, here of 4"),
        (
            {"score": "wanda", "needs": "calibration"},
            "pattern 'p': the scores wanda and sparsegpt are compared inside a matrix: the allocation is 'matrix' or 'owl', not 'all'",
        ),
        ({"score": "sparsegpt", "needs": "calibration", "allocation": "erk"}, "or 'owl', not 'erk'"),
        (
            {"score": "random", "allocation": "matrix", "structure": "rows"},
            "pattern 'p': the score 'random' does not choose in each row of a matrix: the structure is 'free' or 'nm'",
        ),
        (
            {"score": "sparsegpt", "needs": "calibration", "allocation": "matrix", "structure": "rows"},
            "pattern 'p': the score 'sparsegpt' does not choose in each row",
        ),
        ({"colour": "#123456"}, "pattern 'p': colour '#123456' and marker None: write both or neither"),
        ({"colour": "#123456", "marker": "*"}, "and marker '\\*': write both or neither; markers are o s"),
    ],
)
def test_parts_that_do_not_exist_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        patterns.Pattern("p", "p", **parts)


def test_two_entries_of_one_name_are_refused():
    entries = [patterns.Pattern("p", "p"), patterns.Pattern("q", "q"), patterns.Pattern("p", "p", score="random")]
    with pytest.raises(ValueError, match="the registry of patterns has 'p' twice: give one of them another name"):
        patterns.by_name(entries)


@pytest.mark.parametrize(
    ("parts", "peers"),
    [
        ({"score": "sparsegpt", "allocation": "matrix"}, ("layerwise", "wanda")),
        ({"score": "sparsegpt", "allocation": "matrix", "structure": "nm", "group": 4}, ("nm4", "wanda-nm4")),
        ({"score": "sparsegpt", "allocation": "owl"}, ("layerwise", "sparsegpt")),
        ({"score": "wanda", "allocation": "matrix", "inputs": "dense"}, ("layerwise", "wanda")),
    ],
)
def test_what_a_calibrated_pattern_is_compared_with_is_no_matter_of_its_name(parts, peers):
    for name in ("mine", "mine-sparsegpt"):
        assert patterns.Pattern(name, "mine", needs="calibration", **parts).peers == peers


def test_the_explorer_has_every_marker():
    assert {*patterns.MARKERS} == {*explored.SYMBOLS}


def test_the_essence_is_what_decides_a_mask_and_no_look():
    entry = patterns.find("nm4")
    assert patterns.essence(dataclasses.replace(entry, name="x", label="x", colour="x", marker="x")) == (
        patterns.essence(entry)
    )
    for change in ({"score": "a:b"}, {"statistics": "a:b"}, {"group": 8}, {"needs": "training"}, {"held": False}):
        assert patterns.essence(dataclasses.replace(entry, **change)) != patterns.essence(entry)
    assert patterns.essence(patterns.find("erk")) != patterns.essence(patterns.find("global"))


def test_looks_differ_and_every_pattern_is_documented():
    looks = [(entry.colour, entry.marker) for entry in patterns.PATTERNS.values() if entry.name != "dense"]
    looks += patterns.STYLES.values()
    assert len(set(looks)) == len(looks)
    told = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert [
        name for name in (*patterns.PATTERNS, "nm4") if f"| `{name}` |" not in told and f"`{name}`," not in told
    ] == (["dense"])


# --- a pattern from outside: one file, one entry

OUTSIDE = '''
"""|w| times the norm of each input of its layer, on fixed random hidden states (the idea of Wanda)."""

import torch

CALLS = []


def norms(model, weights, seed):
    CALLS.append(seed)
    generator = torch.Generator().manual_seed(seed)
    found, hooks = {}, []
    for weight, _ in weights:
        module = model.base_model.get_submodule(weight.name.removesuffix(".weight"))
        hooks.append(
            module.register_forward_pre_hook(
                lambda _, inputs, name=weight.name: found.__setitem__(name, inputs[0].flatten(0, -2).norm(dim=0))
            )
        )
    with torch.no_grad():
        model(input_ids=torch.randint(4, 16, (4, 12), generator=generator))
    for hook in hooks:
        hook.remove()
    return found


def score(weights, statistics):
    return {weight.name: (tensor.abs() * statistics[weight.name]).float() for weight, tensor in weights}
'''


@pytest.fixture
def outside(tmp_path, monkeypatch):
    """The module of a pattern `inputs`, in four combinations of parts, registered for one test."""
    (tmp_path / "outside_inputs.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(patterns, "SCRIPTS", tmp_path)
    monkeypatch.delitem(sys.modules, "outside_inputs", raising=False)
    entry = patterns.Pattern(
        "inputs",
        "inputs",
        score="outside_inputs:score",
        statistics="outside_inputs:norms",
    )
    for name, allocation in (("inputs", "all"), ("inputs-matrix", "matrix"), ("inputs-erk", "erk")):
        monkeypatch.setitem(patterns.PATTERNS, name, dataclasses.replace(entry, name=name, allocation=allocation))
    family = dataclasses.replace(entry, name="inputs-nm", label="inputs-nm", allocation="matrix", structure="nm")
    monkeypatch.setitem(patterns.FAMILIES, "inputs-nm", family)
    return importlib.import_module("outside_inputs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture
def zeros(monkeypatch):
    """Level by level, where the prunable weights of the evaluated model are zero."""
    found = []
    prune_ = masks.Plan.prune_

    def keep(self, sparsity):
        level = prune_(self, sparsity)
        found.append({weight.name: tensor == 0 for weight, tensor in self.weights})
        return level

    monkeypatch.setattr(masks.Plan, "prune_", keep)
    return found


def evaluate(folder, pattern, levels, settings=tiny.SIMILARITY, data=tiny.pairs):
    return [level for level, _ in evaluation.evaluate(folder, data(), settings, pattern, levels, 0)]


def expected_scores(folder, module):
    model = loading.load_model(folder, "AutoModel", allow_new=("pooler.",))
    weights = loading.prunable_parameters(model)
    return module.score(weights, module.norms(model, weights, 0))


def flat(found):
    return torch.cat([found[name].reshape(-1) for name in sorted(found)])


def smallest(scores, k):
    mask = torch.zeros(scores.numel(), dtype=torch.bool)
    mask[torch.argsort(scores.reshape(-1), stable=True)[:k]] = True
    return mask.view(scores.shape)


LEVELS = [0.25, 0.5, 0.75]


@pytest.mark.parametrize("pattern", ["inputs", "inputs-matrix", "inputs-erk", "inputs-nm4"])
def test_a_pattern_from_outside_prunes_the_smallest_scores_exactly_and_nested(pattern, outside, folder, zeros):
    levels = evaluate(folder, pattern, LEVELS)
    assert outside.CALLS == [0], "statistics are measured once, on the dense model"
    scores = expected_scores(folder, outside)
    n = sum(score.numel() for score in scores.values())
    for sparsity, level, found in zip(LEVELS, levels, zeros, strict=True):
        assert level.k == int(flat(found).sum())
        assert level.k == (level_count(sparsity, n) if "matrix" not in pattern else level.k)
        if pattern == "inputs":
            assert torch.equal(flat(found), smallest(flat(scores), level.k))
        for name, mask in found.items():
            if pattern == "inputs-matrix":
                assert torch.equal(mask, smallest(scores[name], level_count(sparsity, mask.numel())))
            if pattern == "inputs-erk":
                assert torch.equal(mask, smallest(scores[name], level.per_tensor[name]))
            if pattern == "inputs-nm4":
                groups = scores[name].view(-1, 4)
                chosen = torch.zeros_like(groups, dtype=torch.bool)
                chosen.scatter_(1, groups.argsort(dim=1)[:, : round(4 * sparsity)], True)
                assert torch.equal(mask.view(-1, 4), chosen)
    for before, after in pairwise(zeros):
        assert not (flat(before) & ~flat(after)).any()
    plain = evaluate(folder, "global", LEVELS)
    assert [level.per_tensor for level in plain] != [level.per_tensor for level in levels]


def test_statistics_are_of_the_dense_model_at_every_level_of_a_fine_tuning(outside, folder, monkeypatch):
    held = []
    monkeypatch.setattr(
        finetuning, "train_", lambda model, rows, collate, settings, seed, masks_, *_: held.append(masks_)
    )
    evaluate(folder, "inputs", [0.3, 0.6], tiny.FINETUNE, tiny.reviews)
    assert outside.CALLS == [0]
    scores = expected_scores(folder, outside)
    for sparsity, mask in zip((0.3, 0.6), held, strict=True):
        assert torch.equal(flat(mask), smallest(flat(scores), level_count(sparsity, flat(scores).numel())))


@pytest.mark.parametrize(("settings", "data"), [(tiny.SIMILARITY, tiny.pairs), (tiny.FINETUNE, tiny.reviews)])
def test_statistics_are_drawn_with_the_seed_of_the_run(outside, folder, monkeypatch, settings, data):
    monkeypatch.setattr(finetuning, "train_", lambda *_: False)
    list(evaluation.evaluate(folder, data(), settings, "inputs", [0.5], 3))
    assert outside.CALLS == [3]


def test_ties_of_scores_fall_as_ties_of_magnitudes_do(outside, monkeypatch):
    monkeypatch.setattr(outside, "score", lambda weights, _: {w.name: torch.ones(t.shape) for w, t in weights})
    described = PrunableWeight("a", 0, "mlp", "mlp", (64, 64), 1)
    drawn = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    for name, peer in (("inputs", "global"), ("inputs-nm4", "nm4")):
        (ours,) = (mask for _, mask in masks.plan(name, [(described, drawn)], [0.5], 3).masks(0.5))
        (same,) = (mask for _, mask in masks.plan(peer, [(described, torch.ones(64, 64))], [0.5], 3).masks(0.5))
        assert torch.equal(ours, same)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.tensor([[1.0, float("nan")]]), "hold NaN, infinity or negative numbers"),
        (torch.tensor([[1.0, float("inf")]]), "hold NaN, infinity or negative numbers"),
        (torch.tensor([[1.0, -1e-30]]), "hold NaN, infinity or negative numbers"),
        (torch.ones(1, 2, dtype=torch.float64), "are float64 of shape"),
        (torch.ones(2, 1), r"are float32 of shape \(2, 1\); expected float32 of the tensor's shape \(1, 2\)"),
        (None, "are missing"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused_by_pattern_and_tensor(outside, monkeypatch, wrong, message):
    monkeypatch.setattr(outside, "score", lambda *_: {"a": torch.zeros(1, 2), "b": wrong})
    weights = [(PrunableWeight(name, 0, "mlp", "mlp", (1, 2), 1), torch.ones(1, 2)) for name in "ab"]
    with pytest.raises(ValueError, match=rf"pattern 'inputs', b: the scores of outside_inputs:score {message}"):
        masks.plan("inputs", weights, [0.5], 0)


@pytest.mark.parametrize("reference", ["no_such_module:score", "json:no_such_function"])
def test_a_reference_to_nothing_is_said(reference):
    with pytest.raises(ValueError, match=f"the registry of patterns names {reference}, which cannot be loaded"):
        patterns.load(reference)


def test_a_score_whose_code_would_not_count_is_refused(outside, monkeypatch):
    """Its digest is of the files below workflow/scripts."""
    assert patterns.load("outside_inputs:score") is outside.score
    monkeypatch.undo()
    with pytest.raises(
        ValueError, match=r"names json:dumps, which lies in .*json.*: only code below .*workflow/scripts decides runs"
    ):
        patterns.load("json:dumps")


def test_what_the_spectrum_cannot_tell_is_refused(outside):
    assert patterns.find("inputs").modules == ["outside_inputs"]
    assert [patterns.find(name).in_spectrum for name in ("inputs", "inputs-matrix", "inputs-erk", "inputs-nm4")] == (
        [False, True, True, True]
    )
    for name in ("inputs", "lth"):
        with pytest.raises(ValueError, match=f"how many weights of each matrix {name!r} prunes is not in the spectrum"):
            masks.pruned_counts(None, name, 0.5)


def test_of_an_allocation_that_is_added_the_spectrum_tells_nothing_until_it_is_said(monkeypatch):
    monkeypatch.setattr(patterns, "ALLOCATIONS", (*patterns.ALLOCATIONS, "depth"))
    assert not patterns.Pattern("p", "p", allocation="depth").in_spectrum


@pytest.mark.parametrize("structure", ["free", "nm"])
def test_random_scores_have_every_structure(structure, monkeypatch):
    """Not a pattern of the registry: N:M with a random choice in each group."""
    group = 4 if structure == "nm" else None
    entry = patterns.Pattern("r", "r", score="random", allocation="matrix", structure=structure, group=group)
    monkeypatch.setitem(patterns.PATTERNS, "r", entry)
    described = PrunableWeight("a", 0, "mlp", "mlp", (64, 64), 1)
    drawn = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    (mask,), (other,) = (
        [mask for _, mask in masks.plan("r", [(described, values)], [0.5], 3).masks(0.5)]
        for values in (drawn, drawn.flip(0))
    )
    assert torch.equal(mask, other), "magnitudes do not matter"
    assert int(mask.sum()) == 2048
    if structure == "nm":
        assert (mask.view(-1, 4).sum(1) == 2).all()
        assert np.unique(mask.view(-1, 4).numpy(), axis=0).shape == (6, 4), "every choice of 2 of 4 occurs"
