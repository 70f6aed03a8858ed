"""Word problems: expressions by hand, every step of the decoder by hand, and a kind that is trained and pruned like the others."""

import dataclasses
import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
import transformers
import yaml

from essential_sparsity.acquire import formats
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation, lottery, smoke
from essential_sparsity.study import deciding, kinds, needs, opening, tsv
from essential_sparsity.tasks import TaskError, _expressions, _tree, arithmetic
from essential_sparsity.training import finetuning, resume

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import word_problems  # noqa: E402

PUBLISHED = (_tree.HIDDEN, _tree.DEPTH, _tree.DROPOUT, _tree.BEAMS, _tree.MAX_OUTPUT, arithmetic.TOLERANCE)

# --- expressions


@pytest.mark.parametrize(
    ("text", "numbers", "expected"),
    [
        ("- number0 number1", [8, 3], 5),
        ("- number1 number0", [8, 3], -5),
        ("/ - number0 number1 2.0", [8, 3], 2.5),
        ("- number0 / number1 2.0", [8, 3], 6.5),
        ("* + number0 number1 - number0 number1", [8, 3], 55),
        ("+ number0 * number1 ^ 10.0 - 2.0 1.0", [8, 3], 38),
        ("^ number1 2.0", [8, 3], 9),
        ("number1", [8, 3], 3),
        ("/ * number0 number1 100.0", [40, 25], 10),
        ("-3", [], -3),
        ("1e2", [], 100),
        ("/ number0 - number1 3.0", [8, 3], math.nan),
        ("^ 0.0 - 0.0 number0", [8], math.nan),
        ("^ -8.0 0.5", [], math.nan),
        ("^ 10.0 ^ 10.0 10.0", [], math.nan),
        ("* 1e300 1e300", [], math.nan),
        ("- * 1e300 1e300 * 1e300 1e300", [], math.nan),
    ],
)
def test_expressions_are_worth_what_a_hand_finds(text, numbers, expected):
    assert _expressions.value(_expressions.read(text), numbers) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("- number0", "it ends 1 operands too early"),
        ("+ * number0", "it ends 2 operands too early"),
        ("number0 number1", "it is complete after 1 of 2 tokens"),
        ("- number0 number1 number2", "it is complete after 3 of 4 tokens"),
        ("number0 - number1", "it is complete after 1 of 3 tokens"),
        ("% number0 number1", "'%' is no operator"),
        ("- number0 numberx", "'numberx' is no operator"),
        ("- number0 nan", "'nan' is no operator"),
        ("( - number0 number1 )", r"'\(' is no operator"),
    ],
)
def test_what_is_no_expression_is_told(text, message):
    with pytest.raises(ValueError, match=message):
        _expressions.read(text)


def test_the_vocabulary_is_the_operators_and_the_constants_in_order():
    read = [_expressions.read(text) for text in ("- number1 100.0", "* 2 number0", "+ 100 2.0")]
    vocabulary = _expressions.Vocabulary.of(read)
    assert (vocabulary.operators, vocabulary.constants) == (("+", "-", "*", "/"), (2.0, 100.0))
    assert [vocabulary.ids(expression) for expression in read] == [[1, 7, 5], [2, 4, 6], [0, 5, 4]]
    assert [vocabulary.tokens(vocabulary.ids(expression)) for expression in read] == read
    assert _expressions.Vocabulary.of(reversed(read)) == vocabulary
    powers = _expressions.Vocabulary.of([*read, _expressions.read("^ number0 2.0")])
    assert powers.operators == ("+", "-", "*", "/", "^")
    assert powers.symbols == 7


# --- the steps of the decoder


def decoder(size=6, operators=2, symbols=3, seed=0, scale=2.0):
    """One that has opinions."""
    torch.manual_seed(seed)
    found = _tree.Decoder(size, operators, symbols, dropout=0.5).eval()
    for parameter in found.parameters():
        parameter.data.mul_(scale)
    return found


def given(n=3, tokens=5, size=6, seed=0):
    """(states, mask, places, root) of texts of several lengths, with one or two numbers each."""
    draw = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[i < tokens - problem for i in range(tokens)] for problem in range(n)])
    places = torch.tensor([[1, 3], [2, -1], [0, 2]])[:n]
    return torch.randn(n, tokens, size, generator=draw), mask, places, torch.randn(n, size, generator=draw)


def set_(module, **weights):
    """Set parameters by hand: name (with _ for .) -> numbers; all others become zero."""
    for name, parameter in module.named_parameters():
        parameter.data = torch.tensor(weights.pop(name.replace(".", "_"), [[0.0]])).reshape(parameter.shape).float()
    assert not weights


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_a_gate_by_hand():
    gated = _tree.Gated(2, 1, dropout=0.5).eval()
    set_(gated, content_weight=[[0.5, -1.0]], content_bias=[0.25], gate_weight=[[2.0, 1.0]], gate_bias=[-1.0])
    found = gated(torch.tensor([0.3]), torch.tensor([0.7]))
    assert found.item() == pytest.approx(math.tanh(0.15 - 0.7 + 0.25) * sigmoid(0.6 + 0.7 - 1.0))


