"""One job walks its levels as single runs would, and its program writes the two tables."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_models as tiny
import torch
import transformers

import prune_eval
from essential_sparsity import __version__, files, tables, tasks
from essential_sparsity.checkpoints import loading
from essential_sparsity.runs import evaluation, lottery
from essential_sparsity.training import finetuning

LEVELS = [0.3, 0.5, 0.8]
CASES = {
    "probe": (tiny.save_bert, tiny.reviews, tiny.PROBE),
    "similarity": (tiny.save_bert, tiny.pairs, tiny.SIMILARITY),
    "perplexity": (tiny.save_llama, tiny.reviews, tiny.PERPLEXITY),
    "images": (tiny.save_vit, tiny.images, tiny.IMAGES),
    "finetune": (tiny.save_bert, tiny.reviews, tiny.FINETUNE | {"epochs": 1}),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    savers = {saver for saver, _, _ in CASES.values()}
    return {saver: saver(tmp_path_factory.mktemp("model")) for saver in savers} | {
        "root": tmp_path_factory.mktemp("job")
    }


def evaluate(folders, case, pattern="global", sparsities=LEVELS, seed=0, **changed):
    saver, data, settings = CASES[case]
    return list(evaluation.evaluate(folders[saver], data(), settings | changed, pattern, sparsities, seed))


def same(first, second):
    assert first[0] == second[0]
    assert first[1].metrics == second[1].metrics
    pd.testing.assert_frame_equal(first[1].items, second[1].items, check_exact=True)


@pytest.mark.parametrize("case", ["probe", "similarity", "perplexity", "images"])
@pytest.mark.parametrize("pattern", ["global", "erk-random"])
def test_a_walk_over_levels_equals_a_fresh_run_of_each(folders, case, pattern):
    walked = evaluate(folders, case, pattern)
    assert [level.sparsity for level, _ in walked] == LEVELS
    for found in walked:
        same(found, evaluate(folders, case, pattern, [found[0].sparsity])[0])
    scores = [tuple(outcome.items["score"]) for _, outcome in walked]
    assert len(set(scores)) > 1  # pruning reached the model that was evaluated


@pytest.fixture
def trained(monkeypatch):
    """Weights of each model as training left them, in the order of training."""
    found = []
    train_ = finetuning.train_

    def keep(model, *args):
        train_(model, *args)
        found.append({name: value.clone() for name, value in model.state_dict().items()})

    monkeypatch.setattr(finetuning, "train_", keep)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_training_is_given_the_training_rows_alone(folders, monkeypatch, seed):
    """Those of the run's own seed, in runs as in tickets."""
    seen, (saver, data, settings) = [], CASES["finetune"]
    monkeypatch.setattr(finetuning, "train_", lambda model, rows, *args: seen.append(list(rows)) or False)
    ((_, outcome),) = evaluate(folders, "finetune", sparsities=[0.3], seed=seed)
    lottery.ticket(folders[saver], data(), settings, {}, 0.2, seed)
    train, evaluated = tasks.split(data(), settings, seed)
    assert outcome.items["item"].tolist() == evaluated["item"].tolist()
    assert not set(train["item"]) & set(evaluated["item"])
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders[saver])
    expected = tokenizer(train["text"].tolist(), truncation=True, max_length=settings["max_length"])["input_ids"]
    for rows in seen:
        assert [row["input_ids"] for row in rows] == expected
        assert [("bad", "good")[row["labels"]] for row in rows] == train["label"].tolist()
    assert len(seen) == 2


def test_finetuning_starts_from_dense_weights_at_every_level(folders, trained):
    evaluate(folders, "finetune", sparsities=[0.3, 0.8])
    evaluate(folders, "finetune", sparsities=[0.8])
    first, second, alone = trained
    assert all(torch.equal(second[name], alone[name]) for name in alone)
    assert any(not torch.equal(first[name], second[name]) for name in alone)


def test_levels_are_walked_in_ascending_order_however_they_are_given(folders):
    for found, ascending in zip(
        evaluate(folders, "similarity", sparsities=[0.8, 0.3, 0.5]), evaluate(folders, "similarity"), strict=True
    ):
        same(found, ascending)


