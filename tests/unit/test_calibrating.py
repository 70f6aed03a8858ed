"""What is drawn for calibration: as many sequences as asked, by a seed, none of what is evaluated; and runs calibrated on it."""

import pandas as pd
import pytest
import tiny_models as tiny
import torch
from transformers import AutoTokenizer

from essential_sparsity import files, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import TaskError, calibrating
from essential_sparsity.training import resume

ROW = {
    "calibration": "tiny",
    "dataset": "texts",
    "split": None,
    "sequences": 6,
    "length": 8,
    "sampling": "joined",
    "seed": 0,
}
WORDS = [word for word in tiny.WORDS if word not in ("good", "bad")]


def texts(n=120, words=20, seed=4):
    draw = files.rng(seed, "texts of a test")
    return pd.DataFrame(
        {"item": [f"c{i:03d}" for i in range(n)], "text": [" ".join(draw.choice(WORDS, size=words)) for _ in range(n)]}
    )


def prepared(folder, settings=tiny.PERPLEXITY, data=None):
    return tasks.load(settings["kind"]).prepare(folder, tiny.reviews() if data is None else data, settings, 0)


def drawn(folder, row=ROW, data=None, seed=0, evaluated=None, documents=()):
    evaluated = evaluated or prepared(folder)
    return calibrating.draw(row, folder, texts() if data is None else data, evaluated, documents, seed)


def ids(calibration):
    return torch.cat([batch["input_ids"] for batch in calibration.batches])


@pytest.fixture
def llama(tmp_path):
    return tiny.save_llama(tmp_path / "llama")


@pytest.mark.parametrize("sampling", ["joined", "document"])
def test_exactly_as_many_sequences_of_the_length_by_the_seed(llama, sampling):
    row = ROW | {"sampling": sampling}
    one, again, other = drawn(llama, row), drawn(llama, row), drawn(llama, row, seed=1)
    assert ids(one).shape == (6, 8)
    assert (one.sequences, one.tokens, one.seed, other.seed) == (6, 48, 0, 1)
    assert torch.equal(ids(one), ids(again))
    assert one.sha256 == again.sha256 != other.sha256
    moved = drawn(llama, row | {"seed": 1})
    assert moved.sha256 == other.sha256, "the seed of a run is added to the calibration's own"


def test_a_sequence_of_a_document_is_a_window_of_it(llama):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    whole = [tokenizer(text)["input_ids"] for text in texts()["text"]]
    for row in ids(drawn(llama, ROW | {"sampling": "document"})).tolist():
        assert any(row == text[at : at + 8] for text in whole for at in range(len(text) - 7))


def test_documents_that_are_too_short_are_an_error_that_says_what_to_do(llama):
    with pytest.raises(
        TaskError, match=r"'tiny'.*gives 0 sequences of 8 tokens, fewer than sequences = 6.*sampling = joined"
    ):
        drawn(llama, ROW | {"sampling": "document"}, texts(words=8))
    with pytest.raises(TaskError, match=r"gives 5 sequences of 8 tokens"):
        drawn(llama, data=texts(n=2))


def test_texts_that_are_evaluated_are_left_out_and_counted(llama, capsys):
    data = texts()
    evaluated = prepared(llama, tiny.PERPLEXITY | {"windows": 5, "context": 20}, data)
    found = drawn(llama, ROW | {"sequences": 40, "sampling": "document"}, data, evaluated=evaluated)
    scored = {tuple(row["input_ids"]) for row in evaluated.inputs}
    tokenizer = AutoTokenizer.from_pretrained(llama)
    assert {tuple(tokenizer(text)["input_ids"]) for text in data["text"][:5]} == scored
    first = [tokenizer(text)["input_ids"] for text in data["text"][:5]]
    for row in ids(found).tolist():
        assert not any(row == text[at : at + 8] for text in first for at in range(13))
    with pytest.raises(
        TaskError, match=r"gives 0 sequences .*5 documents; 5 were left out, because texts of theirs are evaluated"
    ):
        drawn(llama, ROW | {"sampling": "document"}, data[:5], evaluated=evaluated)
    with pytest.raises(TaskError, match="120 were left out"):
        drawn(llama, ROW | {"sampling": "document"}, data, documents=list(data["text"]))


def test_encoders_read_their_special_tokens_around_a_sequence(tmp_path):
    folder = tiny.save_bert(tmp_path / "bert", auto_class="AutoModelForMaskedLM")
    found = ids(drawn(folder, evaluated=prepared(folder, tiny.MASKED)))
    assert found.shape == (6, 8)
    assert set(found[:, 0].tolist()) == {1}
    assert set(found[:, -1].tolist()) == {2}
    assert not (found[:, 1:-1] < 4).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length": 99}, "length = 99, but this model takes 32 tokens at most"),
        ({"split": "test"}, "has no splits, but its row asks for 'test'"),
        ({"length": None, "sampling": None}, "has no column 'image'"),
    ],
)
def test_rows_that_do_not_fit_are_refused_by_name(llama, change, message):
    with pytest.raises(TaskError, match=rf"Calibration 'tiny': data set 'texts'.*{message}"):
        drawn(llama, ROW | change)


