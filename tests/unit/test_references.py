"""References: mistakes in the table, and when a dense result agrees."""

import json

import check_dense
import pandas as pd
import pytest

from essential_sparsity import files, tables
from essential_sparsity.study import configuration, references, tsv

HEADER = "model\ttask\tmetric\tvalue\ttolerance\tsource\n"
ROW = "minilm\tws353\tspearman\t0.729\t0.002\tplain transformers\n"
CONFIG = {"models": "config/models.tsv", "tasks": "config/tasks.tsv", "packages": "config/packages.tsv"}


def read(tmp_path, text):
    path = tmp_path / "references.tsv"
    path.write_text(HEADER + text)
    models, tasks, _ = tsv.read_tables(CONFIG)
    return references.read(CONFIG | {"references": str(path)}, models, tasks)


def test_rows_by_model_and_task(tmp_path):
    row = {"metric": "spearman", "value": 0.729, "tolerance": 0.002, "source": "plain transformers"}
    assert read(tmp_path, ROW) == {("minilm", "ws353"): [row]}
    assert references.read({}, {}, {}) == references.read({"references": None}, {}, {}) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minilm", "minilmm", r"column model: 'minilmm' is not in config/models\.tsv; did you mean 'minilm'\?"),
        ("ws353", "ws35", r"column task: 'ws35' is not in config/tasks\.tsv; did you mean 'ws353'\?"),
        ("spearman", "accuracy", r"column metric: the task 'ws353' has no such metric.*It has: spearman"),
        ("0.002", "0", r"line 2, column tolerance: 0.0 is less than or equal to the minimum"),
        ("0.729", "72.9 %", r"line 2, column value: '72.9 %' is not of type 'number'"),
        ("plain transformers", "", r"line 2, column source"),
        (ROW, ROW + ROW, r"minilm ws353 spearman: stands there twice"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, message):
    with pytest.raises(configuration.ConfigError, match=message):
        read(tmp_path, ROW.replace(old, new))


EXPECTED = [{"metric": "accuracy", "value": 0.831, "tolerance": 0.01, "source": "a paper"}]


@pytest.mark.parametrize(
    ("found", "agrees"), [(0.831, True), (0.841, True), (0.821, True), (0.8415, False), (0.33, False), (None, False)]
)
def test_a_value_agrees_within_its_tolerance(found, agrees):
    (row,) = references.compare({"accuracy": found, "f1": 0.0}, EXPECTED)
    assert row == {**EXPECTED[0], "found": found, "agrees": agrees}


def test_a_metric_that_was_not_evaluated_is_an_error():
    with pytest.raises(ValueError, match=r"no metric 'accuracy'; it has f1"):
        references.compare({"f1": 0.9}, EXPECTED)


@pytest.fixture
def runs(tmp_path):
    """A file of results/runs with two metrics, one undefined."""
    row = {
        "model": "m", "task": "t", "pattern": "dense", "sparsity": 0.0, "seed": 0, "protocol": "finetune",
        "n_items": 10, "sparsity_actual": 0.0, "sparsity_total": 0.0, "k": 0, "n_prunable": 5, "n_total": 9, "keep": None,
        "group": None, "dtype": "float32", "weights_sha256": "0" * 64, "torch": "2", "transformers": "5", "workflow": "0",
    }  # fmt: skip
    frame = pd.DataFrame([row | {"metric": "accuracy", "value": 0.75}, row | {"metric": "f1", "value": None}])
    tables.write(frame.astype({"keep": "Int64", "group": "Int64", "value": "float64"}), "runs", tmp_path / "runs")
    return tmp_path / "runs"


def call(runs, disagreement, **changed):
    expected = json.dumps([EXPECTED[0] | changed])
    options = {"--runs": runs, "--place": "m t seed 0", "--expected": expected, "--disagreement": disagreement}
    check_dense.main([str(word) for pair in options.items() for word in pair] + ["--out", str(runs.parent / "out")])
    return files.read_json(runs.parent / "out")


def test_program_stops_with_an_explanation_and_writes_nothing(runs):
    message = r"Dense m t seed 0: accuracy is 0\.75, but 0\.831 ± 0\.01 was expected \(a paper\)\. Likely causes"
    with pytest.raises(ValueError, match=message):
        call(runs, "stop")
    with pytest.raises(ValueError, match="f1 is undefined"):
        call(runs, "stop", metric="f1")
    assert not (runs.parent / "out").exists()


def test_program_warns_where_it_is_told_to(runs, capsys):
    assert call(runs, "warn")[0]["agrees"] is False
    assert capsys.readouterr().err.startswith("warning: Dense m t seed 0: accuracy is 0.75")


def test_program_says_nothing_when_the_results_agree(runs, capsys):
    assert call(runs, "stop", value=0.7501)[0]["found"] == 0.75
    assert capsys.readouterr() == ("", "")
