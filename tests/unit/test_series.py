"""Series of checkpoints: one row of the models table for many, and what is refused."""

import dataclasses
from pathlib import Path

import pytest
import yaml

from essential_sparsity.study import configuration, grid, opening, revisions, series

ROW = {
    "model": "berts-0",
    "label": "BERTs",
    "source": "hub",
    "id": "maker/berts-step_{step}k",
    "revision": "a" * 40,
    "series": "berts",
    "group": "seed 0",
    "axis": "step",
    "values": "0:40:20,100,1M",
}


def test_a_row_stands_for_one_checkpoint_per_value():
    rows = series.members_of(ROW, "models.tsv")
    assert [row["model"] for row in rows] == ["berts-0-0", "berts-0-20", "berts-0-40", "berts-0-100", "berts-0-1M"]
    assert rows[1]["id"] == "maker/berts-step_20k"
    assert [row["position"] for row in rows] == [0, 20, 40, 100, 1e6]
    revision = ROW | {"id": "maker/one", "revision": "step{step}", "values": "1000,2000=2000-tokens8B"}
    found = series.members_of(revision, "models.tsv")
    assert [row["revision"] for row in found] == ["step1000", "step2000-tokens8B"]
    assert (found[1]["model"], found[1]["position"]) == ("berts-0-2000", 2000)


def test_a_plain_row_stands_for_itself():
    assert series.members_of(ROW | {"values": None, "id": "maker/one"}, "x")[0]["position"] is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"values": "0:40"}, "'0:40' is neither a number"),
        ({"values": "0:50:20"}, r"steps of 20 from 0 do not reach 50, the last value; write 0:40:20"),
        ({"values": "５０"}, "'５０' is neither a number"),
        ({"values": "5:５０:5"}, "'5:５０:5' is neither a number"),
        ({"values": "５=x"}, "'５=x' is neither a number"),
        ({"id": "maker/{seed}-step_{step}k"}, r"column id: .* has a place for something else than {step}"),
        ({"revision": "{steps}"}, r"column revision: .* has a place for something else than {step}"),
        ({"values": "20,20"}, "20 stands there twice"),
        ({"values": None}, "values is blank"),
        ({"axis": None}, "axis: blank"),
        ({"series": None}, "series: blank"),
        ({"series": None, "values": None}, "series: blank, but the row has the group 'seed 0'"),
        ({"axis": "epoch"}, "has a place {epoch}"),
    ],
)
def test_what_a_series_row_lacks_is_named(change, told):
    with pytest.raises(configuration.ConfigError, match=told):
        series.members_of(ROW | change, "models.tsv, 'berts-0'")


def test_costs_are_told_of_checkpoints_that_are_studied_and_not_pruned():
    def told(preset: str) -> set[str]:
        return set(
            opening.unlocked(configuration.read_config("config/config.yaml", f"config/{preset}.yaml")).benchmarks()
        )

    fetched = told("emergence-hub")
    assert {"fetch_model/multiberts-0-40", "measure_spectrum/multiberts-0-40"} <= fetched
    made = told("emergence-text")
    assert {"measure_pretraining/wiki-bert-100", "measure_spectrum/wiki-bert-100-750"} <= made
    assert "measure_spectrum/wiki-bert-100-25" not in made, "one job measures all that are not pruned"


def shipped():
    return yaml.safe_load(open("config/config.yaml"))


def test_blocks_of_the_grid_may_name_a_whole_series():
    found = series.read(shipped())
    assert len(found.members["wiki-bert-100"]) == 31
    assert found.models["wiki-bert-100-750"]["position"] == 750
    blocks = series.expand_blocks([{"models": ["minilm", "wiki-bert-100"], "tasks": ["t"]}], found.members)
    assert blocks[0]["models"] == ["minilm", *found.members["wiki-bert-100"]]


def test_members_of_a_studied_series_say_which_training_they_are_of():
    models = series.read(shipped()).models
    found = series.studied({"models": "models.tsv", "emergence": {"series": ["wiki-bert"]}}, models)
    assert {member["training"] for member in found} == {"wiki-bert-100", "wiki-bert-50", "wiki-bert-10"}
    with pytest.raises(configuration.ConfigError, match=r"wiki-brt.*did you mean 'wiki-bert'"):
        series.studied({"models": "models.tsv", "emergence": {"series": ["wiki-brt"]}}, models)


def test_a_series_along_several_axes_is_refused():
    """Else what stands at place 0 would be compared with what stands at place 0 of another: an untrained model with a finished one."""
    base = {"series": "s", "group": "g", "axis": None, "position": None, "value": None}
    training = {f"a-{step}": base | {"axis": "step", "position": float(step), "value": step} for step in ("0", "9")}
    config = {"models": "models.tsv", "emergence": {"series": ["s"]}}
    assert len(series.studied(config, training)) == 2
    for other in (base, base | {"axis": "epoch", "position": 0.0, "value": "0"}):
        with pytest.raises(
            configuration.ConfigError, match=r"column axis: the series 's' has .* several axes: .*step \(a-0\)"
        ):
            series.studied(config, training | {"b-0": other})
    assert len(series.studied(config, training | {"b": base | {"series": "another"}})) == 2


