"""Solve word problems with an expression over their numbers (MAWPS, ASDiv-A, SVAMP). Data: item, Question, Numbers, Equation, Answer.

Columns are as published: in Question number0, number1, … stand in the place of the numbers, whose values are in Numbers ("8.0 3.0");
Equation is an expression in prefix order over them ("- number0 number1"), with constants where it needs them; Answer is a number.
Only Questions and Equations of training items, and Questions, Numbers and Answers of evaluated ones are used.

Metric: `answer_accuracy`, the share of items whose predicted expression is worth the Answer to within TOLERANCE; one that
has no value (division by zero) is wrong. The model is the encoder under a decoder of trees (`_tree`), which is trained freely: it is not
pruned, and not counted. As published (Patel et al. 2021, SMC-Bench): its layers and widths, dropout 0.5, a beam of 5, 45 tokens at most,
two learning rates. Of all fine-tuned tasks here: AdamW without weight decay and with linear decay (published: Adam, weight
decay 1e-5, halved every 20 epochs), and the last epoch is reported (published: the best on the evaluated fold).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import files, tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _expressions, _shared, _text, _tree, tokens
from essential_sparsity.tasks._expressions import Token, Vocabulary
from essential_sparsity.tasks.tokens import Rows, Tokens

KIND = {
    "models": ["encoder"],
    "protocols": {
        "finetune": {"auto_class": "AutoModel", "columns": ["epochs", "learning_rate", "batch_size"]},
    },
    "columns": ["n_train", "n_eval", "max_length"],
    "further_columns": ["eval_split", "held_out"],
    "metrics": ["answer_accuracy"],
    "cost": {"head": 16_000_000},
}
TOLERANCE = 1e-4
PLACES = "places"  # beside the tokens of a text


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Split by item and seed, read the expressions, tokenise, and find the numbers among the tokens."""
    tasks.check_columns(data, settings, "item", "Question", "Numbers", "Equation", "Answer")
    tasks.check_architecture(folder, settings)
    data = data.reset_index(drop=True)
    train, evaluation = tasks.split(data, settings, seed)
    _text.check(pd.concat([train, evaluation]), settings, "Question")
    _shared.tell(train, evaluation, "Question", "Numbers")
    used = train.index.union(evaluation.index)
    data = data.loc[used].reset_index(drop=True)
    trained, evaluated = used.get_indexer(train.index), used.get_indexer(evaluation.index)
    numbers, answers = column(data, settings, "Numbers", numbers_of), column(data, settings, "Answer", answer_of)
    expressions = column(data.iloc[trained], settings, "Equation", _expressions.read)
    tokenizer = _text.with_places(folder, settings)
    length = _text.max_length(folder, settings, tokenizer)
    found = encode(tokenizer, length, data["Question"].tolist(), cache)
    _text.check_ids(folder, tokenizer, found.values("input_ids"), settings)
    places = [found.array(PLACES, row).tolist() for row in range(len(data))]
    check_numbers(data, settings, numbers, places, length)
    check_expressions(data.iloc[trained], settings, expressions, [places[row] for row in trained])
    say_wrong(
        data.iloc[trained], settings, expressions, [numbers[row] for row in trained], [answers[row] for row in trained]
    )
    vocabulary = Vocabulary.of(expressions)
    print(
        f"Expressions are written with {' '.join(vocabulary.operators)} and {len(vocabulary.constants)} constants"
        f"{': ' if vocabulary.constants else ''}{files.some(list(vocabulary.constants))}.",
        flush=True,
    )
    return Prepared(
        items=data["item"].iloc[evaluated].tolist(),
        inputs=Rows(found, evaluated),
        targets=np.array([answers[row] for row in evaluated]),
        train=Rows(found, trained, labels=[vocabulary.ids(expression) for expression in expressions]),
        collate=partial(collated, _text.collator(tokenizer)),
        head=partial(
            _tree.TreeModel,
            operators=len(vocabulary.operators),
            symbols=vocabulary.symbols,
            size=_tree.HIDDEN,
            dropout=_tree.DROPOUT,
        ),
        reference=(vocabulary, [numbers[row] for row in evaluated]),
    )


def column(rows: pd.DataFrame, settings: Mapping[str, Any], name: str, read: Callable[[Any], Any]) -> list[Any]:
    """The values of a column as `read` makes them of its cells. Raises TaskError, naming the item, where it raises ValueError."""
    found = []
    for item, cell in zip(rows["item"], rows[name], strict=True):
        try:
            found.append(read(cell if isinstance(cell, str) else str(cell)))
        except ValueError as error:
            raise refused(settings, item, f"the column {name} is {str(cell)[:80]!r}: {error}") from None
    return found


def refused(settings: Mapping[str, Any], item: str, what: str) -> TaskError:
    """What is said of a row that cannot be used."""
    place = f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}, item {item!r}"
    return TaskError(f"{place}: {what}. Correct the row, or leave it out of the data.")


def numbers_of(cell: str) -> list[float]:
    """The numbers of a problem, separated by blanks."""
    return [answer_of(word) for word in cell.split()]


def answer_of(cell: str) -> float:
    """A finite number."""
    try:
        found = float(cell)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise ValueError(f"{cell!r} is no finite number, as 8.0 is")
    return found


def encode(tokenizer, length: int, texts: list[str], cache: Path | None = None) -> Tokens:
    """Token ids of each text and, under PLACES, for number0, number1, … up to its largest the place of the first token of the
    word, the first time that it stands there; -1 where it does not, or is cut off."""

    def some(start: int, texts: Sequence[str]) -> Mapping[str, list]:
        encoded = tokenizer(list(texts), truncation=True, max_length=length, return_offsets_mapping=True)
        offsets = encoded.pop("offset_mapping")
        places = [places_of(text, np.array(pairs)) for text, pairs in zip(texts, offsets, strict=True)]
        return {**_text.with_cut(encoded, length), PLACES: places}

    return _text.told(tokens.cached(tokenizer, cache, {"length": length, "numbers": True}, (texts,), some), length)


