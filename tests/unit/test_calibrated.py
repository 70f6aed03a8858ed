"""Wanda, SparseGPT and OWL against solutions found in other ways, and what must hold of their masks."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from test_walking import batches_of, matrices_of, model_of

from essential_sparsity import patterns
from essential_sparsity.checkpoints import loading, prunable
from essential_sparsity.pruning import calibrated, masks, smallest, sparsegpt, wanda
from essential_sparsity.pruning.inputs import Watching
from essential_sparsity.pruning.matrices import matrices
from essential_sparsity.pruning.spectrum import level_count
from essential_sparsity.pruning.statistics import Statistics

CALIBRATED = [name for name in patterns.PATTERNS if patterns.find(name).needs == "calibration"]


def hashes(rows, start=0, end=None):
    draw = torch.Generator().manual_seed(11)
    every = torch.randint(-(1 << 62), 1 << 62, (64, 512), generator=draw)
    return every[rows][:, start:end]


def of_width(inputs):
    return lambda rows, start=0, end=None: hashes(rows, start, inputs if end is None else end)


def layer(rows=6, inputs=10, tokens=64, seed=0):
    """(weights, inputs, Hessian) of a random layer whose inputs hang together."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(inputs, inputs, generator=draw)
    values = torch.randn(tokens, inputs, generator=draw) @ mixing
    return torch.randn(rows, inputs, generator=draw), values, values.T @ values * 2 / tokens


def solved(weights, hessian, count, hashes, name, group=None, **options):
    return sparsegpt.prune(weights, sparsegpt.factors(hessian, name), count, hashes, group, **options)


# --- masks of the smallest scores