def test_every_step_by_hand():
    """Width 1: two operators (embeddings 0.5, -0.5), a constant (1.5), a text of states 1, -2 (and padding), whose second is number0."""
    made = _tree.Decoder(1, 2, 3, dropout=0.5).eval()
    set_(
        made,
        symbols_weight=[[0.5], [-0.5], [1.5]],
        attention_asking_weight=[[1.0]], attention_asking_bias=[0.1],
        attention_asked_weight=[[2.0]], attention_weight_weight=[[3.0]],
        score_asking_weight=[[1.0, -1.0]], score_asking_bias=[0.2],
        score_asked_weight=[[0.5]], score_weight_weight=[[4.0]],
        left_content_weight=[[1.0, 2.0, 3.0]], left_content_bias=[0.0],
        left_gate_weight=[[-1.0, 0.0, 1.0]], left_gate_bias=[0.5],
        left_goal_content_weight=[[2.0]], left_goal_content_bias=[0.0],
        left_goal_gate_weight=[[1.0]], left_goal_gate_bias=[-0.5],
        right_content_weight=[[-1.0, 1.0, 0.5]], right_content_bias=[0.0],
        right_gate_weight=[[0.5, 0.5, 0.5]], right_gate_bias=[0.0],
        right_goal_content_weight=[[1.0, -2.0]], right_goal_content_bias=[0.1],
        right_goal_gate_weight=[[0.0, 1.0]], right_goal_gate_bias=[0.0],
        merge_content_weight=[[1.0, 2.0, -1.0]], merge_content_bias=[0.0],
        merge_gate_weight=[[1.0, 1.0, 1.0]], merge_gate_bias=[0.0],
    )  # fmt: skip
    states, mask = torch.tensor([[[1.0], [-2.0], [9.0]]]), torch.tensor([[True, True, False]])
    q = 0.4
    text = made.read(states, mask, torch.tensor([[1, -1]]), torch.tensor([[q]]))
    assert text.words[0, :4, 0].tolist() == [0.5, -0.5, 1.5, -2.0]
    assert text.known.tolist() == [[True, True, True, True, False]]

    def context(q):
        energies = [3 * math.tanh(q + 0.1 + 2 * state) for state in (1.0, -2.0)]
        shares = [math.exp(energy) / sum(map(math.exp, energies)) for energy in energies]
        return shares[0] * 1.0 + shares[1] * -2.0

    def scores(q):
        return [4 * math.tanh(q - context(q) + 0.2 + 0.5 * e) for e in (0.5, -0.5, 1.5, -2.0)]

    trees = _tree.Trees(made, text)
    assert trees.contexts.item() == pytest.approx(context(q))
    assert trees.scores()[0, 0].tolist() == pytest.approx([*scores(q), -math.inf])

    def grow(token):
        trees.grow(torch.tensor([[0]]), torch.tensor([[token]]))

    grow(1)  # an operator of embedding -0.5: the goal of its left operand
    c, e = context(q), -0.5
    hidden = math.tanh(q + 2 * c + 3 * e) * sigmoid(-q + e + 0.5)
    left = math.tanh(2 * hidden) * sigmoid(hidden - 0.5)
    assert trees.goals.item() == pytest.approx(left)
    assert trees.scores()[0, 0, :4].tolist() == pytest.approx(scores(left))

    grow(3)  # number0, -2: the goal of the right operand
    hidden = math.tanh(-q + c + 0.5 * e) * sigmoid(0.5 * (q + c + e))
    right = math.tanh(hidden - 2 * -2.0 + 0.1) * sigmoid(-2.0)
    assert trees.goals.item() == pytest.approx(right)
    assert not trees.trees[0][0].finished

    grow(2)  # the constant, 1.5: the expression is whole, and its tree merged of the operator, left and right
    merged = math.tanh(e + 2 * -2.0 - 1.5) * sigmoid(e - 2.0 + 1.5)
    assert trees.trees[0][0].finished
    assert trees.trees_of[0, 0, :, 0].tolist() == pytest.approx([merged, -2.0, 1.5])


def test_a_tree_is_grown_in_prefix_order():
    """- * a b c: the product is complete with b and is the left operand; c completes the difference."""
    tree = _tree.Tree()
    seen = []
    for token, operator in ((1, True), (2, True), (7, False), (8, False), (9, False)):
        tree = tree.grown(token, operator)
        seen.append((tree.goals, tree.pending, tree.completed, tree.finished))
    assert seen == [
        (2, ((0, None),), (), False),
        (3, ((0, None), (1, None)), (), False),
        (2, ((0, None), (1, 3)), (), False),
        (1, ((0, 4),), ((1, 3),), False),
        (0, (), ((0, 4),), True),
    ]
    assert tree.grown(1, True) == dataclasses.replace(tree, completed=())


