"""Suites of lm-eval (MMLU, ARC, HellaSwag, a folder of one's own): `suite` names a task or group, `shots` the examples.

Data: item, config, split, document (format `lm-eval`); the documents are pinned and checked like any data, and given to
lm-eval as they are, so that no job needs a network. Metrics: `accuracy`, the share of all items answered right (lm-eval's
`acc`), and where the suite has it `normalised_accuracy` (`acc_norm`: likelihoods over the length of the answers). Where the
suite has the groups of GROUPS right below it, as MMLU has, each is a metric of the same items: the share of its own
answered right, and so lm-eval's number for the group, which weights its tasks by their items.

Nothing is cached between models: the response cache of lm-eval has no model in its key, and a sweep would read the
answers of the dense one.
"""

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from essential_sparsity import errors, files, tasks
from essential_sparsity.tasks import Outcome, Prepared, TaskError, _documents, _text

KIND = {
    "models": ["decoder"],
    "protocols": {"zero-shot": {"auto_class": "AutoModelForCausalLM"}},
    "columns": ["suite", "shots", "max_length"],
    "further_columns": ["n_eval", "cut_prompts", "allow_code"],
    "formats": ["lm-eval"],
    "metrics": ["accuracy", "normalised_accuracy"],
    "further_metrics": ["accuracy_stem", "accuracy_humanities", "accuracy_social_sciences", "accuracy_other"],
    "cost": {"passes": 4, "scored_at_once": 8, "language_logits": True},  # each answer that can be chosen, mostly four
}
DEFINITION = "yaml"  # the `split` of rows that hold a task's definition instead of a document
FEWSHOT_SEED = 1234  # lm-eval's own: the examples are the same for every model, sparsity and seed
GROUPS = {f"accuracy_{name}": name for name in ("stem", "humanities", "social_sciences", "other")}
SCORES = {"score": "acc", "second_score": "acc_norm"}  # column of items -> metric of lm-eval


def prepare(
    folder: str | Path, data: pd.DataFrame, settings: Mapping[str, Any], seed: int, cache: Path | None = None
) -> Prepared:
    """Build the tasks of the suite on the documents of the data set, with exactly `shots` examples each."""
    tasks.check_columns(data, settings, "item", "config", "split", "document")
    tasks.check_architecture(folder, settings)
    shots = int(tasks.required(settings, "shots"))
    built = build(data, settings)
    for name, task in built["tasks"].items():
        if "acc" not in task.aggregation():
            raise TaskError(
                f"Task {settings.get('task')!r}: the suite's task {name} is not scored by accuracy but by "
                f"{', '.join(task.aggregation())}. Kind {settings['kind']!r} evaluates multiple-choice suites."
            )
        task.set_config(key="num_fewshot", value=shots)  # simple_evaluate would leave a 0 of the definition as it is
    grouped = groups(built, settings)
    for metric in (settings.get("metrics") or "").split(","):
        if metric in GROUPS and GROUPS[metric] not in grouped.values():
            raise TaskError(
                f"Task {settings.get('task')!r}: metric {metric!r} is that of the group {GROUPS[metric]!r}, but the suite "
                f"{settings['suite']!r} has {files.some(sorted(set(grouped.values())), 4)}. Leave it out of metrics."
            )
    _documents.check_documents(built, settings)
    if shots:
        _documents.choose_examples(built, settings, shots)
    tokenizer = _text.tokenizer(folder)
    length = _text.max_length(folder, settings, tokenizer)
    return Prepared(
        items=[],
        inputs=[],
        targets=np.empty(0),
        collate=list,
        reference=(built, tokenizer, length, settings.get("n_eval"), folder, grouped),
    )


def build(data: pd.DataFrame, settings: Mapping[str, Any]) -> dict[str, Any]:
    """lm-eval's dict of tasks and groups for a suite, which is defined in the data set, or by lm-eval itself."""
    from lm_eval.tasks import TaskManager

    suite, definitions = tasks.required(settings, "suite"), data[data["split"] == DEFINITION]
    allow(definitions["item"].tolist(), settings)
    documents = data[data["split"] != DEFINITION]
    with tempfile.TemporaryDirectory() as own, _quiet(), _given(documents, settings) as asked:
        for index, text in enumerate(definitions["document"]):
            Path(own, f"{index}.yaml").write_text(text, encoding="utf-8")
        manager = TaskManager(include_path=own if len(definitions) else None, include_defaults=not len(definitions))
        if suite not in manager.task_index:
            known = ", ".join(manager.all_tasks[:8]) if len(definitions) else "run `lm-eval ls tasks` for its list"
            raise TaskError(
                f"Task {settings.get('task')!r}: there is no suite {suite!r} in "
                f"{'the data set' if len(definitions) else 'lm-eval'} ({known}). Correct the column suite."
            )
        try:
            return manager.load(suite)
        except errors.UserError:
            raise
        except (
            Exception
        ) as error:  # whatever the first document of a task, which lm-eval tries, leads its definition to
            if not asked or not hasattr(asked[-1], "features"):
                raise
            task = asked[-1]
            raise TaskError(
                f"{_documents.document_of(task, 0, settings)}: {_documents.wrong(task, task.eval_docs[0]) or _documents.said(error)}."
            ) from error


