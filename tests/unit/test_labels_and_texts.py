"""Labels that cannot be learned or scored, and texts that are none, are told by name; never a number."""

import json

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny

from essential_sparsity import tasks
from essential_sparsity.tasks import _labels


def labelled(train, evaluated=None, **settings):
    data = pd.DataFrame({"label": [*train, *(evaluated or [])]})
    data["item"] = [f"i{place}" for place in range(len(data))]
    if evaluated is not None:
        data["split"] = ["train"] * len(train) + ["test"] * len(evaluated)
    return _labels.labelled(data, tiny.PROBE | settings)


@pytest.mark.parametrize("labels", [["x"] * 4, [0, 0, 0], pd.Categorical(["no", "no"], ["no", "yes"])])
def test_one_label_is_nothing_to_tell_apart(labels):
    with pytest.raises(tasks.TaskError, match=r"'tiny' has one label only \('?(x|0|no)'? \(\d\)\)"):
        _labels.labelled(pd.DataFrame({"label": labels}), tiny.PROBE)


@pytest.mark.parametrize(
    "labels",
    [
        ["good", "bad", "good "],
        [" bad", "good", "bad\t"],
        pd.Categorical(["a", "b", "a "]),
        ["caf\u00e9", "bar", "cafe\u0301"],
        ["good", "bad", "\u200bgood"],
        ["good", "bad", "\ufeffbad"],
        ["not good", "good", "not\u00a0good"],
    ],
)
def test_labels_that_look_alike_are_refused(labels):
    with pytest.raises(tasks.TaskError, match=r"'tiny' has labels that look alike \('"):
        _labels.labelled(pd.DataFrame({"label": labels}), tiny.PROBE)
    _labels.labelled(pd.DataFrame({"label": ["good ", " bad", "Bad", "\U0001f600"]}), tiny.PROBE)


def test_labels_of_two_splits_that_look_alike_are_shown_by_what_differs():
    """As where the folders of one split were made on a Mac."""
    with pytest.raises(tasks.TaskError, match=r"look alike \('cafe\\u0301', 'caf\\xe9'\)"):
        labelled(["caf\u00e9", "bar"], ["cafe\u0301", "bar"])


def test_a_label_that_nobody_sees_is_none(capsys):
    rows, labels = _labels.labelled(pd.DataFrame({"label": ["a", "b", "\u200b", "\ufeff "]}), tiny.PROBE)
    assert labels == ["a", "b"]
    assert len(rows) == 2
    assert "2 of 4 rows have no label" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (["good", "bad"], ["Good", "Bad"]),
        ([0, 1], [1, 2]),
        (["0", "1"], ["0", "1", "1.0"]),
        (["a", "b"], ["a", "b", "c"]),
    ],
)
def test_labels_that_no_training_row_has_are_shown_beside_those_that_it_has(train, test):
    with pytest.raises(
        tasks.TaskError, match=r"no row of train has the label .*Labels of train: .*; of test: "
    ) as error:
        labelled(train, test)
    for label in (*train, *test):
        assert f"{label!r} (" in str(error.value)


def test_labels_of_a_split_that_is_not_used_are_none_of_the_task(capsys):
    """They would be outputs of the head that nothing trains, and guessing would be among more."""
    data = pd.DataFrame({"label": ["a", "b", "a", "b", "b", "a", "c", None, None]})
    data["split"] = ["train"] * 3 + ["validation"] * 3 + ["test"] * 3
    data["item"] = [f"i{place}" for place in range(len(data))]
    rows, labels = _labels.labelled(data, tiny.PROBE | {"eval_split": "validation"})
    assert labels == ["a", "b"]
    assert rows["item"].tolist() == [f"i{place}" for place in range(6)]
    assert "have no label" not in capsys.readouterr().out


@pytest.mark.parametrize("labels", [[-1, 1, 1, -1], ["-1", "1"], [-1, 0, 1], ["-1", "0", "1"]])
def test_minus_one_is_a_label_where_another_stands_beside_it(labels):
    found = sorted(set(labels), key=int)
    assert labelled(labels)[1] == found
    assert labelled(labels, labels)[1] == found


@pytest.mark.parametrize("test", [[-1, -1], ["-1"], [None, None], ["", None]])
def test_a_split_without_labels_is_no_lack_of_rows(test):
    numbers = isinstance(test[0], int)
    with pytest.raises(
        tasks.TaskError, match="the labels of the split 'test' of data set 'tiny' are not published, or missing"
    ):
        labelled([0, 1] if numbers else ["0", "1"], test)
    with pytest.raises(
        tasks.TaskError, match="the labels of the split 'train' of data set 'tiny' are not published, or missing"
    ):
        labelled([None, None], ["a", "b"])


