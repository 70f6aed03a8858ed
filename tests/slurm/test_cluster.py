"""The literal `snakemake --profile slurm` on a real SLURM: the same bytes as a local run, and what each job asked for."""

import re
import shutil

import pytest
from cluster import RESULTS, evaluations, name, records, request

pytestmark = pytest.mark.slurm


def test_the_literal_command_gives_the_bytes_of_a_local_run(study, expected):
    for folder in RESULTS:
        shutil.rmtree(study.folder / "results" / folder)
    head = study.start()
    assert head.wait(600) == 0, head.output[-6000:]
    assert study.results() == expected
    assert study.planned() == {}

    jobs = records(head.run)
    assert {job["State"] for job in jobs} == {"COMPLETED"}
    assert (
        sorted(job["Comment"].split("_wildcards")[0] for job in jobs)
        == ["rule_count_layers", "rule_fit_knees", "rule_measure_differences", "rule_measure_spectrum"]
        + ["rule_prune_eval"] * 10
    )
    for job in jobs:
        asked = request(job)
        evaluation = job["Comment"].startswith("rule_prune_eval")
        assert asked.get("gres/gpu") == ("1" if evaluation else None)
        assert job["Partition"] == ("gpu" if evaluation else "cpu")
        assert re.fullmatch(r"\d+(\.\d+)?[MG]", asked["mem"])
        assert re.fullmatch(r"\d\d:\d\d:\d\d", job["Timelimit"])
        assert asked["cpu"] == ("2" if job["Comment"].startswith("rule_measure_spectrum") else "1")


@pytest.mark.thorough
def test_gpus_in_use_at_once_stay_below_the_cap(study, expected):
    study.forget("global/0.300/seed0", "global/0.300/seed1")
    head = study.on_slurm("--resources", "gpu=1")
    first, second = sorted(evaluations(head.run), key=lambda job: job["Start"])
    assert first["End"] <= second["Start"], "two GPUs stood ready, but one was allowed"
    assert study.results() == expected


def test_a_group_of_short_jobs_asks_for_one_gpu_and_the_sum_of_their_times(study, expected):
    """The third of the four is killed: the group is tried again, with more, but what had finished is computed once."""
    victims = ["global/0.300/seed0", "global/0.600/seed0", "random/0.300/seed0", "random/0.600/seed0"]
    study.forget(*victims)
    (study.faults / "kill-after").write_text("2")
    head = study.on_slurm(
        "--groups", "prune_eval=batch", "--group-components", "batch=4",
        "--set-resource-scopes", "gpu=local", "--resources", "gpu=1", "--jobs", "2",
    )  # fmt: skip
    first, second = sorted(evaluations(head.run), key=lambda job: int(job["JobID"]))
    assert request(first)["gres/gpu"] == request(second)["gres/gpu"] == "1"
    assert first["Timelimit"] == "00:40:00", "four jobs of ten minutes, one after another"
    assert (first["State"], second["State"]) == ("FAILED", "COMPLETED")
    assert second["Timelimit"] == "01:20:00"
    finished, taken = study.noted("finished"), study.noted("taken")
    assert sorted(finished) == sorted(map(name, victims))
    assert {len(jobs) for jobs in finished.values()} == {1}, "each is computed once"
    assert list(finished.values()).count([first["JobID"]]) == 2
    assert taken == {who: [second["JobID"]] for who, jobs in finished.items() if jobs == [first["JobID"]]}
    assert study.results() == expected
    assert not (study.folder / "results/store/work").exists(), "collecting the runs clears what was kept"


@pytest.mark.thorough
def test_a_site_that_knows_only_gres(study, expected):
    study.forget("global/0.300/seed0")
    head = study.on_slurm("--set-resources", "prune_eval:gres='gpu:1'", "prune_eval:gpu=0")
    (job,) = evaluations(head.run)
    assert request(job)["gres/gpu"] == "1"
    assert study.results() == expected