def groups(built: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
    """Task -> the group right below the suite that it belongs to, as lm-eval has built it: `stem` for `mmlu_stem` of `mmlu`.

    A task in two of them would be counted in both: then no item is said to have a group.
    """
    suite, found = settings["suite"], []
    for name in built["group_map"].get(suite, ()):
        if name in built["groups"]:
            own = built["groups"][name].get_all_tasks()
            found += [(task.task_name, name.removeprefix(f"{suite}_")) for task in own]
    return dict(found) if len(dict(found)) == len(found) else {}


def allow(definitions: list[str], settings: Mapping[str, Any]) -> None:
    """Refuse definitions that the row does not allow: lm-eval fills in their templates unsandboxed, and calls functions."""
    if not definitions:
        return
    if not settings.get("allow_code"):
        raise TaskError(
            f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r} brings {len(definitions)} definitions of tasks "
            f"({files.some(definitions, 3)}), which can run any code on this machine. Read them, and write true in the column "
            "allow_code of this row; or take these .yaml files away, so that lm-eval's own definition is used."
        )
    print(f"Definitions of tasks that may run code (allow_code): {', '.join(definitions)}.", flush=True)


@contextlib.contextmanager
def _given(documents: pd.DataFrame, settings: Mapping[str, Any]) -> Iterator[list]:
    """While tasks are built, their data are these documents; those that asked for them. lm-eval has no other way in for all of a group."""
    import datasets
    from lm_eval.api.task import ConfigurableTask

    configs, asked, named = sorted(set(documents["config"])), [], set()

    def download(task: ConfigurableTask, *_: Any, **__: Any) -> None:
        name = task.DATASET_NAME if len(configs) > 1 else configs[0]
        named.add(task.DATASET_NAME)
        if len(configs) == 1 and len(named) > 1:
            raise TaskError(
                f"Task {settings.get('task')!r}: the tasks of the suite {settings['suite']!r} read several configurations of their data set "
                f"({files.some(sorted(map(str, named)))}), but {settings.get('dataset')!r} has {configs[0]!r} alone, whose documents would stand "
                "for all of them. Add the others, or write the one task in the column suite."
            )
        if task.DATASET_NAME not in (None, name) and len(named) == 1 and not asked:
            print(
                f"{task.config.task} reads the configuration {task.DATASET_NAME!r} of its data set; these documents are of {name!r}, the "
                f"only one that {settings.get('dataset')!r} has.",
                flush=True,
            )
        if name not in configs:
            raise TaskError(
                f"Task {settings.get('task')!r}: {task.config.task} reads the configuration {name!r} of its data set, but "
                f"{settings.get('dataset')!r} has {', '.join(configs[:8])}. A suite reads one data set: the column id."
            )
        there = documents[documents["config"] == name]
        task.dataset = datasets.DatasetDict(
            {
                split: datasets.Dataset.from_list(_alike(rows, settings))
                for split, rows in there.groupby("split", sort=True)
            }
        )
        asked.append(task)

    original, ConfigurableTask.download = ConfigurableTask.download, download
    try:
        yield asked
    finally:
        ConfigurableTask.download = original


