"""Masks of neighbouring checkpoints: the right pairs, what two hand-made checkpoints must give, two of them held at a time."""

import gc
import json
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_models as tiny
import torch
from safetensors.torch import load_file, save_file

import compare_checkpoints
import measure_pretraining
import tabulate_series
from essential_sparsity import files, tables
from essential_sparsity.acquire import listing
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.emergence import neighbours
from essential_sparsity.pruning import tickets
from essential_sparsity.study import opening

SHAPES = {"0.a": (0, (24, 16)), "1.a": (1, (30, 40))}
WEIGHTS = [PrunableWeight(name, layer, "a", "mlp", shape, 1) for name, (layer, shape) in SHAPES.items()]


def member(step):
    here = {"series": "s", "group": "all", "training": "run", "axis": "step"}
    return here | {"model": f"run-{step}", "position": float(step)}


def drawn(seed, sparsity):
    generator = torch.Generator().manual_seed(seed)
    return {w.name: torch.rand(w.shape, generator=generator) < sparsity for w in WEIGHTS}


def held(masks):
    """`masks`: (sparsity, mask) -> tensor name -> bool."""
    packed = {key: {name: tickets.pack(m) for name, m in found.items()} for key, found in masks.items()}
    return neighbours.Held(WEIGHTS, packed)


def key(level, mask=neighbours.ONE_SHOT):
    return f"{level:.3f}", mask


def whole(frames):
    frame = tables.pd.concat(frames)
    return frame[frame["scope"] == "model"].sort_values(["position_a", "sparsity"])


# --- pairs


def test_each_checkpoint_is_compared_with_the_one_before_it_and_no_other():
    masks = {step: drawn(step, 0.4) for step in (0, 20, 40, 300)}
    read = []

    def of(model):
        read.append(model)
        return held({key(0.4): masks[int(model.partition("-")[2])]})

    rows = whole(neighbours.compared([member(step) for step in (300, 0, 40, 20)], of))
    assert read == ["run-0", "run-20", "run-40", "run-300"], "each is read once, in the order of the axis"
    assert rows[["position_a", "position_b"]].to_numpy().tolist() == [[0, 20], [20, 40], [40, 300]]
    assert rows[["model_a", "model_b"]].to_numpy().tolist()[2] == ["run-40", "run-300"]
    for row in rows.itertuples():
        a, b = (torch.cat([m.reshape(-1) for m in masks[int(p)].values()]) for p in (row.position_a, row.position_b))
        both = int((a & b).sum())
        assert (row.pruned_a, row.pruned_b, row.pruned_both) == (int(a.sum()), int(b.sum()), both)
        assert row.iou_pruned == pytest.approx(both / int((a | b).sum()))


def test_independent_checkpoints_are_at_the_closed_form_and_equal_ones_at_one():
    """Of independent masks of sparsity s the kept sets have cosine 1 − s, the pruned sets IoU s / (2 − s)."""
    for s in (0.2, 0.5, 0.8):
        found = [drawn(step, s) for step in range(12)]
        found.append(found[-1])
        rows = whole(neighbours.compared(map(member, range(13)), lambda m, f=found, s=s: held({key(s): f[int(m[4:])]})))
        *independent, same = rows.itertuples()
        assert np.mean([row.cosine_kept for row in independent]) == pytest.approx(1 - s, abs=0.01)
        assert np.mean([row.iou_pruned for row in independent]) == pytest.approx(s / (2 - s), abs=0.01)
        for row in independent:
            assert row.cosine_kept_chance == pytest.approx(
                np.sqrt((1 - row.pruned_a / row.n) * (1 - row.pruned_b / row.n))
            )
        assert (same.cosine_kept, same.iou_pruned) == pytest.approx((1, 1))


def test_two_checkpoints_are_held_at_any_time():
    alive = []

    def of(_):
        gc.collect()
        assert sum(ref() is not None for ref in alive) <= 1, (
            "before a checkpoint is read, only the one before it is held"
        )
        found = held({key(0.3): drawn(0, 0.3)})
        alive.append(weakref.ref(found))
        return found

    assert len(list(neighbours.compared(map(member, range(6)), of))) == 5


