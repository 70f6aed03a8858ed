"""The paper's tasks from files in the hub's own formats to metrics: fetched, split, fine-tuned, evaluated, resampled."""

import io
import re
from itertools import pairwise
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import tokenizers
import torch
import transformers
from PIL import Image
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import f1_score, matthews_corrcoef

from essential_sparsity import tasks
from essential_sparsity.acquire import formats
from essential_sparsity.runs import evaluation
from essential_sparsity.study import kinds, tsv
from essential_sparsity.tasks import _labels, _vitmae, image_classification, question_answering, text_similarity
from essential_sparsity.training import finetuning

ROOT = Path(__file__).parents[2]
ROWS = {row["task"]: row for row in tsv.read_table(str(ROOT / "config/tasks.tsv"), "tasks", "task")}
DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("bert"))


def sentence(words=6):
    return " ".join(DRAW.choice(tiny.WORDS, size=words))


def write(folder: Path, name: str, columns: dict, features: dict | None = None) -> None:
    """One split as the hub stores it: Parquet with the schema of `datasets` in its metadata."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    described = datasets.Features(features) if features else None
    datasets.Dataset.from_dict(columns, features=described).to_parquet(folder / f"{name}-00000-of-00001.parquet")


def fetched(tmp_path, folder: Path, row: dict, inside: str = "") -> pd.DataFrame:
    """What the task's row makes of local files in the place of its hub repository."""
    work = tmp_path / "work"
    work.mkdir(parents=True, exist_ok=True)
    settings = {"source": "path", "id": str(folder / inside), "format": row["format"], "columns": row["columns"]}
    formats.fetch_dataset(row["dataset"], settings, work)
    return pd.read_parquet(work / "files/data.parquet")


def small(name: str, **changed) -> dict:
    """A row of config/tasks.tsv cut down to tiny data: what it says of splits, metrics and training stays."""
    cut = {"n_train": 16, "n_eval": None, "epochs": 1, "batch_size": 8, "max_length": 24}
    return ROWS[name] | cut | changed


def evaluated(folder, data, settings, sparsities=(0.5,)):
    return [outcome for _, outcome in evaluation.evaluate(folder, data, settings, "global", sparsities, 0)]


VALUE, CLASS = datasets.Value, datasets.ClassLabel
GLUE = {  # repository folder -> (text columns, label feature, splits beside train)
    "mnli": (
        ("premise", "hypothesis"),
        CLASS(names=["entailment", "neutral", "contradiction"]),
        ("validation_matched", "validation_mismatched", "test_matched", "test_mismatched"),
    ),
    "qnli": (("question", "sentence"), CLASS(names=["entailment", "not_entailment"]), ("validation", "test")),
    "qqp": (("question1", "question2"), CLASS(names=["not_duplicate", "duplicate"]), ("validation", "test")),
    "sst2": (("sentence",), CLASS(names=["negative", "positive"]), ("validation", "test")),
    "rte": (("sentence1", "sentence2"), CLASS(names=["entailment", "not_entailment"]), ("validation", "test")),
    "mrpc": (("sentence1", "sentence2"), CLASS(names=["not_equivalent", "equivalent"]), ("validation", "test")),
    "cola": (("sentence",), CLASS(names=["unacceptable", "acceptable"]), ("validation", "test")),
    "stsb": (("sentence1", "sentence2"), VALUE("float32"), ("validation", "test")),
    "super-rte": (("premise", "hypothesis"), CLASS(names=["entailment", "not_entailment"]), ("validation", "test")),
}
LANGUAGE = {  # task -> folder above
    "mnli": "mnli",
    "mnli-mm": "mnli",
    "qnli": "qnli",
    "qqp": "qqp",
    "sst2": "sst2",
    "rte": "rte",
    "mrpc": "mrpc",
    "cola": "cola",
    "stsb": "stsb",
    "superglue-rte": "super-rte",
}


def glue(folder: Path, name: str) -> Path:
    """A GLUE task in small: 20 rows a split; the test splits have the label -1, as published."""
    texts, label, others = GLUE[name]
    for split in ("train", *others):
        columns = {column: [sentence() for _ in range(20)] for column in texts}
        regression = not isinstance(label, CLASS)
        drawn = np.round(DRAW.random(20) * 5, 2) if regression else DRAW.integers(0, label.num_classes, 20)
        columns["label"] = [-1] * 20 if "test" in split else drawn.tolist()
        columns["idx"] = list(range(20))
        features = {**dict.fromkeys(texts, VALUE("string")), "label": label, "idx": VALUE("int32")}
        write(folder / name, split, columns, features)
    return folder / name


