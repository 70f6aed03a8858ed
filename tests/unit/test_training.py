"""Fine-tuning holds its mask, follows the protocol, and repeats itself."""

import copy
import dataclasses
import math
import os
import types

import numpy as np
import pytest
import tiny_models as tiny
import torch
import transformers

from essential_sparsity import tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.pruning import masks
from essential_sparsity.tasks import text_classification
from essential_sparsity.training import devices, exactness, finetuning

AUTO_CLASS = "AutoModelForSequenceClassification"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def prepared(folder):
    return text_classification.prepare(folder, tiny.reviews(), tiny.FINETUNE, 0)


def pruned(folder, prepared, sparsity=0.5, seed=0):
    """(model ready to train, its masks)."""
    model = finetuning.load_trainable(folder, AUTO_CLASS, seed, prepared.model_options)
    parameters = loading.parameters(model)
    weights = [(weight, parameters[weight.name].data) for weight in loading.find_prunable(model)]
    plan = masks.plan("global", weights, [sparsity], seed)
    held = dict(plan.masks(sparsity))
    plan.prune_(sparsity)
    return model, held


def train(model, prepared, held, seed=0, **changed):
    return finetuning.train_(model, prepared.train, prepared.collate, tiny.FINETUNE | changed, seed, held, "cpu")


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_mask_is_held_while_every_other_weight_trains(folder, prepared):
    model, held = pruned(folder, prepared)
    before = {name: value.clone() for name, value in loading.parameters(model).items()}
    train(model, prepared, held)
    for name, parameter in loading.parameters(model).items():
        assert (parameter[held[name]] == 0).all()
        assert (parameter[~held[name]] != before[name][~held[name]]).float().mean() > 0.9


def test_a_lost_mask_is_an_error(folder, prepared, monkeypatch):
    class NoHook:
        def remove(self):
            pass

    monkeypatch.setattr(torch.Tensor, "register_hook", lambda self, hook: NoHook())
    model, held = pruned(folder, prepared)
    with pytest.raises(finetuning.TrainingError, match=r"encoder\.layer\.0.* pruned weights are not zero.*not held"):
        train(model, prepared, held)


def test_a_mask_lost_at_the_very_end_is_an_error_too(folder, prepared, monkeypatch):
    model, held = pruned(folder, prepared)
    name = next(iter(held))

    def spoil(self, args, state, control, **kwargs):
        loading.parameters(model)[name].data.fill_(0.5)

    monkeypatch.setattr(finetuning.Watch, "on_train_end", spoil)
    with pytest.raises(finetuning.TrainingError, match=name):
        train(model, prepared, held)


def test_weights_that_are_not_zero_under_their_mask_are_refused_before_training(folder, prepared):
    model, _ = pruned(folder, prepared, sparsity=0.2)
    _, held = pruned(folder, prepared, sparsity=0.5)
    with pytest.raises(finetuning.TrainingError, match="not zero"):
        train(model, prepared, held)


def test_optimiser_moments_of_pruned_weights_stay_zero(folder, prepared, monkeypatch):
    seen = {}

    def look(self, args, state, control, optimizer=None, **kwargs):
        for name, parameter, mask, _ in self.held:
            moments = optimizer.state[parameter]
            seen[name] = [
                (moments[key][mask] == 0).all() and (moments[key][~mask] != 0).any()
                for key in ("exp_avg", "exp_avg_sq")
            ]

    monkeypatch.setattr(finetuning.Watch, "on_train_end", look)
    model, held = pruned(folder, prepared)
    train(model, prepared, held)
    assert set(seen) == set(held)
    assert all(all(both) for both in seen.values())


