"""A model that collapsed is worth the floor of its metric, in every pattern, and its row says why."""

import json
import math
import types

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch

import find_ticket
import prune_eval
from essential_sparsity import files, tables, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.curves import agreement
from essential_sparsity.pruning import tickets
from essential_sparsity.runs import evaluation
from essential_sparsity.tasks import question_answering

FLOOR = {"matthews": 0.0, "spearman": 0.0, "pearson": 0.0, "masked_accuracy": 0.0}  # F1: 0 or that of all positive
FINETUNE = {key: tiny.FINETUNE[key] for key in ("protocol", "n_train", "n_eval", "batch_size", "learning_rate")}
RATED = tiny.SIMILARITY | FINETUNE | {"epochs": 1}


def save_mlm(folder):
    return tiny.save_bert(folder, auto_class="AutoModelForMaskedLM")


def questions():
    answers = [{"text": ["slow plot"], "answer_start": [10]}, {"text": ["good"], "answer_start": [0]}]
    rows = [{"item": f"q{i}", "question": ("bad", "fine")[i % 2], "answers": answers[i % 2]} for i in range(40)]
    return pd.DataFrame(rows).assign(context="good film slow plot")


CASES = {
    "probe": (tiny.save_bert, tiny.reviews, tiny.PROBE),
    "knn": (tiny.save_bert, tiny.reviews, tiny.PROBE | {"protocol": "knn"}),
    "classes": (tiny.save_bert, tiny.reviews, tiny.FINETUNE | {"epochs": 1}),
    "images": (tiny.save_vit, lambda: tiny.images(80), tiny.IMAGES | {"n_train": 40, "n_eval": 20}),
    "answers": (
        tiny.save_bert,
        questions,
        tiny.FINETUNE | {"kind": "question-answering", "epochs": 1, "n_train": 20, "n_eval": 12, "max_length": 24},
    ),
    "similarity": (tiny.save_bert, tiny.pairs, tiny.SIMILARITY),
    "ratings": (tiny.save_bert, lambda: tiny.pairs(60), RATED),
    "perplexity": (tiny.save_llama, tiny.reviews, tiny.PERPLEXITY),
    "masked": (save_mlm, tiny.reviews, tiny.MASKED),
}
RUINED = {"NaN": lambda tensor: tensor.fill_(math.nan), "zero": torch.zero_, "huge": lambda tensor: tensor.mul_(1e37)}

# All tokens are as likely: a perplexity is a value, but not of a model that reads; the huge LLaMA divides by an infinite norm, which leaves zeros.
UNIFORM = {("perplexity", "zero"), ("masked", "zero"), ("perplexity", "huge")}


@pytest.mark.parametrize("weights", RUINED)
@pytest.mark.parametrize("case", CASES)
def test_every_kind_has_values_from_ruined_weights(tmp_path, monkeypatch, case, weights):
    saver, data, settings = CASES[case]
    kind = tasks.load(settings["kind"])
    folder, run = saver(tmp_path / case), kind.run

    def ruined(model, *args):
        with torch.no_grad():
            for parameter in model.parameters():
                RUINED[weights](parameter)
        return run(model, *args)

    monkeypatch.setattr(kind, "run", ruined)
    for pattern, sparsity in (("dense", 0.0), ("global", 0.5)):
        ((level, outcome),) = evaluation.evaluate(folder, data(), settings, pattern, [sparsity], 0)
        assert all(np.isfinite(value) for value in outcome.metrics.values()), outcome.metrics
        assert np.isfinite(outcome.items[["score", "weight"]]).all(axis=None)
        if (case, weights) in UNIFORM:
            assert outcome.collapsed == "all predictions are equal"
            name = next(iter(outcome.metrics))
            assert outcome.metrics[name] == pytest.approx(16)
        assert outcome.collapsed
        if weights == "NaN":
            assert outcome.collapsed.endswith(("not finite", "have no finite perplexity"))
            assert {name: value for name, value in outcome.metrics.items() if name in FLOOR} == {
                name: value for name, value in FLOOR.items() if name in outcome.metrics
            }
            for name in {"perplexity", "pseudo_perplexity"} & set(outcome.metrics):
                assert outcome.metrics[name] == pytest.approx(1e300)
        rows = evaluation.run_rows(level, outcome, manifest(level), "x")
        assert set(rows["collapsed"]) == {outcome.collapsed}
        check_items(rows, outcome)