def test_the_split_that_is_named_or_train(llama):
    data = texts().assign(split=["train"] * 60 + ["test"] * 60)
    data.loc[data["split"] == "test", "text"] = " ".join(["good"] * 20)
    assert (ids(drawn(llama, data=data)) != 4).all()
    assert (ids(drawn(llama, ROW | {"split": "test"}, data)) == 4).all()
    with pytest.raises(TaskError, match="has the splits test, train, not 'dev'"):
        drawn(llama, ROW | {"split": "dev"}, data)


def test_images_as_the_task_reads_them_without_those_that_are_evaluated(tmp_path, capsys):
    folder, data = tiny.save_vit(tmp_path / "vit"), tiny.images()
    row = ROW | {"dataset": "pictures", "length": None, "sampling": None, "sequences": 40}
    evaluated = prepared(folder, tiny.IMAGES, data)
    found = calibrating.draw(row, folder, data, evaluated, (), 0)
    stacked = torch.cat([batch["pixel_values"] for batch in found.batches])
    assert stacked.shape == (40, 3, 16, 16)
    assert found.tokens is None
    scored = torch.stack([evaluated.inputs[i]["pixel_values"] for i in range(60)])
    assert not any(torch.equal(one, other) for one in stacked for other in scored)
    with pytest.raises(
        TaskError, match=r"gives 200 images, fewer than sequences = 201 \(260 rows, 60 of them are evaluated"
    ):
        calibrating.draw(row | {"sequences": 201}, folder, data, evaluated, (), 0)


def evaluated(folder, pattern, sparsities, settings, data, frame, **options):
    settings = settings | {"calibration": options.pop("row", ROW)}
    return list(evaluation.evaluate(folder, data, settings, pattern, sparsities, 0, calibration=frame, **options))


@pytest.mark.parametrize("pattern", ["wanda", "wanda-onepass", "sparsegpt", "owl-sparsegpt", "sparsegpt-nm4"])
def test_levels_together_are_levels_alone_and_the_row_says_what_it_was_calibrated_on(llama, pattern):
    frame, data = texts(), tiny.reviews()
    levels = [0.25, 0.5]
    together = evaluated(llama, pattern, levels, tiny.PERPLEXITY, data, frame)
    for (level, outcome), sparsity in zip(together, levels, strict=True):
        ((_, alone),) = evaluated(llama, pattern, [sparsity], tiny.PERPLEXITY, data, frame)
        assert alone.metrics == outcome.metrics
        manifest = loading.describe(llama) | {"weights_sha256": "0"}
        row = evaluation.run_rows(level, outcome, manifest, "zero-shot").iloc[0]
        assert (row["calibration"], row["calibration_sequences"], row["calibration_tokens"]) == ("tiny", 6, 48)
        assert (row["calibration_seed"], row["uncalibrated"]) == (0, 0)
        assert len(row["calibration_drawn_sha256"]) == 64
        assert row["damping"] == 0.01 if "sparsegpt" in pattern else pd.isna(row["damping"])
    ((level, outcome),) = list(evaluation.evaluate(llama, data, tiny.PERPLEXITY, "layerwise", [0.5], 0))
    row = evaluation.run_rows(level, outcome, manifest, "zero-shot").iloc[0]
    assert row[list(evaluation.CALIBRATION_COLUMNS)].isna().all()


@pytest.mark.parametrize("pattern", ["wanda", "sparsegpt"])
def test_fine_tuning_starts_from_the_pruned_weights_and_holds_their_mask(tmp_path, pattern, monkeypatch):
    folder = tiny.save_bert(tmp_path / "bert")
    held, train = {}, evaluation.finetuning.train_

    def watched(model, items, collate, settings, seed, masks, *rest):
        own = dict(loading.prunable_parameters(model))
        held["masks"] = masks
        held["before"] = {weight.name: tensor.clone() for weight, tensor in own.items()}
        found = train(model, items, collate, settings, seed, masks, *rest)
        held["after"] = {weight.name: tensor.clone() for weight, tensor in own.items()}
        return found

    monkeypatch.setattr(evaluation.finetuning, "train_", watched)
    ((level, _),) = evaluated(folder, pattern, [0.5], tiny.FINETUNE, tiny.reviews(), texts())
    dense = {weight.name: tensor for weight, tensor in loading.iter_prunable(folder)}
    assert sum(int(mask.sum()) for mask in held["masks"].values()) == level.k
    for name, mask in held["masks"].items():
        assert (held["before"][name][mask] == 0).all()
        assert (held["after"][name][mask] == 0).all()
        kept = torch.equal(held["before"][name][~mask], dense[name][~mask])
        assert kept == (pattern == "wanda"), "SparseGPT lets the weights that stay make up for the others"
        assert not torch.equal(held["after"][name], held["before"][name])