def test_nm_levels_say_what_they_keep(folders):
    ((level, _),) = evaluate(folders, "similarity", "nm4", [0.5])
    assert (level.keep, level.group, level.k / level.n) == (2, 4, 0.5)


def test_dense_is_the_model_as_it_is_stored(folders):
    ((level, outcome),) = evaluate(folders, "perplexity", "dense", [0.0])
    saver, data, settings = CASES["perplexity"]
    task = tasks.load("perplexity")
    model = loading.load_model(folders[saver], tasks.auto_class(settings))
    prepared = task.prepare(folders[saver], data(), settings, 0)
    assert outcome.metrics == task.run(model, prepared, settings, 0, "cpu").metrics
    assert (level.k, level.keep, level.group) == (0, None, None)
    assert level.n == sum(parameter.numel() for parameter in loading.parameters(model).values())
    assert level == evaluate(folders, "perplexity", "global", [0.0])[0][0]


def test_dense_has_one_sparsity(folders):
    with pytest.raises(ValueError, match=r"'dense' prunes nothing: its one sparsity is 0, not 0\.5"):
        evaluate(folders, "perplexity", "dense", [0.5])


def test_seeds_share_evaluated_items_and_nothing_else(folders):
    first, second = (evaluate(folders, "finetune", "random", [0.5], seed)[0] for seed in (0, 1))
    assert first[1].items["item"].tolist() == second[1].items["item"].tolist()
    assert first[0].k == second[0].k
    assert first[0].per_tensor != second[0].per_tensor


@pytest.mark.parametrize("pattern", ["global", "layerwise", "random", "erk", "nm2"])
def test_finetuned_models_are_as_sparse_as_their_level_says(folders, pattern, trained):
    ((level, _),) = evaluate(folders, "finetune", pattern, [0.5])
    zeros = {name: int((trained[0][f"bert.{name}"] == 0).sum()) for name in level.per_tensor}
    assert zeros == level.per_tensor
    assert sum(zeros.values()) == level.k


