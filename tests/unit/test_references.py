"""References: mistakes in the table, when a result agrees, and what becomes of a dense or sparse run that does not."""

import argparse

import pandas as pd
import pytest
from test_tables import run_rows

import check_references
from essential_sparsity import files, tables
from essential_sparsity.figures import summary
from essential_sparsity.runs import job
from essential_sparsity.study import configuration, references, tsv

HEADER = "model\ttask\tmetric\tvalue\ttolerance\tsource\n"
ROW = "minilm\tws353\tspearman\t0.729\t0.002\tplain transformers\n"
PRUNED = HEADER.replace("\n", "\tpattern\tsparsity\n")
CONFIG = {"models": "config/models.tsv", "tasks": "config/tasks.tsv", "packages": "config/packages.tsv"}


def read(tmp_path, text, header=HEADER):
    path = tmp_path / "references.tsv"
    path.write_text(header + text)
    models, tasks, _ = tsv.read_tables(CONFIG)
    return references.read(CONFIG | {"references": str(path)}, models, tasks)


def test_rows_by_model_and_task(tmp_path):
    row = {"metric": "spearman", "value": 0.729, "tolerance": 0.002, "source": "plain transformers"}
    dense = row | {"pattern": "dense", "sparsity": 0.0}
    assert read(tmp_path, ROW) == {("minilm", "ws353"): [dense]}
    pruned = [row | {"pattern": "global", "sparsity": 0.5}, row | {"pattern": "global", "sparsity": 0.55}]
    text = "".join(ROW.replace("\n", f"{cells}\n") for cells in ("", "\tglobal\t0.5", "\tglobal\t0.55"))
    assert read(tmp_path, text, PRUNED) == {("minilm", "ws353"): [dense, *pruned]}
    assert references.rows(str(tmp_path / "references.tsv"), "minilm", "ws353") == [dense, *pruned]
    assert references.read({}, {}, {}) == references.read({"references": None}, {}, {}) == {}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("minilm", "minilmm", r"column model: 'minilmm' is not in config/models\.tsv; did you mean 'minilm'\?"),
        ("ws353", "ws35", r"column task: 'ws35' is not in config/tasks\.tsv; did you mean 'ws353'\?"),
        ("spearman", "accuracy", r"column metric: the task 'ws353' has no such metric.*It has: spearman"),
        ("0.002", "0", r"line 2, column tolerance: 0.0 is less than or equal to the minimum"),
        ("0.729", "72.9 %", r"line 2, column value: '72.9 %' is a text; write a number"),
        ("0.002", "5", r"column tolerance: 5, but the scale of spearman ends at 1; one point of it is 0\.01"),
        ("0.729", "72.9", r"spearman, column value: 72\.9, but a value of spearman is at most 1; no per cent"),
        ("0.729", "-1.1", r"column value: -1\.1, but a value of spearman"),
        (
            "ws353\tspearman\t0.729",
            "wiki-mlm\tpseudo_perplexity\t0",
            r"value: 0, but a value of pseudo_perplexity is above 0",
        ),
        ("plain transformers", "", r"line 2, column source"),
        (ROW, ROW + ROW, r"minilm ws353 spearman: stands there twice"),
    ],
)
def test_a_mistake_is_named(tmp_path, old, new, message):
    with pytest.raises(configuration.ConfigError, match=message):
        read(tmp_path, ROW.replace(old, new))


@pytest.mark.parametrize(
    ("pattern", "sparsity", "message"),
    [
        ("global", "", "column sparsity: blank, but pattern is global; a pruned model has both, a dense one neither"),
        ("", "0.5", r"column pattern: blank, but sparsity is 0\.5"),
        ("dense", "", "column sparsity: blank, but pattern is dense; a pruned model has both, a dense one neither"),
        ("globl", "0.5", r"ws353 spearman, column pattern: unknown pattern 'globl'; did you mean 'global'\?"),
        ("dense", "0.5", "'dense' is added to every curve by itself"),
        ("nm4", "0.3", "pattern nm4 prunes whole weights of every 4, so it has no sparsity 0.300"),
        ("global", "0.5555", "has more than three decimals"),
        ("global", "0", r"line 2, column sparsity: 0\.0 is less than or equal to the minimum"),
        ("global", "1", "line 2, column sparsity: 1.0 is greater than or equal to the maximum"),
    ],
)
def test_a_pruned_model_that_there_cannot_be_is_named(tmp_path, pattern, sparsity, message):
    with pytest.raises(configuration.ConfigError, match=message):
        read(tmp_path, ROW.replace("\n", f"\t{pattern}\t{sparsity}\n"), PRUNED)