def test_a_training_that_is_made_here_has_a_file_of_losses_and_others_have_none():
    asked = opening.unlocked(shipped() | {"emergence": {"series": ["wiki-bert"], "mask_sparsities": []}})
    assert asked.losses("wiki-bert-10") == "results/store/pretraining/wiki-bert-10/losses.parquet"
    published = {name: row | {"source": "hub"} for name, row in asked.models.items()}
    assert dataclasses.replace(asked, models=published).losses("wiki-bert-10") is None


def test_lines_with_neighbours_and_the_sparsities_of_their_masks():
    models = series.read(shipped()).models
    found = series.trainings(series.studied({"models": "models.tsv", "emergence": {"series": ["wiki-bert"]}}, models))
    assert {name: len(members) for name, members in found.items()} == {
        "wiki-bert-10": 31, "wiki-bert-100": 31, "wiki-bert-50": 31,
    }  # fmt: skip
    alone = {"series": "s", "group": "g", "training": "one", "model": "one", "axis": "checkpoint", "position": 0.0}
    asked = opening.unlocked(shipped() | {"emergence": {"series": ["wiki-bert"], "mask_sparsities": [0.5]}})
    assert asked.compared == sorted(found)
    assert asked.neighboured == ["wiki-bert"]
    alone = dataclasses.replace(asked, members=[alone])
    assert (alone.compared, alone.neighboured) == ([], []), "one checkpoint has no neighbour"
    assert dataclasses.replace(asked, mask_levels=[]).compared == []
    assert series.mask_levels({"emergence": {"mask_sparsities": [0.5, 0.25, 0.125]}}) == ["0.125", "0.250", "0.500"]
    assert series.mask_levels({"emergence": {"mask_sparsities": []}}) == []
    with pytest.raises(
        configuration.ConfigError, match=r"emergence.mask_sparsities: 0.3333 has more than three decimals; .* 0\.333"
    ):
        series.mask_levels({"emergence": {"mask_sparsities": [0.3333]}})
    with pytest.raises(configuration.ConfigError, match=r"0\.3337 has more than three decimals; round it to 0\.334"):
        series.mask_levels({"emergence": {"mask_sparsities": [0.3337]}})
    with pytest.raises(configuration.ConfigError, match=r"mask_sparsities: 0\.300 stands there twice"):
        series.mask_levels({"emergence": {"mask_sparsities": [0.3, 0.1 + 0.2]}})


PRETRAINING = {
    "pretraining": "p",
    "objective": "masked-lm",
    "dataset": "d",
    "steps": 100,
    "checkpoint_every": 10,
    "width": 32,
    "heads": 2,
    "vocabulary": 100,
    "max_length": 16,
    "mask_rate": 0.15,
    "warmup_steps": 10,
    "image_size": None,
    "patch_size": None,
}
IMAGES = {"objective": "masked-autoencoding", "image_size": 28, "patch_size": 7, "vocabulary": None, "max_length": None}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"pretraining": "tokenizers"}, "another id"),
        ({"dataset": "e"}, "no task has the dataset 'e'"),
        ({"vocabulary": None}, "column vocabulary: blank"),
        ({"objective": "supervised"}, "column image_size: blank"),
        ({"heads": 3}, "do not divide the width"),
        ({"checkpoint_every": 30}, "does not divide steps"),
        ({"image_size": 28}, "column image_size: 28, but the objective masked-lm does not read it"),
        (IMAGES | {"mask_rate": 0.5}, "column mask_rate: 0.5, but the objective masked-autoencoding does not read it"),
        (IMAGES | {"mask_rate": None, "image_size": 29}, "column patch_size: 7 does not divide image_size"),
        ({"warmup_steps": 100}, "column warmup_steps: 100 of 100 steps, so that learning_rate is never reached"),
    ],
)
def test_what_a_pretraining_lacks_is_named(change, told):
    with pytest.raises(configuration.ConfigError, match=told):
        series.check_pretraining("pretraining.tsv, 'p'", PRETRAINING | change, {"t": {"dataset": "d"}})


def test_pretrainings_that_lack_nothing_are_taken():
    for row in (PRETRAINING, PRETRAINING | IMAGES | {"mask_rate": None}, PRETRAINING | {"warmup_steps": 99}):
        series.check_pretraining("pretraining.tsv, 'p'", row, {"t": {"dataset": "d"}})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"value": "0"}, None),
        ({"value": "100"}, None),
        ({"value": "110"}, "no checkpoint at step 110; .* up to 100"),
        ({"value": "0.5k"}, "no checkpoint at step 0.5k"),
        ({"value": None}, "axis = step, values = 0:100:…"),
        ({"axis": "epoch"}, "axis = step, values = 0:100:…"),
    ],
)
def test_a_checkpoint_that_is_made_here_is_one_of_its_steps(change, told):
    member = {"source": "pretraining", "id": "p", "axis": "step", "value": "10"} | change
    if told is None:
        series.check_member("models.tsv, 'm'", member, {"p": PRETRAINING})
        return
    with pytest.raises(configuration.ConfigError, match=told):
        series.check_member("models.tsv, 'm'", member, {"p": PRETRAINING})


