"""Tokenised texts are kept: the same rows with and without the folder, made once for all runs with the same tokenizer."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import transformers
from test_codefiles import forget

from essential_sparsity import codefiles, tasks
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import _text, tokens

PAIRS = tiny.reviews(40).assign(
    text_a=lambda frame: frame["text"], text_b=lambda frame: frame["text"].str.split().str[::-1].str.join(" ")
)
ANSWERS = [{"text": ["film"], "answer_start": [context.index("film")]} for context in PAIRS["text"] + " film"]
QUESTIONS = PAIRS.assign(question=PAIRS["text"].str[:8], context=PAIRS["text"] + " film", answers=ANSWERS)
FINETUNE = tiny.FINETUNE | {"n_train": 24, "n_eval": 8}
CASES = {
    "classification": (tiny.save_bert, tiny.reviews(), tiny.FINETUNE),
    "pairs": (tiny.save_bert, PAIRS.drop(columns="text"), FINETUNE),
    "rating": (tiny.save_bert, tiny.pairs(), tiny.FINETUNE | {"kind": "text-similarity", "n_train": 8, "n_eval": 8}),
    "similarity": (tiny.save_bert, tiny.pairs(), tiny.SIMILARITY),
    "questions": (tiny.save_bert, QUESTIONS, FINETUNE | {"kind": "question-answering", "max_length": 16}),
    "perplexity": (tiny.save_llama, tiny.reviews(), tiny.PERPLEXITY),
    "masked": (lambda folder: tiny.save_bert(folder, auto_class="AutoModelForMaskedLM"), tiny.reviews(), tiny.MASKED),
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture
def tokenised(monkeypatch):
    """Texts that went through a tokenizer, counted at the end of the fixture's list."""
    calls = []
    encode = tokens._columns
    monkeypatch.setattr(tokens, "_columns", lambda texts, *rest: calls.append(len(texts[0])) or encode(texts, *rest))
    return calls


def plain(prepared):
    """All that a Prepared holds of the texts."""
    parts = prepared.reference if isinstance(prepared.reference, tuple) else ()
    known = next((part for part in parts if hasattr(part, "question")), None)
    places = [list(known.question), [part.tolist() for part in known.offsets]] if known else []
    return [list(prepared.inputs), list(prepared.train), prepared.items, prepared.targets.tolist(), places]


def same(first, second):
    assert json.dumps(plain(first), default=str) == json.dumps(plain(second), default=str)


@pytest.mark.parametrize("case", CASES)
def test_rows_are_the_same_without_a_folder_with_an_empty_one_and_from_it(case, tmp_path, tokenised):
    save, data, settings = CASES[case]
    folder, cache = save(tmp_path / "model"), tmp_path / "cache"
    prepare = tasks.load(settings["kind"]).prepare
    alone = prepare(folder, data, settings, 0)
    same(prepare(folder, data, settings, 0, cache), alone)
    kept = {path: path.read_bytes() for path in cache.iterdir()}
    before = len(tokenised)
    same(prepare(folder, data, settings, 0, cache), alone)
    assert len(tokenised) == before, "the second time nothing is tokenised"
    assert {path: path.read_bytes() for path in cache.iterdir()} == kept


@pytest.mark.parametrize("case", CASES)
def test_rows_do_not_depend_on_how_many_texts_are_tokenised_at_once(case, tmp_path, monkeypatch):
    save, data, settings = CASES[case]
    folder = save(tmp_path / "model")
    prepare = tasks.load(settings["kind"]).prepare
    alone = prepare(folder, data, settings, 0)
    monkeypatch.setattr(tokens, "CHUNK", 3)
    same(prepare(folder, data, settings, 0), alone)