def test_a_pruned_model_has_one_reference_a_metric(tmp_path):
    row = ROW.replace("\n", "\tglobal\t0.5\n")
    with pytest.raises(configuration.ConfigError, match="spearman: stands there twice"):
        read(tmp_path, row + row.replace("0.5\n", "0.50\n"), PRUNED)


def test_a_run_may_have_several_metrics_and_those_without_a_ceiling_any_tolerance(tmp_path):
    rows = [("minilm", "mrpc", "accuracy", 0.8, 1.0), ("minilm", "mrpc", "f1", 0.85, 0.01)]
    rows += [("smollm2", "wiki-ppl", "perplexity", 20.0, 5.0)]
    found = read(tmp_path, "".join("\t".join(map(str, row)) + "\tus\n" for row in rows))
    told = [(*key, row["metric"], row["value"], row["tolerance"]) for key, own in found.items() for row in own]
    assert told == rows


EXPECTED = [{"metric": "accuracy", "value": 0.831, "tolerance": 0.01, "source": "a paper", **references.DENSE}]
RUN = ("dense", "0.000")


@pytest.mark.parametrize(
    ("found", "agrees"),
    [(0.831, True), (0.841, True), (0.821, True), (0.84101, False), (0.82099, False), (0.33, False), (None, False)],
)
def test_a_value_agrees_within_its_tolerance(found, agrees):
    (row,) = references.compare({RUN: {"accuracy": found, "f1": 0.0}}, EXPECTED)
    assert row == {**EXPECTED[0], "found": found, "agrees": agrees}


def test_a_metric_that_was_not_evaluated_is_an_error():
    with pytest.raises(ValueError, match=r"The dense run has no metric 'accuracy'; it has f1"):
        references.compare({RUN: {"f1": 0.9}}, EXPECTED)
    with pytest.raises(ValueError, match=r"The run of erk at 0.500 has no metric 'accuracy'; it has f1"):
        references.compare({("erk", "0.500"): {"f1": 0.9}}, [EXPECTED[0] | {"pattern": "erk", "sparsity": 0.5}])


def test_a_run_that_is_not_there_is_not_compared():
    assert references.compare({("global", "0.500"): {"accuracy": 0.831}}, EXPECTED) == []


def dense(found: float, seed: int = 0) -> pd.DataFrame:
    """Rows of table `runs` of a dense run with two metrics, one undefined."""
    rows = run_rows(seed, (0.0,)).assign(model="m", task="t", pattern="dense")
    metrics = [rows.assign(metric="accuracy", value=found), rows.assign(metric="f1", value=None)]
    return pd.concat(metrics, ignore_index=True)


def test_a_disagreement_stops_with_an_explanation():
    message = r"Dense m t seed 0: accuracy is 0\.75, but 0\.831 ± 0\.01 was expected \(a paper\)\. Likely causes: another checkpoint"
    with pytest.raises(ValueError, match=message):
        references.check("m t seed 0", dense(0.75), EXPECTED, "stop")
    with pytest.raises(ValueError, match="f1 is undefined"):
        references.check("m t seed 0", dense(0.75), [EXPECTED[0] | {"metric": "f1"}], "stop")


def test_all_that_disagree_are_told_at_once():
    with pytest.raises(ValueError, match=r"accuracy is 0\.75.* f1 is undefined.* The sparse runs .* not started"):
        references.check("m t seed 0", dense(0.75), [*EXPECTED, EXPECTED[0] | {"metric": "f1"}], "stop")


def test_a_disagreement_warns_where_it_is_told_to(capsys):
    (row,) = references.check("m t seed 0", dense(0.75), EXPECTED, "warn")
    assert (row["found"], row["agrees"]) == (0.75, False)
    assert capsys.readouterr().err.startswith("warning: Dense m t seed 0: accuracy is 0.75")


def test_nothing_is_said_when_the_results_agree(capsys):
    (row,) = references.check("m t seed 0", dense(0.83), EXPECTED, "stop")
    assert (row["found"], row["agrees"]) == (0.83, True)
    assert capsys.readouterr() == ("", "")