def test_a_right_operand_completes_all_operators_that_end_with_it():
    tree = _tree.Tree()
    for token in (0, 5, 0, 5, 0, 5, 5):  # + a + b + c d
        tree = tree.grown(token, token == 0)
    assert tree.completed == ((4, 6), (2, 4), (0, 2))


class Slow:
    """The decoder for one problem at a time, goal after goal as the paper tells it, in float64 and NumPy."""

    def __init__(self, made, states, mask, places, root):
        self.made = made
        self.weights = {name: value.double().numpy() for name, value in made.state_dict().items()}
        self.states = states[mask].double().numpy()
        numbers = [states[place].double().numpy() for place in places.tolist() if place >= 0]
        self.words = [*self.weights["symbols.weight"], *numbers]
        self.root = root.double().numpy()

    def affine(self, name, x):
        bias = self.weights.get(f"{name}.bias", 0.0)
        return self.weights[f"{name}.weight"] @ x + bias

    def gated(self, name, *parts):
        x = np.concatenate(parts)
        return np.tanh(self.affine(f"{name}.content", x)) / (1 + np.exp(-self.affine(f"{name}.gate", x)))

    def matched(self, name, x, y):
        return float(
            self.affine(f"{name}.weight", np.tanh(self.affine(f"{name}.asking", x) + self.affine(f"{name}.asked", y)))[
                0
            ]
        )

    def log_likelihood(self, tokens):
        rest, total = list(tokens), 0.0

        def solve(goal):
            nonlocal total
            energies = np.exp([self.matched("attention", goal, state) for state in self.states])
            context = (energies / energies.sum()) @ self.states
            scores = np.array([self.matched("score", np.concatenate([goal, context]), word) for word in self.words])
            token = rest.pop(0)
            total += scores[token] - np.log(np.exp(scores).sum())
            word = self.words[token]
            if token >= self.made.operators:
                return word
            left = solve(self.gated("left_goal", self.gated("left", goal, context, word)))
            right = solve(self.gated("right_goal", self.gated("right", goal, context, word), left))
            return self.gated("merge", word, left, right)

        solve(self.root)
        assert not rest
        return total


def expressions(operators, words, longest):
    """All of at most so many tokens."""
    of = {1: [(word,) for word in range(operators, words)]}
    for length in range(3, longest + 1, 2):
        of[length] = [
            (operator, *left, *right)
            for operator in range(operators)
            for first in range(1, length - 1, 2)
            for left, right in itertools.product(of[first], of[length - 1 - first])
        ]
    return [expression for group in of.values() for expression in group]


def test_the_likelihood_of_expressions_is_that_of_the_paper_one_by_one():
    """Several trees at once, of several sizes; log-likelihoods to rounding, the mean loss of their tokens."""
    made = decoder()
    texts = given()
    rows = [[0, 1, 3, 4, 0, 2, 3], [3], [1, 2, 0, 0, 4, 2, 3]]
    labels = torch.tensor([row + [_tree.IGNORED] * (7 - len(row)) for row in rows])
    logits = made.logits(made.read(*texts), labels)
    found = (
        logits.log_softmax(dim=-1)
        .gather(2, labels.clamp(min=0)[..., None])[..., 0]
        .masked_fill(labels < 0, 0.0)
        .sum(dim=1)
    )
    expected = [Slow(made, *(part[i] for part in texts)).log_likelihood(row) for i, row in enumerate(rows)]
    assert found.tolist() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seed", range(2))
def test_a_beam_as_wide_as_all_finds_the_best_of_all(seed):
    """And a narrow one is sometimes wrong, but never better, and says the likelihood of what it found."""
    made, texts = decoder(operators=1, symbols=2, seed=seed, scale=3.0), given(seed=seed)
    text = made.read(*texts)
    widest = made.search(text, beams=1_000, longest=5)
    for i, (score, tokens) in enumerate(widest):
        slow = Slow(made, *(part[i] for part in texts))
        words = len(slow.words)
        every = {tokens: slow.log_likelihood(tokens) for tokens in expressions(1, words, 5)}
        assert tokens == max(every, key=every.get)
        assert score == pytest.approx(every[tokens], rel=1e-3)
        for beams in (1, 2):
            (one,) = made.search(text.of([i]), beams=beams, longest=5)
            assert one[0] == pytest.approx(every[one[1]], rel=1e-3)
            assert one[0] <= score + 1e-4


def test_wider_beams_find_what_greedy_decoding_misses():
    gains = []
    for seed in range(12):
        made = decoder(operators=1, symbols=2, seed=seed, scale=3.0)
        text = made.read(*given(seed=seed))
        gains += [five[0] - one[0] for five, one in zip(*(made.search(text, b, 7) for b in (5, 1)), strict=True)]
    assert min(gains) > -1e-4
    assert max(gains) > 0.01