def _alike(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[dict]:
    """The documents of a split, which have the same keys: `datasets` takes those of the first. Raises TaskError."""
    found = [json.loads(text) for text in rows["document"]]
    keys = dict.fromkeys(key for document in found for key in document)
    for item, document in zip(rows["item"], found, strict=True):
        if missing := [key for key in keys if key not in document]:
            raise TaskError(
                f"Task {settings.get('task')!r}: data set {settings.get('dataset')!r}, document {item}: it has no key {missing[0]!r}, "
                "which others of its split have. Give it one, null where it has no value."
            )
    return found


def run(
    model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any], seed: int, device: torch.device | str
) -> Outcome:
    """Scores of every item; one for which a broken model gives no likelihoods counts as wrong."""
    samples, built, grouped = (
        evaluated(model, prepared, settings),
        prepared.reference[0]["tasks"],
        prepared.reference[-1],
    )
    frames, answered, chosen = [], [], set()
    for name, rows in sorted(samples.items()):
        first = [row for row in rows if row["filter"] == rows[0]["filter"]]
        whole = np.array([np.isfinite([float(answer[0]) for answer in row["filtered_resps"]]).all() for row in first])
        answered.append(whole)
        scores = {
            column: np.array([float(row[metric]) if metric in row else np.nan for row in first]) * whole
            for column, metric in SCORES.items()
        }
        names = [f"{name}-{row['doc_id']:06d}" for row in first]
        right = [_documents.answer_of(built[name], row["doc"]) for row in first]
        chosen |= {_documents.likeliest(built[name], row) for row in first}
        frames.append(tasks.items_frame(names, **scores, target=right, group=grouped.get(name)))
    items = pd.concat(frames, ignore_index=True)
    metrics = {"accuracy": float(items["score"].mean())}
    if items["second_score"].notna().all():
        metrics["normalised_accuracy"] = float(items["second_score"].mean())
    parts = {metric: items.loc[items["group"] == name, "score"] for metric, name in GROUPS.items()}
    metrics |= {metric: float(part.mean()) for metric, part in parts.items() if len(part)}
    collapsed = tasks.counted(~np.concatenate(answered), "items have likelihoods that are not finite")
    if collapsed is None and len(chosen) == 1 and chosen != {None} and items["target"].min() < items["target"].max():
        collapsed = "one choice is predicted for all items"
    return Outcome(metrics, items, collapsed, {metric: len(part) for metric, part in parts.items()})


def evaluated(model: torch.nn.Module, prepared: Prepared, settings: Mapping[str, Any]) -> dict[str, list[dict]]:
    """lm-eval's own record of every item, by task."""
    from lm_eval.evaluator import evaluate
    from lm_eval.models.huggingface import HFLM

    built, tokenizer, length, limit, folder, _ = prepared.reference
    for task in built["tasks"].values():
        task.set_fewshot_seed(seed=FEWSHOT_SEED)  # the sampler moves on with each evaluation

    class Checked(HFLM):
        """Looks at all prompts before the first is scored: lm-eval cuts long ones from the left, without a word."""

        def _loglikelihood_tokens(self, requests: list, *args: Any, **kwargs: Any) -> list:
            check_prompts([(len(before), len(answer)) for _, before, answer in requests], length, settings)
            ids = [np.array(before + answer) for _, before, answer in requests]
            _text.check_ids(folder, tokenizer, np.concatenate(ids), settings)
            return super()._loglikelihood_tokens(requests, *args, **kwargs)

    with _quiet():
        wrapped = Checked(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=tasks.batch_size(settings),
            max_length=length,
            softmax_dtype=torch.float32,  # half precision overflows at high sparsity
        )
        found = evaluate(
            lm=wrapped,
            task_dict=built,
            limit=limit,
            cache_requests=False,
            bootstrap_iters=0,
            log_samples=True,
            confirm_run_unsafe_code=False,
        )
    return found["samples"]


def check_prompts(prompts: list[tuple[int, int]], length: int, settings: Mapping[str, Any]) -> None:
    """Refuse, or say, that prompts are cut; `prompts`: tokens before each answer, and of it.

    The last token of an answer is only predicted. Raises TaskError where a share of the prompts larger than `cut_prompts`
    (blank: none) does not fit into `length` tokens although the row promises examples, which are what is cut first, and
    where an answer does not fit.
    """
    sizes, answers = np.array(prompts).reshape(-1, 2).sum(axis=1), [answer for _, answer in prompts]
    cut, longest = int((sizes > length + 1).sum()), int(sizes.max(initial=1)) - 1
    place = f"Task {settings.get('task')!r}: "
    if (most := max(answers, default=0)) > length:
        raise TaskError(f"{place}an answer has {most} tokens, more than max_length = {length}. Raise max_length.")
    if not cut:
        return
    told = (
        f"{place}{cut:,} of {len(prompts):,} prompts have more than max_length = {length} tokens (the longest {longest}) and are "
        "cut from the left"
    )
    if settings["shots"] and cut > (settings.get("cut_prompts") or 0) * len(prompts):
        raise TaskError(
            f"{told}: they would show fewer than shots = {settings['shots']} examples. Raise max_length to {longest} where the "
            f"model has the positions, lower shots, or allow a share of {cut / len(prompts):.3f} in the column cut_prompts."
        )
    print(f"warning: {told}.", flush=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what lm-eval logs of its own defaults: what matters is raised as an error."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