def test_seeds_models_and_tasks_with_the_same_texts_and_tokenizer_share_one_file(bert, tmp_path, tokenised):
    data = tiny.reviews(40).assign(split=["train"] * 30 + ["validation"] * 10)
    settings = tiny.FINETUNE | {"n_train": None, "n_eval": None}
    prepare, cache = tasks.load("text-classification").prepare, tmp_path / "cache"
    first = prepare(bert, data, settings, 0, cache)
    second = prepare(bert, data, settings, 1, cache)
    assert first.train[0] != second.train[0], "the seed draws the order"
    other = shutil.copytree(bert, tmp_path / "another-model")  # its tokenizer lies elsewhere
    prepare(other, data, settings | {"task": "another-task", "protocol": "probe"}, 0, cache)
    assert tokenised == [40]
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("changed", ["length", "text", "cut", "tokenizer", "side", "special"])
def test_whatever_decides_the_tokens_has_a_file_of_its_own(changed, bert, tmp_path, tokenised):
    folder, length, texts, cache = bert, 12, ["good film", "bad plot [PAD] film"], tmp_path / "cache"
    if changed == "side":
        length = 4
    encode = _text.encode
    encode(_text.tokenizer(folder), length, texts, cache=cache)
    if changed == "length":
        length = 4
    elif changed == "text":
        texts = ["good film", "bad story [PAD] film"]
    elif changed == "cut":  # the same letters
        texts = ["good filmb", "ad plot [PAD] film"]
    elif changed in ("side", "special"):  # neither is told in tokenizer.json
        folder = shutil.copytree(bert, tmp_path / "other")
        path = folder / "tokenizer_config.json"
        told = {"side": {"truncation_side": "left"}, "special": {"split_special_tokens": True}}[changed]
        path.write_text(json.dumps(json.loads(path.read_text()) | told))
        before = encode(_text.tokenizer(bert), length, texts)
        assert list(encode(_text.tokenizer(folder), length, texts)) != list(before)
        del tokenised[1:]
    else:
        folder = shutil.copytree(bert, tmp_path / "other")
        path = folder / "tokenizer.json"
        told = json.loads(path.read_text())
        vocabulary = told["model"]["vocab"]
        vocabulary["good"], vocabulary["bad"] = vocabulary["bad"], vocabulary["good"]
        path.write_text(json.dumps(told))
    found = encode(_text.tokenizer(folder), length, texts, cache=cache)
    assert list(found) == list(encode(_text.tokenizer(folder), length, texts))
    assert len(tokenised) == 3
    assert len(list(cache.iterdir())) == 2


def test_code_that_makes_tokens_otherwise_has_a_file_of_its_own_and_a_comment_has_not(bert, tmp_path, monkeypatch):
    """Copies of the library: as it is, with other words for people, and with another way to part two texts."""
    cache = tmp_path / "cache"

    def kept(name, old, new):
        library = shutil.copytree(codefiles.SCRIPTS / "essential_sparsity", tmp_path / name / "essential_sparsity")
        path = library / "tasks/_text.py"
        assert old in path.read_text(), f"{old!r} is not there: the test is out of date"
        path.write_text(path.read_text().replace(old, new))
        with monkeypatch.context() as patch:
            patch.setattr(codefiles, "SCRIPTS", library.parent)
            forget()
            _text.encode(_text.tokenizer(bert), 12, ["good film"], ["bad plot"], cache)
        forget()
        return {path.name for path in cache.iterdir()}

    as_it_is = kept("as-it-is", "return", "return")
    assert kept("comment", '"""What to put between', '"""What to put, # said otherwise,\n\n    between') == as_it_is
    assert len(kept("edited", r'"\n"', '" "')) == 2


def test_a_tokenizer_that_was_used_before_is_still_the_same(bert, tmp_path, tokenised):
    """Fast tokenizers remember the truncation of their last call."""
    loaded = _text.tokenizer(bert)
    _text.encode(loaded, 12, ["good film"], cache=tmp_path)
    loaded(["bad plot"] * 3, truncation=True, max_length=3, padding=True)
    _text.encode(loaded, 12, ["good film"], cache=tmp_path)
    assert tokenised == [1]