@pytest.mark.parametrize("without", [None, "", np.nan, "  "])
def test_rows_without_a_label_are_said_and_more_than_half_refused(capsys, without):
    data, labels = labelled(["a", "b", "a", without])
    assert (len(data), labels) == (3, ["a", "b"])
    assert "1 of 4 rows have no label and are left out" in capsys.readouterr().out
    with pytest.raises(tasks.TaskError, match="3 of 5 rows have no label, more than half"):
        labelled(["a", "b", without, without, without])


@pytest.mark.parametrize(
    ("labels", "order"),
    [(["10", "9", "1"], ["1", "9", "10"]), (["b", "10", "9"], ["10", "9", "b"]), ([10, 9, 1], [1, 9, 10])],
)
def test_labels_are_sorted_whole_numbers_by_value(labels, order):
    assert labelled(labels)[1] == order


def test_labels_of_several_kinds_are_refused():
    with pytest.raises(tasks.TaskError, match="several kinds"):
        labelled([1, "1", 2])


@pytest.mark.parametrize("protocol", ["finetune", "probe", "knn"])
def test_a_training_subset_of_one_label_is_refused(protocol):
    train = pd.DataFrame({"label": ["x", "x"], "target": [0, 0]})
    with pytest.raises(
        tasks.TaskError, match=r"the 2 training rows hold one label only \('x' \(2\)\) of 3. Raise n_train"
    ):
        _labels.check_drawn(train, train, ["x", "y", "z"], tiny.PROBE | {"protocol": protocol})


@pytest.mark.parametrize("content", [("text",), ("text_a", "text_b"), ("image",)])
def test_evaluated_rows_that_train_as_well_and_labels_that_do_not_are_said(capsys, content):
    train = pd.DataFrame({"label": ["x", "y"], "target": [0, 1], **{column: ["a", "b"] for column in content}})
    evaluation = pd.DataFrame(
        {"label": list("xyz"), "target": [0, 1, 2], **{column: ["b", "c", "d"] for column in content}}
    )
    _labels.check_drawn(train, evaluation, ["x", "y", "z"], tiny.PROBE, *content)
    out = capsys.readouterr().out
    assert "1 evaluated rows have labels that none of the 2 training rows drawn has: 'z'" in out
    assert "1 of 3 evaluated rows have the content of a training row" in out


@pytest.mark.parametrize("labels", [np.arange(60) / 7, [f"u{i}" for i in range(60)]])
def test_labels_that_hardly_repeat_are_no_classes(models, labels):
    settings = tiny.PROBE | {"n_train": 24, "n_eval": 20}
    with pytest.raises(
        tasks.TaskError, match=r"20 of 20 evaluated rows .* have labels that none of the 24 training rows"
    ):
        tasks.load(settings["kind"]).prepare(models["bert"], tiny.reviews().assign(label=labels), settings, 0)


@pytest.mark.parametrize(("labels", "evaluated"), [(8, 7), (10, 2), (3, 2)])
def test_guessing_is_among_all_labels_of_the_data(labels, evaluated):
    targets = np.arange(60) % evaluated
    prepared = tasks.Prepared([f"i{i}" for i in range(60)], [], targets, None, reference=list(range(labels)))
    found = _labels.classified(prepared, np.zeros(60), np.zeros((60, labels))).metrics
    accuracy = (targets == 0).mean()
    assert found["chance_corrected_accuracy"] == pytest.approx((accuracy - 1 / labels) / (1 - 1 / labels))


# --- texts


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": tiny.save_bert(folder / "bert"),
        "mlm": tiny.save_bert(folder / "mlm", auto_class="AutoModelForMaskedLM"),
        "qa": tiny.save_bert(folder / "qa", auto_class="AutoModelForQuestionAnswering"),
        "llama": tiny.save_llama(folder / "llama"),
    }


def pairs():
    texts = tiny.reviews()
    return texts.assign(text_a=texts["text"], text_b=texts["text"]).drop(columns="text")