def check_items(rows, outcome):
    """Every value can be taken anew from the items, as intervals do."""
    key = {"model": "m", "task": "t", "pattern": "p", "seed": 0}
    agreement.checked(lambda runs: outcome.items.assign(sparsity=rows["sparsity"][0], **key))(rows.assign(**key))


def manifest(level):
    return {"n_prunable": level.n, "n_total": level.n, "dtype": "float32", "weights_sha256": "0"}


def test_a_model_that_tells_items_apart_is_not_flagged(tmp_path):
    """Some of these predict badly; none predicts nothing."""
    for case, (saver, data, settings) in CASES.items():
        ((level, outcome),) = evaluation.evaluate(saver(tmp_path / case), data(), settings, "dense", [0.0], 0)
        rows = evaluation.run_rows(level, outcome, manifest(level), "x")
        check_items(rows, outcome)
        if case in ("similarity", "perplexity", "masked"):
            assert outcome.collapsed is None
            assert rows["collapsed"].isna().all()


def test_questions_whose_outputs_are_not_finite_are_counted():
    offsets = np.array([[-1, -1], [0, 3], [4, 7], [-1, -1]])
    known = question_answering.Windows([0, 0, 1, 2], [offsets] * 4, ["one two"] * 3, [["two"]] * 3)
    logits = np.zeros((4, 2, 6), dtype=np.float32)
    logits[:, :, 4:] = -np.inf  # padding
    logits[:, :, 0] = np.nan  # of the question: no place for an answer

    def broken(logits):
        return question_answering.questions_with(logits, known, question_answering.not_finite)

    assert broken(logits).tolist() == [False, False, False]
    logits[1, 1, 2] = np.inf
    logits[3, 0, 1] = np.nan
    assert broken(logits).tolist() == [True, False, True]


def test_questions_whose_places_are_all_as_likely_have_no_answer():
    """The order of ties would give the first word, whatever stands there."""
    offsets = np.array([[-1, -1], [0, 3], [4, 7], [-1, -1]])
    one = np.array([[-1, -1], [0, 3], [-1, -1], [-1, -1]])
    known = question_answering.Windows([0, 0, 1, 2], [offsets, offsets, offsets, one], ["one two"] * 3, [["one"]] * 3)
    logits = np.full((4, 2, 4), 0.5, dtype=np.float32)
    logits[:, :, 0] = 3  # of the question
    logits[2, :, 1] += 1e-7
    logits[1, 1, 2] += 1
    assert question_answering.answers(logits, known) == ["one two", "", "one"]
    assert question_answering.levelled(logits, known).tolist() == [False, True, False]


# --- training


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """Manifests of a tiny model and of data to fine-tune it on, as fetching writes them."""
    root = tmp_path_factory.mktemp("job")
    model, data = tiny.save_bert(root / "model"), root / "data" / "files"
    data.mkdir(parents=True)
    tiny.reviews().to_parquet(data / "data.parquet", index=False)
    common = {"manifest_version": 1, "source": "path", "id": "tiny", "revision": None, "package": None}
    described = loading.describe(model) | {"model": "tiny", "folder": str(model)}
    for path, folder, said in (
        (root / "model.json", model, described),
        (root / "data" / "manifest.json", data, {"dataset": "tiny", "folder": "files"}),
    ):
        listed = [
            {"path": p.name, "sha256": files.sha256_file(p), "size": p.stat().st_size} for p in sorted(folder.iterdir())
        ]
        files.write_json(path, common | said | {"files": listed, "weights_sha256": loading.weights_sha256(listed)})
    return types.SimpleNamespace(root=root, model=model)


