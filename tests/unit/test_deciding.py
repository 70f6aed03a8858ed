"""What decides a run, a checkpoint and a study: a change of it is another text, and nothing else is."""

import json
from pathlib import Path

import pytest
import yaml

from essential_sparsity import codefiles, files, patterns
from essential_sparsity.study import deciding, kinds

SCHEMAS = Path(__file__).parents[2] / "workflow/schemas"
SOURCE = {"source", "id", "revision", "format", "columns"}  # decide what is fetched, which a run names by its manifest
NO_NUMBER = {  # names, estimates, what is tabulated, and the tolerance with which curves are read
    "task",
    "label",
    "metrics",
    "epsilon",
    "levels_per_job",
    "mean_length",
    "minutes_per_level",
    "passes",
}
TASK = dict.fromkeys([*deciding.RUN_SETTINGS, *deciding.LATER_SETTINGS]) | {
    "kind": "text-classification",
    "protocol": "probe",
}
CALIBRATION = {
    "calibration": "web",
    "dataset": "c4",
    "split": "train",
    "sequences": 128,
    "length": 2048,
    "sampling": "joined",
    "seed": 0,
    "note": None,
}
ROW = {"model": "m", "source": "hub", "id": "org/name", "revision": "c0ffee", "format": "transformers", "label": "M"}


def columns(table):
    return set(yaml.safe_load((SCHEMAS / f"{table}.schema.yaml").read_text())["properties"])


def test_every_column_of_a_task_decides_its_runs_or_is_known_not_to():
    decide = {*deciding.RUN_SETTINGS, *deciding.LATER_SETTINGS}
    assert decide == columns("tasks") - NO_NUMBER - SOURCE
    assert {*deciding.SOURCE} == SOURCE | {"content"}


@pytest.mark.parametrize("column", [*deciding.RUN_SETTINGS, *deciding.LATER_SETTINGS])
def test_another_value_of_a_column_is_another_run(column):
    changed = TASK | {column: {"kind": "language-modelling", "protocol": "finetune"}.get(column, 7)}
    if column == "kind":
        changed["kind"] = next(
            name for name, kind in kinds.declared().items() if "probe" in kind.protocols and name != TASK["kind"]
        )
    assert deciding.settings(changed, None, 1) != deciding.settings(TASK, None, 1)


@pytest.mark.parametrize(("kind", "protocol"), [("text-classification", "finetune"), ("perplexity", "zero-shot")])
def test_what_a_kind_declares_and_the_threads_are_settings_of_a_run(kind, protocol):
    found = json.loads(deciding.settings(TASK | {"kind": kind, "protocol": protocol}, None, 4))
    declared = kinds.declared()[kind]
    assert found["auto_class"] == declared.protocols[protocol].auto_class != "AutoModel"
    assert found["scored_at_once"] == declared.cost.scored_at_once
    assert found["threads"] == 4


def test_what_texts_a_run_is_calibrated_on_decides_it_but_for_the_note():
    alone, own = (deciding.settings(TASK, row, 1) for row in (None, CALIBRATION))
    assert set(CALIBRATION) == columns("calibrations") - SOURCE
    assert json.loads(own) == json.loads(alone) | {"calibration": {k: v for k, v in CALIBRATION.items() if k != "note"}}
    assert deciding.settings(TASK, CALIBRATION | {"note": "reworded"}, 1) == own


def test_the_code_of_a_job_is_that_of_its_kind_and_pattern(monkeypatch):
    monkeypatch.setattr(codefiles, "digest", lambda program, *modules: [program, *modules])
    monkeypatch.setattr(files, "sha256_text", json.loads)
    kind = codefiles.task_module("perplexity")

    def code(pattern):
        return deciding.code("prune_eval", "perplexity", pattern)

    assert deciding.code("find_ticket", "perplexity") == ["find_ticket", kind]
    own = patterns.Pattern("own", "own", score="my_scores:score", statistics="my_statistics:measure")
    monkeypatch.setitem(patterns.PATTERNS, "own", own)
    assert own.modules
    for pattern, modules in (
        ("global", []),
        ("own", []),
        ("lth", ["essential_sparsity.pruning.tickets"]),
        ("wanda", [*deciding.CALIBRATING]),
    ):
        parts = patterns.find(pattern)
        assert code(pattern) == [["prune_eval", kind, *parts.modules, *modules], patterns.essence(parts)]


def test_a_checkpoint_is_fetched_again_where_its_source_is_another():
    was = deciding.source(ROW, {}, "store")
    for column in deciding.SOURCE:
        assert deciding.source(ROW | {column: "other"}, {"org/name": [], "other": []}, "store") != was
    assert deciding.source(ROW | {"label": "N", "allow_unused": None}, {}, "store") == was
    assert json.loads(deciding.source(ROW | {"allow_unused": "head"}, {}, "store"))["allow_unused"] == "head"
    assert deciding.source(ROW | {"add_bos_token": None}, {}, "store") == was
    assert json.loads(deciding.source(ROW | {"add_bos_token": True}, {}, "store"))["add_bos_token"] is True


def test_a_package_is_fetched_again_where_its_versions_are_others():
    row = ROW | {"source": "package", "id": "key"}
    found = json.loads(deciding.source(row, {"key": [{"version": "1"}], "other": [{"version": "2"}]}, "store"))
    assert found["packages"] == [{"version": "1"}]


def test_a_checkpoint_of_a_pretraining_is_read_from_its_step():
    row = ROW | {"source": "pretraining", "id": "mlm", "value": 200}
    found = json.loads(deciding.source(row, {}, "store"))
    assert (found["source"], found["id"]) == ("path", "store/pretraining/mlm/step-200")


def test_every_column_of_a_pretraining_decides_it_but_for_its_words():
    row = dict.fromkeys(columns("pretraining"))
    assert set(json.loads(deciding.pretraining(row))) == set(row) - {"label", "note"}


def test_a_study_is_another_where_a_key_that_decides_numbers_or_the_threads_are():
    config = {"grid": [1], "lottery": {"share": 0.2}, "resources": {"threads": 4, "gpu": 1}, "claims": "claims.yaml"}
    read = {"claims": [{"text": "one"}], "references": []}
    was = deciding.of_study(config, read)
    idle = {"missing_runs": "fail", "mixed_runs": "allow", "dense_check": True, "refine": 2}
    assert deciding.of_study(config | idle | {"resources": {"threads": 4, "gpu": 2}}, read) == was
    for changed in (
        {"grid": [2]},
        {"lottery": {"share": 0.1}},
        {"resources": {"threads": 2}},
        {"claims": "other.yaml"},
    ):
        assert deciding.of_study(config | changed, read) != was
    for file in read:
        assert deciding.of_study(config, read | {file: ["other"]}) != was
