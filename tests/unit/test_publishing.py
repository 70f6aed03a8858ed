"""A published study is what its tables are, for whoever loads it; what is not whole or tells of the machine does not go out."""

import contextlib
import getpass
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small_study
import torch
import yaml
from hub.small_hub import Hub, running
from huggingface_hub import DatasetCard
from plotly.offline import get_plotlyjs

import print_summary
import write_provenance
from essential_sparsity import files, reader, tables
from essential_sparsity.curves import intervals
from essential_sparsity.figures import summary
from essential_sparsity.pruning import measuring
from essential_sparsity.runs import folders, publishing, settled, traces
from essential_sparsity.study import configuration, grid, opening, records
from essential_sparsity.tables import runs

ROOT = Path(__file__).parents[2]
COMMIT = {"commit": "c0ffee", "changed": []}
TOKEN = "hf_" + "secretsecretsecret"
LOST = {"pattern": "nm4", "sparsity": 0.75, "seed": 1}
FOLDER = Path("results/small/publish")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folder of a finished study of two tasks with a missing run, named in its provenance and its logs by where it lies."""
    folder = tmp_path_factory.mktemp("study")
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(small_study, "GRID", [small_study.GRID[0], small_study.GRID[3]])
        small_study.make(folder)
        written = yaml.safe_load(Path(small_study.CONFIG).read_text())
        written |= {"models": str(folder / "config/models.tsv"), "mixed_runs": "warn"}
        Path(small_study.CONFIG).write_text(yaml.safe_dump(written))
        finish()
        yield folder
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(exact)


def finish() -> None:
    """The other tables, a missing run and provenance, as the rules make them."""
    asked = opening.read(config())
    rows = pd.DataFrame(asked.rows())
    place = f"{asked.folder}/tables"
    found = tables.read(f"{place}/runs.parquet", "runs")
    lost = rows[(rows[list(LOST)] == pd.Series(LOST)).all(axis=1)]
    said = {
        "log": f"{Path.cwd()}/prune.log",
        "reason": f"ended on {socket.gethostname()} of {getpass.getuser()} in {Path.cwd()}",
    }
    tables.write(lost[[*runs.KEY, "run"]].assign(**said), "missing_runs", f"{place}/missing_runs.parquet")
    items = f"{grid.STORE}/items/bert/pairs/global/0.250/seed0.parquet"  # which has a level more than the study
    more = tables.read(items, "items")
    tables.write(pd.concat([more, more.assign(sparsity=0.9)]), "items", items)
    of_file = (
        (found["pattern"] == "global") & (found["sparsity"] == 0.25) & (found["seed"] == 0) & (found["task"] == "pairs")
    )
    found.loc[of_file, "items_sha256"] = files.sha256_file(items)
    tables.write(found[~(found[list(LOST)] == pd.Series(LOST)).all(axis=1)], "runs", f"{place}/runs.parquet")
    costs = {"rule": "prune_eval", "name": socket.gethostname(), "wall_s": 1.0}
    costs |= dict.fromkeys(("model", "task", "pattern", "levels", "seed", "cpu_s", "max_rss_mb"))
    tables.write(pd.DataFrame([costs]), "costs", f"{place}/costs.parquet")
    for name in set(asked.tables()) - {"runs", "knees", "missing_runs", "costs"}:
        tables.write(tables.empty(name), name, f"{place}/{name}.parquet")
    Path(asked.folder, "claims.html").write_text("<p>what it says</p>")
    page = f"<script>{get_plotlyjs()}</script><p>{said['reason']}</p>"
    Path(asked.folder, "explorer.html").write_text(page, encoding="utf-8")
    Path(asked.folder, "report.html").write_text(f"<p>{Path.cwd()}</p>")
    for path in Path(grid.STORE).glob("*/*/manifest.json"):
        said = files.read_json(path)
        files.write_json(path, said | {"id": str(Path(said["id"]).absolute())})
    provenance(asked)


def provenance(asked) -> None:
    results = [*Path(asked.folder, "tables").glob("*.parquet")]
    results += [Path(asked.folder, name) for name in ("claims.html", "explorer.html")]
    manifests = Path(grid.STORE).glob("*/*/manifest.json")
    words = ["--study", asked.deciding(), "--results", *map(str, results), "--manifests", *map(str, manifests)]
    write_provenance.main([*words, "--out", f"{asked.folder}/ro-crate-metadata.json"])


def config():
    return configuration.read_config(configuration.BASE, small_study.CONFIG)


def publish():
    return publishing.publish(config(), "cc-by-4.0", COMMIT)


@pytest.fixture(scope="module")
def made(place):
    return publish()


@pytest.fixture
def study_again(place, made):
    """The study is put back as it was after the test."""
    kept = [Path("results/small"), Path("config"), Path(grid.STORE, "items")]
    for path in kept:
        shutil.copytree(path, Path("kept") / path)
    yield
    for path in kept:
        shutil.rmtree(path)
        shutil.copytree(Path("kept") / path, path)
    shutil.rmtree("kept")
    shutil.rmtree(".snakemake", ignore_errors=True)


def own_items() -> pd.DataFrame:
    """The items of the tabulated runs, read from the store by the names of its files."""
    found = tables.read("results/small/tables/runs.parquet", "runs")[runs.KEY].drop_duplicates()
    whole = pd.concat(tables.read(path, "items") for path in sorted(Path(grid.STORE, "items").rglob("*.parquet")))
    return whole.merge(found, on=runs.KEY).sort_values(tables.key("items"), ignore_index=True)


def loaded(name: str, cache: Path) -> pd.DataFrame:
    return datasets.load_dataset(str(FOLDER), name, split="train", cache_dir=str(cache)).data.table.to_pandas()


def same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_exact=True)


def test_datasets_reads_the_tables_of_the_study(made, tmp_path):
    names = datasets.get_dataset_config_names(str(FOLDER))
    assert set(names) == {"runs", "knees", "items", "missing_runs"}, "costs, and tables without rows, have none"
    for name in ("runs", "knees"):
        same(loaded(name, tmp_path), pq.read_table(f"results/small/tables/{name}.parquet").to_pandas())
    same(loaded("items", tmp_path), own_items())
    lost = loaded("missing_runs", tmp_path)
    assert lost[list(LOST)].to_dict("records") == [LOST]
    assert lost["log"].isna().all()
    assert set(lost["reason"]) == {publishing.LOGS}
    assert made.rows["items"] == len(own_items())
    assert made.rows["runs"] == len(loaded("runs", tmp_path))


def test_tables_are_the_files_of_the_study_and_keep_their_schemas(made):
    packed = {path.stem for path in (FOLDER / "tables").iterdir()}
    assert packed == {*opening.read(config()).tables()} - {"costs"}
    for name in packed:
        path = FOLDER / f"tables/{name}.parquet"
        assert pq.read_schema(path).field(0).metadata == tables.schema(name).field(0).metadata
        tables.read(path, name)
        if name != "missing_runs":
            assert path.read_bytes() == Path(f"results/small/tables/{name}.parquet").read_bytes()
    assert (
        pq.read_schema(FOLDER / "items/items-00000.parquet").field("score").metadata[b"unit"]
        == b"depends on the metric"
    )


def test_the_reader_of_the_workflow_reads_the_folder(made):
    found, own = reader.Results(FOLDER), reader.read("small")
    pd.testing.assert_frame_equal(found.runs, own.runs)
    mine = own_items()
    for model, task in (("bert", "pairs"), ("gpt2", "ppl")):
        part = mine[(mine["model"] == model) & (mine["task"] == task)].reset_index(drop=True)
        same(found.items(model, task), part)
    pd.testing.assert_frame_equal(found.curve("bert", "pairs", "global"), own.curve("bert", "pairs", "global"))


def test_the_card_is_the_hubs_and_its_numbers_are_the_tables(made):
    card = DatasetCard.load(FOLDER / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.pretty_name == "Essential sparsity: small"
    assert [each["config_name"] for each in card.data.configs if each.get("default")] == ["runs"]
    assert card.data.size_categories == ["n<1K"] if sum(made.rows.values()) < 1000 else ["1K<n<10K"]
    knees = tables.read("results/small/tables/knees.parquet", "knees")
    lines = [line for line in card.text.splitlines() if line.startswith("| bert |") or line.startswith("| gpt2 |")]
    shown = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.count("|") > 8]
    assert len(shown) == knees["headline"].sum()
    for row, cells in zip(knees[knees["headline"]].to_dict("records"), shown, strict=True):
        assert cells[:3] == [row["model"], row["task"], row["pattern"]]
        assert cells[3] == f"{row['metric']} ({'lower' if row['metric'] == 'perplexity' else 'higher'} is better)"
        assert cells[5] == f"{row['epsilon']}{' of the logarithm' if row['scale'] == 'log' else ''}"
        assert float(cells[4]) == pytest.approx(row["dense"], rel=1e-5)
        if pd.isna(row["essential_sparsity"]):
            assert cells[6] == f"none: {row['reason']}"
        elif row["bracket_high"] - row["bracket_low"] > 0.1 + 1e-9:
            assert cells[6] == f"{row['bracket_low']:.3f} to {row['bracket_high']:.3f}", "no number of levels far apart"
        else:
            assert cells[6] == f"{row['essential_sparsity']:.3f}"
        high = (
            "beyond the last level"
            if pd.isna(row["essential_sparsity_high"])
            else f"{row['essential_sparsity_high']:.3f}"
        )
        assert cells[7] == (
            "–" if pd.isna(row["essential_sparsity_low"]) else f"{row['essential_sparsity_low']:.3f} to {high}"
        )
    assert (
        "`global` at 3 sparsities from 0.250 to 0.750; `nm4` at 3 sparsities from 0.250 to 0.750; seeds 0, 1"
        in card.text
    )
    assert re.search(r"1 of \d+ runs are not in the tables", card.text)
    assert "- bert, pairs, nm4 at 0.750, seed 1" in card.text
    assert "commit c0ffee" in card.text
    assert all(name in card.text for name in ("| bert | bert |", "| pairs | pairs.parquet |"))


def test_the_card_says_whose_seeds_an_interval_is_of():
    knee = {
        "n_seeds_min": 1,
        "n_seeds_max": 2,
        "essential_sparsity_low": 0.25,
        "pattern": "random",
        "protocol": "zero-shot",
    }
    assert intervals.seeds(knee | {"seed_freedom": 1}, " to ") == "1 to 2"
    assert intervals.seeds(knee | {"seed_freedom": 0}, " to ") == "1 to 2 (interval: of one)"
    assert intervals.seeds(knee | {"seed_freedom": 0, "essential_sparsity_low": None}, " to ") == "1 to 2"
    assert intervals.seeds(knee | {"seed_freedom": 0, "n_seeds_max": 1}, " to ") == "1"
    assert intervals.seeds(knee | {"seed_freedom": 0, "pattern": "global"}, " to ") == "1 to 2", "nothing is drawn"


def test_the_code_of_the_card_runs(made, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    text = DatasetCard.load(FOLDER / "README.md").text.replace("path/to/this/folder", str(FOLDER.absolute()))
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    names = [{} for _ in blocks]
    for block, found in zip(blocks, names, strict=True):
        exec(block, found)
    assert len(names[0]["runs"]) == len(names[1]["runs"]) == made.rows["runs"]
    same(names[1]["items"], own_items())
    assert len(names[2]["results"].runs) == made.rows["runs"]


def test_no_byte_that_goes_out_tells_of_the_machine(place, made):
    """The files as they are, and every text of every table; the study itself has all of it."""
    words = [str(place), str(ROOT), str(Path.home()) + "/", socket.gethostname(), "prune.log"]
    own = files.read_json("results/small/ro-crate-metadata.json")
    assert str(place) in json.dumps(own)
    for path in (path for path in FOLDER.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += json.dumps(pq.read_table(path).to_pydict()).encode()
        assert not [word for word in words if word.encode() in content], path
    crate = {entity["@id"]: entity for entity in files.read_json(FOLDER / "ro-crate-metadata.json")["@graph"]}
    assert crate["#model-bert"]["identifier"] == "bert"
    assert json.loads(crate["#configuration"]["text"])["models"] == "models.tsv"
    assert files.read_json(FOLDER / "configuration.json")["models"] == "models.tsv"
    told = "\n".join(publishing.lines(made))
    assert all(
        words in told
        for words in (
            "1 of the study's",
            "are missing",
            "Left out: costs",
            "Left out: explorer.html (it quotes logs",
            "Left out: report.html",
            "reasons quote logs",
        )
    )


def test_the_crate_names_what_is_in_the_folder_by_content(made):
    crate = {entity["@id"]: entity for entity in files.read_json(FOLDER / "ro-crate-metadata.json")["@graph"]}
    found = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file()}
    listed = {name for name, entity in crate.items() if entity["@type"] == "File"}
    assert found - listed == {"ro-crate-metadata.json", folders.RECORD}
    assert (
        {each["@id"] for each in crate["./"]["hasPart"]}
        == {each["@id"] for each in crate["#study"]["result"]}
        == listed
    )
    assert all(crate[name]["sha256"] == files.sha256_file(FOLDER / name) for name in listed)
    assert crate["items/items-00000.parquet"]["version"] == tables.schema("items").metadata[b"version"].decode()


def test_a_second_call_gives_the_same_bytes_and_leaves_nothing_beside(made):
    before = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    beside = sorted(FOLDER.parent.iterdir())
    for name in (".publish.part", ".publish.cache"):  # of a call that was killed
        (FOLDER.parent / name).mkdir()
        (FOLDER.parent / name / "half").write_text("half")
    assert publish() == made
    assert {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()} == before
    assert sorted(FOLDER.parent.iterdir()) == beside


@pytest.mark.usefixtures("study_again")
def test_folders_that_are_not_its_own_or_were_changed_are_left_alone():
    (FOLDER / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"has been changed since it was written \(notes\.txt\)"):
        publish()
    (FOLDER / folders.RECORD).unlink()
    with pytest.raises(ValueError, match="was not written by this command"):
        publish()
    assert (FOLDER / "notes.txt").read_text() == "mine"


@pytest.mark.usefixtures("study_again")
def test_what_fails_on_its_way_leaves_the_folder_before(monkeypatch):
    before = {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
    beside = sorted(FOLDER.parent.iterdir())
    read = datasets.load_dataset

    def other(*given, **named):
        found = read(*given, **named)
        return (
            found.map(lambda row: row | {"value": (row["value"] or 0) + 1e-12}) if "value" in found.features else found
        )

    monkeypatch.setattr(datasets, "load_dataset", other)
    with pytest.raises(RuntimeError, match=r"runs\.parquet: `datasets` reads other values than were written"):
        publish()
    assert {path: path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()} == before
    assert sorted(FOLDER.parent.iterdir()) == beside


@pytest.mark.usefixtures("study_again")
def test_many_items_are_several_files_of_one_table(monkeypatch, tmp_path):
    monkeypatch.setattr(publishing, "SHARD", 50)
    found = publish()
    paths = sorted((FOLDER / "items").iterdir())
    assert found.item_files == len(paths) == -(-len(own_items()) // 50)
    assert [len(tables.read(path, "items")) for path in paths[:-1]] == [50] * (len(paths) - 1)
    same(loaded("items", tmp_path), own_items())
    mine = own_items()
    same(reader.Results(FOLDER).items("bert", "pairs"), mine[mine["task"] == "pairs"].reset_index(drop=True))


# ---- what does not go out --------------------------------------------------------------------------------------------


def rewritten(name: str, change) -> None:
    path = f"results/small/tables/{name}.parquet"
    tables.write(change(tables.read(path, name)), name, path)


def damaged() -> None:
    path = Path("results/small/tables/knees.parquet")
    table = pq.read_table(path)
    values = [value if value is None else value + 0.01 for value in table["dense"].to_pylist()]
    place = table.schema.get_field_index("dense")
    pq.write_table(table.set_column(place, table.schema.field(place), pa.array(values, pa.float64())), path)


def of_other_settings() -> None:
    path = Path("config/tasks.tsv")
    path.write_text(path.read_text().replace("\npairs\t", "\nPAIRS\t").replace("\nPAIRS\t", "\npairs\t"))
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    frame.loc[frame["task"] == "pairs", "max_length"] = "7"
    frame.to_csv(path, sep="\t", index=False)


def of_another_tolerance() -> None:
    path = Path("config/tasks.tsv")
    frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    frame.loc[frame["task"] == "pairs", "epsilon"] = "0.05"
    frame.to_csv(path, sep="\t", index=False)


def of_another_source() -> None:
    """Snakemake's record of the data says that they were fetched from elsewhere."""
    record = records._place(records.PLACES[0], f"{grid.STORE}/datasets/pairs/manifest.json")
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"params": [repr("another source")]}))


