"""What is drawn for calibration: as many sequences as asked, by a seed, none of what is evaluated; and runs calibrated on it."""

import io
import json
import unicodedata

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
from PIL import Image
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast, RwkvConfig, RwkvForCausalLM

from essential_sparsity import files, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import TaskError, calibrating, perplexity
from essential_sparsity.training import resume

ROW = tiny.CALIBRATION
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


def test_sequences_of_a_decoder_that_needs_it_begin_with_its_bos_token(llama):
    """It stands for one of their tokens; the texts are those without it."""
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.bos_token = "[CLS]"
    tokenizer.save_pretrained(llama)
    begun = calibrating.draw(ROW, llama, texts(), prepared(llama), (), 0, True)
    assert ids(begun).shape == (6, 8)
    assert set(ids(begun)[:, 0].tolist()) == {1}
    shorter = drawn(llama, ROW | {"length": 7})
    assert torch.equal(ids(begun)[:, 1:], ids(shorter))


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
    found = ids(drawn(llama, ROW | {"sampling": "document", "sequences": 30})).tolist()
    starts = [next(at for text in whole for at in range(len(text) - 7) if row == text[at : at + 8]) for row in found]
    assert len(set(starts)) > 6
    assert max(starts) < 12, "any but the last, as published"


def test_documents_that_are_too_short_are_an_error_that_says_what_to_do(llama):
    with pytest.raises(
        TaskError, match=r"'tiny'.*gives 0 sequences of 8 tokens, fewer than sequences = 6.*sampling = joined"
    ):
        drawn(llama, ROW | {"sampling": "document"}, texts(words=8))
    with pytest.raises(TaskError, match=r"gives 5 sequences of 8 tokens"):
        drawn(llama, data=texts(n=2))
    assert drawn(llama, ROW | {"sampling": "document"}, texts(words=9)).sequences == 6, "one token longer is enough"


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


def letters(special):
    """A tokenizer of the letters b to m alone, which has no token for others and no unknown one."""
    made = Tokenizer(models.BPE({token: i for i, token in enumerate([*tiny.SPECIAL, *"bcdefghijklm"])}, []))
    frame = "[CLS] $A [SEP]" if special else "$A"
    made.post_processor = processors.TemplateProcessing(single=frame, special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]", model_max_length=32)


@pytest.mark.parametrize(("special", "around"), [(True, ([1], [2])), (False, ([], []))])
def test_special_tokens_are_found_around_a_text_that_the_tokenizer_reads(special, around):
    loaded = letters(special)
    assert calibrating._special(loaded, ["a", "", "zzz", "[SEP] [SEP]", "bad mice"], "Calibration") == around
    with pytest.raises(TaskError, match="Calibration has no text between whose special tokens"):
        calibrating._special(loaded, ["a", "zzz"], "Calibration")


def test_a_text_that_begins_with_a_special_token_is_not_taken_for_it(tmp_path):
    loaded = AutoTokenizer.from_pretrained(tiny.save_bert(tmp_path))
    assert calibrating._special(loaded, ["[CLS]", "[UNK] film [SEP]", "film"], "Calibration") == ([1], [2])


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


@pytest.mark.parametrize(("sampling", "between"), [("joined", "\n\n"), ("document", "")])
def test_documents_that_are_joined_have_a_blank_line_between_them(llama, monkeypatch, sampling, between):
    read, original = [], calibrating._ids
    monkeypatch.setattr(calibrating, "_ids", lambda loaded, text: (read.append(text), original(loaded, text))[1])
    drawn(llama, ROW | {"sampling": sampling})
    assert set(read) <= {text + between for text in texts()["text"]}


@pytest.mark.parametrize("sampling", ["joined", "document"])
def test_texts_that_the_model_cannot_read_are_refused(llama, sampling):
    unknown = texts().assign(text=" ".join(["Übergröße"] * 20))
    with pytest.raises(
        TaskError, match=r"'tiny'.*100% of the 48 tokens of data set 'texts' are unknown to the tokenizer"
    ):
        drawn(llama, ROW | {"sampling": sampling}, unknown)
    with pytest.raises(TaskError, match=r"'tiny'.*data set 'texts', item 'c.*': the column 'text' is missing"):
        drawn(llama, ROW | {"sampling": sampling}, texts().assign(text=None))


