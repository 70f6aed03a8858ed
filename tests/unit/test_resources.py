"""What jobs ask for: near what was measured, near what is known of published runs, never more than the site gives."""

import dataclasses
import json
from pathlib import Path

import pytest
from benchmark_programs import loaded

from essential_sparsity import patterns
from essential_sparsity.pruning import walking
from essential_sparsity.study import configuration, needs, opening, resources
from essential_sparsity.study.configuration import ConfigError
from essential_sparsity.study.grid import Job

ROOT = Path(__file__).parents[2]
benchmark = loaded("resources")
MEASURED = benchmark.read(ROOT / "tests/unit/measured.tsv")


@pytest.fixture(autouse=True)
def _root(monkeypatch):
    monkeypatch.chdir(ROOT)


def asked(preset="language", **given) -> resources.Requests:
    """The requests of a preset, with other keys of `resources`."""
    config = configuration.read_config("config/config.yaml", f"config/{preset}.yaml")
    return resources.read(opening.unlocked(config | {"resources": config["resources"] | given}))


def changed(requests, task, **changes) -> resources.Requests:
    """The same with another row of the task."""
    tasks = requests.tasks | {task: requests.tasks[task] | changes}
    return dataclasses.replace(requests, tasks=tasks, known={})


def fetched(requests, dataset, rows, size=1_000_000, pictures=False) -> resources.Requests:
    """The same where the data set is there."""
    return dataclasses.replace(requests, fetched={dataset: needs.Data(rows, size, pictures)}.get, known={})


@pytest.mark.parametrize("row", MEASURED, ids=lambda row: f"{row['model']}-{row['task']}-{row['levels']}")
def test_expectations_are_within_a_factor_of_three_of_what_was_measured(row):
    need = benchmark.expected(row)
    assert row["seconds"] / 3 < 60 * need.minutes < 3 * row["seconds"]
    requested = resources.SAFE_MEMORY * need.host_mb
    assert row["max_rss_mb"] < need.host_mb < requested < 3 * row["max_rss_mb"] + needs.START_MB


def test_the_documentation_shows_these_expectations():
    shown = Path("docs/resources.md").read_text().split("```text\n")[1].split("```")[0]
    assert shown.splitlines() == benchmark.compared(MEASURED)


def test_the_documentation_says_how_calibrated_pruning_is_worked_out():
    time, memory = (row for row in Path("docs/resources.md").read_text().splitlines() if row.startswith("| calibrated"))
    hessians, step = needs.HESSIANS, {gpu: f"{1000 * seconds:g}" for gpu, seconds in needs.STEP.items()}
    assert f"{hessians[True]} operations a token, layer and width² on a GPU ({hessians[False]} on a core)" in time
    assert f"{step[True]} ms a column ({step[False]}); on a GPU also {needs.MOVED / 1e9:g} GB a second" in time
    assert needs.HANDED == 3, "three times what blocks hand over"
    assert "three times what blocks hand over" in memory


def calibrated(pattern, card, sequences=128, levels=1, dtype="bfloat16", length=2048):
    """What pruning a 7B takes in all, on a card or on four cores."""
    model = {"parameters": 6_476_000_000, "dtype": dtype, "type": "language"}
    row = {"sequences": sequences, "length": length}
    device, gpu = needs.Device.of_row(benchmark.DEVICES[card]), card != resources.PROCESSOR
    return needs.with_calibration(needs.Need(0, 0, 0), model, {}, patterns.find(pattern), row, levels, device, gpu, 4)


@pytest.mark.parametrize(
    ("pattern", "seconds", "gigabytes"), [("wanda", 19.7, 7.9), ("sparsegpt", 159.4, 10.9)]
)  # docs/gpu.md
def test_pruning_with_data_is_within_a_factor_of_two_of_what_a_card_took(pattern, seconds, gigabytes):
    found = calibrated(pattern, "h200")
    assert seconds / 2 < 60 * found.minutes < 2 * seconds
    assert gigabytes / 1.1 < found.gpu_mb / 1000 < 1.5 * gigabytes
    assert found.least_gpu_mb < found.gpu_mb, "what blocks hand over goes to the machine where there is no room"
    assert calibrated(pattern, "h200", levels=2).minutes == pytest.approx(2 * found.minutes)


@pytest.mark.parametrize(("pattern", "seconds"), [("wanda", 10.3), ("sparsegpt", 64)])  # docs/memory.md: of two cores
def test_pruning_with_data_is_within_a_factor_of_two_of_what_a_processor_took(pattern, seconds):
    found = calibrated(pattern, "cpu-core", sequences=8, length=256, dtype="float32")
    assert seconds / 2 < 2 * 60 * found.minutes / 32 < 2 * seconds