def with_references_that_were_changed() -> None:
    path, header = Path("config/references.tsv"), "model\ttask\tpattern\tsparsity\tmetric\tvalue\ttolerance\tsource\n"
    path.write_text(f"{header}bert\tpairs\t\t\tspearman\t0.4\t0.1\tus\n")
    other_configuration(references="config/references.tsv")
    row = {"model": "bert", "task": "pairs", "pattern": "dense", "sparsity": 0.0, "seed": 0, "metric": "spearman"}
    row |= {"value": 0.4, "tolerance": 0.1, "found": 0.45, "agrees": True, "source": "us"}
    tables.write(pd.DataFrame([row]), "references", "results/small/tables/references.parquet")
    provenance(opening.read(config()))
    path.write_text(f"{header}bert\tpairs\t\t\tspearman\t0.5\t0.1\tus\n")


def with_claims_that_were_changed() -> None:
    said = {"claim": "mine", "says": "A tenth is free.", "source": "me", "table": "knees", "over": "every"}
    said |= {"where": {"pattern": "global"}, "expect": {"above": 0.1}, "refuted_by": "a curve", "needs": "curves"}
    path = Path("config/mine.yaml")
    path.write_text(yaml.safe_dump({"claims": [said]}))
    other_configuration(claims="config/mine.yaml")
    row = {name: said[name] for name in ("claim", "says", "source", "refuted_by")} | {"position": 0}
    row |= {"verdict": "undecided", "because": "so", "expected": "every interval above 0.1 (sparsity)"}
    row |= {"expected_low": 0.1, "expected_high": None, "n_evidence": 1, "n_for": 0, "n_against": 0, "n_against_all": 0}
    tables.write(pd.DataFrame([row]), "claims", "results/small/tables/claims.parquet")
    tables.write(tables.empty("evidence"), "evidence", "results/small/tables/evidence.parquet")
    provenance(opening.read(config()))
    path.write_text(yaml.safe_dump({"claims": [said | {"where": {"pattern": "nm4"}}]}))


