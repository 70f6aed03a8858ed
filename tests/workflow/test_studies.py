"""Studies in one folder, stale files, references and chunks, with the stand-in (`changes`): results never mix."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import stand_in
import yaml
from changes import CHANGES, GRID, RUNS, STUDY, Study, grid, same

from essential_sparsity import tables


def test_values_follow_from_what_the_configuration_asks_for_now(study):
    """Each value of the table is the one that today's settings, data, weights, tickets and code give."""
    for change in ("a setting of a task", "code of pruning", "local weights"):
        CHANGES[change][0](study)
        study.run()
        runs = study.results()["runs"]
        assert list(runs["value"]) == list(map(stand_in.drawn, runs["sparsity"], runs["digest"]))
        asked = study.results()["grid"].set_index(["model", "task", "pattern", "sparsity", "seed"])
        found = runs[runs["metric"] == "accuracy"].set_index(["model", "task", "pattern", "sparsity", "seed"])
        for column in ("settings_sha256", "code_sha256"):
            assert found[column].equals(asked[column].reindex(found.index))


def test_an_estimate_counts_what_is_computed_anew(study):
    """The same jobs that Snakemake plans, whatever lies in the store."""
    estimate = [sys.executable, "workflow/scripts/estimate.py"]

    def told() -> str:
        return subprocess.run(estimate, cwd=study.folder, check=True, capture_output=True, text=True).stdout

    whole = len(study.results()["grid"]["job"].unique())
    assert ", 0 of them left" in told()
    assert "computed anew" not in told()
    for change in ("a setting of a task", "code of pruning"):
        CHANGES[change][0](study)
        planned = study.planned()
        said = told()
        assert re.search(r"have run, and are computed anew: Its file is of other", said)
        counts = re.findall(r"(\d+) of the jobs that are left have run, and (?:are computed anew|start again)", said)
        assert sum(map(int, counts)) == planned["prune_eval"] + planned.get("find_ticket", 0)
        assert planned["prune_eval"] <= whole
        study.run()
        assert "of the jobs that are left have run" not in told()


def test_a_lost_dense_run_is_computed_and_those_that_waited_for_it_find_themselves_whole(study):
    """Sparse runs stand behind the dense one that has to agree with its reference; none of them computes anything."""
    (study.folder / RUNS / "long/dense/0.000/seed0.parquet").unlink()
    before = study.results()
    output = study.snakemake("--quiet", "rules", "host", "reason")
    assert output.count("computed\n") == output.count("\ncomputed") == 1
    assert "Not computed again" in output
    same(study.results(), before)
    assert study.planned() == {}


def test_a_run_of_another_setting_is_refused_by_name(study):
    other = Study(study.folder.with_name("other"), study)
    CHANGES["a setting of a task"][0](other)
    other.run()
    place = f"{RUNS}/long/global/0.300/seed0.parquet"
    mixed = study.folder / place
    shutil.copy(other.folder / place, mixed)
    os.utime(mixed, (1, 1))
    (study.folder / "results/mine/tables/runs.parquet").unlink()
    output = study.snakemake("--quiet", "all", check=False)
    assert f"{place}: other settings" in output
    assert "1 of" in output
    assert "Traceback" not in output
    assert not (study.folder / "results/mine/tables/runs.parquet").exists()
    mixed.unlink()
    study.run()
    assert study.planned() == {}


def test_code_and_data_and_weights_of_a_run_are_refused_by_name(study):
    runs = study.folder / f"{RUNS}/long/global/0.300/seed0.parquet"
    whole = tables.read(runs, "runs")
    for column, word in (("code_sha256", "code"), ("data_sha256", "data"), ("checkpoint_sha256", "checkpoint")):
        tables.write(whole.assign(**{column: hashlib.sha256(b"x").hexdigest()}), "runs", runs)
        os.utime(runs, (1, 1))
        (study.folder / "results/mine/tables/runs.parquet").unlink(missing_ok=True)
        assert f"seed0.parquet: other {word}" in study.snakemake("--quiet", "all", check=False)


