"""A tokenizer is the model's own and whole, or is refused in words; what it forgets of padding decides no number."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import sentencepiece
import tiny_models as tiny
import tokenizers
import torch
import transformers as hf

from essential_sparsity import tasks
from essential_sparsity.acquire import fetching
from essential_sparsity.checkpoints import loading, vocabulary
from essential_sparsity.checkpoints.prunable import CheckpointError
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import TaskError, _text

SHAPE = {"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SHAPE |= {"max_position_embeddings": 34}


def configured(folder, name="tokenizer_config.json", **keys):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


def dense(folder, data, settings):
    return next(iter(evaluation.evaluate(folder, data, settings, "dense", [0.0], 0)))[1].metrics


# --- no tokenizer, or half of one

BARE = ["Bert", "Roberta", "Electra", "DebertaV2", "Albert", "XLMRoberta", "MPNet", "Llama", "ModernBert", "Gemma"]


@pytest.mark.parametrize("name", BARE)
def test_a_model_without_tokenizer_files_is_refused(tmp_path, name):
    config = getattr(hf, f"{name}Config")(**SHAPE, pad_token_id=0)
    getattr(hf, f"{name}Model")(config).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"okenizer .*Put the files of the tokenizer"):
        dense(tmp_path, tiny.reviews(), tiny.PROBE)


@pytest.mark.parametrize("settings", [tiny.MASKED, tiny.FINETUNE, tiny.SIMILARITY], ids=lambda row: row["kind"])
def test_every_kind_refuses_it(tmp_path, settings):
    folder = tiny.save_bert(tmp_path, auto_class="AutoModelForMaskedLM")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    data = tiny.pairs() if settings is tiny.SIMILARITY else tiny.reviews()
    with pytest.raises(CheckpointError, match=r"is not whole: vocab.txt is missing, and so is tokenizer.json"):
        dense(folder, data, settings)


@pytest.mark.parametrize("name", ["GPT2", "Roberta", "Qwen2"])
def test_a_vocabulary_without_its_merges_is_refused(tmp_path, name):
    hf.AutoConfig.for_model(name.lower()).save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps({chr(97 + i): i for i in range(26)} | {"<|endoftext|>": 26}))
    with pytest.raises(CheckpointError, match=r"The tokenizer in .* cannot be read .*merges.*tokenizer.json"):
        vocabulary.load(tmp_path, vocabulary.Room(27, 32, 0))


@pytest.mark.parametrize("content", ["", "{", '{"version": "1.0"}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path, content):
    folder = tiny.save_bert(tmp_path)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"The tokenizer in .* cannot be read \("):
        _text.tokenizer(folder)


@pytest.mark.parametrize("said", [0, -1, "12", True, [512]])
def test_a_length_that_no_text_has_is_refused(tmp_path, said):
    folder = configured(tiny.save_bert(tmp_path), model_max_length=said)
    with pytest.raises(CheckpointError, match=r"says model_max_length = .*expected a number of tokens"):
        dense(folder, tiny.reviews(), tiny.PROBE | {"max_length": None})


@pytest.mark.parametrize("rows", [33, 50, 30522])
def test_a_tokenizer_far_smaller_than_the_embedding_is_refused(tmp_path, rows):
    hf.BertModel(hf.BertConfig(**SHAPE | {"vocab_size": rows})).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match=f"has 16 tokens, but the model's embedding has {rows:,} rows"):
        dense(tmp_path, tiny.reviews(), tiny.PROBE)


# --- token ids beyond the embedding


@pytest.mark.parametrize("settings", [tiny.PROBE, tiny.FINETUNE, tiny.PROBE | {"protocol": "knn"}])
def test_a_padding_token_beyond_the_embedding_needs_no_row(tmp_path, settings):
    expected = dense(tiny.save_bert(tmp_path / "as it was"), tiny.reviews(), settings)
    folder = tiny.save_bert(tmp_path / "padded")
    loaded = hf.AutoTokenizer.from_pretrained(folder)
    loaded.add_special_tokens({"pad_token": "<pad>"})
    loaded.save_pretrained(folder)
    assert dense(folder, tiny.reviews(), settings) == expected


@pytest.mark.parametrize("settings", [tiny.PROBE, tiny.MASKED, tiny.FINETUNE], ids=lambda row: row["kind"])
def test_a_word_beyond_the_embedding_is_refused(tmp_path, settings):
    folder = tiny.save_bert(tmp_path, auto_class="AutoModelForMaskedLM")
    loaded = hf.AutoTokenizer.from_pretrained(folder)
    loaded.add_tokens(["zebra"])
    loaded.save_pretrained(folder)
    data = tiny.reviews()
    with pytest.raises(TaskError, match=r"token 'zebra' with id 16, but .* has 16 rows; its tokenizer has 17 tokens"):
        dense(folder, data.assign(text=data["text"] + " zebra"), settings)
    dense(folder, data, settings)  # as long as no text has it


def test_a_mask_beyond_the_embedding_is_refused(tmp_path):
    folder = tiny.save_bert(tmp_path, auto_class="AutoModelForMaskedLM")
    loaded = hf.AutoTokenizer.from_pretrained(folder)
    loaded.add_special_tokens({"mask_token": "[MASK]"})
    loaded.save_pretrained(folder)
    with pytest.raises(
        TaskError, match=r"masked with the token '\[MASK\]' with id 16, but .* has 16 rows; its tokenizer has 17 tokens"
    ):
        dense(folder, tiny.reviews(), tiny.MASKED)
    dense(folder, tiny.reviews(), tiny.PROBE)  # where nothing is masked


@pytest.mark.parametrize("kind", ["question-answering", "arithmetic"])
def test_a_tokenizer_that_does_not_say_where_its_tokens_stand_is_refused(tmp_path, kind):
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    hf.CanineModel(hf.CanineConfig(**shape, num_hash_functions=2, num_hash_buckets=32)).save_pretrained(tmp_path)
    hf.CanineTokenizer().save_pretrained(tmp_path)
    answers = {"text": ["film"], "answer_start": [5]}
    rows = [
        {"item": f"q{i}", "question": "good", "context": "good film", "answers": answers}
        | {"Question": "number0 more", "Numbers": "2", "Equation": "number0", "Answer": "2"}
        for i in range(20)
    ]
    settings = tiny.FINETUNE | {"kind": kind, "n_train": 8, "n_eval": 6, "max_length": 24, "eval_batch_size": 1}
    with pytest.raises(
        TaskError,
        match=rf"'tiny': the tokenizer .*\(CanineTokenizer\) is written in Python .*kind '{kind}' needs a fast",
    ):
        tasks.load(kind).prepare(tmp_path, pd.DataFrame(rows), settings, 0)


@pytest.mark.parametrize("said", [-1, 0])
def test_a_model_that_says_no_number_of_positions_has_no_limit(tmp_path, said):
    folder = tiny.save_llama(tmp_path)
    configured(folder, "config.json", max_position_embeddings=said)
    assert vocabulary.room(folder).positions is None


def test_a_window_with_a_word_beyond_the_embedding_is_refused(tmp_path):
    folder = tiny.save_llama(tmp_path)
    loaded = hf.AutoTokenizer.from_pretrained(folder)
    loaded.add_tokens(["zebra"])
    loaded.save_pretrained(folder)
    with pytest.raises(TaskError, match="token 'zebra' with id 16"):
        dense(folder, tiny.reviews().assign(text="zebra good film"), tiny.PERPLEXITY)


# --- unknown tokens


def some_unknown(share):
    """Reviews in which this share of the words is foreign."""
    data, draw = tiny.reviews(), np.random.default_rng(3)
    texts = [" ".join("złoto" if draw.random() < share else word for word in text.split()) for text in data["text"]]
    return data.assign(text=texts)


@pytest.mark.parametrize(("share", "happens"), [(0.02, "nothing"), (0.12, "said"), (0.4, "refused"), (1.0, "refused")])
@pytest.mark.parametrize("settings", [tiny.PROBE, tiny.MASKED, tiny.PERPLEXITY], ids=lambda row: row["kind"])
def test_unknown_tokens_are_said_and_many_are_refused(tmp_path, capsys, settings, share, happens):
    if settings is tiny.PERPLEXITY:
        folder = tiny.save_llama(tmp_path)
    else:
        folder = tiny.save_bert(tmp_path, auto_class="AutoModelForMaskedLM")
    if happens == "refused":
        with pytest.raises(
            TaskError, match=r"\d+% of the [\d,]+ tokens of data set 'tiny' are unknown to the tokenizer"
        ):
            dense(folder, some_unknown(share), settings)
    else:
        dense(folder, some_unknown(share), settings)
        assert ("are unknown to the tokenizer" in capsys.readouterr().out) == (happens == "said")


def test_an_unknown_token_that_also_frames_texts_is_not_counted(tmp_path):
    """OPT's one special token begins every text and stands for what its bytes never lack."""
    tiny.save_tokenizer(tmp_path)
    configured(tmp_path, bos_token="[UNK]")
    assert vocabulary.unknown_ids(hf.AutoTokenizer.from_pretrained(tmp_path)) == set()