def test_protocol_is_adamw_with_linear_decay_to_zero_and_no_warmup(folder, prepared, monkeypatch):
    rates, optimisers = [], []

    def look(self, args, state, control, optimizer=None, lr_scheduler=None, **kwargs):
        optimisers.append(optimizer)
        rates.append(lr_scheduler.get_last_lr()[0])

    monkeypatch.setattr(finetuning.Watch, "on_step_end", look, raising=False)
    model, held = pruned(folder, prepared)
    train(model, prepared, held)
    steps = 2 * 24 // 8
    assert rates == pytest.approx([1e-2 * (1 - done / steps) for done in range(1, steps + 1)])
    optimiser = getattr(optimisers[0], "optimizer", optimisers[0])
    assert type(optimiser) is torch.optim.AdamW
    assert {(group["weight_decay"], group["eps"], group["betas"]) for group in optimiser.param_groups} == {
        (0.0, 1e-8, (0.9, 0.999))
    }


IMAGES = tiny.FINETUNE | {"kind": "image-classification", "image_size": 16}


def seen_by(prepared):
    """(prepared whose batches are noted, the batches)."""
    batches = []

    def collate(rows):
        batches.append(prepared.collate(rows))
        return batches[-1]

    return dataclasses.replace(prepared, collate=collate), batches


@pytest.mark.parametrize(
    ("saver", "data", "changed"),
    [
        (tiny.save_bert, tiny.reviews, {}),
        (tiny.save_bert, tiny.reviews, {"head_learning_rate": 5e-3, "epochs": 1.5}),
        (tiny.save_bert, lambda: tiny.pairs(60), {"kind": "text-similarity"}),
        (tiny.save_llama, tiny.reviews, {}),
        (tiny.save_vit, lambda: tiny.images(60), IMAGES),
    ],
)
def test_a_training_is_that_of_a_plain_loop(tmp_path, saver, data, changed):
    """AdamW, clipping and the falling rate as formulas, in float64, on batches of 8, 8 and 5."""
    settings = tiny.FINETUNE | {"n_train": 21, "learning_rate": 1e-3} | changed | {"n_train": 21, "learning_rate": 1e-3}
    prepared, batches = seen_by(tasks.load(settings["kind"]).prepare(saver(tmp_path), data(), settings, 0))
    model = finetuning.load_trainable(tmp_path, tasks.auto_class(settings), 0, prepared.model_options)
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    last = [part for part in model.children() if isinstance(part, torch.nn.Linear)][-1]
    last.weight.data.mul_(50)  # for gradients long enough to be clipped
    parameters = loading.parameters(model)
    weights = [(weight, parameters[weight.name].data) for weight in loading.find_prunable(model)]
    held = dict(masks.plan("global", weights, [0.5], 0).masks(0.5))
    for name, mask in held.items():
        parameters[name].data.masked_fill_(mask, 0)
    plain = copy.deepcopy(model).double().train()
    finetuning.train_(model, prepared.train, prepared.collate, settings, 3, held, "cpu")
    steps = math.ceil(3 * settings["epochs"])
    named = dict(plain.named_parameters())
    head = set(named) - {f"{plain.base_model_prefix}.{name}" for name, _ in plain.base_model.named_parameters()}
    moments = {name: (torch.zeros_like(weight), torch.zeros_like(weight)) for name, weight in named.items()}
    clipped = 0
    for done, batch in enumerate(batches[21 : 21 + steps]):  # after the loss of each row before training
        assert len(batch["labels"]) == (8, 8, 5)[done % 3]
        batch = {
            key: value.double() if value.is_floating_point() else value
            for key, value in batch.items()
            if torch.is_tensor(value)
        }
        labels = batch.pop("labels")
        logits = plain(**batch).logits
        regression = settings["kind"] == "text-similarity"
        loss = (
            ((logits[:, 0] - labels) ** 2).mean() if regression else torch.nn.functional.cross_entropy(logits, labels)
        )
        plain.zero_grad()
        loss.backward()
        for name, mask in held.items():
            loading.parameters(plain)[name].grad[mask] = 0
        norm = math.sqrt(sum(float((weight.grad**2).sum()) for weight in named.values() if weight.grad is not None))
        clipped += norm > 1
        with torch.no_grad():
            for name, (first, second) in moments.items():
                if named[name].grad is None:
                    continue
                gradient = named[name].grad * min(1.0, 1 / norm)
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.999).add_(gradient**2, alpha=0.001)
                rate = settings.get("head_learning_rate", 1e-3) if name in head else 1e-3
                size = first / (1 - 0.9 ** (done + 1)) / ((second / (1 - 0.999 ** (done + 1))).sqrt() + 1e-8)
                named[name] -= rate * (1 - done / steps) * size
    assert clipped, "no gradient here is long enough to be clipped"
    for name, parameter in model.named_parameters():
        if not name.endswith(("key.bias", "k_proj.bias")):  # has no gradient but rounding, which Adam scales up
            torch.testing.assert_close(parameter.double(), named[name], atol=2e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("saver", "data", "changed"), [(tiny.save_bert, tiny.reviews, {}), (tiny.save_vit, tiny.images, IMAGES)]
)
def test_the_seed_orders_the_rows_anew_in_every_epoch(tmp_path, saver, data, changed):
    settings, orders = tiny.FINETUNE | changed | {"n_train": 24}, []
    prepared, batches = seen_by(tasks.load(settings["kind"]).prepare(saver(tmp_path), data(), settings, 0))
    content = "pixel_values" if "pixel_values" in prepared.train[0] else "input_ids"
    rows = [torch.as_tensor(row[content]).flatten().tolist() for row in prepared.train]

    def place(row):
        values = row.flatten().tolist()
        return next(
            at for at, known in enumerate(rows) if values[: len(known)] == known and not any(values[len(known) :])
        )

    for seed in (0, 0, 1):
        batches.clear()
        model = finetuning.load_trainable(tmp_path, tasks.auto_class(settings), 0, prepared.model_options)
        finetuning.train_(model, prepared.train, prepared.collate, settings, seed, {}, "cpu")
        found = [place(row) for batch in batches[24:30] for row in batch[content]]
        if content == "input_ids":  # in order of length, the longest of all first
            lengths = [batch["attention_mask"].sum(dim=1).tolist() for batch in batches[24:27]]
            assert lengths[0][0] == max(map(len, rows))
            assert all(part[1:] == sorted(part[1:], reverse=True) for part in lengths)
        orders += [tuple(found[:24]), tuple(found[24:])]
    assert orders[:2] == orders[2:4]
    assert len(set(orders[2:])) == 4
    assert all(sorted(order) == list(range(24)) for order in orders) or content == "input_ids"  # texts that are alike


