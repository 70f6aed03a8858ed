"""Answer questions with a span of a text (SQuAD v1.1). Data: item, question, context, answers (texts and places).

Metrics: `token_f1` and `exact_match`, as the official script computes them, here as shares of 1. The recipe is the usual
one: windows of `max_length` tokens that overlap by `stride`, a head for the first and the last token of the answer, and
the best of the likeliest spans of all windows of a question.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _shared, _text, tokens
from essential_sparsity.tasks.tokens import Rows, Tokens

KIND = {
    "models": ["encoder", "decoder"],
    "protocols": {
        "finetune": {
            "auto_class": "AutoModelForQuestionAnswering",
            "columns": ["epochs", "learning_rate", "batch_size"],
        },
    },
    "columns": ["n_train", "n_eval", "max_length"],
    "further_columns": ["eval_split", "held_out"],
    "metrics": ["token_f1", "exact_match"],
}
STRIDE = 128  # tokens that two windows share
N_BEST = 20  # likeliest first, and last, tokens of a window that are combined
ROUNDING = 1e-6  # logits closer than this, relative beyond 1, differ by rounding
MAX_ANSWER = 30  # tokens of the longest answer considered
PLACES = QUESTION, OFFSETS = "question", "offsets"  # beside the tokens of a window


@dataclass(frozen=True)
class Windows:
    """Which question each window belongs to, where its tokens lie in the context, and what the right answers are.

    `question` (windows); `offsets`: one (tokens, 2) array a window, characters of the context from and to, (-1, -1) for
    tokens that are not of the context; `contexts` and `answers`: one text, one list of texts, a question.
    """

    question: Sequence[int]
    offsets: Sequence[np.ndarray]
    contexts: list[str]
    answers: list[list[str]]


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Split by question and seed, and cut each question with its context into windows."""
    tasks.check_columns(data, settings, "item", "question", "context", "answers")
    tasks.check_architecture(folder, settings)
    data = data.reset_index(drop=True)
    train, evaluation = tasks.split(data, settings, seed)
    _text.check(pd.concat([train, evaluation]), settings, "question")
    _text.check(pd.concat([train, evaluation]), settings, "context")
    check_answers(evaluation, settings, placed=False)
    check_answers(train, settings, placed=True)
    _shared.tell(train, evaluation, "question", "context")
    answers = [list(map(str, row["text"])) for row in evaluation["answers"]]
    tokenizer = _text.with_places(folder, settings)
    length = _text.max_length(folder, settings, tokenizer)
    used = train.index.union(evaluation.index)
    found = windows(tokenizer, length, data.loc[used], settings, cache)
    rows = found.without(*PLACES)
    print(f"{len(used):,} questions in {len(found):,} windows of up to {length} tokens.", flush=True)
    _text.check_ids(folder, tokenizer, rows.values("input_ids"), settings)
    evaluated, question, offsets = of_questions(found, used.get_indexer(evaluation.index))
    trained, owner, places = of_questions(found, used.get_indexer(train.index))
    spans = []
    for index, offset in zip(owner, places, strict=True):
        answer = train["answers"].iloc[index]
        start = int(answer["answer_start"][0])
        spans.append(span(offset, start, start + len(str(answer["text"][0]))))
    first, last = zip(*spans, strict=True)
    return Prepared(
        items=evaluation["item"].tolist(),
        inputs=Rows(rows, evaluated),
        targets=np.full(len(evaluation), np.nan),
        train=Rows(rows, trained, start_positions=first, end_positions=last),
        collate=_text.collator(tokenizer),
        model_options=_text.padding_options(folder, tokenizer),
        reference=(length, Windows(question, offsets, evaluation["context"].tolist(), answers)),
    )


