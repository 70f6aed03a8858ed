"""Runs that fail or are lost keep no other one from the tables: they are counted, named, and tried again."""

import json
import sys

import pytest
from changes import CHANGES, FILES, RUNS, Study, edit, grid, same
from workspace import STORE

from essential_sparsity import files, tables
from essential_sparsity.study import configuration, deciding, opening

SKIP = ("--config", "missing_runs=skip")
REAL = ("fit_knees", "collect_knees", "tabulate_knees", "plot_curve", "plot_models", "measure_differences")
REAL += ("plot_difference",)
COMPUTING = {"prune_eval", "find_ticket", "fetch_model", "fetch_dataset", "measure_spectrum", "pretrain"}
ALONE = (sys.executable, "workflow/scripts/run_alone.py", "--cores", "4", "--keep-going", "--quiet", "rules", "host")
REFINE = (sys.executable, "workflow/scripts/refine.py", sys.executable, "-m", "snakemake", "--cores", "4")
REFINE += ("--keep-going", "--quiet", "rules", "host")


@pytest.fixture
def fresh(tmp_path) -> Study:
    """A study that has computed nothing; knees, differences and their figures are the real ones."""
    study = Study(tmp_path / "study")
    study.build(REAL)
    return study


def table(study: Study, name: str):
    return tables.read(study.folder / f"results/mine/tables/{name}.parquet", name)


def named(study: Study) -> list[str]:
    """The runs that are missing, as pattern, sparsity and seed."""
    rows = table(study, "missing_runs").itertuples()
    return [f"{row.task} {row.pattern} {row.sparsity:.1f} {row.seed}" for row in rows]


def test_what_never_started_makes_no_tables_and_says_its_error_once(fresh):
    with fresh.edit("rules/fetch.smk", "rule fetch_model:", "not_there()\n\n\nrule fetch_model:"):
        told = fresh.call(*ALONE, check=False)
    assert told.returncode == 1
    assert told.stdout.count("NameError") == 1
    assert "Runs failed" not in told.stdout
    assert not (fresh.folder / "results/mine").exists()


def test_a_wrong_input_is_not_tried_again(fresh):
    study = fresh
    study.fail("runs/one/short/random/0.400")
    told = study.run("--keep-going", "--retries", "2", check=False)
    assert told.count("reading the data") == 1
    assert "Trying to restart" not in told
    assert list((study.folder / ".snakemake/heads").iterdir()) == [], "no head has left a record"


def test_a_failed_and_a_lost_run_are_named_and_the_others_tabulated(fresh):
    study = fresh
    study.fail("runs/one/long/global/0.300/seed1")
    told = study.run("--keep-going", check=False)
    assert "`--config missing_runs=skip`" in told, "what to type"
    assert not (study.folder / "results/mine/tables/runs.parquet").exists()
    lost = study.folder / f"{RUNS}/short/random/0.400/seed0.parquet"
    whole = lost.read_bytes()
    lost.unlink()

    planned = study.planned(*SKIP)
    assert not COMPUTING & planned.keys()
    assert (planned["collect_runs"], planned["fit_knees"], planned["plot_curve"]) == (1, 2, 2)
    assert study.planned(*SKIP, "--profile", "slurm") == planned
    study.run(*SKIP)
    assert study.planned(*SKIP) == {}
    assert named(study) == ["long global 0.3 1", "short random 0.4 0"]
    failed = table(study, "missing_runs").iloc[0]
    assert failed["reason"].endswith("global/0.300/seed1.parquet cannot be made.")
    assert (study.folder / failed["log"]).read_text().rstrip().endswith(failed["reason"])
    assert len(table(study, "runs")) == 15 - 2
    knees = table(study, "knees").set_index(["task", "pattern"])
    assert knees["n_missing"].to_dict() == {("long", "global"): 1, ("long", "lth"): 0, ("short", "random"): 1}
    for place in ("curves/one/long.svg", "curves/one/short.svg", "differences/one/long.svg", "knees.csv"):
        assert (study.folder / f"results/mine/figures/{place}").stat().st_size > 100
    summary = study.call(sys.executable, "workflow/scripts/print_summary.py").stdout
    assert "one on long, global: 1 run is missing" in summary
    assert f"see {failed['log']}" in summary

    assert study.planned()["prune_eval"] == 2, "the next ordinary call tries again what is missing"
    study.fail()
    lost.write_bytes(whole)
    assert study.planned()["prune_eval"] == 1
    lost.unlink()
    told = study.run()
    assert told.count("computed\n") == 1, "the lost one is taken back from its work folder, which collecting has left"
    assert "Not computed again" in told
    assert table(study, "missing_runs").empty
    assert study.planned() == {}
    assert not table(study, "knees")["n_missing"].any()