def test_an_unknown_token_that_only_the_tokenizers_model_names_is_counted(tmp_path):
    tiny.save_tokenizer(tmp_path)
    configured(tmp_path, unk_token=None, mask_token=None)
    assert vocabulary.unknown_ids(hf.AutoTokenizer.from_pretrained(tmp_path)) == {tiny.SPECIAL.index("[UNK]")}


# --- what a tokenizer forgets

FORGETFUL = {
    "no attention mask": {"model_input_names": ["input_ids", "token_type_ids"]},
    "ids alone": {"model_input_names": ["input_ids"]},
    "padding on the left": {"padding_side": "left"},
    "no mask, on the left": {"model_input_names": ["input_ids"], "padding_side": "left"},
    "no padding token": {"pad_token": None, "eos_token": "[SEP]"},
}
SAVE = {
    "bert": lambda folder: tiny.save_bert(folder, auto_class="AutoModelForMaskedLM"),
    "llama": tiny.save_llama,
    "gpt2": lambda folder: tiny.save_decoder(folder, "GPT2"),
}


@pytest.mark.parametrize("forgets", FORGETFUL)
@pytest.mark.parametrize("model", SAVE)
@pytest.mark.parametrize("protocol", ["probe", "finetune"])
def test_features_and_logits_are_the_same_one_by_one_and_in_batches(tmp_path, model, forgets, protocol):
    folder = configured(SAVE[model](tmp_path), **FORGETFUL[forgets])
    settings = {"probe": tiny.PROBE, "finetune": tiny.FINETUNE}[protocol]
    prepared = tasks.load(settings["kind"]).prepare(folder, tiny.reviews(), settings, 0)
    torch.manual_seed(0)
    loaded = loading.load_model(
        folder, tasks.auto_class(settings), allow_new=("pooler.", "classifier.", "score."), **prepared.model_options
    )
    read = tasks.logits if protocol == "finetune" else _text.mean_pooled
    one, many = (tasks.forward(loaded, prepared.inputs, prepared.collate, n, "cpu", read) for n in (1, 32))
    np.testing.assert_allclose(one, many, atol=2e-6)