def test_on_a_processor_a_block_and_its_hessians_are_in_the_memory_of_the_machine():
    found = calibrated("sparsegpt", "cpu-core", sequences=8)
    handed, block, hessians = 8 * 2048 * 4096 * 2 / 1e6, 2 * 2 * 101_000_000 / 1e6, 4096**2 * 4 * (2.7**2 + 9) / 1e6
    assert handed + block + hessians < found.host_mb < 3 * (handed + block + hessians)
    assert found.gpu_mb == found.least_gpu_mb == 0


def test_what_blocks_hand_over_goes_to_the_machine_and_back_where_a_card_has_no_room_for_it_or_is_not_known():
    there = calibrated("wanda", "t4", sequences=128)
    back = calibrated("wanda", "t4", sequences=512)
    assert back.gpu_mb == back.least_gpu_mb < 0.25 * there.gpu_mb
    assert back.minutes > 4 * there.minutes + 1, "moved"
    assert calibrated("wanda", "any").gpu_mb == calibrated("wanda", "any").least_gpu_mb
    assert needs.HANDED == walking.ROOM


@pytest.mark.parametrize(
    ("model", "task", "items", "seconds"),
    [
        ({"parameters": 110_000_000, "dtype": "float32"}, "sst2", 4096, 4096 / 1911),  # of 68 tokens, docs/gpu.md
        ({"parameters": 110_000_000, "dtype": "bfloat16"}, "sst2", 4096, 4096 / 1816),
        ({"parameters": 6_738_000_000, "dtype": "bfloat16"}, "wikitext2", 16, 16 * 2048 / 31_130),
    ],
)
def test_scoring_is_within_a_factor_of_three_of_what_a_card_took(model, task, items, seconds):
    card = needs.Device.of_row(benchmark.DEVICES["h200"])
    rows = asked("language").tasks if task == "sst2" else asked("vicuna").tasks
    changes = {
        "protocol": "zero-shot",
        "n_train": None,
        "n_eval": items,
        "windows": items,
        "mean_length": None,
        "passes": None,
    }
    row = rows[task] | changes | {"max_length": 68 if task == "sst2" else None, "autocast": None}
    found = needs.seconds(model | {"type": "language"}, row, card, True, 4)
    assert seconds / 3 < found < 3 * seconds


def test_a_pre_training_is_within_a_factor_of_three_of_what_was_measured():
    need = asked("emergence-text", gpu=0).pretraining("wiki-bert-100")
    assert 118 / 3 < 60 * need.minutes < 3 * 118, "seconds of one core"
    assert need.host_mb > 758


def test_requests_of_the_presets_are_those_that_were_reviewed():
    """`python benchmarks/resources.py --presets tests/unit/requests.tsv` writes the table: its diff is what changes."""
    reviewed = [tuple(line.split("\t")) for line in Path("tests/unit/requests.tsv").read_text().splitlines()]
    assert reviewed == [("preset", *resources.HEADER), *benchmark.presets()]


@pytest.mark.parametrize("model", ["vicuna-7b", "opt-1.3b", "bloom-560m"])
def test_a_perplexity_is_expected_to_take_what_a_card_takes_and_longer_on_a_processor(model):
    """A 7B's 166 windows of 2,048 at 31,130 tokens a second, and its masks: 12 seconds; then what a job takes to start (docs/gpu.md)."""
    given = asked("published" if model != "vicuna-7b" else "vicuna", gpu_class="h200")
    assert 60 * (given.run(model, "wikitext2", 2).minutes - given.run(model, "wikitext2", 1).minutes) < 3 * 12
    slow = asked("published" if model != "vicuna-7b" else "vicuna", gpu=0)
    assert slow.run(model, "wikitext2", 1).minutes > given.run(model, "wikitext2", 1).minutes * 20


@pytest.mark.parametrize(
    ("preset", "model", "task", "card", "hours"),
    [
        ("vicuna", "vicuna-7b", "mmlu", "a100-80", (0.2, 1.2)),  # half an hour in 16 bits, batch 8
        ("language", "opt-1.3b", "mnli", "a100-40", (6, 40)),  # three epochs in float32
        ("language", "bert-base", "mnli", "v100-32", (1, 6)),  # an hour an epoch in float32
        ("language", "bert-base", "squad", "v100-32", (1, 6)),
        ("vision", "vit-base", "cifar10", "a100-40", (1, 6)),
    ],
)
def test_time_of_a_level_is_that_of_published_runs(preset, model, task, card, hours):
    minutes = asked(preset, gpu_class=card).run(model, task, 1).minutes
    assert hours[0] < minutes / 60 < hours[1]