def call(program, job, **asked):
    """A program's `main` on the tiny job, fine-tuning at a rate."""
    threads = torch.get_num_threads()
    settings = tiny.FINETUNE | {"learning_rate": asked.pop("rate"), "threads": threads}
    asked |= {
        "model": "tiny", "task": "tiny", "seed": 0, "code": "c0de", "settings": json.dumps(settings),
        "manifest": job.root / "model.json", "data": job.root / "data/manifest.json",
    }  # fmt: skip
    try:
        program.main([word for name, value in asked.items() for word in (f"--{name}", str(value))])
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)


@pytest.mark.parametrize(("pattern", "level"), [("dense", "0.000"), ("global", "0.500")])
@pytest.mark.parametrize("rate", [1e3, 1e38])
def test_a_training_that_diverges_is_a_run_like_any_other(job, tmp_path, capsys, pattern, level, rate):
    outputs = {"runs": tmp_path / "runs", "items": tmp_path / "items", "work": tmp_path / "work"}
    call(prune_eval, job, rate=rate, pattern=pattern, sparsities=level, **outputs)
    runs, items = tables.read(tmp_path / "runs", "runs"), tables.read(tmp_path / "items", "items")
    assert set(runs["metric"]) == {"accuracy", "chance_corrected_accuracy", "matthews", "f1"}
    assert runs["value"].notna().all()
    assert set(runs["collapsed"]) == {evaluation.DIVERGED}
    assert items[["score", "prediction"]].notna().all(axis=None)
    assert "; collapsed: training diverged (" in capsys.readouterr().out


@pytest.mark.parametrize("rate", [1e3, 1e38])
def test_a_ticket_whose_training_diverged_is_a_ticket_and_its_runs_say_so(job, tmp_path, capsys, rate):
    """At 1e3 its weights are finite, at 1e38 they are no numbers."""
    ticket, digest = tmp_path / "0.200.safetensors", tmp_path / "0.200.sha256"
    call(find_ticket, job, rate=rate, sparsity="0.200", iteration=1, share=0.2, out=ticket, digest=digest)
    assert "The training of iteration 1 diverged" in capsys.readouterr().out
    outputs = {"runs": tmp_path / "runs", "items": tmp_path / "items"}
    call(prune_eval, job, rate=rate, pattern="lth", sparsities="0.200", tickets=ticket, **outputs)
    runs = tables.read(tmp_path / "runs", "runs")
    assert runs["value"].notna().all()
    assert set(runs["collapsed"]) == {f"the training of its ticket diverged in iteration 1; {evaluation.DIVERGED}"}


def test_a_sound_ticket_flags_nothing(job, tmp_path):
    ticket, digest = tmp_path / "0.200.safetensors", tmp_path / "0.200.sha256"
    call(find_ticket, job, rate=1e-4, sparsity="0.200", iteration=1, share=0.2, out=ticket, digest=digest)
    assert tickets.read(ticket, {}).collapsed is None


@pytest.mark.parametrize("rate", [1e3, 1e38])
def test_a_diverged_model_is_as_sparse_as_its_level_says(job, monkeypatch, rate):
    kind, seen = tasks.load("text-classification"), []
    run = kind.run

    def counting(model, *args):
        seen.append(sum(int((tensor == 0).sum()) for _, tensor in loading.prunable_parameters(model)))
        return run(model, *args)

    monkeypatch.setattr(kind, "run", counting)
    settings = tiny.FINETUNE | {"learning_rate": rate}
    found = evaluation.evaluate(job.model, tiny.reviews(), settings, "global", [0.3, 0.5], 0)
    assert [level.k for level, _ in found] == seen
