"""Tickets: iterations prune exactly, masks contain one another, and a stored mask is the one that was written or refused."""

import argparse
import json

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import find_ticket
import prune_eval
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import PrunableWeight
from essential_sparsity.pruning import masks, tickets
from essential_sparsity.pruning.spectrum import level_count
from essential_sparsity.runs import evaluation, lottery
from essential_sparsity.training import finetuning

SETTINGS = tiny.FINETUNE | {"epochs": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def chain(folder):
    """Masks and levels of three iterations of a fifth each, seed 0."""
    found, previous = [], {}
    for sparsity in (0.2, 0.4, 0.6):
        previous, level, _ = lottery.ticket(folder, tiny.reviews(), SETTINGS, previous, sparsity, 0)
        found.append((previous, level))
    return found


def weight(name, shape):
    return PrunableWeight(name=name, layer=0, role="mlp", sublayer="mlp", shape=tuple(shape), input_dim=1)


def flat(found):
    return torch.cat([found[name].reshape(-1) for name in sorted(found)])


def some_weights(ties=False):
    generator = torch.Generator().manual_seed(1)
    weights = []
    for name, shape in (("a", (24, 16)), ("b", (7, 5)), ("c", (16, 40))):
        values = torch.randn(shape, generator=generator)
        values = (values * 2).round() / 2 if ties else values
        weights.append((weight(name, shape), values))
    return weights


# --- an iteration


def test_rounds_prune_exactly_and_contain_one_another(chain):
    before = torch.zeros_like(flat(chain[0][0]))
    for share, (pruned, level) in zip((0.2, 0.4, 0.6), chain, strict=True):  # of the original weights
        now = flat(pruned)
        assert int(now.sum()) == level.k == level_count(share, now.numel())
        assert not (before & ~now).any(), "a weight came back"
        before = now


def test_the_first_round_ranks_the_trained_weights_and_later_ones_start_from_the_pretrained(folder, monkeypatch):
    """Recomputed by hand: train with the mask held, sort the trained magnitudes of what remains."""
    starts, trained = [], []
    train_ = finetuning.train_

    def watch(model, *args):
        starts.append({name: p.detach().clone() for name, p in loading.parameters(model).items()})
        train_(model, *args)
        trained.append({name: p.detach().clone() for name, p in loading.parameters(model).items()})

    monkeypatch.setattr(finetuning, "train_", watch)
    first, level, _ = lottery.ticket(folder, tiny.reviews(), SETTINGS, {}, 0.2, 0)
    second, _, _ = lottery.ticket(folder, tiny.reviews(), SETTINGS, first, 0.4, 0)
    magnitudes = flat(trained[0]).abs()
    assert set(magnitudes.argsort()[: level.k].tolist()) == set(flat(first).nonzero()[:, 0].tolist())
    for name, dense in starts[0].items():
        assert torch.equal(starts[1][name], dense.masked_fill(first[name], 0)), "not rewound to the pre-trained weights"
        assert (trained[1][name][first[name]] == 0).all()
    remaining = flat(trained[1]).abs().masked_fill(flat(first), -1)
    assert set(remaining.argsort()[: int(flat(second).sum())].tolist()) == set(flat(second).nonzero()[:, 0].tolist())


def test_a_ticket_is_not_the_one_shot_mask_and_depends_on_the_seed(folder, chain):
    other, _, _ = lottery.ticket(folder, tiny.reviews(), SETTINGS, {}, 0.2, 1)
    again, _, _ = lottery.ticket(folder, tiny.reviews(), SETTINGS, {}, 0.2, 0)
    model = loading.load_model(folder, "AutoModel", allow_new=("pooler.",))
    one_shot = dict(evaluation.make_plan(model, "global", [0.2], 0).masks(0.2))
    assert torch.equal(flat(again), flat(chain[0][0]))
    assert not torch.equal(flat(other), flat(chain[0][0]))
    assert not torch.equal(flat(one_shot), flat(chain[0][0]))


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("zeros", [0, 3, 30])
def test_remaining_zeros_never_displace_what_is_pruned(zeros, ties):
    """Planted: more remaining weights that are exactly 0 than an iteration prunes, while pruned places hold large numbers."""
    weights = some_weights(ties=ties)  # no zeros at first: what iteration 1 prunes has arbitrary tie hashes
    n, pruned = sum(t.numel() for _, t in weights), {}
    generator = torch.Generator().manual_seed(2)
    for sparsity in (0.05, 0.1, 0.3, 0.55, 1.0):
        found, level = lottery.prune_smallest(weights, pruned, sparsity, seed=0)
        assert level.k == level_count(sparsity, n)
        for name, before in pruned.items():
            assert not (before & ~found[name]).any()
        kept, chosen = flat({w.name: t.abs() for w, t in weights}), flat(found)
        fresh = chosen & ~flat(pruned) if pruned else chosen
        if fresh.any() and not chosen.all():
            assert kept[fresh].max() <= kept[~chosen].min()
        pruned = found
        for _, t in weights:  # the next iteration's training moves everything that remains, and zeroes a few more
            t.copy_(torch.randn(t.shape, generator=generator))
            t.view(-1)[t.numel() - zeros :] = 0.0


def test_ties_fall_by_the_seeded_hash_and_not_in_rows():
    weights = [(weight("a", (64, 64)), torch.ones(64, 64))]
    first, second = (lottery.prune_smallest(weights, {}, 0.5, seed)[0]["a"] for seed in (0, 1))
    assert not torch.equal(first, second)
    assert int(first.sum(1).min()) > 16
    expected = dict(masks.plan("global", weights, [0.5], 0).masks(0.5))["a"]
    assert torch.equal(first, expected)


def test_an_iteration_that_would_have_to_bring_weights_back_is_an_error():
    weights = some_weights()
    found, _ = lottery.prune_smallest(weights, {}, 0.5, 0)
    with pytest.raises(ValueError, match=r"weights are pruned already, more than the .* of sparsity 0\.4"):
        lottery.prune_smallest(weights, found, 0.4, 0)


def test_weights_that_are_no_numbers_are_pruned_last():
    weights = some_weights()
    before, _ = lottery.prune_smallest(weights, {}, 0.5, 0)
    broken = [float("nan"), float("-inf"), float("inf"), torch.finfo(torch.float32).max]
    places = before["b"].reshape(-1).nonzero()[: len(broken), 0]
    weights[1][1].view(-1)[places] = torch.tensor(broken)
    found, level = lottery.prune_smallest(weights, {}, 0.5, 0)
    assert int(flat(found).sum()) == level.k == int(flat(before).sum())
    assert not found["b"].reshape(-1)[places].any()
    for _, tensor in weights:
        tensor.fill_(float("nan"))
    found, level = lottery.prune_smallest(weights, before, 0.8, 0)
    assert int(flat(found).sum()) == level.k
    assert not (flat(before) & ~flat(found)).any(), "what was pruned stays pruned"


def test_masks_of_another_model_are_refused(folder):
    with pytest.raises(ValueError, match="masks of the previous iteration are of other weights"):
        lottery.ticket(folder, tiny.reviews(), SETTINGS, {"x": torch.zeros(2, 2, dtype=torch.bool)}, 0.2, 0)


# --- the file


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "seed0" / "0.300.safetensors"
    found, level = lottery.prune_smallest(some_weights(), {}, 0.3, 0)
    tickets.write(path, found, {"model": "m", "task": "t", "seed": 0, "iteration": 3, "k": level.k, "n": level.n})
    return path, found


def test_round_trip_of_masks_and_provenance(stored):
    path, found = stored
    back = tickets.read(path, {"model": "m", "seed": 0})
    assert all(torch.equal(mask, found[name]) for name, mask in back.masks().items())
    assert back.masks().keys() == found.keys()
    assert back.provenance["iteration"] == 3
    assert back.provenance["shapes"] == {"a": [24, 16], "b": [7, 5], "c": [16, 40]}
    assert path.stat().st_size < 24 * 2 + 5 + 80 + 2000


def test_the_file_is_what_its_description_says(stored):
    """Row-major, first weight in the highest bit, 1 = pruned: read here without the library."""
    path, found = stored
    with safe_open(path, framework="numpy") as file:
        for name, mask in found.items():
            assert file.get_tensor(name).tolist() == np.packbits(mask.numpy().ravel()).tolist()
    assert tickets.pack(torch.tensor([[True, False, False], [False] * 3, [False] * 3])).tolist() == [128, 0]
    assert tickets.pack(torch.tensor([[False] * 3, [False] * 3, [False, True, True]])).tolist() == [1, 128]


def test_the_same_ticket_gives_the_same_bytes(stored, tmp_path):
    path, found = stored
    provenance = tickets.read(path, {}).provenance
    tickets.write(tmp_path / "again", dict(reversed(found.items())), provenance)
    assert (tmp_path / "again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("place", ["header", "bits", "order", "end", "empty"])
def test_a_damaged_ticket_is_refused_by_name(stored, place):
    path, _ = stored
    data = bytearray(path.read_bytes())
    if place in ("header", "bits"):
        data[20 if place == "header" else -10] ^= 4
    if place == "order":  # as many bits as before
        data[-40:] = data[:-41:-1]
    path.write_bytes({"end": data[: len(data) // 2], "empty": b""}.get(place, data))
    with pytest.raises(ValueError, match=r"seed0/0\.300\.safetensors.*Delete it and run again"):
        tickets.read(path, {"model": "m"})


def test_a_ticket_of_something_else_is_refused_by_name(stored):
    with pytest.raises(ValueError, match=r"0\.300\.safetensors is a ticket whose task is 't', not 'u'\. Delete it"):
        tickets.read(stored[0], {"task": "u"})
    with pytest.raises(ValueError, match=r"whose weights_sha256 is None, not 'x'"):
        tickets.read(stored[0], {"weights_sha256": "x"})


def test_a_ticket_whose_count_is_wrong_and_a_file_without_ticket_are_refused(tmp_path):
    found, _ = lottery.prune_smallest(some_weights(), {}, 0.3, 0)
    tickets.write(tmp_path / "a", found, {"k": 1})
    with pytest.raises(ValueError, match=r"a: \d+ weights are pruned, but its provenance says 1"):
        tickets.read(tmp_path / "a", {})
    save_file({"a": np.zeros(3, np.uint8)}, tmp_path / "b", metadata={"other": json.dumps(1)})
    with pytest.raises(ValueError, match="b holds no ticket"):
        tickets.read(tmp_path / "b", {})
    with pytest.raises(FileNotFoundError, match="c is not there"):
        tickets.read(tmp_path / "c", {})


# --- the ticket that a program is given


CHAIN = {"model": "m", "task": "t", "seed": 0, "share": 0.1, "settings": {"epochs": 1}, "weights_sha256": "abc"}
OTHERS = {
    "model": "n",
    "task": "u",
    "seed": 1,
    "share": 0.2,
    "settings": {"epochs": 2},
    "weights_sha256": "abd",
    "iteration": 1,
}


@pytest.mark.parametrize("key", OTHERS)
def test_an_iteration_refuses_the_ticket_of_another_chain(tmp_path, key):
    """Before anything is loaded: iteration 3 is given what is not iteration 2 of its own model, task, seed, weights and settings."""
    found, level = lottery.prune_smallest(some_weights(), {}, 0.2, 0)
    made = CHAIN | {"iteration": 2, "sparsity": 0.2, "k": level.k, "n": level.n} | {key: OTHERS[key]}
    tickets.write(tmp_path / "0.200.safetensors", found, made)
    (tmp_path / "manifest.json").write_text(json.dumps({"weights_sha256": CHAIN["weights_sha256"]}))
    given = {"previous": [tmp_path / "0.200.safetensors"], "iteration": 3, "sparsity": "0.300"}
    args = argparse.Namespace(**CHAIN, **given, manifest=tmp_path / "manifest.json")
    with pytest.raises(ValueError, match=rf"0\.200\.safetensors is a ticket whose {key} is .*, not "):
        find_ticket.prune(args, CHAIN["settings"], None)


def test_an_iteration_starts_with_one_ticket_and_the_first_with_none(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"weights_sha256": "abc"}))
    for number, previous in ((1, ["a"]), (2, []), (3, ["a", "b"])):
        args = argparse.Namespace(**CHAIN, previous=previous, iteration=number, manifest=tmp_path / "manifest.json")
        with pytest.raises(
            ValueError, match=rf"Iteration {number} starts with {int(number > 1)} ticket, not {len(previous)}"
        ):
            find_ticket.prune(args, CHAIN["settings"], None)


def test_what_follows_from_a_diverged_training_says_so(tmp_path, monkeypatch):
    """The second of four iterations diverges: its ticket and those after it name it, whatever their own training does."""
    monkeypatch.setattr(find_ticket.loading, "verified_folder", lambda path: tmp_path)
    monkeypatch.setattr(find_ticket, "digest_of", lambda args: "d")
    pd.DataFrame({"item": ["a"]}).to_parquet(tmp_path / "data.parquet")
    (tmp_path / "manifest.json").write_text(json.dumps({"weights_sha256": CHAIN["weights_sha256"]}))
    found, told = [], []
    for number, diverged in enumerate((False, True, False, True), start=1):
        made = lottery.prune_smallest(some_weights(), {}, number / 10, 0)
        monkeypatch.setattr(lottery, "ticket", lambda *args, made=made, diverged=diverged: (*made, diverged))
        args = argparse.Namespace(
            **CHAIN, previous=found[-1:], iteration=number, sparsity=f"{number / 10:.3f}", data="", device="cpu", tokens=None,
            manifest=tmp_path / "manifest.json", metrics=None, allow_pickle=False,
        )  # fmt: skip
        found.append(tmp_path / f"{args.sparsity}.safetensors")
        tickets.write(found[-1], *find_ticket.prune(args, CHAIN["settings"], None))
        told.append(tickets.read(found[-1], {}).collapsed)
    assert told == [None, *["the training of its ticket diverged in iteration 2"] * 3]


@pytest.mark.parametrize("key", ["model", "task", "seed", "weights_sha256", "sparsity"])
def test_a_run_refuses_the_ticket_of_another_chain(tmp_path, key):
    found, level = lottery.prune_smallest(some_weights(), {}, 0.2, 0)
    made = CHAIN | {"sparsity": 0.2, "k": level.k} | {key: (OTHERS | {"sparsity": 0.3})[key]}
    tickets.write(tmp_path / "a.safetensors", found, made)
    args = argparse.Namespace(model="m", task="t", seed=0, tickets=[tmp_path / "a.safetensors"])
    with pytest.raises(ValueError, match=rf"a\.safetensors is a ticket whose {key} is"):
        prune_eval.given_tickets(args, [0.2], CHAIN["weights_sha256"])


# --- runs that use masks of a chain, and controls that train


def evaluate(folder, pattern, sparsity, **options):
    return next(evaluation.evaluate(folder, tiny.reviews(), SETTINGS, pattern, [sparsity], 0, **options))


@pytest.fixture
def trained(monkeypatch):
    """Prunable weights of each model as training left them."""
    found = []
    train_ = finetuning.train_

    def keep(model, *args):
        train_(model, *args)
        found.append({name: p.detach().clone() for name, p in loading.parameters(model).items()})

    monkeypatch.setattr(finetuning, "train_", keep)
    return found


def test_a_run_holds_exactly_its_ticket(folder, chain, trained):
    pruned = chain[1][0]
    level, _ = evaluate(folder, "lth", 0.4, tickets={0.4: pruned})
    assert level.k == chain[1][1].k
    assert level.per_tensor == {name: int(mask.sum()) for name, mask in pruned.items()}
    for name, values in trained[0].items():
        assert torch.equal(values == 0, pruned[name])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'lth' at 0.4 needs its masks: no ticket was given"),
        ({0.4: {"x": torch.zeros(1, dtype=torch.bool)}}, "ticket of sparsity 0.4 is of other weights"),
    ],
)
def test_a_run_without_its_ticket_is_refused(folder, given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(folder, "lth", 0.4, tickets=given)


def test_a_ticket_of_another_sparsity_is_refused(folder, chain):
    with pytest.raises(RuntimeError, match="instead of"):
        evaluate(folder, "lth", 0.4, tickets={0.4: chain[2][0]})


def test_deletion_starts_from_the_one_shot_mask_and_lets_it_train(folder, trained, monkeypatch):
    starts = []
    load_trainable = finetuning.load_trainable
    monkeypatch.setattr(
        finetuning, "load_trainable", lambda *a, **k: starts.append(load_trainable(*a, **k)) or starts[-1]
    )
    level, _ = evaluate(folder, "deletion", 0.5)
    same, _ = evaluate(folder, "global", 0.5)
    assert (level.k, level.per_tensor) == (same.k, same.per_tensor)
    zeros = [sum(int((values == 0).sum()) for values in after.values()) for after in trained]
    assert zeros[1] == same.k
    assert zeros[0] < level.k / 2, "deleted weights should have come back"


def test_layer_shuffle_keeps_the_counts_of_the_one_shot_mask_and_nothing_else():
    weights, levels = some_weights(), [0.01 * i for i in range(101)]
    one_shot = masks.plan("global", weights, levels, 0)
    shuffled = [masks.plan("layer-shuffle", weights, levels, seed) for seed in (0, 1)]
    before = torch.zeros(sum(t.numel() for _, t in weights), dtype=torch.bool)
    for level in levels:
        wanted, found = dict(one_shot.masks(level)), dict(shuffled[0].masks(level))
        assert {k: int(m.sum()) for k, m in found.items()} == {k: int(m.sum()) for k, m in wanted.items()}
        assert not (before & ~flat(found)).any()
        before = flat(found)
    halves = [flat(dict(plan.masks(0.5))) for plan in (one_shot, *shuffled)]
    assert not torch.equal(halves[1], halves[2])
    assert not torch.equal(halves[0], halves[1])