@pytest.mark.parametrize(("threads", "workers"), [(1, 0), (3, 2), (64, 4)])
def test_a_gpu_gets_autocast_pinned_memory_and_the_idle_threads(monkeypatch, threads, workers):
    """Asked of the arguments alone: they cannot be made where there is no GPU."""
    monkeypatch.setattr(
        finetuning.transformers, "TrainingArguments", lambda **given: types.SimpleNamespace(n_gpu=4, **given)
    )
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(devices, "ROOM_OF_BATCHES", 0)
    settings = tiny.FINETUNE | {"autocast": "bf16"}
    gpu, processor = (
        finetuning.training_arguments(settings, 0, torch.device(device), "work", texts=True)
        for device in ("cuda", "cpu")
    )
    assert (gpu.bf16, gpu.fp16, gpu.dataloader_pin_memory, gpu._n_gpu) == (True, False, True, 1)
    assert gpu.dataloader_num_workers == workers
    assert (processor.bf16, processor.dataloader_pin_memory, processor.dataloader_num_workers) == (False, False, 0)
    different = {"bf16", "use_cpu", "dataloader_pin_memory", "dataloader_num_workers"}
    assert {key for key, value in vars(gpu).items() if vars(processor)[key] != value} <= different


@pytest.fixture
def arguments_with(monkeypatch):
    """Lets trainings here run with arguments that only those on a GPU have."""
    original = finetuning.training_arguments

    def change(**changed):
        monkeypatch.setattr(
            finetuning, "training_arguments", lambda *a, **k: dataclasses.replace(original(*a, **k), **changed)
        )

    return change


