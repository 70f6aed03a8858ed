"""From a configuration to a study: the rows of paths, the levels that refining added, what jobs on other machines do not look at."""

import json
import shutil
from pathlib import Path

import pytest

from essential_sparsity.study import configuration, grid, opening

ROOT = Path(__file__).parents[2]
BLOCK = {"models": ["mine"], "tasks": ["ws353"], "patterns": ["global"], "sparsities": [0.1, 0.2], "seeds": [0]}
MINE = {"study": "mine", "grid": [BLOCK], "references": None, "claims": None}


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """The shipped configuration with a model in a folder of one's home, and data in one beside it."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for table, name, path in (("models", "minilm", "~/weights"), ("tasks", "ws353", "data.tsv")):
        file = tmp_path / f"config/{table}.tsv"
        lines = file.read_text().splitlines()
        header, row = (next(line for line in lines if line.startswith(f"{first}\t")) for first in (table[:-1], name))
        cells = row.split("\t")
        for column, cell in {"model": "mine", "source": "path", "id": path}.items():
            if column in header.split("\t"):
                cells[header.split("\t").index(column)] = cell
        lines[lines.index(row)] = "\t".join(cells)
        file.write_text("\n".join(lines) + "\n")
    (tmp_path / "home/weights").mkdir(parents=True)
    (tmp_path / "home/weights/model.safetensors").write_text("weights")
    (tmp_path / "data.tsv").write_text("data")


def asked(looking=True, **given):
    return opening.read(configuration.read_config("config/config.yaml", given=MINE | given), looking=looking)


def levels(study):
    return [(job.levels, job.asked) for job in study.jobs if job.pattern == "global"]


def test_what_is_fetched_of_a_path_is_its_content(tmp_path):
    before = asked()
    assert before.models["mine"]["id"] == str(tmp_path / "home/weights")
    assert before.source(before.models["mine"]) == asked().source(asked().models["mine"])
    (tmp_path / "data.tsv").write_text("other data")
    after = asked()
    assert after.source(after.models["mine"]) == before.source(before.models["mine"])
    assert after.source(after.datasets["ws353"]) != before.source(before.datasets["ws353"])


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("home", r"^the model 'mine': /.*home/weights does not exist"),
        ("data.tsv", r"^the data set 'ws353': data\.tsv does"),
    ],
)
def test_a_path_that_is_not_there_is_told_with_whose_it_is(tmp_path, path, told):
    blind = asked()
    (tmp_path / path).rename(tmp_path / "gone")
    with pytest.raises(configuration.ConfigError, match=rf"{told}.*column id"):
        asked()
    assert asked(looking=False).source(asked(looking=False).models["mine"]) == blind.source(blind.models["mine"]), (
        "the head has looked"
    )


def test_levels_of_refining_are_those_of_the_grid_where_it_is_asked_for():
    path = Path("results/mine/rounds.json")
    path.parent.mkdir(parents=True)
    entry = {"model": "mine", "task": "ws353", "pattern": "global", "levels": ["0.150"]}
    path.write_text(json.dumps({"rounds": [[entry]]}))
    assert levels(asked()) == [(("0.100", "0.150", "0.200"),) * 2]
    assert levels(asked(refine=None)) == [(("0.100", "0.200"),) * 2]


def test_a_job_on_another_machine_does_not_look_at_the_store():
    made = Path(grid.STORE, "runs/mine/ws353/global/0.100+0.150/seed0.parquet")
    made.parent.mkdir(parents=True)
    made.touch()
    stored = [(("0.100", "0.150"), ("0.100",)), (("0.200",), ("0.200",))]
    assert levels(asked()) == stored
    blind = asked(looking=False)
    assert levels(blind) == [(("0.100", "0.200"),) * 2]
    assert [(job.levels, job.asked) for job in blind.jobs_of("mine", "ws353") if job.pattern == "global"] == stored


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"study": "store"}, "study: 'store' names a folder of results/"),
        ({"grid": [BLOCK | {"patterns": ["lth"]}]}, r"pattern lth needs a task that is fine-tuned, but 'ws353'"),
        ({"figures": {"panels": {"own": {"types": ["encoders"], "caption": "c"}}}}, r"panels\.own\.types: there is no"),
    ],
)
def test_what_cannot_be_is_told_when_a_study_is_opened(given, told):
    with pytest.raises(configuration.ConfigError, match=told):
        asked(**given)
