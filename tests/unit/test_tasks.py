"""Tasks: fixed evaluation items, features and metrics against plain loops and the libraries that define them."""

import io
import json
import math
import re
import shutil
import types
from itertools import chain, pairwise

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
import transformers
from PIL import Image
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

from essential_sparsity import tasks
from essential_sparsity.curves import bootstrap
from essential_sparsity.curves.losses import LARGEST
from essential_sparsity.curves.metrics import METRICS
from essential_sparsity.runs import evaluation
from essential_sparsity.study import kinds
from essential_sparsity.tasks import (
    _labels,
    _language,
    _lengths,
    _text,
    image_classification,
    masked_lm,
    perplexity,
    text_classification,
    text_similarity,
)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return tiny.save_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return tiny.save_vit(tmp_path_factory.mktemp("vit"))


def load(folder, auto_class="AutoModel"):
    return getattr(transformers, auto_class).from_pretrained(folder)


# --- the registry


def test_unknown_kind_and_protocol_are_refused_with_what_exists():
    with pytest.raises(tasks.TaskError, match=r"'translation' does not exist.*text-similarity"):
        tasks.load("translation")
    with pytest.raises(tasks.TaskError, match=r"'tiny': kind 'perplexity' has no protocol 'probe'.*zero-shot"):
        tasks.auto_class(tiny.PERPLEXITY | {"protocol": "probe"})


# --- splits


def split_ids(data=None, seed=0, **changed):
    train, evaluation = tasks.split(tiny.reviews() if data is None else data, tiny.PROBE | changed, seed)
    return train["item"].tolist(), evaluation["item"].tolist()


def test_every_seed_evaluates_the_same_items_and_draws_its_own_training_subset():
    (train0, eval0), (train1, eval1), again = split_ids(seed=0), split_ids(seed=1), split_ids(seed=0)
    assert eval0 == eval1
    assert set(train0) != set(train1)
    assert again == (train0, eval0)
    assert (len(train0), len(eval0)) == (24, 20)
    assert not set(train0) & set(eval0)


def test_split_depends_on_item_ids_not_on_the_order_of_rows():
    assert split_ids(tiny.reviews().sample(frac=1, random_state=1)) == split_ids()


def test_more_evaluated_items_keep_the_first_ones():
    assert split_ids(n_eval=30)[1][:20] == split_ids()[1]


def test_blank_n_train_takes_all_the_rest():
    assert sorted(chain(*split_ids(n_train=None))) == sorted(tiny.reviews()["item"])


def test_rows_marked_as_training_never_evaluate():
    data = tiny.reviews().assign(split=["train"] * 40 + ["validation"] * 20)
    train, evaluation = split_ids(data, n_eval=None)
    assert set(train) <= set(data["item"][:40])
    assert set(evaluation) == set(data["item"][40:])


@pytest.mark.parametrize("changed", [{"n_train": 41}, {"n_eval": 61}, {"n_eval": 60, "n_train": None}])
def test_too_few_rows_are_an_error(changed):
    with pytest.raises(tasks.TaskError, match="60 usable rows, too few"):
        split_ids(**changed)


@pytest.mark.parametrize(("share", "rows", "held"), [(0.1, 60, 6), (0.1, 44, 4), (0.1, 45, 5), (0.25, 3, 1)])
def test_a_share_that_is_held_out_is_rounded_to_the_nearest_number_of_rows(share, rows, held):
    rest, evaluation = tasks.parts(tiny.reviews(rows), tiny.FINETUNE | {"held_out": share})
    assert (len(rest), len(evaluation)) == (rows - held, held)


def test_repeated_item_ids_are_an_error():
    with pytest.raises(tasks.TaskError, match="not unique"):
        split_ids(pd.concat([tiny.reviews(), tiny.reviews()]))


def test_labels_come_sorted_from_the_data_and_rows_without_one_are_left_out():
    data, labels = _labels.labelled(pd.DataFrame({"label": ["pos", None, "neg", "pos"]}), tiny.PROBE)
    assert labels == ["neg", "pos"]
    assert data["target"].tolist() == [1, 0, 1]


def test_a_missing_column_is_named(bert):
    with pytest.raises(tasks.TaskError, match="'tiny' has no column label"):
        text_classification.prepare(bert, tiny.reviews().drop(columns="label"), tiny.PROBE, 0)
    with pytest.raises(tasks.TaskError, match=r"has no column label \(it has item, text, '\\ufefflabel'\)"):
        text_classification.prepare(bert, tiny.reviews().rename(columns={"label": "\ufefflabel"}), tiny.PROBE, 0)


# --- texts


def test_features_are_means_over_each_text_alone_whatever_the_batch(bert):
    prepared = text_classification.prepare(bert, tiny.reviews(), tiny.PROBE, 0)
    model = load(bert)
    features = tasks.forward(model, prepared.inputs, prepared.collate, 7, "cpu", _text.mean_pooled)
    for row, feature in zip(prepared.inputs, features, strict=True):
        with torch.no_grad():
            hidden = model(input_ids=torch.tensor([row["input_ids"]])).last_hidden_state[0]
        np.testing.assert_allclose(feature, hidden.mean(dim=0), atol=1e-5)


def test_a_model_that_was_just_trained_is_scored_without_dropout(bert):
    prepared = text_classification.prepare(bert, tiny.reviews(), tiny.PROBE, 0)
    model = load(bert)
    assert any(isinstance(part, torch.nn.Dropout) and part.p for part in model.modules())
    found = [
        tasks.forward(model.train(mode), prepared.inputs, prepared.collate, 7, "cpu", _text.mean_pooled)
        for mode in (False, True)
    ]
    np.testing.assert_array_equal(*found)


def test_texts_are_cut_at_max_length_and_the_models_limit_is_respected(bert):
    prepared = text_classification.prepare(bert, tiny.reviews(), tiny.PROBE | {"max_length": 5}, 0)
    assert max(len(row["input_ids"]) for row in [*prepared.inputs, *prepared.train]) == 5
    with pytest.raises(tasks.TaskError, match="max_length = 33, but the model's limit is 32"):
        text_classification.prepare(bert, tiny.reviews(), tiny.PROBE | {"max_length": 33}, 0)