def other_configuration(**changed) -> None:
    path = Path(small_study.CONFIG)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changed))


def with_changed_items() -> None:
    path = next(Path(grid.STORE, "items/bert/pairs/global").rglob("*.parquet"))
    tables.write(tables.read(path, "items").assign(weight=2.0), "items", path)


def of_fewer_runs() -> None:
    rewritten("runs", lambda found: found[found["pattern"] != "nm4"])
    provenance(opening.read(config()))


def of_more_runs() -> None:
    rewritten("runs", lambda found: pd.concat([found, found.tail(1).assign(seed=9)]))
    provenance(opening.read(config()))


def of_more_missing_runs() -> None:
    rewritten("missing_runs", lambda found: pd.concat([found, found.assign(seed=9)]))
    provenance(opening.read(config()))


def of_another(part: str) -> None:
    rewritten("runs", lambda found: found.assign(**{f"{part}_sha256": "x", "code_sha256": "x"}))
    provenance(opening.read(config()))


def with_a_page_that_tells_of_the_machine() -> None:
    Path("results/small/claims.html").write_text(f"<p>as {Path.cwd()}/notes.txt says</p>")
    provenance(opening.read(config()))


REFUSED = {
    "a table lacks": (lambda: Path("results/small/tables/layers.parquet").unlink(), r"layers\.parquet: the study 'small' is not finished"),
    "no provenance": (lambda: Path("results/small/ro-crate-metadata.json").unlink(), "is not finished. Run it first"),
    "damaged": (damaged, "not those that were written"),
    "of another call": (lambda: rewritten("knees", lambda found: found[:-1]), r"knees\.parquet: not the tables that .* was written of"),
    "another configuration": (lambda: other_configuration(knees={"compare": []}), r"made with another configuration \(knees\) than it has now"),
    "another tolerance": (of_another_tolerance, r"were read with another value of the tolerance of pairs than the configuration says now\. Run"),
    "another source": (of_another_source, r"datasets/pairs/manifest\.json: of another source than there is now.*and so is what was made"),
    "other references": (with_references_that_were_changed, r"made with another configuration \(what the file of references says\) than it has now"),
    "other claims": (with_claims_that_were_changed, r"made with another configuration \(what the file of claims says\) than it has now"),
    "other settings": (of_other_settings, r"of the tables were made of other settings than the configuration asks for now, such as results/store/runs/bert/pairs"),
    "other items": (with_changed_items, "does not hold the items that its runs were written with"),
    "items are gone": (lambda: shutil.rmtree(Path(grid.STORE, "items/gpt2")), r"items/gpt2/.* is not there: runs of the tables were made of it"),
    "a page": (with_a_page_that_tells_of_the_machine, r"claims\.html, its text, names a folder of this machine"),
    "too many runs": (of_more_runs, r"have 1 runs that its configuration does not ask for \(gpt2, ppl, nm4, 0\.5, 9"),
    "too many missing": (of_more_missing_runs, r"have 1 runs that its configuration does not ask for \(bert, pairs, nm4, 0\.75, 9"),
    "another checkpoint": (lambda: of_another("checkpoint"), "of the tables were made of other checkpoint than the configuration"),
    "other data": (lambda: of_another("data"), "of the tables were made of other data than the configuration"),
    "another calibration": (lambda: of_another("calibration"), "of the tables were made of other calibration than the configuration"),
    "another ticket": (lambda: of_another("ticket"), "of the tables were made of other lottery ticket than the configuration"),
    "too few runs": (of_fewer_runs, r"have \d+ runs too few \(bert, pairs, nm4"),
}  # fmt: skip