def test_units_of_values_are_decimal():
    rows = series.members_of(ROW | {"values": "1,0.5k,1k,2M,3B"}, "models.tsv")
    assert [row["position"] for row in rows] == [1, 500, 1_000, 2_000_000, 3_000_000_000]


def test_a_step_without_checkpoint_is_refused():
    member = {"source": "pretraining", "id": "p", "axis": "step", "value": "15"}
    with pytest.raises(configuration.ConfigError, match="no checkpoint at step 15; it has one every 10 steps"):
        series.check_member("models.tsv, 'm'", member, {"p": PRETRAINING})
    with pytest.raises(configuration.ConfigError, match="no pre-training 'q'"):
        series.check_member("models.tsv, 'm'", member | {"id": "q"}, {"p": PRETRAINING})


@pytest.mark.parametrize("preset", sorted(path.name for path in Path("config").glob("*.yaml") if path.stem != "claims"))
def test_every_shipped_preset_names_models_tasks_and_levels_that_exist(preset):
    paths = ["config/config.yaml"] + ([f"config/{preset}"] if preset != "config.yaml" else [])
    config = configuration.read_config(*paths)
    found = series.read(config)
    config["grid"] = series.expand_blocks(config["grid"], found.members)
    grid.validate(config, found.models, found.tasks, preset)
    assert grid.expand(config["grid"], {name: row["levels_per_job"] for name, row in found.tasks.items()})
    members = series.studied(config, found.models)
    for name in {member["series"] for member in members}:
        groups = {member["group"] for member in members if member["series"] == name}
        assert {group for group, _ in series.last_of(members, name)} == groups


def test_presets_that_need_no_lock_are_pinned_to_commits():
    for preset in ("config", "lottery", "language", "nm", "vicuna", "zeroshot", "tickets"):
        config = configuration.read_config(*dict.fromkeys(["config/config.yaml", f"config/{preset}.yaml"]))
        asked = opening.unlocked(config)
        assert revisions.unlocked(asked.models, asked.named_models, "model", {}) == [], preset
        assert revisions.unlocked(asked.datasets, asked.used_datasets, "dataset", {}) == [], preset


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("40:0:20", "'40:0:20' runs backwards; write 0:40:20"),
        ("300,40:0:20", "runs backwards"),
        ("1000,1k", "1000 and 1k are the same place"),
        ("0.5,0:1:1,1.0=last", "1 and 1.0 are the same place"),
    ],
)
def test_values_that_select_nothing_or_one_place_twice_are_refused(values, message):
    with pytest.raises(configuration.ConfigError, match=rf"models.tsv, column values: .*{message}"):
        series.values_of(values, "models.tsv")


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (
            "pretraining",
            "\t128\t2\t4096",
            "\t128\t3\t4096",
            r"pretraining\.tsv, 'wiki-bert-100', column heads: 3 heads do",
        ),
        (
            "models",
            "\t0:750:25\t",
            "\t0:750:30\t",
            r"models\.tsv, 'wiki-bert-100', column values: .* no checkpoint at step 30",
        ),
        (
            "models",
            "\nsmollm2\t",
            "\nwiki-bert-100-50\t",
            "column values: 'wiki-bert-100-50' stands in the table already",
        ),
    ],
)
def test_what_is_wrong_with_a_series_is_told_when_its_tables_are_read(tmp_path, file, old, new, told):
    text = Path(f"config/{file}.tsv").read_text()
    assert old in text
    (tmp_path / f"{file}.tsv").write_text(text.replace(old, new, 1))
    with pytest.raises(configuration.ConfigError, match=told):
        series.read(shipped() | {file: str(tmp_path / f"{file}.tsv")})


def test_a_checkpoint_of_a_studied_series_has_a_group():
    row = {"series": "s", "group": None, "axis": None, "position": None}
    config = {"models": "models.tsv", "emergence": {"series": ["s"]}}
    with pytest.raises(
        configuration.ConfigError, match=r"models\.tsv, 'a', column group: blank, but it is of the series 's'"
    ):
        series.studied(config, {"a": row})
    assert series.studied({**config, "emergence": {"series": []}}, {"a": row}) == []


def test_checkpoints_that_are_made_here_are_sorted_whatever_asks_for_them():
    models = {name: {"source": "pretraining", "id": name[0]} for name in ("b-1", "a-2", "a-1")}
    models["c"] = {"source": "hub", "id": "c"}
    assert list(series.made_here(models, reversed([*models])).items()) == [("a", ["a-1", "a-2"]), ("b", ["b-1"])]


def test_the_last_checkpoint_of_a_group_is_the_one_of_the_greatest_place():
    members = [
        {"series": name, "group": group, "model": f"{group}-{place:g}", "position": place}
        for name, group, place in (
            ("s", "b", 9.0),
            ("s", "b", 10.0),
            ("s", "b", 1.0),
            ("s", "a", 2.0),
            ("t", "c", 99.0),
        )
    ]
    assert series.last_of(members, "s") == [("a", "a-2"), ("b", "b-10")]
