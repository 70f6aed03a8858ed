"""Suites of lm-eval on local documents: the same questions scored by hand, by lm-eval alone, and by this kind."""

import json
import math
import re
import shutil
from pathlib import Path

import definitions
import lm_eval.tasks
import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
import transformers
import yaml

from essential_sparsity import tasks
from essential_sparsity.acquire import formats
from essential_sparsity.pruning.masks import Level
from essential_sparsity.runs import evaluation
from essential_sparsity.study import tsv
from essential_sparsity.tasks import TaskError, perplexity
from essential_sparsity.tasks import lm_eval as suites

definitions.keep()
ROOT = Path(__file__).parents[2]
SETTINGS = {
    "task": "quiz",
    "dataset": "quiz",
    "kind": "lm-eval",
    "protocol": "zero-shot",
    "suite": "quiz",
    "shots": 0,
    "max_length": 32,
    "allow_code": True,
}
DRAW = np.random.default_rng(0)
DEFINITION = """
task: {name}
dataset_path: json
dataset_name: {config}
output_type: multiple_choice
test_split: test
fewshot_split: dev
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
num_fewshot: 0
metric_list:
  - metric: acc
  - metric: acc_norm
"""
GROUP = """
group: quiz
task: [film, plot]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
"""


def questions(n):
    return [
        {
            "question": " ".join(DRAW.choice(tiny.WORDS, 4)),
            "choices": [" ".join(DRAW.choice(tiny.WORDS, size)) for size in (1, 2, 3)],
            "answer": int(DRAW.integers(3)),
        }
        for _ in range(n)
    ]


@pytest.fixture(scope="module")
def gpt(tmp_path_factory):
    return tiny.save_decoder(tmp_path_factory.mktemp("gpt"), "GPT2")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two tasks of a group, as JSON lines and as Parquet, with their definitions."""
    folder = tmp_path_factory.mktemp("quiz")
    for name, size in (("film", 7), ("plot", 5)):
        (folder / name).mkdir()
        for split, n in (("test", size), ("dev", 4)):
            rows = questions(n)
            if name == "film":
                (folder / name / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
            else:
                pd.DataFrame(rows).to_parquet(folder / name / f"{split}-00000-of-00001.parquet")
        (folder / f"{name}.yaml").write_text(DEFINITION.format(name=name, config=name))
    (folder / "quiz.yaml").write_text(GROUP)
    return folder


@pytest.fixture(scope="module")
def data(source, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    formats.fetch_dataset("quiz", {"source": "path", "id": str(source), "format": "lm-eval"}, work)
    return pd.read_parquet(work / "files/data.parquet")


def run(gpt, data, sparsities=(0.0,), **changed):
    found = evaluation.evaluate(gpt, data, SETTINGS | changed, "global", sparsities, 0)
    return [outcome for _, outcome in found]


def likelihood(gpt, model, context, answer):
    """Sum of the log-probabilities of the answer's tokens; the library puts a blank between question and answer."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(gpt)
    before, after = (tokenizer(text)["input_ids"] for text in (context, answer))
    with torch.no_grad():
        scores = model(torch.tensor([before + after])).logits[0].double().log_softmax(dim=-1)
    return sum(float(scores[len(before) + i - 1, token]) for i, token in enumerate(after))


def test_documents_keep_their_splits_and_types(data):
    assert set(data["split"]) == {"test", "dev", "yaml"}
    counts = data[data["split"] != "yaml"].groupby(["config", "split"]).size()
    assert counts.to_dict() == {("film", "dev"): 4, ("film", "test"): 7, ("plot", "dev"): 4, ("plot", "test"): 5}
    assert all(isinstance(json.loads(text)["answer"], int) for text in data["document"][data["split"] == "test"])


def test_a_suite_is_scored_as_by_hand(gpt, data):
    (outcome,) = run(gpt, data)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    scores = {}
    for config in ("film", "plot"):
        texts = data["document"][(data["config"] == config) & (data["split"] == "test")]
        for index, row in enumerate(map(json.loads, texts)):
            found = [likelihood(gpt, model, row["question"], choice) for choice in row["choices"]]
            lengths = [len(choice) for choice in row["choices"]]
            best = int(np.argmax(found)), int(np.argmax(np.array(found) / lengths))
            scores[f"{config}-{index:06d}"] = [float(choice == row["answer"]) for choice in best]
    expected = np.array([scores[item] for item in outcome.items["item"]])
    np.testing.assert_array_equal(outcome.items[["score", "second_score"]], expected)
    assert outcome.metrics == pytest.approx(
        dict(zip(("accuracy", "normalised_accuracy"), expected.mean(axis=0), strict=True))
    )