@pytest.mark.usefixtures("study_again")
@pytest.mark.parametrize("case", REFUSED)
def test_a_study_that_is_not_whole_is_refused(case):
    spoil, message = REFUSED[case]
    before = files.sha256_file(FOLDER / folders.RECORD)
    spoil()
    with pytest.raises(ValueError, match=message):
        publish()
    assert files.sha256_file(FOLDER / folders.RECORD) == before


def test_the_grid_of_a_study_that_is_read_is_that_of_its_runs_and_not_of_those_that_are_missing(made):
    found = settled.read(config())
    keys = [set(rows[runs.KEY].itertuples(index=False, name=None)) for rows in (found.grid, found.runs, found.missing)]
    assert keys[0] == keys[1]
    assert len(found.grid) == len(keys[0])
    assert len(keys[2]) == 1
    assert len(found.study.rows()) == len(keys[0]) + 1


def test_a_key_that_was_added_or_taken_away_is_another_configuration():
    asked = SimpleNamespace(deciding=lambda: json.dumps({"study": "small", "grid": 1}))

    def changed(**then):
        return settled._changed(asked, {"@graph": [{"@id": "#configuration", "text": json.dumps(then)}]})

    assert changed(study="small", grid=1) == []
    assert changed(study="small") == ["grid"]
    assert changed(study="small", grid=1, lottery=2) == ["lottery"]