def test_two_studies_in_one_folder_leave_both_whole_and_share_their_runs(study):
    before = study.results()
    second = {**STUDY, "study": "second", "grid": [GRID[0] | {"patterns": ["global"], "sparsities": [0.1, 0.2, 0.5]}]}
    path = study.folder / "config/second.yaml"
    path.write_text(yaml.safe_dump({key: second[key] for key in ("study", "grid")}))
    planned = study.planned("--configfile", "config/second.yaml")
    assert planned["prune_eval"] == 2, "one level of two seeds; the others are there"
    study.snakemake("--quiet", "all", "--configfile", "config/second.yaml")
    assert study.planned("--configfile", "config/second.yaml") == {}
    assert study.planned() == {}
    same(study.results(), before)
    runs = tables.read(study.folder / "results/second/tables/runs.parquet", "runs")
    assert sorted(runs["sparsity"].unique()) == [0.0, 0.1, 0.2, 0.5]
    assert (study.folder / "results/second/figures/knees.csv").is_file()
    path.write_text(yaml.safe_dump({"grid": second["grid"]}))
    told = study.snakemake("--dry-run", "--configfile", "config/second.yaml", check=False)
    assert "second.yaml: the key 'study' is missing" in told
    assert "Give the study a name of its own" in told


def test_rounds_of_one_study_are_its_own_and_can_be_switched_off(study):
    added = {"rounds": [[{"model": "one", "task": "short", "pattern": "random", "levels": ["0.300"]}]]}
    (study.folder / "results/mine/rounds.json").write_text(json.dumps(added))
    assert study.planned()["prune_eval"] == 1
    for off in ({"refine": None}, {"refine": {}}):
        (study.folder / "config/off.yaml").write_text(yaml.safe_dump({"study": "mine", **off}))
        assert study.planned("--configfile", "config/off.yaml") == {}
    (study.folder / "config/other.yaml").write_text(yaml.safe_dump({"study": "other"}))
    assert "prune_eval" not in study.planned("--configfile", "config/other.yaml")


def test_a_study_cannot_have_the_name_of_the_store(study):
    study.study(study="store")
    assert "study: 'store' names a folder" in study.snakemake("--dry-run", check=False)


def test_a_dense_run_that_disagrees_stops_the_sparse_ones_and_finished_runs_stay(study):
    study.refer(-0.9, 0.1)
    assert study.planned() == {"check_references": 1, "write_explorer": 1, "write_provenance": 1}, "finished runs stay"
    output = study.snakemake("--quiet", "rules", "host", "reason", check=False)
    assert "but -0.9 ± 0.1 was expected (published)" in output
    grid(0, seeds=[0, 1, 3])(study)
    output = study.snakemake("--quiet", "rules", "host", "reason", "--keep-going", check=False)
    assert not list((study.folder / RUNS / "long").glob("*/*/seed3.parquet"))
    assert "The sparse runs of this curve are not started" in output
    study.refer(0.5, 1.0)
    output = study.snakemake("--quiet", "host", "--", f"{RUNS}/long/dense/0.000/seed3.parquet")
    assert "Not computed again" in output
    assert "\ncomputed" not in output
    study.run()
    assert study.planned() == {}


def test_a_sparse_run_that_disagrees_is_told_and_stops_nothing(study):
    header = "model\ttask\tpattern\tsparsity\tmetric\tvalue\ttolerance\tsource\n"
    row = "one\tlong\tglobal\t0.3\taccuracy\t-0.9\t0.1\tpublished\n"
    (study.folder / "config/references.tsv").write_text(header + row)
    assert study.planned() == {"check_references": 1, "write_explorer": 1, "write_provenance": 1}, "finished runs stay"
    assert "one long seed 0 pruned by global to 0.300: accuracy is" in study.run()
    grid(0, seeds=[0, 1, 3])(study)
    output = study.run()
    assert "\nwarning: one long seed 3 pruned by global to 0.300" in output
    found = study.results()["references"]
    assert found["seed"].tolist() == [0, 1, 3]
    assert set(zip(found["pattern"], found["sparsity"], found["agrees"], strict=True)) == {("global", 0.3, False)}
    assert study.planned() == {}


def test_a_missing_path_stops_the_dry_run(study):
    shutil.rmtree(study.folder / "data/one")
    output = study.snakemake("--dry-run", check=False)
    assert "the model 'one': data/one does not exist. Put it back, or correct the column id" in output
    assert "Traceback" not in output


def test_levels_stay_with_the_chunk_that_computed_them(study):
    """`long` walks two levels a job: a low level added later shifts no other."""
    names = {path.name for path in (study.folder / RUNS / "long/global").iterdir()}
    assert names == {"0.100+0.200", "0.300"}
    CHANGES["a low level of a chunked curve"][0](study)
    study.run()
    assert {path.name for path in Path(study.folder / RUNS / "long/global").iterdir()} == {*names, "0.050"}