@pytest.mark.parametrize(
    ("own", "positions", "expected"), [(512, 512, 256), (10**30, None, 256), (128, 512, 128), (512, 64, 64)]
)
def test_a_length_that_is_left_blank_is_256_tokens_or_all_that_the_model_takes(monkeypatch, own, positions, expected):
    monkeypatch.setattr(_text, "position_limit", lambda folder: positions)
    monkeypatch.setattr(_lengths, "check", lambda *_: None)
    loaded = types.SimpleNamespace(model_max_length=own)
    assert _text.max_length("", {"max_length": None}, loaded) == expected


def test_pairs_carry_token_types(bert):
    data = tiny.reviews().assign(text_b="slow film")
    row = text_classification.prepare(bert, data, tiny.PROBE | {"max_length": 20}, 0).inputs[0]
    first_length = row["token_type_ids"].index(1)
    assert row["token_type_ids"] == [0] * first_length + [1] * 3
    assert row["input_ids"][first_length - 1] == row["input_ids"][-1] == 2


def test_a_text_and_a_pair_are_not_read_before_one_is_named(bert):
    data = tiny.reviews().assign(text_a="slow film", text_b="good film")
    with pytest.raises(tasks.TaskError, match="'tiny' has a column text and a column text_a"):
        text_classification.prepare(bert, data, tiny.PROBE, 0)


def test_probe_is_a_logistic_regression_on_standardised_features(bert):
    prepared = text_classification.prepare(bert, tiny.reviews(), tiny.PROBE, 0)
    outcome = text_classification.run(load(bert), prepared, tiny.PROBE, 0, "cpu")
    train, evaluated = (
        tasks.forward(load(bert), rows, prepared.collate, 64, "cpu", _text.mean_pooled).astype(float)
        for rows in (prepared.train, prepared.inputs)
    )
    scaler = StandardScaler().fit(train)
    head = LogisticRegression(C=_labels.PROBE_C).fit(scaler.transform(train), prepared.train_targets)
    right = head.score(scaler.transform(evaluated), prepared.targets)
    assert outcome.metrics["accuracy"] == right
    assert outcome.metrics["chance_corrected_accuracy"] == pytest.approx(2 * right - 1)
    assert outcome.items["target"].tolist() == prepared.targets.tolist()
    assert outcome.items["score"].mean() == outcome.metrics["accuracy"]
    assert outcome.items["item"].tolist() == prepared.items


@pytest.mark.parametrize("labels", [2, 3])
def test_the_probe_is_the_minimum_of_its_loss(labels):
    """C = 0.03 of the summed cross-entropy beside half the squared weights, found by Newton's kind of search in float64.

    Features of very different sizes, some of them constant, and labels that are not equally frequent.
    """
    draw = np.random.default_rng(0)
    size = 10.0 ** draw.uniform(-3, 3, 30) * (np.arange(30) > 2)
    features, evaluated = (draw.normal(5, 1, (n, 30)) * size for n in (80, 4000))
    features[:, :3], evaluated[:, :3] = 7.0, 7.0
    targets = np.minimum((draw.random(80) ** 2 * labels).astype(int), labels - 1)
    mean, std = features.mean(axis=0), np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
    x, asked = (torch.from_numpy((part - mean) / std) for part in (features, evaluated))
    weights = torch.zeros(30, labels, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(labels, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weights, bias], max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss():
        search.zero_grad()
        off = torch.nn.functional.cross_entropy(x @ weights + bias, torch.from_numpy(targets), reduction="sum")
        # of two labels scikit-learn has one vector of weights, the difference of these
        total = 0.03 * off + (weights**2).sum() / 2 * (2 if labels == 2 else 1)
        total.backward()
        return total

    search.step(loss)
    expected = (asked @ weights + bias).argmax(dim=1).numpy()
    assert len(np.unique(expected)) == labels
    assert (_labels.probe("probe", features, targets, evaluated) == expected).mean() > 0.997


def test_probe_of_a_ruined_model_is_chance_not_a_crash():
    features = np.full((10, 4), np.nan)
    predicted = _labels.probe("probe", features, np.array([0, 1] * 5), features)
    assert len(np.unique(predicted)) == 1


def test_a_label_is_predicted_where_all_of_the_outputs_are_numbers():
    logits = [[0, 2, 1], [3, 3, 1], [0, np.nan, 1], [np.inf, 0, 0], [-np.inf, 0, 1], [np.nan] * 3]
    assert _labels.best(np.array(logits)).tolist() == [1, 0, -1, -1, -1, -1]


def test_probe_needs_two_labels():
    with pytest.raises(tasks.TaskError, match="one label only"):
        _labels.probe("probe", np.eye(3), np.zeros(3, dtype=int), np.eye(3))


def test_nearest_neighbours_vote_by_cosine():
    """Against scikit-learn's own cosines: 20 neighbours, whatever the length of a vector."""
    draw = np.random.default_rng(0)
    features, evaluated = draw.normal(size=(60, 5)), draw.normal(size=(30, 5))
    targets = (features[:, 0] > 0).astype(int)
    votes = targets[np.argsort(-cosine_similarity(evaluated, features), axis=1)[:, :20]].sum(axis=1)
    found = _labels.probe("knn", features * draw.random((60, 1)), targets, evaluated)
    assert found.tolist() == (votes > 10).astype(int).tolist()
    assert len(np.unique(_labels.probe("knn", np.full((20, 4), np.nan), targets[:20], np.full((5, 4), np.nan)))) == 1
    with pytest.raises(tasks.TaskError, match=r"n_train = 3, but knn asks 20 neighbours"):
        _labels.probe("knn", np.eye(3), np.array([0, 1, 0]), np.eye(3))


def test_items_that_are_as_near_as_the_last_neighbour_share_its_votes():
    """Whatever their order and the rounding of their features; those that are nearer have whole votes."""
    draw = np.random.default_rng(0)
    targets = np.array([0] * 25 + [1] * 35 + [2] * 15)
    nearer = draw.normal(size=(15, 5))
    for features, expected in (
        (np.ones((75, 5)), 1),  # a collapsed model: the label of most
        (np.concatenate([np.ones((60, 5)), nearer * 1e-3 + [1, 2, 3, 4, 5]]), 2),  # 15 votes of 20, whatever the rest
        (np.concatenate([nearer * 1e-3 + [1, 2, 3, 4, 5], np.ones((60, 5))]), 0),
    ):
        for _ in range(5):
            order, noise = draw.permutation(75), 1 + draw.normal(size=(75, 5)) * 5e-8
            found = _labels.probe("knn", (features * noise)[order], targets[order], np.array([[1.0, 2, 3, 4, 5]] * 300))
            assert set(found) == {expected}


def test_neighbours_are_asked_on_frozen_features(bert):
    settings = tiny.PROBE | {"protocol": "knn"}
    prepared = text_classification.prepare(bert, tiny.reviews(), settings, 0)
    outcome = text_classification.run(load(bert), prepared, settings, 0, "cpu")
    features, evaluated = (
        tasks.forward(load(bert), rows, prepared.collate, 64, "cpu", _text.mean_pooled)
        for rows in (prepared.train, prepared.inputs)
    )
    expected = _labels.probe("knn", features, prepared.train_targets, evaluated)
    assert outcome.items["prediction"].tolist() == expected.tolist()


def test_neighbours_see_what_images_show(vit):
    settings = tiny.IMAGES | {"protocol": "knn"}
    prepared = image_classification.prepare(vit, tiny.images(), settings, 0)
    assert image_classification.run(load(vit), prepared, settings, 0, "cpu").metrics["accuracy"] > 0.7


def test_finetune_reads_the_models_own_head(bert):
    prepared = text_classification.prepare(bert, tiny.reviews(), tiny.FINETUNE, 0)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(bert, **prepared.model_options)
    outcome = text_classification.run(model, prepared, tiny.FINETUNE, 0, "cpu")
    for row, target, score in zip(prepared.inputs, prepared.targets, outcome.items["score"], strict=True):
        with torch.no_grad():
            best = model(input_ids=torch.tensor([row["input_ids"]])).logits.argmax()
        assert score == (best == target)
    assert model.config.id2label == {0: "bad", 1: "good"}


# --- similarity


def test_similarity_is_the_cosine_of_the_two_texts_and_the_metric_is_scipys(bert):
    model = load(bert)
    prepared = text_similarity.prepare(bert, tiny.pairs(), tiny.SIMILARITY, 0)
    outcome = text_similarity.run(model, prepared, tiny.SIMILARITY, 0, "cpu")
    tokenizer = transformers.AutoTokenizer.from_pretrained(bert)

    def embedding(text):
        with torch.no_grad():
            return model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0)

    data = tiny.pairs().set_index("item").loc[outcome.items["item"]]
    expected = [
        float(torch.cosine_similarity(embedding(a), embedding(b), dim=0))
        for a, b in zip(data["text_a"], data["text_b"], strict=True)
    ]
    np.testing.assert_allclose(outcome.items["score"], expected, atol=1e-6)
    assert outcome.items["target"].tolist() == data["target"].tolist()
    assert outcome.metrics["spearman"] == pytest.approx(spearmanr(outcome.items["score"], data["target"]).statistic)