@pytest.mark.parametrize("longest", [1, 2, 5, 8])
def test_what_is_written_is_a_whole_expression_however_much_operators_are_liked(longest):
    made = decoder(operators=2, symbols=3)
    made.symbols.weight.data[:2] = 5.0
    made.score.asked.weight.data, made.score.weight.weight.data = torch.eye(6), torch.ones(1, 6)
    for score, tokens in made.search(made.read(*given()), beams=1, longest=longest):
        assert math.isfinite(score)
        assert len(tokens) == longest - (longest + 1) % 2
        open_ = 1 + sum(1 if token < 2 else -1 for token in tokens)
        assert open_ == 0


def test_a_problem_is_solved_alike_alone_and_beside_others():
    made, texts = decoder(seed=3), given()
    text = made.read(*texts)
    together = made.search(text, longest=9)
    for i in range(3):
        length = int(texts[1][i].sum())
        alone = made.read(*(part[i : i + 1, :length] if j < 2 else part[i : i + 1] for j, part in enumerate(texts)))
        ((score, tokens),) = made.search(alone, longest=9)
        assert tokens == together[i][1]
        assert score == pytest.approx(together[i][0], abs=1e-5)


@pytest.mark.parametrize(
    "name", ["attention.weight.weight", "score.asking.weight", "left.gate.bias", "merge.content.weight"]
)
def test_scores_that_are_no_numbers_are_those_of_no_expression(name):
    """Wherever they arise: an expression that is whole without them is found all the same."""
    made = decoder()
    dict(made.named_parameters())[name].data.fill_(math.nan)
    for score, tokens in made.search(made.read(*given())):
        assert (
            (score, tokens) == (-math.inf, ())
            or (math.isfinite(score) and len(tokens) == 1)
            or name.startswith("merge")
        )


def test_the_decoder_has_the_published_sizes():
    """Of Patel et al. 2021; the other tests make it smaller."""
    assert PUBLISHED == (512, 2, 0.5, 5, 45, 1e-4)


def test_an_answer_is_right_to_a_ten_thousandth_whatever_its_size():
    assert arithmetic.right(1.00009, 1.0)
    assert arithmetic.right(-1e6, -1e6)
    assert not arithmetic.right(1.0002, 1.0)
    assert not arithmetic.right(10_000.5, 10_000.0)
    assert not arithmetic.right(math.nan, 0.0)


