"""Pre-training: nested data, checkpoints that load, and the same bits after a SIGKILL."""

import argparse
import io
import math
import re
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
from essential_sparsity import files, markers, tables
from essential_sparsity.acquire import fetching, formats
from essential_sparsity.checkpoints import loading
from essential_sparsity.checkpoints.prunable import CheckpointError
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
    out.mkdir(exist_ok=True)
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


SHARED = """
import os, sys
from pathlib import Path
sys.path[:0] = [{here!r}, "workflow/scripts"]
import test_pretraining as t
t.torch.set_num_threads(1)
folder, view_of = Path(sys.argv[1]), t.objectives.view_of
settings = t.SETTINGS | {{"objective": "self-distillation", "steps": 2, "warmup_steps": 0}}
objective, *found = t.pretraining.prepare(folder / "data.parquet", settings, None)
drawn, means = [], []
def noted(images):
    drawn.append(t.files.sha256_text(str(t.torch.get_rng_state().tolist())))
    return view_of(images)
t.objectives.view_of = noted
objective.teacher_head.register_forward_hook(lambda head, given, logits: means.append(logits.float().mean(dim=0)))
t.pretraining.train(objective, *found, settings, folder, lambda folder: None, "cpu", 2)
t.torch.save((drawn, means, objective.centre), folder / f"rank-{{os.environ['RANK']}}.pt")
"""