@pytest.mark.parametrize("protocol", ["zero-shot", "finetune"])
@pytest.mark.parametrize("repeated", ["pairs", "texts"])
def test_what_is_alike_ties_whatever_the_batch(bert, protocol, repeated):
    draw = np.random.default_rng(0)
    first, second = ([" ".join(draw.choice(tiny.WORDS, size)) for size in draw.integers(2, 9, 60)] for _ in range(2))
    if repeated == "pairs":
        first, second = first[:6] * 10, second[:6] * 10
    else:
        second = [a if i % 2 else b for i, (a, b) in enumerate(zip(first, second, strict=True))]
    data = pd.DataFrame(
        {"item": [f"p{i:02d}" for i in range(60)], "text_a": first, "text_b": second, "target": draw.random(60)}
    )
    settings = tiny.SIMILARITY | {"max_length": 20, "protocol": protocol, "n_train": 2, "n_eval": 58}
    options = {"num_labels": 1} if protocol == "finetune" else {}
    model = transformers.AutoModelForSequenceClassification.from_pretrained(bert, **options) if options else load(bert)
    scores = []
    for size in (1, 3, 8, 32):
        prepared = text_similarity.prepare(bert, data, settings, 0)
        found = text_similarity.run(model, prepared, settings | {"eval_batch_size": size}, 0, "cpu").items
        of_item = data.set_index("item").loc[found["item"]]
        if repeated == "pairs":
            assert found["score"].nunique() == 6
        elif protocol == "zero-shot":
            alike = (of_item["text_a"] == of_item["text_b"]).to_numpy()
            assert set(found["score"][alike]) == {1.0}
        scores.append(found["score"])
    for other in scores[1:]:
        np.testing.assert_allclose(scores[0], other, atol=1e-5)


def test_spearman_is_0_for_constants_and_broken_outputs_and_undefined_for_constant_ratings():
    rated = np.arange(5.0)
    assert text_similarity.correlation(spearmanr, rated, rated, 1e-12) == pytest.approx(1)
    assert text_similarity.correlation(spearmanr, rated, np.ones(5), 1e-12) is None
    for predicted, rounding, words in (
        (np.array([0.3, 0.3 + 1e-14, 0.3, 0.3, 0.3]), 1e-12, "all similarities are equal"),
        (1e5 + rated * 1e-3, 1e-6, "all similarities are equal"),
        (np.array([0, 1, np.nan, 3, np.inf]), 1e-12, "2 of 5 similarities are not finite"),
    ):
        assert text_similarity.correlation(spearmanr, predicted, rated, rounding) == 0
        assert text_similarity.collapse(predicted, rounding) == words


def test_constant_embeddings_have_no_correlation(bert):
    model = load(bert)
    for parameter in model.encoder.layer[-1].output.LayerNorm.parameters():
        parameter.data.fill_(1.0)
    model.encoder.layer[-1].output.LayerNorm.weight.data.zero_()
    prepared = text_similarity.prepare(bert, tiny.pairs(), tiny.SIMILARITY, 0)
    outcome = text_similarity.run(model, prepared, tiny.SIMILARITY, 0, "cpu")
    assert (outcome.metrics, outcome.collapsed) == ({"spearman": 0, "pearson": 0}, "all similarities are equal")
    assert set(outcome.items["score"]) == {0}, "no order of rounding errors"


# --- perplexity


