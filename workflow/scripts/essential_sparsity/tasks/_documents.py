"""The documents of suites: what of a multiple-choice one is no question with choices and a right one, and which choice is which."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from essential_sparsity.tasks import TaskError


def check_documents(built: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse, by name, documents that lm-eval would score as wrong, whatever a model answers."""
    for task in built["tasks"].values():
        if not has_choices(task):
            continue
        for index, document in task.doc_iterator(limit=settings.get("n_eval")):
            if told := wrong(task, document):
                raise TaskError(f"{document_of(task, index, settings)}: {told}.")


def choose_examples(built: Mapping[str, Any], settings: Mapping[str, Any], shots: int) -> None:
    """Leave documents without a right answer out of those that examples are drawn from, and say how many. TaskError for too few.

    lm-eval would show them with an answer that is none, or the last of their choices for -1.
    """
    for name, task in built["tasks"].items():
        own = task.fewshot_cfg
        if not has_choices(task) or (own.doc_to_target, own.doc_to_choice) != (
            task.config.doc_to_target,
            task.config.doc_to_choice,
        ):
            continue  # examples that the definition writes in a form of their own
        documents = list(task.sampler.df)
        none = {index: told for index, document in enumerate(documents) if (told := wrong(task, document))}
        kept = [document for index, document in enumerate(documents) if index not in none]
        place = f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}: "
        told = f"{place}{name} draws its examples from {len(documents):,} documents"
        if none:
            first = min(none)
            told = (
                f"{place}{len(none):,} of the {len(documents):,} documents that {name} draws its examples from are none (document {first}, "
                f"from 0: {none[first].partition('. ')[0]})"
            )
        if len(kept) < shots + (own.split == task.config.test_split):  # the evaluated document is no example
            raise TaskError(f"{told}; {len(kept):,} are left for shots = {shots}. Give them answers, or lower shots.")
        if not none:
            continue
        print(f"{told} and are left out.", flush=True)
        task.sampler.replace_df(kept)


def document_of(task: Any, index: int, settings: Mapping[str, Any]) -> str:
    return f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}, document {index} (from 0) of {task.config.task}"


def wrong(task: Any, document: Mapping[str, Any]) -> str | None:
    """What of a multiple-choice document is no question with choices and a right one, in words; None where nothing is."""
    try:
        text, choices, right = task.doc_to_text(document), task.doc_to_choice(document), task.doc_to_target(document)
    except Exception as error:  # a definition's templates and functions on whatever the document holds
        return said(error)
    if not isinstance(text, str | int):
        return f"the question is {text!r}. Give it a text, or leave the document out"
    if not isinstance(choices, list | tuple) or not choices:
        return f"it has no choices ({choices!r:.60}). Give it some, or leave it out"
    if len(choices) == 1:
        return (
            f"it has one choice alone ({choices[0]!r:.60}), which any model would choose. Give it more, or leave it out"
        )
    if empty := [place for place, choice in enumerate(choices) if not isinstance(choice, str) or not choice.strip()]:
        return f"the choice {empty[0]} (from 0) is {choices[empty[0]]!r}. Give it a text, or leave the document out"
    answer = text if task.multiple_input else right
    several = isinstance(answer, list)
    if (several and answer and all(_place(one, choices) for one in answer)) or (
        not several and (answer in choices or _place(answer, choices))
    ):
        return None
    return (
        f"the answer is {answer!r:.60}; expected is the place of one of its {len(choices)} choices, counted from 0, or its text. "
        "Correct it, or evaluate documents whose answers are published"
    )


def answer_of(task: Any, document: Mapping[str, Any]) -> float:
    """The place of the right choice among those of a document, the first of several; NaN where there are no choices."""
    if not has_choices(task):
        return math.nan
    choices = task.doc_to_choice(document)
    answer = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    first = answer[0] if isinstance(answer, list) else answer
    return float(choices.index(first) if first in choices else first)


def likeliest(task: Any, sample: Mapping[str, Any]) -> int | None:
    """The place of the likeliest choice, by lm-eval's record of an item; None where there are not several."""
    size = len(task.doc_to_choice(sample["doc"])) if has_choices(task) else 0
    return int(np.argmax([float(answer[0]) for answer in sample["filtered_resps"][:size]])) if size > 1 else None


def has_choices(task: Any) -> bool:
    """Whether a task has choices of which one is right, scored as lm-eval does."""
    return task.OUTPUT_TYPE == "multiple_choice" and not callable(task.config.process_results)


def _place(answer: Any, choices: Sequence[str]) -> bool:
    return isinstance(answer, int) and 0 <= answer < len(choices)


def said(error: Exception) -> str:
    return f"the suite's definition cannot be filled in ({type(error).__name__}: {error}). Correct it, or leave it out"