def test_several_processes_draw_views_of_their_own_and_share_a_centre(tmp_path):
    stored(images(16), tmp_path)
    (tmp_path / "state").mkdir()
    files.write_json(tmp_path / "state/settings.json", {"of": "another training, which one of them clears away"})
    (tmp_path / "shared.py").write_text(SHARED.format(here=str(Path(__file__).parent)))
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launched, str(tmp_path / "shared.py"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is not used") == 1
    (first, means, centre), (second, others, same) = (
        torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert len(first) == len(second) == 4
    assert not set(first) & set(second)
    expected = torch.zeros_like(centre)
    for mine, theirs in zip(means, others, strict=True):
        expected = objectives.CENTRING * expected + (1 - objectives.CENTRING) * (mine + theirs) / 2
    torch.testing.assert_close(centre, expected)
    torch.testing.assert_close(same, expected)


MASKED = """
import os, sys
from pathlib import Path
sys.path[:0] = [{here!r}, "workflow/scripts"]
import test_pretraining as t
t.torch.set_num_threads(1)
folder, found, logits = Path(sys.argv[1]), [], []
tokenizer = t.transformers.AutoTokenizer.from_pretrained(folder / "tokenizer")
settings = t.SETTINGS | {{"steps": 2}}
objective, *given = t.pretraining.prepare(folder / "data.parquet", settings, tokenizer)
def note(own, args, batch, output):
    odds, masked = logits[-1].log_softmax(-1), batch["labels"] != -100
    found.append((-odds[masked].gather(1, batch["labels"][masked][:, None]).sum().item(), masked.sum().item()))
objective.model.register_forward_hook(lambda own, args, output: logits.append(output.logits.detach()))
objective.register_forward_hook(note, with_kwargs=True)
log = t.pretraining.train(objective, *given, settings, folder, lambda folder: None, "cpu", 2)
t.torch.save((found, log["loss"].tolist()), folder / f"rank-{{os.environ['RANK']}}.pt")
"""


def test_the_loss_of_several_processes_is_the_mean_of_all_masked_tokens_of_the_batch(tmp_path):
    """One share has none; transformers multiplies what a process gives by the number of processes."""
    stored(texts(), tmp_path)
    pretraining.train_tokenizer(texts()["text"].tolist(), SETTINGS["vocabulary"], tmp_path / "tokenizer")
    (tmp_path / "masked.py").write_text(MASKED.format(here=str(Path(__file__).parent)))
    launched = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launched, str(tmp_path / "masked.py"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (first, logged), (second, _) = (torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    totals, masked = np.add(first, second).T
    assert 0 in np.array([first, second])[:, :, 1]
    assert logged == pytest.approx(totals / masked, rel=1e-5)


def test_the_loss_of_masked_tokens_is_that_of_bert_and_0_where_none_is_masked():
    torch.manual_seed(0)
    objective = objectives.MaskedLM(SETTINGS, {"size": 20, "pad": 0}).eval()
    batch = {"input_ids": torch.randint(20, (3, 5)), "labels": torch.randint(20, (3, 5))}
    batch["labels"][torch.rand(3, 5) < 0.6] = -100
    assert objective(**batch)["loss"].item() == pytest.approx(objective.model(**batch).loss.item(), rel=1e-6)
    loss = objective(**batch | {"labels": torch.full((3, 5), -100)})["loss"]
    loss.backward()
    assert loss == 0
    assert not any(weight.grad.any() for weight in objective.parameters() if weight.grad is not None)


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


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda data: data.assign(split="test"), "data.parquet has no row of the split train, which"),
        (lambda data: data.drop(columns="label"), r"data.parquet has no column label \(it has item, image\)"),
        (lambda data: data.drop(columns="image"), r"data.parquet has no column image \(it has item, label\)"),
        (lambda data: data.assign(label="x"), r"The 24 rows of the data that are read have one label only \('x'\)"),
        (lambda data: data.assign(label=["", " ", *"ab" * 11]), "Item 'i0' and 1 more of the data have no label"),
    ],
)
def test_data_that_cannot_be_learned_are_refused(tmp_path, change, told):
    """Of one label alone transformers makes a regression, whose loss falls to 0."""
    with pytest.raises(pretraining.PretrainingError, match=told):
        pretraining.prepare(stored(change(images()), tmp_path), SETTINGS | {"objective": "supervised"}, None)


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


def test_initial_weights_are_the_same_for_every_fraction_and_those_of_the_seed(tmp_path):
    found = []
    for fraction, seed in ((0.5, 0), (1.0, 0), (1.0, 1)):
        settings = SETTINGS | {"objective": "supervised", "data_fraction": fraction, "seed": seed}
        objective, _, _ = pretraining.prepare(stored(images(), tmp_path), settings, None)
        found.append(objective.backbone().state_dict())
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    moved = {name for name in found[1] if not torch.equal(found[1][name], found[2][name])}
    assert moved == {name for name in found[1] if name.endswith("weight") and "norm" not in name} | {
        "embeddings.cls_token",
        "embeddings.position_embeddings",
    }


def test_the_teacher_follows_the_student():
    objective = objectives.SelfDistillation(SETTINGS)
    before = objective.teacher.layernorm.weight.clone()
    with torch.no_grad():
        objective.model.layernorm.weight.add_(1.0)
    objective.after_step(0.5)
    moved = (objective.teacher.layernorm.weight - before).mean()
    assert 0 < float(moved) < 0.01
    assert not any(p.requires_grad for p in objective.teacher.parameters())
    head = [weight.clone() for weight in objective.teacher_head.parameters()]
    with torch.no_grad():
        for weight in objective.head.parameters():
            weight.add_(1.0)
    objective.after_step(0.0)
    for theirs, was, ours in zip(objective.teacher_head.parameters(), head, objective.head.parameters(), strict=True):
        torch.testing.assert_close(theirs, was + 0.004 * (ours - was))
    assert torch.equal(objective.backbone().layernorm.weight, objective.teacher.layernorm.weight), "what is saved"
    for progress, share in (
        (0.0, 0.004),
        (0.5, 0.002),
        (1.0, 0.0),
    ):  # of the way to the student, falling as half a cosine
        teacher, student = objective.teacher.layernorm.weight, objective.model.layernorm.weight
        expected = teacher + share * (student - teacher)
        objective.after_step(progress)
        torch.testing.assert_close(teacher, expected.detach(), atol=1e-6, rtol=0)


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


@pytest.mark.parametrize("every", [1, 5, 11, 13])
def test_a_loss_is_logged_at_every_checkpoint_and_is_the_same_after_a_kill(tmp_path, monkeypatch, every):
    """Eleven steps do not hold the log's usual share of two."""
    settings, logs = SETTINGS | {"checkpoint_every": every, "steps": 3 * every}, []
    original = pretraining.Keep.on_step_end
    for stops in (None, every + 1):
        if stops:
            with monkeypatch.context() as patch:
                patch.setattr(pretraining.Keep, "on_step_end", stopped(original, stops))
                with pytest.raises(KeyboardInterrupt):
                    trained(tmp_path / "killed", settings)
        logs.append(trained(tmp_path / ("killed" if stops else "whole"), settings))
    whole, killed = logs
    assert set(range(every, 3 * every + 1, every)) <= set(whole["step"])
    pd.testing.assert_frame_equal(killed, whole)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 16
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[:99])