@pytest.mark.parametrize("task", LANGUAGE)
def test_a_glue_task_is_fine_tuned_from_the_files_of_its_repository(task, tmp_path, bert):
    data = fetched(tmp_path, glue(tmp_path / "hub", LANGUAGE[task]), ROWS[task])
    settings = small(task)
    (outcome,) = evaluated(bert, data, settings)
    by_item = data.set_index("item").loc[outcome.items["item"]]
    assert set(by_item["split"]) == {settings["eval_split"]}
    assert len(outcome.items) == 20
    assert set(kinds.tabulated(settings)) <= set(outcome.metrics)
    items = outcome.items
    if settings["kind"] == "text-classification":
        names = GLUE[LANGUAGE[task]][1].names  # the head's order is the data set's
        assert [names[int(index)] for index in items["target"]] == by_item["label"].tolist()
        assert items["score"].tolist() == (items["prediction"] == items["target"]).tolist()
    else:
        assert items["target"].tolist() == by_item["target"].tolist()
        assert outcome.metrics["pearson"] == pytest.approx(pearsonr(items["score"], items["target"]).statistic)
        assert outcome.metrics["spearman"] == pytest.approx(spearmanr(items["score"], items["target"]).statistic)


def test_the_mismatched_and_matched_rows_share_data_and_training(tmp_path, bert):
    assert ROWS["mnli"]["dataset"] == ROWS["mnli-mm"]["dataset"]
    data = fetched(tmp_path, glue(tmp_path / "hub", "mnli"), ROWS["mnli"])
    matched, mismatched = (
        tasks.load("text-classification").prepare(bert, data, small(t), 0) for t in ("mnli", "mnli-mm")
    )
    assert list(matched.train) == list(mismatched.train)
    assert not set(matched.items) & set(mismatched.items)


def test_test_sets_without_labels_are_never_evaluated(tmp_path, bert):
    data = fetched(tmp_path, glue(tmp_path / "hub", "stsb"), ROWS["stsb"])
    with pytest.raises(tasks.TaskError, match=r"all evaluated ratings .* are -1.*eval_split"):
        text_similarity.prepare(bert, data, small("stsb", eval_split="test"), 0)
    with pytest.raises(tasks.TaskError, match=r"the splits test, validation beside train.*eval_split"):
        text_similarity.prepare(bert, data, small("stsb", eval_split=None), 0)
    with pytest.raises(tasks.TaskError, match=r"eval_split = 'dev', but the splits .*: test, train, validation"):
        text_similarity.prepare(bert, data, small("stsb", eval_split="dev"), 0)
    data = fetched(tmp_path / "sst2", glue(tmp_path / "hub", "sst2"), ROWS["sst2"])
    with pytest.raises(tasks.TaskError, match=r"labels of the split 'test' .* are not published"):
        tasks.load("text-classification").prepare(bert, data, small("sst2", eval_split="test"), 0)
    numbers = pd.DataFrame({"label": [0, 1, -1], "split": ["train", "train", "test"]})
    with pytest.raises(tasks.TaskError, match="label -1"):
        _labels.labelled(numbers, small("sst2", eval_split="test"))
    assert _labels.labelled(numbers.assign(label=[0, 1, 1]), small("sst2", eval_split="test"))[1] == [0, 1]


@pytest.mark.parametrize("protocol", ["finetune", "zero-shot"])
def test_ratings_of_a_split_that_is_not_used_are_not_looked_at(bert, protocol):
    data = tiny.pairs(60).assign(split=["train"] * 10 + ["validation"] * 15 + ["test"] * 35)
    data["target"] = data["target"].astype(object).where(data["split"] != "test", None)
    data.loc[59, "target"] = "not published"
    settings = small("stsb", protocol=protocol, eval_split="validation", n_train=None, n_eval=None)
    prepared = text_similarity.prepare(bert, data, settings, 0)
    assert sorted(prepared.items) == data["item"][10:25].tolist()
    with pytest.raises(tasks.TaskError, match="the ratings of the split 'test' are not published, or missing"):
        text_similarity.prepare(bert, data[:59], settings | {"eval_split": "test"}, 0)
    data.loc[58, "target"] = 3.0
    with pytest.raises(tasks.TaskError, match="33 of 44 rows have no rating, more than half"):
        text_similarity.prepare(bert, data[:59], settings | {"eval_split": "test"}, 0)