def test_a_folder_in_the_place_of_a_file_is_named(study):
    """Snakemake takes it for the file, so no call would ever compute the run."""
    name = f"{RUNS}/short/random/0.400/seed0.parquet"
    place = study.folder / name
    place.unlink()
    place.mkdir()
    for arguments in ((), SKIP):
        told = study.snakemake("--dry-run", *arguments, check=False)
        assert f"{name} is a folder, but a file belongs there" in told
        assert "Traceback" not in told
    place.rmdir()
    assert study.planned()["prune_eval"] == 1


def test_a_run_that_fails_anew_is_missing_and_not_what_it_was_before(study):
    """Snakemake puts the old file back when an update fails: it is of other settings, and nothing is tabulated from it."""
    before = study.results()
    edit(FILES["tasks"], "\t16\t\t\t\t\t1", "\t12\t\t\t\t\t1")(study)  # the task `short`
    study.fail("runs/one/short/random/0.400")
    study.run("--keep-going", check=False)
    place = f"{RUNS}/short/random/0.400/seed0.parquet"
    assert (study.folder / place).is_file()
    study.run(*SKIP)
    assert named(study) == ["short random 0.4 0"]
    reason = table(study, "missing_runs")["reason"][0]
    assert reason.startswith("Its file is of other settings")
    assert reason.endswith("cannot be made.")
    told = study.run(check=False)
    assert f"{place}: other settings" in told, "it does not pass in silence"
    study.fail()
    (study.folder / place).unlink()
    assert study.planned()["prune_eval"] == 1
    study.run()
    assert study.planned() == {}
    edit(FILES["tasks"], "\t12\t\t\t\t\t1", "\t16\t\t\t\t\t1")(study)
    study.run()
    same(study.results(), before)


def test_whatever_has_changed_nothing_is_computed(study):
    for change in ("a setting of a task", "code of pruning", "local weights", "a model"):
        CHANGES[change][0](study)
        planned = study.planned(*SKIP)
        assert not COMPUTING & planned.keys(), change
        assert planned["collect_runs"] == 1
    study.run(*SKIP)
    assert table(study, "runs").empty, "all are of something else now"
    assert len(named(study)) == 15 + 3


@pytest.mark.parametrize(("change", "lost"), [("local weights", 15), ("a local data file", 12), ("code of tickets", 4)])
def test_what_is_not_made_anew_does_not_pass_for_what_is_asked(study, change, lost):
    """Runs say of which manifests and tickets they are; these stay what they were, for nothing is fetched or trained."""
    CHANGES[change][0](study)
    study.run(*SKIP)
    assert len(named(study)) == lost
    assert len(table(study, "runs")) == 15 - lost
    reasons = table(study, "missing_runs")["reason"]
    assert reasons.str.contains("is of another source than there is now").any()
    assert study.planned(*SKIP) == {}
    study.run()
    assert table(study, "missing_runs").empty
    assert study.planned() == {}


@pytest.mark.parametrize("change", ["local weights", "a local data file"])
def test_what_was_made_of_files_that_are_others_now_passes_for_nothing(study, monkeypatch, change):
    """After `make fetch` manifests are what is asked for; tickets and spectra are those of before."""
    measured = {f"{STORE}/{folder}/one.parquet" for folder in ("spectra", "fingerprints")}
    tickets = {f"{STORE}/tickets/one/long/seed{seed}/{level}.sha256" for seed in (0, 1) for level in ("0.100", "0.200")}
    monkeypatch.chdir(study.folder)

    def of_other() -> set[str]:
        return {*opening.read(configuration.read_config("config/config.yaml")).of_other}

    assert of_other() == set()
    CHANGES[change][0](study)
    study.run("--", "fetch")
    assert of_other() == tickets | (measured if change == "local weights" else set())
    study.run(*SKIP)
    assert study.planned(*SKIP) == {}
    study.run()
    assert of_other() == set()
    assert study.planned() == {}


def test_curves_all_of_whose_runs_fail_anew_have_no_knees_of_before(fresh):
    """Their files are what they were, and nothing of them is what is asked for now."""
    study = fresh
    study.run()
    assert table(study, "knees")["essential_sparsity"].notna().all()
    CHANGES["local weights"][0](study)
    study.fail("runs/one")
    done = study.call(*ALONE, check=False)
    assert done.returncode == 1
    assert "fitted through other runs" not in done.stdout
    assert table(study, "runs").empty
    knees = table(study, "knees")
    assert knees["essential_sparsity"].isna().all()
    assert knees["n_missing"].tolist() == [8, 6, 3]
    assert study.planned(*SKIP) == {}


def test_a_lost_run_comes_back_and_with_it_the_tables(study):
    (study.folder / f"{RUNS}/short/random/0.400/seed0.parquet").unlink()
    before = study.results()
    study.run(*SKIP)
    assert named(study) == ["short random 0.4 0"]
    told = study.run()
    assert told.count("computed\n") == 1
    same(study.results(), before)