def test_a_model_of_images_needs_a_calibration_of_images(tmp_path):
    folder = tiny.save_vit(tmp_path / "vit")
    with pytest.raises(TaskError, match="has no column 'text'"):
        evaluated(folder, "wanda", [0.5], tiny.IMAGES, tiny.images(), tiny.images(), row=ROW | {"dataset": "p"})


@pytest.mark.parametrize("change", [{"threads": 2}, {"calibration": ROW | {"sequences": 5}}])
def test_what_decides_pruned_blocks_that_outlive_a_job(llama, tmp_path, change, capsys):
    """Killed while it is evaluated: the second attempt prunes anew what was made of anything else, and nothing else."""
    settings = tiny.PERPLEXITY | {"calibration": ROW, "threads": 1}
    work = resume.Work(tmp_path / "work", {"code": "c0de"})
    frame, data = texts(), tiny.reviews()

    def first(settings):
        found = evaluation.evaluate(llama, data, settings, "sparsegpt", [0.5], 0, work=work, calibration=frame)
        return next(found)  # the generator ends before the level is forgotten

    first(settings)
    capsys.readouterr()
    first(settings)
    assert "is not used" not in capsys.readouterr().out
    first(settings | change)
    assert "calibrated-0.500/0000 is not used" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", ["wanda-onepass", "wanda", "sparsegpt", "owl-wanda"])
def test_a_model_whose_parameters_are_other_objects_once_it_is_placed_is_pruned_again(llama, pattern, monkeypatch):
    """accelerate puts new parameters into a model that it spreads over cards: the next level prunes those."""

    def placed(model, device, gpus):
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                module.register_parameter(name, torch.nn.Parameter(parameter.detach().clone()))
        return model

    monkeypatch.setattr(evaluation.devices, "place", placed)
    together = evaluated(llama, pattern, [0.25, 0.5], tiny.PERPLEXITY, tiny.reviews(), texts())
    ((_, alone),) = evaluated(llama, pattern, [0.5], tiny.PERPLEXITY, tiny.reviews(), texts())
    assert together[1][1].metrics == alone.metrics


@pytest.mark.parametrize("text", ["".join(tiny.WORDS[2:8]) * 6, "ÄÖÜ ".join(tiny.WORDS[2:8]) * 6])
def test_texts_that_words_do_not_find_again_are_found_by_tokens(text):
    """A tokenizer may cut a text without blanks, and leave out accents: what it gives back has other words."""

    class Cut:
        all_special_ids = (0,)

        def __call__(self, text, **_):
            return {"input_ids": [1 + ord(letter) for letter in text if letter.isascii()]}

        def decode(self, ids, **_):
            return " ".join(chr(token - 1) for token in ids if token)

    tokenizer = Cut()
    ids = [0, *tokenizer(text)["input_ids"][5:40], 0]
    evaluated = tasks.Prepared(
        items=["a"], inputs=[{"input_ids": ids}], targets=pd.Series([0]).to_numpy(), collate=list
    )
    known = calibrating._evaluated(tokenizer, evaluated, ())
    assert known.isdisjoint(calibrating.runs(calibrating.words(text)))
    assert not known.isdisjoint(calibrating.runs(tokenizer(text)["input_ids"]))


@pytest.mark.parametrize("change", [{"image_size": 32}, {"protocol": "knn"}])
def test_pruned_blocks_of_images_that_the_task_reads_otherwise_are_not_taken(tmp_path, change, capsys):
    """The files of the images are the same, the pixels that the model is given are not."""
    folder, data = tiny.save_vit(tmp_path / "vit"), tiny.images()
    row = ROW | {"dataset": "pictures", "length": None, "sampling": None, "sequences": 20}
    settings = tiny.IMAGES | {"calibration": row, "threads": 1}
    work = resume.Work(tmp_path / "work", {"code": "c0de"})

    def first(settings):
        next(evaluation.evaluate(folder, data, settings, "wanda", [0.5], 0, work=work, calibration=data))

    first(settings)
    capsys.readouterr()
    first(settings)
    assert "is not used" not in capsys.readouterr().out
    first(settings | change)
    assert "calibrated-0.500/0000 is not used" in capsys.readouterr().out