def test_manifests_that_no_record_compares_are_told(place, made, monkeypatch):
    """Results that were copied without Snakemake's records may be of other sources than the configuration names now."""
    told = "taken for what the configuration asks for"
    assert any(told in sentence and "checkpoints/bert/manifest.json" in sentence for sentence in made.said)
    monkeypatch.setattr(records, "_record", lambda place, path: True)
    assert records.not_compared(opening.read(config())) == []


@pytest.mark.usefixtures("study_again")
def test_tables_of_before_are_noticed():
    assert not settled.of_before(config()), "there are none"
    asked = opening.read(config())
    tables.write(pd.DataFrame(asked.rows()), "grid", f"{asked.folder}/grid.parquet")
    assert not settled.of_before(config())
    of_other_settings()
    assert settled.of_before(config())


@pytest.mark.usefixtures("study_again")
@pytest.mark.parametrize(
    "change",
    [of_another_tolerance, of_another_source, with_references_that_were_changed, with_claims_that_were_changed],
)
def test_a_report_of_tables_that_were_read_otherwise_is_said_to_be_of_before(change):
    tables.write(pd.DataFrame(opening.read(config()).rows()), "grid", "results/small/grid.parquet")
    assert not settled.of_before(config())
    change()
    assert settled.of_before(config())


