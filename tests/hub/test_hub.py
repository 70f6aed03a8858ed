"""Models and data of a hub: the real client in the real programs, against a small hub on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from small_hub import Hub, running

SCRIPTS = Path(__file__).parents[2] / "workflow/scripts"
MODEL = "team/tiny-bert"


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> dict[str, bytes]:
    """The files of a tiny random BERT, with what a repository holds besides."""
    import torch
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("bert")
    torch.manual_seed(0)
    config = BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    BertModel(config).save_pretrained(folder)
    torch.save({"weight": torch.ones(3)}, folder / "pytorch_model.bin")
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "vocab.txt": b"[PAD]\n[UNK]\na\n", "README.md": b"about", "modeling_tiny.py": b"raise SystemExit"}


@pytest.fixture
def hub():
    with running(Hub()) as hub:
        yield hub


@pytest.fixture
def environment(hub, tmp_path):
    """Of a program: the small hub, an empty cache of its own, no proxy in between, and short retries."""
    own = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))}
    return {
        **own,
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(SCRIPTS),
    }


def settings(**changed):
    return {
        "source": "hub",
        "id": MODEL,
        "revision": "main",
        "format": "transformers",
        **changed,
    }


def fetch(environment, manifest: Path, what="model", options=(), **changed) -> subprocess.CompletedProcess:
    """Run the program as the workflow does."""
    command = [sys.executable, str(SCRIPTS / f"fetch_{what}.py"), f"--{what}", "key"]
    command += ["--settings", json.dumps(settings(**changed)), "--manifest", str(manifest), *options]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def verified(environment, manifest: Path) -> subprocess.CompletedProcess:
    """What a later job does on a node without network."""
    code = "import sys; from essential_sparsity.checkpoints import loading; print(loading.verified_folder(sys.argv[1]))"
    offline = {**environment, "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    return subprocess.run(
        [sys.executable, "-c", code, str(manifest)], env=offline, capture_output=True, text=True, check=False
    )


def test_a_model_is_pinned_to_its_commit_and_read_again_offline(hub, environment, bert, tmp_path):
    commit = hub.add("models", MODEL, bert)
    manifest = tmp_path / "key/manifest.json"
    done = fetch(environment, manifest)
    assert done.returncode == 0, done.stderr
    record = json.loads(manifest.read_text())
    assert (record["source"], record["id"], record["revision"], record["folder"]) == ("hub", MODEL, commit, None)
    assert [entry["path"] for entry in record["files"]] == ["config.json", "model.safetensors", "vocab.txt"]
    assert record["files"][1]["size"] == len(bert["model.safetensors"])
    assert record["n_prunable_tensors"] == 12
    assert record["n_prunable"] == 2 * (4 * 16 * 16 + 2 * 16 * 32)
    assert not [
        line for line in hub.requests if ".bin" in line or ".py" in line or "README" in line
    ]  # not even asked for

    first = manifest.read_bytes()
    hub.requests.clear()
    offline = {**environment, "HF_HUB_OFFLINE": "1"}
    done = fetch(offline, manifest)  # again without network: the same bytes from the cache
    assert done.returncode == 0, done.stderr
    assert manifest.read_bytes() == first
    assert not hub.requests

    found = verified(environment, manifest)
    assert found.returncode == 0, found.stderr
    folder = Path(found.stdout.strip())
    assert (folder.name, sorted(path.name for path in folder.iterdir())) == (
        commit,
        ["config.json", "model.safetensors", "vocab.txt"],
    )

    config = (folder / "config.json").resolve()
    config.write_bytes(config.read_bytes().replace(b"16", b"61"))
    found = verified(environment, manifest)
    assert found.returncode != 0
    assert "config.json" in found.stderr


REFUSED = {
    "no revision": ({"revision": None}, "no revision"),
    "unknown revision": ({"revision": "v9"}, "has no revision 'v9'"),
    "unknown repository": ({"id": "team/nothing"}, "team/nothing is not on the hub"),
    "malformed id": ({"id": "team/a/b"}, "team/a/b"),
    "only a pickle": ({"id": "team/pickled"}, "only as a pickle (pytorch_model.bin)"),
    "not a model": ({"id": "team/empty"}, "no config.json"),
    "half a repository": ({"id": f"{MODEL}:config.json"}, "leave out the colon"),
}
DRIVER = """
import contextlib, io, json, runpy, sys
results = {}
for name, arguments in json.load(sys.stdin).items():
    sys.argv, said = ["fetch_model.py", *arguments], io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            runpy.run_path(PROGRAM, run_name="__main__")
            code = 0
        except SystemExit as error:
            code = error.code
    results[name] = [code, said.getvalue()]