SPARSE = EXPECTED[0] | {"pattern": "global", "sparsity": 0.5, "value": 0.6}


def sparse(*found: float) -> pd.DataFrame:
    """Rows of table `runs` of the pattern global at 0.5 and, where two values are given, at 0.7."""
    levels = (0.5, 0.7)[: len(found)]
    rows = run_rows(0, levels).assign(model="m", task="t", pattern="global", metric="accuracy")
    return rows.assign(value=rows["sparsity"].map(dict(zip(levels, found, strict=True))))


def test_a_sparse_run_that_disagrees_stops_nothing_and_is_told(capsys):
    expected = [*EXPECTED, SPARSE]
    compared = references.check("m t seed 0", pd.concat([dense(0.83), sparse(0.7, 0.6)]), expected, "stop")
    assert [(row["pattern"], row["found"], row["agrees"]) for row in compared] == [
        ("dense", 0.83, True),
        ("global", 0.7, False),
    ]
    told = capsys.readouterr().err
    assert told.startswith(
        "warning: m t seed 0 pruned by global to 0.500: accuracy is 0.7, but 0.6 ± 0.01 was expected"
    )
    assert "Likely causes: other calibration texts" in told
    with pytest.raises(ValueError, match=r"^Dense m t seed 0: accuracy is 0\.75[^\n]* The sparse runs"):
        references.check("m t seed 0", pd.concat([dense(0.75), sparse(0.7)]), expected, "stop")
    assert capsys.readouterr().err.startswith("warning: m t seed 0 pruned by global to 0.500")


# --- the program: what was found for a whole study


@pytest.fixture
def table(tmp_path):
    """A table of references of which one row is of `m` on `t`."""
    path = tmp_path / "references.tsv"
    path.write_text(HEADER + ROW + "m\tt\taccuracy\t0.831\t0.01\ta paper\n")
    return path


def study(tmp_path, table, disagreement: str, *values: float) -> pd.DataFrame:
    """What the program writes for dense runs with these values, one a seed, and a sparse one."""
    parts = [dense(value, seed) for seed, value in enumerate(values)]
    tables.write(pd.concat([*parts, run_rows(9).assign(model="m", task="t", value=0.1)]), "runs", tmp_path / "runs")
    options = {"--runs": tmp_path / "runs", "--references": table, "--disagreement": disagreement}
    check_references.main([str(word) for pair in options.items() for word in pair] + ["--out", str(tmp_path / "out")])
    return tables.read(tmp_path / "out", "references")


def test_the_table_has_a_row_for_each_dense_run_and_reference(tmp_path, table):
    found = study(tmp_path, table, "stop", 0.83, 0.8365)
    assert found["seed"].tolist() == [0, 1]
    assert found["found"].tolist() == [0.83, 0.8365]
    assert found["agrees"].all()
    assert found[["model", "task", "metric", "value", "tolerance", "source"]].drop_duplicates().to_numpy().tolist() == [
        ["m", "t", "accuracy", 0.831, 0.01, "a paper"]
    ]


def test_the_table_tells_who_disagrees_or_is_not_written(tmp_path, table, capsys):
    with pytest.raises(ValueError, match=r"Dense m t seed 1: accuracy is 0\.75"):
        study(tmp_path, table, "stop", 0.83, 0.75)
    assert not (tmp_path / "out").exists()
    assert study(tmp_path, table, "warn", 0.83, 0.75)["agrees"].tolist() == [True, False]
    assert capsys.readouterr().err.startswith("warning: Dense m t seed 1")


def test_pruned_runs_stand_in_the_table_and_in_the_summary(tmp_path, table, capsys):
    row = "m\tt\taccuracy\t{}\t0.01\ta paper\t{}\t{}\n"
    table.write_text(
        PRUNED + row.format(0.83, "", "") + row.format(0.6, "global", 0.5) + row.format(0.4, "global", 0.9)
    )
    tables.write(pd.concat([dense(0.83), sparse(0.7, 0.6)]), "runs", tmp_path / "runs")
    options = ["--runs", tmp_path / "runs", "--references", table, "--disagreement", "stop", "--out", tmp_path / "out"]
    check_references.main([str(word) for word in options])
    found = tables.read(tmp_path / "out", "references")
    assert found[["pattern", "sparsity", "found", "agrees"]].to_numpy().tolist() == [
        ["dense", 0.0, 0.83, True],
        ["global", 0.5, 0.7, False],
    ]
    assert capsys.readouterr().err.startswith("warning: m t seed 0 pruned by global to 0.500")
    told = summary.reference_lines(found, tmp_path / "out")
    assert told == [
        f"1 of 2 comparisons agree: {tmp_path / 'out'}",
        "m on t, global 0.500, seed 0: accuracy is 0.7, 0.6 ± 0.01 was expected (a paper)",
    ]