def test_perplexity_equals_a_plain_loop(llama):
    data = tiny.reviews()
    prepared = perplexity.prepare(llama, data, tiny.PERPLEXITY, 0)
    model = load(llama, "AutoModelForCausalLM")
    outcome = perplexity.run(model, prepared, tiny.PERPLEXITY | {"eval_batch_size": 2}, 0, "cpu")
    ids = transformers.AutoTokenizer.from_pretrained(llama)("\n\n".join(data["text"]))["input_ids"]
    losses = []
    for window in range(3):
        tokens = ids[8 * window : 8 * window + 8]
        with torch.no_grad():
            probabilities = model(torch.tensor([tokens])).logits[0].double().softmax(dim=-1)
        losses.append(-sum(math.log(probabilities[i, tokens[i + 1]]) for i in range(7)))
    np.testing.assert_allclose(outcome.items["score"], losses, rtol=1e-5)
    assert outcome.items["weight"].tolist() == [7, 7, 7]
    assert outcome.metrics["perplexity"] == pytest.approx(math.exp(sum(losses) / 21), rel=1e-5)


def test_windows_do_not_overlap_and_the_tail_is_dropped(llama):
    prepared = perplexity.prepare(llama, tiny.reviews(), tiny.PERPLEXITY | {"windows": None, "context": 10}, 0)
    ids = transformers.AutoTokenizer.from_pretrained(llama)("\n\n".join(tiny.reviews()["text"]))["input_ids"]
    assert len(ids) % 10
    assert [i for row in prepared.inputs for i in row["input_ids"]] == ids[: len(ids) // 10 * 10]


def test_a_beginning_of_the_text_gives_the_windows_that_the_whole_gives(llama):
    data = tiny.reviews(2000)
    prepared = perplexity.prepare(llama, data, tiny.PERPLEXITY, 0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(llama)
    whole = perplexity.token_ids(tokenizer, data["text"], 0)
    assert len(perplexity.token_ids(tokenizer, data["text"], 200)) < len(whole)
    assert np.array_equal(perplexity.token_ids(tokenizer, data["text"], len(whole) - 10), whole)
    assert [i for row in prepared.inputs for i in row["input_ids"]] == whole[:24].tolist()


def test_a_text_is_framed_once_as_its_tokenizer_does(bert):
    """As LLaMA's, which puts a token in front of a text: in front of all of it, not of each window, nor of its documents."""
    loaded, texts = transformers.AutoTokenizer.from_pretrained(bert), tiny.reviews()["text"]
    bare = loaded("\n\n".join(texts), add_special_tokens=False)["input_ids"]
    assert perplexity.token_ids(loaded, texts, 0).tolist() == [1, *bare, 2]


@pytest.fixture
def framed(tmp_path):
    """A decoder whose tokenizer has a BOS token, which is id 1, that it puts before a text."""
    folder = tiny.save_llama(tmp_path)
    tiny.save_tokenizer(folder)
    loaded = transformers.AutoTokenizer.from_pretrained(folder)
    loaded.bos_token = "[CLS]"
    loaded.save_pretrained(folder)
    return folder


def test_each_window_of_a_model_that_needs_it_begins_with_its_bos_token(framed):
    data, settings = tiny.reviews(), tiny.PERPLEXITY | {"add_bos_token": True}
    loaded = transformers.AutoTokenizer.from_pretrained(framed)
    bare = loaded("\n\n".join(data["text"]), add_special_tokens=False)["input_ids"]
    prepared = perplexity.prepare(framed, data, settings, 0)
    assert [row["input_ids"] for row in prepared.inputs] == [[1, *bare[7 * i : 7 * i + 7]] for i in range(3)]
    assert prepared.targets.tolist() == [7, 7, 7], "all tokens of the text are predicted"
    whole = perplexity.prepare(framed, data, settings | {"windows": None}, 0)
    assert len(whole.items) == len(bare) // 7
    with pytest.raises(tasks.TaskError, match=rf"fill {len(bare) // 7} windows of 7, fewer than windows = 1000"):
        perplexity.prepare(framed, data, settings | {"windows": 1000}, 0)


def test_a_bos_token_beyond_the_embedding_is_refused(framed):
    """Also where all tokens of the text fit into a byte."""
    loaded = transformers.AutoTokenizer.from_pretrained(framed)
    loaded.add_tokens([f"more{i}" for i in range(300)])
    loaded.add_special_tokens({"bos_token": "[BEGIN]"})
    loaded.save_pretrained(framed)
    with pytest.raises(tasks.TaskError, match=r"31\d|embedding"):
        perplexity.prepare(framed, tiny.reviews(), tiny.PERPLEXITY | {"add_bos_token": True}, 0)


def test_the_documents_of_windows_with_a_bos_token_are_all_that_they_are_made_of(framed):
    """Three windows hold 21 tokens of text: the BOS token that the tokenizer puts before it is none of them."""
    data = pd.DataFrame({"item": [f"d{i}" for i in range(60)], "text": [" ".join(["good film"] * 5)] * 60})
    prepared = perplexity.prepare(framed, data, tiny.PERPLEXITY | {"add_bos_token": True}, 0)
    assert prepared.documents() == ["d0", "d1", "d2"]


def test_a_tokenizer_without_a_bos_token_cannot_give_it(llama):
    with pytest.raises(tasks.TaskError, match=r"says add_bos_token, but its tokenizer has no BOS token"):
        perplexity.prepare(llama, tiny.reviews(), tiny.PERPLEXITY | {"add_bos_token": True}, 0)


class Reader(torch.nn.Module):
    """Predicts each next token, and with `best` where the window begins with BOS (id 1), with `worst` where not."""

    def __init__(self, text, best, worst):
        super().__init__()
        self.follows, self.sure = dict(pairwise(text)), (worst, best)
        self.seen = []

    def forward(self, input_ids):
        self.seen.append(input_ids[0].tolist())
        logits = torch.zeros(*input_ids.shape, max(self.follows.values()) + 1)
        for place, token in enumerate(self.seen[-1]):
            logits[0, place, self.follows.get(token, 0)] = self.sure[self.seen[-1][0] == 1]
        return types.SimpleNamespace(logits=logits)


def looked_at(best, worst, begin=(), bos=1, text=tuple(range(10, 50)), width=8):
    windows = perplexity.Windows(np.array(text[: len(text) // width * width]).reshape(-1, width), begin)
    model = Reader(text, best, worst)
    perplexity.check(model, {"task": "t"}, "cpu", windows, bos)
    return model.seen


@pytest.mark.parametrize(("begin", "bos"), [((), 1), ((1,), 1), ((), None)])
def test_a_dense_model_that_is_worse_than_guessing_is_said(begin, bos, capsys):
    """As one whose tokenizer is another's, of as many tokens."""
    looked_at(2.0, 2.0, begin, bos)
    assert capsys.readouterr().out == ""
    looked_at(-2.0, -2.0, begin, bos)
    assert re.search(
        r"'t': the dense model predicts the tokens of 4 windows with perplexity \S+, worse than guessing among its 50 tokens",
        capsys.readouterr().out,
    )


def test_a_dense_model_that_reads_far_better_after_its_bos_token_is_refused():
    """As Gemma: without it before each window its perplexities are in the hundreds, of any text, pruned or not."""
    with pytest.raises(
        tasks.TaskError,
        match=r"'t': the dense model predicts.*4 windows with perplexity 1.00\d+.*begins.*id 1.*, and 41.*write true in its column add_bos_token",
    ):
        looked_at(best=9.0, worst=0.2)
    with pytest.raises(tasks.TaskError, match=r"column add_bos_token blank"):
        looked_at(best=0.2, worst=9.0, begin=[1])


def test_a_bos_token_without_a_row_in_the_embedding_is_not_read(framed):
    """One that the tokenizer adds by itself, and that the model was never given: the texts have none."""
    loaded = transformers.AutoTokenizer.from_pretrained(framed)
    loaded.add_special_tokens({"bos_token": "<begin>"})
    loaded.save_pretrained(framed)
    settings, model = tiny.PERPLEXITY, transformers.AutoModelForCausalLM.from_pretrained(framed)
    assert loaded.bos_token_id >= model.get_input_embeddings().num_embeddings
    prepared = perplexity.prepare(framed, tiny.reviews(), settings, 0)
    prepared.check(model, settings, "cpu")
    with pytest.raises(tasks.TaskError, match=r"with id .*, but the embedding of the model"):
        perplexity.prepare(framed, tiny.reviews(), settings | {"add_bos_token": True}, 0)


def test_other_models_are_read_both_ways_and_pass():
    """On the same tokens of text, each of which both ways predict."""
    seen = looked_at(best=5.0, worst=4.9)
    assert len(seen) == 8
    bare, after = ({tuple(row) for row in seen if (row[0] == 1) == begins} for begins in (False, True))
    assert after == {(1, *row) for row in bare}
    assert {len(row) for row in bare} == {7}
    looked_at(best=0.2, worst=9.0)  # the way that it is measured is the better one
    looked_at(best=9.0, worst=0.2, begin=[1])
    long = looked_at(best=5.0, worst=4.9, text=tuple(range(10, 3010)), width=600)
    assert {len(row) for row in long} == {256, 257}, "a beginning says enough"
    within = looked_at(best=9.0, worst=9.0, begin=[1])
    assert {len(row) for row in within} == {8, 9}, "with BOS a window has one token less of text"


def test_chance_over_few_tokens_is_no_reason_to_refuse():
    """Each way is the better one now and then, by far, of a model that reads no better with the one than with the other."""

    class Chance(torch.nn.Module):
        def forward(self, input_ids):
            drawn = torch.Generator().manual_seed(int(input_ids.sum()))
            return types.SimpleNamespace(logits=3 * torch.randn(*input_ids.shape, 100, generator=drawn))

    rng = np.random.default_rng(0)
    for width in (3, 4, 8, 16, 32):
        for begin in ([], [1]):
            for _ in range(4):
                windows = perplexity.Windows(rng.integers(5, 100, (20, width)), begin)
                perplexity.check(Chance(), {"task": "t"}, "cpu", windows, 1)


def test_what_has_nothing_to_be_read_with_is_not_looked_at():
    assert len(looked_at(best=9.0, worst=0.2, bos=None)) == 4, "one way alone"
    assert looked_at(best=9.0, worst=0.2, width=2) == []
    begun = (1, *range(10, 17))
    assert looked_at(best=9.0, worst=0.2, text=begun) == [], "the only window begins with it"


@pytest.mark.parametrize(
    ("there", "evaluated"),
    [
        (["train", "test", "unsupervised"], "test"),
        (["auxiliary_train", "train", "validation"], "validation"),
        (["train", "unsupervised"], "unsupervised"),
    ],
)
def test_a_validation_or_test_is_evaluated_whatever_stands_beside_it(there, evaluated):
    assert tasks.evaluated_split(pd.DataFrame({"split": there}), {"task": "t"}) == evaluated


def test_training_rows_are_no_part_of_a_perplexity(llama):
    data = tiny.reviews().assign(split=["train"] * 30 + ["test"] * 30)
    marked, cut = (perplexity.prepare(llama, rows, tiny.PERPLEXITY, 0) for rows in (data, tiny.reviews()[30:]))
    assert list(marked.inputs) == list(cut.inputs)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"windows": 1000}, "fewer than windows = 1000"),
        ({"context": 33}, "context = 33.*at most 32"),
        ({"context": None}, "'context' is empty"),
    ],
)
def test_windows_that_cannot_be_cut_are_an_error(llama, changed, words):
    with pytest.raises(tasks.TaskError, match=words):
        perplexity.prepare(llama, tiny.reviews(), tiny.PERPLEXITY | changed, 0)


def test_loss_is_taken_in_float32_and_a_broken_model_has_the_largest_perplexity(tmp_path):
    tiny.save_llama(tmp_path, dtype=torch.float16)
    prepared = perplexity.prepare(tmp_path, tiny.reviews(), tiny.PERPLEXITY, 0)
    model = load(tmp_path, "AutoModelForCausalLM").half()
    half = perplexity.run(model, prepared, tiny.PERPLEXITY, 0, "cpu").metrics["perplexity"]
    assert half == pytest.approx(
        perplexity.run(model.float(), prepared, tiny.PERPLEXITY, 0, "cpu").metrics["perplexity"], rel=0.01
    )
    model.lm_head.weight.data.fill_(math.inf)
    outcome = perplexity.run(model, prepared, tiny.PERPLEXITY, 0, "cpu")
    assert outcome.metrics["perplexity"] == pytest.approx(1e300)
    assert outcome.collapsed == "3 of 3 windows have no finite perplexity"
    np.testing.assert_allclose(outcome.items["score"], 7 * LARGEST)


def test_what_is_stored_of_a_broken_model_and_what_its_items_resample_to_are_the_same_quality(llama):
    prepared = perplexity.prepare(llama, tiny.reviews(), tiny.PERPLEXITY, 0)
    model = load(llama, "AutoModelForCausalLM")
    model.lm_head.weight.data.fill_(math.inf)
    outcome, metric = perplexity.run(model, prepared, tiny.PERPLEXITY, 0, "cpu"), METRICS["perplexity"]
    broken = np.full(len(outcome.items), np.inf)
    scores = bootstrap.complete(metric, broken, outcome.items["weight"].to_numpy())
    np.testing.assert_allclose(scores, outcome.items["score"], rtol=1e-12)
    assert metric.quality(outcome.metrics["perplexity"]) == pytest.approx(-scores.sum() / outcome.items["weight"].sum())
    beyond = metric.value(metric.quality(outcome.metrics["perplexity"]) - 1000)
    assert beyond == outcome.metrics["perplexity"], "no resample is worse"


def test_predictions_that_are_the_same_at_all_places_are_those_of_a_collapsed_model():
    def found(*batches):
        predictions = _language.Predictions()
        for batch in batches:
            batch = torch.tensor(batch)
            expected = torch.nn.functional.cross_entropy(batch, torch.zeros(len(batch), dtype=int), reduction="none")
            torch.testing.assert_close(predictions.losses(batch, torch.zeros(len(batch), dtype=int)), expected)
        return predictions.collapsed()

    same = [[1.0, 2.0, -5.0], [1.0, 2.0, -5.0]]
    assert found(same) == found(same, same) == "all predictions are equal"
    assert found([[1.0, 2.0, -5.0], [4.0, 5.0, -2.0]]) == "all predictions are equal", "the same but for a constant"
    assert found([[0.0, 0.0, -math.inf]] * 2) == "all predictions are equal", "a token that is never predicted"
    assert found([[1.0, 2.0, -5.0], [1.0, 2.01, -5.0]]) is None
    assert found(same, [[2.0, 1.0, -5.0]] * 2) is None, "batches differ"
    assert found(same[:1]) is None, "one place says nothing"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 12, 300])