def test_a_mask_that_only_one_of_two_neighbours_has_is_not_compared():
    lth = ("lth", "t", 1)
    have = {0: [key(0.4, lth)], 1: [key(0.4, lth), key(0.6, lth)], 2: [key(0.6, lth), key(0.4, ("lth", "t", 2))]}
    found = {step: held({k: drawn(step, 0.4) for k in [key(0.4), *keys]}) for step, keys in have.items()}
    rows = whole(neighbours.compared(map(member, range(3)), lambda m: found[int(m[4:])]))
    rows = rows[rows["pattern_a"] == "lth"]
    assert rows[["position_a", "sparsity", "task_a", "task_b", "seed_a", "seed_b"]].to_numpy().tolist() == [
        [0, 0.4, "t", "t", 1, 1], [1, 0.6, "t", "t", 1, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            lambda w: [w[0], PrunableWeight("1.a", 1, "a", "mlp", (40, 30), 1)],
            "1.a is 30x40 in the former and 40x30 in",
        ),
        (lambda w: w[:1], "1.a is 30x40 in the former and missing in the latter"),
        (
            lambda w: [*w, PrunableWeight("2.a", 2, "a", "mlp", (2, 2), 1)],
            "2.a is missing in the former and 2x2 in the",
        ),
    ],
    ids=["shape", "fewer", "more"],
)
def test_checkpoints_of_other_tensors_are_refused_by_name(change, told):
    """40x30 has as many weights as 30x40: the bits would be comparable, and mean nothing."""
    masks = [held({key(0.3): drawn(0, 0.3)})] * 2
    masks.append(neighbours.Held(change(WEIGHTS), masks[0].bits))
    with pytest.raises(ValueError, match=rf"masks of run-1 and run-2 cannot be compared: the tensor {told}"):
        list(neighbours.compared(map(member, range(3)), lambda m: masks[int(m[4:])]))


# --- the program, on checkpoints made by hand


def change(folder, make):
    """The checkpoint's prunable weights as one vector, changed by `make`."""
    stored = load_file(folder / "model.safetensors")
    names = [weight.name for weight, _ in loading.iter_prunable(folder)]
    flat = make(torch.cat([stored[name].reshape(-1) for name in names]))
    for name in names:
        part, flat = flat[: stored[name].numel()], flat[stored[name].numel() :]
        stored[name] = part.reshape(stored[name].shape).clone()
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})


def ranked(flat):
    """Magnitudes 1 … n in random places, all different, so that every mask is known."""
    order = torch.randperm(flat.numel(), generator=torch.Generator().manual_seed(0))
    return (order + 1).float() * torch.where(torch.arange(flat.numel()) % 2 == 0, 1.0, -1.0)


def swapped(number, k):
    """`number` of the k smallest magnitudes change places with as many of the largest."""

    def make(flat):
        magnitudes = ranked(flat)
        order = magnitudes.abs().argsort()
        small, large = order[:k][:number], order[-number:]
        magnitudes[small], magnitudes[large] = magnitudes[large].clone(), magnitudes[small].clone()
        return magnitudes

    return make


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Steps 0, 1, 2 and 3 of a training, measured: at 0.3 of 4096 weights k = 1229, of which 100 differ between 0 and 1."""
    root = tmp_path_factory.mktemp("training")
    rows, made = {}, root / "pretraining/run"
    makes = [ranked, swapped(100, 1229), lambda flat: flat.flip(0), None]
    for step, make in enumerate(makes):
        folder = tiny.save_bert(made / f"step-{step}")
        change(folder, make or makes[1])
        source = {"source": "path", "id": str(folder), "format": "transformers", "packages": []}
        rows[f"run-{step}"] = source | {"revision": None, "columns": None, "allow_pickle": False}
    names = [path.relative_to(made).as_posix() for path in made.glob("step-*/*")]
    files.write_json(made / "manifest.json", {"files": listing.entries(made, names)})
    asked = SimpleNamespace(measured_only={"run": list(rows)}, models=rows, source=json.dumps)
    call(measure_pretraining, asked, "--pretraining", "run", "--store", str(root))
    return root


def call(program, asked, *options):
    """Run a program that finds this study where it reads the configuration."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening, "read", lambda config, looking: asked)
        program.main(["--study", "{}", *options])