@pytest.mark.parametrize(
    ("damaged", "damage", "resumed"),
    [
        ("state/checkpoint-4/model.safetensors", flip, ["2"]),
        ("state/checkpoint-4/optimizer.pt", Path.unlink, ["2"]),
        ("state/checkpoint-4/rng_state.pth", cut, ["2"]),
        ("step-4/model.safetensors", flip, ["2"]),
        ("step-2/model.safetensors", Path.unlink, []),
        ("state/step-4.json", Path.unlink, ["2"]),
        ("state/step-2.json", lambda path: path.write_text(""), []),
    ],
)
def test_what_was_damaged_after_a_kill_is_not_gone_on_from(tmp_path, monkeypatch, capsys, damaged, damage, resumed):
    """Weights of other bits would be told as those of this training; a file cut short would end every call after."""
    settings = SETTINGS | {"objective": "self-distillation", "steps": 6}
    with monkeypatch.context() as patch:
        patch.setattr(pretraining.Keep, "on_step_end", stopped(pretraining.Keep.on_step_end, 5))
        with pytest.raises(KeyboardInterrupt):
            trained(tmp_path / "killed", settings)
    damage(tmp_path / "killed" / damaged)
    losses = [trained(tmp_path / name, settings) for name in ("killed", "whole")]
    told = capsys.readouterr().out
    assert re.findall(r"resumed at step (\d)", told) == resumed
    assert Path(damaged).name in re.search(r"checkpoint-4 is not used: .* damaged", told)[0]
    pd.testing.assert_frame_equal(*losses)
    assert pretraining.kept(tmp_path / "killed") == pretraining.kept(tmp_path / "whole")
    for step in range(0, 7, 2):
        ours, theirs = (
            (tmp_path / name / f"step-{step}/model.safetensors").read_bytes() for name in ("killed", "whole")
        )
        assert ours == theirs, step