def test_a_text_is_read_in_both_directions_by_two_layers(folder):
    """Each problem alone, step by step: states of both directions added, the root from where each direction ends."""
    torch.manual_seed(0)
    encoder = transformers.AutoModel.from_pretrained(folder).eval()
    model = _tree.TreeModel(encoder, operators=4, symbols=5, size=6, dropout=0.5).eval()
    states, lengths = torch.randn(3, 7, 16), (7, 3, 5)
    mask = torch.tensor([[int(place < length) for place in range(7)] for length in lengths])
    weights = dict(model.reader.named_parameters())

    def through(inputs, layer, suffix):
        state, found = torch.zeros(6), []
        for values in inputs:
            new, old = (
                weights[f"weight_{kind}_l{layer}{suffix}"] @ part + weights[f"bias_{kind}_l{layer}{suffix}"]
                for kind, part in (("ih", values), ("hh", state))
            )
            reset, update = ((new + old)[at : at + 6].sigmoid() for at in (0, 6))
            state = (1 - update) * torch.tanh(new[12:] + reset * old[12:]) + update * state
            found.append(state)
        return found

    with torch.no_grad():
        read = model.read(states, mask, torch.full((3, 1), -1))
        for row, length in enumerate(lengths):
            inputs = list(states[row, :length])
            for layer in range(2):
                forward = through(inputs, layer, "")
                backward = through(inputs[::-1], layer, "_reverse")[::-1]
                inputs = [torch.cat(pair) for pair in zip(forward, backward, strict=True)]
            both = torch.stack(forward) + torch.stack(backward)
            torch.testing.assert_close(read.states[row, :length], both, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(read.root[row], forward[-1] + backward[0], atol=1e-5, rtol=1e-4)
            assert read.mask[row].tolist() == [place < length for place in range(7)]


# --- the kind

PEOPLE, THINGS = ["ann", "bob", "cid", "dan"], ["pens", "eggs", "cups"]
NUMBERS = [f"number{i}" for i in range(4)]
WORDS = [*PEOPLE, *THINGS, *NUMBERS, "has", "loses", "finds", "dozen", "how", "many", "now", ".", "?"]
SETTINGS = {
    "task": "sums", "dataset": "sums", "kind": "arithmetic", "protocol": "finetune", "n_train": 40, "n_eval": 20, "max_length": 24,
    "epochs": 30, "batch_size": 8, "learning_rate": 1e-3, "head_learning_rate": 1e-2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """A decoder in keeping with the tiny encoder."""
    monkeypatch.setattr(_tree, "HIDDEN", 24)
    monkeypatch.setattr(_tree, "DROPOUT", 0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.save_bert(tmp_path_factory.mktemp("bert"), words=WORDS)


def problems(n=60, **changed):
    """Sums, differences and dozens, each told in two orders; `changed`: cells of the row 7."""
    draw, rows = np.random.default_rng(0), []
    for i in range(n):
        a, b = (int(number) for number in draw.integers(13, 99, size=2))
        who, thing = PEOPLE[i % 4], THINGS[i % 3]
        told = [
            (f"{who} has number0 {thing} . {who} finds number1 {thing} . how many now ?", "+ number0 number1", a + b)
        ]
        told += [
            (f"{who} has number0 {thing} . {who} loses number1 {thing} . how many now ?", "- number0 number1", a - b)
        ]
        told += [
            (
                f"{who} finds number0 dozen {thing} . {who} has number1 . how many now ?",
                "+ * number0 12.0 number1",
                12 * a + b,
            )
        ]
        text, equation, answer = told[draw.integers(3)]
        rows.append((f"p{i:03d}", text, f"{a}.0 {b}.0", equation, f"{answer}.0"))
    frame = pd.DataFrame(rows, columns=["item", "Question", "Numbers", "Equation", "Answer"])
    for name, cell in changed.items():
        frame.loc[7, name] = cell
    return frame


def test_what_is_prepared(folder):
    prepared = arithmetic.prepare(folder, problems(), SETTINGS, 0)
    vocabulary, numbers = prepared.reference
    assert vocabulary == _expressions.Vocabulary(("+", "-", "*", "/"), (12.0,))
    frame = problems().set_index("item")
    assert prepared.targets.tolist() == [float(frame.loc[item, "Answer"]) for item in prepared.items]
    assert numbers == [[float(word) for word in frame.loc[item, "Numbers"].split()] for item in prepared.items]
    for row, item in zip(prepared.inputs, prepared.items, strict=True):
        words = ["[CLS]", *frame.loc[item, "Question"].split()]
        assert [words[place] for place in row["places"]] == ["number0", "number1"]
    batch = prepared.collate([{**prepared.train[0], "places": [3], "labels": [5]}, prepared.train[1]])
    assert batch["places"][0].tolist() == [3, -1]
    assert batch["labels"][0, :3].tolist() == [5, _tree.IGNORED, _tree.IGNORED]
    assert batch["input_ids"].shape == batch["attention_mask"].shape
    known = {
        "+ number0 number1": [0, 5, 6],
        "- number0 number1": [1, 5, 6],
        "+ * number0 12.0 number1": [0, 2, 5, 4, 6],
    }
    assert {tuple(row["labels"]) for row in prepared.train} == {tuple(ids) for ids in known.values()}


def test_a_number_stands_at_the_first_token_of_its_word():
    offsets = np.array([(0, 0), (0, 1), (2, 8), (8, 9), (10, 11), (12, 18), (18, 19), (20, 26), (26, 27), (0, 0)])
    assert arithmetic.places_of("a number1 b number0 number1", offsets) == [5, 2]
    assert arithmetic.places_of("a number1 b number0 number1", offsets[:5]) == [-1, 2]
    assert arithmetic.places_of("no numbers", offsets) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"Numbers": "8.0 three"}, "item 'p007': the column Numbers is '8.0 three': 'three' is no finite number"),
        ({"Numbers": "8.0"}, "item 'p007': the column Question names number1, but the column Numbers has 1 values"),
        ({"Answer": "many"}, "item 'p007': the column Answer is 'many': 'many' is no finite number"),
        ({"Answer": "inf"}, "item 'p007': the column Answer is 'inf'"),
        ({"Question": "ann has pens"}, "item 'p007': the column Question names no number0"),
        ({"Question": " "}, "item 'p007': the text is empty"),
        (
            {"Equation": "number0 - number1"},
            "item 'p007': the column Equation is .*: it is complete after 1 of 3 tokens",
        ),
        ({"Equation": "- number0"}, "item 'p007': the column Equation is .* it ends 1 operands too early"),
        ({"Equation": "- number0 number2"}, "the column Equation has number2, which the column Question does not name"),
        ({"Equation": "+ 1.0 " * 23 + "number0"}, "the column Equation has 47 tokens, more than the 45"),
    ],
)
def test_rows_that_cannot_be_used_are_named(folder, changed, message):
    settings = SETTINGS | {"n_train": 59, "n_eval": None, "eval_split": "validation"}
    frame = problems(**changed)
    data = pd.concat(
        [frame.assign(split="train"), frame[:5].assign(split="validation", item=list("abcde"))], ignore_index=True
    )
    with pytest.raises(TaskError, match=f"Task 'sums': data set 'sums', {'.*' if message[0] == 't' else ''}{message}"):
        arithmetic.prepare(folder, data, settings | {"n_train": None}, 0)