def test_memory_of_the_gpu_and_of_the_machine_are_apart():
    on_card = asked("vicuna").run("vicuna-7b", "mmlu", 3)
    assert 20_000 < asked("vicuna").mem_mb(on_card) < 60_000, "the file as it is mapped, and what is loaded"
    assert 13_500 < on_card.least_gpu_mb == on_card.gpu_mb < 40_000, "lm-eval does not cut its batches"
    on_processors = asked("vicuna", gpu=0).run("vicuna-7b", "mmlu", 3)
    assert on_processors.gpu_mb == 0
    assert on_processors.host_mb > on_card.host_mb - needs.DRIVER_MB
    tuned = asked().run("opt-1.3b", "mnli", 1)
    assert tuned.least_gpu_mb > 17 * 1320, "weights, gradients, two moments, masks"
    assert tuned.gpu_mb > tuned.least_gpu_mb + 10_000, "activations of a whole batch, which can be cut into parts"
    assert tuned.host_mb < 12_000, "none of which is memory of the machine"
    assert asked(gpu=0).run("opt-1.3b", "mnli", 1).host_mb > tuned.gpu_mb, "but where no GPU computes"
    assert asked(device="cpu").run("opt-1.3b", "mnli", 1) == asked(gpu=0).run("opt-1.3b", "mnli", 1)


def test_time_grows_with_levels_items_epochs_length_and_model():
    requests = asked()

    def minutes(model="opt-350m", levels=1, **changes):
        return changed(requests, "mnli", **changes).run(model, "mnli", levels).minutes

    plain = minutes()
    assert minutes(levels=3) == pytest.approx(3 * plain, rel=0.05)
    assert minutes(epochs=6) == pytest.approx(2 * plain, rel=0.05)
    assert minutes(n_train=40_000) < plain / 5
    assert minutes(mean_length=None) > 4 * plain, "as long as the longest where nobody says"
    assert minutes("opt-1.3b") > 3 * plain
    assert minutes(autocast="fp16") < plain
    assert asked(gpu_class="h100").run("opt-350m", "mnli", 1).minutes < plain / 2
    assert asked(gpu=0).run("opt-350m", "mnli", 1).minutes > 10 * plain


def test_time_of_a_mixture_of_experts_is_that_of_the_parameters_that_a_token_meets():
    requests = asked("vicuna", gpu_class="h200")

    def run(pattern="", **changes):
        rows = {"vicuna-7b": requests.models["vicuna-7b"] | changes}
        return dataclasses.replace(requests, models=rows, known={}).run("vicuna-7b", "mmlu", 1, pattern)

    whole, experts, small = run(parameters=46.7e9), run(parameters=46.7e9, active=12.9e9), run(parameters=12.9e9)
    assert whole.minutes / 3.7 < experts.minutes < whole.minutes / 2.5
    assert small.minutes < experts.minutes, "all weights are read, ranked and masked"
    assert small.gpu_mb + 60_000 < experts.gpu_mb < whole.gpu_mb, "and held"
    assert run("wanda", parameters=46.7e9, active=12.9e9).minutes < run("wanda", parameters=46.7e9).minutes / 2


def test_a_task_that_names_its_time_is_believed():
    requests = changed(asked(), "mnli", minutes_per_level=2.5)
    assert requests.minutes(requests.run("opt-1.3b", "mnli", 4)) == resources.START_MINUTES + 10


def test_each_masked_token_is_a_pass_of_its_own():
    requests = asked("config")
    minutes = [
        changed(requests, "wiki-mlm", minutes_per_level=None, n_eval=400_000, positions=n).run("minilm", "wiki-mlm", 1)
        for n in (1, 4, None)
    ]
    one, four, all_ = (need.minutes for need in minutes)
    assert (four / one, all_ / one) == pytest.approx((4, 64), rel=0.1)


def test_attempts_ask_for_more_but_never_for_more_than_the_site_gives():
    requests = asked(max_mem_mb=20_000, max_minutes=4_000)
    need = requests.run("opt-1.3b", "mnli", 1)
    memory, minutes = ([ask(need, attempt) for attempt in (1, 2, 3)] for ask in (requests.mem_mb, requests.minutes))
    assert memory[0] < memory[1] == memory[2] == 20_000
    assert minutes[0] < minutes[1] == minutes[2] == 4_000
    free = asked()
    assert [free.minutes(need, attempt) for attempt in (2, 3)] == [2 * minutes[0], 3 * minutes[0]]


def problem(requests, model, task, levels=1) -> resources.Problem | None:
    found = requests.problems([Job(model, task, "global", ("0.100",) * levels, 0, ())])
    assert len(found) <= 1
    return found[0] if found else None


def test_what_cannot_fit_is_told_by_name_before_it_is_queued():
    demo = opening.unlocked(configuration.read_config("config/config.yaml"))
    assert resources.problems(demo, resources.read(demo)) == []
    assert problem(asked(gpu_class="a100-40"), "opt-1.3b", "mnli") is None, "the batch goes through in parts"
    found = problem(asked(gpu_class="v100-16"), "opt-1.3b", "mnli")
    assert found.fatal
    assert "opt-1.3b on mnli needs about 24 GB of GPU memory" in found.message
    assert "but v100-16 has 16 (config/devices.tsv)" in found.message
    assert not problem(asked(max_mem_mb=8_000), "opt-1.3b", "mnli").fatal, "about 10 GB may be 8"
    found = problem(asked(max_mem_mb=6_000), "opt-1.3b", "mnli")
    assert found.fatal
    assert "opt-1.3b on mnli needs about 10 GB of memory, but resources.max_mem_mb allows 6.0" in found.message