def test_a_length_without_room_for_a_token_is_refused(tmp_path):
    folder = tiny.save_bert(tmp_path / "bert", auto_class="AutoModelForMaskedLM")
    with pytest.raises(TaskError, match=r"length = 2 has no room beside 2 special tokens"):
        drawn(folder, ROW | {"length": 2}, evaluated=prepared(folder, tiny.MASKED))
    assert ids(drawn(folder, ROW | {"length": 3}, evaluated=prepared(folder, tiny.MASKED))).shape == (6, 3)


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


def test_images_are_of_the_size_that_the_task_reads(tmp_path):
    folder, data = tiny.save_vit(tmp_path / "vit"), tiny.images()
    evaluated = prepared(folder, tiny.IMAGES | {"image_size": 32}, data)
    row = ROW | {"dataset": "pictures", "length": None, "sampling": None, "sequences": 40}
    batches = calibrating.draw(row, folder, data, evaluated, (), 0).batches
    assert [tuple(batch["pixel_values"].shape) for batch in batches] == [(32, 3, 32, 32), (8, 3, 32, 32)]
    assert all(batch["interpolate_pos_encoding"] for batch in batches)


@pytest.mark.parametrize("name", ["ViT", "Dinov2", "DINOv3ViT", "Swin", "ViTMAE"])
@pytest.mark.parametrize("pattern", ["wanda", "owl-sparsegpt"])
def test_models_of_images_are_calibrated_and_scored(tmp_path, name, pattern):
    folder, data = tiny.save_vision(tmp_path / name, name), tiny.images()
    row = ROW | {"dataset": "pictures", "length": None, "sampling": None, "sequences": 40}
    ((level, outcome),) = evaluated(folder, pattern, [0.5], tiny.IMAGES, data, data, row=row)
    assert level.k == level.n // 2
    assert 0 <= outcome.metrics["accuracy"] <= 1
    assert outcome.collapsed is None


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


@pytest.mark.parametrize("pattern", ["wanda", "wanda-onepass", "global"])
def test_levels_together_are_levels_alone_where_a_model_would_rescale_its_weights_as_it_runs(tmp_path, pattern):
    """RWKV divides those of each six blocks by two at its first forward pass, and remembers that it did."""
    torch.manual_seed(7)
    shape = {"vocab_size": 16, "hidden_size": 16, "attention_hidden_size": 16, "intermediate_size": 32}
    model = RwkvForCausalLM(RwkvConfig(**shape, num_hidden_layers=7, context_length=32))
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path, special=False)
    frame, data, levels = texts(), tiny.reviews(), [0.25, 0.5]
    together = evaluated(tmp_path, pattern, levels, tiny.PERPLEXITY, data, frame)
    for (_, outcome), sparsity in zip(together, levels, strict=True):
        ((_, alone),) = evaluated(tmp_path, pattern, [sparsity], tiny.PERPLEXITY, data, frame)
        assert alone.metrics == outcome.metrics


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


def test_what_was_drawn_decides_a_training_that_is_resumed(tmp_path, monkeypatch):
    """SparseGPT leaves other weights under the same masks."""
    folder, identities, train = tiny.save_bert(tmp_path / "bert"), [], evaluation.finetuning.train_

    def watched(*args):
        identities.append(args[-1].identity)
        return train(*args)

    monkeypatch.setattr(evaluation.finetuning, "train_", watched)
    work = resume.Work(tmp_path / "work", {"code": "c0de"})
    ((level, _),) = evaluated(folder, "sparsegpt", [0.5], tiny.FINETUNE, tiny.reviews(), texts(), work=work)
    (identity,) = identities
    assert identity["drawn"] == level.calibration["calibration_drawn_sha256"]
    assert len(identity["pruned"]) == 64


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


