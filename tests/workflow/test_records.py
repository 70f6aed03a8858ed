"""Results without Snakemake's records of them: what changed since would go unseen, so each call says it, and what to type."""

import os
import re
import shutil

import yaml
from changes import CHANGES, same


def follow_advice(study) -> None:
    """Type what the message says."""
    output = study.snakemake("--dry-run")
    commands = re.findall(r"^ +((?:find|rm) results.*)$", output, re.MULTILINE)
    assert "but Snakemake's record of what it was made from is not" in output, output
    assert commands
    assert "Traceback" not in output
    for command in commands:
        study.call("sh", "-c", command)


def test_a_change_after_the_records_were_lost_is_not_passed_over(study, fresh):
    shutil.rmtree(study.folder / ".snakemake")
    for change in ("a setting of a task", "a level taken away", "a tokenizer beside local weights"):
        CHANGES[change][0](study)
    follow_advice(study)
    output = study.run()
    assert study.planned() == {}
    assert "computed\n" in output
    same(study.results(), fresh(study).results())


def test_runs_are_kept_where_the_records_were_lost(study):
    before = study.results()
    shutil.rmtree(study.folder / ".snakemake")
    follow_advice(study)
    output = study.run()
    assert "Not computed again" in output
    assert "\ncomputed\n" not in output
    same(study.results(), before)


def test_tables_and_figures_of_an_earlier_configuration_are_told(study):
    """They stay where they were, and look as if they were of the study that there is."""
    assert "earlier configuration" not in study.snakemake("--dry-run")
    study.table("references")
    study.study(claims=None)
    output = study.run()
    place = f"{study.folder}/results/mine/tables"
    assert "results/mine/claims.html, results/mine/tables/claims.parquet" in output
    study.call("sh", "-c", re.search(r"^ +(rm results.*)$", output, re.MULTILINE)[1])
    assert not os.path.exists(f"{place}/references.parquet")
    figures = [study.folder / f"results/mine/figures/of-{number}.svg" for number in range(9)]
    for figure in figures:
        figure.write_text("<svg/>")
    told = study.snakemake("--dry-run")
    assert re.search(
        r"and 6 more are of an earlier .*\n  rm -r results/mine/tables results/mine/figures$", told, re.MULTILINE
    )
    for figure in figures:
        figure.unlink()
    output = study.snakemake("--dry-run")
    assert "earlier configuration" not in output
    assert "Nothing to be done" in output


def test_the_folder_of_a_study_that_is_renamed_holds_no_old_tables(study):
    (study.folder / "results/mine").rename(study.folder / "results/other")
    path = study.folder / "config/config.yaml"
    config = yaml.safe_load(path.read_text())
    config["grid"][2]["sparsities"] = [0.1, 0.2, 0.4]
    path.write_text(yaml.safe_dump(config | {"study": "other"}))
    rounds = study.folder / "results/other/rounds.json"
    rounds.write_text('{"rounds": []}')
    follow_advice(study)
    assert rounds.is_file()
    assert study.planned()["prune_eval"] == 1
    study.run()
    (study.folder / "results/other").rename(study.folder / "results/mine")
    runs = study.results()["runs"]
    assert {*runs.loc[runs["task"] == "short", "sparsity"]} == {0.0, 0.1, 0.2, 0.4}