def test_training_with_other_masks_than_the_level_counts_is_an_error(folders, monkeypatch):
    masks_of = evaluation.masks.Plan.masks
    monkeypatch.setattr(evaluation.masks.Plan, "masks", lambda self, s: list(masks_of(self, s))[1:])
    monkeypatch.setattr(evaluation.masks.Plan, "prune_", lambda self, s: evaluation.Level(s, self.n // 2, self.n))
    monkeypatch.setattr(finetuning, "train_", lambda *args: None)
    with pytest.raises(finetuning.TrainingError, match="Training held"):
        evaluate(folders, "finetune", sparsities=[0.5])


def test_one_held_weight_more_or_less_than_the_level_has_is_an_error():
    masks = {"a": torch.tensor([True, False, True]), "b": torch.tensor([[True, False]])}
    evaluation.check_count(masks, evaluation.Level(0.6, 3, 5))
    for k in (2, 4):
        with pytest.raises(finetuning.TrainingError, match=f"Training held 3 pruned weights, but the level has {k}"):
            evaluation.check_count(masks, evaluation.Level(0.6, k, 5))


# --- the rows


MANIFEST = {"n_prunable": 200, "n_total": 500, "dtype": "bfloat16", "weights_sha256": "aa"}
CALIBRATED = {"calibration": "web", "calibration_sequences": 8, "calibration_tokens": 64, "calibration_seed": 3}
CALIBRATED |= {"calibration_drawn_sha256": "bb", "damping": 0.01, "uncalibrated": 0}


def test_each_metric_has_a_row_that_says_all_of_its_level_its_model_and_its_outcome():
    level = evaluation.Level(0.5, 90, 200, keep=2, group=4, tail=20, calibration=CALIBRATED)
    items = pd.DataFrame({"item": ["a", "b", "c"]})
    outcome = tasks.Outcome({"accuracy": 0.25, "f1": None}, items, "one class", {"f1": 2})
    rows = evaluation.run_rows(level, outcome, MANIFEST, "probe").astype(object)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "workflow": __version__}
    alike = MANIFEST | CALIBRATED | versions | {"protocol": "probe", "collapsed": "one class", "sparsity": 0.5, "k": 90}
    alike |= {"keep": 2, "group": 4, "sparsity_actual": 0.45, "sparsity_total": 0.18}
    first, second = rows.to_dict("records")
    assert first == alike | {"metric": "accuracy", "n_items": 3, "value": 0.25}
    assert pd.isna(second.pop("value"))
    assert second == alike | {"metric": "f1", "n_items": 2}


def test_a_row_is_empty_where_a_level_or_an_outcome_says_nothing():
    outcome = tasks.Outcome({"accuracy": 0.25}, pd.DataFrame({"item": ["a"]}))
    (row,) = evaluation.run_rows(evaluation.Level(0.0, 0, 200), outcome, MANIFEST, "zero-shot").to_dict("records")
    assert (row["k"], row["sparsity_actual"], row["sparsity_total"]) == (0, 0, 0)
    assert all(pd.isna(row[name]) for name in ("keep", "group", "collapsed", *CALIBRATED))


@pytest.mark.parametrize("n", [199, 201])
def test_a_model_with_more_or_fewer_prunable_weights_than_its_manifest_says_is_refused(n):
    with pytest.raises(ValueError, match=rf"{n} prunable weights were loaded, but the manifest counts 200"):
        evaluation.run_rows(evaluation.Level(0.5, 90, n), tasks.Outcome({}, pd.DataFrame()), MANIFEST, "probe")


# --- the program


@pytest.fixture(scope="module")
def job(folders):
    """Arguments of a run of prune_eval.py over two levels of a tiny model, with manifests as fetching writes them."""
    root, model = folders["root"], folders[tiny.save_bert]
    described = loading.describe(model)

    def listed(folder):
        return [
            {"path": p.name, "sha256": files.sha256_file(p), "size": p.stat().st_size} for p in sorted(folder.iterdir())
        ]

    common = {"manifest_version": 1, "source": "path", "id": "tiny", "revision": None, "package": None}
    (root / "data" / "files").mkdir(parents=True)
    tiny.pairs().to_parquet(root / "data" / "files" / "data.parquet", index=False)
    files.write_json(
        root / "data" / "manifest.json",
        common | {"dataset": "tiny", "folder": "files", "files": listed(root / "data" / "files")},
    )
    files.write_json(
        root / "model.json",
        common
        | described
        | {
            "model": "tiny",
            "folder": str(model),
            "files": listed(model),
            "weights_sha256": loading.weights_sha256(listed(model)),
        },
    )
    return {
        "--model": "tiny", "--task": "pairs", "--pattern": "global", "--sparsities": "0.300+0.500", "--seed": "3",
        "--settings": json.dumps(tiny.SIMILARITY | {"threads": torch.get_num_threads()}), "--code": "c0de", "--manifest": str(root / "model.json"),
        "--data": str(root / "data" / "manifest.json"), "--runs": str(root / "runs.parquet"), "--items": str(root / "items.parquet"),
    }  # fmt: skip


def call(job, **changed):
    options = job | {f"--{name}": value for name, value in changed.items()}
    threads = torch.get_num_threads()
    try:
        prune_eval.main([word for pair in options.items() for word in pair])
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(threads)
    return tables.read(options["--runs"], "runs"), tables.read(options["--items"], "items")


def test_program_writes_what_was_evaluated(job, folders, capsys):
    runs, items = call(job)
    expected = evaluate(folders, "similarity", sparsities=[0.3, 0.5], seed=3)
    manifest = files.read_json(job["--manifest"])
    for metric in ("pearson", "spearman"):
        rows = runs[runs["metric"] == metric]
        assert rows["value"].tolist() == [outcome.metrics[metric] for _, outcome in expected]
        assert rows["k"].tolist() == [level.k for level, _ in expected]
        assert rows["sparsity"].tolist() == [0.3, 0.5]
    assert set(runs["metric"]) == {"pearson", "spearman"}
    np.testing.assert_allclose(runs["sparsity_total"], runs["k"] / manifest["n_total"])
    assert set(runs["n_items"]) == {20}
    assert set(runs["torch"]) == {torch.__version__}
    assert runs["keep"].isna().all()
    for (_, outcome), (_, rows) in zip(expected, items.groupby("sparsity"), strict=True):
        by_id = outcome.items.sort_values("item", ignore_index=True)
        pd.testing.assert_frame_equal(rows[list(by_id)].reset_index(drop=True), by_id, check_dtype=False)
    progress = [line for line in capsys.readouterr().out.splitlines() if line.startswith("tiny ")]
    assert len(progress) == 2
    assert progress[1].startswith("tiny pairs global 0.500 seed 3: spearman")


def test_program_asks_torch_to_be_exact(job, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(prune_eval.exactness, "ask", lambda: asked.append(1))
    call(job, runs=str(tmp_path / "runs"), items=str(tmp_path / "items"))
    assert asked


def test_program_writes_the_same_bytes_again(job, tmp_path):
    call(job, runs=str(tmp_path / "runs1"), items=str(tmp_path / "items1"))
    call(job, runs=str(tmp_path / "runs2"), items=str(tmp_path / "items2"))
    assert (tmp_path / "runs1").read_bytes() == (tmp_path / "runs2").read_bytes()
    assert (tmp_path / "items1").read_bytes() == (tmp_path / "items2").read_bytes()


def test_program_writes_nothing_when_a_level_fails(job, tmp_path):
    with pytest.raises(ValueError, match="outside"):
        call(job, sparsities="0.300+1.500", runs=str(tmp_path / "runs"), items=str(tmp_path / "items"))
    assert list(tmp_path.iterdir()) == []


def test_program_clears_its_checkpoints_when_its_results_are_written_and_not_before(job, tmp_path):
    checkpoint = tmp_path / "work/training/0.300/checkpoint-1/order.pt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    given = {name: str(tmp_path / name) for name in ("work", "runs", "items")}
    with pytest.raises(ValueError, match="outside"):
        call(job, sparsities="0.300+1.500", **given)
    assert checkpoint.exists()
    call(job, **given)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["items", "runs", "work"]
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["kept"], "until the runs are collected"


def test_program_takes_back_what_it_has_finished_and_computes_what_has_changed(job, tmp_path, monkeypatch, capsys):
    given = {name: str(tmp_path / name) for name in ("work", "runs", "items")}
    call(job, **given)
    computed = {name: (tmp_path / name).read_bytes() for name in ("runs", "items")}
    counted, evaluate_ = [], evaluation.evaluate
    monkeypatch.setattr(
        evaluation, "evaluate", lambda *args, **more: counted.append(args[2]) or evaluate_(*args, **more)
    )
    for name in computed:
        (tmp_path / name).unlink()
    capsys.readouterr()
    call(job, **given)
    assert {name: (tmp_path / name).read_bytes() for name in computed} == computed
    assert counted == []
    assert capsys.readouterr().out.startswith("Not computed again: ")

    call(job, **given, code="edited")
    settings = json.loads(job["--settings"])
    call(job, **given, settings=json.dumps(settings | {"max_length": 7}))
    other = files.read_json(job["--manifest"])
    Path(other["folder"], "notes.txt").write_text("more")
    listed = [*other["files"], {"path": "notes.txt", "sha256": files.sha256_text("more"), "size": 4}]
    files.write_json(tmp_path / "model.json", other | {"files": listed})
    call(job, **given, manifest=str(tmp_path / "model.json"))
    assert [asked["max_length"] for asked in counted] == [settings["max_length"], 7, settings["max_length"]]
    told = [line for line in capsys.readouterr().out.splitlines() if "is not used" in line]
    assert [line.partition("(")[2] for line in told] == [
        "other code).",
        "other code, settings).",
        "other checkpoint, settings).",
    ]


def test_program_refuses_the_manifest_of_another_model(job, tmp_path):
    """One was copied over the other: weights that are used in place would be told as those of this model."""
    with pytest.raises(ValueError, match=r"model.json is the manifest of tiny, not of other\. Delete .* and run again"):
        call(job, model="other", runs=str(tmp_path / "runs.parquet"), items=str(tmp_path / "items.parquet"))
    assert not (tmp_path / "runs.parquet").exists()


def test_program_refuses_a_manifest_of_other_weights(job, tmp_path):
    other = files.read_json(job["--manifest"])
    files.write_json(tmp_path / "model.json", other | {"n_prunable": other["n_prunable"] + 1})
    with pytest.raises(ValueError, match=r"prunable weights were loaded, but the manifest counts"):
        call(job, manifest=str(tmp_path / "model.json"))