@pytest.mark.parametrize("differs", ["texts", "seed", "ties", "pattern", "sparsity", "versions"])
def test_pruned_blocks_of_another_job_are_not_taken(llama, tmp_path, differs, capsys, monkeypatch):
    """Even if its folder were the same."""
    settings = tiny.PERPLEXITY | {"calibration": ROW, "threads": 1}
    work = resume.Work(tmp_path / "work", {"code": "c0de"})

    def first(pattern="sparsegpt", sparsity=0.5, seed=0, frame=None):
        if frame is None:  # of one document alone every seed draws the same
            frame = texts(n=1, words=60) if differs == "ties" else texts()
        next(
            evaluation.evaluate(
                llama, tiny.reviews(), settings, pattern, [sparsity], seed, work=work, calibration=frame
            )
        )

    first()
    if differs == "versions":
        monkeypatch.setattr(resume, "versions", lambda device: {"torch": "3", "device": device})
    capsys.readouterr()
    other = {
        "texts": {"frame": texts(seed=5)},
        "seed": {"seed": 1},
        "ties": {"seed": 1},
        "pattern": {"pattern": "wanda"},
    }
    first(**(other | {"sparsity": {"sparsity": 0.5002}, "versions": {}})[differs])
    assert "calibrated-0.500/0000 is not used" in capsys.readouterr().out


@pytest.mark.parametrize("pattern", ["wanda-onepass", "wanda", "sparsegpt", "owl-wanda"])
def test_a_model_whose_parameters_are_other_objects_once_it_is_placed_is_pruned_again(llama, pattern, monkeypatch):
    """accelerate puts new parameters into a model that it spreads over cards: the next level prunes those."""

    def placed(model, device, gpus):
        events.append("placed")
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                module.register_parameter(name, torch.nn.Parameter(parameter.detach().clone()))
        return model

    def gathered(model):
        events.append("gathered")
        return model

    events = []
    monkeypatch.setattr(evaluation.devices, "place", placed)
    monkeypatch.setattr(evaluation.devices, "gather", gathered)
    together = evaluated(llama, pattern, [0.25, 0.5], tiny.PERPLEXITY, tiny.reviews(), texts())
    assert events == ["placed", "gathered", "placed"], "blocks are walked on the host"
    ((_, alone),) = evaluated(llama, pattern, [0.5], tiny.PERPLEXITY, tiny.reviews(), texts())
    assert together[1][1].metrics == alone.metrics


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("".join(tiny.WORDS[2:8]) * 6, slice(5, 40)),
        ("ÄÖÜ ".join(tiny.WORDS[2:8]) * 6, slice(5, 40)),
        ("ÄaÖbÜcÄÖÜ", slice(None)),
    ],
)
def test_texts_that_words_do_not_find_again_are_found_by_tokens(text, part):
    """A tokenizer may cut a text without blanks, and leave out accents: what it gives back has other words."""

    class Cut:
        all_special_ids = (0,)

        def __call__(self, text, **_):
            return {"input_ids": [1 + ord(letter) for letter in text if letter.isascii()]}

        def decode(self, ids, **_):
            return " ".join(chr(token - 1) for token in ids if token)

    tokenizer = Cut()
    ids = [0, *tokenizer(text)["input_ids"][part], 0]
    evaluated = tasks.Prepared(
        items=["a"], inputs=[{"input_ids": ids}], targets=pd.Series([0]).to_numpy(), collate=list
    )
    known = calibrating._evaluated(tokenizer, evaluated, ())
    assert not known.words.has(calibrating.words(text))
    assert known.has(text, tokenizer(text)["input_ids"])


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


def sentences(n, words, seed):
    draw = files.rng(seed, "sentences of a test")
    return [" ".join(draw.choice(WORDS, size=words)) for _ in range(n)]


def left_out_of(folder, settings, data, columns):
    """How many of the evaluated texts in these columns, drawn from as a calibration, are left out: a pair of numbers."""
    evaluated = prepared(folder, settings, data)
    rows = data[data["item"].isin(evaluated.items)]
    found = pd.DataFrame({"text": [text for column in columns for text in rows[column]]})
    found["item"] = [f"c{i}" for i in range(len(found))]
    with pytest.raises(TaskError) as error:
        drawn(folder, ROW | {"sequences": 999}, found, 0, evaluated, calibrating.documents(data, evaluated))
    told = str(error.value).partition(" were left out")[0].rpartition(" ")[2]
    return int(told), len(found)


PAIRS = tiny.PROBE | {"n_train": 10, "n_eval": 20, "max_length": 32}