def test_a_model_that_is_spread_over_cards_needs_its_share_on_each():
    small = asked("vicuna", gpu_class="rtx-3090")
    found = problem(small, "vicuna-7b", "mmlu")
    assert "spread it over more (gpus_per_job in the models table)" in found.message
    rows = small.models | {"vicuna-7b": small.models["vicuna-7b"] | {"gpus_per_job": 2}}
    spread = dataclasses.replace(small, models=rows, known={})
    assert problem(spread, "vicuna-7b", "mmlu") is None
    assert (small.cards("vicuna-7b", "mmlu"), spread.cards("vicuna-7b", "mmlu")) == (1, 2)
    one, two = (requests.run("vicuna-7b", "mmlu", 1) for requests in (small, spread))
    assert one.gpu_mb - two.gpu_mb == pytest.approx(needs.stored_mb(rows["vicuna-7b"]) / 2)
    assert one.minutes == two.minutes, "one card after another"
    assert one.host_mb == two.host_mb
    tuned = dataclasses.replace(
        asked(), models={n: row | {"gpus_per_job": 4} for n, row in asked().models.items()}, known={}
    )
    assert tuned.cards("bert-base", "mnli") == 1, "fine-tuning takes one"
    shared = asked(gpu=4)
    assert shared.cards("bert-base", "mnli") == 1, "a pre-training alone takes as many as `resources.gpu` says"
    assert asked("vicuna", gpu=4).cards("vicuna-7b", "mmlu") == 1
    assert shared.gpus == 4
    for without in (asked("vicuna", gpu=0), asked("vicuna", device="cpu")):
        rows = without.models | {"vicuna-7b": without.models["vicuna-7b"] | {"gpus_per_job": 2}}
        assert dataclasses.replace(without, models=rows, known={}).cards("vicuna-7b", "mmlu") == 0


def test_what_takes_longer_than_the_site_gives_is_told_with_what_to_do():
    assert problem(asked(max_minutes=1_440), "bert-base", "mnli") is None
    found = problem(asked(max_minutes=720), "opt-1.3b", "mnli")
    assert not found.fatal, "fine-tuning goes on where it was stopped"
    assert "goes on in its retry" in found.message
    assert problem(asked(max_minutes=120), "opt-1.3b", "mnli").fatal, "but not a dozen times"
    found = problem(asked("vicuna", max_minutes=300), "vicuna-7b", "mmlu", 3)
    assert found.fatal
    assert "Lower levels_per_job of the task to 2" in found.message
    found = problem(asked("vicuna", max_minutes=60), "vicuna-7b", "mmlu", 3)
    assert "Name a faster card in resources.gpu_class" in found.message


def test_a_pre_training_that_cannot_fit_is_told_too():
    (found,) = asked("emergence-bookcorpus", gpu_class="v100-16").problems([], ["bookcorpus-bert-100"])
    assert found.fatal
    assert "The pre-training bookcorpus-bert-100 needs about 39 GB of GPU memory" in found.message
    assert "lower its batch_size" in found.message
    shared = asked("emergence-bookcorpus", gpu_class="v100-16", gpu=4)
    assert shared.problems([], ["bookcorpus-bert-100"]) == [], "four cards share a batch"
    (found,) = asked("emergence-bookcorpus", max_minutes=1_440).problems([], ["bookcorpus-bert-100"])
    assert not found.fatal, "it goes on where it was stopped"
    small = asked("emergence-text", gpu=0, max_mem_mb=6_000)
    assert small.problems([], ["wiki-bert-100"]) == [], "the room for its data is no need"
    assert small.mem_mb(small.pretraining("wiki-bert-100")) == 6_000


def test_an_unknown_card_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"devices\.tsv has no row 'a100-90'; did you mean 'a100-[48]0'\?"):
        asked(gpu_class="a100-90")


def test_a_request_is_worked_out_once():
    requests = asked()
    assert requests.run("opt-1.3b", "mnli", 1) is requests.run("opt-1.3b", "mnli", 1)


def test_the_benchmark_compares_a_table_of_costs(tmp_path, capsys):
    import pandas as pd

    row = {"rule": "prune_eval", "model": "minilm", "task": "ws353", "levels": "0.100+0.200", "cpu_s": 8.0}
    frame = pd.DataFrame([row | {"wall_s": 20.0, "max_rss_mb": 700.0}, {"rule": "fetch_model", "levels": None}])
    frame.to_parquet(tmp_path / "costs.parquet")
    keep = ["--keep", str(tmp_path / "kept.tsv")]
    benchmark.main(["--costs", str(tmp_path / "costs.parquet"), *keep])
    assert "minilm     ws353                   2  cpu-core" in capsys.readouterr().out
    (kept,) = benchmark.read(tmp_path / "kept.tsv")
    assert (kept["seconds"], kept["max_rss_mb"], kept["passes"]) == (8.0, 700, 706)


