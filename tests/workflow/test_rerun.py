"""Only what changed runs again, on real weights: what runs again gives what a fresh study gives, bit for bit.

What is planned after which edit is held by test_changes.py, with stand-ins in the place of what computes.
"""

import os
import shutil
import time

from workspace import OUT, STORE, TINY, Workspace

from essential_sparsity import tables

RUNS = f"{STORE}/runs/splade-tiny/ws353"
TABLES = [f"{OUT}/tables/{name}.parquet" for name in ("runs", "knees", "comparisons", "layers")]
MODEL = {"model": "own", "label": "Own", "type": "encoder", "source": "path", "id": "own/weights"}
MODEL |= {"format": "transformers", "parameters": "4.4e6", "allow_pickle": "false"}
TASK = {"task": "own", "label": "Own", "kind": "text-classification", "protocol": "probe", "dataset": "own"}
TASK |= {"source": "path", "id": "own/texts.csv", "format": "csv", "n_train": 24, "n_eval": 16, "max_length": 12}
TASK |= {"levels_per_job": 2, "minutes_per_level": 1}


def read(study, names=TABLES):
    return {name: (study.folder / name).read_bytes() for name in names}


def fresh(study, folder):
    """A study that has computed nothing, of the same configuration, code and local files; then computed."""
    new = Workspace(folder, study)
    shutil.rmtree(new.folder / "results")
    shutil.rmtree(new.folder / ".snakemake")
    new.snakemake("--quiet", "all")
    return new


def add_row(study, table, cells):
    path = study.folder / f"config/{table}.tsv"
    header = next(line for line in path.read_text().splitlines() if not line.startswith("#")).split("\t")
    assert set(cells) <= set(header)
    path.write_text(path.read_text() + "\t".join(str(cells.get(column, "")) for column in header) + "\n")


def refer(study, value):
    header = "model\ttask\tmetric\tvalue\ttolerance\tsource\n"
    row = f"splade-tiny\tws353\tspearman\t{value}\t0.001\tan earlier run\n"
    (study.folder / "config/references.tsv").write_text(header + row)


def test_nothing_changed_and_everything_touched_run_nothing(finished):
    assert finished.planned() == {}
    now = time.time()
    for file in sorted(finished.folder.rglob("*")):
        if file.is_file() and ".snakemake" not in file.parts:
            os.utime(file, (now, now))
    assert finished.planned() == {}


def test_a_setting_that_changes_is_computed_in_one_call_as_a_fresh_study_would(finished, tmp_path):
    study = Workspace(tmp_path / "study", finished)
    tasks = study.folder / "config/tasks.tsv"
    before, after = "\t16\t\t\t\t\t1\t0.1", "\t12\t\t\t\t\t1\t0.1"
    assert before in tasks.read_text(), "the row of ws353 has changed: the test is out of date"
    tasks.write_text(tasks.read_text().replace(before, after))
    assert study.planned()["prune_eval"] == 10
    study.snakemake("--quiet", "all")
    assert study.planned() == {}, "one call is enough"
    assert read(study)[TABLES[0]] != read(finished)[TABLES[0]]
    assert read(study) == read(fresh(study, tmp_path / "fresh"))


def test_a_lost_run_is_computed_again_alone_and_is_the_same_bit_for_bit(finished, tmp_path):
    study = Workspace(tmp_path / "study", finished)
    name = "splade-tiny/ws353/random/0.300/seed1.parquet"
    lost = [f"{STORE}/runs/{name}", f"{STORE}/items/{name}"]
    before = read(study, [*TABLES, *lost])
    for path in lost:
        (study.folder / path).unlink()
    assert study.planned()["prune_eval"] == 1
    output = study.snakemake("--quiet", "rules", "host", "reason")
    assert "splade-tiny ws353 random 0.300 seed 1: " in output, "it is computed, not taken from anywhere"
    assert read(study, [*TABLES, *lost]) == before
    assert study.planned() == {}