@pytest.mark.parametrize("length", [5, 10])
@pytest.mark.parametrize("save", [tiny.save_bert, tiny.save_llama])
def test_both_texts_of_an_evaluated_pair_are_left_out(tmp_path, save, length):
    """Together they are one input, in which neither is a text of its own."""
    data = pd.DataFrame(
        {"item": [f"p{i}" for i in range(40)], "label": ["same", "other"] * 20}
        | {name: sentences(40, length, seed) for seed, name in enumerate(("text_a", "text_b"))}
    )
    assert left_out_of(save(tmp_path / "m"), PAIRS, data, ["text_a", "text_b"]) == (40, 40)


@pytest.mark.parametrize("length", [10, 20])
def test_a_text_of_which_one_token_is_masked_is_left_out(tmp_path, length):
    folder = tiny.save_bert(tmp_path / "bert", auto_class="AutoModelForMaskedLM")
    data = pd.DataFrame({"item": [f"m{i}" for i in range(30)], "text": sentences(30, length, 1)})
    settings = tiny.MASKED | {"positions": 1, "n_eval": 12, "max_length": 32}
    assert left_out_of(folder, settings, data, ["text"]) == (12, 12)


def test_questions_and_contexts_are_left_out(tmp_path):
    folder, contexts = tiny.save_bert(tmp_path / "bert"), sentences(40, 40, 2)
    data = pd.DataFrame(
        {
            "item": [f"q{i}" for i in range(40)],
            "question": sentences(40, 4, 3),
            "context": contexts,
            "answers": [{"text": [text.split()[0]], "answer_start": [0]} for text in contexts],
        }
    )
    settings = tiny.FINETUNE | {"kind": "question-answering", "n_train": 10, "n_eval": 20, "max_length": 30}
    assert left_out_of(folder, settings, data, ["question", "context"]) == (40, 40)


def test_texts_of_suites_are_left_out_as_they_are_not_as_json():
    text = "“Slow”, said the actor;\nthen: “a fast\nand bright\nstory – with\nno plot\nat all”"
    documents = [json.dumps({"question": [text], "choices": {"text": ["good", "bad film"], "label": ["A", "B"]}})]
    data = pd.DataFrame({"item": ["a", "d"], "split": ["test", "yaml"], "document": [*documents, "task: mine\n"]})
    evaluated = tasks.Prepared(items=[], inputs=[], targets=np.empty(0), collate=list)
    found = calibrating.documents(data, evaluated)
    assert {text, "bad film", "task: mine\n"} <= set(found)


class Letters:
    all_special_ids = ()

    def __call__(self, text, **_):
        return {"input_ids": [hash(text)]}


TWELVE = "it was a slow film with a dull plot and café actors"
THIRTEEN = f"today {TWELVE}"


@pytest.mark.parametrize(
    ("evaluated", "drawn_from", "same"),
    [
        (TWELVE, TWELVE.upper().replace(" ", ",\n\t "), True),
        (TWELVE, unicodedata.normalize("NFD", TWELVE), True),
        (TWELVE, f"He said: “{TWELVE}”, and left.", True),
        (TWELVE, TWELVE.replace("slow", "fast"), False),
        (f"{THIRTEEN} and so on", f"well, {THIRTEEN.title()} or so", True),
        (f"{THIRTEEN} and so on", THIRTEEN.replace("dull", "thin") + " and so forth", False),
        ("a slow film with a dull plot", "it was a slow film with a dull plot", False),  # seven words say little
        ("a slow film with a dull old plot", "it was a slow film with a dull old plot", True),
        ("a slow film", "A slow film!", True),
        ("", "…", False),
    ],
)
def test_what_counts_as_the_same_text(evaluated, drawn_from, same):
    known = calibrating._evaluated(Letters(), tasks.Prepared([], [], np.empty(0), list), [evaluated])
    assert known.has(drawn_from, [1]) == same


def test_tokens_say_less_than_words():
    """A word can be several: twelve in a row are found in their equals alone."""
    known = calibrating.Known()
    known.add("", list(range(12)))
    known.add("", list(range(100, 120)))
    assert known.has("", list(range(12)))
    assert not known.has("", [*range(12), 50])
    assert known.has("", [50, *range(103, 116), 50])
    assert not known.has("", [50, *range(103, 115), 50])