def test_the_right_choice_of_an_item_is_its_target(gpt, data):
    (_, outcome), *_ = evaluation.evaluate(gpt, data, SETTINGS, "dense", [0.0], 0)
    asked = {
        f"{row['config']}-{index:06d}": json.loads(row["document"])["answer"]
        for _, part in data[data["split"] == "test"].groupby("config")
        for index, row in enumerate(part.to_dict("records"))
    }
    found = dict(zip(outcome.items["item"], outcome.items["target"], strict=True))
    assert found == asked


def test_a_suite_has_the_scores_that_lm_eval_reports(gpt, data):
    """Its own call, with the shots told: 0 in a definition would otherwise stay 0."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    settings = SETTINGS | {"shots": 2}
    prepared = suites.prepare(gpt, data, settings, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    ours = suites.run(model, prepared, settings, 0, "cpu")
    own = suites.build(data, settings)
    for task in own["tasks"].values():
        task.set_config(key="num_fewshot", value=None)
    wrapped = HFLM(pretrained=model, tokenizer=prepared.reference[1], max_length=32)
    theirs = simple_evaluate(
        wrapped,
        tasks=[*own["groups"].values()],
        num_fewshot=2,
        use_cache=None,
        cache_requests=False,
        bootstrap_iters=0,
        task_manager=TaskManager(include_defaults=False),  # there is no need to look at the 14,000 that it brings
    )
    assert {theirs["configs"][name]["num_fewshot"] for name in ("film", "plot")} == {2}
    assert theirs["results"]["quiz"]["acc,none"] == pytest.approx(ours.metrics["accuracy"], abs=1e-4)
    for name in ("film", "plot"):
        mine = ours.items[ours.items["item"].str.startswith(name)]
        assert theirs["results"][name]["acc,none"] == pytest.approx(mine["score"].mean(), abs=1e-4)
        assert theirs["results"][name]["acc_norm,none"] == pytest.approx(mine["second_score"].mean(), abs=1e-4)
    again = suites.evaluated(model, prepared, settings)
    for name, samples in theirs["samples"].items():
        asked, prompts = (
            [sample["arguments"][0][0] for sample in sorted(rows, key=lambda sample: sample["doc_id"])]
            for rows in (samples, again[name])
        )
        assert prompts == asked  # the same two examples before each question
        assert all(prompt.count("\n\n") == 2 for prompt in prompts)


@pytest.mark.parametrize(("length", "dtype"), [(32, torch.float16), (5, torch.float32)])
def test_likelihoods_are_of_the_last_tokens_that_fit_and_taken_in_float32(gpt, data, length, dtype):
    """Of half precision's logits too, whose own logarithms have three digits."""
    settings = SETTINGS | {"max_length": length}
    prepared = suites.prepare(gpt, data, settings, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt, dtype=dtype)
    tokenizer, cut = prepared.reference[1], 0
    for rows in suites.evaluated(model, prepared, settings).values():
        for row in rows:
            for choice, (found, _) in zip(row["doc"]["choices"], row["filtered_resps"], strict=True):
                before, after = (tokenizer(text)["input_ids"] for text in (row["doc"]["question"], choice))
                kept = [*before, *after][-length - 1 :]
                cut += len(kept) < len(before) + len(after)
                with torch.inference_mode():
                    scores = model(torch.tensor([kept[:-1]])).logits[0, -len(after) :].double().log_softmax(dim=-1)
                by_hand = scores.gather(1, torch.tensor(after)[:, None]).sum()
                assert float(found) == pytest.approx(float(by_hand), abs=1e-3 if dtype == torch.float16 else 1e-5)
    assert bool(cut) == (length == 5)