def named(text: str) -> dict[int, int]:
    """The numbers that a text names, and the character at which each stands first."""
    found: dict[int, int] = {}
    for match in _expressions.NUMBER.finditer(text):
        found.setdefault(int(match[1]), match.start())
    return found


def places_of(text: str, offsets: np.ndarray) -> list[int]:
    """As `encode` says; `offsets` (tokens, 2): the characters of each token, from and to."""
    found = named(text)
    places = [-1] * (max(found, default=-1) + 1)
    for number, start in found.items():
        (inside,) = np.nonzero((offsets[:, 0] <= start) & (offsets[:, 1] > start))
        places[number] = int(inside[0]) if len(inside) else -1
    return places


def check_numbers(
    rows: pd.DataFrame,
    settings: Mapping[str, Any],
    numbers: Sequence[Sequence[float]],
    places: Sequence[Sequence[int]],
    length: int,
) -> None:
    """Refuse texts that name no number, or one that has no value or is cut off."""
    for item, text, values, found in zip(rows["item"], rows["Question"], numbers, places, strict=True):
        there = named(text)
        if not there:
            raise refused(
                settings, item, "the column Question names no number0, number1, … in the place of its numbers"
            )
        if max(there) >= len(values):
            raise refused(
                settings,
                item,
                f"the column Question names number{max(there)}, but the column Numbers has {len(values)} values",
            )
        if cut := [number for number in there if found[number] < 0]:
            raise TaskError(
                f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}, item {item!r}: number{cut[0]} is not among "
                f"the first {length} tokens of the column Question. Raise max_length."
            )


def check_expressions(
    rows: pd.DataFrame,
    settings: Mapping[str, Any],
    expressions: Sequence[Sequence[Token]],
    places: Sequence[Sequence[int]],
) -> None:
    """Refuse expressions of numbers that the text does not name: they cannot be pointed at."""
    for item, expression, found in zip(rows["item"], expressions, places, strict=True):
        for token in expression:
            if isinstance(token, int) and (token >= len(found) or found[token] < 0):
                raise refused(
                    settings, item, f"the column Equation has number{token}, which the column Question does not name"
                )
        if len(expression) > _tree.MAX_OUTPUT:
            raise refused(
                settings,
                item,
                f"the column Equation has {len(expression)} tokens, more than the {_tree.MAX_OUTPUT} of an output",
            )


def say_wrong(
    rows: pd.DataFrame,
    settings: Mapping[str, Any],
    expressions: Sequence[Sequence[Token]],
    numbers: Sequence[Sequence[float]],
    answers: Sequence[float],
) -> None:
    """Say how many training expressions are not worth their Answer, as a few of the published ones are not: they train as they stand."""
    wrong = [
        item
        for item, expression, values, answer in zip(rows["item"], expressions, numbers, answers, strict=True)
        if not right(_expressions.value(expression, values), answer)
    ]
    if wrong:
        print(
            f"warning: Task {settings.get('task')!r}: data set {settings.get('dataset')!r}: {len(wrong):,} of {len(rows):,} training "
            f"items have an Equation that is not worth their Answer ({files.some(wrong, 3)}). They train as they stand.",
            flush=True,
        )


def right(found: float, answer: float) -> bool:
    """Whether a value is the answer; NaN is not."""
    return abs(found - answer) <= TOLERANCE


def collated(pad: Callable[[list], dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A batch of tensors: tokens padded by the tokenizer, `places` by -1, `labels` (where there are any) by IGNORED."""
    beside = {name: value for name, value in ((PLACES, -1), ("labels", _tree.IGNORED)) if name in rows[0]}
    batch = pad([{name: value for name, value in row.items() if name not in beside} for row in rows])
    for name, value in beside.items():
        lists = [torch.tensor(row[name]) for row in rows]
        batch[name] = torch.nn.utils.rnn.pad_sequence(lists, batch_first=True, padding_value=value)
    return batch


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Mean over the items. The table of items has the values of predicted expressions as `prediction`, the answers as `target`."""
    vocabulary, numbers = prepared.reference

    def read(output: Any, batch: dict[str, Any]) -> torch.Tensor:
        """(n, 1 + MAX_OUTPUT): the log-likelihood of each expression, and its ids, padded by -1."""
        found = model.decoder.search(output.text)
        return torch.tensor([[score, *ids, *[-1] * (_tree.MAX_OUTPUT - len(ids))] for score, ids in found])

    size = tasks.batch_size(settings)
    outputs = tasks.forward(model, prepared.inputs, prepared.collate, size, device, read)
    broken = ~np.isfinite(outputs[:, 0])
    values = [
        math.nan if wrong else _expressions.value(vocabulary.tokens(int(id_) for id_ in ids[ids >= 0]), known)
        for wrong, ids, known in zip(broken, outputs[:, 1:], numbers, strict=True)
    ]
    score = np.array([right(*pair) for pair in zip(values, prepared.targets, strict=True)], np.float64)
    items = tasks.items_frame(prepared.items, score, target=prepared.targets, prediction=np.array(values))
    collapsed = tasks.counted(broken, "items have outputs that are not finite")
    varied = len(set(map(tuple, prepared.train.beside["labels"]))) > 1
    if collapsed is None and varied and len(np.unique(outputs[:, 1:], axis=0)) == 1 and not score.all():
        collapsed = "one expression is predicted for all items"
    return Outcome({"answer_accuracy": float(score.mean())}, items, collapsed)