@given(st.integers(0, 12), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_as_many_of_each_row_equal_ones_by_hash(count, seed):
    draw = torch.Generator().manual_seed(seed)
    scores = torch.randint(0, 4, (5, 12), generator=draw).float()
    mask = smallest.of_rows(scores, count, of_width(12))
    assert mask.sum(dim=1).tolist() == [count] * 5
    for row in range(5):
        order = sorted(range(12), key=lambda i: (scores[row, i].item(), hashes(torch.tensor([row]))[0, i].item()))
        assert sorted(mask[row].nonzero().squeeze(1).tolist()) == sorted(order[:count])


@pytest.mark.parametrize("at_once", [1, 24, smallest.AT_ONCE])
def test_equal_ones_of_many_rows_are_ordered_a_few_rows_at_once(at_once, monkeypatch):
    monkeypatch.setattr(smallest, "AT_ONCE", at_once)
    scores = torch.ones(7, 12)
    scores[2] = torch.arange(12)  # a row without ties among them
    mask = smallest.of_rows(scores, 5, of_width(12))
    order = hashes(torch.arange(7), 0, 12).argsort(dim=1)
    order[2] = torch.arange(12)
    assert torch.equal(mask, torch.zeros_like(mask).scatter_(1, order[:, :5], True))


def test_of_groups_and_of_all_are_the_same_order():
    draw = torch.Generator().manual_seed(1)
    scores = torch.randint(0, 3, (5, 14), generator=draw).float()
    mask = smallest.of_groups(scores, 4, 2, of_width(14))
    assert not mask[:, 12:].any()
    for start in (0, 4, 8):
        part = smallest.of_rows(scores[:, start : start + 4], 2, lambda rows, s=start: hashes(rows, s, s + 4))
        assert torch.equal(mask[:, start : start + 4], part)
    own = hashes(torch.arange(5), 0, 14).flatten()
    order = sorted(range(70), key=lambda i: (scores.flatten()[i].item(), own[i].item()))
    for count in range(0, 71, 10):
        mask = smallest.of_all(scores, count, of_width(14))
        assert mask.flatten().nonzero().squeeze(1).tolist() == sorted(order[:count])


def test_places_of_weights_are_those_of_the_checkpoint():
    """Linear, Conv1D, and both kinds of stacks: each weight is its own number in the order of names."""
    shapes = {"d": ((3, 4), 1), "b": ((4, 5), 0), "a": ((2, 3, 4), 2), "c": ((2, 4, 3), 1)}
    first, weights = 0, []
    for name, (shape, input_dim) in sorted(shapes.items()):
        size = int(np.prod(shape))
        described = prunable.PrunableWeight(name, 0, name, "mlp", shape, input_dim)
        weights.append((described, torch.arange(first, first + size).view(shape)))
        first += size
    seen = []
    for matrix in matrices(reversed(weights)):
        rows, some = matrix.rows(), torch.tensor([2, 0])
        assert torch.equal(matrix.places(torch.arange(len(rows))), rows)
        assert torch.equal(matrix.places(some, 1, 3), rows[some, 1:3])
        seen += rows.flatten().tolist()
    assert sorted(seen) == list(range(first))


# --- SparseGPT


def exact(weights, values, mask):
    """Brute force in float64: column by column, a pruned weight becomes 0 and the later ones of its row are solved anew.

    The optimal-brain-surgeon solution of each step, by least squares on the inputs themselves, without any inverse Hessian.
    """
    values, found = values.double(), weights.double().clone()
    for row, column in itertools.product(range(len(found)), range(found.shape[1])):
        if mask[row, column]:
            gone = found[row, column].item()
            found[row, column] = 0.0
            if column + 1 < found.shape[1]:
                later = values[:, column + 1 :]
                found[row, column + 1 :] += torch.linalg.lstsq(later, gone * values[:, column]).solution
    return found


@pytest.mark.parametrize(("group", "inputs"), [(None, 12), (2, 12), (4, 12), (4, 14)])
def test_the_update_is_the_exact_solution_of_each_step(group, inputs, monkeypatch):
    """Of inputs past the last whole group, too, whose weights all stay."""
    monkeypatch.setattr(sparsegpt, "DAMPING", 0.0)
    weights, values, hessian = layer(inputs=inputs)
    count = 30 if group is None else group // 2
    found = solved(weights, hessian.double().float(), count, of_width(inputs), "w", group)
    expected = exact(weights, values, found.mask)
    assert torch.allclose(found.rows.double(), expected, atol=2e-3, rtol=1e-3)
    assert (found.rows[found.mask] == 0).all()


def test_the_score_is_the_loss_of_a_weight_when_the_later_ones_make_up_for_it():
    _weights, _values, hessian = layer(rows=3, inputs=8)
    upper, _ = sparsegpt.factor(hessian, "w")
    damped = hessian + sparsegpt.DAMPING * hessian.diagonal().mean() * torch.eye(8)
    for column in range(8):
        later = damped[column:, column:].double()
        assert upper[column, column].item() ** 2 == pytest.approx(torch.linalg.inv(later)[0, 0].item(), rel=1e-4)


def published(weights, hessian, sparsity, group=None, pruned=None, block=128):
    """The formulas of the paper's algorithm 1 in their own order, in float64: with an inverse Hessian that loses its first
    row and column at each step, instead of one Cholesky factor; a threshold in place of a count."""
    damped = hessian.double().clone()
    damped.diagonal().add_(sparsegpt.DAMPING * damped.diagonal().mean())
    inverse, found = torch.linalg.inv(damped), weights.double().clone()
    inputs = found.shape[1]
    diagonal = []
    for _ in range(inputs):
        diagonal.append((inverse[0, 0].item(), (inverse[0] / inverse[0, 0]).clone()))
        inverse = (inverse - inverse[:, :1] @ inverse[:1] / inverse[0, 0])[1:, 1:]
    gone = torch.zeros(found.shape, dtype=torch.bool)
    for column in range(inputs):
        if group is None and column % block == 0:
            end = min(column + block, inputs)
            scores = found[:, column:end] ** 2 / torch.tensor([diagonal[i][0] for i in range(column, end)])
            k = round(sparsity * scores.numel())
            gone[:, column:end] = scores < scores.flatten().sort().values[k]
        elif group is not None and column % group == 0:
            end = column + group
            scores = found[:, column:end] ** 2 / torch.tensor([diagonal[i][0] for i in range(column, end)])
            gone[:, column:end] = torch.zeros_like(scores, dtype=torch.bool).scatter_(
                1, scores.argsort(dim=1)[:, :pruned], True
            )
        error = found[:, column] * gone[:, column]
        found[:, column:] -= error[:, None] * diagonal[column][1]
    return found, gone


@pytest.mark.parametrize(("inputs", "sparsity"), [(40, 0.5), (256, 0.5), (160, 0.3)])
def test_unstructured_as_the_paper_s_algorithm_written_another_way(inputs, sparsity):
    weights, _, hessian = layer(rows=10, inputs=inputs, tokens=4 * inputs)
    found = solved(weights, hessian, level_count(sparsity, weights.numel()), of_width(inputs), "w")
    expected, gone = published(weights, hessian, sparsity)
    assert (found.mask == gone).float().mean() > 0.995  # float32 beside float64: a near tie may fall otherwise
    if torch.equal(found.mask, gone):
        assert torch.allclose(found.rows.double(), expected, atol=5e-2, rtol=1e-2)
    assert int(found.mask.sum()) == level_count(sparsity, weights.numel())


@pytest.mark.parametrize(("group", "pruned", "inputs"), [(4, 2, 64), (5, 3, 160), (144, 72, 144)])
def test_groups_as_the_paper_s_algorithm_written_another_way(group, pruned, inputs):
    """Also groups that blocks of 128 columns are no multiple of."""
    weights, _, hessian = layer(rows=8, inputs=inputs, tokens=5 * inputs)
    found = solved(weights, hessian, pruned, of_width(inputs), "w", group)
    expected, gone = published(weights, hessian, 0.5, group, pruned)
    assert (found.mask == gone).float().mean() > 0.99
    assert (found.mask.view(8, -1, group).sum(-1) == pruned).all()
    if torch.equal(found.mask, gone):
        assert torch.allclose(found.rows.double(), expected, atol=1e-2, rtol=1e-2)


def test_identity_hessian_is_magnitude_of_each_block():
    weights, _, _ = layer(rows=9, inputs=300)
    found = solved(weights, torch.eye(300), level_count(0.4, 2700), of_width(300), "w", update=False)
    for start in (0, 128, 256):
        part, mask = weights[:, start : start + 128].abs(), found.mask[:, start : start + 128]
        assert part[mask].max() < part[~mask].min()
    assert torch.equal(found.rows[~found.mask], weights[~found.mask])


def test_the_loss_is_lower_than_without_updates_and_than_magnitude():
    draw = torch.Generator().manual_seed(3)
    weights, own, common = (torch.randn(*shape, generator=draw) for shape in ((16, 48), (400, 48), (400, 4)))
    values = own + common @ torch.randn(
        4, 48, generator=draw
    )  # a few directions that all inputs share, as in real layers
    values *= torch.rand(48, generator=draw) * 3 + 0.1
    hessian, count = values.T @ values, level_count(0.5, weights.numel())

    def loss(rows):
        return float(((rows - weights) @ values.T).square().sum())

    updated = solved(weights, hessian, count, of_width(48), "w")
    masked = solved(weights, hessian, count, of_width(48), "w", update=False)
    of_norms = smallest.of_rows(wanda.scores(weights, values.norm(dim=0)), 24, of_width(48))
    magnitude = smallest.of_rows(weights.abs(), 24, of_width(48))
    assert (
        1.5 * loss(updated.rows)
        < loss(weights.masked_fill(of_norms, 0))
        < loss(weights.masked_fill(magnitude, 0)) / 1.5
    )
    assert loss(updated.rows) < loss(masked.rows)


@pytest.mark.parametrize("group", [None, 4])
def test_permuted_rows_scaled_inputs_and_dead_inputs(group):
    weights, _, hessian = layer(rows=8, inputs=32, tokens=200)
    count = 2 if group else 128
    one = solved(weights, hessian, count, of_width(32), "w", group)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    other = solved(weights[order], hessian, count, of_width(32), "w", group)
    assert torch.equal(other.mask, one.mask[order])
    assert torch.allclose(other.rows, one.rows[order], atol=1e-5)
    scaled = solved(weights, 16 * hessian, count, of_width(32), "w", group)
    assert torch.equal(scaled.mask, one.mask)
    assert torch.allclose(scaled.rows, one.rows, atol=1e-5)
    dead = hessian.clone()
    dead[:, 5] = dead[5] = 0
    found = solved(weights, dead, count, of_width(32), "w", group)
    assert found.mask[:, 5].all(), "an input that is always zero goes first"
    quiet = solved(weights, 1e-6 * dead, count, of_width(32), "w", group)
    assert quiet.mask[:, 5].all(), "also where the others are small"
    few = solved(weights, dead, 3, of_width(32), "w")
    assert int(few.mask.sum()) == 3 == int((few.rows == 0).sum()), "and no more than were asked for"


@pytest.mark.parametrize("group", [None, 4])
def test_dead_inputs_of_later_blocks_of_columns_go_first_too(group):
    weights, _, hessian = layer(rows=8, inputs=160, tokens=800)
    weights[:, 140] *= 100
    hessian[:, 140] = hessian[140] = 0
    found = solved(weights, hessian, 2 if group else 640, of_width(160), "w", group)
    assert found.mask[:, 140].all()


@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e4, 1e-12])
def test_dead_inputs_change_nothing_for_the_others(scale):
    """They are gone first; what damps the Hessian of the others is the mean of the others, however small these are."""
    weights, _, hessian = layer(rows=8, inputs=32, tokens=200)
    dead, living = [3, 17, 31], [i for i in range(32) if i not in (3, 17, 31)]
    hessian[:, dead] = hessian[dead] = 0
    given = scale * hessian
    found = solved(weights, given, 3 * 8 + 100, of_width(32), "w")
    assert torch.equal(given, scale * hessian), "what is given is left as it is"
    alone = solved(weights[:, living], hessian[living][:, living], 100, of_width(29), "w")
    assert found.mask[:, dead].all()
    assert torch.equal(found.mask[:, living], alone.mask)
    assert torch.allclose(found.rows[:, living], alone.rows, atol=1e-4)