def compare(root, steps, wanted=(), levels=("0.300", "0.600")):
    series, models = root / "series.parquet", {f"run-{step}": {"allow_pickle": False} for step in steps}
    asked = SimpleNamespace(
        trainings={"run": [member(step) for step in steps]},
        models=models,
        mask_levels=levels,
        losses=lambda training: None,
        shared_tickets=lambda training: wanted,
    )
    call(tabulate_series, asked, "--training", "run", "--store", str(root), "--out", str(series))
    out = ["--series-table", str(series), "--store", str(root), "--out", str(root / "out.parquet")]
    call(compare_checkpoints, asked, *out)
    return tables.read(root / "out.parquet", "similarity")


def test_two_hand_made_checkpoints_give_the_counts_that_were_put_in(training):
    frame = compare(training, [0, 1])
    row = frame[(frame["scope"] == "model") & (frame["sparsity"] == 0.3)].iloc[0]
    n, k = 4096, 1229
    assert (row["n"], row["pruned_a"], row["pruned_b"], row["pruned_both"]) == (n, k, k, k - 100)
    assert row["cosine_kept"] == pytest.approx((n - k - 100) / (n - k))
    assert row["iou_pruned"] == pytest.approx((k - 100) / (k + 100))
    assert row["cosine_kept_chance"] == pytest.approx((n - k) / n)
    assert frame["scope"].value_counts().to_dict() == {"matrix": 24, "layer": 4, "model": 2}
    assert (row["series"], row["group"], row["training"], row["axis"]) == ("s", "all", "run", "step")
    assert (row["between"], row["pattern_a"], row["task_a"], row["seed_a"]) == ("checkpoint", "global", "", 0)


def test_a_checkpoint_that_repeats_another_is_left_out_and_its_neighbours_meet(training, capsys):
    """Step 3 holds the weights of step 1; between them stands step 2."""
    frame = compare(training, [0, 1, 2, 3], levels=["0.300"])
    pairs = frame[frame["scope"] == "model"][["position_a", "position_b"]].to_numpy().tolist()
    assert len(pairs) == 2
    assert [1, 3] not in pairs
    assert "is left out: it has the same weights as" in capsys.readouterr().out


def test_a_training_with_one_sound_checkpoint_gives_an_empty_table(training):
    assert compare(training, [1, 3]).empty


def ticket_of(root, step, seed=0, **other):
    """A stored ticket of 40 % of a checkpoint, and its place in the list of those asked for."""
    generator = torch.Generator().manual_seed(10 * step + seed)
    folder = root / f"pretraining/run/step-{step}"
    masks = {w.name: torch.rand(w.shape, generator=generator) < 0.4 for w, _ in loading.iter_prunable(folder)}
    made = {
        "model": f"run-{step}",
        "task": "t",
        "seed": seed,
        "sparsity": 0.4,
        "k": sum(int(m.sum()) for m in masks.values()),
    }
    made["weights_sha256"] = files.read_json(root / f"checkpoints/run-{step}/manifest.json")["weights_sha256"]
    path = root / f"tickets/run-{step}/t/seed{seed}/0.400.safetensors"
    tickets.write(path, masks, made | other)
    return (f"run-{step}", "t", seed, "0.400"), torch.cat([m.reshape(-1) for _, m in sorted(masks.items())])


def test_tickets_of_neighbours_are_compared_beside_the_one_shot_masks(training):
    (first, a), (second, b) = ticket_of(training, 0), ticket_of(training, 1)
    alone, _ = ticket_of(training, 1, seed=1)
    frame = compare(training, [0, 1], [first, second, alone])
    rows = frame[(frame["scope"] == "model") & (frame["pattern_a"] == "lth")]
    assert len(rows) == 1
    row = rows.iloc[0]
    assert (row["model_a"], row["model_b"], row["task_b"], row["seed_b"], row["sparsity"]) == (
        "run-0",
        "run-1",
        "t",
        0,
        0.4,
    )
    assert (row["pruned_a"], row["pruned_b"], row["pruned_both"]) == tuple(int(x.sum()) for x in (a, b, a & b))


def test_a_ticket_of_other_weights_is_refused_by_name(training):
    wanted = [ticket_of(training, 0)[0], ticket_of(training, 1, weights_sha256="x")[0]]
    with pytest.raises(ValueError, match=r"run-1/t/seed0/0\.400\.safetensors is a ticket whose weights_sha256 is 'x'"):
        compare(training, [0, 1], wanted)