def test_a_number_that_is_cut_off_asks_for_a_longer_text(folder):
    frame = problems(Question=f"number0 {'pens ' * 15}. ann has number1 . how many now ?")
    message = r"item 'p007': number1 is not among the first 18 tokens of the column Question\. Raise max_length"
    with pytest.raises(TaskError, match=message):
        arithmetic.prepare(folder, frame, SETTINGS | {"max_length": 18}, 0)


def test_a_missing_column_is_named(folder):
    with pytest.raises(TaskError, match="has no column Equation"):
        arithmetic.prepare(folder, problems().drop(columns="Equation"), SETTINGS, 0)


def test_an_equation_that_is_not_worth_its_answer_is_said(folder, capsys):
    frame = problems()
    frame["Answer"] = [str(float(answer) + 1) if i < 6 else answer for i, answer in enumerate(frame["Answer"])]
    data = pd.concat(
        [frame.assign(split="train"), frame.assign(split="test", item=frame["item"] + "t")], ignore_index=True
    )
    arithmetic.prepare(folder, data, SETTINGS | {"n_train": None, "n_eval": None}, 0)
    said = capsys.readouterr().out
    assert "6 of 60 training items have an Equation that is not worth their Answer" in said


@pytest.fixture(scope="module")
def trained(folder):
    """Dense and half pruned: (weights, level, outcome) of each."""
    return {pattern: train(folder, pattern, sparsity) for pattern, sparsity in (("dense", 0.0), ("global", 0.5))}


def train(folder, pattern="global", sparsity=0.5, place=None, seed=0, data=None, **changed):
    kept, run = {}, arithmetic.run

    def keep(model, *args):
        kept.update({name: value.clone() for name, value in model.state_dict().items()})
        return run(model, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_tree, "HIDDEN", 24)
        patch.setattr(_tree, "DROPOUT", 0.1)
        patch.setattr(arithmetic, "run", keep)
        data = problems() if data is None else data
        ((level, outcome),) = evaluation.evaluate(
            folder, data, SETTINGS | changed, pattern, [sparsity], seed, work=place
        )
    return kept, level, outcome


def test_it_is_learnt(trained):
    for _, _, outcome in trained.values():
        assert outcome.collapsed is None
        assert (
            outcome.metrics["answer_accuracy"] == outcome.items["score"].mean() > 0.6
        )  # a third of them are of one form
    items = trained["dense"][2].items.set_index("item")
    frame = problems().set_index("item")
    assert items["target"].tolist() == [float(frame.loc[item, "Answer"]) for item in items.index]
    assert ((items["prediction"] - items["target"]).abs() <= 1e-4).astype(float).tolist() == items["score"].tolist()


def test_the_mask_is_held_in_the_encoder_and_nothing_else_is_pruned(folder, trained):
    weights, level, _ = trained["global"]
    base = transformers.AutoModel.from_pretrained(folder)
    prunable = [weight.name for weight in loading.find_prunable(base)]
    assert level.n == sum(base.get_parameter(name).numel() for name in prunable)
    zeros = {name: int((value == 0).sum()) for name, value in weights.items()}
    assert sum(zeros[f"encoder.{name}"] for name in prunable) == level.k == level.n // 2
    stored = torch.cat([base.get_parameter(name).detach().abs().flatten() for name in prunable])
    limit = stored.sort().values[level.k]
    for name in prunable:
        assert torch.equal(weights[f"encoder.{name}"] == 0, base.get_parameter(name).abs() < limit), name
    for name, value in weights.items():
        if name.startswith(("reader.", "decoder.")):
            assert (value != 0).all(), name


def test_a_dense_model_is_the_same_alone_and_in_a_batch(folder):
    prepared = arithmetic.prepare(folder, problems(), SETTINGS, 0)
    model = finetuning.load_trainable(folder, "AutoModel", 0, prepared.model_options, prepared.head)
    assert smoke.check(model, prepared, SETTINGS, "cpu") < 1e-5
    together = arithmetic.run(model, prepared, SETTINGS, 0, "cpu").items
    alone = arithmetic.run(model, prepared, SETTINGS | {"eval_batch_size": 1}, 0, "cpu").items
    pd.testing.assert_frame_equal(together, alone)


def test_weights_that_are_no_numbers_are_told(folder):
    prepared = arithmetic.prepare(folder, problems(), SETTINGS, 0)
    model = finetuning.load_trainable(folder, "AutoModel", 0, prepared.model_options, prepared.head)
    model.encoder.embeddings.word_embeddings.weight.data.fill_(math.nan)
    outcome = arithmetic.run(model, prepared, SETTINGS, 0, "cpu")
    assert outcome.metrics == {"answer_accuracy": 0.0}
    assert outcome.collapsed == "20 of 20 items have outputs that are not finite"
    assert outcome.items["prediction"].isna().all()