def test_the_damping_is_raised_until_there_are_factors_and_told():
    weights, values, _ = layer(rows=4, inputs=24, tokens=3)
    hessian = (values.T @ values).clone()
    hessian[0, 0] = -0.05 * hessian.diagonal().mean()  # rounding, grossly
    found = solved(weights, hessian, 48, of_width(24), "w")
    assert found.damping in (pytest.approx(0.1), pytest.approx(1.0))
    for lowest, expected in ((0.0, 0.01), (-0.05, 0.1), (-0.5, 1.0)):
        diagonal = torch.tensor([1.0] * 7 + [lowest])
        upper, damping = sparsegpt.factor(diagonal.diag(), "w")
        assert damping == pytest.approx(expected), "no more than is needed"
        assert torch.allclose(upper.diagonal() ** -2, diagonal + damping * diagonal.mean(), rtol=1e-4)
    with pytest.raises(ValueError, match=r"not even with 100% of its mean diagonal added"):
        sparsegpt.factor(torch.tensor([1.0] * 7 + [-2.0]).diag(), "w")
    with pytest.raises(ValueError, match=r"layer\.7\.weight: the Hessian of its inputs has no Cholesky factor"):
        solved(weights, torch.full((24, 24), float("nan")), 48, of_width(24), "layer.7.weight")


def test_where_all_inputs_are_zero_the_order_of_ties_decides():
    weights, _, hessian = layer(rows=4, inputs=24)
    found = solved(weights, torch.zeros_like(hessian), 40, of_width(24), "w")
    assert int(found.mask.sum()) == 40
    assert torch.equal(found.rows[~found.mask], weights[~found.mask])


@pytest.mark.parametrize("group", [None, 4])
def test_equal_scores_are_ordered_by_the_hashes_of_their_own_columns(group):
    """Past the first block of columns, and past the first group, too."""
    weights = layer(rows=4, inputs=256)[0]
    found = solved(weights, torch.zeros(256, 256), 2 if group else 512, of_width(256), "w", group)
    own, expected = hashes(torch.arange(4), 0, 256), torch.zeros(4, 256, dtype=torch.bool)
    if group:
        expected.view(4, -1, 4).scatter_(2, own.view(4, -1, 4).argsort(dim=2)[:, :, :2], True)
    else:
        for start in (0, 128):
            part = own[:, start : start + 128].flatten()
            expected[:, start : start + 128] = (part < part.sort().values[256]).view(4, 128)
    assert torch.equal(found.mask, expected)


def test_wanda_s_mask_is_that_of_magnitude_times_norm_found_another_way():
    model, dense = model_of("llama"), model_of("llama")
    data, seen = calibration(model), {}
    first = dense.base_model.layers[0]
    hooks = [
        part.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].flatten(0, 1))
        )
        for name, part in first.named_modules()
        if isinstance(part, torch.nn.Linear)
    ]
    with torch.no_grad():
        for batch in data.batches:
            dense.base_model(**batch)
    for hook in hooks:
        hook.remove()
    calibrated.Plan("wanda", model, data, 0).prune_(0.5)
    own = dict(model.base_model.layers[0].named_parameters())
    assert len(seen) == 7
    for name, values in seen.items():
        weights = first.get_submodule(name).weight.detach().double()
        scores = weights.abs() * torch.cat(values).double().norm(dim=0)
        gone = torch.zeros(weights.shape, dtype=torch.bool)
        gone.scatter_(1, scores.argsort(dim=1)[:, : level_count(0.5, weights.shape[1])], True)
        assert torch.equal(own[f"{name}.weight"] == 0, gone), name


@pytest.mark.parametrize("size", [300.0, 1e-4])
def test_norms_of_sixteen_bits_neither_overflow_nor_vanish(size):
    norms, values = wanda.Norms(3, torch.device("cpu")), torch.full((50, 3), size, dtype=torch.float16)
    norms.add(norms.piece(values), 50)
    norms.add(norms.piece(values), 50)
    assert norms.tokens == 100
    assert torch.allclose(norms.found(), 10 * values[0].float())


def test_a_hessian_of_sixteen_bits_does_not_overflow():
    hessian, values = sparsegpt.Hessian(3, torch.device("cpu")), torch.full((50, 3), 300.0, dtype=torch.float16)
    hessian.add(hessian.piece(values), 50)
    assert torch.allclose(hessian.found(), torch.full((3, 3), 2 * 300.0**2))


def test_norms_of_many_tokens_lose_none():
    """In float32 a small square added to a large sum is nothing."""
    norms = wanda.Norms(1, torch.device("cpu"))
    norms.add(norms.piece(torch.full((1, 1), 2.0**13)), 1)
    for _ in range(16):
        norms.add(norms.piece(torch.ones(1, 1)), 1)
    assert norms.squares.item() == 2**26 + 16


def test_sparsegpt_s_first_block_is_pruned_with_the_hessians_of_its_own_inputs():
    """Also where two matrices have inputs of one shape, of which the second are made from the outputs of the first."""
    model, dense = model_of("llama"), model_of("llama")
    data, seen = calibration(model), {}
    first = dense.base_model.layers[0]
    linear = {name: part for name, part in first.named_modules() if isinstance(part, torch.nn.Linear)}
    for name, part in linear.items():
        part.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].flatten(0, 1))
        )
    with torch.no_grad():
        for batch in data.batches:
            dense.base_model(**batch)
    calibrated.Plan("sparsegpt", model, data, 0).prune_(0.5)
    own = dict(model.base_model.layers[0].named_parameters())
    assert len(seen) == 7
    for name, values in seen.items():
        weights, every = linear[name].weight.detach(), torch.cat(values)
        count = level_count(0.5, weights.numel())
        found = solved(weights, every.T @ every, count, of_width(weights.shape[1]), name)
        assert torch.equal(own[f"{name}.weight"] == 0, found.mask), name
        assert torch.allclose(own[f"{name}.weight"], found.rows, atol=1e-3), name


@pytest.mark.parametrize("pattern", ["wanda", "wanda-onepass", "sparsegpt", "owl-wanda"])
def test_how_many_sequences_go_through_at_once_decides_nothing(pattern):
    """DeBERTa multiplies relative positions with the matrices of the texts: once a batch, but as if once a sequence."""
    found, ids = [], torch.cat([batch["input_ids"] for batch in calibration(model_of("deberta-v2")).batches])
    for size in (1, 3, len(ids)):
        model = model_of("deberta-v2")
        batches = [{"input_ids": part} for part in ids.split(size)]
        data = calibrated.Calibration("tiny", batches, len(ids), ids.numel(), 0, "")
        plan = calibrated.Plan(pattern, model, data, 0)
        level = plan.prune_(0.5)
        found.append((level.per_tensor, plan.norms, plan.shares, dict(prunable.prunable_parameters(model))))
    for counts, norms, shares, weights in found[1:]:
        assert counts == found[0][0]
        assert shares == pytest.approx(found[0][2])
        for name, norm in norms.items():
            torch.testing.assert_close(norm, found[0][1][name], msg=name)
        for weight, tensor in weights.items():
            torch.testing.assert_close(tensor, found[0][3][weight], atol=2e-3, rtol=1e-3, msg=weight.name)


def alike(names, inputs=6):
    """Matrices of one width, and empty statistics of them."""
    described = [prunable.PrunableWeight(name, 0, name, "mlp", (2, inputs), 1) for name in names]
    return list(matrices((weight, torch.zeros(2, inputs)) for weight in described))