@pytest.mark.usefixtures("study_again")
@pytest.mark.parametrize("gone", ["tables/knees.parquet", "ro-crate-metadata.json"])
def test_a_report_of_a_study_that_is_not_finished_is_not_said_to_be_of_before(gone):
    tables.write(pd.DataFrame(opening.read(config()).rows()), "grid", "results/small/grid.parquet")
    of_another_tolerance()
    assert settled.of_before(config())
    Path("results/small", gone).unlink()
    assert not settled.of_before(config())


def test_a_summary_looks_for_zeros_in_the_spectra(made, monkeypatch, capsys):
    monkeypatch.setattr(summary, "ZEROS", 0.0)
    manifest, place = (Path(grid.STORE, name) for name in ("checkpoints/bert/manifest.json", "spectra"))
    measuring.measure(manifest, place / "bert.parquet", place / "marks.parquet")
    (place / "llama.parquet").write_text("half of a table")
    print_summary.main(["--config", small_study.CONFIG])
    shutil.rmtree(place)
    assert "Zero before pruning\n\nbert: 0.0 % of its prunable weights are zero" in capsys.readouterr().out


@pytest.mark.usefixtures("study_again")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (of_another_tolerance, "the tolerance of pairs: another one now than these tables"),
        (with_references_that_were_changed, "what the file of references says: another one now than these tables"),
        (with_claims_that_were_changed, "what the file of claims says: another one now than these tables"),
        (
            of_other_settings,
            "runs of these tables are of other settings than the configuration and its tables ask for now (pairs)",
        ),
    ],
)
def test_a_summary_of_tables_that_were_read_otherwise_says_so(capsys, change, told):
    print_summary.main(["--config", small_study.CONFIG])
    assert "warning" not in capsys.readouterr().err
    change()
    print_summary.main(["--config", small_study.CONFIG])
    said = capsys.readouterr().err
    assert "warning: " in said
    assert told in said


def test_other_code_and_mixed_versions_are_told(place, made, monkeypatch):
    differing = runs.differing
    monkeypatch.setattr(runs, "differing", lambda joined: differing(joined).map(lambda _: "code"))
    assert any("code that evaluates has changed" in sentence for sentence in settled.read(config()).said)
    frame = pd.DataFrame(
        {
            "model": ["m", "m"],
            "task": ["t", "t"],
            "torch": ["1", "2"],
            "transformers": "5",
            "device": "cpu",
            "hardware": "h",
        }
    )
    assert settled._mixed(frame) == ["Several versions of libraries or types of device computed m on t."]
    assert settled._mixed(frame.assign(torch="1")) == []
    assert settled._mixed(frame.assign(torch="1", hardware=["b", "a"])) == [
        "Different hardware, which rounds otherwise and may draw other dropout, computed m on t (a, b)."
    ]
    monkeypatch.setattr(settled, "_mixed", lambda found: [f"{len(found)} rows are mixed"])
    assert f"{made.rows['runs']} rows are mixed" in settled.read(config()).said


@pytest.mark.parametrize(
    "names",
    [
        [
            "a review of a film that nobody has seen, nor ever will",
            "another one that is as long and says as little of it",
        ],
        ["one", "two\nlines"],
        ["short", "x" * 300],
        ["x" * 70, "y" * 70],
    ],
)
def test_texts_are_no_identifiers(names):
    with pytest.raises(ValueError, match="The task moods names its items by what looks like their text"):
        publishing._refuse_texts(pd.DataFrame({"task": "moods", "item": names}))


@pytest.mark.usefixtures("study_again")
def test_the_items_of_every_task_are_looked_at(monkeypatch):
    monkeypatch.setattr(publishing, "LONGEST", 8)  # window000000 has more
    with pytest.raises(ValueError, match=r"The task ppl names its items by what looks like their text \('window0"):
        publish()


def test_titles_and_file_names_are_identifiers():
    names = [
        "The Emergence of Essential Sparsity in Large Pre-trained Models: The Weights that Matter",
        "Paris",
        "test/3/0001.png",
    ]
    publishing._refuse_texts(pd.DataFrame({"task": "moods", "item": names}))


TRACES = {
    "the folder that it is called in": (lambda: f"see {Path.cwd()}/notes", "a folder of this machine"),
    "the home folder": (lambda: f"see {Path.home()}/notes", "a folder of this machine"),
    "somebody's folder": (lambda: "from /scratch/somebody/notes", "a path from the root"),
    "somebody's folder on a machine": (lambda: "from node:/scratch/somebody/notes", "a path from the root"),
    "somebody's folder as an address": (lambda: "from file:///scratch/somebody/notes", "a path from the root"),
    "the machine": (lambda: "measured on node-of-mine.", "this machine"),
    "a token": (lambda: f"token {TOKEN}", "a token(?=, )"),
}