def test_a_loss_that_is_not_finite_or_too_large_counts_as_the_largest(size):
    losses, words = _language.bounded(np.full(size, np.nan), 31, "windows")
    assert np.isfinite(_language.mean_perplexity(losses, np.full(size, 31)))
    assert words == f"{size} of {size} windows have no finite perplexity"
    losses, words = _language.bounded(np.array([20.0, np.inf, 1e6, 60.0]), np.array([10, 10, 5, 10]), "windows")
    np.testing.assert_allclose(losses, [20, 10 * LARGEST, 5 * LARGEST, 60])
    assert words == "2 of 4 windows have no finite perplexity"
    assert _language.bounded(np.array([20.0, 60.0]), 10, "windows")[1] is None


def test_float16_logits_do_not_overflow_the_loss():
    logits = torch.tensor([[[0.0, 60000.0], [0.0, 60000.0]]], dtype=torch.float16)
    loss = perplexity.summed(_language.Predictions(), logits, torch.tensor([[0, 0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == 60000.0


# --- masked tokens


@pytest.fixture(scope="module")
def mlm(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("mlm"), auto_class="AutoModelForMaskedLM")


def test_pseudo_likelihood_equals_a_plain_loop(mlm):
    """Every token of every text masked alone; the same numbers one by one, without padding."""
    prepared = masked_lm.prepare(mlm, tiny.reviews(12), tiny.MASKED | {"positions": None}, 0)
    model = load(mlm, "AutoModelForMaskedLM").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(mlm)
    model.cls.predictions.bias.data[tokenizer.convert_tokens_to_ids(["good", "plot"])] += 3.0  # right now and then
    outcome = masked_lm.run(model, prepared, tiny.MASKED, 0, "cpu")
    texts = tiny.reviews(12).set_index("item")["text"]
    for item in outcome.items.itertuples():
        ids = tokenizer(texts[item.item])["input_ids"][:12]
        loss, right = 0.0, 0
        for place in range(1, len(ids) - 1):
            masked = [*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]]
            with torch.no_grad():
                logits = model(torch.tensor([masked])).logits[0, place].double()
            loss -= float(logits.log_softmax(dim=0)[ids[place]])
            right += int(logits.argmax()) == ids[place]
        assert item.score == pytest.approx(loss, rel=1e-5)
        assert (item.second_score, item.weight) == (right, len(ids) - 2)
    total = outcome.items["weight"].sum()
    assert outcome.metrics["pseudo_perplexity"] == pytest.approx(math.exp(outcome.items["score"].sum() / total))
    assert 0 < outcome.metrics["masked_accuracy"] == pytest.approx(outcome.items["second_score"].sum() / total)
    assert outcome.metrics["masked_accuracy"] != (outcome.items["second_score"] / outcome.items["weight"]).mean()


def test_masked_positions_are_the_same_for_every_seed_and_whatever_rows_stand_beside(mlm):
    settings = tiny.MASKED | {"positions": 2}
    first, second = (masked_lm.prepare(mlm, tiny.reviews(12), settings, seed) for seed in (0, 1))
    assert list(first.inputs) == list(second.inputs)
    assert first.targets.tolist() == [2 if len(r["input_ids"]) > 3 else 1 for r in _alone(first)]
    more = masked_lm.prepare(mlm, tiny.reviews(14), settings | {"n_eval": 14}, 0)
    by_item = dict(zip(more.items, np.split(np.array(more.inputs), np.cumsum(more.targets)[:-1]), strict=True))
    for item, rows in zip(first.items, np.split(np.array(first.inputs), np.cumsum(first.targets)[:-1]), strict=True):
        assert by_item[item].tolist() == rows.tolist()


def test_masked_inputs_are_copies_of_the_texts_made_when_they_are_asked_for(mlm):
    """A list of them all would hold each text once per position."""
    data, tokenizer = tiny.reviews(12), transformers.AutoTokenizer.from_pretrained(mlm)
    prepared = masked_lm.prepare(mlm, data, tiny.MASKED | {"positions": None, "max_length": 8}, 0)
    texts = data.set_index("item")["text"]
    expected = []
    for item in prepared.items:
        row = tokenizer(texts[item], truncation=True, max_length=8)
        ids = row["input_ids"]
        for place in range(1, len(ids) - 1):
            masked = [*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]]
            expected.append({**row, "input_ids": masked, "labels": (place, ids[place])})
    assert list(prepared.inputs) == expected
    assert tasks.lengths(prepared.inputs).tolist() == [len(row["input_ids"]) for row in expected]
    held = prepared.inputs.places.nbytes + prepared.inputs.index.nbytes
    assert held == 8 * len(expected)


def _alone(prepared):
    """The first input of each text."""
    return [prepared.inputs[i] for i in np.concatenate([[0], np.cumsum(prepared.targets)[:-1]])]


def test_a_broken_encoder_has_the_largest_pseudo_perplexity_and_predicts_nothing(mlm):
    prepared = masked_lm.prepare(mlm, tiny.reviews(12), tiny.MASKED, 0)
    model = load(mlm, "AutoModelForMaskedLM")
    for parameter in model.cls.parameters():
        parameter.data.fill_(math.nan)
    outcome = masked_lm.run(model, prepared, tiny.MASKED, 0, "cpu")
    assert outcome.metrics == {"pseudo_perplexity": pytest.approx(1e300), "masked_accuracy": 0.0}
    np.testing.assert_allclose(outcome.items["score"], outcome.items["weight"] * LARGEST)
    assert outcome.collapsed == f"{len(prepared.inputs)} of {len(prepared.inputs)} positions have no finite perplexity"


def test_a_token_whose_likelihood_is_no_number_is_not_the_one_that_is_found(mlm):
    """The largest of numbers and a NaN is the NaN."""
    prepared, model = masked_lm.prepare(mlm, tiny.reviews(12), tiny.MASKED, 0), load(mlm, "AutoModelForMaskedLM")
    _, right = prepared.inputs[0]["labels"]
    model.get_output_embeddings().bias.data[right] = math.nan
    assert masked_lm.run(model, prepared, tiny.MASKED, 0, "cpu").metrics["masked_accuracy"] == 0


# --- images


def test_images_are_resized_and_normalised_as_pillow_and_the_preprocessor_say(vit, tmp_path):
    encoded = tiny.images()["image"][0]
    decoded = image_classification.decode(encoded, 16)
    by_hand = (
        np.asarray(Image.open(io.BytesIO(encoded)).resize((16, 16), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    )
    assert decoded.shape == (3, 16, 16)
    for channel in decoded:
        np.testing.assert_allclose(channel, by_hand, atol=1e-6)
    (tmp_path / "config.json").write_bytes((vit / "config.json").read_bytes())
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5, 0.25, 0.0], "image_std": [0.5, 0.25, 1]})
    )
    assert image_classification.normalisation(tmp_path) == ([0.5, 0.25, 0.0], [0.5, 0.25, 1.0])
    assert image_classification.normalisation(vit) == (
        tuple(transformers.image_utils.IMAGENET_DEFAULT_MEAN),
        tuple(transformers.image_utils.IMAGENET_DEFAULT_STD),
    )
    images = image_classification.Images(["a"], [encoded], [0], 16, [0.5, 0.25, 0.0], [0.5, 0.25, 1.0])
    for channel, (mean, std) in enumerate(((0.5, 0.5), (0.25, 0.25), (0.0, 1.0))):
        np.testing.assert_allclose(images[0]["pixel_values"][channel], (by_hand - mean) / std, atol=1e-5)