def test_a_product_is_shared_by_what_has_the_same_inputs_alone():
    own = alike("abcd")
    statistics = Statistics(own, torch.device("cpu"), hessians=True)
    values, other = torch.randn(2, 5, 6)
    expected = [values.T @ values, values.T @ values, other.T @ other, 4 * other.T @ other]
    statistics.add(own[0], values)
    product = statistics.piece
    statistics.add(own[1], values[:])
    assert statistics.piece is product
    statistics.add(own[2], other)
    statistics.add(own[3], other.mul_(2))  # in its place in memory
    assert statistics.tokens() == dict.fromkeys("abcd", 5)
    for matrix, hessian in zip(own, expected, strict=True):
        upper, _ = sparsegpt.factor(hessian * 2 / 5, matrix.name)
        assert torch.allclose(statistics.factors(matrix).upper, upper, rtol=1e-3), matrix.name


@pytest.mark.parametrize("kind", [sparsegpt.Hessian, wanda.Norms])
def test_what_is_shared_comes_apart_where_inputs_do(kind):
    """Whoever saw what: the statistics of each matrix are those of its own inputs, to the bit."""
    own, draw = alike("abcde"), torch.Generator().manual_seed(2)
    statistics = Statistics(own, torch.device("cpu"), hessians=kind is sparsegpt.Hessian)
    every, expected = torch.randn(7, 4, 6, generator=draw), {name: kind(6, torch.device("cpu")) for name in "abcde"}
    for values, names in zip(every, ("abc", "abc", "ab", "abd", "c", "aa", "abcd"), strict=True):
        for name in names:
            statistics.add(own["abcde".index(name)], values)
            expected[name].add(kind.piece(values), len(values))
    tokens = statistics.tokens()
    assert tokens == {"a": 28, "b": 20, "c": 16, "d": 8, "e": 0}
    for name, found in expected.items():
        assert tokens[name] == found.tokens
        assert torch.equal(statistics.of[name].kept.found(), found.found()), name


def test_another_part_or_side_of_the_same_inputs_is_another_input():
    """It begins at the same place in memory."""
    own, values = alike("abc"), torch.randn(6, 6, generator=torch.Generator().manual_seed(4))
    statistics = Statistics(own, torch.device("cpu"), hessians=False)
    every = (values[:3], values, values.T)
    for matrix, values in zip(own, every, strict=True):
        statistics.add(matrix, values)
    assert statistics.tokens() == {"a": 3, "b": 6, "c": 6}
    for matrix, values in zip(own, every, strict=True):
        torch.testing.assert_close(statistics.norms(matrix), values.norm(dim=0))


@pytest.mark.parametrize(("name", "once"), [("llama", 4), ("gpt2", 4)])
def test_a_hessian_is_factored_once_for_all_that_have_it(name, once, monkeypatch):
    """Of seven matrices queries, keys and values have one, gates and what they open another."""
    factor, factored = sparsegpt.factor, []
    monkeypatch.setattr(sparsegpt, "factor", lambda hessian, name: (factored.append(name), factor(hessian, name))[1])
    model, _, _ = pruned(name, "sparsegpt")
    assert len(factored) == once * len(dict(prunable.blocks(model.base_model)))


@pytest.mark.parametrize("pattern", ["wanda", "sparsegpt", "wanda-onepass"])
def test_what_nothing_asks_for_is_not_computed(pattern, monkeypatch):
    """The last product of a block, of all batches but the first; and the same masks."""
    linear, multiplied = torch.nn.Linear.forward, []

    def counted(self, values):
        found = linear(self, values)
        multiplied.append(self.out_features)
        return found

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    model, _, plan = pruned("llama", pattern)
    first = model.base_model.layers[0]
    batches, blocks = len(plan.calibration.batches), len(model.base_model.layers)
    last = 1 if pattern == "wanda-onepass" else 0  # the pass over the last block goes on to the end of the model
    whole = len(linear_of(first)) * (batches * (2 * blocks - 1 + last) + 1 - last)
    assert len(multiplied) == whole - blocks * (batches - 1)


def linear_of(block):
    return [part for part in block.modules() if isinstance(part, torch.nn.Linear)]


def test_batches_of_other_shapes_and_experts_run_to_the_end():
    for name, shapes, ends in (("llama", (2, 2, 1), 2), ("llama", (2, 2, 2), 1), ("mixtral", (2, 2, 2), 3)):
        model, ended = model_of(name), []
        batches = [{"input_ids": torch.randint(3, 50, (size, 7))} for size in shapes]
        plan = calibrated.Plan("wanda", model, calibrated.Calibration("tiny", batches, 6, 42, 0, "0"), 0)
        watch = plan._watch

        def watched(seen, own, take, watch=watch, ended=ended):
            def output(batch, original=seen.output):
                original(batch)
                ended.append(batch)

            object.__setattr__(seen, "output", output)
            watch(seen, own, take)
            object.__delattr__(seen, "output")

        plan._watch = watched
        plan.prune_(0.5)
        assert len(ended) == ends * len(model.base_model.layers), name


def test_shares_of_column_blocks_add_up_for_any_count():
    for count in range(0, 301, 7):
        ends = [sparsegpt._share(count, end, 30) for end in (0, 8, 16, 24, 30)]
        assert ends[0] == 0
        assert ends[-1] == count
        assert all(0 <= b - a <= 10 * 8 for a, b in itertools.pairwise(ends))
        assert all(abs(found - count * end / 30) <= 0.5 for found, end in zip(ends, (0, 8, 16, 24, 30), strict=True))


# --- OWL


@given(
    st.lists(st.floats(0, 0.2), min_size=1, max_size=8),
    st.floats(0.02, 0.98),
    st.lists(st.integers(10, 1000), min_size=8, max_size=8),
)
@settings(max_examples=60, deadline=None)
def test_owl_keeps_more_of_blocks_with_more_outliers_and_meets_the_sparsity(shares, sparsity, sizes):
    sizes = sizes[: len(shares)]
    found = np.array(wanda.owl(shares, sizes, sparsity, 0.08))
    assert (found * sizes).sum() / sum(sizes) == pytest.approx(sparsity, abs=1e-9)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(shares, kind="stable")
    assert (np.diff(found[order]) <= 1e-12).all()
    assert np.ptp(found) <= 0.16 + 1e-9


def test_owl_as_published_where_blocks_are_alike():
    shares, sparsity, spread = np.array([0.01, 0.05, 0.02, 0.08]), 0.7, 0.08
    scaled = (shares - shares.min()) / np.ptp(shares) * spread * 2
    kept = scaled - scaled.mean() + (1 - sparsity)
    assert np.allclose(wanda.owl(shares, [5, 5, 5, 5], sparsity, spread), 1 - kept, atol=1e-12)
    assert wanda.outliers([torch.tensor([[1.0, 1.0, 1.0, 9.0]]), torch.tensor([[0.0, 8.0]])], 2.0) == 2 / 6
    assert wanda.outliers([torch.zeros(2, 3)], 5.0) == 0, "equal scores, those of dead inputs too, are no outliers"


# --- whole models


def calibration(model, count=4):
    return calibrated.Calibration("tiny", batches_of(model, count), 2 * count, 14 * count, 0, "0")


def pruned(name, pattern, sparsity=0.5, **options):
    model = model_of(name)
    plan = calibrated.Plan(pattern, model, calibration(model), 0, **options)
    return model, plan.prune_(sparsity), plan


