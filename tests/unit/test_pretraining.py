"""Pre-training: nested data, checkpoints that load, and the same bits after a SIGKILL."""

import argparse
import io
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file

import pretrain
from essential_sparsity import files
from essential_sparsity.acquire import formats
from essential_sparsity.checkpoints import loading
from essential_sparsity.emergence import corpus, objectives, pretraining
from essential_sparsity.tasks import image_classification

SETTINGS = {
    "objective": "masked-lm",
    "data_fraction": 1.0,
    "seed": 0,
    "steps": 8,
    "checkpoint_every": 2,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "layers": 2,
    "width": 16,
    "heads": 2,
    "vocabulary": 120,
    "max_length": 12,
    "mask_rate": 0.15,
    "image_size": 8,
    "patch_size": 4,
}
VISION = ("supervised", "masked-autoencoding", "self-distillation")


def texts(n=60):
    words = ["the", "old", "king", "of", "a", "river", "town", "had", "seven", "ships", "and", "no", "wind"]
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {"item": [f"t{i}" for i in range(n)], "text": [" ".join(generator.choice(words, 12)) for _ in range(n)]}
    )


def images(n=24):
    def png(seed):
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
        return buffer.getvalue()

    return pd.DataFrame(
        {
            "item": [f"i{i}" for i in range(n)],
            "image": [png(i) for i in range(n)],
            "label": [str(i % 3) for i in range(n)],
        }
    )


def stored(data, folder):
    """The file of a frame, in row groups of 7."""
    formats.write_frame(data, folder / "data.parquet")
    pq.write_table(pq.read_table(folder / "data.parquet"), folder / "data.parquet", row_group_size=7)
    return folder / "data.parquet"


def trained(out, settings):
    """Run a training in this process."""
    tokenizer, data = None, images()
    if settings["objective"] == "masked-lm":
        data = texts()
        pretraining.train_tokenizer(data["text"].tolist(), settings["vocabulary"], out / "tokenizer")
        tokenizer = transformers.AutoTokenizer.from_pretrained(out / "tokenizer")
    objective, samples, collate = pretraining.prepare(stored(data, out), settings, tokenizer)
    return pretraining.train(objective, samples, collate, settings, out, lambda folder: None)


@pytest.mark.parametrize("objective", ["masked-lm", *VISION])
def test_a_step_without_a_deterministic_form_is_tried_again_with_the_same_draws(
    objective, tmp_path, monkeypatch, capsys
):
    """A self-distillation has moved its centre by then."""
    original, steps = transformers.Trainer.training_step, []

    def weights(name):
        (tmp_path / name).mkdir()
        trained(tmp_path / name, SETTINGS | {"objective": objective, "steps": 4})
        return load_file(tmp_path / name / "step-4" / "model.safetensors")

    def uncertain(self, *args):
        loss = original(self, *args)
        steps.append(torch.get_deterministic_debug_mode())
        if len(steps) == 2:  # the second step: the first has moved what there is to move
            raise RuntimeError("scatter does not have a deterministic implementation, but you set")
        return loss

    undisturbed = weights("one")
    monkeypatch.setattr(transformers.Trainer, "training_step", uncertain)
    found = weights("two")
    assert steps == [2, 2, 1, 1, 1]
    assert all(torch.equal(found[name], value) for name, value in undisturbed.items())
    assert capsys.readouterr().out.count("warning: scatter has no deterministic form here") == 1


def test_several_processes_do_not_try_a_step_again(tmp_path, monkeypatch):
    modes = []
    monkeypatch.setattr(
        pretraining.Keep, "on_step_begin", lambda *_, **__: modes.append(torch.get_deterministic_debug_mode())
    )
    objective, samples, collate = pretraining.prepare(
        stored(images(), tmp_path), SETTINGS | {"objective": "supervised"}, None
    )
    pretraining.train(objective, samples, collate, SETTINGS, tmp_path, lambda folder: None, processes=2)
    assert set(modes) == {0}