KINDS = {
    "text-classification": ("bert", tiny.reviews, tiny.PROBE, "text"),
    "pairs": ("bert", pairs, tiny.PROBE, "text_b"),
    "text-similarity": ("bert", tiny.pairs, tiny.SIMILARITY, "text_b"),
    "masked-lm": ("mlm", tiny.reviews, tiny.MASKED, "text"),
    "perplexity": ("llama", tiny.reviews, tiny.PERPLEXITY, "text"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [None, np.nan, 5])
def test_a_text_that_is_missing_or_none_names_its_item(models, kind, text):
    model, make, settings, column = KINDS[kind]
    data = make()
    data[column] = data[column].astype(object)
    data.loc[::3, column] = text
    with pytest.raises(
        tasks.TaskError, match=rf"'tiny', item '[rp]\d+': the column '{column}' is (missing|'5', no text)"
    ):
        tasks.load(settings["kind"]).prepare(models[model], data, settings, 0)


@pytest.mark.parametrize("kind", ["text-classification", "text-similarity", "masked-lm"])
@pytest.mark.parametrize("text", ["", "  ", "\n", "\u200b", "\ufeff \x1a"])
def test_an_empty_text_names_its_item(models, kind, text):
    model, make, settings, column = KINDS[kind]
    data = make()
    data.loc[::3, column] = text
    with pytest.raises(tasks.TaskError, match=r"item '[rp]\d+': the text is empty"):
        tasks.load(settings["kind"]).prepare(models[model], data, settings, 0)


def test_empty_lines_are_part_of_a_text_and_one_empty_text_of_a_pair_is_said(models, capsys):
    blank = tiny.reviews()
    blank.loc[::3, "text"] = ""
    assert tasks.load("perplexity").prepare(models["llama"], blank, tiny.PERPLEXITY, 0).items
    data = pairs()
    data.loc[0, "text_b"] = ""
    tasks.load("text-classification").prepare(models["bert"], data, tiny.PROBE | {"n_train": None}, 0)
    assert "one of the texts is empty in 1 of 60 rows: r000" in capsys.readouterr().out


@pytest.mark.parametrize("rating", ["high", "1,5", "inf"])
def test_ratings_are_numbers(models, rating, capsys):
    data = tiny.pairs()
    data["target"] = data["target"].map(str)
    prepared = tasks.load("text-similarity").prepare(models["bert"], data, tiny.SIMILARITY, 0)
    assert sorted(prepared.targets) == sorted(tiny.pairs()["target"])
    data.loc[3, "target"] = ""
    assert len(tasks.load("text-similarity").prepare(models["bert"], data, tiny.SIMILARITY, 0).targets) == 19
    assert "1 of 20 rows have no rating" in capsys.readouterr().out
    data.loc[5, "target"] = rating
    with pytest.raises(tasks.TaskError, match=rf"item 'p05': the rating \(column target\) '{rating}' is no number"):
        tasks.load("text-similarity").prepare(models["bert"], data, tiny.SIMILARITY, 0)


@pytest.mark.parametrize("eval_split", ["test", None])
def test_a_split_without_ratings_is_no_lack_of_a_split(models, eval_split):
    data = tiny.pairs()
    data["split"] = ["train"] * 15 + ["test"] * 5
    data.loc[15:, "target"] = None
    settings = tiny.SIMILARITY | {"n_eval": None, "eval_split": eval_split}
    with pytest.raises(tasks.TaskError, match="'tiny': the ratings of the split 'test' are not published, or missing"):
        tasks.load("text-similarity").prepare(models["bert"], data, settings, 0)


ANSWER = {"text": ["film"], "answer_start": [5]}


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([{"text": "film", "answer_start": 5}], "expected SQuAD's"),
        ("film", "expected SQuAD's"),
        (None, "expected SQuAD's"),
        ({"text": ["film"]}, "expected SQuAD's"),
        ({"text": "film", "answer_start": 5}, "expected SQuAD's"),
        ({"text": [], "answer_start": []}, "0 answers with 0 places"),
        ({"text": ["film", "plot"], "answer_start": [5]}, "2 answers with 1 places"),
        (
            {"text": ["film"], "answer_start": [6]},
            "not where the row says: at character 6 of the context stands 'ilm '",
        ),
        ({"text": ["Film"], "answer_start": [5]}, "not where the row says"),
        ({"text": ["film"], "answer_start": [-1]}, "the answer 'film' stands at -1; expected is its place"),
    ],
)
def test_answers_of_another_shape_or_place_are_refused(models, answers, words):
    settings = tiny.FINETUNE | {"kind": "question-answering", "n_train": 8, "n_eval": 6, "max_length": 24}
    data = pd.DataFrame(
        [{"item": f"q{i}", "question": "good", "context": "good film slow plot", "answers": ANSWER} for i in range(20)]
    )
    prepare = tasks.load("question-answering").prepare
    assert len(prepare(models["qa"], data, settings, 0).train) == 8
    trained = data["item"] == tasks.split(data, settings, 0)[0]["item"].iloc[0]
    data["answers"] = [answers if changed else ANSWER for changed in trained]
    with pytest.raises(tasks.TaskError, match=rf"'tiny', item 'q\d+': .*{words}"):
        prepare(models["qa"], data, settings, 0)


