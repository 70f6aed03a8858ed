"""Every checkpoint and data set that a preset fetches from the hub, by a tiny stand-in: from fetching to a number.

The rows are those of the tables, the programs and the hub's client the real ones.
"""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import presets
import pytest
from small_hub import Hub, running

from essential_sparsity.checkpoints import vocabulary
from essential_sparsity.study import configuration, opening, revisions, series, study, tsv

ROOT = Path(__file__).parents[2]
TABLE = "config/models.tsv"
MODELS = {row["model"]: row for row in tsv.read_table(ROOT / TABLE, "models", "model") if row["source"] == "hub"}
TASKS = {
    row["task"]: row for row in tsv.read_table(ROOT / "config/tasks.tsv", "tasks", "task") if row["source"] == "hub"
}
TASK_OF = {"encoder": "superglue-rte", "decoder": "wikitext2", "vision": "cifar10"}  # for the rows of models
MODEL_OF = {  # for the rows of tasks
    "text-classification": "bert-base",
    "text-similarity": "bert-base",
    "question-answering": "opt-125m",
    "image-classification": "mae-base",
    "perplexity": "pythia-160m",
    "lm-eval": "vicuna-7b",
}
FURTHER = [("bert-base", "squad"), ("opt-350m", "mnli"), ("vit-base", "tiny-imagenet")]
CELLS = {(model, TASK_OF[row["type"]]): f"{TABLE}, {model}" for model, row in MODELS.items()}
CELLS |= {(MODEL_OF[row["kind"]], task): f"config/tasks.tsv, {task}" for task, row in TASKS.items()}
CELLS |= dict.fromkeys(FURTHER, "a preset's grid")
CALIBRATIONS = {
    row["calibration"]: row
    for row in tsv.read_table(ROOT / "config/calibrations.tsv", "calibrations", "calibration")
    if row["source"] == "hub"
}
SMALLER = {"n_train": None, "n_eval": None, "epochs": 1}  # all rows that there are


@pytest.fixture(scope="module")
def hub():
    with running(Hub()) as hub:
        yield hub


