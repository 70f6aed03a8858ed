"""What a person is told of files that nothing compares with the configuration, and what is found to be of something else."""

import json
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from essential_sparsity import codefiles, files
from essential_sparsity.study import configuration, deciding, grid, iterations, opening, records

ROOT = Path(__file__).parents[2]
STORE = grid.STORE


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    (tmp_path / "config").symlink_to(ROOT / "config")
    monkeypatch.chdir(tmp_path)


def asked(preset="config", **given):
    config = configuration.read_config("config/config.yaml", f"config/{preset}.yaml", given=given)
    return opening.unlocked(config)


def put(path: str, text: str = "") -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def record(path: str, place: str = records.PLACES[0], **known) -> None:
    put(str(records._place(place, path)), json.dumps(known))


def test_files_without_a_record_are_found_and_those_with_one_are_not():
    study = asked()
    assert records.lost(study) == []
    there = [
        put(f"{study.folder}/grid.parquet"),
        put(f"{STORE}/checkpoints/minilm/manifest.json"),
        put(f"{STORE}/datasets/ws353/manifest.json"),
        put(f"{STORE}/spectra/minilm.parquet"),
    ]
    put(f"{STORE}/checkpoints/another/manifest.json")  # of another study
    assert records.lost(study) == there
    record(there[0])
    record(there[1], records.PLACES[1])  # its job was killed, and is made anew
    assert records.lost(study) == there[2:]
    assert records.lost(asked(missing_runs="skip")) == there[2:3], "what is measured is not made there"


def test_pre_trainings_say_themselves_of_which_settings_they_are():
    study = asked("emergence-text")
    name = study.pretrained[0]
    settings = json.loads(deciding.pretraining(study.pretrainings[name]))
    path = put(f"{STORE}/pretraining/{name}/manifest.json", json.dumps({"settings": settings}))
    model = next(member["model"] for member in study.members if study.models[member["model"]]["id"] == name)
    checkpoint = put(f"{STORE}/checkpoints/{model}/manifest.json")
    assert records.lost(study) == [checkpoint]
    put(path, json.dumps({"settings": settings | {"steps": 1}}))
    assert records.lost(study) == [checkpoint, path]


def test_what_to_type_names_what_is_there():
    study = asked()
    own, shared = f"{study.folder}/grid.parquet", [f"{STORE}/spectra/a.parquet", f"{STORE}/spectra/b.parquet"]
    find, rm = f"\n  find {study.folder} -mindepth 1 -not -name rounds.json -delete", "\n  rm " + " ".join(shared)
    told = records.advice(study, [own, *shared])
    assert told.startswith(f"{own} (and 2 more) is there, but Snakemake's record ")
    assert "runs in results/store stay" in told
    assert told.endswith(f":{find}{rm}")
    assert records.advice(study, [own]).endswith(f":{find}")
    assert records.advice(study, shared).endswith(f":{rm}")
    skipping = asked(missing_runs="skip")
    assert "Then run the study" in records.advice(skipping, shared)
    assert records.advice(skipping, [own]).endswith(f":{find}")


def test_tables_figures_and_pages_of_an_earlier_configuration_are_found():
    there = [
        put(f"results/s/{name}") for name in ("claims.html", "figures/a/b.svg", "figures/c.svg", "tables/d.parquet")
    ]
    put("results/s/rounds.json")
    assert records.left("results/s", []) == there
    assert records.left("results/s", [there[1], "results/s/tables/else.parquet"]) == [there[0], *there[2:]]
    assert records.leftovers("results/s", there[:1]).startswith("results/s/claims.html is of an earlier configuration")
    told = records.leftovers("results/s", ["results/s/a b.svg"] * records.TYPED)
    assert " are of an earlier " in told
    assert told.endswith("\n  rm " + " ".join(["'results/s/a b.svg'"] * records.TYPED))
    many = records.leftovers("results/a b", ["x"] * (records.TYPED + 1))
    assert many.endswith("\n  rm -r 'results/a b/tables' 'results/a b/figures'")


def test_manifests_that_nothing_compares_are_told_and_no_others():
    study = asked()
    assert records.not_compared(study) == []
    put(f"{STORE}/spectra/minilm.parquet")
    assert records.not_compared(study) == [], "of manifests alone"
    manifest = put(f"{STORE}/checkpoints/minilm/manifest.json")
    (told,) = records.not_compared(study)
    assert told.startswith(f"{manifest}: taken for what the configuration asks for")
    assert records.not_compared(study, {manifest}) == [told]
    assert records.not_compared(study, {f"{STORE}/datasets/ws353/manifest.json"}) == []


def test_tickets_spectra_and_fingerprints_of_something_else_are_found():
    study = asked("lottery")
    model, task, *_ = ticket = study.tickets[0]
    path = put(f"{STORE}/tickets/{iterations.path(ticket)}.sha256")
    decided = [study.code("find_ticket", task), study.settings(task), study.share]

    def made(*params) -> None:
        record(path, params=[*map(repr, params)])

    assert records.of_other(study) == [], "of what nothing is known"
    made(*decided)
    assert records.of_other(study) == []
    for place in range(3):
        made(*decided[:place], "another", *decided[place + 1 :])
        assert records.of_other(study) == [path]
    made(*decided)
    weights = put(f"{STORE}/checkpoints/{model}/manifest.json", "others")
    measured = [put(name) for name in records.measured(model)]
    assert {Path(name).parts[2] for name in measured} == {"spectra", "fingerprints"}
    for name in measured:
        record(name, input_checksums={weights: files.sha256_file(Path(weights))})
    assert records.of_other(study) == []
    for name in measured:
        record(name, input_checksums={weights: "0" * 64})
    assert records.of_other(study) == sorted(measured)
    for name in measured:
        Path(name).unlink()
    assert records.of_other(study) == [], "a record alone is no file"


def test_a_pre_training_of_other_settings_code_threads_or_data_is_found():
    study = asked("emergence-text")
    name = study.pretrained[0]
    row = study.pretrainings[name]
    settings, source = json.loads(deciding.pretraining(row)), study.source(study.datasets[row["dataset"]])
    path = put(f"{STORE}/pretraining/{name}/manifest.json", json.dumps({"settings": settings}))
    data = f"{STORE}/datasets/{row['dataset']}/manifest.json"
    decided = [deciding.pretraining(row), codefiles.digest("pretrain"), study.given["resources"]["threads"]]

    def made(*params) -> None:
        record(path, params=[*map(repr, params)])

    made(*decided)
    assert records.of_other(study) == [path], "of its data nothing is known, and they are not there"
    record(data, params=[repr(source)])
    assert records.of_other(study) == [], "they are fetched anew, and are the same"
    put(data)
    assert records.of_other(study) == []
    for place in range(3):
        made(*decided[:place], "another", *decided[place + 1 :])
        assert records.of_other(study) == [path]
    made(*decided)
    put(path, json.dumps({"settings": settings | {"seed": 7}}))
    assert records.of_other(study) == [path]
    put(path, json.dumps({"settings": settings}))
    record(data, params=[repr("another")])
    assert records.of_other(study) == [data, path]


def test_records_lie_where_snakemake_puts_them():
    name = urlsafe_b64encode(b"results/" + b"a" * 400).decode()
    assert len(name) > 2 * 254
    long = Path("place", f"@{name[:254]}", f"@{name[254:508]}", name[508:])
    assert records._place("place", "results/" + "a" * 400) == long
    assert records._place("place", "results/a") == Path("place", urlsafe_b64encode(b"results/a").decode())