def test_weight_decay_is_that_of_the_row_or_a_hundredth(tmp_path):
    """In few steps the norm of the weights falls by the decay times the sum of the rates."""
    found = {}
    for given in (None, 0.01, 0.5):
        settings = SETTINGS | {"weight_decay": given, "steps": 4, "checkpoint_every": 4, "warmup_steps": 0}
        (tmp_path / str(given)).mkdir()
        trained(tmp_path / str(given), settings)
        found[given] = load_file(tmp_path / str(given) / "step-4" / "model.safetensors")
    name = next(name for name in found[None] if name.endswith("layer.0.output.dense.weight"))
    assert torch.equal(found[None][name], found[0.01][name])
    ratio = found[0.5][name].norm() / found[0.01][name].norm()
    rates = sum(1e-3 * (1 - step / 4) for step in range(4))
    assert ratio == pytest.approx(1 - (0.5 - 0.01) * rates, abs=2e-4)


def test_smaller_fractions_are_part_of_larger_ones(tmp_path):
    data = texts(200)
    path = stored(data, tmp_path)
    parts = [set(corpus.Corpus(path, fraction).items()) for fraction in (0.1, 0.5, 1.0)]
    assert [len(part) for part in parts] == [20, 100, 200]
    assert parts[0] < parts[1] < parts[2]
    split = data.assign(split=["train"] * 150 + ["test"] * 50)
    assert len(corpus.Corpus(stored(split, tmp_path))) == 150


# --- the same as of a frame that is held in memory whole


def subset(data, fraction):
    if "split" in data:
        data = data[data["split"] == "train"]
    order = np.argsort([files.sha256_text(f"fraction\0{item}") for item in data["item"]])
    return data.iloc[np.sort(order[: max(1, math.floor(fraction * len(data) + 0.5))])]


def text_samples(found, tokenizer, length):
    encoded = tokenizer(list(found), add_special_tokens=False)["input_ids"]
    ids = np.concatenate([[*row, tokenizer.sep_token_id] for row in encoded])
    count = len(ids) // (length - 1)
    pieces = ids[: count * (length - 1)].reshape(count, length - 1)
    return torch.from_numpy(np.insert(pieces, 0, tokenizer.cls_token_id, axis=1))


@pytest.mark.parametrize("leading", [8, 1, 0])
@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.77, 1.0])
def test_the_share_is_that_of_the_whole_frame(tmp_path, monkeypatch, fraction, leading):
    """`leading`: so few bytes of a hash that rows share them."""
    monkeypatch.setattr(corpus, "LEADING", leading)
    data = texts(150).assign(split=["train", "train", "test"] * 50)
    for frame in (data, data.drop(columns="split")):
        assert corpus.Corpus(stored(frame, tmp_path), fraction).items() == subset(frame, fraction)["item"].tolist()