@pytest.mark.parametrize("kind", ["text", "value", "metadata"])
@pytest.mark.parametrize("case", TRACES)
def test_a_file_that_tells_of_the_machine_is_refused(case, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket, "gethostname", lambda: "node-of-mine")
    folder = tmp_path / "out"
    folder.mkdir()
    text, what = TRACES[case]
    if kind == "text":
        (folder / "page.html").write_text(f"<p>{text()}</p>")
    elif kind == "value":
        pq.write_table(pa.table({"a": [1, 2, 3], "source": ["fine", None, text()]}), folder / "t.parquet")
    else:
        schema = pa.schema([pa.field("a", pa.int64(), metadata={"description": text()})])
        pq.write_table(pa.table({"a": [1]}, schema=schema), folder / "t.parquet")
    with pytest.raises(
        ValueError, match=rf"(page\.html|t\.parquet), (its text|column source|its metadata), names ({what})"
    ) as caught:
        traces.refuse(folder)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(("host", "home"), [("vm", "/root"), ("section", "/")])
def test_what_only_looks_so_goes_out(host, home, tmp_path, monkeypatch):
    """A machine may be called like any word; a home and a working folder may be the root."""
    monkeypatch.setattr(Path, "home", lambda: Path(home))
    monkeypatch.setattr(Path, "cwd", lambda: Path(home))
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    (tmp_path / "page.html").write_text(
        "the section on the square/root/of it; tests/home/x; https://vm.org/homes/x; /rooted; <p></p></tr>; 1 / 2 / 3; hf_token; hf_hub_download"
    )
    traces.refuse(tmp_path)


# ---- to a hub, by its own client --------------------------------------------------------------------------------------


@pytest.fixture
def hub():
    with running(Hub(token=TOKEN)) as hub:
        yield hub