@pytest.mark.parametrize("pattern", [*CALIBRATED, "wanda-nm4", "sparsegpt-nm4"])
@pytest.mark.parametrize("name", ["llama", "bert", "gpt2", "vit", "mixtral", "llama4", "swin"])
def test_counts_are_exact_and_pruned_weights_are_zero(name, pattern):
    model, level, _ = pruned(name, pattern)
    zeros = {weight.name: int((tensor == 0).sum()) for weight, tensor in prunable.prunable_parameters(model)}
    assert level.per_tensor == zeros
    assert level.k == sum(zeros.values())
    if "owl" not in pattern:
        assert level.k / level.n == pytest.approx(0.5, abs=0.03)
    for matrix in matrices_of(model):
        gone = matrix.rows() == 0
        if pattern in ("wanda", "wanda-onepass"):
            assert gone.sum(dim=1).tolist() == [level_count(0.5, matrix.inputs)] * len(gone)
        if pattern.endswith("nm4"):
            whole = matrix.inputs // 4 * 4
            assert (gone[:, :whole].reshape(len(gone), -1, 4).sum(-1) == 2).all()
            assert not gone[:, whole:].any()
    assert level.calibration["calibration"] == "tiny"
    assert (level.calibration["damping"] is None) == ("sparsegpt" not in pattern)


@pytest.mark.parametrize("pattern", ["wanda-nm16", "sparsegpt-nm16"])
def test_groups_that_inputs_are_no_multiple_of_are_counted_as_magnitude_counts_them(pattern):
    """Inputs of 24 and 40: the last 8 of each stay."""
    level = pruned("llama", pattern)[1]
    peer = masks.plan("nm16", prunable.prunable_parameters(model_of("llama")), [0.5], 0).prune_(0.5)
    for part in ("k", "n", "keep", "group", "tail", "per_tensor"):
        assert getattr(level, part) == getattr(peer, part), part
    assert level.tail == level.n - 2 * level.k > 0


def test_groups_that_are_wider_than_all_matrices_are_refused():
    expected = "nm64 prunes groups of 64 inputs, but the widest matrix of this model has 40: nothing would be pruned"
    with pytest.raises(ValueError, match=f"sparsegpt-{expected}"):
        pruned("llama", "sparsegpt-nm64")
    with pytest.raises(ValueError, match=expected):
        masks.plan("nm64", prunable.prunable_parameters(model_of("llama")), [0.5], 0).prune_(0.5)
    assert pruned("llama", "wanda-nm40")[1].k > 0


def test_owl_of_a_model_is_the_published_formula_on_its_own_forward_pass():
    """Three blocks, one of them larger; shares of outliers above five times the mean of a block's scores."""
    model, dense = model_of("swin"), model_of("swin")
    data, squares = calibration(model), {}
    found = dict(prunable.blocks(dense.base_model))
    linear = [(path, part) for path in found for part in found[path].modules() if isinstance(part, torch.nn.Linear)]
    for _, part in linear:
        part.register_forward_pre_hook(
            lambda own, args: squares.update(
                {own: squares.get(own, 0) + args[0].double().square().flatten(0, -2).sum(0)}
            )
        )
    with torch.no_grad():
        for batch in data.batches:
            dense.base_model(**batch)
    scores = {
        path: torch.cat(
            [(part.weight.double().abs() * squares[part].sqrt()).flatten() for at, part in linear if at == path]
        )
        for path in found
    }
    shares = np.array([float((part > 5 * part.mean()).double().mean()) for part in scores.values()])
    sizes = np.array([part.numel() for part in scores.values()])
    scaled = (shares - shares.min()) / np.ptp(shares) * 2 * 0.08
    expected = 1 - (scaled - (scaled * sizes).sum() / sizes.sum() + (1 - 0.6))
    level = calibrated.Plan("owl-sparsegpt", model, data, 0).prune_(0.6)
    pruned_of = [sum(k for name, k in level.per_tensor.items() if name.startswith(f"{path}.")) for path in found]
    assert len(set(sizes)) > 1
    assert np.ptp(expected) > 0.1
    assert np.allclose(np.array(pruned_of) / sizes, expected, atol=0.002)
    assert level.k / level.n == pytest.approx(0.6, abs=0.001)


def test_wanda_with_equal_norms_is_magnitude_of_each_row(monkeypatch):
    monkeypatch.setattr(wanda.Norms, "found", lambda self: torch.full_like(self.squares, 2.0).float())
    model, _level, _ = pruned("llama", "wanda", 0.4)
    peer = model_of("llama")
    masks.plan("rowwise", prunable.prunable_parameters(peer), [0.4], 0).prune_(0.4)
    for (weight, one), (_, other) in zip(
        prunable.prunable_parameters(model), prunable.prunable_parameters(peer), strict=True
    ):
        assert torch.equal(one, other), weight.name


def test_one_pass_masks_nest_and_are_those_of_the_dense_model():
    model = model_of("llama")
    dense = copy.deepcopy(model)
    plan = calibrated.Plan("wanda-onepass", model, calibration(model), 0, remember=True)
    before = None
    for sparsity in (0.2, 0.5, 0.7):
        model.load_state_dict(dense.state_dict())
        found = dict(plan.masks(sparsity))
        assert before is None or all((before[name] & ~found[name]).sum() == 0 for name in found)
        before = {name: mask.clone() for name, mask in found.items()}
    first = pruned("llama", "wanda", 0.5, remember=True)[2]
    one = pruned("llama", "wanda-onepass", 0.5, remember=True)[2]
    zero, last = (
        [n for n in dict(first.kept) if f"layers.{i}." in n and "down" not in n and "o_proj" not in n] for i in (0, 1)
    )
    assert any(not torch.equal(first.kept[n], one.kept[n]) for n in last), "later blocks see other inputs"
    assert all(torch.equal(first.kept[n], one.kept[n]) for n in zero), (
        "the first block's own inputs are the dense model's"
    )


def test_a_second_level_from_restored_weights_is_the_level_by_itself(tmp_path):
    folder = tiny.save_llama(tmp_path / "m")
    model = loading.load_model(folder, "AutoModelForCausalLM")
    data = calibrated.Calibration(
        "t", [{"input_ids": torch.randint(4, 16, (4, 12), generator=torch.Generator().manual_seed(0))}], 4, 48, 0, ""
    )
    plan = calibrated.Plan("sparsegpt", model, data, 0)
    plan.prune_(0.3)
    calibrated.restore_(model, folder)
    plan.prune_(0.6)
    alone = loading.load_model(folder, "AutoModelForCausalLM")
    calibrated.Plan("sparsegpt", alone, data, 0).prune_(0.6)
    for (_, one), (_, other) in zip(
        prunable.prunable_parameters(model), prunable.prunable_parameters(alone), strict=True
    ):
        assert torch.equal(one, other)


def stored_as(model, folder, storage):
    """The model saved in one file, in several, or as a pickle; what reading it needs."""
    model.save_pretrained(folder, max_shard_size="20KB" if storage == "shards" else "5GB")
    if storage == "pickle":
        torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        (folder / "model.safetensors").unlink()
    assert (len(list(folder.glob("*.safetensors"))) > 1) == (storage == "shards")
    return {"allow_pickle": storage == "pickle"}