print(json.dumps(results))
"""


@pytest.fixture(scope="module")
def refusals(bert, tmp_path_factory):
    """{case: (exit code, stderr, was a manifest left)}; one process for all, since loading torch is what takes time."""
    folder = tmp_path_factory.mktemp("refused")
    with running(Hub()) as hub:
        hub.add("models", MODEL, bert)
        hub.add("models", "team/pickled", {name: data for name, data in bert.items() if "safetensors" not in name})
        hub.add("models", "team/empty", {"README.md": b""})
        arguments = {
            name: [
                "--model",
                "key",
                "--settings",
                json.dumps(settings(**changed)),
                "--manifest",
                str(folder / name / "m.json"),
            ]
            for name, (changed, _) in REFUSED.items()
        }
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}
        environment |= {"PYTHONPATH": str(SCRIPTS), "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0"}
        driver = DRIVER.replace("PROGRAM", repr(str(SCRIPTS / "fetch_model.py")))
        done = subprocess.run(
            [sys.executable, "-c", driver],
            input=json.dumps(arguments),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    return {name: (*result, (folder / name / "m.json").exists()) for name, result in results.items()}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_fetched_is_told_in_one_message(refusals, name):
    code, said, left = refusals[name]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(errors) == 1
    assert REFUSED[name][1] in errors[0]
    assert "Traceback" not in said
    assert not left


def test_a_pickle_is_fetched_where_it_is_allowed(hub, environment, tmp_path):
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    torch.save(BertModel(config).state_dict(), tmp_path / "pytorch_model.bin")
    config.architectures = ["BertModel"]
    files = {
        "config.json": config.to_json_string().encode(),
        "pytorch_model.bin": (tmp_path / "pytorch_model.bin").read_bytes(),
    }
    hub.add("models", MODEL, files)
    manifest = tmp_path / "key/manifest.json"
    done = fetch(environment, manifest, options=["--allow-pickle"])
    assert done.returncode == 0, done.stderr
    assert [entry["path"] for entry in json.loads(manifest.read_text())["files"]] == [
        "config.json",
        "pytorch_model.bin",
    ]


def test_a_broken_transfer_leaves_no_manifest_and_the_next_run_ends_well(hub, environment, bert, tmp_path):
    hub.add("models", MODEL, bert)
    hub.cut, hub.cut_after = "model.safetensors", len(bert["model.safetensors"]) // 2
    manifest = tmp_path / "key/manifest.json"
    done = fetch(environment, manifest)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "run again" in done.stderr.lower()
    assert not list(manifest.parent.iterdir())
    hub.cut = ""
    done = fetch(environment, manifest)
    assert done.returncode == 0, done.stderr
    sizes = {entry["path"]: entry["size"] for entry in json.loads(manifest.read_text())["files"]}
    assert sizes["model.safetensors"] == len(bert["model.safetensors"])


def test_a_data_set_of_the_hub_becomes_one_table(hub, environment, tmp_path):
    files = {"README.md": b"about"}
    for name in ("sst2/train-00000-of-00001", "sst2/validation-00000-of-00001", "cola/train-00000-of-00001"):
        frame = pd.DataFrame({"sentence": [f"{name} {index}" for index in range(3)], "label": [0, 1, 0]})
        files[f"{name}.parquet"] = frame.to_parquet()
    commit = hub.add("datasets", "team/glue", files)
    row = settings(id="team/glue:sst2", format="parquet")
    code = (
        "import json, sys; from essential_sparsity.acquire import formats; print(formats.size(json.loads(sys.argv[1])))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, json.dumps(row)], env=environment, capture_output=True, text=True, check=False
    )
    expected = sum(len(data) for name, data in files.items() if name.startswith(("sst2", "README")))
    assert told.stdout.split() == [str(expected)]
    assert not list(tmp_path.rglob("*.parquet")), "nothing is downloaded"
    manifest = tmp_path / "key/manifest.json"
    done = fetch(environment, manifest, "dataset", id="team/glue:sst2", format="parquet", columns="text=sentence")
    assert done.returncode == 0, done.stderr
    record = json.loads(manifest.read_text())
    assert record["revision"] == commit
    assert record["n_rows"] == {"train": 3, "validation": 3}
    frame = pd.read_parquet(manifest.parent / "files/data.parquet")
    assert list(frame.columns) == ["item", "text", "label", "split"]
    assert set(frame["text"].str.split("/").str[0]) == {"sst2"}
    assert frame["item"].is_unique
    done = fetch(environment, manifest, "dataset", id="team/glue:mnli", format="parquet")
    assert done.returncode == 1
    assert "no mnli in the repository" in done.stderr
    assert not manifest.exists()


def test_the_card_of_a_repository_says_the_splits_of_a_folder_too(hub, environment, tmp_path):
    files, configs = {}, []
    for config, splits in {"all": ("auxiliary_train", "dev", "validation"), "law": ("dev", "test")}.items():
        said = [{"split": split, "path": f"{config}/{split}-*"} for split in splits]
        configs.append({"config_name": config, "data_files": said})
        for split in splits:
            frame = pd.DataFrame({"text": [f"{split} {index}" for index in range(3)], "label": [0, 1, 0]})
            files[f"{config}/{split}-00000-of-00001.parquet"] = frame.to_parquet()
    files["README.md"] = f"---\n{json.dumps({'configs': configs})}\n---\n".encode()
    hub.add("datasets", "team/mmlu", files)
    for folder, expected in (("all", ["auxiliary_train", "dev", "validation"]), ("law", ["test", "validation"])):
        manifest = tmp_path / folder / "manifest.json"
        done = fetch(environment, manifest, "dataset", id=f"team/mmlu:{folder}", format="parquet")
        assert done.returncode == 0, done.stderr
        record = json.loads(manifest.read_text())
        assert sorted(record["n_rows"]) == expected
        assert record["report"]["files_left_out"]["number"] == 0
    done = fetch(environment, tmp_path / "whole/manifest.json", "dataset", id="team/mmlu", format="parquet")
    assert done.returncode == 1
    assert "are the configuration 'all'" in done.stderr


def test_one_file_of_a_repository_is_read_whatever_else_its_card_names(hub, environment, tmp_path):
    files = {f"{split}.csv": f"text,label\n{split},x\n".encode() for split in ("train", "test")}
    said = [{"split": split, "path": f"{split}.csv"} for split in ("train", "test")]
    configs = {"configs": [{"config_name": "default", "data_files": said}]}
    hub.add("datasets", "team/two", {**files, "README.md": f"---\n{json.dumps(configs)}\n---\n".encode()})
    manifest = tmp_path / "key/manifest.json"
    done = fetch(environment, manifest, "dataset", id="team/two:test.csv", format="csv")
    assert done.returncode == 0, done.stderr
    assert json.loads(manifest.read_text())["n_rows"] == {"all": 1}


def test_lock_writes_the_commits_of_what_a_configuration_uses(hub, environment, tmp_path):
    """A whole series of repositories, and a data set, of which the table named branches."""
    root = SCRIPTS.parents[1]
    commits = {step: hub.add("models", f"team/berts-step_{step}k", {"config.json": b"{}"}) for step in (0, 20, 40)}
    data = hub.add("datasets", "team/words", {"a.csv": b"text_a\n"})
    models = (root / "config/models.tsv").read_text().splitlines()
    row = dict.fromkeys(models[0].split("\t"), "")
    row |= {"model": "berts", "label": "BERTs", "type": "encoder", "source": "hub", "revision": "main"}
    row |= {"id": "team/berts-step_{step}k", "format": "transformers", "parameters": "1e6", "allow_pickle": "false"}
    row |= {"series": "berts", "group": "seed 0", "axis": "step", "values": "0:40:20"}
    (tmp_path / "models.tsv").write_text("\n".join([*models, "\t".join(row.values())]) + "\n")
    tasks = (root / "config/tasks.tsv").read_text().splitlines()
    pairs = dict(zip(tasks[0].split("\t"), tasks[1].split("\t"), strict=False))
    pairs |= {
        "task": "words",
        "dataset": "words",
        "source": "hub",
        "id": "team/words",
        "revision": "main",
        "format": "csv",
    }
    (tmp_path / "tasks.tsv").write_text("\n".join([*tasks, "\t".join(pairs.values())]) + "\n")
    (tmp_path / "revisions.tsv").write_text("# ours\n" + (root / "config/revisions.tsv").read_text())
    block = {"models": ["berts"], "tasks": ["words"], "patterns": ["global"], "sparsities": [0.5], "seeds": [0]}
    config = {name: str(tmp_path / f"{name}.tsv") for name in ("models", "tasks", "revisions")}
    (tmp_path / "study.yaml").write_text(
        json.dumps(config | {"study": "mine", "grid": [block], "emergence": {"series": ["berts"]}})
    )
    command = [sys.executable, "workflow/scripts/lock.py", "--config", str(tmp_path / "study.yaml")]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    comment, _, *rows = [line.split("\t") for line in (tmp_path / "revisions.tsv").read_text().splitlines()]
    assert comment == ["# ours"]
    expected = [["model", f"team/berts-step_{step}k", "main", commits[step]] for step in commits]
    assert rows == [["dataset", "team/words", "main", data], *expected]
    hub.requests.clear()
    assert subprocess.run(command, cwd=root, env=environment, capture_output=True, check=False).returncode == 0
    assert hub.requests == []  # all are known