def test_one_expression_for_all_problems_is_told(folder):
    prepared = arithmetic.prepare(folder, problems(), SETTINGS, 0)
    model = finetuning.load_trainable(folder, "AutoModel", 0, prepared.model_options, prepared.head)
    for weight in model.parameters():
        weight.data.zero_()
    outcome = arithmetic.run(model, prepared, SETTINGS, 0, "cpu")
    assert outcome.collapsed == "one expression is predicted for all items"
    prepared.train.beside["labels"][:] = [prepared.train.beside["labels"][0]] * len(prepared.train)
    assert arithmetic.run(model, prepared, SETTINGS, 0, "cpu").collapsed is None, "no other was trained"


def test_the_seed_decides_the_decoder_and_nothing_else(folder, tmp_path):
    prepared = arithmetic.prepare(folder, problems(), SETTINGS, 0)
    without_pooler = tiny.save_bert(tmp_path, auto_class="AutoModelForMaskedLM", words=WORDS)
    states = []
    for place, seed in ((folder, 0), (folder, 0), (without_pooler, 0), (folder, 1)):
        torch.rand(len(states))
        states.append(finetuning.load_trainable(place, "AutoModel", seed, {}, prepared.head).state_dict())
    first, again, other_encoder, other_seed = states
    for name, value in first.items():
        assert torch.equal(value, again[name])
        if not name.startswith("encoder."):
            assert torch.equal(value, other_encoder[name])
            assert not torch.equal(value, other_seed[name])
        elif "pooler" not in name:
            assert torch.equal(value, other_seed[name]), "the encoder is the checkpoint's"


class Stopped(Exception):
    """A job that ends as if it was killed."""


@pytest.mark.parametrize("step", [5, 8])
def test_a_training_that_was_stopped_ends_with_the_same_bits(folder, tmp_path, monkeypatch, step):
    """In the middle of an epoch and after its end."""
    short = {"epochs": 2, "n_train": 32}  # eight steps in all, four an epoch
    expected = train(folder, **short)
    monkeypatch.setattr(resume, "SECONDS", 0.0)
    monkeypatch.setattr(resume, "SHARE", 1e9)
    place = resume.Work(tmp_path / "work", {"manifests": [], "code": "c"})
    done = []

    def count(self, args, state, control, **kwargs):
        done.append(state.global_step)
        if len(done) == step - 1:
            raise Stopped

    monkeypatch.setattr(finetuning.Watch, "on_step_end", count, raising=False)
    with pytest.raises(Stopped):
        train(folder, place=place, **short)
    found = train(folder, place=place, **short)
    assert done == [*range(1, step), *range(step - 1, 9)]
    assert all(torch.equal(found[0][name], value) for name, value in expected[0].items())
    pd.testing.assert_frame_equal(found[2].items, expected[2].items)


def test_a_ticket_is_found_with_it(folder):
    masks, level, diverged = lottery.ticket(folder, problems(), SETTINGS | {"epochs": 1}, {}, 0.2, 0)
    assert not diverged
    assert sum(int(mask.sum()) for mask in masks.values()) == level.k
    assert all(name.startswith("encoder.layer.") for name in masks)


def test_it_is_pruned_by_calibrated_patterns_as_well(folder):
    """What is measured is the encoder's inputs alone."""
    draw = np.random.default_rng(0)
    texts = pd.DataFrame(
        {"item": [f"c{i:03d}" for i in range(90)], "text": [" ".join(draw.choice(WORDS, 20)) for _ in range(90)]}
    )
    settings = SETTINGS | {"epochs": 1, "calibration": tiny.CALIBRATION}
    ((level, outcome),) = evaluation.evaluate(folder, problems(), settings, "wanda", [0.5], 0, calibration=texts)
    assert level.k == level.n // 2
    assert outcome.collapsed is None


def test_the_head_has_a_rate_of_its_own_that_decays_alike(folder, monkeypatch):
    seen = []

    def look(self, args, state, control, optimizer=None, **kwargs):
        groups = getattr(optimizer, "optimizer", optimizer).param_groups
        seen.append([(group["lr"], group["weight_decay"], group["eps"], len(group["params"])) for group in groups])

    monkeypatch.setattr(finetuning.Watch, "on_step_end", look, raising=False)
    train(folder, epochs=1)
    prepared = arithmetic.prepare(folder, problems(), SETTINGS, 0)
    model = finetuning.load_trainable(folder, "AutoModel", 0, {}, prepared.head)
    inside = len(list(model.encoder.parameters()))
    rest = len(list(model.parameters())) - inside
    assert seen == [
        [
            (pytest.approx(1e-3 * (1 - done / 5)), 0.0, 1e-8, inside),
            (pytest.approx(1e-2 * (1 - done / 5)), 0.0, 1e-8, rest),
        ]
        for done in range(1, 6)
    ]
    seen.clear()
    train(folder, epochs=1, head_learning_rate=None)
    assert [rate for rate, *_ in seen[0]] == [pytest.approx(8e-4)] * len(seen[0])


# --- the configuration