def test_fitting_knees_grows_with_runs_and_items():
    requests = asked()
    jobs = [Job("bert-base", "mnli", pattern, ("0.100",), 0, ("0.100",)) for pattern in ("global", "random") * 3]
    few, many = (requests.fitting("mnli", jobs[:count]) for count in (2, 6))
    assert few.minutes < many.minutes
    assert few.host_mb < many.host_mb
    more = changed(requests, "mnli", n_eval=50_000).fitting("mnli", jobs)
    assert more.host_mb > many.host_mb
    assert more.minutes > many.minutes


MATCHED = {"train": 392_702, "validation_matched": 9815, "validation_mismatched": 9832}


def test_numbers_that_a_row_leaves_blank_are_those_of_the_data():
    full = asked().run("bert-base", "mnli", 1)
    blank = changed(asked(), "mnli", n_train=None, n_eval=None)
    there = fetched(blank, "glue-mnli", MATCHED).run("bert-base", "mnli", 1)
    assert there.minutes == full.minutes
    assert full.host_mb < there.host_mb < 1.1 * full.host_mb, "the frame of all rows beside the items"
    jobs = [Job("bert-base", "mnli", "global", ("0.100",), 0, ("0.100",))]
    assert fetched(blank, "glue-mnli", MATCHED).fitting("mnli", jobs) == asked().fitting("mnli", jobs)


def test_what_was_worked_out_before_the_words_of_a_model_were_known_does_not_last():
    known = {}
    requests = dataclasses.replace(asked("vicuna"), words=known.get, known={})
    before = requests.run("vicuna-7b", "wikitext2", 1).gpu_mb
    known["vicuna-7b"] = 256_000
    assert requests.run("vicuna-7b", "wikitext2", 1).gpu_mb > before


def test_what_was_worked_out_before_the_data_were_there_does_not_last():
    there = {}
    small = asked("emergence-text", gpu=0)
    requests = dataclasses.replace(changed(small, "wiki-topics", n_train=None), fetched=there.get)
    before = requests.run("wiki-bert-100-750", "wiki-topics", 1), requests.pretraining("wiki-bert-100")
    there["wiki-leads"] = needs.Data({"all": 1_000_000}, 200_000_000, False)
    after = requests.run("wiki-bert-100-750", "wiki-topics", 1), requests.pretraining("wiki-bert-100")
    assert after[0].host_mb > 2 * before[0].host_mb
    assert after[1].host_mb < before[1].host_mb / 2


@pytest.mark.parametrize(
    ("changes", "rows", "numbers"),
    [
        ({}, {"train": 100, "validation_matched": 20, "other": 30}, (100, 20)),
        ({"n_train": 50, "n_eval": 10}, {"train": 100, "validation_matched": 20}, (50, 10)),
        ({"eval_split": None}, {"train": 100, "test": 20}, (100, 20)),
        ({"eval_split": None}, {"train": 100, "test": 20, "unsupervised": 50}, (100, 20)),
        ({"eval_split": "held-out", "held_out": 0.1}, {"train": 100, "test": 20}, (90, 10)),
        ({"eval_split": None, "n_eval": 40}, {"all": 100}, (60, 40)),
        ({"eval_split": None, "held_out": 0.2}, {"all": 100}, (80, 20)),
        ({"eval_split": None, "held_out": 0.15}, {"all": 10}, (8, 2)),
        ({"eval_split": None, "protocol": "zero-shot"}, {"all": 50_000}, (None, 50_000)),
        ({"eval_split": None, "n_eval": 100}, {"all": 100}, (None, 100)),
        ({"context": 2048}, {"train": 100, "test": 20}, (None, None)),
        ({"suite": "boolq"}, {"train": 100, "test": 20}, (None, None)),
    ],
)
def test_what_blank_numbers_stand_for_is_what_runs_draw(changes, rows, numbers):
    task = asked().tasks["mnli"] | {"n_train": None, "n_eval": None} | changes
    found = needs.filled(task, needs.Data(rows, 1, False))
    assert (found["n_train"], found["n_eval"]) == numbers
    assert needs.filled(task, None) == task


def test_pictures_are_as_large_as_their_file_says():
    numbers = {"n_train": 1_281_167, "n_eval": 50_000}
    plain = changed(asked("vision"), "cifar10", **numbers)
    large = fetched(plain, "cifar10", {"train": 1_281_167, "validation": 50_000}, 146_000_000_000, True)
    assert 146_000 < large.run("vit-base", "cifar10", 1).host_mb < 155_000
    few = changed(large, "cifar10", n_train=1_000, n_eval=1_000).run("vit-base", "cifar10", 1)
    assert few.host_mb < 4_500, "those of the rows that are drawn"