def test_what_is_lost_of_a_ticket_a_dense_run_and_items_is_told(study):
    for place in (
        f"{STORE}/tickets/one/long/seed0/0.200.sha256",
        f"{RUNS}/long/dense/0.000/seed1.parquet",
        f"{STORE}/items/one/short/dense/0.000/seed0.parquet",
    ):
        (study.folder / place).unlink()
    study.run(*SKIP)
    found = table(study, "missing_runs").set_index(["task", "pattern", "sparsity", "seed"])["reason"]
    assert found.index.tolist() == [("long", "dense", 0.0, 1), ("long", "lth", 0.2, 0), ("short", "dense", 0.0, 0)]
    assert found.iloc[1].startswith("Its ticket is missing")
    assert "items/one/short/dense/0.000/seed0.parquet is not there" in found.iloc[2]
    study.run()
    assert study.planned() == {}
    assert table(study, "missing_runs").empty


def test_a_checkpoint_that_cannot_be_fetched_keeps_the_other_model_from_nothing(fresh):
    """By the program behind `make run`: it tabulates what is there by itself, and ends as the run did."""
    study = fresh
    grid(0, models=["one", "two"])(study)
    study.fail("checkpoints/two")
    done = study.call(*ALONE, "--config", "dense_check=stop", check=False)
    assert done.returncode == 1
    assert "two on long, global: 8 runs are missing" in done.stdout
    assert f"see {STORE}/logs/fetch_model/two.log" in done.stdout
    assert done.stdout.rstrip().endswith("The same command tries again what failed.")
    assert set(table(study, "missing_runs")["model"]) == {"two"}
    knees = table(study, "knees").set_index(["model", "task", "pattern"])["reason"]
    assert knees["two", "long", "global"] == "no run is there: 8 runs are missing"
    assert knees[["one"]].isna().all()
    for place in ("curves/two/long", "models/long", "layers/two", "curves/one/long"):
        assert (study.folder / f"results/mine/figures/{place}.svg").stat().st_size > 10
    assert study.planned(*SKIP) == {}
    study.fail()
    done = study.call(*ALONE)
    assert "missing" not in done.stdout
    assert table(study, "missing_runs").empty
    assert study.planned() == {}


def test_refining_goes_on_with_the_curves_that_are_whole_and_ends(fresh):
    study = fresh
    study.study(refine={"width": 0.05, "rounds": 2, "protocols": ["finetune"]})
    study.fail("runs/one/long/global/0.300/seed1")
    done = study.call(*REFINE, check=False)
    assert done.returncode == 1
    rounds = json.loads((study.folder / "results/mine/rounds.json").read_text())["rounds"]
    curves = {(entry["task"], entry["pattern"]) for added in rounds for entry in added}
    assert curves == {("short", "random")}
    assert len(rounds) <= 2
    added = float(rounds[0][0]["levels"][0])
    assert added in set(table(study, "runs").query("task == 'short'")["sparsity"]), "the added levels are tabulated"
    study.fail()
    done = study.call(*REFINE, *SKIP, check=False)
    assert "nothing is computed, so no level can be added" in done.stdout


def test_no_rule_that_computes_is_there_for_any_preset(workspace):
    """Nothing is in the store: all that is planned are tables, figures, and comparisons of no masks."""
    for preset in ("finetune", "lottery", "emergence-text", "emergence-vision"):
        planned = workspace.planned("--configfile", f"config/{preset}.yaml", *SKIP)
        assert not COMPUTING & planned.keys(), preset
        assert "measure_series" not in planned, "no checkpoint has been measured"


def test_checkpoints_of_a_series_that_were_not_measured_are_left_out(workspace):
    def put(model: str) -> None:
        for name in ("spectra/{}.parquet", "fingerprints/{}.parquet", "checkpoints/{}/manifest.json"):
            path = workspace.folder / STORE / name.format(model)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    series = ("--configfile", "config/emergence-text.yaml", *SKIP)
    for model in ("wiki-bert-100-0", "wiki-bert-100-25", "wiki-bert-50-0"):
        put(model)
    assert "measure_series" not in workspace.planned(*series), "their losses are not there"
    rows = opening.read(configuration.read_config("config/config.yaml", "config/emergence-text.yaml")).pretrainings
    for name in ("wiki-bert-100", "wiki-bert-50"):
        path = workspace.folder / STORE / f"pretraining/{name}/losses.parquet"
        path.parent.mkdir(parents=True)
        path.touch()
        files.write_json(path.with_name("manifest.json"), {"settings": json.loads(deciding.pretraining(rows[name]))})
    assert "measure_series" not in workspace.planned(*series), "the data that they would be made of are not there"
    files.write_json(workspace.folder / STORE / "datasets/wiki-leads/manifest.json", {})
    planned = workspace.planned(*series)
    assert not COMPUTING & planned.keys()
    assert (planned["tabulate_series"], planned["measure_series"], planned["compare_checkpoints"]) == (2, 1, 1)


# --- the program around Snakemake


def test_a_mistake_in_the_configuration_makes_no_second_call(study):
    study.study(missing_runs="sometimes")
    done = study.call(*ALONE, check=False)
    assert done.returncode == 1
    assert "missing_runs: 'sometimes' is not one of: stop, skip" in done.stdout
    assert "Making the tables" not in done.stdout
