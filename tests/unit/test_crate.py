"""What a study was made of: an RO-Crate that names every file by its content."""

import json
import subprocess
from pathlib import Path

import pandas as pd
from rocrate.rocrate import ROCrate

import write_provenance
from essential_sparsity import files, tables
from essential_sparsity.tables import crate, provenance

ROOT = Path(__file__).parents[2]
RUNS = pd.DataFrame(
    [
        {
            "model": "m",
            "task": "t",
            "pattern": "global",
            "sparsity": s,
            "seed": 0,
            "torch": "2.1",
            "transformers": "5.0",
            "hardware": d,
        }
        for s, d in ((0.1, "x86_64, AVX2"), (0.1, "x86_64, AVX2"), (0.2, "NVIDIA H200"))
    ]
)
MANIFEST = {
    "model": "m",
    "source": "hub",
    "id": "team/m",
    "revision": "a" * 40,
    "files": [{"path": "w", "size": 3, "sha256": "b"}],
}


def written(tmp_path) -> Path:
    """A study's folder with its crate."""
    folder = tmp_path / "results/mine"
    tables.write(tables.empty("knees"), "knees", folder / "tables/knees.parquet")
    (folder / "claims.html").write_text("<p>")
    files.write_json(tmp_path / "m.json", MANIFEST)
    results = [folder / "tables/knees.parquet", folder / "claims.html"]
    found = crate.crate(
        folder, {"study": "mine"}, results, [tmp_path / "m.json"], RUNS, {"commit": "c" * 40, "changed": ["Snakefile"]}
    )
    files.write_json(folder / crate.NAME, found.metadata.generate())
    return folder


def test_the_crate_names_every_file_by_content_and_reads_back(tmp_path):
    folder = written(tmp_path)
    entities = {entity["@id"]: entity for entity in json.loads((folder / crate.NAME).read_text())["@graph"]}
    knees = entities["tables/knees.parquet"]
    assert knees["sha256"] == files.sha256_file(folder / "tables/knees.parquet")
    assert knees["version"] == tables.schema("knees").metadata[b"version"].decode()
    assert entities["claims.html"]["contentSize"] == 3
    model = entities["#model-m"]
    assert (model["identifier"], model["version"]) == ("team/m", "a" * 40)
    assert model["sha256"] == provenance.of_manifest(tmp_path / "m.json")
    assert json.loads(entities["#configuration"]["text"]) == {"study": "mine"}
    assert entities["#workflow"]["commit"] == "c" * 40
    assert entities["#workflow"]["changed"] == ["Snakefile"]
    assert entities["#torch-2.1"]["version"] == "2.1"
    assert entities["#hardware"]["value"] == ["NVIDIA H200", "x86_64, AVX2"]
    assert entities["./"]["description"].startswith("2 runs of 1 checkpoints")
    assert {each["@id"] for each in entities["#study"]["object"]} == {"#model-m", "#configuration"}
    read = ROCrate(folder)
    assert read.dereference("tables/knees.parquet")["sha256"] == knees["sha256"]


def test_commit_and_what_differs_from_it(tmp_path):
    assert crate.commit_of(tmp_path) == {"commit": None, "changed": None}
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "Snakefile").write_text("a")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *command], check=True)
    found = crate.commit_of(tmp_path)
    assert len(found["commit"]) == 40
    assert found["changed"] == []
    (tmp_path / "Snakefile").write_text("b")
    assert crate.commit_of(tmp_path)["changed"] == ["Snakefile"]
    own = tmp_path / "workflow/scripts/extensions/my_scores.py"
    own.parent.mkdir(parents=True)
    own.write_text("a score of one's own, which no commit has")
    (tmp_path / "notes.txt").write_text("no code")
    assert crate.commit_of(tmp_path)["changed"] == ["Snakefile", "workflow/scripts/extensions/my_scores.py"]


def test_a_study_of_tables_alone_has_a_crate(tmp_path, monkeypatch):
    """Where nothing is computed (`missing_runs: skip`), no manifest need be there."""
    monkeypatch.chdir(tmp_path)
    runs = Path("results/mine/tables/runs.parquet")
    tables.write(tables.empty("runs"), "runs", runs)
    study = json.dumps({"study": "mine"})
    out = "results/mine/ro-crate-metadata.json"
    write_provenance.main(["--study", study, "--results", str(runs), "--manifests", "--out", out])
    entities = {entity["@id"]: entity for entity in json.loads(Path(out).read_text())["@graph"]}
    assert [each["@id"] for each in entities["#study"]["object"]] == ["#configuration"]


def test_a_crate_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert crate.commit_of(ROOT) == {"commit": None, "changed": None}