def test_texts_are_read_whole_whatever_is_drawn_of_them():
    rows = {"bookcorpus-ppl": asked("vicuna").tasks["wikitext2"] | {"dataset": "books", "windows": 500, "context": 128}}
    requests = dataclasses.replace(asked("vicuna"), tasks=rows)
    some = requests.run("vicuna-7b", "bookcorpus-ppl", 1)
    books = fetched(requests, "books", {"all": 74_000_000}, 2_000_000_000).run("vicuna-7b", "bookcorpus-ppl", 1)
    assert 15_000 < books.host_mb - some.host_mb < 30_000


def test_a_pre_training_holds_the_pixels_or_tokens_of_all_its_data_in_each_process():
    requests = asked("emergence-vision", gpu=2)
    row = requests.pretrainings["fashion-vit-mae"] | {"image_size": 224, "patch_size": 16, "data_fraction": 0.5}
    requests = dataclasses.replace(requests, pretrainings={"large": row})
    there = fetched(requests, row["dataset"], {"train": 1_000_000, "test": 9}, 1, True)
    pixels = 500_000 * 3 * 224**2 / 1e6
    assert 2 * pixels < there.pretraining("large").host_mb < 2 * pixels + 10_000
    assert requests.pretraining("large").host_mb < 20_000, "nothing is known of data that are not fetched"
    text = asked("emergence-bookcorpus", gpu_class="a100-80")
    books = fetched(text, "bookcorpus", {"all": 74_000_000}, 2_000_000_000).pretraining("bookcorpus-bert-100")
    assert 3_700 < books.host_mb < 9_000
    small = fetched(asked("emergence-text", gpu=0), "wiki-leads", {"all": 3_000}, 700_000)
    assert 758 < small.pretraining("wiki-bert-100").host_mb < 3 * 758
    assert dataclasses.replace(small, given=small.given | {"max_mem_mb": 1_500}).problems([], ["wiki-bert-100"])


def test_what_is_known_of_data_is_known_when_they_are_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    find = resources.from_manifests()
    assert find("books") is None
    manifest = tmp_path / "results/store/datasets/books/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text('{"files": []}')
    assert find("books") is None, "of another version, or damaged"
    record = {"files": [{"size": 5}, {"size": 2}], "n_rows": {"train": 9}, "columns": ["item", "image"]}
    manifest.write_text(json.dumps(record))
    assert find("books") == needs.Data({"train": 9}, 7, True)
    manifest.unlink()
    assert find("books").whole == 9, "a manifest is read once"


def test_logits_are_of_the_words_that_a_model_has_once_they_are_known(tmp_path, monkeypatch):
    before, jobs = asked("vicuna"), [Job("vicuna-7b", "wikitext2", "global", ("0.100",), 0, ("0.100",))]
    window = 2048 * 1e-6
    usual = before.run("vicuna-7b", "wikitext2", 1)
    large = dataclasses.replace(before, words={"vicuna-7b": 256_000}.get, known={}).run("vicuna-7b", "wikitext2", 1)
    assert large.gpu_mb - usual.gpu_mb == pytest.approx(window * (256_000 - 50_000) * needs.LOGIT)
    assert large.host_mb - usual.host_mb == pytest.approx(window * (256_000 - 50_000) * needs.SMOKE_BYTES)
    assert large.minutes == usual.minutes
    narrow = dataclasses.replace(asked("vicuna", gpu_class="rtx-3090"), words={"vicuna-7b": 1_000_000}.get, known={})
    assert [problem.fatal for problem in narrow.problems(jobs)] == [False], "the checkpoint may be that of before"

    config = configuration.read_config("config/config.yaml", "config/emergence-text.yaml")
    study = opening.unlocked(config)
    monkeypatch.chdir(tmp_path)
    known = resources.words_known(study)
    assert known("wiki-bert-100-750") == study.pretrainings["wiki-bert-100"]["vocabulary"]
    assert known("smollm2") is None
    for name, said in (("smollm2", {"embedding_rows": 49_152}), ("dinov2-s", None)):
        manifest = tmp_path / f"results/store/checkpoints/{name}/manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"tokenizer": said}))
    assert (known("smollm2"), known("dinov2-s")) == (49_152, None)


def test_what_data_alone_make_is_a_warning_for_they_may_be_those_of_before():
    plain = changed(asked("vision", max_mem_mb=64_000), "cifar10", n_train=1_281_167, n_eval=50_000)
    jobs = [Job("vit-base", "cifar10", "global", ("0.100",), 0, ("0.100",))]
    assert plain.problems(jobs) == []
    large = fetched(plain, "cifar10", {"train": 1_281_167, "validation": 50_000}, 146_000_000_000, True)
    (problem,) = large.problems(jobs)
    assert "vit-base on cifar10 needs about 1" in problem.message
    assert not problem.fatal


