"""Properties of masks: exact counts, one nested order, fair ties, the same bits whatever the chunks."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from torch.nn.utils.prune import L1Unstructured, global_unstructured

from essential_sparsity import patterns
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import allocation, groups, masks, parallel, spectrum, thresholds

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
UNSTRUCTURED = ["global", "layerwise", "random", "erk", "erk-random"]
EVERY = [*patterns.PATTERNS, "nm4"]
BRANCHES = {"NumPy, as on a processor": thresholds.view, "torch, as on a GPU": lambda tensor: tensor}


@contextlib.contextmanager
def branch(name):
    """Masks are made by this branch of the code, whatever the tensors lie on."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (thresholds, groups, masks):
            patch.setattr(module, "view", BRANCHES[name])
        yield


@pytest.fixture(params=BRANCHES, scope="module", autouse=True)
def _branch(request):
    with branch(request.param):
        yield


def weight(name, shape, input_dim=1, layer=0, role="mlp"):
    return PrunableWeight(name=name, layer=layer, role=role, sublayer="mlp", shape=tuple(shape), input_dim=input_dim)


def some_weights(dtype=torch.float32, seed=0, shapes=((24, 16), (16, 40), (8, 8), (32, 16))):
    generator = torch.Generator().manual_seed(seed)
    return [
        (weight(f"layer.{i}.weight", shape, layer=i), (torch.randn(shape, generator=generator) * 0.02).to(dtype))
        for i, shape in enumerate(shapes)
    ]


def all_masks(pattern, weights, sparsity, seed=0, **options):
    plan = masks.Plan(pattern, weights, [sparsity], seed, **options)
    return dict(plan.masks(sparsity))


def plan_of(pattern, weights):
    """At the one level that every pattern has, whole masks given to those that need them."""
    given = {0.0: {w.name: torch.zeros(t.shape, dtype=torch.bool) for w, t in weights}}
    return masks.Plan(pattern, weights, [0.0], 0, given)


def flat(found):
    return torch.cat([found[name].reshape(-1) for name in sorted(found)])


def magnitudes(weights):
    return torch.cat([tensor.abs().reshape(-1) for _, tensor in sorted(weights, key=lambda pair: pair[0].name)])


