"""What a study takes before it is run: worked out of the tables, then of what finished jobs took, and legible."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import estimate as program
from essential_sparsity import files
from essential_sparsity.acquire import formats
from essential_sparsity.acquire.sources import SourceError
from essential_sparsity.study import configuration, downloads, estimate, grid, needs, opening, records, resources, study
from essential_sparsity.study import sizes as sizes_of

ROOT = Path(__file__).parents[2]
PRESETS = sorted(path.stem for path in (ROOT / "config").glob("*.yaml") if path.stem != "claims")
BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n{}\t0:00:12\t642\t2\t417\t514\t0\t0\t44\t5\n"


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """A folder with the configuration and nothing in the store."""
    for name in ("config", "slurm"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)


def read(preset="config", **given) -> study.Study:
    config = configuration.read_config("config/config.yaml", f"config/{preset}.yaml")
    return opening.unlocked(config | {"resources": config["resources"] | given})


def test_what_is_of_another_source_is_found_and_so_is_what_was_trained_on_it(monkeypatch):
    """Checkpoints of pre-trainings made here have no source of their own: they are what their pre-training is."""
    monkeypatch.setattr(records.os.path, "isfile", lambda path: True)
    monkeypatch.setattr(records.os.path, "isdir", lambda path: True)
    monkeypatch.setattr(records, "made_with", lambda path, *params: "/checkpoints/" not in path)
    monkeypatch.setattr(records, "_of_settings", lambda study, name: True)
    asked = read("emergence-vision")
    assert asked.of_other == []
    assert f"{grid.STORE}/checkpoints/minilm/manifest.json" in read().of_other
    monkeypatch.setattr(records, "made_with", lambda path, *params: "/datasets/" not in path)
    data = {f"{grid.STORE}/datasets/{name}/manifest.json" for name in asked.used_datasets}
    made = {f"{grid.STORE}/pretraining/{name}/manifest.json" for name in asked.pretrained}
    trained = {f"{grid.STORE}/checkpoints/{name}/manifest.json" for name in asked.named_models}
    assert len(trained) > len(asked.members) / 2
    assert {*records.of_other(asked)} == data | made | trained
    monkeypatch.setattr(records.os.path, "isdir", lambda path: False)
    assert {*records.of_other(asked)} == data, "a pre-training that a person has deleted is not being made anew"


def test_a_record_says_with_what_and_of_which_inputs_a_file_was_made(tmp_path, monkeypatch):
    """Where none says it, or it says less, nothing is known: that is neither yes nor no."""
    monkeypatch.chdir(tmp_path)
    path = f"{grid.STORE}/{'long' * 90}.parquet"  # longer than a name of a file may be
    record = records._place(records.PLACES[0], path)

    def said(**known) -> None:
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(json.dumps(known))

    assert records.made_with(path, "a") is records.inputs_unchanged(path) is None
    said()
    assert records.made_with(path, "a") is records.inputs_unchanged(path) is None
    said(params=[repr("a"), repr(1.5), repr("b")])
    assert records.made_with(path, "a", 1.5) is True
    assert records.made_with(path, "a", 2) is records.made_with(path, "c") is False
    Path("one").write_text("1")
    Path("two").write_text("2")
    one, two = map(files.sha256_file, ("one", "two"))
    run = f"{records.RUNS}run.parquet"
    Path(run).parent.mkdir(parents=True)
    Path(run).write_text("of a run")
    said(input_checksums={"one": one, "two": f"sha256:{two}", run: "another", "gone": "any"})
    assert records.inputs_unchanged(path) is True
    said(input_checksums={"one": one, "two": one})
    assert records.inputs_unchanged(path) is False
    said(input_checksums={"one": f"sha256:{two}", "two": two})
    assert records.inputs_unchanged(path) is False
    said(input_checksums={"one": "etag:0", "two": two})
    assert records.inputs_unchanged(path) is True, "of another algorithm nothing is known"


def finish(asked: study.Study, job, seconds: float | None = None) -> None:
    """The files of a finished run, with its benchmark."""
    for place in (f"runs/{job.path}.parquet", f"items/{job.path}.parquet"):
        path = Path(grid.STORE, place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    if seconds:
        path = Path(grid.STORE, f"benchmarks/prune_eval/{job.path}.tsv")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(BENCHMARK.format(seconds))


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_an_estimate_of_a_hundred_columns(preset):
    asked = read(preset)
    lines = estimate.lines(asked)
    tables = lines[: next(i for i, line in enumerate(lines) if line.startswith("GPU hours"))]
    assert max(map(len, tables)) <= 100
    assert lines[0] == f"Study {asked.name}: {len(estimate.jobs(asked, resources.read(asked))):,} jobs, 0 finished"
    text = "\n".join(lines)
    for model, task in asked.curves:
        assert re.search(rf"^{model} +{task} ", text, re.MULTILINE)
    for pattern in {job.pattern for job in asked.jobs}:
        assert re.search(rf"^{pattern} ", text, re.MULTILINE)
    assert "16 GPUs at once (slurm/profile.v9+.yaml)" in text


def test_the_program_imports_nothing_heavy_and_takes_processors_too():
    code = (
        "import sys; import estimate; estimate.main(sys.argv[1:]);"
        "print([name for name in ('torch', 'pandas', 'numpy', 'pyarrow') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, "--config", "config/vicuna.yaml", "--gpus", "0"]
    shown = subprocess.run(
        command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "workflow/scripts")}
    )
    assert shown.stdout.endswith("[]\n")
    assert "no GPU; threads a job: 1, each one core of a processor" in shown.stdout


def test_processors_are_estimated_of_a_study_that_requires_cards(tmp_path, capsys):
    (tmp_path / "cards.yaml").write_text("study: cards\nresources: {device: cuda}\n")
    program.main(["--config", "cards.yaml", "--gpus", "0"])
    assert "no GPU; threads a job: 1" in capsys.readouterr().out


def test_what_calibration_adds_to_minutes_that_a_row_tells_is_worked_out():
    asked = read("calibrated", device="cpu", gpu=0)
    found = estimate.jobs(asked, resources.read(asked))
    whole, told = sum(job.minutes for job in found), sum(job.need.told for job in found)
    assert {job.source for job in found} == {estimate.TOLD}
    share = f"{100 * (1 - told / whole):.0f} % of what is left is worked out: right to a factor"
    assert any(line.startswith(share) for line in estimate.lines(asked))
    assert not any("worked out: right" in line for line in estimate.lines(read("config")))


@pytest.mark.parametrize("preset", ["paper", "paper-small", "published"])
def test_the_hours_that_the_documentation_tells_are_the_estimate(preset):
    def hours(card: str) -> str:
        asked = read(preset, gpu_class=card)
        found = sum(job.minutes * max(job.gpus, 1) for job in estimate.jobs(asked, resources.read(asked))) / 60
        return f"{float(f'{found:.2g}'):,.{int(found < 10)}f}"

    told = f"{hours('a100-80')} GPU hours of an A100, {hours('any')} of an unknown card (estimates)"
    rows = (ROOT / "docs/studies.md").read_text().splitlines()
    assert told in next(row for row in rows if row.startswith(f"| `config/{preset}.yaml`"))


def test_what_jobs_took_is_taken_and_what_is_finished_is_not_left():
    asked = read()
    before = estimate.jobs(asked, resources.read(asked))
    assert {job.source for job in before} == {estimate.TOLD}
    first = next(job for job in asked.jobs if (job.task, len(job.levels)) == ("ws353", 9))
    finish(asked, first, seconds=9 * 120.0)
    asked = read()
    after = estimate.jobs(asked, resources.read(asked))
    assert len(after) == len(before)
    assert [job.left for job in after].count(False) == 1
    of_task = [job for job in after if job.task == "ws353"]
    assert {job.source for job in of_task} == {estimate.MEASURED}
    assert all(job.minutes == pytest.approx(2 * job.levels) for job in of_task)
    assert {job.source for job in after if job.task != "ws353"} == {estimate.TOLD}
    assert "measured" in "\n".join(estimate.lines(asked))


def test_what_other_settings_took_is_no_measure():
    asked = read()
    first = next(job for job in asked.jobs if (job.task, len(job.levels)) == ("ws353", 9))
    finish(asked, first, seconds=9 * 120.0)

    def sources(why: str) -> set[str]:
        found = estimate.jobs(read(), resources.read(asked), {first.path: why})
        assert all(job.left for job in found)
        return {job.source for job in found if job.task == "ws353"}

    assert sources("Its file is of other settings, code") == sources("Its file is of other data") == {estimate.TOLD}
    assert sources("Its file is of other code") == {estimate.MEASURED}, "which does not take another time"


def test_what_was_only_found_again_is_no_measure():
    asked = read()
    done = [job for job in asked.jobs if (job.task, len(job.levels)) == ("ws353", 9)][:2]
    for job, seconds in zip(done, (9 * 120.0, 3.0), strict=True):
        finish(asked, job, seconds)
    log = Path(grid.STORE, f"logs/prune_eval/{done[1].path}.log")
    log.parent.mkdir(parents=True)
    log.write_text("Not computed again: the run, made of the same before.\n")
    assert estimate.per_level([Path(grid.STORE, "benchmarks/prune_eval")]) == pytest.approx(2)


def test_a_finished_study_has_nothing_left():
    asked = read("finetune")
    for job in asked.jobs:
        finish(asked, job)
    lines = estimate.lines(asked)
    assert lines[0] == "Study finetune: 44 jobs, 44 finished"
    assert any(re.fullmatch(r"GPU hours: \d\.\d, 0 of them left", line) for line in lines)


def test_hours_are_the_sum_of_the_jobs_and_wall_time_is_never_below_a_chain():
    asked = read("lottery")
    jobs = estimate.jobs(asked, resources.read(asked))
    assert len(jobs) == len(asked.jobs) + len(asked.tickets)
    alone = estimate.wall_minutes(asked, jobs, 1)
    assert alone == pytest.approx(sum(job.minutes for job in jobs))
    chain = [job.minutes for job in jobs if job.pattern == estimate.ITERATIONS and job.seed == 0]
    assert estimate.wall_minutes(asked, jobs, 1000) == pytest.approx(10 + sum(chain) + 10), "dense, iterations, a run"


def test_levels_that_refinement_may_add_are_told():
    asked = read()
    jobs = estimate.jobs(asked, resources.read(asked))
    cheap = {
        (job.model, job.task, job.pattern): job.minutes / job.levels
        for job in jobs
        if job.task != "reviews-finetune" and job.pattern not in ("dense", "nm2", "nm4", "nm8")
    }
    seeds = {curve: len({job.seed for job in jobs if (job.model, job.task, job.pattern) == curve}) for curve in cheap}
    curves, levels, hours = estimate.refined(asked, jobs)
    assert (curves, levels) == (len(cheap), 6 * len(cheap))
    assert hours == pytest.approx(sum(6 * seeds[curve] * each for curve, each in cheap.items()) / 60)
    assert f"adds levels around knees: at most {levels} levels, to {curves} curves, " in "\n".join(
        estimate.lines(asked)
    )

    (model, task, pattern), *_ = sorted(cheap)
    rounds = Path(asked.folder, "rounds.json")
    rounds.parent.mkdir(parents=True)
    entry = {"model": model, "task": task, "pattern": pattern, "levels": ["0.110", "0.120"]}
    rounds.write_text(json.dumps({"rounds": [[entry], [entry | {"levels": ["0.130", "0.140", "0.160", "0.170"]}]]}))
    assert estimate.refined(asked, jobs)[:2] == (curves - 1, levels - 6), "this curve has had its levels"
    assert estimate.refined(read("paper-small"), jobs) == (0, 0, 0), "refine: null"
    tuned = read("lottery")
    assert estimate.refined(tuned, estimate.jobs(tuned, resources.read(tuned)))[0] == 0, "of other protocols"


def test_gpus_at_once_come_from_the_profile_or_as_asked():
    def at_once(asked, **given):
        requests = resources.read(read(**given))
        return estimate.at_once(requests, estimate.jobs(read(**given), requests), asked)

    assert at_once(None)[0] == 16
    assert at_once(8, gpu=2)[0] == 8
    profile = yaml.safe_load(Path(estimate.PROFILE).read_text())
    Path("slurm").unlink()
    Path("slurm").mkdir()
    Path(estimate.PROFILE).write_text(yaml.safe_dump(profile | {"jobs": 3}))
    assert at_once(None)[0] == 3, "no more jobs at once than the profile allows"
    assert at_once(None, gpu=2, preset="emergence-text")[0] == 6, "of two GPUs at most"
    assert at_once(1, gpu=2) == (1, "1 GPU"), "two are of a pre-training, and there is none"
    assert at_once(1, gpu=2, preset="emergence-text") == (2, "2 GPUs"), "a pre-training holds two"
    assert "cores" in at_once(8, gpu=0)[1]


def test_sizes_of_what_is_there_are_those_of_its_files():
    asked = read("language")
    found = {part.what: part for part in downloads.expected(asked)}
    assert found["model opt-1.3b"].size == pytest.approx(2.64e9)
    assert found["model bert-base"].size == pytest.approx(440e6)
    assert found["data squad"].size is None
    manifest = Path(grid.STORE, "datasets/squad/manifest.json")
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"files": [{"path": "a", "size": 30000000}, {"path": "b", "size": 5}]}')
    found = {part.what: part for part in downloads.expected(asked)}
    assert (found["data squad"].size, found["data squad"].there) == (30_000_005, 30_000_005)
    requests = resources.read(asked)
    trainings = next(
        part
        for part in estimate.written(asked, requests, estimate.jobs(asked, requests), 16)
        if "trainings" in part.what
    )
    assert trainings.size == pytest.approx(16 * 1.32e9 * 24), "weights and moments, two files while one is written"


def test_sizes_of_data_are_asked_of_the_hub_before_they_are_fetched(monkeypatch, capsys):
    asked = read("language")
    there = {"squad": 30_000_005}
    manifest = Path("results/store/datasets/squad/manifest.json")
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"files": [{"path": "a", "size": 30000000}, {"path": "b", "size": 5}]}')
    hub = [name for name in asked.used_datasets if asked.datasets[name]["source"] == "hub" and name not in there]
    assert downloads.unknown(asked) == hub
    assert len(hub) > 2

    def size(settings):
        if settings["id"] == asked.datasets[hub[0]]["id"]:
            raise SourceError("The hub is away.")
        return 7_000_000_000

    monkeypatch.setattr(formats, "size", size)
    sizes = sizes_of.of_hub(asked)
    assert sizes == dict.fromkeys(hub[1:], 7_000_000_000)
    assert f"warning: the size of {hub[0]} is not known. The hub is away." in capsys.readouterr().out
    asked_for = []

    def away(settings):
        asked_for.append(settings["id"])
        raise SourceError("No route.") from OSError("away")

    monkeypatch.setattr(formats, "size", away)
    assert sizes_of.of_hub(asked) == {}
    assert len(asked_for) == 1, "each would wait for nothing"
    found = {part.what: (part.size, part.there) for part in downloads.expected(asked, sizes)}
    assert found[f"data {hub[1]}"] == (7_000_000_000, 0)
    assert found[f"data {hub[0]}"] == (None, 0)
    assert found["data squad"] == (30_000_005, 30_000_005)
    assert any(line.split()[1:] == [hub[1], "1", "7.00", "0"] for line in estimate.lines(asked, sizes=sizes))


def test_items_that_are_written_are_those_of_the_data_and_tickets_write_none():
    asked = read("lottery")
    asked.tasks.update({name: row | {"n_eval": None} for name, row in asked.tasks.items()})

    def size(rows: int | None) -> float:
        data = needs.Data({"train": 70_000, "validation": rows}, 1, False) if rows else None
        requests = dataclasses.replace(resources.read(asked), fetched=lambda name: data)
        return estimate.written(asked, requests, estimate.jobs(asked, requests), 16)[0].size

    levels = sum(len(job.levels) for job in asked.jobs)
    assert asked.tickets
    assert size(None) == levels * needs.UNKNOWN_ITEMS * estimate.ITEM_BYTES
    assert size(872) == levels * 872 * estimate.ITEM_BYTES


def test_what_cannot_be_run_is_told():
    lines = estimate.lines(read("vicuna", gpu_class="t4"))
    told = [line for line in lines if line.startswith(("error", "warning"))]
    assert told[0].startswith("error: vicuna-7b on mmlu needs about 27 GB of GPU memory")
    assert told[1].startswith("warning: vicuna-7b on wikitext2 needs about 16 GB of GPU memory")
    assert len(told) == 2, "once, whatever the pattern"
    parts = estimate.lines(read("language", gpu_class="a100-40"))
    assert "* batches go through in parts that fit the card" in parts
    assert not [line for line in parts if line.startswith(("error", "warning"))]


def test_a_benchmark_is_minutes_of_a_level_and_the_median_of_several_counts():
    folder = Path(grid.STORE, "benchmarks/prune_eval/m/t/global")
    for name, seconds in (("0.100+0.200", 120), ("0.300", 240), ("0.400+0.500+0.600", 1800)):
        (folder / name).mkdir(parents=True)
        (folder / name / "seed0.tsv").write_text(BENCHMARK.format(seconds))
    assert sorted(estimate.benchmarked(folder.rglob("*.tsv"))) == [(2, 2), (4, 1), (30, 3)]
    assert estimate.per_level([folder]) == 4
    assert estimate.per_level([folder], ["m/t/global/0.300/seed0"]) == 5.5, "of the other two"
    assert estimate.per_level([folder / "0.700"]) is None
    (folder / "0.300/seed0.tsv").write_text("no benchmark\n")
    assert estimate.per_level([folder]) == 5.5


def test_calibrated_patterns_and_tickets_are_measured_of_their_own_jobs():
    asked = read("calibrated")
    costly = next(job for job in asked.jobs if resources.calibrated(job.pattern))
    finish(asked, costly, seconds=600.0 * len(costly.levels))

    def measured(asked: study.Study) -> set[tuple[str, str, str]]:
        found = estimate.jobs(asked, resources.read(asked))
        return {(job.model, job.task, job.pattern) for job in found if job.source == estimate.MEASURED}

    assert measured(asked) == {(costly.model, costly.task, costly.pattern)}
    asked = read("lottery")
    model, task, seed, level = asked.tickets[0]
    path = Path(grid.STORE, f"benchmarks/find_ticket/{model}/{task}/seed{seed}/{level}.tsv")
    path.parent.mkdir(parents=True)
    path.write_text(BENCHMARK.format(420))
    assert measured(asked) == {(model, task, estimate.ITERATIONS)}
    found = estimate.jobs(asked, resources.read(asked))
    assert {job.minutes for job in found if job.source == estimate.MEASURED} == {7}


def test_what_is_trained_here_is_left_until_it_is_there_and_as_it_is_asked_for():
    asked = read("emergence-text")
    name = asked.pretrained[0]

    def job(again=None) -> estimate.Job:
        found = estimate.jobs(asked, resources.read(asked), again)
        return next(job for job in found if (job.model, job.task) == (name, estimate.PRETRAINING))

    assert (job().left, job().source) == (True, estimate.WORKED_OUT)
    made = f"{grid.STORE}/pretraining/{name}/manifest.json"
    Path(made).parent.mkdir(parents=True)
    Path(made).write_text("{}")
    benchmark = Path(grid.STORE, f"benchmarks/pretrain/{name}.tsv")
    benchmark.parent.mkdir(parents=True)
    benchmark.write_text(BENCHMARK.format(3600))
    assert (job().left, job().source, job().minutes) == (False, estimate.MEASURED, 60)
    assert (job({made: "of others"}).left, job({made: "of others"}).source) == (True, estimate.WORKED_OUT)
    ticketed = read("lottery")
    place = f"{grid.STORE}/tickets/{records.iterations.path(ticketed.tickets[0])}"
    Path(place).parent.mkdir(parents=True)
    Path(f"{place}.safetensors").touch()

    def left(again=None) -> int:
        found = estimate.jobs(ticketed, resources.read(ticketed), again)
        return sum(job.left for job in found if job.pattern == estimate.ITERATIONS)

    assert left() == len(ticketed.tickets) - 1
    assert left({f"{place}.sha256": "of others"}) == len(ticketed.tickets)


def test_gpu_hours_are_those_of_all_cards_of_a_job_and_wall_time_waits_for_pre_trainings():
    asked = read("emergence-bookcorpus", gpu=2)
    jobs = estimate.jobs(asked, resources.read(asked))
    made = {job.model: job.minutes for job in jobs if job.task == estimate.PRETRAINING}
    runs = [job for job in jobs if job.task != estimate.PRETRAINING]
    cards = 2 * sum(made.values()) + sum(job.minutes for job in runs)
    assert {job.gpus for job in runs} == {1}
    text = "\n".join(estimate.lines(asked))
    assert f"GPU hours: {cards / 60:,.0f}, {cards / 60:,.0f} of them left" in text
    assert "1 to 2 GPUs a job: " in text
    assert estimate.wall_minutes(asked, jobs, 2) == pytest.approx(cards / 2)
    chains = [
        made[asked.models[first.model]["id"]]
        + first.minutes
        + max(
            job.minutes
            for job in runs
            if (job.model, job.task, job.seed) == (first.model, first.task, first.seed) and job != first
        )
        for first in runs
        if first.pattern == "dense"
    ]
    assert estimate.wall_minutes(asked, jobs, 10_000) == pytest.approx(max(chains))
    assert estimate.wall_minutes(asked, [job for job in jobs if job not in runs], 10_000) == max(made.values())
    assert estimate.wall_minutes(asked, [], 1) == 0


def test_seeds_wait_for_nothing_of_one_another():
    asked = read("lottery")
    jobs = estimate.jobs(asked, resources.read(asked))
    seeds = {job.seed for job in jobs}
    assert len(seeds) > 1
    longest = [estimate.wall_minutes(asked, [job for job in jobs if job.seed == seed], 10_000) for seed in seeds]
    assert estimate.wall_minutes(asked, jobs, 10_000) == max(longest)


def test_what_is_written_counts_bits_of_tickets_and_all_checkpoints_of_a_pre_training():
    def sizes(asked: study.Study) -> dict:
        requests = resources.read(asked)
        return {part.what: part for part in estimate.written(asked, requests, estimate.jobs(asked, requests), 1)}

    asked = read("lottery")
    (model,) = {ticket[0] for ticket in asked.tickets}
    tickets = sizes(asked)["tickets"]
    assert tickets.size == pytest.approx(len(asked.tickets) * asked.models[model]["parameters"] / 8)
    asked = read("emergence-text")
    asked.pretrainings["wiki-bert-100"] |= {
        "layers": 2,
        "width": 10,
        "vocabulary": 50,
        "steps": 100,
        "checkpoint_every": 25,
    }
    made = sizes(asked)["checkpoints of wiki-bert-100"]
    assert (made.number, made.size) == (5, (12 * 2 * 100 + 50 * 10) * (5 * 4 + 2 * 12)), "0, 25, 50, 75, 100"


def test_lines_say_what_holds_of_a_study_and_no_more():
    def text(preset="config", **given) -> str:
        return "\n".join(estimate.lines(read(preset, **given)))

    assert "1 GPU a job: " in text("language")
    assert "make refine" not in text("paper-small"), "refine: null"
    fits = "whether models fit the card was not checked"
    assert fits in text("language")
    assert fits not in text("language", gpu_class="a100-80")
    assert fits not in text("language", gpu=0)
    lacking = "weights of {} checkpoint{} are read and counted"
    assert lacking.format(4, "s") in text() or lacking.format(3, "s") in text()
    for name in read().named_models:
        path = Path(grid.STORE, f"spectra/{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert "are read and counted" not in text()
    many = read(gpu=0, threads=100_000)
    requests = resources.read(many)
    assert estimate.at_once(requests, estimate.jobs(many, requests), None)[0] == 1, "more threads than cores"


def test_of_what_has_no_known_size_the_sum_is_at_least_the_others():
    stored = [downloads.Stored("a", 1, None, 0), downloads.Stored("b", 2, 2_000_000_000, 20_000_000)]
    lines = estimate.by_size("to fetch", [*stored, downloads.Stored("c", 1, None, 1), downloads.Stored("d", 1, 0, 0)])
    cells = [line.split() for line in lines[:-1]]
    assert cells[1:] == [
        ["a", "1", "–", "0"], ["b", "2", "2.00", "0.02"], ["c", "1", "–", "<", "0.01"], ["d", "1", "0", "0"],
        ["in", "all", "2.00+", "0.02"],
    ]  # fmt: skip
    assert lines[-1] == "–: its size is known when it has been fetched"
    assert len(estimate.by_size("to fetch", [stored[1]])) == 3


def test_tickets_are_no_curves_that_are_refined():
    asked = read("lottery")
    asked.given["refine"] = {"width": 0.05, "levels": 2, "protocols": ["finetune"]}
    jobs = estimate.jobs(asked, resources.read(asked))
    curves = {(job.model, job.task, job.pattern) for job in asked.jobs if job.pattern not in ("dense", "lth")}
    assert estimate.refined(asked, jobs)[:2] == (len(curves), 2 * len(curves))


def test_a_job_that_is_stored_counts_with_all_levels_that_it_walked():
    job = next(job for job in read().jobs if job.curve == ("minilm", "ws353", "layerwise", 0))
    finish(read(), job)
    config = configuration.read_config("config/config.yaml")
    config["grid"] = [block | {"sparsities": [0.5]} for block in config["grid"] if block["patterns"] == ["layerwise"]]
    asked = opening.unlocked(config)
    (found,) = (job for job in estimate.jobs(asked, resources.read(asked)) if job.pattern == "layerwise")
    assert (found.left, found.levels) == (False, 9)


@pytest.mark.parametrize(("preset", "unit", "per"), [("emergence-text", "minutes", 1), ("language", "hours", 60)])
def test_times_are_in_the_unit_that_the_header_says_and_levels_are_summed(preset, unit, per):
    asked = read(preset)
    jobs = estimate.jobs(asked, resources.read(asked))
    finish(asked, asked.jobs[0])
    lines = [line.split() for line in estimate.lines(asked)]
    left = sum(job.minutes for job in jobs) - jobs[0].minutes
    header = next(row for row in lines if row[:2] == ["model", "task"])
    assert header[2:6] == ["jobs", "left", unit, "left"]
    whole = next(row for row in lines if row[:2] == ["in", "all"])
    times = [estimate.hours(minutes / per) for minutes in (left + jobs[0].minutes, left)]
    assert whole[2:] == [f"{len(jobs):,}", f"{len(jobs) - 1:,}", *times]
    for pattern in {job.pattern for job in jobs if job.pattern}:
        some = [job for job in jobs if job.pattern == pattern]
        row = next(row for row in lines if row[:1] == [pattern])
        assert row[1:3] == [f"{sum(job.levels for job in some):,}", f"{len(some):,}"]
        assert row[4] == estimate.hours(sum(job.minutes for job in some) / per)


def test_data_that_are_not_there_are_told(tmp_path, monkeypatch, capsys):
    """An estimate is also made before they are; a run would refuse them."""
    rows = [{"source": "path", "id": name, "dataset": name.partition(".")[0]} for name in ("mine.csv", "other.csv")]
    Path("other.csv").write_text("text,label\na,b\n")
    monkeypatch.setattr(opening, "local_rows", lambda asked: rows)
    program.main(["--config", "config/finetune.yaml", "--gpus", "0"])
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("Study finetune")
    assert "Nothing is computed of the data set 'mine': mine.csv does not exist." in told[-1]
    assert sum("Nothing is computed" in line for line in told) == 1
    assert not Path(grid.STORE).exists(), "no content is read for it"