@pytest.mark.parametrize(
    ("name", "dtype", "storage"),
    [
        ("gpt2", torch.bfloat16, "shards"),
        ("mixtral", torch.float16, "shards"),
        ("mixtral", torch.bfloat16, "pickle"),
        ("gpt-oss", torch.float32, "file"),
        ("deberta-v2", torch.float32, "pickle"),
    ],
)
def test_a_lower_level_from_restored_weights_whatever_they_are_stored_as(name, dtype, storage, tmp_path):
    """Conv1D, experts that are merged as they are read and experts stored inputs first, weights that two matrices share."""
    whole = model_of(name)
    for parameter in whole.parameters():
        parameter.data.mul_(0.3)  # else float16 overflows
    load = stored_as(whole.to(dtype), tmp_path, storage)
    model, alone = (loading.load_model(tmp_path, "AutoModel", allow_new=("pooler.",), **load) for _ in range(2))
    plan = calibrated.Plan("sparsegpt", model, calibration(model), 0)
    plan.prune_(0.5)
    calibrated.restore_(model, tmp_path, **load)
    plan.prune_(0.3)
    calibrated.Plan("sparsegpt", alone, calibration(alone), 0).prune_(0.3)
    assert {tensor.dtype for _, tensor in prunable.prunable_parameters(model)} == {dtype}
    for key, tensor in alone.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_a_level_that_was_pruned_last_is_not_pruned_again(monkeypatch):
    """Training asks for its masks, then for the level."""
    model, walks, original = model_of("llama"), [], calibrated.walk
    monkeypatch.setattr(calibrated, "walk", lambda *args, **kwargs: (walks.append(args), original(*args, **kwargs)))
    plan = calibrated.Plan("sparsegpt", model, calibration(model), 0, remember=True)
    found = dict(plan.masks(0.5))
    level = plan.prune_(0.5)
    assert len(walks) == 1
    plan.prune_(0.7)
    assert len(walks) == 2
    assert level.per_tensor == {name: int(mask.sum()) for name, mask in found.items()}, (
        "masks stay those of their level"
    )


@pytest.mark.parametrize("pattern", ["sparsegpt", "wanda", "wanda-onepass", "sparsegpt-nm4"])
def test_the_same_bits_from_the_same_seed_and_other_ties_from_another(pattern):
    """Inputs that are all zero tie all weights of the matrices that read them."""
    masks_of = {}
    for seed in (0, 0, 1):
        model = model_of("llama")
        model.base_model.layers[1].input_layernorm.weight.data.zero_()
        calibrated.Plan(pattern, model, calibration(model), seed).prune_(0.5)
        found = {weight.name: tensor for weight, tensor in prunable.prunable_parameters(model)}
        masks_of.setdefault(seed, []).append(found)
    (one, again), (other,) = masks_of[0], masks_of[1]
    assert all(torch.equal(one[name], again[name]) for name in one)
    tied = "layers.1.self_attn.q_proj.weight"
    assert not torch.equal(one[tied] == 0, other[tied] == 0)
    assert torch.equal(one["layers.0.self_attn.q_proj.weight"], other["layers.0.self_attn.q_proj.weight"])


def test_ties_of_some_columns_are_those_of_the_whole_matrix():
    model = model_of("mixtral")
    plan = calibrated.Plan("sparsegpt", model, calibration(model), 3)
    every = [matrix for own in plan.own.values() for matrix in own]
    for matrix in every:
        rows = torch.arange(len(matrix.rows()))
        whole = plan._hashes(matrix, rows)
        assert torch.equal(plan._hashes(matrix, rows[[3, 1]], 5, 9), whole[[3, 1], 5:9])
    hashes = torch.cat([plan._hashes(matrix, torch.arange(len(matrix.rows()))).flatten() for matrix in every])
    assert len(hashes.unique()) == plan.n, "no two weights of a model tie"


def test_the_largest_damping_is_told_and_said(monkeypatch, capsys):
    original, needed = sparsegpt.factor, iter([0.01, 0.1] + [0.01] * 20)
    monkeypatch.setattr(sparsegpt, "factor", lambda *args: (original(*args)[0], next(needed)))
    _, level, _ = pruned("llama", "sparsegpt")
    assert level.calibration["damping"] == 0.1
    assert "warning: the damping of a Hessian had to be raised to 0.1." in capsys.readouterr().out
    monkeypatch.setattr(sparsegpt, "factor", original)
    assert pruned("llama", "sparsegpt")[1].calibration["damping"] == 0.01
    assert "damping" not in capsys.readouterr().out


@pytest.mark.parametrize("pattern", ["sparsegpt", "wanda", "owl-wanda"])
def test_a_kill_in_the_middle_of_the_blocks_goes_on_with_the_same_bits(pattern, tmp_path, monkeypatch):
    expected, level, _ = pruned("llama", pattern, remember=True)
    place = lambda sparsity: (tmp_path / f"{sparsity}", {"level": sparsity, "drawn": (1, 2)})  # noqa: E731
    keep, done = calibrated.Plan._keep, []

    def dies(self, own, folder, identity, made):
        keep(self, own, folder, identity, made)
        done.append(folder.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrated.Plan, "_keep", dies)
    with pytest.raises(KeyboardInterrupt):
        pruned("llama", pattern, place=place, remember=True)
    monkeypatch.setattr(calibrated.Plan, "_keep", lambda *args: (keep(*args), done.append(args[2].name)))
    model, again, plan = pruned("llama", pattern, place=place, remember=True)
    assert done == ["0000", "0001"], "the first block was pruned once"
    assert again == level
    for (weight, one), (_, other) in zip(
        prunable.prunable_parameters(model), prunable.prunable_parameters(expected), strict=True
    ):
        assert torch.equal(one, other), weight.name
    assert all(
        torch.equal(plan.kept[weight.name], tensor == 0) for weight, tensor in prunable.prunable_parameters(model)
    )
    plan.forget(0.5)
    assert not (tmp_path / "0.5").exists()


def test_what_pruning_came_to_outlives_a_kill(tmp_path, monkeypatch, capsys):
    """Experts that saw nothing, and a damping that was raised, in the blocks of the attempt before."""
    original = sparsegpt.factor
    data = calibrated.Calibration("one", [{"input_ids": torch.tensor([[5]])}], 1, 1, 0, "")

    def found():
        needed = iter([0.1])
        monkeypatch.setattr(sparsegpt, "factor", lambda *args: (original(*args)[0], next(needed, 0.01)))
        model = model_of("mixtral")
        plan = calibrated.Plan("sparsegpt", model, data, 0, place=lambda _: (tmp_path / "l", {}), remember=True)
        level = plan.prune_(0.5)
        return level, capsys.readouterr().out, plan.kept, dict(prunable.prunable_parameters(model))

    first, told, masks_of, weights = found()
    monkeypatch.setattr(calibrated.Plan, "_watch", None)  # every block is taken
    again, told_again, masks_again, weights_again = found()
    assert (first.calibration["uncalibrated"], first.calibration["damping"]) == (8, 0.1)
    assert again == first
    assert told_again == told
    assert "experts saw no token" in told
    assert all(torch.equal(mask, masks_again[name]) for name, mask in masks_of.items())
    assert all(torch.equal(tensor, weights_again[weight]) for weight, tensor in weights.items())