def test_sparse_runs_wait_for_a_dense_one_that_agrees_and_finished_ones_stay(finished, tmp_path):
    """A new seed: its dense run is computed once, however often the reference stops it."""
    study = Workspace(tmp_path / "study", finished)
    study.configure(grid=[TINY | {"patterns": ["global"], "sparsities": [0.45], "seeds": [2]}])
    dense, run = (f"{RUNS}/{name}/seed2.parquet" for name in ("dense/0.000", "global/0.450"))
    right = tables.read(study.folder / f"{RUNS}/dense/0.000/seed0.parquet", "runs").set_index("metric")["value"][
        "spearman"
    ]
    wrong = f"spearman is {right:.4g}, but {right + 0.1:g} ± 0.001 was expected (an earlier run)"
    refer(study, right + 0.1)
    assert study.planned(run) == {"prune_eval": 2}
    assert wrong in study.snakemake(run, check=False)
    assert not (study.folder / dense).exists()
    assert not (study.folder / run).exists()
    refer(study, right)
    output = study.snakemake(run)
    assert "Not computed again" in output
    assert "splade-tiny ws353 dense 0.000 seed 2: " not in output
    assert "splade-tiny ws353 global 0.450 seed 2: " in output

    refer(study, right + 0.1)
    assert study.planned(run) == {}, "finished runs stay"
    assert wrong in study.snakemake("--quiet", "rules", "host", "reason", check=False)
    assert (study.folder / run).is_file()
    assert not (study.folder / f"{OUT}/tables/references.parquet").exists()
    output = study.snakemake("--quiet", "rules", "host", "reason", "--config", "dense_check=warn")
    assert f"warning: Dense splade-tiny ws353 seed 2: {wrong}" in output
    refer(study, right)
    assert "ws353 global" not in study.snakemake("--quiet", "rules", "host", "reason")
    assert tables.read(study.folder / f"{OUT}/tables/references.parquet", "references")["agrees"].all()
    assert study.planned() == {}


def test_local_data_and_weights_edited_in_place_are_read_again(finished, tmp_path):
    """No row changes: the content of the paths that rows name does."""
    study = Workspace(tmp_path / "study", finished)
    weights = study.folder / "own/weights"
    shutil.copytree(study.folder / f"{STORE}/checkpoints/splade-tiny/files", weights)
    texts = [f"the film {i} was {'good' if i % 3 else 'bad'},{int(i % 3 > 0)}" for i in range(60)]
    data = study.folder / "own/texts.csv"
    data.write_text("\n".join(["text,label", *texts]) + "\n")
    add_row(study, "models", MODEL)
    add_row(study, "tasks", TASK)
    study.configure(grid=[{"models": ["own"], "tasks": ["own"], "patterns": ["global"], "sparsities": [0.3, 0.6], "seeds": [0]}])  # fmt: skip
    study.snakemake("--quiet", "all")
    assert study.planned() == {}
    before = read(study)

    data.write_text("\n".join(["text,label", *(line[:-1] + str(i % 2) for i, line in enumerate(texts))]) + "\n")
    planned = study.planned()
    assert (planned["fetch_dataset"], planned["prune_eval"]) == (1, 2)
    assert not planned.keys() & {"fetch_model", "measure_spectrum", "count_layers"}
    rewrite(weights / "model.safetensors")
    planned = study.planned()
    assert (planned["fetch_dataset"], planned["fetch_model"], planned["measure_spectrum"]) == (1, 1, 1)
    assert planned["prune_eval"] == 2
    study.snakemake("--quiet", "all")
    assert study.planned() == {}, "one call is enough"
    after = read(study)
    assert after != before
    assert after == read(fresh(study, tmp_path / "fresh"))


def rewrite(path):
    """Turn every tensor of a file of weights over, in place."""
    from safetensors.torch import load_file, save_file

    turned = {name: tensor.flip(0).contiguous() for name, tensor in load_file(path).items()}
    save_file(turned, path, metadata={"format": "pt"})