@pytest.mark.parametrize("at_once", [3, 10_000])
@pytest.mark.parametrize("large", [False, True])
def test_text_samples_and_batches_are_those_of_the_whole_frame(tmp_path, monkeypatch, at_once, large):
    monkeypatch.setattr(corpus.Corpus.pieces, "__kwdefaults__", {"at_once": at_once})
    data = texts(80).assign(text=lambda frame: frame["text"].where(frame.index % 9 != 0, ""))
    pretraining.train_tokenizer(data["text"].tolist(), SETTINGS["vocabulary"], tmp_path / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    if large:
        monkeypatch.setattr(type(tokenizer), "get_vocab", lambda self: {"a": 1 << 16})
    expected = text_samples(subset(data, 0.6)["text"], tokenizer, 12)
    _, visits, collate = pretraining.prepare(stored(data, tmp_path), SETTINGS | {"data_fraction": 0.6}, tokenizer)
    assert visits.samples.ids.dtype == (np.uint32 if large else np.uint16)
    found = torch.stack([visits.samples[index] for index in range(len(visits.samples))])
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    whole = pretraining.Visits(expected, None, len(visits), SETTINGS["seed"])
    for start in range(0, len(visits), 4):
        places = range(start, start + 4)
        ours, theirs = (collate([source[place] for place in places]) for source in (visits, whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_image_samples_are_kept_as_bytes_and_have_the_values_of_the_whole_frame(tmp_path):
    data = images(30).assign(split=["train"] * 25 + ["test"] * 5)
    _, visits, _ = pretraining.prepare(stored(data, tmp_path), SETTINGS | {"objective": "supervised"}, None)
    pixels = torch.stack([image_classification.decode(image, 8) for image in data["image"][:25]])
    assert visits.samples.pixels.dtype == torch.uint8
    assert torch.equal(
        torch.stack([visits.samples[index] for index in range(len(visits.samples))]), pixels.sub_(0.5).div_(0.5)
    )
    assert visits.labels.tolist() == [int(label) for label in data["label"][:25]]


def test_a_tokenizer_trained_on_a_stream_has_the_tokens_of_one_trained_on_a_list(tmp_path):
    """The library gives pieces of one letter other ids each time, whatever it is given: the tokens are compared."""
    data = texts(500)
    found = []
    for name, given in (
        ("list", data["text"].tolist()),
        ("stream", corpus.Corpus(stored(data, tmp_path)).texts()),
    ):
        pretraining.train_tokenizer(given, 150, tmp_path / name)
        found.append(set(transformers.AutoTokenizer.from_pretrained(tmp_path / name).get_vocab()))
    assert found[0] == found[1]


def test_missing_texts_and_labels_are_told_by_item(tmp_path):
    data = texts(100).assign(text=lambda frame: frame["text"].where(~frame.index.isin([3, 50, 99])))
    for use in (
        lambda path: list(corpus.Corpus(path).texts()),
        lambda path: pretraining.train_tokenizer(corpus.Corpus(path).texts(), 150, tmp_path / "tokenizer"),
    ):
        with pytest.raises(pretraining.PretrainingError, match=r"Item 't3' .* 3 of 100 rows: t3, t50, t99"):
            use(stored(data, tmp_path))
    pictures = images().assign(label=lambda frame: frame["label"].where(frame.index > 1))
    with pytest.raises(pretraining.PretrainingError, match=r"Item 'i0' and 1 more of the data have no label"):
        pretraining.prepare(stored(pictures, tmp_path), SETTINGS | {"objective": "supervised"}, None)


def test_data_smaller_than_one_sequence_are_refused(tmp_path):
    pretraining.train_tokenizer(texts()["text"].tolist(), 120, tmp_path / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    with pytest.raises(pretraining.PretrainingError, match="fewer than one sequence of 500"):
        pretraining.prepare(stored(texts(3), tmp_path), SETTINGS | {"max_length": 500}, tokenizer)


def test_samples_are_visited_once_a_pass_in_orders_of_their_own():
    visits = pretraining.Visits(torch.arange(10), None, 30, seed=1)
    seen = [int(visits[place]["input_ids"]) for place in range(30)]
    assert all(sorted(seen[start : start + 10]) == list(range(10)) for start in (0, 10, 20))
    assert seen[:10] != seen[10:20]
    assert [int(visits[place]["input_ids"]) for place in (25, 3)] == [seen[25], seen[3]]


@pytest.mark.parametrize("objective", ["masked-lm", *VISION])
def test_checkpoints_are_saved_from_the_first_step_and_load(tmp_path, objective):
    settings = SETTINGS | {"objective": objective, "steps": 4}
    losses = trained(tmp_path, settings)
    assert np.isfinite(losses["loss"]).all()
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-0", "step-2", "step-4"]
    facts = loading.describe(tmp_path / "step-4")
    assert facts["n_prunable"] == 2 * 12 * 16 * 16
    model = loading.load_model(tmp_path / "step-4", "AutoModel", allow_new=("pooler.",))
    first, last = (load_file(tmp_path / f"step-{step}" / "model.safetensors") for step in (0, 4))
    assert any(not torch.equal(first[name], last[name]) for name in first)
    if objective in VISION:
        pixels = torch.zeros(1, 3, 8, 8)
        assert torch.equal(model(pixels).last_hidden_state, model(pixels).last_hidden_state)


def test_initial_weights_are_the_same_for_every_fraction(tmp_path):
    found = []
    for fraction in (0.5, 1.0):
        objective, _, _ = pretraining.prepare(
            stored(images(), tmp_path), SETTINGS | {"objective": "supervised", "data_fraction": fraction}, None
        )
        found.append(objective.backbone().state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_the_teacher_follows_the_student():
    objective = objectives.SelfDistillation(SETTINGS)
    before = objective.teacher.layernorm.weight.clone()
    with torch.no_grad():
        objective.model.layernorm.weight.add_(1.0)
    objective.after_step(0.5)
    moved = (objective.teacher.layernorm.weight - before).mean()
    assert 0 < float(moved) < 0.01
    assert not any(p.requires_grad for p in objective.teacher.parameters())


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{here!r}, "workflow/scripts"]
import test_pretraining as t
step = t.pretraining.Keep.on_step_end
def stop(self, args, state, control, **kwargs):
    step(self, args, state, control, **kwargs)
    if state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[2] == "kill":
    t.pretraining.Keep.on_step_end = stop
t.torch.set_num_threads(1)
losses = t.trained(Path(sys.argv[1]), t.SETTINGS | {{"objective": sys.argv[3]}})
losses.to_csv(Path(sys.argv[1]) / "losses.csv")
"""


@pytest.mark.parametrize("objective", ["masked-lm", "self-distillation"])
def test_a_killed_training_ends_with_the_same_bits(tmp_path, objective):
    def run(folder, how):
        code = KILLED.format(here=str(Path(__file__).parent))
        return subprocess.run(
            [sys.executable, "-c", code, str(folder), how, objective], capture_output=True, text=True, check=False
        )

    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    done = run(tmp_path / "whole", "go on")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path / "killed", "kill").returncode == -signal.SIGKILL
    assert not (tmp_path / "killed/step-6").exists()
    # a state that was cut short while it was written must not be used
    (tmp_path / "killed/state/checkpoint-5").mkdir()
    again = run(tmp_path / "killed", "go on")
    assert again.returncode == 0, again.stderr
    assert "resumed at step 4" in again.stdout
    for step in range(0, 9, 2):
        ours, theirs = (load_file(tmp_path / name / f"step-{step}/model.safetensors") for name in ("killed", "whole"))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs), step
    assert (tmp_path / "killed/losses.csv").read_text() == (tmp_path / "whole/losses.csv").read_text()


def test_a_state_of_other_settings_is_not_taken_up(tmp_path, capsys):
    assert pretraining.resumable(tmp_path / "state", {"seed": 0}) is None
    (tmp_path / "state/checkpoint-2").mkdir()
    (tmp_path / "state/checkpoint-2" / pretraining.COMPLETE).touch()
    assert pretraining.resumable(tmp_path / "state", {"seed": 0}).name == "checkpoint-2"
    (tmp_path / "step-2").mkdir()
    assert pretraining.resumable(tmp_path / "state", {"seed": 0}).name == "checkpoint-2"
    assert (tmp_path / "step-2").exists()
    assert pretraining.resumable(tmp_path / "state", {"seed": 1}) is None
    assert not (tmp_path / "state/checkpoint-2").exists()
    assert not (tmp_path / "step-2").exists(), "nor are checkpoints of theirs told as those of this training"
    assert "(other seed)" in capsys.readouterr().out


def test_a_state_whose_mark_a_lost_node_left_half_written_is_not_taken_up(tmp_path):
    for said in ("", "{", "\0\0"):
        (tmp_path / "state/checkpoint-2").mkdir(parents=True)
        (tmp_path / "state/settings.json").write_text(said)
        assert pretraining.resumable(tmp_path / "state", {"seed": 0}) is None
        assert not (tmp_path / "state/checkpoint-2").exists()


@pytest.mark.parametrize("changed", [{"code": "edited"}, {"device": "cuda"}])
def test_what_was_killed_does_not_go_on_with_other_code_or_on_another_device(tmp_path, monkeypatch, changed):
    """Its last steps would be of one training, and its first of another."""
    files.write_json(tmp_path / "manifest.json", {"files": []})
    found = []

    def train(objective, samples, collate, made, out, side, device, processes):
        found.append(pretraining.resumable(out / "state", made))
        (out / "state/checkpoint-2").mkdir(exist_ok=True)
        (out / "state/checkpoint-2" / pretraining.COMPLETE).touch()
        raise InterruptedError

    monkeypatch.setattr(pretrain.loading, "verified_folder", lambda path: Path(path).parent)
    monkeypatch.setattr(pretraining, "prepare", lambda *args: (None, None, None))
    monkeypatch.setattr(pretraining, "train", train)
    for more in ({}, {}, changed):
        given = {"code": "c0de", "device": "cpu", "settings": {"seed": 0}, "threads": 1, "tokenizer": []} | more
        given |= {"data": str(tmp_path / "manifest.json"), "pretraining": "mine", "losses": None}
        with pytest.raises(InterruptedError):
            pretrain.run(argparse.Namespace(**given), tmp_path / "out", given["device"])
    assert [path and path.name for path in found] == [None, "checkpoint-2", None]


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    with pytest.raises(pretraining.PretrainingError, match="not finite from step"):
        trained(tmp_path, SETTINGS | {"objective": "supervised", "learning_rate": 1e30, "steps": 6})