@pytest.mark.parametrize("pattern", ["wanda", "wanda-onepass", "sparsegpt-nm4"])
@pytest.mark.parametrize("name", ["gpt2", "mixtral", "llama4", "gpt-oss"])
def test_remembered_masks_are_where_the_zeros_are(name, pattern):
    """Of layers that are stored inputs first, and of each expert of a stack."""
    model, _, plan = pruned(name, pattern, remember=True)
    kept = dict(plan.masks(0.5))
    assert kept.keys() == {weight.name for weight in prunable.find_prunable(model)}
    for weight, tensor in prunable.prunable_parameters(model):
        assert torch.equal(kept[weight.name], tensor == 0), weight.name


def test_a_stack_of_experts_is_kept_and_taken_once(tmp_path, monkeypatch):
    """Not once for each of its experts: a stack may be a gigabyte, on a GPU."""
    cpu, copy_, moved = torch.Tensor.cpu, torch.Tensor.copy_, []
    stacks = {weight.shape for weight in prunable.find_prunable(model_of("mixtral")) if len(weight.shape) == 3}
    place = {"place": lambda _: (tmp_path / "l", {})}
    monkeypatch.setattr(torch.Tensor, "cpu", lambda own: (moved.append(tuple(own.shape)), cpu(own))[1])
    pruned("mixtral", "wanda", **place)
    assert [shape in stacks for shape in moved].count(True) == 4, "two in each of two blocks"
    moved.clear()
    monkeypatch.setattr(
        torch.Tensor, "copy_", lambda own, other: (moved.append(tuple(own.shape)), copy_(own, other))[1]
    )
    pruned("mixtral", "wanda", **place)
    assert [shape in stacks for shape in moved].count(True) == 4


def test_outliers_of_experts_that_saw_no_token_are_those_of_their_magnitudes():
    """Norms of nothing are 0: with them other weights of the block would stand out."""
    model = model_of("mixtral")
    data = calibrated.Calibration("one", [{"input_ids": torch.tensor([[5]])}], 1, 1, 0, "")
    norms = calibrated.Plan("wanda-onepass", model, data, 0).norms
    plan = calibrated.Plan("owl-wanda", model, data, 0)
    scored = {path: [m.rows().abs() * norms[m.name] for m in own] for path, own in plan.own.items()}
    assert len(plan.unseen) == 8
    assert all((norms[name] == 1).all() for name in plan.unseen)
    assert plan.shares == [wanda.outliers(every, calibrated.OWL_THRESHOLD) for every in scored.values()]


@pytest.mark.parametrize("change", ["identity", "bytes", "marker"])
def test_blocks_of_anything_else_are_not_taken(change, tmp_path, capsys):
    place = lambda sparsity: (tmp_path / "level", {"code": "a"})  # noqa: E731
    expected = pruned("llama", "wanda", place=place)[0]
    if change == "identity":
        place = lambda sparsity: (tmp_path / "level", {"code": "b"})  # noqa: E731
    if change == "bytes":
        file = tmp_path / "level/0000/block.safetensors"
        file.write_bytes(file.read_bytes()[:-4] + b"\0\0\0\1")
    if change == "marker":
        (tmp_path / "level/0000/complete.json").unlink()
    found = pruned("llama", "wanda", place=place)[0]
    assert "0000 is not used" in capsys.readouterr().out
    assert all(
        torch.equal(a, b)
        for (_, a), (_, b) in zip(
            prunable.prunable_parameters(found), prunable.prunable_parameters(expected), strict=True
        )
    )


@pytest.mark.parametrize("pattern", ["sparsegpt", "wanda", "wanda-onepass"])
def test_an_expert_that_saw_no_token_is_pruned_by_magnitude_and_said(pattern, capsys):
    model = model_of("mixtral")
    data = calibrated.Calibration("one", [{"input_ids": torch.tensor([[5]])}], 1, 1, 0, "")
    level = calibrated.Plan(pattern, model, data, 0).prune_(0.5)
    told = capsys.readouterr().out
    assert level.calibration["uncalibrated"] == 8  # two of four experts in each of two blocks, two stacks each
    assert "8 experts saw no token of the calibration 'one' and are pruned by magnitude" in told
    dense = {m.name: m.rows() for m in matrices_of(model_of("mixtral"))}
    unseen = [m for m in matrices_of(model) if m.name in told]
    assert unseen
    for matrix in unseen:
        gone, size = matrix.rows() == 0, dense[matrix.name].abs()
        assert all(size[r][gone[r]].max() <= size[r][~gone[r]].min() for r in range(len(gone)))


@pytest.mark.parametrize("pattern", CALIBRATED)
def test_a_block_without_weights_is_passed_by(pattern, tmp_path):
    """As of models from which layers were taken out."""
    model = model_of("llama")
    empty = model.base_model.layers[0]
    empty.mlp, empty.self_attn.forward = torch.nn.Identity(), lambda hidden_states, **_: (hidden_states, None)
    for name in "qkvo":
        delattr(empty.self_attn, f"{name}_proj")
    level = calibrated.Plan(pattern, model, calibration(model), 0, place=lambda _: (tmp_path / "l", {})).prune_(0.5)
    assert {name.partition(".self_attn")[0].partition(".mlp")[0] for name in level.per_tensor} == {"layers.1"}
    assert level.k / level.n == pytest.approx(0.5, abs=0.01)


def test_a_level_of_another_count_is_no_level(monkeypatch):
    original = smallest.of_rows
    monkeypatch.setattr(smallest, "of_rows", lambda scores, count, hashes: original(scores, count - 1, hashes))
    with pytest.raises(RuntimeError, match=r"wanda at 0\.5: pruned \d+ weights instead of \d+"):
        pruned("llama", "wanda")


@pytest.mark.parametrize("role", ["mlp.experts.up", "mlp.parts.up"])
def test_only_of_experts_some_may_see_nothing(role):
    plan = pruned("llama", "wanda")[2]
    described = [prunable.PrunableWeight(f"layers.0.{name}", 0, role, "mlp", (2, 6), 1) for name in "ab"]
    own = list(matrices((weight, torch.zeros(2, 6)) for weight in described))
    if role == "mlp.experts.up":
        assert plan._checked(own, {"layers.0.a": 5}) == ["layers.0.b"]
        return
    with pytest.raises(prunable.CheckpointError, match=r"the inputs of layers\.0\.b cannot be seen"):
        plan._checked(own, {"layers.0.a": 5})


@pytest.mark.parametrize("product", [torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__])
@pytest.mark.parametrize("outputs", [5, 3])
def test_inputs_in_columns_behind_their_matrix_are_seen(product, outputs):
    """As Mamba and Jamba multiply their time steps; a product over a matrix' outputs is none with its inputs."""
    weight, values = torch.randn(outputs, 3), torch.randn(2, 4, 3)
    own = list(matrices([(prunable.PrunableWeight("dt_proj", 0, "dt_proj", "mlp", (outputs, 3), 1), weight)]))
    seen = []
    with Watching(own, lambda matrix, inputs: seen.append(inputs)):
        product(weight, values.transpose(1, 2))
        product(weight.T, torch.randn(2, outputs, 4))
    assert len(seen) == 1
    assert torch.equal(seen[0], values.reshape(-1, 3))