def test_the_time_that_a_site_gives_holds_the_start_of_a_job_too():
    def of(limit: int, levels: int = 3) -> resources.Problem | None:
        return problem(
            changed(asked("vicuna", max_minutes=limit), "mmlu", minutes_per_level=100), "vicuna-7b", "mmlu", levels
        )

    assert of(310) is None
    assert "Lower levels_per_job of the task to 2;" in of(309).message, "three take 300 minutes, and the start 10"
    assert "Lower levels_per_job of the task to 1;" in of(209).message
    assert "mmlu: 3 levels a job take about 5 hours, but resources.max_minutes allows 5 hours" in of(309).message
    assert "a level takes about 100 minutes, but resources.max_minutes allows 109 minutes" in of(109, 1).message
    assert of(110, 1) is None


def test_the_largest_job_of_a_curve_counts_and_each_calibrated_pattern_is_told_for_itself():
    requests = changed(asked("vicuna", max_minutes=50), "wikitext2", minutes_per_level=30)

    def told(*jobs: tuple[str, int]) -> list[str]:
        made = [Job("vicuna-7b", "wikitext2", name, ("0.500",) * levels, 0, ()) for name, levels in jobs]
        return [found.message.split(":")[0] for found in requests.problems(made)]

    assert told(("global", 2), ("layerwise", 1)) == told(("global", 1), ("layerwise", 2)) == ["vicuna-7b on wikitext2"]
    assert told(("global", 1), ("wanda", 1), ("sparsegpt", 1)) == ["vicuna-7b on wikitext2, sparsegpt"]
    both = [f"vicuna-7b on wikitext2, {name}" for name in ("sparsegpt", "wanda")]
    assert told(("global", 1), ("wanda", 2), ("sparsegpt", 1)) == both
    assert told(("global", 2), ("wanda", 2), ("sparsegpt", 1)) == ["vicuna-7b on wikitext2"], "the rest follows from it"


def test_what_has_run_is_nobodys_problem(tmp_path, monkeypatch):
    config = configuration.read_config("config/config.yaml", "config/vicuna.yaml")
    study = opening.unlocked(config | {"resources": config["resources"] | {"gpu_class": "t4"}})
    requests = resources.read(study)
    monkeypatch.chdir(tmp_path)
    assert len(resources.problems(study, requests)) == 2
    for job in study.jobs:
        for folder in ("runs", "items"):
            path = tmp_path / f"results/store/{folder}/{job.path}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            if job.task == "mmlu":
                path.touch()
    (left,) = resources.problems(study, requests)
    assert "vicuna-7b on wikitext2" in left.message


def test_a_pre_training_that_is_there_is_nobodys_problem(tmp_path, monkeypatch):
    config = configuration.read_config("config/config.yaml", "config/emergence-bookcorpus.yaml")
    study = opening.unlocked(config | {"resources": config["resources"] | {"gpu_class": "v100-16"}})
    requests = resources.read(study)
    monkeypatch.chdir(tmp_path)
    before = [found.message for found in resources.problems(study, requests)]
    assert len(before) == len(study.pretrained)
    made = tmp_path / f"results/store/pretraining/{study.pretrained[0]}/manifest.json"
    made.parent.mkdir(parents=True)
    made.touch()
    assert [found.message for found in resources.problems(study, requests)] == before[1:]


@pytest.mark.parametrize(
    ("minutes", "told"),
    [
        (1.2, "1 minute"),
        (0, "0 minutes"),
        (119, "119 minutes"),
        (120, "2 hours"),
        (4_319, "72 hours"),
        (4_320, "3 days"),
    ],
)
def test_times_are_told_in_what_reads_best(minutes, told):
    assert resources.duration(minutes) == told


@pytest.mark.parametrize(("megabytes", "told"), [(9_949, "9.9"), (9_950, "10"), (1_500, "1.5"), (1_234_567, "1,235")])
def test_gigabytes_are_of_a_thousand_megabytes(megabytes, told):
    assert resources.gigabytes(megabytes) == told


def test_requests_are_a_quarter_of_memory_and_all_of_the_time_more_and_grow_with_attempts():
    requests = asked()
    need = needs.Need(minutes=100, told=False, host_mb=1_000)
    assert [requests.mem_mb(need, attempt) for attempt in (1, 2)] == [1_900, 3_800], "1.25 x 1000 MB, 600 of Snakemake"
    assert [requests.minutes(need, attempt) for attempt in (1, 2)] == [210, 420]
    assert requests.minutes(dataclasses.replace(need, told=100)) == 110
    assert requests.minutes(dataclasses.replace(need, told=60)) == 150, "what is worked out beside it is not believed"
    capped = asked(max_mem_mb=2_000, max_minutes=300)
    assert [capped.mem_mb(need, attempt) for attempt in (1, 2)] == [1_900, 2_000]
    assert [capped.minutes(need, attempt) for attempt in (1, 2)] == [210, 300]