def test_a_model_that_was_trained_under_autocast_is_scored_in_float32(folder, prepared, arguments_with):
    weights = []
    for autocast in (False, True):
        arguments_with(bf16=autocast)
        model, held = pruned(folder, prepared)
        train(model, prepared, held)
        weights.append(state(model))
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0]), "no autocast here"
    clean, _ = pruned(folder, prepared)
    clean.float().load_state_dict(weights[1])
    found, expected = (
        tasks.forward(each, prepared.inputs, prepared.collate, 8, "cpu", tasks.logits) for each in (model, clean)
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_processes_that_make_batches_change_no_bit(folder, prepared, arguments_with, count):
    found = []
    for workers in (0, count):
        arguments_with(dataloader_num_workers=workers)
        model, held = pruned(folder, prepared)
        train(model, prepared, held, epochs=3)
        found.append(state(model))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_training_is_strict_about_bits_and_what_was_asked_before_holds_again(folder, prepared, monkeypatch):
    modes = []
    monkeypatch.setattr(
        finetuning.Watch,
        "on_step_end",
        lambda *_, **__: modes.append(torch.get_deterministic_debug_mode()),
        raising=False,
    )
    exactness.ask()
    model, held = pruned(folder, prepared)
    train(model, prepared, held)
    assert set(modes) == {2}
    assert torch.get_deterministic_debug_mode() == 1
    assert not torch.backends.cudnn.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"


@pytest.mark.parametrize("before", [0, 1])
def test_what_was_asked_before_a_training_holds_after_it_and_after_an_error(before):
    torch.set_deterministic_debug_mode(before)
    try:
        with pytest.raises(KeyboardInterrupt), exactness.strict():
            raise KeyboardInterrupt
        assert torch.get_deterministic_debug_mode() == before
    finally:
        torch.set_deterministic_debug_mode(0)


def test_only_an_operation_that_is_uncertain_is_given_in_to_and_once():
    uncertain = RuntimeError("scatter does not have a deterministic implementation, but you set")
    with exactness.strict():
        assert not exactness.give_in(RuntimeError("CUDA error"))
        assert exactness.give_in(uncertain)
        assert not exactness.give_in(uncertain), "else a step would be tried again for ever"


def test_a_model_has_its_own_forward_pass_again_after_an_error_too(folder, prepared, arguments_with, monkeypatch):
    arguments_with(bf16=True)
    model, held = pruned(folder, prepared)
    own = model.forward

    def fails(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(finetuning.Watch, "on_epoch_end", fails)
    with pytest.raises(KeyboardInterrupt):
        train(model, prepared, held)
    assert model.forward == own


def test_an_operation_without_a_deterministic_form_is_said_once_and_changes_no_bit(
    folder, prepared, monkeypatch, capsys
):
    """As torch raises it in the backward pass: the batch's dropout is drawn again as it was."""
    model, held = pruned(folder, prepared)
    train(model, prepared, held)
    undisturbed, original = state(model), transformers.Trainer.training_step

    def certain(self, *args):
        loss = original(self, *args)
        if not torch.is_deterministic_algorithms_warn_only_enabled():
            raise RuntimeError(
                "upsample_bicubic2d_backward_out_cuda does not have a deterministic implementation, but you"
            )
        return loss

    monkeypatch.setattr(transformers.Trainer, "training_step", certain)
    model, held = pruned(folder, prepared)
    train(model, prepared, held)
    told = capsys.readouterr().out
    assert told.count("warning: upsample_bicubic2d_backward_out_cuda has no deterministic form here") == 1
    assert all(torch.equal(undisturbed[name], value) for name, value in state(model).items())


def test_models_are_loaded_with_the_fused_attention_of_torch(folder, prepared):
    model = finetuning.load_trainable(folder, AUTO_CLASS, 0, prepared.model_options)
    assert model.config._attn_implementation == "sdpa"
    assert loading.load_model(folder, "AutoModel").config._attn_implementation == "sdpa"


def test_same_seed_trains_to_the_same_bits_and_another_seed_does_not(folder, prepared):
    results = []
    for seed in (3, 3, 4):
        torch.rand(seed)  # what ran before in the process must not matter
        model, held = pruned(folder, prepared, seed=3)
        train(model, prepared, held, seed=seed)
        results.append(state(model))
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    assert any(not torch.equal(results[0][name], results[2][name]) for name in results[0])


def test_activations_that_are_computed_again_change_no_bit(folder, prepared, monkeypatch):
    forwards = []
    layer = transformers.models.bert.modeling_bert.BertSelfAttention
    original = layer.forward
    monkeypatch.setattr(layer, "forward", lambda *args, **kwargs: forwards.append(1) or original(*args, **kwargs))
    found = []
    for again in (None, True):
        forwards.clear()
        model, held = pruned(folder, prepared)
        train(model, prepared, held, gradient_checkpointing=again)
        found.append((state(model), len(forwards)))
    (kept, few), (computed, many) = found
    assert many > few
    assert all(torch.equal(kept[name], computed[name]) for name in kept)


def test_a_model_that_cannot_compute_them_again_says_so(folder, prepared, monkeypatch):
    model, held = pruned(folder, prepared)
    monkeypatch.setattr(type(model), "supports_gradient_checkpointing", False)
    with pytest.raises(
        finetuning.TrainingError, match=r"cannot compute activations again.*gradient_checkpointing blank"
    ):
        train(model, prepared, held, gradient_checkpointing=True)


def test_training_leaves_no_files(folder, prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = {path: os.stat(path).st_mtime_ns for path in folder.iterdir()}
    model, held = pruned(folder, prepared)
    train(model, prepared, held)
    assert list(tmp_path.iterdir()) == []
    assert {path: os.stat(path).st_mtime_ns for path in folder.iterdir()} == before


def test_divergence_is_told_apart_from_a_lost_mask(folder, prepared, capsys):
    """Weights that are no numbers: training ends after their epoch, the first, and what was pruned is zero again."""
    model, held = pruned(folder, prepared)
    assert train(model, prepared, held, learning_rate=1e38, epochs=50)
    assert "diverged before step 3: it ends here" in capsys.readouterr().out
    parameters = loading.parameters(model)
    assert all((parameters[name][mask] == 0).all() for name, mask in held.items())
    assert not any(parameters[name][~mask].isfinite().any() for name, mask in held.items())


@pytest.mark.parametrize("sparsity", [0.0, 0.5])
def test_a_loss_that_grows_is_divergence_too(folder, prepared, sparsity):
    for rate, diverged in ((1e3, True), (1e-2, False), (0.0, False)):
        model, held = pruned(folder, prepared, sparsity)
        assert train(model, prepared, held, learning_rate=rate) is diverged
        assert finetuning.finite(model)


@pytest.mark.parametrize(("after", "diverged"), [(0.9, False), (1.9, False), (2.1, True), (math.nan, True)])
def test_a_loss_diverged_where_it_more_than_doubled(folder, prepared, monkeypatch, after, diverged):
    losses = iter([1.0, after])
    monkeypatch.setattr(finetuning, "mean_loss", lambda *args: next(losses))
    model, held = pruned(folder, prepared)
    assert train(model, prepared, held) is diverged


def test_the_loss_that_is_looked_at_is_the_mean_over_the_first_rows(folder, prepared):
    model, _ = pruned(folder, prepared)
    batch = prepared.collate([prepared.train[index] for index in range(24)])
    with torch.no_grad():
        whole = model.eval()(**batch).loss
    found = finetuning.mean_loss(model.train(), prepared.train, prepared.collate, torch.device("cpu"))
    assert found == pytest.approx(float(whole), rel=1e-5)


@pytest.mark.parametrize("key", ["epochs", "learning_rate", "batch_size"])
def test_a_missing_setting_is_named(folder, prepared, key):
    model, held = pruned(folder, prepared)
    with pytest.raises(finetuning.TrainingError, match=f"'tiny': column '{key}' is empty"):
        train(model, prepared, held, **{key: None})


def test_masks_of_another_model_are_refused(folder, prepared):
    model, held = pruned(folder, prepared)
    with pytest.raises(finetuning.TrainingError, match=r"does not have: elsewhere\.weight"):
        train(model, prepared, held | {"elsewhere.weight": next(iter(held.values()))})


def test_only_the_head_is_new_and_the_seed_decides_it(folder, prepared):
    first, again, other = (
        finetuning.load_trainable(folder, AUTO_CLASS, seed, prepared.model_options) for seed in (0, 0, 1)
    )
    stored = transformers.AutoModel.from_pretrained(folder).state_dict()
    for name, value in first.base_model.state_dict().items():
        assert torch.equal(value, stored[name])
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight)
    assert not first.classifier.bias.any()


@pytest.mark.parametrize("n_labels", [2, 5])
def test_a_classifier_that_the_checkpoint_brings_is_replaced(tmp_path, prepared, n_labels):
    tiny.save_bert(tmp_path, auto_class=AUTO_CLASS, num_labels=n_labels)
    brought = getattr(transformers, AUTO_CLASS).from_pretrained(tmp_path).classifier.weight
    model = finetuning.load_trainable(tmp_path, AUTO_CLASS, 0, prepared.model_options)
    fresh = finetuning.load_trainable(tmp_path, AUTO_CLASS, 0, prepared.model_options)
    assert model.classifier.weight.shape == (2, 16)
    assert torch.equal(model.classifier.weight, fresh.classifier.weight)
    assert not torch.equal(model.classifier.weight, brought[:2])
    assert model.config.id2label == {0: "bad", 1: "good"}


def test_a_missing_pooler_may_be_new_and_is_seeded(tmp_path, prepared):
    tiny.save_bert(tmp_path, auto_class="AutoModelForMaskedLM")
    first, again, other = (
        finetuning.load_trainable(tmp_path, AUTO_CLASS, seed, prepared.model_options) for seed in (0, 0, 1)
    )
    weights = [model.bert.pooler.dense.weight for model in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_16_bit_checkpoint_is_masked_in_its_dtype_and_trained_in_float32(tmp_path, prepared):
    tiny.save_bert(tmp_path, dtype=torch.bfloat16)
    model, held = pruned(tmp_path, prepared)
    assert model.dtype == torch.bfloat16
    train(model, prepared, held)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all((parameter[held[name]] == 0).all() for name, parameter in loading.parameters(model).items())


# --- too little memory


class Small:
    """A machine whose memory holds so many rows at once."""

    def __init__(self, monkeypatch, rows):
        self.rows, self.seen = rows, []
        forward = transformers.BertModel.forward

        def limited(model, input_ids, *args, **kwargs):
            if len(input_ids) > self.rows:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            self.seen.append(len(input_ids))
            return forward(model, input_ids, *args, **kwargs)

        monkeypatch.setattr(transformers.BertModel, "forward", limited)


@pytest.fixture(scope="module")
def without_dropout(tmp_path_factory):
    """Where dropout draws other numbers for a batch in parts, nothing could be compared."""
    folder = tmp_path_factory.mktemp("still")
    return tiny.save_bert(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


@pytest.mark.parametrize("rows", [1, 3, 5])
def test_a_batch_in_parts_trains_to_the_same_weights(without_dropout, monkeypatch, capsys, rows):
    """21 items in batches of 8, 8 and 5: the last in parts of 3 and 2, of 2 and 1; every weight, to rounding."""
    settings = tiny.FINETUNE | {"n_train": 21}
    prepared = text_classification.prepare(without_dropout, tiny.reviews(), settings, 0)
    whole, held = pruned(without_dropout, prepared)
    train(whole, prepared, held)
    small = Small(monkeypatch, rows)
    parts, held = pruned(without_dropout, prepared)
    train(parts, prepared, held)
    assert max(small.seen) == {1: 1, 3: 2, 5: 4}[rows]
    assert sum(small.seen) == 2 * 21 + 2 * 21, "every item once an epoch, and for its loss before and after"
    expected = state(whole)
    for name, value in state(parts).items():
        if not name.endswith("key.bias"):  # has no gradient but rounding, which Adam scales up
            torch.testing.assert_close(value, expected[name], atol=2e-5, rtol=1e-4, msg=name)
    assert capsys.readouterr().out.count("Out of memory") == {1: 3, 3: 2, 5: 1}[rows]


def test_parts_count_by_their_targets_not_by_their_number(without_dropout):
    """Of six rows in parts of four and two; of tokens, where most are ignored; and shifted ones of a language model."""
    trainer = object.__new__(finetuning.Trainer)
    for labels, shifted, counted in [
        (torch.tensor([0, 1, -100]), False, 2),
        (torch.tensor([[5, -100, 7], [-100, -100, 1]]), False, 3),
        (torch.tensor([[5, -100, 7], [-100, -100, 1]]), True, 2),
    ]:
        trainer._loss_shifts_labels = shifted
        assert trainer._targets({"input_ids": labels, "labels": labels}) == counted
    assert trainer._targets({"input_ids": torch.zeros(3, 9), "start_positions": torch.zeros(3)}) == 3


def test_dropout_is_drawn_again_after_the_attempt_that_failed(folder, prepared, monkeypatch):
    """A run that finds out about its memory equals one that knows."""
    found, held = pruned(folder, prepared)
    with monkeypatch.context() as patch:
        Small(patch, 4)
        train(found, prepared, held)
    known, held = pruned(folder, prepared)
    monkeypatch.setattr(finetuning.Trainer, "parts", 2)
    train(known, prepared, held)
    assert all(torch.equal(value, state(found)[name]) for name, value in state(known).items())


def test_a_single_row_that_does_not_fit_and_other_errors_are_raised(folder, prepared, monkeypatch):
    Small(monkeypatch, 0)
    model, held = pruned(folder, prepared)
    with pytest.raises(torch.OutOfMemoryError):
        train(model, prepared, held)
    monkeypatch.setattr(transformers.BertModel, "forward", lambda *args, **kwargs: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        train(model, prepared, held)


@pytest.mark.parametrize(("rows", "largest"), [(32, 20), (8, 8), (1, 1)])
def test_evaluation_goes_on_with_smaller_batches(folder, prepared, monkeypatch, rows, largest):
    model, _ = pruned(folder, prepared)
    expected = text_classification.run(model, prepared, tiny.FINETUNE, 0, "cpu")
    small = Small(monkeypatch, rows)
    found = text_classification.run(model, prepared, tiny.FINETUNE, 0, "cpu")
    assert max(small.seen) == largest
    assert found.metrics == expected.metrics
    assert found.items["item"].equals(expected.items["item"])


def test_evaluation_raises_other_errors_and_a_single_item_that_does_not_fit(folder, prepared, monkeypatch):
    model, _ = pruned(folder, prepared)
    Small(monkeypatch, 0)
    with pytest.raises(torch.OutOfMemoryError):
        text_classification.run(model, prepared, tiny.FINETUNE, 0, "cpu")