def test_jamba_s_time_steps_are_calibrated():
    config = transformers.JambaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, num_experts=4, mamba_d_state=4, mamba_dt_rank=8,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.JambaForCausalLM(config).eval()
    dense = torch.nn.init.normal_(model.model.layers[0].mamba.dt_proj.weight).detach().clone()
    ids, seen = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(1)), []
    with (
        torch.no_grad(),
        model.model.layers[0].mamba.dt_layernorm.register_forward_hook(lambda *args: seen.append(args[2])),
    ):
        model(ids)
    data = calibrated.Calibration("tiny", [{"input_ids": ids}], len(ids), ids.numel(), 0, "")
    plan = calibrated.Plan("wanda-onepass", model, data, 0)
    (name,) = (name for name in plan.norms if name.endswith("0.mamba.dt_proj.weight"))
    torch.testing.assert_close(plan.norms[name], seen[0].reshape(-1, 8).norm(dim=0))
    plan.prune_(0.5)
    expected = smallest.of_rows(dense.abs() * plan.norms[name], 4, of_width(8))
    assert torch.equal(model.model.layers[0].mamba.dt_proj.weight == 0, expected)


def test_albert_is_measured_in_one_pass_alone():
    assert pruned("albert", "wanda-onepass")[1].k > 0
    with pytest.raises(prunable.CheckpointError, match="more than once"):
        pruned("albert", "wanda")


def test_a_matrix_whose_inputs_are_not_seen_is_an_error(monkeypatch):
    forward = torch.nn.Linear.forward

    def hidden_product(self, values):
        if self.out_features == 40:
            return torch.einsum("...i,oi->...o", values, self.weight)
        return forward(self, values)

    monkeypatch.setattr(torch.nn.Linear, "forward", hidden_product)
    with pytest.raises(prunable.CheckpointError, match=r"the inputs of .*gate_proj.* cannot be seen"):
        pruned("llama", "wanda")


def test_inputs_that_overflow_are_refused_by_matrix():
    model = model_of("llama")
    data = calibration(model)
    for _, tensor in prunable.prunable_parameters(model):
        tensor.fill_(1e30)
    with pytest.raises(ValueError, match=r"layers\.0\..*its inputs on the calibration 'tiny' are not finite"):
        calibrated.Plan("wanda", model, data, 0).prune_(0.5)


def test_weights_of_two_blocks_are_refused():
    model = model_of("llama")
    first, second = model.base_model.layers[0].mlp, model.base_model.layers[1].mlp
    second.up_proj.weight = first.up_proj.weight
    with pytest.raises(prunable.CheckpointError, match=r"blocks layers\.0 and layers\.1 share weights"):
        calibrated.Plan("wanda", model, calibration(model), 0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("pattern", ["wanda", "sparsegpt", "owl-wanda", "sparsegpt-nm4"])
@pytest.mark.parametrize("name", ["llama", "vit", "swin"])
def test_weights_of_sixteen_bits_keep_counts_and_type(name, pattern, dtype):
    model = model_of(name).to(dtype)
    for _, tensor in prunable.prunable_parameters(model):
        tensor.mul_(0.2)  # else float16 overflows
    level = calibrated.Plan(pattern, model, calibration(model), 0, remember=True)
    found = level.prune_(0.5)
    for weight, tensor in prunable.prunable_parameters(model):
        assert tensor.dtype == dtype
        assert (tensor[level.kept[weight.name]] == 0).all()
        assert int(level.kept[weight.name].sum()) == found.per_tensor[weight.name]


def test_a_model_in_training_mode_is_calibrated_without_dropout():
    model, other = model_of("bert").train(), model_of("bert")
    calibrated.Plan("wanda", model, calibration(model), 0).prune_(0.5)
    calibrated.Plan("wanda", other, calibration(other), 0).prune_(0.5)
    pairs = zip(prunable.prunable_parameters(model), prunable.prunable_parameters(other), strict=True)
    assert all(torch.equal(one, two) for (_, one), (_, two) in pairs)


@pytest.mark.parametrize("pattern", CALIBRATED)
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_by_tensor(pattern, value):
    model = model_of("llama")
    model.base_model.layers[1].mlp.down_proj.weight.data[3, 5] = value  # whose outputs no matrix is calibrated on
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.down_proj\.weight holds NaN or infinity"):
        calibrated.Plan(pattern, model, calibration(model), 0).prune_(0.5)


def test_updated_weights_that_do_not_fit_the_data_type_are_refused():
    model = model_of("llama")
    model.base_model.embed_tokens.weight.data.fill_(1.0)  # all inputs alike: one weight makes up for all others
    model.base_model.layers[0].input_layernorm.weight.data.fill_(1e-4)
    model = model.half()
    model.base_model.layers[0].self_attn.q_proj.weight.data.fill_(6e4)
    with pytest.raises(
        ValueError, match=r"q_proj\.weight: weights that make up for pruned ones are too large for .*float16"
    ):
        calibrated.Plan("sparsegpt", model, calibration(model), 0).prune_(0.5)


def test_outliers_of_inputs_that_overflow_are_refused():
    """A mean that is infinite has no outliers: OWL would prune the broken block the most."""
    model = model_of("llama")
    model.base_model.layers[1].input_layernorm.weight.data.fill_(float("inf"))
    with pytest.raises(ValueError, match=r"layers\.1\..*its inputs on the calibration 'tiny' are not finite"):
        calibrated.Plan("owl-wanda", model, calibration(model), 0)


@pytest.mark.parametrize("pattern", ["wanda", "wanda-onepass", "owl-sparsegpt"])
def test_experts_whose_inputs_are_never_seen_are_an_error_not_experts_without_tokens(pattern, monkeypatch):
    """All experts at once, in one product of a batch, whose inputs do not tell which tokens come to which."""
    model = model_of("mixtral")
    experts = model.base_model.layers[1].mlp.experts

    def at_once(hidden_states, top_k_index, top_k_weights):
        every = hidden_states.expand(experts.num_experts, *hidden_states.shape)
        gate, up = torch.bmm(every, experts.gate_up_proj.transpose(1, 2)).chunk(2, dim=-1)
        out = torch.bmm(torch.nn.functional.silu(gate) * up, experts.down_proj.transpose(1, 2))
        weights = torch.zeros(len(hidden_states), experts.num_experts).scatter_(1, top_k_index, top_k_weights)
        return (out * weights.T[..., None]).sum(dim=0)

    monkeypatch.setattr(experts, "forward", at_once)
    with pytest.raises(prunable.CheckpointError, match=r"the inputs of layers\.1\.mlp\.experts.* cannot be seen"):
        calibrated.Plan(pattern, model, calibration(model), 0).prune_(0.5)


@pytest.mark.parametrize(
    ("pattern", "tokens", "told"),
    [("sparsegpt", 39, True), ("sparsegpt", 40, False), ("sparsegpt", None, False), ("wanda", 1, False)],
)
def test_a_calibration_of_fewer_tokens_than_inputs_is_told(pattern, tokens, told, capsys):
    """SparseGPT solves for as many weights as a matrix has inputs: fewer tokens leave most of them free. Of images none are counted."""
    model = model_of("llama")
    calibrated.Plan(pattern, model, dataclasses.replace(calibration(model), tokens=tokens), 0)
    assert ("Raise sequences or length" in capsys.readouterr().out) == told
