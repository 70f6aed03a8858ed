"""Similarity on packed bits against a dense computation, against the closed form, and where a set is empty."""

import numpy as np
import pytest
import torch

from essential_sparsity import tables
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import similarity, tickets

SHAPES = {"0.a": (0, (24, 16)), "0.b": (0, (7, 5)), "1.a": (1, (16, 41)), "2.a": (2, (300, 400))}
WEIGHTS = [PrunableWeight(name, layer, name[2:], "mlp", shape, 1) for name, (layer, shape) in SHAPES.items()]


def some_mask(seed, sparsity=0.3):
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(shape, generator=generator) < sparsity for name, (_, shape) in SHAPES.items()}


def compare(a, b):
    packed = [{name: tickets.pack(mask) for name, mask in masks.items()} for masks in (a, b)]
    return similarity.compare(WEIGHTS, *packed)


def dense(a, b):
    """Cosine and IoU of two bool vectors, as anybody would write them."""
    x, y = a.astype(float), b.astype(float)
    return x @ y / (np.linalg.norm(x) * np.linalg.norm(y)), (a & b).sum() / (a | b).sum()


def test_equals_a_dense_computation_for_the_model_each_layer_and_each_matrix():
    a, b = some_mask(0), some_mask(1, 0.6)
    for row in compare(a, b).to_dict("records"):
        chosen = [
            name for name, (layer, _) in SHAPES.items() if row["scope"] == "model" or row["part"] in (name, str(layer))
        ]
        x, y = (torch.cat([m[name].reshape(-1) for name in chosen]).numpy() for m in (a, b))
        assert (row["n"], row["pruned_a"], row["pruned_b"], row["pruned_both"]) == (
            len(x), x.sum(), y.sum(), (x & y).sum(),
        )  # fmt: skip
        for members, p, q in (("pruned", x, y), ("kept", ~x, ~y)):
            cosine, iou = dense(p, q)
            assert row[f"cosine_{members}"] == pytest.approx(cosine)
            assert row[f"iou_{members}"] == pytest.approx(iou)


def test_scopes_parts_and_roles():
    frame = compare(some_mask(0), some_mask(1))
    assert frame["scope"].value_counts().to_dict() == {"matrix": 4, "layer": 3, "model": 1}
    assert set(frame.loc[frame["scope"] == "matrix", "part"]) == set(SHAPES)
    assert frame.loc[frame["scope"] == "layer", "part"].tolist() == ["0", "1", "2"]
    assert frame.loc[frame["scope"] == "model", ["layer", "role"]].isna().all(axis=None)


@pytest.mark.parametrize(("s", "t"), [(0.1, 0.1), (0.3, 0.3), (0.5, 0.5), (0.7, 0.7), (0.2, 0.6)])
def test_chance_is_the_closed_form_and_independent_masks_have_it(s, t):
    """Independent masks of sparsity s have cosine 1 − s, and IoU s / (2 − s) of the pruned sets."""
    rows = [compare(some_mask(seed, s), some_mask(seed + 100, t)).iloc[0] for seed in range(6)]
    kept, pruned = np.sqrt((1 - s) * (1 - t)), np.sqrt(s * t)
    for row in rows:
        assert row["cosine_kept_chance"] == pytest.approx(kept, abs=0.005)
        assert row["cosine_pruned_chance"] == pytest.approx(pruned, abs=0.005)
        assert row["iou_pruned_chance"] == pytest.approx(s * t / (s + t - s * t), abs=0.005)
        assert row["cosine_kept_chance_matrix"] == pytest.approx(row["cosine_kept_chance"], abs=0.001)
    for measure in ("cosine_kept", "cosine_pruned", "iou_kept", "iou_pruned"):
        found = np.mean([row[measure] - row[f"{measure}_chance"] for row in rows])
        assert abs(found) < 0.002, measure