def test_a_checkpoint_that_is_not_what_training_wrote_is_not_fetched(tmp_path):
    """What was damaged, or brought from elsewhere, since: the manifest would tell it as the checkpoint of its step."""
    trained(tmp_path, SETTINGS | {"objective": "supervised", "steps": 2})
    made, settings = tmp_path / "manifest.json", {"source": "path", "revision": None, "format": "transformers"}
    files.write_json(made, {"files": pretraining.kept(tmp_path)})
    last = settings | {"id": str(tmp_path / "step-2")}
    fetching.fetch("mine-2", last, tmp_path / "checkpoints/manifest.json", made)
    (tmp_path / "step-2/model.safetensors").write_bytes((tmp_path / "step-0/model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=r"step-2/model.safetensors is gone, or .* Delete .* trained anew"):
        fetching.fetch("mine-2", last, tmp_path / "checkpoints/manifest.json", made)
    assert not (tmp_path / "checkpoints/manifest.json").exists()
    with pytest.raises(CheckpointError, match="step-1 is gone"):
        fetching.fetch("mine-1", settings | {"id": str(tmp_path / "step-1")}, tmp_path / "other/manifest.json", made)


def stopped(step_end, at):
    def stop(self, args, state, control, **kwargs):
        if state.global_step == at:
            raise KeyboardInterrupt
        step_end(self, args, state, control, **kwargs)

    return stop


def marked(folder):
    folder.mkdir(exist_ok=True)
    markers.write(folder, {"step": 2})
    for step in (0, 2):
        files.write_json(folder.parent / f"step-{step}.json", [])


def test_a_state_of_other_settings_is_not_taken_up(tmp_path, capsys):
    assert pretraining.resumable(tmp_path / "state", {"seed": 0, "checkpoint_every": 2}) is None
    marked(tmp_path / "state/checkpoint-2")
    assert pretraining.resumable(tmp_path / "state", {"seed": 0, "checkpoint_every": 2}).name == "checkpoint-2"
    (tmp_path / "step-2").mkdir()
    assert pretraining.resumable(tmp_path / "state", {"seed": 0, "checkpoint_every": 2}).name == "checkpoint-2"
    assert (tmp_path / "step-2").exists()
    assert pretraining.resumable(tmp_path / "state", {"seed": 1, "checkpoint_every": 2}) is None
    assert not (tmp_path / "state/checkpoint-2").exists()
    assert not (tmp_path / "step-2").exists(), "nor are checkpoints of theirs told as those of this training"
    assert "(other seed)" in capsys.readouterr().out


def test_a_state_whose_mark_a_lost_node_left_half_written_is_not_taken_up(tmp_path):
    for said in ("", "{", "\0\0"):
        (tmp_path / "state/checkpoint-2").mkdir(parents=True)
        (tmp_path / "state/settings.json").write_text(said)
        assert pretraining.resumable(tmp_path / "state", {"seed": 0, "checkpoint_every": 2}) is None
        assert not (tmp_path / "state/checkpoint-2").exists()


@pytest.mark.parametrize("changed", [{"code": "edited"}, {"device": "cuda"}, {"bf16": True}, {"processes": "2"}])
def test_what_was_killed_does_not_go_on_with_other_code_or_on_other_devices(tmp_path, monkeypatch, changed):
    """Its last steps would be of one training, and its first of another."""
    files.write_json(tmp_path / "manifest.json", {"files": []})
    found = []

    def train(objective, samples, collate, made, out, side, device, processes):
        found.append(pretraining.resumable(out / "state", made))
        marked(out / "state/checkpoint-2")
        raise InterruptedError

    monkeypatch.setattr(pretrain.loading, "verified_folder", lambda path: Path(path).parent)
    monkeypatch.setattr(pretraining, "prepare", lambda *args: (None, None, None))
    monkeypatch.setattr(pretraining, "train", train)
    for more in ({}, {}, changed):
        given = {
            "code": "c0de",
            "device": "cpu",
            "settings": {"seed": 0, "checkpoint_every": 2},
            "threads": 1,
            "tokenizer": [],
        } | more
        bf16 = given.pop("bf16", False)
        monkeypatch.setattr(pretraining, "in_bf16", lambda device, said=bf16: said)
        given |= {"data": str(tmp_path / "manifest.json"), "pretraining": "mine", "losses": None, "manifest": None}
        monkeypatch.setenv("WORLD_SIZE", more.get("processes", "1"))
        with pytest.raises(InterruptedError):
            pretrain.run(argparse.Namespace(**given), tmp_path / "out", given["device"])
    assert [path and path.name for path in found] == [None, "checkpoint-2", None]


def test_what_was_finished_when_the_head_was_lost_is_not_trained_again(tmp_path, monkeypatch, capsys):
    """Snakemake deletes losses and manifest of a job whose end it has not noted, before it starts it again."""
    files.write_json(tmp_path / "manifest.json", {"files": []})
    out, trainings = tmp_path / "out", []

    def train(objective, samples, collate, made, out, side, device, processes):
        pretraining.resumable(out / "state", made)
        trainings.append(made["seed"])
        files.write_json(out / "step-0/config.json", {"seed": made["seed"]})
        files.write_json(out / "state/step-0.json", pretraining.listing.entries(out, ["step-0/config.json"]))
        return pd.DataFrame({"step": [1], "loss": [0.5], "learning_rate": [0.1]})

    def run(seed: int, rank: str = "0") -> None:
        for name in ("losses.parquet", "manifest.json"):
            (out / name).unlink(missing_ok=True)
        monkeypatch.setenv("RANK", rank)
        settings = {"seed": seed, "checkpoint_every": 1}
        given = {"code": "c0de", "settings": settings, "threads": 1, "tokenizer": [], "pretraining": "mine"}
        given |= {"data": str(tmp_path / "manifest.json"), "losses": out / "losses.parquet"}
        pretrain.run(argparse.Namespace(**given, manifest=out / "manifest.json"), out, "cpu")

    monkeypatch.setattr(pretrain.loading, "verified_folder", lambda path: Path(path).parent)
    monkeypatch.setattr(pretraining, "prepare", lambda *args: (None, None, None))
    monkeypatch.setattr(pretraining, "train", train)
    run(0)
    manifest = (out / "manifest.json").read_text()
    assert not (out / "state").exists()
    (out / "state").mkdir()  # as where it was killed before its last line
    run(0)
    assert not (out / "state").exists()
    assert trainings == [0]
    assert (out / "manifest.json").read_text() == manifest
    assert len(tables.read(out / "losses.parquet", "losses")) == 1
    assert "Not computed again" in capsys.readouterr().out
    run(0, rank="1")
    assert trainings == [0], "other processes find the same"
    assert not (out / "manifest.json").exists(), "and leave it to the first"
    run(1)
    assert trainings == [0, 1], "of other settings"
    (out / "step-0/config.json").write_text("{}")
    run(1)
    assert trainings == [0, 1, 1], "a checkpoint was damaged since"


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    with pytest.raises(pretraining.PretrainingError, match="not finite from step"):
        trained(tmp_path, SETTINGS | {"objective": "supervised", "learning_rate": 1e30, "steps": 6})


# --- what is learned, found another way


def plain_training(objective, samples, settings, decay):
    """AdamW, warm-up and decay of the rate, and clipping, as formulas: the losses, and the objective trained in place."""
    steps, warm, losses = settings["steps"], settings["warmup_steps"], []
    named = [(name, weight) for name, weight in objective.named_parameters() if weight.requires_grad]
    moments = {name: (torch.zeros_like(weight), torch.zeros_like(weight)) for name, weight in named}
    transformers.set_seed(files.named_seed(settings["seed"], "pre-training") % 2**32)
    objective.train()
    for done, batch in enumerate(torch.utils.data.DataLoader(samples, settings["batch_size"])):
        loss = objective(**batch)["loss"]
        objective.zero_grad()
        loss.backward()
        norm = math.sqrt(sum(float((weight.grad**2).sum()) for _, weight in named))
        rate = settings["learning_rate"] * (done / warm if done < warm else (steps - done) / (steps - warm))
        with torch.no_grad():
            for name, weight in named:
                gradient, (first, second) = weight.grad * min(1.0, 1 / norm), moments[name]
                first.mul_(0.9).add_(gradient, alpha=0.1)
                second.mul_(0.999).add_(gradient**2, alpha=0.001)
                if not (name.endswith("bias") or "layernorm" in name):
                    weight *= 1 - rate * decay
                unbiased = first / (1 - 0.9 ** (done + 1)), second / (1 - 0.999 ** (done + 1))
                weight -= rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
        objective.after_step((done + 1) / steps)
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("objective", ["supervised", "masked-autoencoding", "self-distillation"])
def test_a_training_is_that_of_a_plain_loop(tmp_path, objective):
    """Two passes and a half over ten images: each pass in an order of its own, views and masks drawn anew at every step."""
    settings = SETTINGS | {"objective": objective, "seed": 5, "steps": 6, "learning_rate": 3e-3, "weight_decay": 0.3}
    path = stored(images(10), tmp_path)
    found = pretraining.prepare(path, settings, None)
    losses = pretraining.train(*found, settings, tmp_path, lambda folder: None)
    plain, samples, _ = pretraining.prepare(path, settings, None)
    expected = plain_training(plain, samples, settings, 0.3)
    assert losses["loss"].tolist() == pytest.approx(expected, rel=3e-4)
    weights = dict(plain.named_parameters())
    for name, weight in found[0].named_parameters():
        if not name.endswith(("k_proj.bias", "key.bias")):  # has no gradient but rounding, which Adam scales up
            off = (weight - weights[name]).detach().norm() / weights[name].detach().norm().clamp(min=1e-3)
            assert float(off) < 0.02, name


def test_labels_and_pictures_belong_together_and_the_seed_orders_them(tmp_path):
    data = images(10)
    path, orders = stored(data, tmp_path), []
    for seed in (0, 1):
        _, samples, _ = pretraining.prepare(path, SETTINGS | {"objective": "supervised", "seed": seed}, None)
        pixels = [samples.samples[place].numpy().tobytes() for place in range(10)]
        orders.append([pixels.index(samples[place]["pixel_values"].numpy().tobytes()) for place in range(10)])
        assert [int(samples[place]["labels"]) for place in range(10)] == [int(data["label"][i]) for i in orders[-1]]
    assert orders[0] != orders[1]


def test_the_fraction_is_what_training_sees(tmp_path):
    for fraction, count in ((1.0, 10), (0.5, 5)):
        settings = SETTINGS | {"objective": "supervised", "data_fraction": fraction}
        assert len(pretraining.prepare(stored(images(10), tmp_path), settings, None)[1].samples) == count


def vision(objective, pixels=8):
    torch.manual_seed(0)
    made = {"self-distillation": objectives.SelfDistillation, "masked-autoencoding": objectives.MaskedAutoencoding}
    return made[objective](SETTINGS | {"image_size": pixels}), torch.rand(3, 3, pixels, pixels) * 2 - 1


def test_the_loss_of_self_distillation_by_hand():
    """Each view is told by the teacher's answer to the other one, centred, at a temperature of 0.04; the student's is 0.1."""
    objective, pixels = vision("self-distillation")
    with torch.no_grad():
        objective.centre.copy_(torch.randn(1024) * 0.1)
        for weight in (*objective.model.parameters(), *objective.head.parameters()):
            weight += torch.randn_like(weight) * 0.1
    centre = objective.centre.clone()
    torch.manual_seed(1)
    loss = objective.train()(pixel_values=pixels, labels=None)["loss"]
    torch.manual_seed(1)
    views = [objectives.view_of(pixels) for _ in range(2)]
    assert not torch.equal(*views)

    def answers(model, head):
        return [head(model(view).last_hidden_state[:, 0]).double() for view in views]

    with torch.no_grad():
        ours, theirs = answers(objective.model, objective.head), answers(objective.teacher, objective.teacher_head)
        expected = [
            -(((told - centre) / 0.04).softmax(1) * (said / 0.1).log_softmax(1)).sum(1).mean()
            for said, told in zip(ours, reversed(theirs), strict=True)
        ]
    assert loss.item() == pytest.approx(float(sum(expected)) / 2, rel=1e-5)
    torch.testing.assert_close(objective.centre, 0.9 * centre + 0.1 * torch.cat(theirs).mean(0).float())


def test_the_loss_of_supervision_by_hand():
    """Cross-entropy of a view's class token."""
    torch.manual_seed(0)
    objective, pixels, labels = (
        objectives.Supervised(SETTINGS, 3),
        torch.rand(3, 3, 8, 8) * 2 - 1,
        torch.tensor([2, 0, 2]),
    )
    torch.manual_seed(1)
    loss = objective(pixel_values=pixels, labels=labels)["loss"]
    torch.manual_seed(1)
    token = objective.backbone()(objectives.view_of(pixels)).last_hidden_state[:, 0]
    found = (token @ objective.model.classifier.weight.T + objective.model.classifier.bias).log_softmax(1)
    assert loss.item() == pytest.approx(-found[range(3), labels].mean().item(), rel=1e-5)


def test_the_loss_of_masked_autoencoding_by_hand():
    """Three of four patches are masked; what is asked for are their pixels, of mean 0 and deviation 1 in each patch."""
    objective, pixels = vision("masked-autoencoding", 16)
    torch.manual_seed(1)
    loss = objective(pixel_values=pixels, labels=None)["loss"]
    torch.manual_seed(1)
    view = objectives.view_of(pixels)
    with torch.no_grad():
        found = objective.model(view)
    patches = (
        view.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).reshape(3, 16, 48)
    )  # rows, columns, channels
    wanted = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6).sqrt()
    assert found.mask.sum(dim=1).tolist() == [12.0] * 3
    off = ((found.logits - wanted) ** 2).mean(-1)
    assert loss.item() == pytest.approx(float((off * found.mask).sum() / found.mask.sum()), rel=1e-5)