# --- tokens


@pytest.mark.parametrize("kind", ["text-classification", "pairs", "text-similarity", "masked-lm"])
def test_lengths_in_tokens_and_what_is_cut_are_said(models, kind, capsys, tmp_path):
    model, make, settings, _ = KINDS[kind]
    length = 11 if kind == "pairs" else 6
    for _ in range(2):  # the second reads the texts that the first has tokenised
        tasks.load(settings["kind"]).prepare(models[model], make(), settings | {"max_length": length}, 0, tmp_path)
        out = capsys.readouterr().out
        assert "texts of" in out
        assert f"cut at {length} (" in out
    if kind == "text-classification":
        data = make().set_index("item")["text"]
        train, evaluation = tasks.split(make(), settings, 0)
        words = data[[*train["item"], *evaluation["item"]]].str.split().str.len()
        assert f"{(words > 4).sum()} are cut at 6" in out  # two tokens frame each text


@pytest.mark.parametrize("kind", ["text-classification", "masked-lm", "text-similarity"])
@pytest.mark.parametrize("text", ["unknown", "good"])
def test_texts_that_are_all_the_same_tokens_are_refused(models, kind, text):
    model, make, settings, column = KINDS[kind]
    data = make()
    data["text_a" if kind == "text-similarity" else column] = text
    data[column] = text
    with pytest.raises(tasks.TaskError, match=r"the same 3 tokens \(1, \d+, 2\) of all [\d,]+ texts"):
        tasks.load(settings["kind"]).prepare(models[model], data, settings, 0)


@pytest.mark.parametrize("kind", ["text-classification", "text-similarity"])
def test_texts_of_which_nothing_is_left_are_refused(tmp_path, kind):
    """Alone such a text is no input of a model; among others it was one without a token."""
    _, make, settings, column = KINDS[kind]
    path = tiny.save_llama(tmp_path) / "tokenizer.json"
    without = {"normalizer": {"type": "Replace", "pattern": {"String": "~"}, "content": ""}}
    path.write_text(json.dumps(json.loads(path.read_text()) | without))
    data = make()
    data.loc[data.index[-2:], column] = "~~"
    with pytest.raises(tasks.TaskError, match=r"makes no token of [12] of [\d,]+ texts \(the first is number \d+"):
        tasks.load(settings["kind"]).prepare(tmp_path, data, settings, 0)


@pytest.mark.parametrize("kind", ["text-classification", "pairs", "masked-lm"])
@pytest.mark.parametrize("length", [3, 4])
def test_texts_that_are_all_cut_are_refused(models, kind, length):
    model, make, settings, column = KINDS[kind]
    data = make()
    data[column] = data[column] + " film film film"
    with pytest.raises(tasks.TaskError, match=rf"All \d+ texts are longer than max_length = {length} tokens"):
        tasks.load(settings["kind"]).prepare(models[model], data, settings | {"max_length": length}, 0)


@pytest.mark.parametrize("kind", ["text-similarity", "question-answering"])
def test_items_that_train_as_well_are_said(models, kind, capsys):
    data, settings = tiny.pairs(30), tiny.FINETUNE | {"kind": kind, "n_train": 15, "n_eval": 15}
    if kind == "question-answering":
        context = [f"good bad {word} film" for word in np.random.default_rng(0).choice(tiny.WORDS, 30)]
        data = pd.DataFrame({"item": data["item"], "question": data["item"], "context": context})
        data["answers"] = [{"text": ["bad"], "answer_start": [5]}] * 30
        settings |= {"max_length": 24}
    else:
        data["text_a"] = [f"good {place}" for place in range(30)]
    tasks.load(kind).prepare(models["bert"], data, settings, 0)
    assert "have the content of a training row" not in capsys.readouterr().out
    again = pd.concat([data[:15], data[:15].assign(item=[f"again{place}" for place in range(15)])], ignore_index=True)
    tasks.load(kind).prepare(models["bert"], again, settings, 0)
    found = capsys.readouterr().out
    evaluated = set(tasks.split(again, settings, 0)[1]["item"].str.removeprefix("again"))
    assert " of 15 evaluated rows have the content of a training row." in found, evaluated