@pytest.fixture(scope="module")
def call(hub, tmp_path_factory):
    """Run a program with its arguments, in a folder with the tables: (exit code, what it printed)."""
    place = tmp_path_factory.mktemp("place")
    shutil.copytree(ROOT / "config", place / "config")
    own = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))}
    own |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path_factory.mktemp("hf")), "HF_HUB_DISABLE_XET": "1"}
    own |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "NO_PROXY": "127.0.0.1"}
    own |= {"HF_HUB_OFFLINE": "0", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    own |= {"PYTHONPATH": str(ROOT / "workflow/scripts")}
    command = [sys.executable, str(Path(__file__).with_name("programs.py"))]
    with subprocess.Popen(
        command, cwd=place, env=own, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(*arguments: str) -> tuple[int, str]:
            process.stdin.write(json.dumps(list(map(str, arguments))) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        run.place = place
        yield run
        process.stdin.close()


@pytest.fixture(scope="module")
def built():
    """What was made already: row or data set -> its stand-in."""
    return {}


def member(name: str) -> dict:
    """The row of a model, of a series the last."""
    return series.members_of(MODELS[name], TABLE)[-1]


def published(hub: Hub, kind: str, row: dict, files: dict[str, bytes]) -> str:
    """Put a stand-in on the hub, at the commit that the row names; the commit."""
    repository = revisions.repository(row)
    commit, revision = hub.add(kind, repository, files), row["revision"]
    if len(revision) == 40:
        commit = hub.repositories[kind, repository]["commit"] = revision
    hub.repositories[kind, repository]["refs"] |= {revision, commit}
    return commit


def asked(
    folder: Path, model: dict, task: dict, commits: dict[str, str], patterns: tuple = ("global",), **more
) -> study.Study:
    """The study of one curve, its branches locked to the hub's commits."""
    lines = [
        f"{kind}\t{revisions.repository(row)}\t{row['revision']}\t{commits[kind]}"
        for kind, row in (("model", model), ("dataset", task))
        if len(row["revision"]) != 40
    ]
    (folder / "revisions.tsv").write_text("\n".join(["kind\trepository\trevision\tcommit", *lines]) + "\n")
    block = {
        "models": [model["model"]],
        "tasks": [task["task"]],
        "patterns": list(patterns),
        "sparsities": [0.5],
        "seeds": [0],
    }
    config = (
        configuration.read_config("config/config.yaml") | {"study": "stand-in", "models": TABLE, "grid": [block]} | more
    )
    return opening.read(config | {"references": None, "revisions": str(folder / "revisions.tsv")}, looking=False)


def stand_in(where: str, known: dict, name: str, built: dict):
    """What stands for a row on the hub; each is made once."""
    if name not in known:
        pytest.fail(
            f"{where}: {name!r} has no stand-in: add one to tests/hub/presets.py, in its repository's own formats."
        )
    if name not in built:
        built[name] = known[name]()
    return built[name]


@pytest.mark.parametrize(("model", "task"), CELLS, ids=map("-".join, CELLS))
def test_from_fetching_to_a_number(hub, call, built, tmp_path, monkeypatch, model, task):
    monkeypatch.chdir(ROOT)
    where, row, data = CELLS[model, task], member(model), TASKS[task]
    made = stand_in(where, presets.MODELS, model, built)
    beside = sorted(
        {row["dataset"] for row in TASKS.values() if revisions.repository(row) == revisions.repository(data)}
    )
    tables: dict[str, bytes] = {}
    for name in beside:  # one repository has all of GLUE
        tables |= stand_in(where, presets.DATA, name, built)
    commits = {
        "model": published(hub, "models", row, made.files),
        "dataset": published(hub, "datasets", data, tables | presets.ABOUT),
    }
    found = asked(tmp_path, row, data, commits)
    row, data = found.models[row["model"]], found.datasets[data["dataset"]]
    hub.requests.clear()

    manifests = {what: tmp_path / what / "manifest.json" for what in ("model", "data")}
    pickle = ["--allow-pickle"] if row["allow_pickle"] else []
    run(
        call,
        "fetch_model",
        "--model",
        row["model"],
        "--settings",
        found.source(row),
        "--manifest",
        manifests["model"],
        *pickle,
    )
    run(
        call,
        "fetch_dataset",
        "--dataset",
        data["dataset"],
        "--settings",
        found.source(data),
        "--manifest",
        manifests["data"],
    )
    files = [entry["path"] for entry in json.loads(manifests["model"].read_text())["files"]]
    weights = {Path(name).suffix for name in files if not name.endswith((".json", ".txt", "tokenizer.model"))}
    assert weights == {".bin" if row["allow_pickle"] else ".safetensors"}
    hub.requests.clear()

    for pattern, level in (("dense", "0.000"), ("global", "0.500")):
        settings = json.dumps(json.loads(found.settings(task)) | SMALLER, sort_keys=True)
        out = {name: tmp_path / f"{pattern}-{name}.parquet" for name in ("runs", "items")}
        run(
            call, "prune_eval", "--model", row["model"], "--task", task, "--pattern", pattern, "--sparsities", level,
            "--settings", settings, "--code", found.code("prune_eval", task, pattern), "--device", "cpu",
            "--manifest", manifests["model"], "--data", manifests["data"], "--runs", out["runs"], "--items", out["items"],
            *pickle,
        )  # fmt: skip
        runs = pd.read_parquet(out["runs"])
        assert all(math.isfinite(value) for value in runs["value"]), runs
        assert set(runs["sparsity"]) == {float(level)}
    assert not hub.requests  # as on a node without network


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_what_patterns_are_calibrated_on_from_fetching_to_a_number(hub, call, built, tmp_path, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    calibration, row, data = CALIBRATIONS[name], member("vicuna-7b"), TASKS["wikitext2"]
    made = stand_in(TABLE, presets.MODELS, "vicuna-7b", built)
    text, drawn = (
        stand_in("config", presets.DATA, dataset, built) for dataset in (data["dataset"], calibration["dataset"])
    )
    commits = {
        "model": published(hub, "models", row, made.files),
        "dataset": published(hub, "datasets", data, text | presets.ABOUT),
    }
    published(hub, "datasets", calibration, drawn | presets.ABOUT)
    found = asked(tmp_path, row, data, commits, patterns=["wanda", "sparsegpt"], calibration={"decoder": name})
    assert found.used_datasets == sorted([calibration["dataset"], data["dataset"]])
    manifests = {what: tmp_path / what / "manifest.json" for what in ("model", "data", "calibration")}
    row = found.models[row["model"]]
    given = ["--settings", found.source(row), "--manifest", manifests["model"], "--allow-pickle"]
    run(call, "fetch_model", "--model", row["model"], *given)
    for what, dataset in (("data", data["dataset"]), ("calibration", calibration["dataset"])):
        settings = found.source(found.datasets[dataset])
        run(call, "fetch_dataset", "--dataset", dataset, "--settings", settings, "--manifest", manifests[what])
    hub.requests.clear()
    for pattern in ("wanda", "sparsegpt"):
        settings = json.loads(found.settings("wikitext2", found.calibration(row["model"], pattern)))
        settings["calibration"] |= {"sequences": 6, "length": 12}
        out = {name: tmp_path / f"{pattern}-{name}.parquet" for name in ("runs", "items")}
        run(
            call, "prune_eval", "--model", row["model"], "--task", "wikitext2", "--pattern", pattern, "--sparsities", "0.500",
            "--settings", json.dumps(settings | SMALLER, sort_keys=True), "--device", "cpu", "--allow-pickle",
            "--code", found.code("prune_eval", "wikitext2", pattern), "--manifest", manifests["model"],
            "--data", manifests["data"], "--calibration", manifests["calibration"], "--runs", out["runs"], "--items", out["items"],
        )  # fmt: skip
        runs = pd.read_parquet(out["runs"])
        assert all(math.isfinite(value) for value in runs["value"]), runs
        assert set(runs["calibration"]) == {name}
        assert set(runs["calibration_tokens"]) == {72}
    assert not hub.requests


def run(call, *arguments) -> None:
    code, said = call(*arguments)
    assert code == 0, said


@pytest.mark.parametrize("model", [name for name, row in MODELS.items() if row["type"] != "vision"])
def test_its_tokenizer_reads_texts_as_the_published_one(built, tmp_path, model):
    made = stand_in(f"{TABLE}, {model}", presets.MODELS, model, built)
    for name, content in made.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    loaded = vocabulary.load(tmp_path, vocabulary.room(tmp_path))
    first, second, *others = loaded.convert_ids_to_tokens(loaded("a bright River")["input_ids"])
    assert (first if made.begins else None) == made.begins
    word = second if made.begins else first
    assert word.strip("Ġ▁") == "a"
    assert not set(loaded.all_special_tokens) & set(others[:-1])


def test_every_stand_in_has_a_row():
    assert presets.MODELS.keys() <= MODELS.keys()
    assert presets.DATA.keys() <= {row["dataset"] for row in (*TASKS.values(), *CALIBRATIONS.values())}


LOOKED_AT = {  # what make study is told of a repository: whether it takes it, and what it says
    "google-bert/bert-base-uncased": ([], True, "bert-base-uncased: of type encoder"),
    "facebook/opt-125m": (["--allow-pickle", "true", "--name", "my-opt"], True, "my-opt: of type decoder"),
    "facebook/opt-350m": ([], False, "only as a pickle (pytorch_model.bin), which can run code"),
    "team/nothing": (
        [],
        False,
        "team/nothing is no file or folder here, so it was looked up on the hub. team/nothing is not on the hub, or is private.",
    ),
    "team/empty": ([], False, "There is no config.json among README.md"),
}


@pytest.mark.parametrize("name", LOOKED_AT)
def test_a_model_of_the_hub_becomes_a_study_before_any_weight_is_fetched(hub, call, built, name):
    options, taken, said = LOOKED_AT[name]
    for model in ("bert-base", "opt-125m", "opt-350m"):
        published(hub, "models", MODELS[model], stand_in(TABLE, presets.MODELS, model, built).files)
    hub.add("models", "team/empty", {"README.md": b""})
    hub.requests.clear()
    code, told = call("new_study", "--model", name, "--task", "sst2", *options)
    assert said in told
    assert "Traceback" not in told
    assert not [line for line in hub.requests if line.endswith((".bin", ".safetensors"))]
    assert (code == 0) == taken
    if taken:
        row = (call.place / "config/models.tsv").read_text().splitlines()[-1].split("\t")
        assert row[3:6] == ["hub", name, hub.repositories["models", name]["commit"]]
        assert row[8] == str(name == "facebook/opt-125m").lower()
    else:
        assert len([line for line in told.splitlines() if line.startswith("error: new_study: ")]) == 1