def test_the_texts_of_a_data_set_are_those_of_its_evaluated_rows(tmp_path):
    data = pd.DataFrame(
        {"item": [f"p{i}" for i in range(40)], "label": ["same", "other"] * 20}
        | {name: sentences(40, 9, seed) for seed, name in enumerate(("text_a", "text_b"))}
    )
    evaluated = prepared(tiny.save_bert(tmp_path / "bert"), PAIRS, data)
    rows = data[data["item"].isin(evaluated.items)]
    assert len(rows) == 20
    assert calibrating.documents(data, evaluated) == rows["text_a"].tolist() + rows["text_b"].tolist()


@pytest.mark.parametrize("windows", [1, 3, None])
def test_short_documents_behind_windows_are_left_out_as_wholes(llama, windows):
    data = texts(n=60, words=10)
    settings = tiny.PERPLEXITY | {"context": 20, "windows": windows}
    evaluated = prepared(llama, settings, data)
    behind = len(data) if windows is None else 2 * windows  # of 10 tokens, blank lines between them being none
    left_out = calibrating.documents(data, evaluated)
    assert left_out == data["text"][:behind].tolist()
    row = {**ROW, "sequences": 500}
    with pytest.raises(
        TaskError, match=rf"60 documents; {behind} were left out, because texts of theirs are evaluated"
    ):
        drawn(llama, row, data, evaluated=evaluated, documents=left_out)


def test_the_documents_of_windows_are_those_that_their_last_token_ends_in(llama, monkeypatch):
    tokenizer = AutoTokenizer.from_pretrained(llama)
    data = texts(n=3000, words=7)["text"]
    data[[5, 9]] = ""
    assert [perplexity.texts_of(tokenizer, data, count) for count in (1, 7, 8, 35, 36)] == [1, 1, 2, 5, 7]
    assert perplexity.texts_of(tokenizer, data, 7 * 2998) == 3000
    monkeypatch.setattr(type(tokenizer), "is_fast", False)  # one written in Python says no places
    assert perplexity.texts_of(tokenizer, data, 8) >= 2
    assert perplexity.texts_of(tokenizer, data, 7 * 2998) == 3000


def test_it_is_said_where_nothing_can_be_compared(llama, capsys):
    strange = tasks.Prepared(items=["a"], inputs=[{"input_values": [1]}], targets=np.zeros(1), collate=list)
    assert drawn(llama, evaluated=strange).sequences == 6
    assert "'texts' cannot be compared with what is evaluated" in capsys.readouterr().out
    drawn(llama)
    assert "cannot be compared" not in capsys.readouterr().out


@pytest.mark.parametrize(("form", "mode"), [("BMP", "L"), ("PNG", "RGB"), ("TIFF", "L"), ("WEBP", "RGB")])
def test_an_image_in_another_file_is_the_same_image(tmp_path, form, mode):
    folder, data = tiny.save_vit(tmp_path / "vit"), tiny.images()
    evaluated = prepared(folder, tiny.IMAGES, data)
    other = data.copy()
    for i, encoded in enumerate(data["image"]):
        stream = io.BytesIO()
        Image.open(io.BytesIO(encoded)).convert(mode).save(
            stream, form, **({"lossless": True} if form == "WEBP" else {})
        )
        other.loc[i, "image"] = stream.getvalue()
    assert not set(other["image"]) & set(data["image"])
    row = ROW | {"dataset": "pictures", "length": None, "sampling": None, "sequences": 201}
    with pytest.raises(TaskError, match=r"gives 200 images, .*260 rows, 60 of them are evaluated"):
        calibrating.draw(row, folder, other, evaluated, (), 0)


def test_the_blocks_of_a_level_are_forgotten_once_it_is_evaluated(llama, tmp_path):
    """A job of many levels would keep as many models on disk."""
    settings = tiny.PERPLEXITY | {"calibration": ROW, "threads": 1}
    work = resume.Work(tmp_path / "work", {"code": "c0de"})
    found = evaluation.evaluate(
        llama, tiny.reviews(), settings, "wanda", [0.25, 0.5], 0, work=work, calibration=texts()
    )
    there = []
    for _ in found:
        there.append(sorted(path.name for path in work.folder.iterdir()))
    assert there == [["calibrated-0.250"], ["calibrated-0.500"]]
    assert not list(work.folder.iterdir())