def settings_of(tmp_path, head_learning_rate=""):
    """The settings of a fine-tuned task of text classification, as JSON, where its row has this cell."""
    header, *rows = (line.split("\t") for line in Path("config/tasks.tsv").read_text().splitlines())
    rows = [row + [""] * (len(header) - len(row)) for row in rows]
    (row,) = (row for row in rows if row[0] == "reviews-finetune")
    row[header.index("head_learning_rate")] = head_learning_rate
    table = tmp_path / "tasks.tsv"
    table.write_text("".join("\t".join(cells) + "\n" for cells in (header, *rows)))
    config = yaml.safe_load(Path("config/config.yaml").read_text()) | {"tasks": str(table)}
    block = {
        "models": ["minilm"],
        "tasks": ["reviews-finetune"],
        "patterns": ["global"],
        "sparsities": [0.5],
        "seeds": [0],
    }
    return json.loads(opening.unlocked(config | {"grid": [block]}, looking=False).settings("reviews-finetune"))


def test_a_column_that_is_left_blank_runs_nothing_again(tmp_path, monkeypatch):
    """Rows of before are what they were: the same keys, and no other."""
    monkeypatch.chdir(ROOT)
    blank, given = settings_of(tmp_path), settings_of(tmp_path, head_learning_rate="1e-3")
    assert set(blank) == {*deciding.RUN_SETTINGS, "auto_class", "scored_at_once", "threads"}
    assert given == blank | {"head_learning_rate": 1e-3}
    assert not {*deciding.RUN_SETTINGS} & {*deciding.LATER_SETTINGS}


def test_what_is_trained_above_the_encoder_counts_in_what_a_job_asks_for(monkeypatch):
    monkeypatch.chdir(ROOT)
    (model,) = (row for row in tsv.read_table("config/models.tsv", "models", "model") if row["model"] == "minilm")
    (task,) = (row for row in tsv.read_table("config/tasks.tsv", "tasks", "task") if row["task"] == "word-problems")
    task = task | {"minutes_per_level": None}  # what was measured stands above what is worked out
    core = needs.Device("core", {"float32": 1e10}, None)
    known = kinds.declared()
    alone = dataclasses.replace(known["arithmetic"], cost=kinds.Cost())
    with_head = needs.of_run(model, task, 1, core, 0, 1)
    monkeypatch.setattr(kinds, "declared", lambda: known | {"arithmetic": alone})
    without = needs.of_run(model, task, 1, core, 0, 1)
    assert with_head.host_mb - without.host_mb == pytest.approx(known["arithmetic"].cost.head * needs.TRAINED / 1e6)
    assert with_head.minutes > 1.5 * without.minutes


def test_the_committed_problems_are_those_that_the_program_writes(tmp_path):
    word_problems.main(["--out", str(tmp_path)])
    for name in ("train.csv", "dev.csv"):
        assert (tmp_path / name).read_bytes() == (ROOT / "config/data/word-problems" / name).read_bytes()


def test_generated_problems_are_solved_by_their_equations_and_by_no_other_order():
    rows = pd.DataFrame(word_problems.problems(400, 1), columns=word_problems.COLUMNS)
    assert rows["Question"].is_unique
    for text, numbers, equation, answer in rows.itertuples(index=False):
        values, tokens = [float(number) for number in numbers.split()], _expressions.read(equation)
        assert sorted(arithmetic.named(text)) == list(range(len(values)))
        assert _expressions.value(tokens, values) == float(answer)
        assert float(answer) > 0
    assert rows["Equation"].nunique() > 40
    assert (rows["Equation"] == "+ number0 number1").mean() < 0.15, "the commonest answer is rarely right"


def test_folds_are_data_sets_of_their_own_with_named_splits(folder, tmp_path, monkeypatch):
    """As published: cv_mawps/fold0/train.csv and dev.csv; a row names one fold."""
    monkeypatch.chdir(tmp_path)
    frame = problems().drop(columns="item")
    for fold in range(2):
        place = tmp_path / f"cv_mawps/fold{fold}"
        place.mkdir(parents=True)
        frame[20:].to_csv(place / "train.csv", index=False)
        frame[:20].to_csv(place / "dev.csv", index=False)
    row = {"source": "path", "id": "cv_mawps/fold1", "revision": None, "format": "csv", "columns": None, "packages": []}
    manifest = formats.fetch_dataset("mawps-fold1", row, tmp_path / "work")
    assert manifest["n_rows"] == {"train": 40, "validation": 20}
    data = pd.read_parquet(tmp_path / "work/files/data.parquet")
    settings = SETTINGS | {"n_train": None, "n_eval": None, "eval_split": "validation"}
    prepared = arithmetic.prepare(folder, data, settings, 0)
    assert (len(prepared.train), len(prepared.items)) == (40, 20)
    assert all(item.startswith("validation") for item in prepared.items)
    with pytest.raises(formats.SourceError, match="Name the folder or file of one data set"):
        formats.fetch_dataset("mawps", row | {"id": "cv_mawps"}, tmp_path / "other")