# --- metrics


def predicted(values, targets, labels=2):
    items = [f"i{i}" for i in range(len(targets))]
    prepared = tasks.Prepared(items, [], np.array(targets), None, reference=[str(i) for i in range(labels)])
    return _labels.classified(prepared, np.array(values, dtype=float), np.zeros((len(items), labels))).metrics


def test_classification_metrics_are_those_of_scikit_learn():
    targets, found = DRAW.integers(0, 2, 50), DRAW.integers(0, 2, 50)
    metrics = predicted(found, targets)
    assert list(metrics) == ["accuracy", "chance_corrected_accuracy", "matthews", "f1"]
    assert metrics["accuracy"] == pytest.approx((targets == found).mean())
    assert metrics["f1"] == pytest.approx(f1_score(targets, found))
    assert metrics["matthews"] == pytest.approx(matthews_corrcoef(targets, found))
    targets, found = DRAW.integers(0, 5, 50), DRAW.integers(0, 5, 50)
    metrics = predicted(found, targets, labels=5)
    assert list(metrics) == ["accuracy", "chance_corrected_accuracy", "matthews"], "F1 has no one positive class"
    assert metrics["matthews"] == pytest.approx(matthews_corrcoef(targets, found))


def test_degenerate_predictions_are_worth_nothing_and_degenerate_targets_undefined():
    constant = predicted([0, 0, 0, 0], [0, 1, 0, 1])
    assert constant == {"accuracy": 0.5, "chance_corrected_accuracy": 0.0, "matthews": 0.0, "f1": 0.0}
    assert predicted([0, 1], [0, 0]) == {"accuracy": 0.5, "matthews": None, "f1": 0.0}
    assert predicted([0, 0], [0, 0]) == {
        "accuracy": 1.0,
        "matthews": None,
        "f1": None,
    }  # no positive anywhere, one label
    broken = _labels.best(np.array([[np.nan, 1.0], [0.0, 1.0], [1.0, 0.0]]))
    assert broken.tolist() == [_labels.NOTHING, 1, 0]
    found = predicted(broken, [1, 1, 0])
    assert (found["f1"], found["accuracy"]) == (2 / 3, 2 / 3)
    assert found["matthews"] == pytest.approx(matthews_corrcoef([1, 1, 0], [2, 1, 0])), "a label of its own"