@pytest.mark.parametrize("dtype", DTYPES)
@given(sparsity=st.floats(0, 1), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_exact_count_at_any_sparsity(dtype, sparsity, seed):
    weights = some_weights(dtype)
    n = sum(t.numel() for _, t in weights)
    for pattern in ("global", "random", "erk", "erk-random"):
        assert int(flat(all_masks(pattern, weights, sparsity, seed)).sum()) == spectrum.level_count(sparsity, n)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", UNSTRUCTURED)
def test_exact_count_at_the_ends(pattern, dtype):
    weights = some_weights(dtype)
    n = sum(t.numel() for _, t in weights)
    for k in (0, 1, n - 1, n):
        expected = k
        if pattern == "layerwise":
            expected = sum(spectrum.level_count(k / n, t.numel()) for _, t in weights)
        assert int(flat(all_masks(pattern, weights, k / n)).sum()) == expected


def test_level_count_rounds_halves_up_in_decimal():
    assert spectrum.level_count(0.5, 5) == 3
    assert spectrum.level_count(0.145, 1000) == 145
    assert spectrum.level_count(0.7, 45) == 32  # 31.5, which floats put below the half
    with pytest.raises(ValueError, match="outside"):
        spectrum.level_count(1.01, 10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", UNSTRUCTURED)
def test_masks_are_nested_over_sparsity(pattern, dtype):
    weights = some_weights(dtype)
    levels = [0.01 * i for i in range(101)]
    plan = masks.Plan(pattern, weights, levels, seed=3)
    previous = torch.zeros(sum(t.numel() for _, t in weights), dtype=torch.bool)
    for level in levels:
        current = flat(dict(plan.masks(level)))
        assert not (previous & ~current).any(), f"{pattern} at {level} keeps a weight that a lower sparsity pruned"
        previous = current


@pytest.mark.parametrize("group", [2, 4, 8, 16])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nm_masks_are_nested_and_exact(group, dtype):
    weights = [(weight("a", (24, 32)), some_weights(dtype, shapes=((24, 32),))[0][1])]
    previous = torch.zeros(24, 32, dtype=torch.bool)
    for pruned in range(1, group):
        mask = all_masks(f"nm{group}", weights, pruned / group)["a"]
        assert (mask.view(24, -1, group).sum(-1) == pruned).all()
        assert not (previous & ~mask).any()
        previous = mask


@pytest.mark.parametrize("dtype", DTYPES)
@given(sparsity=st.floats(0.001, 0.999))
@settings(max_examples=25, deadline=None)
def test_largest_pruned_is_not_above_smallest_kept(dtype, sparsity):
    weights = some_weights(dtype)
    mask, values = flat(all_masks("global", weights, sparsity)), magnitudes(weights)
    if mask.any() and not mask.all():
        assert values[mask].max() <= values[~mask].min()
    for name, layer_mask in all_masks("layerwise", weights, sparsity).items():
        tensor = next(t for w, t in weights if w.name == name).abs()
        if layer_mask.any() and not layer_mask.all():
            assert tensor[layer_mask].max() <= tensor[~layer_mask].min()


@pytest.mark.parametrize("pattern", ["global", "layerwise"])
def test_equals_torch_prune_where_nothing_ties(pattern):
    weights = [(w, torch.randperm(t.numel()).view(t.shape).float() + i / 7) for i, (w, t) in enumerate(some_weights())]
    for sparsity in (0.1, 0.37, 0.5, 0.93):
        modules = {w.name: torch.nn.Linear(t.shape[1], t.shape[0], bias=False) for w, t in weights}
        for w, t in weights:
            modules[w.name].weight.data = t.clone()
        if pattern == "global":
            n = sum(t.numel() for _, t in weights)
            pairs = [(m, "weight") for m in modules.values()]
            global_unstructured(pairs, L1Unstructured, amount=spectrum.level_count(sparsity, n))
        else:
            for w, t in weights:
                L1Unstructured.apply(modules[w.name], "weight", amount=spectrum.level_count(sparsity, t.numel()))
        for name, mask in all_masks(pattern, weights, sparsity).items():
            assert torch.equal(mask, modules[name].weight_mask == 0)


@pytest.mark.parametrize("pattern", [*UNSTRUCTURED, "nm4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_chunks_threads_and_order_of_tensors_change_nothing(pattern, dtype, monkeypatch):
    weights = some_weights(dtype)
    reference = all_masks(pattern, weights, 0.5)
    for chunk, threads in ((7, 3), (64, 1), (1 << 10, 2), (1 << 20, 2)):
        monkeypatch.setattr(parallel, "CHUNK", chunk)
        monkeypatch.setattr(parallel.torch, "get_num_threads", lambda threads=threads: threads)
        for listed in (weights, weights[::-1]):
            found = all_masks(pattern, listed, 0.5)
            assert all(torch.equal(found[name], mask) for name, mask in reference.items())
    assert list(all_masks(pattern, weights[::-1], 0.5)) == sorted(reference)


def test_many_ties_narrowed_by_histogram_give_the_same_masks(monkeypatch):
    weights = some_weights(torch.bfloat16, shapes=((64, 64), (64, 128)))
    reference = {p: flat(all_masks(p, weights, 0.3)) for p in ("global", "random")}
    monkeypatch.setattr(thresholds, "COLLECT", 1)
    for pattern, mask in reference.items():
        assert torch.equal(flat(all_masks(pattern, weights, 0.3)), mask)


@pytest.mark.parametrize("pattern", [*UNSTRUCTURED, "nm2", "nm4", "nm8"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tied", [False, True])
def test_both_branches_give_the_same_bits(pattern, dtype, tied, monkeypatch):
    weights = some_weights(dtype, shapes=((24, 16), (16, 41), (1, 8), (32, 16)))
    if tied:
        weights = [(w, (t * 100).round() / 100) for w, t in weights]
    weights.append((weight("transposed", (16, 24), input_dim=0), weights[0][1].t()))
    monkeypatch.setattr(parallel, "CHUNK", 100)
    monkeypatch.setattr(thresholds, "COLLECT", 50)
    found = []
    for name in BRANCHES:
        with branch(name):
            plan = masks.Plan(pattern, weights, [0.0, 0.25, 0.5, 1.0] if pattern[:2] != "nm" else [0.0, 0.5], seed=2)
            found.append([dict(plan.masks(level)) for level in (0.0, 0.5)])
    for one, other in zip(*found, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(mask, other[key]) for key, mask in one.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_choosing_masks_leaves_the_weights_as_they_are(dtype):
    for shape in ((1, 4), (4, 4), (3, 10), (24, 16)):
        weights = some_weights(dtype, shapes=(shape,))
        before = weights[0][1].clone()
        for pattern in (*UNSTRUCTURED, "nm2", "nm4"):
            all_masks(pattern, weights, 0.5)
            assert torch.equal(weights[0][1], before), (pattern, shape)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", ["global", "layerwise", "nm4", "random"])
def test_ties_fall_evenly_never_in_whole_rows(pattern, dtype):
    weights = [(weight("a", (64, 64)), torch.full((64, 64), 0.5, dtype=dtype))]
    mask = all_masks(pattern, weights, 0.5)["a"]
    assert int(mask.sum()) == 2048
    assert 8 < int(mask.sum(0).min()) <= int(mask.sum(0).max()) < 56
    assert 8 < int(mask.sum(1).min()) <= int(mask.sum(1).max()) < 56


def test_seed_moves_ties_and_random_masks_but_not_magnitudes():
    ties = [(weight("a", (64, 64)), torch.ones(64, 64))]
    assert not torch.equal(flat(all_masks("global", ties, 0.5, seed=0)), flat(all_masks("global", ties, 0.5, seed=1)))
    clear = some_weights()
    assert torch.equal(flat(all_masks("global", clear, 0.5, seed=0)), flat(all_masks("global", clear, 0.5, seed=1)))
    zero, one = (flat(all_masks("random", clear, 0.5, seed=s)) for s in (0, 1))
    assert 0.4 < (zero == one).float().mean() < 0.6  # independent masks agree on half


def test_random_does_not_look_at_magnitudes():
    weights = some_weights()
    other = [(w, torch.flip(t, (0, 1)) * 3) for w, t in weights]
    assert torch.equal(flat(all_masks("random", weights, 0.4)), flat(all_masks("random", other, 0.4)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_signed_zeros_and_subnormals_rank_by_magnitude(dtype):
    tiny = torch.finfo(dtype).smallest_normal
    values = torch.tensor([-0.0, 0.0, tiny / 4, -tiny / 2, tiny, -1.0, 2.0, -4.0], dtype=dtype).view(1, 8)
    weights = [(weight("a", (1, 8)), values)]
    for k in range(2, 9):
        assert all_masks("global", weights, k / 8)["a"].view(-1).tolist() == [True] * k + [False] * (8 - k)
    zeros = {tuple(all_masks("global", weights, 1 / 8, seed=s)["a"].view(-1)[:2].tolist()) for s in range(20)}
    assert zeros == {(True, False), (False, True)}  # -0 and 0 tie


@pytest.mark.parametrize("pattern", [*UNSTRUCTURED, "nm4"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_pruning_in_place_with_rising_sparsity_equals_a_fresh_start(pattern, dtype):
    levels = [0.25, 0.5, 0.75]
    weights = some_weights(dtype)
    weights[0][1][:4] = 0  # exact zeros in the checkpoint must not confuse later levels
    walked = [(w, t.clone()) for w, t in weights]
    plan = masks.Plan(pattern, walked, levels, seed=1)
    for level in levels:
        counted = plan.prune_(level)
        fresh = [(w, t.clone()) for w, t in weights]
        again = masks.Plan(pattern, fresh, [level], seed=1).prune_(level)
        assert counted == again
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(walked, fresh, strict=True))


def test_nm_runs_along_inputs_and_leaves_a_dense_tail():
    values = torch.arange(1.0, 61.0).view(6, 10)
    (mask,) = all_masks("nm4", [(weight("a", (6, 10)), values)], 0.5).values()
    assert mask[:, :8].view(6, 2, 4).tolist() == [[[True, True, False, False]] * 2] * 6
    assert not mask[:, 8:].any()
    (transposed,) = all_masks("nm4", [(weight("a", (10, 6), input_dim=0), values.t().contiguous())], 0.5).values()
    assert torch.equal(transposed, mask.t())
    plan = masks.Plan("nm4", [(weight("a", (6, 10)), values.clone())], [0.5], 0)
    level = plan.prune_(0.5)
    assert (level.keep, level.group, level.k, level.tail, level.n) == (2, 4, 24, 12, 60)


def test_nm_experts_with_three_dimensions():
    values = torch.randn(3, 8, 6)
    (mask,) = all_masks("nm2", [(weight("a", (3, 8, 6), input_dim=1), values)], 0.5).values()
    smaller = values.abs().view(3, 4, 2, 6).argmin(2)
    assert torch.equal(mask.view(3, 4, 2, 6).float().argmax(2), smaller)
    assert (mask.view(3, 4, 2, 6).sum(2) == 1).all()


def test_non_contiguous_weights_are_pruned_in_place():
    base = torch.randn(16, 24)
    view = base.t()
    plan = masks.Plan("global", [(weight("a", view.shape), view)], [0.5], 0)
    plan.prune_(0.5)
    assert int((base == 0).sum()) == 192


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_erk_takes_a_stack_of_experts_for_as_many_matrices(sparsity):
    """What counts are the inputs and outputs of each, not how many there are."""
    k = round(sparsity * (5 * 12 * 30 + 40 * 60))
    stack, matrix = masks.erk_counts([(5, 12, 30), (40, 60)], k)
    *each, alone = masks.erk_counts([(12, 30)] * 5 + [(40, 60)], k)
    assert abs(stack - sum(each)) <= 5
    assert abs(matrix - alone) <= 5


def test_erk_gives_small_matrices_more_and_caps_at_dense():
    shapes = [(64, 64), (64, 256), (4, 4)]
    counts = masks.erk_counts(shapes, 10_000)
    rates = [c / (a * b) for c, (a, b) in zip(counts, shapes, strict=True)]
    assert sum(counts) == 10_000
    assert rates[1] > rates[0] > rates[2] == 0
    density = [1 - r for r in rates]
    raw = [(a + b) / (a * b) for a, b in shapes]
    assert density[0] / density[1] == pytest.approx(raw[0] / raw[1], rel=1e-3)


@pytest.mark.parametrize("sparsity", [0.02, 0.1, 0.3, 0.5, 0.8, 0.97])
def test_erk_densities_are_those_of_one_factor(sparsity):
    """The density of each matrix is min(1, c (a + b) / (a b)), with the c that keeps as many weights as are asked for."""
    shapes = [(64, 64), (64, 256), (4, 4), (5, 30), (300, 20)]
    sizes = np.array([a * b for a, b in shapes])
    raw = np.array([(a + b) / (a * b) for a, b in shapes])
    k = round(sparsity * sizes.sum())
    factor = brentq(lambda c: (np.minimum(1, c * raw) * sizes).sum() - (sizes.sum() - k), 0, 1e4, xtol=1e-12)
    exact = (1 - np.minimum(1, factor * raw)) * sizes
    assert np.abs(np.array(masks.erk_counts(shapes, k)) - exact).max() <= 1


def test_the_last_weights_of_matrices_of_one_shape_go_to_the_first():
    assert masks.erk_counts([(4, 4)] * 3, 7) == [3, 2, 2]
    assert masks.erk_counts([(4, 4)] * 3, 8) == [3, 3, 2]


def test_outputs_lose_the_same_number_of_weights_each():
    """A quarter of ten inputs is three, half being rounded up: 18 of a matrix whose quarter were 15."""
    assert allocation.rows_count((6, 10), 1, 0.25) == 18
    assert allocation.rows_count((10, 6), 0, 0.25) == 18
    assert allocation.rows_count((2, 6, 10), 2, 0.25) == 36


def test_groups_lose_whole_weights():
    """29 of 50 are 28.999999999999996 in floating point; a level that is a thousandth off is another."""
    assert allocation.nm_pruned(patterns.find("nm50"), 0.58) == 29
    for wrong in (0.501, 0.499):
        with pytest.raises(ValueError, match=f"nm8 prunes whole weights of every 8: sparsity {wrong}"):
            allocation.nm_pruned(patterns.find("nm8"), wrong)


def test_weights_past_the_last_whole_group_of_each_output_are_its_tail():
    """Of seven inputs three, in each of ten rows; where all matrices are narrower than a group, the widest is named."""
    assert allocation.nm_tail(patterns.find("nm4"), [(70, 7), (24, 8), (300, 3)]) == 30 + 0 + 300
    with pytest.raises(ValueError, match="the widest matrix of this model has 7"):
        allocation.nm_tail(patterns.find("nm8"), [(70, 7), (9, 3)])


@given(k=st.integers(0, 1456))
@settings(max_examples=50, deadline=None)
def test_erk_counts_never_fall(k):
    shapes = [(16, 16), (16, 16), (16, 40), (8, 8), (24, 10)]
    now, following = masks.erk_counts(shapes, k), masks.erk_counts(shapes, min(k + 1, 1456))
    assert sum(now) == k
    assert all(a <= b for a, b in zip(now, following, strict=True))


@pytest.mark.parametrize(
    ("pattern", "sparsity", "message"),
    [("nm4", 0.6, "whole weights of every 4"), ("glob", 0.5, "unknown pattern 'glob'"), ("global", 1.5, "outside")],
)
def test_refusals(pattern, sparsity, message):
    with pytest.raises(ValueError, match=message):
        masks.Plan(pattern, some_weights(), [sparsity], 0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_nan_and_infinity_are_refused_by_name(bad, dtype):
    weights = some_weights(dtype)
    weights[2][1][0, 0] = bad
    with pytest.raises(ValueError, match=r"layer\.2\.weight holds NaN or infinity"):
        spectrum.build(weights)
    for pattern in EVERY:
        with pytest.raises(ValueError, match=r"layer\.2\.weight holds NaN or infinity"):
            plan_of(pattern, weights)


def test_codes_without_magnitudes_are_refused_by_name():
    codes = torch.zeros(4, 4, dtype=torch.int8)
    with pytest.raises(ValueError, match=r"packed is stored as int8"):
        spectrum.histogram(codes, "packed")
    mixed = [*some_weights(torch.float16), (weight("z", (4, 4)), torch.ones(4, 4))]
    with pytest.raises(ValueError, match=r"different dtypes \(float16: layer\.0\.weight, float32: z\)"):
        spectrum.build(mixed)
    for pattern in EVERY:
        with pytest.raises(ValueError, match=r"packed is stored as int8"):
            plan_of(pattern, [*some_weights(), (weight("packed", (4, 4)), codes)])
        with pytest.raises(ValueError, match=r"different dtypes \(float16: layer\.0\.weight, float32: z\)"):
            plan_of(pattern, mixed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_spectrum_counts_every_weight_in_its_bin(dtype):
    (w, tensor), *_ = weights = some_weights(dtype)
    frame = spectrum.build(weights)
    rows = frame[frame["tensor"] == w.name]
    bits = tensor.abs().view(torch.int32 if dtype == torch.float32 else torch.int16).int()
    bins, counts = np.unique((bits >> 16 if dtype == torch.float32 else bits).numpy(), return_counts=True)
    assert rows["bin"].tolist() == bins.tolist()
    assert rows["count"].tolist() == counts.tolist()


@pytest.mark.parametrize("pattern", [*UNSTRUCTURED, "nm4"])
def test_counts_from_the_spectrum_bound_the_masks(pattern):
    weights = some_weights(torch.bfloat16)
    frame = spectrum.build(weights)
    counts = masks.pruned_counts(frame, pattern, 0.5).set_index("tensor")
    found = {name: int(mask.sum()) for name, mask in all_masks(pattern, weights, 0.5).items()}
    assert counts["pruned"].sum() == sum(found.values())
    for name, pruned in found.items():
        assert abs(counts.loc[name, "pruned"] - pruned) <= counts.loc[name, "boundary"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_near_zero_counts_bound_the_truth(dtype):
    weights = some_weights(dtype)
    frame = spectrum.build(weights)
    for threshold in (1e-2, 1e-3, 2.0**-6):
        counts = spectrum.near_zero(frame, threshold).set_index("tensor")
        for w, tensor in weights:
            true = int((tensor.abs().double() < threshold).sum())
            row = counts.loc[w.name]
            assert row["below"] <= true <= row["below"] + row["boundary"]
            if threshold == 2.0**-6:
                assert row["below"] == true


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "input_dim"), [((6, 20), 1), ((20, 6), 0), ((3, 6, 20), 2), ((3, 20, 6), 1)])
def test_rowwise_prunes_as_many_of_each_output_in_the_total_order_and_nests(dtype, shape, input_dim):
    tensor = torch.randint(-4, 5, shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    weight = PrunableWeight("layer.0.weight", 0, "w", "mlp", shape, input_dim)
    plan = masks.plan("rowwise", [(weight, tensor)], [0.1 * i for i in range(11)], 3)
    places = torch.arange(tensor.numel()).view(shape).movedim(input_dim, -1).reshape(-1, 20)
    rows, before = tensor.float().abs().movedim(input_dim, -1).reshape(-1, 20), None
    hashes = torch.as_tensor(thresholds.tie_hash(places, plan.key))
    for sparsity in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0):
        mask = dict(plan.masks(sparsity))["layer.0.weight"].movedim(input_dim, -1).reshape(-1, 20)
        count = round(20 * sparsity)
        for row in range(len(rows)):
            order = sorted(range(20), key=lambda i: (rows[row, i].item(), hashes[row, i].item()))
            assert sorted(mask[row].nonzero().squeeze(1).tolist()) == sorted(order[:count])
        assert before is None or not (before & ~mask).any()
        before = mask
    counts = masks.pruned_counts(
        pd.DataFrame({"tensor": ["t"], "shape": ["x".join(map(str, shape))], "input_dim": [input_dim], "layer": [0], "role": ["w"], "sublayer": ["mlp"]}),
        "rowwise", 0.3,
    )  # fmt: skip
    assert counts["pruned"].tolist() == [len(rows) * 6]


@pytest.mark.parametrize("pattern", ["wanda", "sparsegpt", "owl-wanda", "wanda-nm4"])
def test_patterns_that_need_calibration_are_not_planned_without_it(pattern):
    with pytest.raises(ValueError, match=rf"pattern '{pattern}' is applied by `calibrated.Plan`"):
        masks.plan(pattern, some_weights(torch.float32), [0.5], 0)