# --- the gate: an evaluation beside a dense run that disagrees


def evaluation(tmp_path, table, pattern: str, **changed) -> argparse.Namespace:
    for name in ("model", "data"):
        files.write_json(tmp_path / f"{name}.json", {"files": []})
    return argparse.Namespace(
        model="m", task="t", pattern=pattern, sparsities="0.000" if pattern == "dense" else "0.500", seed=0, settings="{}",
        code="c0de", manifest=tmp_path / "model.json", data=tmp_path / "data.json", tickets=[], calibration=None, dense=[],
        references=str(table), disagreement="stop", work=tmp_path / "work", runs=tmp_path / f"results/{pattern}.parquet",
        items=tmp_path / f"results/{pattern}-items.parquet",
    )  # fmt: skip


def started(arguments: argparse.Namespace, value: float) -> int:
    """Run a job whose accuracy is `value`; how often it computed."""
    calls = []

    def evaluate(made):
        calls.append(made)
        rows = [dense(value).assign(sparsity=float(level), **job.key(arguments), **of) for level, of in made.items()]
        return pd.concat(rows).drop(columns="items_sha256"), tables.empty("items")

    job.run(arguments, {"torch": "2", "transformers": "5", "device": "cpu"}, evaluate)
    return len(calls)


def test_a_dense_run_that_disagrees_fails_and_is_kept_for_another_attempt(tmp_path, table):
    arguments = evaluation(tmp_path, table, "dense")
    for value in (0.75, 0.831):  # computed, then found
        with pytest.raises(ValueError, match=r"Dense m t seed 0: accuracy is 0\.75, but 0\.831"):
            started(arguments, value)
    for path in (arguments.runs, arguments.items):
        path.unlink()  # as Snakemake does with what a failed job wrote
    table.write_text(table.read_text().replace("0.831", "0.751"))
    assert started(arguments, 0.0) == 0, "the reference was wrong: nothing is computed again"
    assert set(tables.read(arguments.runs, "runs")["value"].dropna()) == {0.75}


def test_a_sparse_run_beside_a_dense_one_that_disagrees_is_not_started(tmp_path, table, capsys):
    before = evaluation(tmp_path, table, "dense")
    before.disagreement = "warn"
    assert started(before, 0.75) == 1
    sparse = evaluation(tmp_path, table, "global")
    sparse.dense = [str(before.runs)]
    capsys.readouterr()
    with pytest.raises(ValueError, match=r"Dense m t seed 0.* The sparse runs of this curve are not started"):
        started(sparse, 0.5)
    assert not sparse.runs.exists()
    sparse.disagreement = "warn"
    assert started(sparse, 0.5) == 1
    assert capsys.readouterr().err.startswith("warning: Dense m t seed 0")


def test_references_of_other_curves_and_none_at_all_gate_nothing(tmp_path, table):
    other = evaluation(tmp_path, table, "dense")
    other.task = "u"
    assert started(other, 0.75) == 1
    free = evaluation(tmp_path, table, "global")
    free.references = None
    assert started(free, 0.1) == 1


def test_a_sparse_run_that_disagrees_with_its_reference_is_kept_and_told(tmp_path, table, capsys):
    row = "m\tt\taccuracy\t0.6\t0.01\ta paper\tglobal\t0.5\n"
    table.write_text(PRUNED + row)
    assert started(evaluation(tmp_path, table, "dense"), 0.1) == 1, "nothing is said of the dense run"
    capsys.readouterr()
    arguments = evaluation(tmp_path, table, "global")
    assert started(arguments, 0.7) == 1
    assert capsys.readouterr().err.startswith("warning: m t seed 0 pruned by global to 0.500: accuracy is 0.7")
    assert tables.read(arguments.runs, "runs")["value"].dropna().tolist() == [0.7]