@pytest.mark.parametrize("place", [0.5, 0.99, None])
def test_a_damaged_file_is_made_again(place, bert, tmp_path, tokenised, capsys):
    prepare, cache = tasks.load("text-classification").prepare, tmp_path / "cache"
    alone = prepare(bert, tiny.reviews(), tiny.FINETUNE, 0, cache)
    expected = plain(alone)
    (path,) = cache.iterdir()
    good = path.read_bytes()
    if place is None:
        path.write_bytes(good[: len(good) // 2])
    else:
        values = tokens.read(path)["input_ids"][1]
        at = good.index(values.tobytes()) + int(place * values.nbytes)
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    assert plain(prepare(bert, tiny.reviews(), tiny.FINETUNE, 0, cache)) == expected
    assert f"{path} is damaged" in capsys.readouterr().out
    assert len(tokenised) == 2
    assert path.read_bytes() == good


def test_the_folder_can_be_deleted_while_rows_are_in_use(bert, tmp_path):
    prepare, cache = tasks.load("text-classification").prepare, tmp_path / "cache"
    expected = plain(prepare(bert, tiny.reviews(), tiny.FINETUNE, 0, cache))
    read_back = prepare(bert, tiny.reviews(), tiny.FINETUNE, 0, cache)
    (path,) = cache.iterdir()
    path.write_bytes(b"")  # worse than deleted: what is mapped would be gone
    shutil.rmtree(cache)
    assert plain(read_back) == expected


def test_a_folder_that_cannot_be_written_costs_the_keeping_alone(bert, tmp_path, capsys):
    prepare, cache = tasks.load("text-classification").prepare, tmp_path / "cache"
    cache.write_text("a file where the folder should be")
    expected = plain(prepare(bert, tiny.reviews(), tiny.FINETUNE, 0))
    assert plain(prepare(bert, tiny.reviews(), tiny.FINETUNE, 0, cache)) == expected
    assert "could not be kept" in capsys.readouterr().out


def test_numbers_of_any_size_come_back(tmp_path):
    rows = {"small": [[1, 2], [], [3]], "negative": [[-1], [200], [0, 70_000]], "large": [[1 << 40], [], []]}
    columns = tokens._columns([["a", "b", "c"]], lambda start, texts: rows)
    tokens.write(tmp_path / "x.arrow", columns)
    found = tokens.Tokens(tokens.read(tmp_path / "x.arrow"))
    assert [found[i] for i in range(3)] == [{name: column[i] for name, column in rows.items()} for i in range(3)]
    assert found.columns["small"][1].dtype == np.uint8
    assert found.without("small", "large")[2] == {"negative": [0, 70_000]}


def test_rows_know_their_lengths_in_their_own_order():
    columns = tokens._columns([["a", "b", "c"]], lambda start, texts: {"input_ids": [[1, 2], [3], [4, 5, 6]]})
    rows = tokens.Rows(tokens.Tokens(columns), [2, 0], labels=["x", "y"])
    assert rows.lengths.tolist() == [3, 2]
    assert list(rows) == [{"input_ids": [4, 5, 6], "labels": "x"}, {"input_ids": [1, 2], "labels": "y"}]


def test_a_tokenizer_written_in_python_is_used_without_keeping(tmp_path, bert):
    loaded = _text.tokenizer(bert)

    class Slow:
        is_fast = False

        def __call__(self, *texts, **options):
            return loaded(*texts, **options)

    found = tokens.cached(Slow(), tmp_path / "cache", {}, [["good film"]], lambda _, part: loaded(part))
    assert found[0]["input_ids"] == loaded("good film")["input_ids"]
    assert not (tmp_path / "cache").exists()


def test_a_run_from_kept_tokens_has_the_same_bits(bert, tmp_path):
    def run(cache):
        found = evaluation.evaluate(bert, tiny.reviews(), tiny.FINETUNE, "global", [0.5], 0, cache=cache)
        return next(found)[1].items

    transformers.logging.disable_progress_bar()
    expected = run(None)
    for _ in range(2):
        pd.testing.assert_frame_equal(run(tmp_path / "cache"), expected, check_exact=True)