def test_window_losses_are_those_of_lm_eval(gpt):
    from lm_eval.models.huggingface import HFLM

    prepared = perplexity.prepare(gpt, tiny.reviews(), tiny.PERPLEXITY, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    ours = perplexity.run(model, prepared, tiny.PERPLEXITY, 0, "cpu")
    wrapped = HFLM(pretrained=model, tokenizer=transformers.AutoTokenizer.from_pretrained(gpt), max_length=32)
    windows = [row["input_ids"] for row in prepared.inputs]
    theirs = wrapped._loglikelihood_tokens([(("", ""), ids[:1], ids[1:]) for ids in windows], disable_tqdm=True)
    losses = [-loss for loss, _ in theirs]
    np.testing.assert_allclose(ours.items["score"], losses, atol=1e-4)
    tokens = sum(len(ids) - 1 for ids in windows)
    assert ours.metrics["perplexity"] == pytest.approx(math.exp(sum(losses) / tokens), rel=1e-4)


def test_every_sparsity_gets_answers_of_its_own(gpt, data):
    """A response cache would hand out the dense answers; and the same examples stand before each question."""
    dense, pruned = run(gpt, data, (0.0, 0.9), shots=2)
    assert dense.items["item"].tolist() == pruned.items["item"].tolist()
    settings = SETTINGS | {"shots": 2}
    prepared = suites.prepare(gpt, data, settings, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    asked = [suites.evaluated(model, prepared, settings)["film"]]
    model.transformer.h[0].mlp.c_fc.weight.data.zero_()
    asked.append(suites.evaluated(model, prepared, settings)["film"])
    prompts, answers = ([[row[key] for row in rows] for rows in asked] for key in ("prompt_hash", "filtered_resps"))
    assert prompts[0] == prompts[1]
    assert all(first != second for first, second in zip(*answers, strict=True))


def test_a_broken_model_answers_nothing(gpt, data):
    prepared = suites.prepare(gpt, data, SETTINGS, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    model.lm_head.weight.data.fill_(math.nan)
    outcome = suites.run(model, prepared, SETTINGS, 0, "cpu")
    assert outcome.metrics == {"accuracy": 0, "normalised_accuracy": 0}
    assert outcome.collapsed == "12 of 12 items have likelihoods that are not finite"


def test_a_model_that_always_takes_one_choice_says_so(gpt, data, monkeypatch):
    """All tokens are as likely: the shortest choice is the likeliest, which stands first in this quiz."""
    prepared = suites.prepare(gpt, data, SETTINGS, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    model.lm_head.weight.data.zero_()
    outcome = suites.run(model, prepared, SETTINGS, 0, "cpu")
    assert outcome.metrics["accuracy"] == np.mean(outcome.items["target"] == 0)
    assert outcome.collapsed == "one choice is predicted for all items"
    samples = suites.evaluated(model, prepared, SETTINGS)
    with monkeypatch.context() as alike:
        alike.setattr(suites._documents, "answer_of", lambda *_: 0.0)
        assert suites.run(model, prepared, SETTINGS, 0, "cpu").collapsed is None  # one choice is right for all
    samples["plot"][0]["filtered_resps"].reverse()
    monkeypatch.setattr(suites, "evaluated", lambda *_: samples)
    assert suites.run(model, prepared, SETTINGS, 0, "cpu").collapsed is None


def test_the_likeliest_choice_is_none_of_the_likelihoods_without_the_question(data):
    """`acc_mutual_info` asks for those too, and lm-eval records them behind the others."""
    task = suites.build(data, SETTINGS)["tasks"]["film"]
    answers = [(-3.0, False), (-1.0, False), (-2.0, False), (-0.5, False), (-0.2, False), (-0.1, False)]
    assert suites._documents.likeliest(task, {"doc": questions(1)[0], "filtered_resps": answers}) == 1


def test_fewer_items_of_each_task(gpt, data):
    (outcome,) = run(gpt, data, n_eval=3)
    assert outcome.items["item"].str.partition("-")[0].value_counts().to_dict() == {"film": 3, "plot": 3}


PARTS = {"stem": "film", "other": "plot"}


def grouped(data, parts=PARTS):
    """The quiz as a suite of groups of tasks, as MMLU is one of four."""
    texts = {name: f"group: quiz_{name}\ntask: [{own}]\n" for name, own in parts.items()}
    texts["quiz"] = GROUP.replace("film, plot", ", ".join(f"quiz_{name}" for name in parts))
    rows = [{"item": f"{name}.yaml", "split": "yaml", "document": text} for name, text in texts.items()]
    return pd.concat([data[data["document"] != GROUP], pd.DataFrame(rows)], ignore_index=True)


def test_a_group_of_the_suite_is_a_metric_of_its_own_items(gpt, data):
    """Value and number of items in the table of runs are those of the stored items."""
    (whole,), (found,) = run(gpt, data), run(gpt, grouped(data))
    assert set(whole.metrics) == {"accuracy", "normalised_accuracy"}
    assert whole.items["group"].isna().all()
    assert list(found.metrics) == ["accuracy", "normalised_accuracy", "accuracy_stem", "accuracy_other"]
    assert found.items.drop(columns="group").equals(whole.items.drop(columns="group"))
    manifest = {"n_prunable": 1, "n_total": 2, "dtype": "float32", "weights_sha256": "a"}
    level = Level(sparsity=0.0, k=0, n=1)
    rows = evaluation.run_rows(level, found, manifest, "zero-shot").set_index("metric")
    for (group, task), n in zip(PARTS.items(), (7, 5), strict=True):
        own, row = found.items[found.items["group"] == group], rows.loc[f"accuracy_{group}"]
        assert own["item"].tolist() == [f"{task}-{i:06d}" for i in range(n)]
        assert (row["value"], row["n_items"]) == (own["score"].mean(), n)
    assert rows.loc[["accuracy", "normalised_accuracy"], "n_items"].tolist() == [12, 12]


def test_a_group_that_the_suite_lacks_is_refused_before_anything_is_evaluated(gpt, data):
    message = "metric 'accuracy_stem' is that of the group 'stem', but the suite 'quiz' has "
    with pytest.raises(TaskError, match=message + "nothing. Leave it out of metrics"):
        run(gpt, data, metrics="accuracy,accuracy_stem")
    with pytest.raises(TaskError, match=message + "other. Leave it out"):
        run(gpt, grouped(data, {"other": "plot"}), metrics="accuracy_stem")
    with pytest.raises(TaskError, match=message + "nothing"):  # a task in two groups has none
        run(gpt, grouped(data, PARTS | {"other": "film, plot"}), metrics="accuracy_stem")


def test_mmlu_is_read_from_the_layout_of_its_repository(gpt, tmp_path, monkeypatch):
    """lm-eval's own definitions on a row of config/tasks.tsv: 57 subjects in four groups, five examples of `dev` each."""
    tags = {}
    row = next(row for row in tsv.read_table(str(ROOT / "config/tasks.tsv"), "tasks", "task") if row["task"] == "mmlu")
    for path in (Path(lm_eval.tasks.__file__).parent / "mmlu/default").glob("mmlu_*.yaml"):
        definition = yaml.load(path.read_text(), yaml.BaseLoader)
        subject, tags[definition["task"]] = definition["dataset_name"], definition["tag"]
        for split, n in (("test", 2), ("dev", 5), ("validation", 1)):
            file = tmp_path / "hub" / subject / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True, exist_ok=True)
            rows = [
                question | {"choices": [*question["choices"], "dull"], "subject": subject} for question in questions(n)
            ]
            pd.DataFrame(rows).to_parquet(file)
    (tmp_path / "work").mkdir()
    formats.fetch_dataset(
        "mmlu", {"source": "path", "id": str(tmp_path / "hub"), "format": row["format"]}, tmp_path / "work"
    )
    data = pd.read_parquet(tmp_path / "work/files/data.parquet")
    monkeypatch.setattr(suites._text, "check_ids", lambda *_: None)  # hardly a word of lm-eval's is known to the model
    settings = row | {"max_length": 32, "cut_prompts": 1.0}
    prepared = suites.prepare(gpt, data, settings, 0)
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    outcome = suites.run(model, prepared, settings, 0, "cpu")
    assert len(outcome.items) == 57 * 2
    assert ",".join(outcome.metrics) == row["metrics"]
    assert outcome.items["item"].str.partition("-")[0].map(tags).tolist() == [
        f"mmlu_{group}_tasks" for group in outcome.items["group"]
    ]
    assert outcome.counts == {
        f"accuracy_{group}": 2 * n
        for group, n in (("stem", 19), ("humanities", 13), ("social_sciences", 12), ("other", 13))
    }
    shares = [outcome.metrics[name] * n for name, n in outcome.counts.items()]
    assert sum(shares) == pytest.approx(outcome.metrics["accuracy"] * len(outcome.items))
    prompt = suites.evaluated(model, prepared, settings)["mmlu_anatomy"][0]["arguments"][0][0]
    shown = [json.loads(text) for text in data["document"][data["item"].str.startswith("anatomy/dev")]]
    assert prompt.startswith("The following are multiple choice questions (with answers) about anatomy.")
    assert [prompt.index(example["question"]) for example in shown] == sorted(
        prompt.index(e["question"]) for e in shown
    )
    assert prompt.count("Answer:") == 6


def test_what_a_suite_cannot_use_is_told(gpt, data):
    with pytest.raises(tasks.TaskError, match=r"no suite 'quizz' in the data set \(film, plot, quiz\)"):
        suites.prepare(gpt, data, SETTINGS | {"suite": "quizz"}, 0)
    with pytest.raises(tasks.TaskError, match=r"reads the configuration 'plot' .* has film, other"):
        suites.prepare(gpt, data.assign(config=data["config"].replace("plot", "other")), SETTINGS, 0)
    film = data[(data["config"] == "film") | (data["split"] == "yaml")]
    with pytest.raises(tasks.TaskError, match=r"several configurations .*film, plot\), but 'quiz' has 'film' alone"):
        suites.prepare(gpt, film, SETTINGS, 0)
    other = data.assign(
        document=data["document"]
        .str.replace("metric: acc$", "metric: f1", regex=True)
        .str.replace("- metric: acc\n  - metric: acc_norm", "- metric: f1")
    )
    with pytest.raises(tasks.TaskError, match="is not scored by accuracy but by f1"):
        suites.prepare(gpt, other, SETTINGS, 0)


def test_documents_under_another_name_than_the_suite_s_are_said(gpt, data, capsys):
    film = data[(data["config"] == "film") | (data["split"] == "yaml")]
    suites.prepare(gpt, film, SETTINGS | {"suite": "film"}, 0)
    assert "reads the configuration" not in capsys.readouterr().out
    suites.prepare(gpt, film.assign(config=film["config"].replace("film", "data")), SETTINGS | {"suite": "film"}, 0)
    assert (
        "film reads the configuration 'film' of its data set; these documents are of 'data'" in capsys.readouterr().out
    )


OUT = r"the answer is {}; expected is the place of one of its 3 choices, counted from 0, or its text\. Correct it"
UNFIT = {
    "not published": (lambda i, row: {"answer": -1}, "document 0 .*" + OUT.format("'-1'")),
    "some not published": (lambda i, row: {"answer": -1} if i == 3 else {}, r"document 3 \(from 0\) of quiz: " + OUT.format("'-1'")),
    "counted from 1": (lambda i, row: {"answer": row["answer"] + 1}, OUT.format("3")),
    "null": (lambda i, row: {"answer": None} if i == 3 else {}, "document 3 .*" + OUT.format("'None'")),
    "letters": (lambda i, row: {"answer": "ABC"[row["answer"]]}, "document 0 .*" + OUT.format("'[ABC]'")),
    "an empty choice": (lambda i, row: {"choices": ["", *row["choices"][1:]]}, "document 0 .*: the choice 0 .* is ''"),
    "an empty choice later": (lambda i, row: {"choices": ["good", " "]} if i == 4 else {}, "document 4 .*: the choice 1 .* is ' '"),
    "no choices": (lambda i, row: {"choices": []}, r"document 0 .*: it has no choices \(\[\]\)"),
    "one choice": (lambda i, row: {"choices": ["good"], "answer": 0} if i == 1 else {}, "document 1 .*: it has one choice alone .'good'."),
    "a key missing in the first": (lambda i, row: {"question": ...} if i == 0 else {}, "document quiz/test-0+0: it has no key 'question'"),
    "a key missing later": (lambda i, row: {"question": ...} if i == 2 else {}, "document quiz/test-0+2: it has no key 'question'"),
    "a key missing in all": (lambda i, row: {"question": ...}, "document 0 .*cannot be filled in .*'question' is undefined"),
}  # fmt: skip


def alone(tmp_path, change):
    """A suite of one task whose documents are changed: `...` takes a key away."""
    (tmp_path / "quiz").mkdir()
    rows = [row | change(i, row) for i, row in enumerate([*questions(5), questions(1)[0] | {"answer": 2}])]
    lines = [json.dumps({key: value for key, value in row.items() if value is not ...}) for row in rows]
    (tmp_path / "quiz/test.jsonl").write_text("\n".join(lines))
    definition = DEFINITION.format(name="quiz", config="quiz").replace("fewshot_split: dev\n", "")
    (tmp_path / "quiz.yaml").write_text(definition.replace("dataset_name: quiz\n", ""))
    work = tmp_path / "work"
    work.mkdir()
    formats.fetch_dataset("quiz", {"source": "path", "id": str(tmp_path), "format": "lm-eval"}, work)
    return pd.read_parquet(work / "files/data.parquet")


@pytest.mark.parametrize("case", UNFIT)
def test_documents_that_no_answer_would_get_right_are_refused_by_name(gpt, tmp_path, case):
    change, message = UNFIT[case]
    with pytest.raises(TaskError, match=message):
        suites.prepare(gpt, alone(tmp_path, change), SETTINGS, 0)


@pytest.mark.parametrize("form", [str, int, "the choice"])
def test_answers_are_places_or_choices(gpt, tmp_path, form):
    data = alone(
        tmp_path,
        lambda i, row: {"answer": row["choices"][row["answer"]] if form == "the choice" else form(row["answer"])},
    )
    assert len(run(gpt, data)[0].items) == 6


def test_documents_that_are_not_evaluated_need_no_answer(gpt, tmp_path):
    data = alone(tmp_path, lambda i, row: {"answer": -1} if i >= 4 else {})
    assert len(run(gpt, data, n_eval=4)[0].items) == 4


@pytest.mark.parametrize("answer", [-1, None, ""])
def test_documents_without_an_answer_are_no_examples_and_are_counted(gpt, source, tmp_path, capsys, answer):
    folder = tmp_path / "quiz"
    shutil.copytree(source, folder)
    dev = folder / "film/dev.jsonl"
    rows = [json.loads(line) | {"question": f"good{i}"} for i, line in enumerate(dev.read_text().splitlines())]
    for index, row in enumerate(rows):  # answers are of one type
        right = str(row["answer"]) if answer == "" else row["answer"]
        row["answer"] = answer if index in (1, 2) else right
    dev.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    formats.fetch_dataset("quiz", {"source": "path", "id": str(folder), "format": "lm-eval"}, tmp_path)
    data = pd.read_parquet(tmp_path / "files/data.parquet")
    prepared = suites.prepare(gpt, data, SETTINGS | {"shots": 2}, 0)
    assert re.search(
        r"2 of the 4 documents that film draws its examples from are none \(document 1, from 0: the answer is .*left out",
        capsys.readouterr().out,
    )
    model = transformers.AutoModelForCausalLM.from_pretrained(gpt)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(suites._text, "check_ids", lambda *_: None)  # the questions are no words of the model's
        samples = suites.evaluated(model, prepared, SETTINGS | {"shots": 2})["film"]
    shown = {tuple(sorted(re.findall(r"good\d", sample["arguments"][0][0]))) for sample in samples}
    assert shown == {("good0", "good3")}
    with pytest.raises(TaskError, match=r"2 are left for shots = 3\. Give them answers, or lower shots"):
        suites.prepare(gpt, data, SETTINGS | {"shots": 3}, 0)
    suites.prepare(gpt, data, SETTINGS, 0)  # shows none
    assert "examples" not in capsys.readouterr().out


# --- definitions that can run code


HOSTILE = {
    "a template": (
        'doc_to_text: "{{question}}"',
        "doc_to_text: \"{{cycler.__init__.__globals__.os.system('touch PLACE')}}\"",
    ),
    "a function": ('doc_to_text: "{{question}}"', "doc_to_text: !function evil.text"),
    "a template of choices": ("{{choices}}", "{{cycler.__init__.__globals__.os.system('touch PLACE')}}"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_definitions_run_nothing_unless_the_row_allows_it(gpt, source, tmp_path, case):
    folder, place = tmp_path / "quiz", tmp_path / "ran"
    shutil.copytree(source, folder)
    (folder / "evil.py").write_text(f"import os\nos.system('touch {place}')\ndef text(doc): return 'x'\n")
    old, new = HOSTILE[case]
    for name in ("film", "plot"):
        text = (folder / f"{name}.yaml").read_text()
        assert old in text
        (folder / f"{name}.yaml").write_text(text.replace(old, new.replace("PLACE", str(place))))
    formats.fetch_dataset("quiz", {"source": "path", "id": str(folder), "format": "lm-eval"}, tmp_path / "work")
    data = pd.read_parquet(tmp_path / "work/files/data.parquet")
    for given in (None, False):
        with pytest.raises(TaskError, match=r"brings 3 definitions of tasks \(.*can run any code.*column allow_code"):
            run(gpt, data, allow_code=given)
    assert not place.exists()


def test_definitions_of_a_hub_or_a_package_are_left_out_and_said(source, tmp_path, monkeypatch):
    obtain = formats.sources.obtain
    monkeypatch.setattr(
        formats.sources, "obtain", lambda settings, *rest, **more: obtain(settings | {"source": "path"}, *rest, **more)
    )
    manifest = formats.fetch_dataset("quiz", {"source": "hub", "id": str(source), "format": "lm-eval"}, tmp_path)
    assert "yaml" not in manifest["n_rows"]
    assert ["film.yaml", "defines tasks: read from a local folder alone"] in [
        list(pair) for pair in manifest["report"]["files_left_out"]["first"]
    ]


def test_what_is_allowed_is_named_in_the_log(gpt, data, capsys):
    run(gpt, data)
    assert "Definitions of tasks that may run code (allow_code): " in capsys.readouterr().out


# --- prompts that do not fit


@pytest.mark.parametrize(("shots", "length"), [(1, 8), (2, 12), (4, 16)])
def test_prompts_that_would_lose_their_examples_are_refused(gpt, data, shots, length):
    with pytest.raises(TaskError, match=rf"prompts have more than max_length = {length} tokens \(the longest \d+\) .*"
                       rf"fewer than shots = {shots} examples. Raise max_length to \d+"):  # fmt: skip
        run(gpt, data, shots=shots, max_length=length)


def test_prompts_that_fit_exactly_are_not_cut(gpt, data, capsys):
    with pytest.raises(TaskError) as told:
        run(gpt, data, shots=2, max_length=12)
    longest = int(re.search(r"the longest (\d+)", str(told.value))[1])
    whole = run(gpt, data, shots=2, max_length=longest)
    assert whole[0].metrics == run(gpt, data, shots=2, max_length=32)[0].metrics
    assert "cut" not in capsys.readouterr().out
    with pytest.raises(TaskError, match=f"longest {longest}"):
        run(gpt, data, shots=2, max_length=longest - 1)


def test_more_examples_than_documents_are_refused(gpt, data):
    suites.prepare(gpt, data, SETTINGS | {"shots": 0}, 0)
    with pytest.raises(TaskError, match=r"draws its examples from \d documents; \d are left for shots = 99\."):
        suites.prepare(gpt, data, SETTINGS | {"shots": 99}, 0)


def test_a_share_of_them_may_be_cut_where_the_row_allows_it_and_is_said(gpt, data, capsys):
    run(gpt, data, shots=2, max_length=12, cut_prompts=1.0)
    assert re.search(
        r"warning: Task 'quiz': \d+ of \d+ prompts have more than max_length = 12", capsys.readouterr().out
    )
    with pytest.raises(TaskError, match=r"allow a share of [01]\.\d+ in the column cut_prompts"):
        run(gpt, data, shots=2, max_length=12, cut_prompts=0.001)


def test_questions_without_examples_that_are_cut_are_said(gpt, data, capsys):
    run(gpt, data, shots=0, max_length=4)
    assert "cut from the left" in capsys.readouterr().out
    run(gpt, data, shots=0, max_length=32)
    assert "cut from the left" not in capsys.readouterr().out


def test_an_answer_that_does_not_fit_is_refused(gpt, data):
    with pytest.raises(TaskError, match="an answer has 3 tokens, more than max_length = 2"):
        run(gpt, data, shots=0, max_length=2)