def test_knees_are_fitted_of_the_levels_that_are_asked_for():
    requests = changed(asked(), "mnli", n_eval=1_000)
    jobs = [
        Job("bert-base", "mnli", "global", ("0.100", "0.200", "0.300"), 0, ("0.100", "0.200")),
        Job("bert-base", "mnli", "random", ("0.100",), 0, ("0.100",)),
    ]
    need = requests.fitting("mnli", jobs)
    assert need.minutes == pytest.approx(resources.START_MINUTES + needs.FITTED * 3 * 1_000)
    assert need.host_mb == pytest.approx(needs.FITTING_MB + 2 * (needs.RESAMPLES_MB + needs.ITEM_MB * 1_000))


def test_memory_that_a_site_gives_holds_what_starts_a_job_too():
    need = asked().run("opt-1.3b", "mnli", 1)
    assert problem(asked(max_mem_mb=round(need.host_mb) + resources.SNAKEMAKE_MB + 1), "opt-1.3b", "mnli") is None
    found = problem(asked(max_mem_mb=round(need.host_mb) + resources.SNAKEMAKE_MB - 1), "opt-1.3b", "mnli")
    assert not found.fatal
    assert "of memory, but resources.max_mem_mb allows" in found.message


def test_cores_and_cards_share_the_work():
    def calibrating(threads: int) -> float:
        requests = asked("calibrated", gpu=0, threads=threads)
        runs = (requests.run("smollm2", "wiki-ppl", 2, pattern).minutes for pattern in ("wanda", ""))
        return next(runs) - next(runs)

    assert calibrating(1) == pytest.approx(4 * calibrating(4))
    start = needs.START_SECONDS / 60
    for one, four in (({"gpu": 1}, {"gpu": 4}), ({"gpu": 0}, {"gpu": 0, "threads": 4})):
        times = [
            asked("emergence-bookcorpus", **given).pretraining("bookcorpus-bert-100").minutes for given in (one, four)
        ]
        assert times[0] - start == pytest.approx(4 * (times[1] - start))


def test_the_table_of_requests_says_the_cards_of_a_pre_training():
    rows = resources.table(asked("emergence-text", gpu=2), [], ["wiki-bert-100"])
    (row,) = (dict(zip(resources.HEADER, row, strict=True)) for row in rows)
    assert (row["job"], row["model"], row["gpus"]) == ("pretrain", "wiki-bert-100", "2")


def test_what_calibration_takes_is_worked_out_where_the_row_tells_the_rest():
    requests = changed(asked("vicuna"), "wikitext2", minutes_per_level=30)
    plain, found = (requests.run("vicuna-7b", "wikitext2", 3, pattern) for pattern in ("", "sparsegpt"))
    assert found.told == plain.told == plain.minutes == 3 * 30
    assert requests.minutes(found) == round(resources.START_MINUTES + found.told + 2 * (found.minutes - found.told))


def test_owl_walks_once_more_and_the_dense_model_is_measured_once():
    requests = changed(asked("vicuna", gpu_class="a100-80"), "wikitext2", minutes_per_level=30)
    start = requests.run("vicuna-7b", "wikitext2", 1).minutes

    def walks(pattern: str, levels: int) -> float:
        return requests.run("vicuna-7b", "wikitext2", levels, pattern).minutes - levels * start

    one = walks("wanda-onepass", 1)
    assert walks("wanda-onepass", 3) == pytest.approx(one)
    assert [walks("wanda", levels) / one for levels in (1, 3)] == pytest.approx([1, 3])
    assert [walks("owl-wanda", levels) / one for levels in (1, 3)] == pytest.approx([2, 4])


@pytest.mark.parametrize(("task", "kept"), [("wiki-mlm", 2 * needs.SMOKE_ITEMS), ("wiki-ppl", 1)])
def test_logits_of_the_first_items_are_held_twice_of_batches_of_several(task, kept):
    requests = asked("config")
    row, model = requests.tasks[task], requests.models["smollm2"]
    few, many = (needs.held_mb({**model, "words": words}, row) for words in (10_000, 60_000))
    assert many - few == pytest.approx(kept * needs.tokens(row) * 50_000 * needs.SMOKE_BYTES / 1e6)


def test_a_small_model_on_a_card_waits_for_its_kernels_longer_where_it_trains():
    requests = changed(asked(gpu_class="h100"), "mnli", n_train=32_000, epochs=1, n_eval=3_200)
    model, row = requests.models["bert-base"] | {"parameters": 1e4}, requests.tasks["mnli"]
    layers = needs.depth(model) / needs.width(model)
    steps = 32_000 / row["batch_size"] * needs.LAUNCH[True] + 3_200 / 32 * needs.LAUNCH[False]
    assert needs.seconds(model, row, requests.device, True, 1) == pytest.approx(layers * steps, rel=0.01)