def test_masked_autoencoding_knows_the_places_of_patches():
    """Fixed sines and cosines of column and row, as the published code writes them; nothing at all is told of the class token's."""
    objective, pixels = vision("masked-autoencoding", 16)
    for width, found in (
        (16, objective.model.vit.embeddings.position_embeddings),
        (8, objective.model.decoder.decoder_pos_embed),
    ):
        rates = [10000 ** (-i / (width / 4)) for i in range(width // 4)]
        wanted = [[0.0] * width] + [
            [wave(place * rate) for place in (column, row) for wave in (math.sin, math.cos) for rate in rates]
            for row in range(4)
            for column in range(4)
        ]
        torch.testing.assert_close(found, torch.tensor(wanted)[None], atol=1e-6, rtol=0)
        assert not found.requires_grad
    for token in (objective.model.vit.embeddings.cls_token, objective.model.decoder.mask_token):
        assert 0.005 < float(token.detach().std()) < 0.05
    torch.testing.assert_close(
        objective.backbone().embeddings.position_embeddings, objective.model.vit.embeddings.position_embeddings
    )
    with torch.no_grad():
        told = objective.model(pixel_values=pixels)
    for logits, mask in zip(told.logits, told.mask.bool(), strict=True):
        assert len(logits[mask].unique(dim=0)) == 12, "no two masked patches of an image are told alike"


def test_a_view_is_a_part_of_the_picture_mirrored_or_not():
    """Of pictures of their own coordinates, in which 0 and 1 tell brightness and contrast: as affine maps of the places."""
    n, side = 400, 33
    places = (torch.arange(side) * 2 + 1) / side - 1
    across, down = torch.meshgrid(places, places, indexing="xy")
    plain, levels = torch.stack([across, down]), torch.stack([torch.zeros(side, side), torch.ones(side, side)])
    found = []
    for channels in (torch.cat([plain, levels[:1]]), torch.cat([levels, levels[:1]])):
        torch.manual_seed(3)
        found.append(objectives.view_of(channels.expand(n, -1, -1, -1)))
    brightness = found[1][:, :1]
    contrast = found[1][:, 1:2] - brightness
    assert 0.8 <= float(contrast.min()) < 0.85 < 1.15 < float(contrast.max()) <= 1.2
    assert -0.2 <= float(brightness.min()) < -0.15 < 0.15 < float(brightness.max()) <= 0.2
    x, y = ((found[0][:, :2] - brightness) / contrast).unbind(1)
    wide, high = x[:, 16, 17] - x[:, 16, 16], y[:, 17, 16] - y[:, 16, 16]
    scales = wide.abs() * side / 2
    torch.testing.assert_close(wide.abs(), high, atol=1e-4, rtol=1e-3)
    assert 0.395 < float(scales.min()) < 0.45 < 0.95 < float(scales.max()) < 1.005
    assert 0.4 < float((wide < 0).float().mean()) < 0.6
    for middle in (x[:, 16, 16].abs(), y[:, 16, 16].abs()):  # whole views inside, up to the picture's edges
        assert float((middle / (1 - scales).clamp(min=1e-3)).quantile(0.95)) > 0.9
        assert float((middle + scales).max()) < 1.005


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_masked_tokens_are_a_share_drawn_anew_at_each_place_and_for_each_seed(tmp_path, rate):
    data = texts()
    pretraining.train_tokenizer(data["text"].tolist(), SETTINGS["vocabulary"], tmp_path / "tokenizer")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    path, found = stored(data, tmp_path), {}
    for seed in (0, 1):
        _, samples, collate = pretraining.prepare(path, SETTINGS | {"mask_rate": rate, "seed": seed}, tokenizer)
        row = samples[0]["input_ids"]
        assert int(row[0]) == tokenizer.cls_token_id
        for place in (0, 4):
            found[seed, place] = collate([{"input_ids": row, "place": place}] * 500)
    inputs, labels = (torch.cat([batch[name] for batch in found.values()]) for name in ("input_ids", "labels"))
    chosen = labels != -100
    special = torch.isin(torch.where(chosen, labels, inputs), torch.tensor(tokenizer.all_special_ids))
    assert not (chosen & special).any()
    assert float(chosen[~special].float().mean()) == pytest.approx(rate, abs=0.02)
    assert float((inputs[chosen] == tokenizer.mask_token_id).float().mean()) == pytest.approx(0.8, abs=0.03)
    drawn = [batch["labels"] for batch in found.values()]
    assert not any(torch.equal(a == -100, b == -100) for i, a in enumerate(drawn) for b in drawn[:i])