@contextlib.contextmanager
def programs(home: Path, **changed: str):
    """A function that calls the program in a process of its own and gives its exit code and all that it printed."""
    own = {key: value for key, value in os.environ.items() if not key.upper().startswith(("HF_", "HTTP", "ALL_PROXY"))}
    own |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    own |= {"NO_PROXY": "127.0.0.1,localhost", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "workflow/scripts")}
    command = [sys.executable, str(ROOT / "tests/hub/programs.py")]
    with subprocess.Popen(
        command, env=own | changed, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def call(*options: str) -> tuple[int, str]:
            words = ["publish_study", "--config", small_study.CONFIG, *options]
            process.stdin.write(json.dumps(words) + "\n")
            process.stdin.flush()
            return tuple(json.loads(process.stdout.readline()))

        yield call
        process.stdin.close()


def held(hub, name="team/small"):
    return hub.repositories["datasets", name]


LOADED = """
import datasets, sys
for name in sys.argv[2:]:
    datasets.load_dataset("team/small", name, split="train").to_parquet(f"{sys.argv[1]}/{name}.parquet")
"""


def test_a_study_goes_to_the_hub_in_one_commit_and_is_loaded_from_there(place, made, hub, tmp_path):
    access = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN}
    with programs(tmp_path / "hf", **access) as call:
        code, said = call("--license", "cc-by-4.0", "--repo", "team/small")
        assert code == 0, said
        assert f"{hub.url}/datasets/team/small: commit {held(hub)['commit']} (private)" in said
        sent = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in FOLDER.rglob("*") if path.is_file()}
        assert held(hub)["files"] == {".gitattributes": held(hub)["files"][".gitattributes"], **sent}
        assert sum("/commit/" in line for line in hub.requests) == 1

        out = tmp_path / "out"
        out.mkdir()
        command = [sys.executable, "-c", LOADED, str(out), "runs", "knees", "items"]
        own = {
            **os.environ,
            **access,
            "HF_HOME": str(tmp_path / "other"),
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1,localhost",
        }
        own |= {"HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(command, cwd=out, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        for name in ("runs", "knees"):
            same(pd.read_parquet(out / f"{name}.parquet"), pd.read_parquet(f"results/small/tables/{name}.parquet"))
        same(pd.read_parquet(out / "items.parquet"), own_items())

        first, hub.requests[:] = held(hub)["commit"], []
        code, again = call("--license", "cc-by-4.0", "--repo", "team/small")
        assert code == 0, again
        assert f"unchanged since commit {first}, no new one was made (private)" in again
        assert held(hub)["commit"] == first
        assert not [line for line in hub.requests if "/commit/" in line or line.startswith("PUT")]

        record = json.loads(held(hub)["files"][folders.RECORD])
        record["files"]["old page [1].html"] = "of the study before it held no claims"
        first = "1" * 40
        held(hub).update(commit=first, refs={"main", first})
        held(hub)["files"] |= {folders.RECORD: json.dumps(record).encode(), "old page [1].html": b"claims"}
        held(hub)["files"] |= {"items/items-00007.parquet": b"of a longer study", "docs/mine.md": b"mine"}
        code, third = call("--repo", "team/small")  # another licence: another card
        assert code == 0, third
        assert held(hub)["commit"] != first
        assert "items/items-00007.parquet" not in held(hub)["files"]
        assert "old page [1].html" not in held(hub)["files"]
        assert held(hub)["files"]["docs/mine.md"] == b"mine"
        assert b"license: unknown" in held(hub)["files"]["README.md"]
        publish()
    assert TOKEN not in said + again + third
    assert all(TOKEN.encode() not in content for content in held(hub)["files"].values())


def answering(status: int, where: str):
    """A fault of a hub: it answers so where a path holds some words."""

    def fault(handler, path):
        if where in path and handler.command != "GET":
            handler.answer(b'{"error": "no"}', status)
            return True
        return False

    return fault


def test_what_keeps_it_from_the_hub_is_said_and_nothing_half_is_there(place, made, hub, tmp_path):
    with programs(tmp_path / "hf", HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN) as call:
        options = ("--license", "cc-by-4.0", "--repo", "team/small")
        for where, status, words in (
            (
                "/api/repos/create",
                401,
                "status 401 and does not accept the login: run `hf auth login` again, or correct HF_TOKEN",
            ),
            ("/api/repos/create", 403, "status 403 and does not let this login write there"),
            ("/api/repos/create", 404, "status 404 and has no such place: correct REPO (owner/name), or HF_ENDPOINT"),
            ("/upload/", 403, "status 403 and does not let this login write there"),
            ("/commit/", 403, "status 403 and does not let this login write there"),
            ("/commit/", 413, "status 413 and says no more"),
        ):
            hub.fault = answering(status, where)
            code, said = call(*options)
            assert code == 1, said
            assert f"error: publish_study: team/small: the hub answers with {words}" in said
            assert "; nothing of this study is to be seen there.\n" in said
            assert TOKEN not in said
            assert ("datasets", "team/small") not in hub.repositories or set(held(hub)["files"]) == {".gitattributes"}

        def closing(handler, path):
            if "/commit/" in path:
                handler.close_connection = True
                return True
            return False

        hub.fault = closing
        code, said = call(*options)
        assert code == 1, said
        assert re.search(
            r"team/small: the hub at http://127\.0\.0\.1:\d+ cannot be reached \(\w+: .*\); nothing of this study is",
            said,
        ), said
        assert set(held(hub)["files"]) == {".gitattributes"}

        busy = [b"{}"]

        def once(handler, path):
            if "/commit/" in path and busy:
                handler.answer(busy.pop(), 503, {"Retry-After": "0.1"})
                return True
            return False

        hub.fault, hub.requests[:] = once, []
        code, said = call(*options)  # goes on: what came before is not sent again
        assert code == 0, said
        assert "The hub answered 503; asked again" in said
        assert not [line for line in hub.requests if line.startswith("PUT")]
        assert "README.md" in held(hub)["files"]

        held(hub)["private"] = False
        commit = held(hub)["commit"]
        for more, name, words in (
            ((), "team/small", "team/small is there and public, and this is to be private"),
            (
                ("--private", "false"),
                "team/other",
                "team/other holds something else (data.csv; no essential-sparsity.json)",
            ),
            (("--private", "false"), "team/study", "team/study holds something else (study another)"),
        ):
            hub.add("datasets", "team/other", {"data.csv": b"a", "README.md": b"mine"})
            hub.add("datasets", "team/study", {folders.RECORD: b'{"key": {"study": "another"}}'})
            code, said = call(*options[:-1], name, *more)
            assert code == 1, said
            assert words in said
        assert held(hub)["commit"] == commit
        code, said = call("--license", "cc-by-4.0", "--repo", "team/open", "--private", "false")
        assert code == 0, said
        assert "(public)" in said
        assert not held(hub, "team/open")["private"]
        held(hub, "team/open")["private"] = True
        code, said = call("--license", "cc-by-4.0", "--repo", "team/open", "--private", "false")
        assert "It was there and private, and stays so" in said


def test_without_a_hub(place, made, tmp_path):
    with programs(tmp_path / "hf", HF_ENDPOINT="http://127.0.0.1:9", HF_TOKEN=TOKEN) as call:
        code, said = call("--license", "cc-by-4.0")
        assert code == 0, said
        assert "Nothing was pushed: REPO=owner/name does" in said
        code, said = call("--license", "cc-by-4.0", "--repo", "team/small")
        assert code == 1, said
        assert "team/small: the hub at http://127.0.0.1:9 cannot be reached (ConnectError: " in said
        for words, message in (
            (("--repo", "nobody"), "REPO is 'nobody': write owner/name"),
            (("--repo", "a/b/c"), "REPO is 'a/b/c': write owner/name"),
            (("--repo", "a/--b"), "no id of the hub"),
            (("--private", "true"), "PRIVATE says who sees a data set of a hub"),
            (("--license", "My own"), "LICENSE is 'My own': write it as the hub does"),
        ):
            code, said = call(*words)
            assert code == 1, said
            assert message in said
    with programs(tmp_path / "hf", HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:9") as call:
        code, said = call("--license", "cc-by-4.0", "--repo", "team/small")
    assert code == 1, said
    assert "HF_HUB_OFFLINE is set, and pushing needs the hub" in said