def test_a_model_that_is_not_a_number_predicts_nothing(tmp_path, bert):
    data = fetched(tmp_path, glue(tmp_path / "hub", "cola"), ROWS["cola"])
    settings = small("cola")
    prepared = tasks.load("text-classification").prepare(bert, data, settings, 0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(bert, **prepared.model_options)
    model.classifier.bias.data.fill_(torch.nan)
    outcome = tasks.load("text-classification").run(model, prepared, settings, 0, "cpu")
    assert (outcome.metrics["matthews"], outcome.metrics["f1"], outcome.metrics["accuracy"]) == (0, 0, 0)
    assert set(outcome.items["prediction"]) == {_labels.NOTHING}
    assert outcome.collapsed == f"{len(outcome.items)} of {len(outcome.items)} outputs are not finite"
    assert not outcome.items["score"].any()


def test_f1_needs_one_positive_class(tmp_path, bert):
    data = fetched(tmp_path, glue(tmp_path / "hub", "mnli"), ROWS["mnli"])
    with pytest.raises(tasks.TaskError, match=r"f1 needs two labels.* has 3 \(entailment, neutral, contradiction\)"):
        tasks.load("text-classification").prepare(bert, data, small("mnli", metrics="f1"), 0)


# --- decoders


@pytest.fixture(scope="module", params=["OPT", "GPT2"])
def decoder(request, tmp_path_factory):
    return tiny.save_decoder(tmp_path_factory.mktemp(request.param), request.param)


def test_decoders_are_fine_tuned_and_read_the_last_token_of_each_text(decoder, tmp_path):
    data = fetched(tmp_path, glue(tmp_path / "hub", "mrpc"), ROWS["mrpc"])
    settings = small("mrpc")
    kind = tasks.load("text-classification")
    prepared = kind.prepare(decoder, data, settings, 0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(decoder, **prepared.model_options)
    outcome = kind.run(model, prepared, settings, 0, "cpu")
    for row, prediction in zip(prepared.inputs, outcome.items["prediction"], strict=True):
        with torch.no_grad():  # alone, without padding
            assert model(input_ids=torch.tensor([row["input_ids"]])).logits.argmax() == prediction
    (trained,) = evaluated(decoder, data, settings)
    assert {"accuracy", "f1"} <= set(trained.metrics)


@pytest.mark.parametrize("kind", ["text-classification", "text-similarity", "question-answering"])
@pytest.mark.parametrize("padding", [True, False])
def test_an_encoder_counts_positions_from_its_own_padding_token(tmp_path, kind, padding):
    """RoBERTa's begin after it: with another one, its tokenizer's end token where that has none, all of them would be others."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.RobertaConfig(
        **shape, vocab_size=16, max_position_embeddings=40, type_vocab_size=1, initializer_range=0.2, pad_token_id=0
    )
    transformers.RobertaModel(config).save_pretrained(tmp_path)
    tiny.save_tokenizer(tmp_path, padding=padding)
    data = squad_frame(40) if kind == "question-answering" else tiny.pairs(40).assign(label=tiny.reviews(40)["label"])
    settings = tiny.FINETUNE | {"kind": kind, "n_train": 16, "n_eval": 8, "max_length": 24}
    prepared = tasks.load(kind).prepare(tmp_path, data, settings, 0)
    trained = finetuning.load_trainable(tmp_path, tasks.auto_class(settings), 0, prepared.model_options)
    ids = torch.tensor([prepared.inputs[0]["input_ids"]])
    with torch.no_grad():
        found, expected = (
            model(ids).last_hidden_state
            for model in (trained.base_model, transformers.AutoModel.from_pretrained(tmp_path))
        )
    torch.testing.assert_close(found, expected)


def test_a_line_break_parts_two_texts_where_the_tokenizer_puts_nothing(decoder, bert):
    loaded = transformers.AutoTokenizer.from_pretrained(decoder)
    assert tasks._text.separator(loaded) == "\n"
    assert tasks._text.separator(transformers.AutoTokenizer.from_pretrained(bert)) == ""


def test_an_architecture_without_the_head_is_refused_before_weights_are_read(tmp_path):
    config = transformers.BioGptConfig(vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    config.save_pretrained(tmp_path)  # there are no weights
    with pytest.raises(tasks.TaskError, match="no AutoModelForQuestionAnswering for the architecture 'biogpt'"):
        question_answering.prepare(tmp_path, squad_frame(), small("squad"), 0)


# --- SQuAD

ANSWERED = {"answers": {"text": [VALUE("string")], "answer_start": [VALUE("int32")]}}


def squad_frame(n=12) -> pd.DataFrame:
    contexts = [sentence(40) for _ in range(n)]
    places = [int(DRAW.integers(0, 30)) for _ in range(n)]
    answers = []
    for context, place in zip(contexts, places, strict=True):
        words = context.split()
        text = " ".join(words[place : place + 2])
        answers.append({"text": [text], "answer_start": [len(" ".join([*words[:place], ""]))]})
    return pd.DataFrame(
        {
            "item": [f"q{i}-{DRAW.integers(1 << 40)}" for i in range(n)],
            "question": [f" {sentence(3)}" for _ in range(n)],
            "context": contexts,
            "answers": answers,
        }
    )


def squad(folder: Path) -> Path:
    text = dict.fromkeys(("id", "title", "context", "question"), VALUE("string"))
    features = text | {
        "answers": {"text": datasets.List(VALUE("string")), "answer_start": datasets.List(VALUE("int32"))}
    }
    for split in ("train", "validation"):
        frame = squad_frame().rename(columns={"item": "id"}).assign(title="Film")
        write(folder / "plain_text", split, frame.to_dict("list"), features)
    return folder / "plain_text"


@pytest.mark.parametrize("name", ["bert", "OPT", "GPT2"])
def test_squad_is_fine_tuned_from_the_files_of_its_repository(name, tmp_path, bert):
    folder = bert if name == "bert" else tiny.save_decoder(tmp_path / name, name)
    data = fetched(tmp_path, squad(tmp_path / "hub"), ROWS["squad"])
    settings = small("squad", n_train=8)
    (outcome,) = evaluated(folder, data, settings)
    assert tuple(outcome.metrics) == ("token_f1", "exact_match")
    assert sorted(outcome.items["item"]) == sorted(data["item"][data["split"] == "validation"])
    assert outcome.metrics["token_f1"] == pytest.approx(outcome.items["score"].mean())
    assert outcome.metrics["exact_match"] == pytest.approx(outcome.items["second_score"].mean())


@pytest.mark.parametrize("name", ["bert", "GPT2"])
def test_a_model_that_points_at_the_answers_scores_one(name, tmp_path, bert):
    """Windows, offsets, training labels and decoding agree: the labels of the training windows are the answers."""
    folder = bert if name == "bert" else tiny.save_decoder(tmp_path / name, name)
    data = squad_frame().assign(split="train")
    data = pd.concat([data, data.assign(split="validation", item="v" + data["item"])], ignore_index=True)
    prepared = question_answering.prepare(folder, data, small("squad", n_train=None), 0)
    length, known = prepared.reference
    assert len(prepared.inputs) > len(prepared.items)  # more than one window a question
    assert max(len(row["input_ids"]) for row in prepared.inputs) == length
    labels = {tuple(row["input_ids"]): (row["start_positions"], row["end_positions"]) for row in prepared.train}
    logits = np.zeros((len(prepared.inputs), 2, length), dtype=np.float32)
    for row, scores in zip(prepared.inputs, logits, strict=True):
        first, last = labels[tuple(row["input_ids"])]
        if (first, last) != (0, 0):
            scores[0, first] = scores[1, last] = 9
    assert question_answering.answers(logits, known) == [texts[0] for texts in known.answers]
    seen = {question for question, scores in zip(known.question, logits, strict=True) if scores.any()}
    assert seen == set(range(len(prepared.items)))  # every answer is whole in some window


def test_the_tokens_of_an_answer_are_those_that_it_touches():
    offsets = np.array([[-1, -1], [0, 3], [3, 6], [7, 9], [-1, -1]])
    assert question_answering.span(offsets, 3, 6) == (2, 2)
    assert question_answering.span(offsets, 2, 8) == (1, 3)
    assert question_answering.span(offsets, 5, 12) == (0, 0)  # ends beyond the window
    assert question_answering.span(offsets + 4, 2, 8) == (0, 0)  # begins before it


def test_answers_never_leave_the_context_nor_run_backwards():
    known = question_answering.Windows(
        [0], [np.array([[-1, -1], [0, 3], [4, 7], [8, 12], [-1, -1]])], ["one two four"], [["two"]]
    )
    scores = np.zeros((1, 2, 6), dtype=np.float32)
    scores[0, 0] = [9, 0, 1, 2, 9, 9]
    scores[0, 1] = [9, 3, 2, 0, 9, 9]
    assert question_answering.answers(scores, known) == ["two"]  # 1 + 2; "four … one" would be 2 + 3
    assert question_answering.answers(np.full((1, 2, 6), np.nan), known) == [""]


def test_answers_are_compared_as_the_official_script_does():
    assert question_answering.normalised("The  Cat's, a dog!") == "cats dog"
    assert question_answering.normalised("An apple, the-pear") == "apple thepear"  # without punctuation first
    assert question_answering.token_f1("the brown cat", "A cat") == pytest.approx(2 * (1 / 2 * 1) / (1 / 2 + 1))
    assert question_answering.token_f1("cat cat", "cat") == pytest.approx(2 / 3)
    assert question_answering.token_f1("", "cat") == 0


@pytest.mark.parametrize(("length", "shared"), [(384, 128), (600, 128), (48, 16)])
def test_two_windows_share_128_tokens_or_a_third_of_a_shorter_one(bert, length, shared):
    data = pd.DataFrame({"question": ["slow film"], "context": [sentence(1500)]})
    found = question_answering.windows(tasks._text.tokenizer(bert), length, data, {"task": "squad"})
    _, _, offsets = question_answering.of_questions(found, np.array([0]))
    places = [{tuple(pair) for pair in window[window[:, 0] >= 0].tolist()} for window in offsets]
    assert len(places) > 2
    assert all(len(before & after) == shared for before, after in pairwise(places))
    assert set().union(*places) == {match.span() for match in re.finditer(r"\w+", data["context"][0])}


def test_blanks_around_a_question_are_no_part_of_it(bert):
    """Of characters, of which a blank is one: as of tokenizers of bytes."""
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"[UNK]": 0} | {chr(97 + i): i + 1 for i in range(26)} | {" ": 27}, "[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    loaded = transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    contexts = ["so it is"] * 3
    data = pd.DataFrame({"question": ["who is it", " who is it", "who is it \t "], "context": contexts})
    found = question_answering.windows(loaded, 48, data, {"task": "squad"})
    rows = found.without(*question_answering.PLACES)
    assert 27 in rows[0]["input_ids"]
    assert rows[0] == rows[1] == rows[2]


def pointing(
    first: dict[int, float], last: dict[int, float], tokens: int
) -> tuple[np.ndarray, question_answering.Windows]:
    """The logits of one window of words and what is known of it: 0 but at some places, number 0 the first of the context."""
    context = " ".join(f"w{place:02}" for place in range(tokens))
    offsets = np.array([match.span() for match in re.finditer(r"\w+", context)])
    scores = np.zeros((1, 2, tokens), dtype=np.float32)
    for row, said in zip(scores[0], (first, last), strict=True):
        row[list(said)] = list(said.values())
    return scores, question_answering.Windows([0], [offsets], [context], [["w00"]])


def test_an_answer_has_at_most_30_tokens():
    (whole,) = question_answering.answers(*pointing({3: 9}, {32: 5, 40: 1}, 60))
    assert whole.split() == [f"w{place:02}" for place in range(3, 33)]
    (shorter,) = question_answering.answers(*pointing({3: 9}, {33: 5, 20: 1}, 60))
    assert shorter.split() == [f"w{place:02}" for place in range(3, 21)]


@pytest.mark.parametrize("better", [19, 20])
def test_the_20_likeliest_first_and_last_tokens_are_combined(better):
    """One token can be the last, or the first: `better` ones that are likelier beside it are too far away."""
    far = {place: 9.0 + place for place in range(60, 60 + better)}
    scores, known = pointing({}, {0: 5.0} | far, 90)
    scores[0, 0, 1:] = -np.inf
    assert question_answering.answers(scores, known) == ["w00" if better < 20 else ""]
    scores, known = pointing({89: 5.0} | {place - 60: score for place, score in far.items()}, {}, 90)
    scores[0, 1, :89] = -np.inf
    assert question_answering.answers(scores, known) == ["w89" if better < 20 else ""]


def test_the_best_of_the_right_answers_counts(monkeypatch):
    """As the official script: the maximum over the answers, of F1 and of exact matches, each for itself."""
    rights = [["film", "slow w01 w02 good", "W01, the w02!"], ["slow", "the w01 dull film"], ["dull", "bad"]]
    scores, one = pointing({1: 9}, {2: 9}, 5)
    known = question_answering.Windows([0, 1, 2], list(one.offsets) * 3, one.contexts * 3, rights)
    prepared = tasks.Prepared(["a", "b", "c"], [], np.full(3, np.nan), None, reference=(5, known))
    monkeypatch.setattr(tasks, "forward", lambda *_: np.repeat(scores, 3, axis=0))
    outcome = question_answering.run(None, prepared, small("squad"), 0, "cpu")
    assert outcome.items["score"].tolist() == pytest.approx([1, 2 / 5, 0])
    assert outcome.items["second_score"].tolist() == [1, 0, 0]
    assert outcome.metrics == pytest.approx({"token_f1": (1 + 2 / 5) / 3, "exact_match": 1 / 3})


def test_no_answer_is_no_match_of_one_that_is_an_article_alone(monkeypatch):
    """It is normalised to nothing, as no answer is."""
    scores, one = pointing({}, {}, 5)
    known = question_answering.Windows([0], one.offsets, one.contexts, [["the"]])
    prepared = tasks.Prepared(["a"], [], np.full(1, np.nan), None, reference=(5, known))
    monkeypatch.setattr(tasks, "forward", lambda *_: np.full_like(scores, np.nan))
    outcome = question_answering.run(None, prepared, small("squad"), 0, "cpu")
    assert outcome.collapsed
    assert outcome.metrics == {"token_f1": 0, "exact_match": 0}


def test_questions_that_leave_no_room_or_have_no_answer_are_refused(bert):
    with pytest.raises(tasks.TaskError, match="max_length = 8 tokens leave no room"):
        question_answering.prepare(
            bert, squad_frame(), small("squad", n_eval=6, n_train=4, eval_split=None, max_length=8), 0
        )
    data = squad_frame()
    data["answers"] = [{"text": [], "answer_start": []} if i == 3 else a for i, a in enumerate(data["answers"])]
    with pytest.raises(tasks.TaskError, match=r"'squad', item 'q3-\d+': 0 answers.* no answer"):
        question_answering.prepare(bert, data, small("squad", n_eval=11, n_train=1, eval_split=None), 0)


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("", 0, "the answer is '', no text"),
        (" ", 0, "the answer is ' ', no text"),
        (None, 0, "the answer is None, no text"),
        *(
            ("slow", place, "the answer 'slow' stands at .*; expected is its place")
            for place in (-1, 25.9, None, float("nan"), "x")
        ),
    ],
)
@pytest.mark.parametrize("part", ["train", "evaluation"])
def test_answers_that_are_none_are_refused_by_item(bert, part, text, place, message):
    data = squad_frame()
    settings = small("squad", n_eval=6, n_train=4, eval_split=None)
    row = tasks.split(data, settings, 0)[part == "evaluation"].index[0]
    unfit = {"text": [text], "answer_start": [place]}
    data["answers"] = [unfit if index == row else answer for index, answer in data["answers"].items()]
    with pytest.raises(tasks.TaskError, match=rf"item '{data['item'][row]}': {message}"):
        question_answering.prepare(bert, data, settings, 0)


def test_wikitext_is_the_test_text_joined_by_blank_lines(tmp_path):
    lines = {split: ["", sentence(9), "", sentence(20), sentence(7)] for split in ("train", "validation", "test")}
    for split, texts in lines.items():
        write(tmp_path / "hub/wikitext-2-raw-v1", split, {"text": texts}, {"text": VALUE("string")})
    data = fetched(tmp_path, tmp_path / "hub", ROWS["wikitext2"], "wikitext-2-raw-v1")
    folder = tiny.save_decoder(tmp_path / "gpt", "GPT2")
    prepared = tasks.load("perplexity").prepare(folder, data, ROWS["wikitext2"] | {"context": 8}, 0)
    whole = transformers.AutoTokenizer.from_pretrained(folder)("\n\n".join(lines["test"]))["input_ids"]
    assert [token for row in prepared.inputs for token in row["input_ids"]] == whole[: len(whole) // 8 * 8]


# --- vision


def encoded(size=8) -> dict:
    stream = io.BytesIO()
    Image.fromarray(DRAW.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


VISION = {  # task -> columns of its repository, splits
    "cifar10": ({"img": datasets.Image(), "label": CLASS(names=["plane", "car"])}, ("train", "test")),
    "cifar100": (
        {"img": datasets.Image(), "fine_label": CLASS(names=["x", "b"]), "coarse_label": CLASS(names=["q"])},
        ("train", "test"),
    ),
    "tiny-imagenet": ({"image": datasets.Image(), "label": CLASS(names=["n02", "n01"])}, ("train", "valid")),
    "fashion-mnist": ({"image": datasets.Image(), "label": CLASS(names=["shirt", "bag"])}, ("train", "test")),
}


@pytest.mark.parametrize("task", VISION)
def test_a_vision_task_is_fine_tuned_from_the_files_of_its_repository(task, tmp_path):
    features, splits = VISION[task]
    for split in splits:
        columns = {}
        for name, feature in features.items():
            labels = isinstance(feature, CLASS)
            columns[name] = [i % feature.num_classes if labels else encoded() for i in range(40)]
        write(tmp_path / "hub", split, columns, features)
    data = fetched(tmp_path, tmp_path / "hub", ROWS[task])
    settings = small(task, n_train=None, max_length=None, image_size=16)
    kept, evaluation_rows = tasks.parts(data, settings)
    assert len(kept) == 36  # nine tenths
    assert set(evaluation_rows["split"]) == {settings["eval_split"]}
    (outcome,) = evaluated(tiny.save_vit(tmp_path / "vit"), data, settings)
    assert len(outcome.items) == 40
    names = next(feature.names for name, feature in features.items() if "label" in name)
    right = data.set_index("item").loc[outcome.items["item"], "label"]
    assert [names[int(index)] for index in outcome.items["target"]] == right.tolist()


@pytest.mark.parametrize("name", ["ViT", "DeiT", "Dinov2", "ViTMAE"])
@pytest.mark.parametrize("protocol", ["probe", "finetune"])
def test_vision_models_are_evaluated_the_same_twice(name, protocol, tmp_path):
    """ViTMAE drops and shuffles patches at random unless it is told not to."""
    folder = tiny.save_vision(tmp_path / name, name)
    settings = tiny.IMAGES | {"protocol": protocol, "n_train": 24, "n_eval": 20, "epochs": 1, "batch_size": 8}
    settings |= {"learning_rate": 1e-3}
    first, second = (evaluated(folder, tiny.images(60), settings)[0] for _ in range(2))
    pd.testing.assert_frame_equal(first.items, second.items)


def test_a_distilled_deit_is_refused_where_it_cannot_be_trained(tmp_path):
    folder = tiny.save_vision(tmp_path, "DeiT")
    config = (folder / "config.json").read_text().replace("DeiTModel", "DeiTForImageClassificationWithTeacher")
    (folder / "config.json").write_text(config)
    with pytest.raises(tasks.TaskError, match="WithTeacher takes no labels"):
        image_classification.prepare(
            folder, tiny.images(20), tiny.IMAGES | {"protocol": "finetune", "n_train": 9, "n_eval": 9}, 0
        )


def test_a_masked_autoencoder_sees_every_patch_in_its_place(tmp_path):
    """With all patches and their order it is the ViT of the same weights."""
    folder = tiny.save_vision(tmp_path / "mae", "ViTMAE")
    settings = tiny.IMAGES | {"n_train": 4, "n_eval": 4}
    prepared = image_classification.prepare(folder, tiny.images(20), settings, 0)
    model = transformers.AutoModel.from_pretrained(folder, **prepared.model_options).eval()
    batch = prepared.collate([{"pixel_values": prepared.inputs[i]["pixel_values"]} for i in range(4)])
    plain = transformers.ViTModel(
        transformers.ViTConfig(
            **{
                k: v
                for k, v in model.config.to_dict().items()
                if k in transformers.ViTConfig().to_dict() and k != "model_type"
            }
        ),
        add_pooling_layer=False,
    ).eval()
    plain.load_state_dict(model.state_dict())
    with torch.no_grad():
        ours, theirs = model(**batch), plain(batch["pixel_values"])
    torch.testing.assert_close(ours.last_hidden_state, theirs.last_hidden_state)
    assert not ours.mask.any()
    head = _vitmae.ViTMAEForImageClassification.from_pretrained(folder, num_labels=2, **prepared.model_options)
    torch.testing.assert_close(head.vit.state_dict(), model.state_dict())


def test_a_folder_of_images(tmp_path):
    for split in ("train", "val"):
        for label in ("cat", "bird"):
            for i in range(3):
                path = tmp_path / "data" / split / label / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded()["bytes"])
    data = fetched(tmp_path, tmp_path / "data", {"dataset": "d", "format": "imagefolder", "columns": None})
    assert data["item"][0] == "train/bird/0.png"
    assert data.groupby("split").size().to_dict() == {"train": 6, "validation": 6}
    for row in data.itertuples():
        assert row.item.split("/")[1] == row.label
        assert row.image == (tmp_path / "data" / row.item).read_bytes()
    alone = fetched(
        tmp_path / "alone", tmp_path / "data", {"dataset": "d", "format": "imagefolder", "columns": None}, "val"
    )
    assert "split" not in alone
    assert sorted(alone["item"])[0] == "bird/0.png"


def test_held_out_items_never_train_whatever_the_seed():
    data = tiny.reviews(100)
    settings = tiny.FINETUNE | {"n_train": None, "n_eval": None, "held_out": 0.1, "eval_split": "held-out"}
    trained = [tasks.split(data, settings, seed)[0]["item"] for seed in (0, 1)]
    held = tasks.split(data, settings, 0)[1]["item"]
    assert len(held) == 10
    for items in trained:
        assert sorted([*items, *held]) == sorted(data["item"])
    marked = data.assign(split="train")
    assert tasks.split(marked, settings, 0)[1]["item"].tolist() == held.tolist()