def test_a_broken_image_is_an_error():
    with pytest.raises(tasks.TaskError, match="cannot be decoded"):
        image_classification.decode(b"not an image", 16)


@pytest.mark.parametrize("size", [16, 24])  # 24: positions are interpolated
def test_image_features_are_class_token_and_mean_patch(vit, size):
    settings = tiny.IMAGES | {"image_size": size}
    prepared = image_classification.prepare(vit, tiny.images(), settings, 0)
    model = load(vit)
    outcome = image_classification.run(model, prepared, settings, 0, "cpu")

    def features(rows):
        found = []
        for i in range(len(rows)):
            with torch.no_grad():
                hidden = model(rows[i]["pixel_values"][None], interpolate_pos_encoding=True).last_hidden_state[0]
            found.append(torch.cat([hidden[0], hidden[1:].mean(dim=0)]).numpy())
        return np.stack(found)

    predicted = _labels.probe("probe", features(prepared.train), prepared.train_targets, features(prepared.inputs))
    assert outcome.items["score"].tolist() == (predicted == prepared.targets).astype(float).tolist()
    assert outcome.metrics["accuracy"] > 0.7


@pytest.mark.parametrize(
    ("name", "options", "in_front"),
    [
        ("ViT", {}, 1),
        ("DeiT", {}, 2),
        ("Dinov2", {}, 1),
        ("Dinov2WithRegisters", {"num_register_tokens": 3}, 4),
        ("DINOv3ViT", {"num_register_tokens": 4}, 5),  # its base model is its blocks, without tokens
        ("Radio", {"num_cls_tokens": 3, "num_registers": 2}, 5),  # all of them in one parameter
        ("Aimv2Vision", {}, 0),  # the class token is in a head that is not read
        ("CLIPVision", {}, 1),
        ("IJepa", {}, 0),
        ("SiglipVision", {}, 0),
        ("Swin", {}, 0),
        ("Swinv2", {}, 0),
    ],
)
def test_a_class_token_is_read_where_there_is_one_and_only_patches_are_averaged(tmp_path, name, options, in_front):
    folder = tiny.save_vision(tmp_path, name, **options)
    settings = tiny.IMAGES | {"n_train": 30, "n_eval": 20}
    prepared = image_classification.prepare(folder, tiny.images(60), settings, 0)
    model = load(folder)
    found = tasks.forward(model, prepared.inputs, prepared.collate, 7, "cpu", image_classification.reader(model))
    pixels = torch.stack([prepared.inputs[i]["pixel_values"] for i in range(20)])
    with torch.no_grad():
        hidden = model(pixel_values=pixels).last_hidden_state
    patches = hidden[:, in_front:]
    assert patches.shape[1] == (4 if name.startswith("Swin") else 16), "Swin merges patches"
    expected = patches.mean(dim=1)
    if in_front:
        expected = torch.cat([hidden[:, 0], expected], dim=1)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)
    ((_, outcome),) = evaluation.evaluate(folder, tiny.images(60), settings, "global", [0.3], 0)
    assert 0 <= outcome.metrics["accuracy"] <= 1