def check_answers(rows: pd.DataFrame, settings: Mapping[str, Any], placed: bool) -> None:
    """Refuse rows whose answers have another shape than SQuAD's, none, an empty one or no place, or (`placed`) stand elsewhere than the row says."""
    for item, context, answers in zip(rows["item"], rows["context"], rows["answers"], strict=True):
        place = f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}, item {item!r}: "
        if not isinstance(answers, Mapping) or not all(
            isinstance(answers.get(key), list | tuple | np.ndarray) for key in ("text", "answer_start")
        ):
            raise TaskError(
                f"{place}the column answers is {str(answers)[:60]!r}; expected SQuAD's {{'text': [texts], 'answer_start': [places in "
                "the context]}. Write it so."
            )
        texts, starts = list(answers["text"]), list(answers["answer_start"])
        if not texts or len(texts) != len(starts):
            raise TaskError(
                f"{place}{len(texts)} answers with {len(starts)} places. Every question of SQuAD v1.1 has one at least; v2.0, with "
                "questions that have no answer, is another task: leave those out."
            )
        for text, start in zip(texts, starts, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise TaskError(
                    f"{place}the answer is {text!r}, no text. A question without an answer is of SQuAD v2.0, another task: leave it out."
                )
            if not isinstance(start, Real) or not float(start).is_integer() or start < 0:
                raise TaskError(
                    f"{place}the answer {text[:40]!r} stands at {start!r}; expected is its place in the context, a whole number of "
                    "characters from 0. Correct answer_start."
                )
            there = context[int(start) : int(start) + len(text)]
            if placed and there != text:
                raise TaskError(
                    f"{place}the answer {text[:40]!r} is not where the row says: at character {start} of the context stands "
                    f"{there[:40]!r}. Places count characters from 0."
                )


def windows(
    tokenizer, length: int, data: pd.DataFrame, settings: Mapping[str, Any], cache: Path | None = None
) -> Tokens:
    """Token ids of each window and, under `PLACES`, the row of `data` that it belongs to, and (from, to) of each token."""
    questions = [text.strip() + _text.separator(tokenizer) for text in data["question"]]
    longest = max((len(ids) for ids in tokenizer(questions)["input_ids"]), default=0)
    stride = min(STRIDE, length // 3)  # as 128 of 384
    if longest + stride + tokenizer.num_special_tokens_to_add(pair=True) >= length:
        raise TaskError(
            f"Task {settings.get('task')!r}: max_length = {length} tokens leave no room for a text beside the longest "
            f"question ({longest} tokens) and the overlap of two windows ({stride}). Raise max_length."
        )

    def cut(start: int, questions: list[str], contexts: list[str]) -> Mapping[str, list]:
        encoded = tokenizer(
            questions,
            contexts,
            truncation="only_second",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        mapped = zip(encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping"), strict=True)
        places = {QUESTION: [], OFFSETS: []}
        for i, (index, pairs) in enumerate(mapped):
            second = np.array([part == 1 for part in encoded.sequence_ids(i)])
            places[QUESTION].append([start + index])
            places[OFFSETS].append(np.where(second[:, None], np.array(pairs), -1).ravel().tolist())
        return {**encoded, **places}

    options = {"length": length, "stride": stride, "windows": True}
    return tokens.cached(tokenizer, cache, options, (questions, data["context"].tolist()), cut)


def of_questions(found: Tokens, chosen: np.ndarray) -> tuple[list[int], list[int], list[np.ndarray]]:
    """The windows of some rows, in the order of `chosen`; for each, its row's place in `chosen`, and its tokens' places."""
    windows_of: dict[int, list[int]] = {}
    for window, row in enumerate(found.columns[QUESTION][1].tolist()):
        windows_of.setdefault(row, []).append(window)
    pairs = [(window, place) for place, row in enumerate(chosen.tolist()) for window in windows_of[row]]
    offsets = [found.array(OFFSETS, window).reshape(-1, 2) for window, _ in pairs]
    return [window for window, _ in pairs], [place for _, place in pairs], offsets


def span(offsets: np.ndarray, start: int, end: int) -> tuple[int, int]:
    """First and last token of characters `start` … `end` of the context; the first token of all, where it is not inside."""
    inside = np.flatnonzero((offsets[:, 1] > start) & (offsets[:, 0] < end) & (offsets[:, 0] >= 0))
    context = offsets[offsets[:, 0] >= 0]
    if not len(inside) or context[0, 0] > start or context[-1, 1] < end:
        return 0, 0
    return int(inside[0]), int(inside[-1])


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Means over the questions; a model that predicts no finite span, or each as well, answers nothing, which is wrong."""
    size = tasks.batch_size(settings)
    length, known = prepared.reference

    def read(output: Any, batch: dict[str, Any]) -> torch.Tensor:
        both = torch.stack([output.start_logits, output.end_logits], dim=1).float()
        return torch.nn.functional.pad(both, (0, length - both.shape[-1]), value=-torch.inf)

    logits = tasks.forward(model, prepared.inputs, prepared.collate, size, device, read)  # (windows, 2, length)
    predicted = answers(logits, known)
    f1 = [max(token_f1(text, right) for right in of) for text, of in zip(predicted, known.answers, strict=True)]
    exact = [
        float(
            bool(text) and any(normalised(text) == normalised(right) for right in of)
        )  # `the` is normalised to nothing
        for text, of in zip(predicted, known.answers, strict=True)
    ]
    items = tasks.items_frame(prepared.items, np.array(f1), second_score=np.array(exact))
    collapsed = tasks.counted(
        questions_with(logits, known, not_finite), "questions have outputs that are not finite"
    ) or tasks.counted(levelled(logits, known), "questions have outputs that are equal at all places")
    return Outcome({"token_f1": float(np.mean(f1)), "exact_match": float(np.mean(exact))}, items, collapsed)


def answers(logits: np.ndarray, known: Windows) -> list[str]:
    """The answer to each question from the logits of its windows (windows, 2, tokens); empty where there is none."""
    best = [(-np.inf, "")] * len(known.contexts)
    for scores, question, offsets in zip(logits, known.question, known.offsets, strict=True):
        allowed = offsets[:, 0] >= 0
        if level(scores[:, : len(allowed)][:, allowed]):
            continue  # the order of ties would choose
        scores = np.where(allowed & np.isfinite(scores[:, : len(allowed)]), scores[:, : len(allowed)], -np.inf)
        firsts, lasts = (np.argsort(-part, kind="stable")[:N_BEST] for part in scores)
        totals = scores[0][firsts][:, None] + scores[1][lasts][None, :]
        tokens = lasts[None, :] - firsts[:, None] + 1
        totals[(tokens < 1) | (tokens > MAX_ANSWER)] = -np.inf
        i, j = np.unravel_index(np.argmax(totals), totals.shape)
        if totals[i, j] > best[question][0]:
            text = known.contexts[question][offsets[firsts[i], 0] : offsets[lasts[j], 1]]
            best[question] = (totals[i, j], text)
    return [text for _, text in best]


def questions_with(logits: np.ndarray, known: Windows, holds: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Which questions (n) have a window whose logits (2, tokens) of its context are such; `logits` as for `answers`."""
    found = np.zeros(len(known.contexts), dtype=bool)
    for scores, question, offsets in zip(logits, known.question, known.offsets, strict=True):
        found[question] |= holds(scores[:, : len(offsets)][:, offsets[:, 0] >= 0])
    return found


def levelled(logits: np.ndarray, known: Windows) -> np.ndarray:
    """Which questions (n) have no window that tells places apart, and so no answer; `logits` as for `answers`."""
    return ~questions_with(logits, known, lambda scores: not level(scores))


def not_finite(scores: np.ndarray) -> bool:
    """Whether a logit is no finite number."""
    return not np.isfinite(scores).all()


def level(scores: np.ndarray) -> bool:
    """Whether an answer begins and ends at each of several places as likely, but for rounding."""
    if not_finite(scores) or scores.shape[1] < 2:
        return False
    return bool((np.ptp(scores, axis=1) <= ROUNDING * max(1.0, np.abs(scores).max())).all())


def normalised(text: str) -> str:
    """Lower case without punctuation, articles and repeated blanks (the official evaluation script of SQuAD v1.1)."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def token_f1(predicted: str, right: str) -> float:
    """Harmonic mean of precision and recall of the words of two answers; 0 where they share none."""
    ours, theirs = normalised(predicted).split(), normalised(right).split()
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs)) if shared else 0.0