def test_masks_that_share_only_the_counts_of_each_matrix_are_at_the_second_chance():
    rates = dict(zip(SHAPES, (0.9, 0.8, 0.7, 0.1), strict=True))

    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        return {name: torch.rand(shape, generator=generator) < rates[name] for name, (_, shape) in SHAPES.items()}

    row = compare(drawn(0), drawn(1)).iloc[0]
    assert row["iou_pruned_chance_matrix"] > row["iou_pruned_chance"] + 0.005
    assert row["iou_pruned"] == pytest.approx(row["iou_pruned_chance_matrix"], abs=0.003)


def test_a_mask_and_itself_and_its_opposite():
    mask = some_mask(0)
    same, opposite = compare(mask, mask).iloc[0], compare(mask, {name: ~m for name, m in mask.items()}).iloc[0]
    for measure in ("cosine_kept", "cosine_pruned", "iou_kept", "iou_pruned"):
        assert same[measure] == pytest.approx(1)
        assert opposite[measure] == 0


def test_degenerate_masks_have_no_cosine():
    nothing = {name: torch.zeros(shape, dtype=torch.bool) for name, (_, shape) in SHAPES.items()}
    everything = {name: ~mask for name, mask in nothing.items()}
    row = compare(nothing, nothing).iloc[0]
    assert np.isnan(row["cosine_pruned"])
    assert np.isnan(row["iou_pruned"])
    assert (row["cosine_kept"], row["iou_kept"], row["cosine_kept_chance"]) == (1, 1, 1)
    row = compare(nothing, everything).iloc[0]
    assert np.isnan(row["cosine_kept"])
    assert np.isnan(row["cosine_pruned"])
    assert (row["iou_kept"], row["iou_pruned"]) == (0, 0)
    key = similarity.key("seed", "0.300", ("m", "lth", "t", 0), ("m", "lth", "t", 1))
    frame = compare(nothing, some_mask(0)).assign(**key)
    assert frame["cosine_pruned"].isna().all()
    assert set(frame.columns) == set(tables.schema("similarity").names)


@pytest.mark.parametrize("bits", [1, 7, 8, 63, 64, 65, 64 * 8 * 20 + 3])
def test_every_bit_counts_once_whatever_the_length_and_the_chunk(bits, monkeypatch):
    monkeypatch.setattr(similarity, "CHUNK", 64)
    a, b = (np.random.default_rng(seed).random(bits) < 0.5 for seed in (0, 1))
    found = similarity.overlap(np.packbits(a), np.packbits(b))
    assert found == (a.sum(), b.sum(), (a & b).sum())


def test_masks_of_other_weights_are_refused():
    with pytest.raises(ValueError, match="masks of 3 and 4 bytes cannot be compared"):
        similarity.overlap(np.zeros(3, np.uint8), np.zeros(4, np.uint8))


def test_the_table_takes_the_frame(tmp_path):
    key = similarity.key("pattern", "0.300", ("m", "global", "", 0), ("m", "lth", "t", 0))
    frame = compare(some_mask(0), some_mask(1)).assign(**key)
    tables.write(frame, "similarity", tmp_path / "a.parquet")
    back = tables.read(tmp_path / "a.parquet", "similarity")
    assert len(back) == 8
    assert back["layer"].isna().sum() == 1
    assert back[[*similarity.PLACE]].isna().all(axis=None)
    assert set(back["model_a"]) == set(back["model_b"]) == {"m"}


def test_a_row_says_which_two_masks_it_compares_and_where_neighbours_stand():
    told = similarity.key("seed", "0.300", ("m", "lth", "t", 1), ("n", "random", "u", 2))
    assert told == {"between": "seed", "sparsity": 0.3} | dict.fromkeys(similarity.PLACE) | {
        "model_a": "m", "pattern_a": "lth", "task_a": "t", "seed_a": 1,
        "model_b": "n", "pattern_b": "random", "task_b": "u", "seed_b": 2,
    }  # fmt: skip
    place = {name: name for name in similarity.PLACE}
    near = similarity.key("checkpoint", "0.300", ("m", "lth", "t", 1), ("n", "random", "u", 2), place)
    assert near == told | place | {"between": "checkpoint"}