def test_tokens_that_are_not_known_are_no_patches(tmp_path):
    """YOLOS has tokens of detection after its patches."""
    shape = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = transformers.YolosConfig(**shape, image_size=[16, 16], patch_size=4, num_detection_tokens=5)
    transformers.YolosModel(config).save_pretrained(tmp_path)
    settings = tiny.IMAGES | {"n_train": 30, "n_eval": 20}
    with pytest.raises(tasks.TaskError, match=r"YolosModel gives 22 tokens .* the other 21 are no square of patches"):
        list(evaluation.evaluate(tmp_path, tiny.images(60), settings, "global", [0.3], 0))


def test_a_map_of_patches_is_averaged_over_its_places(vit):
    output = types.SimpleNamespace(last_hidden_state=torch.randn(2, 5, 3, 4))
    found = image_classification.reader(load(vit))(output, {})
    torch.testing.assert_close(found, output.last_hidden_state.flatten(2).mean(dim=2))


def test_a_map_whose_channels_come_last_is_averaged_over_its_places_too(tmp_path):
    shape = {"hidden_size": 8, "blocks_per_stage": [1, 1], "embed_dim_per_stage": [8, 16], "num_attention_heads": 1}
    stages = {"num_attention_heads_per_stage": [1, 2], "window_size_per_stage": [2, 2], "global_attention_blocks": []}
    config = transformers.Sam2HieraDetConfig(
        **shape | stages,
        num_query_pool_stages=1,
        image_size=[32, 32],
        window_positional_embedding_background_size=[4, 4],
    )
    torch.manual_seed(7)
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    model, pixels = load(tmp_path), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        output = model(pixel_values=pixels)
    assert output.last_hidden_state.shape == (3, 4, 4, 16)
    found = image_classification.reader(model)(output, {})
    torch.testing.assert_close(found, output.last_hidden_state.flatten(1, 2).mean(dim=1))
    settings = tiny.IMAGES | {"n_train": 30, "n_eval": 20, "image_size": 32}
    ((_, outcome),) = evaluation.evaluate(tmp_path, tiny.images(60), settings, "global", [0.3], 0)
    assert 0 <= outcome.metrics["accuracy"] <= 1