@pytest.mark.parametrize("name", ["ConvBert", "Funnel", "MobileBert", "Yoso"])
def test_architectures_that_read_padding_read_one_text_at_a_time(tmp_path, name):
    shape = {"vocab_size": 16, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    shape |= {"max_position_embeddings": 34, "embedding_size": 16, "head_ratio": 1, "num_hidden_layers": 1}
    if name == "Funnel":
        shape = {"vocab_size": 16, "d_model": 16, "block_sizes": [1, 1], "n_head": 2, "d_head": 8, "d_inner": 32}
    getattr(hf, f"{name}Model")(getattr(hf, f"{name}Config")(**shape)).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    for size in (None, 32):
        with pytest.raises(TaskError, match=r"reads the padding behind a text too.*Use another model"):
            dense(tmp_path, tiny.reviews(), tiny.PROBE | {"eval_batch_size": size})
    tasks.check_architecture(tmp_path, tiny.PROBE | {"eval_batch_size": 1})


LONG = {  # longest text that is read as short ones are, and what else config.json says
    "BigBird": (14, {"attention_type": "block_sparse", "block_size": 2, "num_random_blocks": 1}),
    "Phi3": (
        8,
        {
            "original_max_position_embeddings": 8,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 1e4,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
            },
        },
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_architectures_that_read_long_texts_otherwise_read_texts_of_one_kind(tmp_path, name):
    """BigBird keeps to full attention after its first short text, so a level had the scores of the levels in its job."""
    longest, said = LONG[name]
    torch.manual_seed(7)
    config = getattr(hf, f"{name}Config")(**SHAPE, **said, pad_token_id=0, initializer_range=0.5)
    hf.AutoModel.from_config(config).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    with pytest.raises(TaskError, match=rf"Lower max_length to {longest}, or write"):
        dense(tmp_path, tiny.reviews(), tiny.PROBE | {"max_length": longest + 1})
    settings, alone = tiny.PROBE | {"max_length": longest}, tiny.PROBE | {"eval_batch_size": 1}
    assert dense(tmp_path, tiny.reviews(), settings) == dense(tmp_path, tiny.reviews(), alone | {"max_length": longest})
    if name == "Phi3":
        dense(tmp_path, tiny.reviews(), alone | {"max_length": longest + 1})
    else:
        configured(tmp_path, "config.json", attention_type="original_full")
        dense(tmp_path, tiny.reviews(), tiny.PROBE | {"max_length": longest + 1})


@pytest.mark.parametrize("forgets", FORGETFUL)
def test_masked_tokens_are_scored_the_same_one_by_one_and_in_batches(tmp_path, forgets):
    folder = configured(SAVE["bert"](tmp_path), **FORGETFUL[forgets])
    one, many = (dense(folder, tiny.reviews(), tiny.MASKED | {"eval_batch_size": n}) for n in (1, 32))
    assert one == pytest.approx(many, rel=1e-5)


def test_a_decoder_does_not_take_segments_for_words(tmp_path):
    """GPT-2 adds the embedding of token 0 for a segment 0, which a tokenizer of another model would give it."""
    expected = dense(tiny.save_decoder(tmp_path / "a", "GPT2"), tiny.reviews(), tiny.PROBE)
    folder = configured(
        tiny.save_decoder(tmp_path / "b", "GPT2"), model_input_names=["input_ids", "token_type_ids", "attention_mask"]
    )
    assert "token_type_ids" not in _text.tokenizer(folder).model_input_names
    assert dense(folder, tiny.reviews(), tiny.PROBE) == expected


@pytest.mark.parametrize("name", ["Roberta", "Camembert", "XLMRoberta"])
def test_positions_that_begin_after_the_padding_token_are_not_counted(tmp_path, name):
    config = getattr(hf, f"{name}Config")(**SHAPE, pad_token_id=1, type_vocab_size=1)
    getattr(hf, f"{name}Model")(config).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path)
    configured(tmp_path, model_max_length=1000)
    long = tiny.reviews().assign(text=" ".join(["good film"] * 40))
    with pytest.raises(TaskError, match="max_length = 33, but the model's limit is 32"):
        dense(tmp_path, long, tiny.SIMILARITY | {"kind": "text-classification", **tiny.PROBE, "max_length": 33})
    long.loc[0, "text"] = "good film"  # texts that are all cut are refused
    dense(tmp_path, long.assign(label=tiny.reviews()["label"]), tiny.PROBE | {"max_length": 32})


# --- the model report


def test_the_manifest_says_what_the_tokenizer_is(tmp_path, capsys):
    settings = {"source": "path", "format": "transformers", "revision": None, "packages": []}
    bert = tiny.save_bert(tmp_path / "bert")
    facts = fetching.fetch("bert", settings | {"id": str(bert)}, tmp_path / "m1/manifest.json")
    assert facts["tokenizer"] == {
        "class": facts["tokenizer"]["class"], "tokens": 16, "largest_id": 15, "embedding_rows": 16,
        "padding": "[PAD]", "unknown": "[UNK]", "positions": 32,
    }  # fmt: skip
    assert "16 tokens, largest id 15, for 16 rows" in "\n".join(fetching.report(facts))
    assert fetching.fetch("bert", settings | {"id": str(bert)}, tmp_path / "m2/manifest.json") == facts
    vit = tiny.save_vit(tmp_path / "vit")
    assert fetching.fetch("vit", settings | {"id": str(vit)}, tmp_path / "m3/manifest.json")["tokenizer"] is None
    assert not capsys.readouterr().out
    bare = shutil.copytree(bert, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert fetching.fetch("bare", settings | {"id": str(bare)}, tmp_path / "m4/manifest.json")["tokenizer"] is None
    assert "Tasks on texts are refused" in capsys.readouterr().out


# --- every format of a tokenizer that there is


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Models of sentencepiece, trained on the reviews: `bpe` as LLaMA's, `unigram` as ALBERT's."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "corpus.txt").write_text("\n".join(tiny.reviews(400)["text"]))
    for kind in ("bpe", "unigram"):
        sentencepiece.SentencePieceTrainer.train(
            input=str(folder / "corpus.txt"), model_prefix=str(folder / kind), model_type=kind, vocab_size=36,
            hard_vocab_limit=False,
            pad_id=-1, minloglevel=2,
        )  # fmt: skip
    return folder


def bytes_of(folder):
    """vocab.json and merges.txt, of bytes."""
    made = tokenizers.ByteLevelBPETokenizer()
    names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<|endoftext|>"]
    made.train_from_iterator(tiny.reviews()["text"], vocab_size=320, special_tokens=names, show_progress=False)
    made.save_model(str(folder))


def words_of(folder):
    """vocab.txt, of whole words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *tiny.WORDS]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))


FORMATS = {  # the architecture whose tokenizer it is, what writes its files, and their names
    "vocab.txt of BERT": ("Bert", words_of, ["vocab.txt"]),
    "vocab.txt of DistilBERT": ("DistilBert", words_of, ["vocab.txt"]),
    "vocab.json and merges.txt of GPT-2": ("GPT2", bytes_of, ["vocab.json", "merges.txt"]),
    "vocab.json and merges.txt of OPT": ("OPT", bytes_of, ["vocab.json", "merges.txt"]),
    "vocab.json and merges.txt of RoBERTa": ("Roberta", bytes_of, ["vocab.json", "merges.txt"]),
    "tokenizer.model of LLaMA and Vicuna": ("Llama", "bpe", ["tokenizer.model"]),
    "tokenizer.model of Mistral": ("Mistral", "bpe", ["tokenizer.model"]),
    "spm.model of DeBERTa-v3": ("DebertaV2", "unigram", ["spm.model"]),
    "sentencepiece.bpe.model of XLM-R": ("XLMRoberta", "unigram", ["sentencepiece.bpe.model"]),
    "spiece.model of BigBird": ("BigBird", "unigram", ["spiece.model"]),
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_of_a_tokenizer_gives_numbers_and_the_same_as_tokenizer_json(tmp_path, pieces, name):
    model, write, files = FORMATS[name]
    folder = tmp_path / "model"
    folder.mkdir()
    write(folder) if callable(write) else shutil.copy(pieces / f"{write}.model", folder / files[0])
    config = getattr(hf, f"{model}Config")
    shape = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    if model in ("GPT2", "DistilBert"):
        shape = (
            {"n_layer": 2, "n_head": 2, "n_embd": 16} if model == "GPT2" else {"dim": 16, "n_layers": 2, "n_heads": 2}
        )
    shape |= {"ffn_dim": 32, "word_embed_proj_dim": 16} if model == "OPT" else {}
    shape |= {"num_key_value_heads": 2, "head_dim": 8} if model == "Mistral" else {}
    shape |= {"attention_type": "original_full"} if model == "BigBird" else {}
    tokens = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config(**shape).save_pretrained(folder)
    rows = len(hf.AutoTokenizer.from_pretrained(folder))
    torch.manual_seed(0)
    made = getattr(hf, f"{model}Model")(config(**shape, **tokens, vocab_size=rows, max_position_embeddings=64))
    made.save_pretrained(folder)
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", *files}
    settings = tiny.PROBE | {"max_length": 32}
    outcome = dense(folder, tiny.reviews(), settings)
    assert outcome["accuracy"] > 0.5
    whole = shutil.copytree(folder, tmp_path / "whole")
    hf.AutoTokenizer.from_pretrained(folder).save_pretrained(whole)
    assert dense(whole, tiny.reviews(), settings) == outcome
    for file in files:
        (folder / file).unlink()
    with pytest.raises(CheckpointError, match="tokenizer"):
        dense(folder, tiny.reviews(), settings)


@pytest.mark.parametrize("absent", [["sentencepiece"], ["protobuf"], ["sentencepiece", "protobuf"]])
def test_a_package_that_is_not_installed_is_named(tmp_path, pieces, monkeypatch, absent):
    hf.LlamaConfig().save_pretrained(tmp_path)
    shutil.copy(pieces / "bpe.model", tmp_path / "tokenizer.model")
    installed = vocabulary.metadata.version

    def version(name):
        if name in absent:
            raise vocabulary.metadata.PackageNotFoundError(name)
        return installed(name)

    def load(*_, **__):
        raise ValueError("`tiktoken` is required to read a `tiktoken` file.")  # what transformers says then

    monkeypatch.setattr(vocabulary.metadata, "version", version)
    monkeypatch.setattr(vocabulary.AutoTokenizer, "from_pretrained", load)
    with pytest.raises(CheckpointError, match=rf"{' and '.join(absent)} must be installed to read tokenizer.model"):
        _text.tokenizer(tmp_path)


def test_the_room_of_a_model_follows_its_config(tmp_path):
    folder = tiny.save_bert(tmp_path)
    before = vocabulary.room(folder)
    assert (before.rows, before.positions) == (16, 32)
    assert vocabulary.room(folder) is before
    configured(folder, "config.json", vocab_size=20, max_position_embeddings=40)
    assert vocabulary.room(folder) == vocabulary.Room(20, 40, before.segments)