def test_image_size_must_hold_whole_patches(vit):
    with pytest.raises(tasks.TaskError, match="image_size = 18 is not a multiple of the model's patch size 4"):
        image_classification.prepare(vit, tiny.images(), tiny.IMAGES | {"image_size": 18}, 0)


def changed_config(folder, out, **changes):
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text()) | changes
    (out / "config.json").write_text(json.dumps(config))
    return out


@pytest.mark.parametrize(
    ("name", "changes"),
    [("ViT", {"image_size": [16, 16]}), ("ViT", {"patch_size": [4, 4]}), ("ViTMAE", {"image_size": [16, 16]})],
)
def test_a_square_of_two_sides_is_its_number(tmp_path, name, changes):
    folder = tiny.save_vision(tmp_path / "one", name)
    other = changed_config(folder, tmp_path / "two", **changes)
    settings = tiny.IMAGES | {"n_train": 30, "n_eval": 20, "image_size": None}
    found = [
        [
            outcome.items["score"].tolist()
            for _, outcome in evaluation.evaluate(place, tiny.images(60), settings, "dense", [0.0], 0)
        ]
        for place in (folder, other)
    ]
    assert found[0] == found[1]


def test_patches_that_overlap_count_by_their_stride(tmp_path):
    config = transformers.HieraConfig(
        image_size=[32, 32], embed_dim=8, depths=[1, 1], num_heads=[1, 2], num_query_pool=1, masked_unit_size=[2, 2],
        masked_unit_attention=[True, False],
    )  # fmt: skip
    assert image_classification.image_size(config, tiny.IMAGES | {"image_size": None}) == 32
    transformers.HieraModel(config).save_pretrained(tmp_path)
    settings = tiny.IMAGES | {"n_train": 30, "n_eval": 20, "image_size": 32}
    ((_, outcome),) = evaluation.evaluate(tmp_path, tiny.images(60), settings, "global", [0.3], 0)
    assert 0 <= outcome.metrics["accuracy"] <= 1


SMALL = {"depths": [1] * 4, "hidden_sizes": [8] * 4, "num_attention_heads": [1] * 4}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (transformers.ViTConfig(image_size=[16, 8], patch_size=4), r"\(vit\) has image_size = \[16, 8\]"),
        (transformers.ViTConfig(image_size=16, patch_size=[4, 2]), r"\(vit\) has patch_size = \[4, 2\]"),
        (transformers.PvtConfig(image_size=32, num_encoder_blocks=4, **SMALL), r"\(pvt\) has no patch_size"),
        (transformers.SegformerConfig(**SMALL), r"\(segformer\) has no patch_size"),
    ],
    ids=["rectangle", "rectangular patches", "PVT", "SegFormer"],
)
def test_models_of_other_images_than_squares_are_refused_by_their_type(tmp_path, config, told):
    config.save_pretrained(tmp_path)
    with pytest.raises(tasks.TaskError, match=f"Task 'tiny': .*{told}, but images are resized to squares"):
        image_classification.prepare(tmp_path, tiny.images(), tiny.IMAGES, 0)


def test_a_run_gives_all_metrics_of_its_kind_in_their_order(bert, llama, vit, mlm):
    for module, folder, auto_class, data, settings in (
        (text_classification, bert, "AutoModel", tiny.reviews(), tiny.PROBE),
        (text_similarity, bert, "AutoModel", tiny.pairs(), tiny.SIMILARITY),
        (perplexity, llama, "AutoModelForCausalLM", tiny.reviews(), tiny.PERPLEXITY),
        (image_classification, vit, "AutoModel", tiny.images(), tiny.IMAGES),
        (masked_lm, mlm, "AutoModelForMaskedLM", tiny.reviews(), tiny.MASKED),
    ):
        prepared = module.prepare(folder, data, settings, 0)
        outcome = module.run(load(folder, auto_class), prepared, settings, 0, "cpu")
        kind = kinds.declared()[settings["kind"]]
        assert tuple(outcome.metrics) == (*kind.metrics, *kind.further_metrics)
        asked = module.run(load(folder, auto_class), prepared, settings | {"metrics": kind.metrics[-1]}, 0, "cpu")
        assert asked.metrics == outcome.metrics, "what is tabulated is chosen later"
        assert list(outcome.items) == ["item", "score", "second_score", "prediction", "target", "weight", "group"]
