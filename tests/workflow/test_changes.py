"""Only what changed runs again, in one call: edits of a finished study with a reference, chunked levels, tickets, two seeds.

What computes is replaced by a stand-in whose values are drawn from all that decides them; Snakemake, the rules, the code
digests, the grid, collecting and the references are the real ones. So tables that are equal to those of a fresh study
were made of what the configuration asks for, and of nothing else.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
import stand_in
import yaml
from workspace import Workspace

from essential_sparsity import tables

LIBRARY = "workflow/scripts/essential_sparsity"
MODEL = "{0}\t{0}\tencoder\tpath\tdata/{0}\t\ttransformers\t1e6\tfalse\t\t\t\t\t\n"
TASK = (
    "{0}\tA task\ttext-classification\tfinetune\t{1}\tpath\tdata/{1}.csv\t\tcsv\t\t50\t20\t1\t1e-4\t8\t16\t\t\t\t\t{2}\t1"
    "\t\t\t\t\t\t\n"
)
GRID = [
    {"models": ["one"], "tasks": ["long"], "patterns": ["global"], "sparsities": [0.1, 0.2, 0.3], "seeds": [0, 1]},
    {"models": ["one"], "tasks": ["long"], "patterns": ["lth"], "sparsities": [0.1, 0.2], "seeds": [0, 1]},
    {"models": ["one"], "tasks": ["short"], "patterns": ["random"], "sparsities": [0.2, 0.4], "seeds": [0]},
]  # fmt: skip
STUDY = {"study": "mine", "grid": GRID, "lottery": {"share": 0.1}, "knees": {"compare": ["pattern"]}}
FILES = {name: f"config/{name}.tsv" for name in ("models", "tasks", "references", "pretraining")}

# what follows from new runs of the task `long`, and of both
TABULATED = {"collect_runs": 1, "collect_costs": 1, "check_references": 1, "fit_knees": 1, "tabulate_knees": 1}
TABULATED |= {"measure_differences": 1, "plot_difference": 1, "plot_curve": 2}
GRIDDED = TABULATED | {"tabulate_grid": 1, "count_layers": 1, "plot_layers": 1}
COMPARED = {"compare_tickets": 1, "collect_similarity": 1, "plot_similarity": 1}
# dense 2, global 2 chunks x 2 seeds, lth 1 x 2; `short`: dense 1, random 2 levels
LONG, SHORT, TICKETS = 8, 3, 4


class Study(Workspace):
    """A study in a folder of its own, computed by the stand-in."""

    def environment(self):
        return {**super().environment(), "PATH": f"{self.folder / 'bin'}{os.pathsep}{super().environment()['PATH']}"}

    def build(self) -> None:
        stand_in.install(self.folder / "bin")
        for name, text in (("one", "weights"), ("two", "others")):
            (self.folder / f"data/{name}").mkdir(parents=True)
            (self.folder / f"data/{name}/model.safetensors").write_text(text)
        for name in ("reviews", "news"):
            (self.folder / f"data/{name}.csv").write_text(f"text,label\nof {name},1\n")
        self.table("models", MODEL.format("one"), MODEL.format("two"))
        self.table("tasks", TASK.format("long", "reviews", 2), TASK.format("short", "news", 1))
        self.table("pretraining")
        self.study()
        self.refer(0.5, 1.0)

    def table(self, name: str, *rows: str) -> None:
        path = self.folder / FILES[name]
        header = next(line for line in path.read_text().splitlines() if not line.startswith("#"))
        path.write_text(header + "\n" + "".join(rows))

    def study(self, **changes) -> None:
        config = yaml.safe_load((self.folder / "config/config.yaml").read_text())
        (self.folder / "config/config.yaml").write_text(yaml.safe_dump(config | STUDY | changes))

    def refer(self, value: float, tolerance: float, source: str = "published") -> None:
        self.table("references", f"one\tlong\taccuracy\t{value}\t{tolerance}\t{source}\n")

    def run(self) -> str:
        return self.snakemake("--quiet", "rules", "host", "reason", "--cores", "4")

    def results(self) -> dict[str, pd.DataFrame | str]:
        """The tables of the study, costs aside."""
        found = {}
        for path in sorted((self.folder / "results/mine").rglob("*.parquet")):
            name = path.stem
            if name in ("runs", "references", "grid"):
                found[name] = tables.read(path, name)
            elif name != "costs":
                found[name] = path.read_text()
        return found


def same(one: dict, other: dict) -> None:
    assert one.keys() == other.keys()
    for name in one:
        if isinstance(one[name], str):
            assert one[name] == other[name], name
        else:
            chunks = ["job", "run", "items", "items_sha256"]  # of levels: which job computed what
            pair = (frame.drop(columns=chunks, errors="ignore") for frame in (one[name], other[name]))
            pd.testing.assert_frame_equal(*pair)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    study = Study(tmp_path_factory.mktemp("changes") / "study")
    study.build()
    study.run()
    assert study.planned() == {}
    return study


@pytest.fixture
def study(done, tmp_path):
    return Study(tmp_path / "study", done)


@pytest.fixture
def fresh(tmp_path):
    """A study that has computed nothing, of the same configuration, code and data as another one."""

    def make(study: Study) -> Study:
        new = Study(tmp_path / "fresh", study)
        shutil.rmtree(new.folder / "results")
        shutil.rmtree(new.folder / ".snakemake")
        new.run()
        return new

    return make


def edit(file: str, old: str, new: str):
    def change(study: Study) -> None:
        path = study.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}: the test is out of date"
        path.write_text(text.replace(old, new, 1))

    return change


def append(file: str, text: str):
    def change(study: Study) -> None:
        with open(study.folder / file, "a") as handle:
            handle.write(text)

    return change


def write(file: str, text: str):
    return lambda study: stand_in.write(study.folder / file, text)


def remove(file: str):
    return lambda study: (study.folder / file).unlink()


def touch(study: Study) -> None:
    for path in sorted(study.folder.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path)


def grid(index: int, **changes):
    return lambda study: study.study(grid=[block | (changes if i == index else {}) for i, block in enumerate(GRID)])


def blocks(*more: dict):
    return lambda study: study.study(grid=[*GRID, *more])


RUNS = "results/store/runs/one"
PATTERN = '        Pattern("dense", "dense"),\n'
KIND = """KIND = {
    "models": ["encoder"],
    "protocols": {"zero-shot": {"auto_class": "AutoModel"}},
    "columns": ["max_length"],
    "metrics": ["spearman"],
}
"""

CHANGES = {
    "nothing": (lambda study: None, {}),
    "everything touched": (touch, {}),
    "a comment": (append(f"{LIBRARY}/pruning/masks.py", "# a remark\n"), {}),
    "a docstring": (edit(f"{LIBRARY}/files.py", '"""', '"""Reworded. '), {}),
    "the version": (edit(f"{LIBRARY}/__init__.py", '__version__ = "', '__version__ = "9'), {}),
    "words about a column": (edit("workflow/schemas/tables/runs.yaml", "Evaluated items behind", "Items behind"), {}),
    "a pattern added": (edit(f"{LIBRARY}/patterns.py", PATTERN, f'{PATTERN}        Pattern("mine", "mine", allocation="matrix"),\n'), {}),
    "the colour of a pattern": (edit(f"{LIBRARY}/patterns.py", '"#0072B2"', '"#0072B3"'), {}),
    "a setting of a task": (edit(FILES["tasks"], "\t16\t\t\t\t\t2", "\t12\t\t\t\t\t2"), {"prune_eval": LONG, "find_ticket": TICKETS} | GRIDDED | COMPARED),
    "what a job asks for": (edit(FILES["tasks"], "\t2\t1\t", "\t2\t7\t"), {}),
    "a kind added": (write("workflow/scripts/extensions/my_kind.py", KIND), {}),
    "a permission": (edit(FILES["models"], "\tfalse\t", "\ttrue\t"), {}),
    "another metric": (edit(FILES["tasks"], "\t2\t1\t\t", "\t2\t1\tmatthews,accuracy\t"), GRIDDED),
    "code of pruning": (edit(f"{LIBRARY}/pruning/masks.py", "import ", "import sys\nimport "), {"prune_eval": LONG + SHORT, "find_ticket": TICKETS} | GRIDDED | COMPARED),
    "code of the kind": (append(f"{LIBRARY}/tasks/text_classification.py", "MORE = 1\n"), {"prune_eval": LONG + SHORT, "find_ticket": TICKETS} | GRIDDED | COMPARED),
    "code of another kind": (append(f"{LIBRARY}/tasks/perplexity.py", "MORE = 1\n"), {}),
    "code of training": (append(f"{LIBRARY}/training/finetuning.py", "MORE = 1\n"), {"prune_eval": LONG + SHORT, "find_ticket": TICKETS} | GRIDDED | COMPARED),
    "code of spectra": (append(f"{LIBRARY}/pruning/measuring.py", "MORE = 1\n"), {"measure_spectrum": 1, "count_layers": 1, "plot_layers": 1}),
    "code of tickets": (append(f"{LIBRARY}/runs/lottery.py", "MORE = 1\n"), {"find_ticket": TICKETS, "prune_eval": 2} | TABULATED | COMPARED),
    "code of knees": (append(f"{LIBRARY}/curves/knees.py", "MORE = 1\n"), {"fit_knees": 1, "tabulate_knees": 1, "plot_curve": 2, "measure_differences": 1, "plot_difference": 1}),
    "code of a figure": (append(f"{LIBRARY}/figures/heat_maps.py", "MORE = 1\n"), {"plot_layers": 1}),
    "a label": (edit(FILES["models"], "one\tone", "one\tOne"), {"plot_curve": 2, "plot_layers": 1, "plot_difference": 1, "plot_similarity": 1}),
    "a level": (grid(2, sparsities=[0.1, 0.2, 0.4]), {"prune_eval": 1} | GRIDDED),
    "a low level of a chunked curve": (blocks(GRID[0] | {"patterns": ["global"], "sparsities": [0.05]}), {"prune_eval": 2} | GRIDDED),
    "a level taken away": (grid(0, sparsities=[0.1, 0.3]), GRIDDED),
    "a seed": (grid(2, seeds=[0, 2]), {"prune_eval": 3} | GRIDDED),
    "a higher ticket": (grid(1, sparsities=[0.1, 0.2, 0.3]), {"find_ticket": 2, "prune_eval": 2} | GRIDDED | COMPARED),
    "a pattern of the grid": (grid(2, patterns=["random", "erk"]), {"prune_eval": 2} | GRIDDED),
    "a model": (grid(2, models=["one", "two"]), {"fetch_model": 1, "measure_spectrum": 1, "prune_eval": 3} | GRIDDED | {"plot_curve": 3, "plot_layers": 2}),
    "a task": (append(FILES["tasks"], TASK.format("third", "news", 1)), {}),
    "a task of the grid": (lambda study: (append(FILES["tasks"], TASK.format("third", "news", 1))(study), grid(2, tasks=["short", "third"])(study)), {"prune_eval": 3} | GRIDDED | {"plot_curve": 3}),
    "a local data file": (append("data/reviews.csv", "more,0\n"), {"fetch_dataset": 1, "prune_eval": LONG, "find_ticket": TICKETS} | TABULATED | COMPARED),
    "local weights": (write("data/one/model.safetensors", "pruned"), {"fetch_model": 1, "measure_spectrum": 1, "prune_eval": LONG + SHORT, "find_ticket": TICKETS, "count_layers": 1, "plot_layers": 1} | TABULATED | COMPARED),
    "a tokenizer beside local weights": (write("data/one/tokenizer.json", "{}"), {"fetch_model": 1, "measure_spectrum": 1, "prune_eval": LONG + SHORT, "find_ticket": TICKETS, "count_layers": 1, "plot_layers": 1} | TABULATED | COMPARED),
    "a hidden file beside local weights": (write("data/one/.cache", "{}"), {}),
    "a reference's wording": (lambda study: study.refer(0.5, 1.0, "told otherwise"), {"check_references": 1}),
    "a reference's value": (lambda study: study.refer(0.4, 1.0), {"check_references": 1}),
    "a lost run": (remove(f"{RUNS}/long/global/0.300/seed1.parquet"), {"prune_eval": 1} | TABULATED),
    "a lost spectrum, which nothing needs now": (remove("results/store/spectra/one.parquet"), {}),
    "lost benchmarks": (lambda study: shutil.rmtree(study.folder / "results/store/benchmarks"), {}),
    "a lost grid": (remove("results/mine/grid.parquet"), GRIDDED),
}  # fmt: skip
FRESH = {"a setting of a task", "a low level of a chunked curve", "local weights"}
ALIKE = {"code of the kind", "code of training", "a tokenizer beside local weights"}  # runs what another change does


@pytest.mark.parametrize("change", CHANGES)
def test_what_runs_again(study, fresh, change):
    edited, expected = CHANGES[change]
    before = study.results()
    edited(study)
    assert study.planned() == expected
    if not expected or change in ALIKE:
        return
    study.run()
    assert study.planned() == {}, "one call is enough"
    if change in FRESH:
        same(study.results(), fresh(study).results())
    elif change.startswith("a lost"):
        same(study.results(), before)


def test_values_follow_from_what_the_configuration_asks_for_now(study):
    """Each value of the table is the one that today's settings, data, weights, tickets and code give."""
    for change in ("a setting of a task", "code of pruning", "local weights"):
        CHANGES[change][0](study)
        study.run()
        runs = study.results()["runs"]
        assert (runs["value"] == runs["digest"].map(lambda digest: int(digest[:8], 16) / 16**8)).all()
        asked = study.results()["grid"].set_index(["model", "task", "pattern", "sparsity", "seed"])
        found = runs[runs["metric"] == "accuracy"].set_index(["model", "task", "pattern", "sparsity", "seed"])
        for column in ("settings_sha256", "code_sha256"):
            assert found[column].equals(asked[column].reindex(found.index))


def test_a_lost_dense_run_is_computed_and_those_that_waited_for_it_find_themselves_whole(study):
    """Sparse runs stand behind the dense one that has to agree with its reference; none of them computes anything."""
    (study.folder / RUNS / "long/dense/0.000/seed0.parquet").unlink()
    before = study.results()
    output = study.snakemake("--quiet", "rules", "host", "reason")
    assert output.count("computed\n") == output.count("\ncomputed") == 1
    assert "Not computed again" in output
    same(study.results(), before)
    assert study.planned() == {}


def test_a_run_of_another_setting_is_refused_by_name(study):
    other = Study(study.folder.with_name("other"), study)
    CHANGES["a setting of a task"][0](other)
    other.run()
    place = f"{RUNS}/long/global/0.300/seed0.parquet"
    mixed = study.folder / place
    shutil.copy(other.folder / place, mixed)
    os.utime(mixed, (1, 1))
    (study.folder / "results/mine/tables/runs.parquet").unlink()
    output = study.snakemake("--quiet", "all", check=False)
    assert f"{place}: other settings" in output
    assert "1 of" in output
    assert "Traceback" not in output
    assert not (study.folder / "results/mine/tables/runs.parquet").exists()
    mixed.unlink()
    study.run()
    assert study.planned() == {}


def test_code_and_data_and_weights_of_a_run_are_refused_by_name(study):
    runs = study.folder / f"{RUNS}/long/global/0.300/seed0.parquet"
    whole = tables.read(runs, "runs")
    for column, word in (("code_sha256", "code"), ("data_sha256", "data"), ("checkpoint_sha256", "checkpoint")):
        tables.write(whole.assign(**{column: hashlib.sha256(b"x").hexdigest()}), "runs", runs)
        os.utime(runs, (1, 1))
        (study.folder / "results/mine/tables/runs.parquet").unlink(missing_ok=True)
        assert f"seed0.parquet: other {word}" in study.snakemake("--quiet", "all", check=False)


def test_two_studies_in_one_folder_leave_both_whole_and_share_their_runs(study):
    before = study.results()
    second = {**STUDY, "study": "second", "grid": [GRID[0] | {"patterns": ["global"], "sparsities": [0.1, 0.2, 0.5]}]}
    path = study.folder / "config/second.yaml"
    path.write_text(yaml.safe_dump({key: second[key] for key in ("study", "grid")}))
    planned = study.planned("--configfile", "config/second.yaml")
    assert planned["prune_eval"] == 2, "one level of two seeds; the others are there"
    study.snakemake("--quiet", "all", "--configfile", "config/second.yaml")
    assert study.planned("--configfile", "config/second.yaml") == {}
    assert study.planned() == {}
    same(study.results(), before)
    runs = tables.read(study.folder / "results/second/tables/runs.parquet", "runs")
    assert sorted(runs["sparsity"].unique()) == [0.0, 0.1, 0.2, 0.5]
    assert (study.folder / "results/second/figures/knees.csv").is_file()
    path.write_text(yaml.safe_dump({"grid": second["grid"]}))
    told = study.snakemake("--dry-run", "--configfile", "config/second.yaml", check=False)
    assert "second.yaml: the key 'study' is missing" in told
    assert "Give the study a name of its own" in told


def test_rounds_of_one_study_are_its_own_and_can_be_switched_off(study):
    added = {"rounds": [[{"model": "one", "task": "short", "pattern": "random", "levels": ["0.300"]}]]}
    (study.folder / "results/mine/rounds.json").write_text(json.dumps(added))
    assert study.planned()["prune_eval"] == 1
    for off in ({"refine": None}, {"refine": {}}):
        (study.folder / "config/off.yaml").write_text(yaml.safe_dump({"study": "mine", **off}))
        assert study.planned("--configfile", "config/off.yaml") == {}
    (study.folder / "config/other.yaml").write_text(yaml.safe_dump({"study": "other"}))
    assert "prune_eval" not in study.planned("--configfile", "config/other.yaml")


def test_a_study_cannot_have_the_name_of_the_store(study):
    study.study(study="store")
    assert "study: 'store' names a folder" in study.snakemake("--dry-run", check=False)


def test_a_dense_run_that_disagrees_stops_the_sparse_ones_and_finished_runs_stay(study):
    study.refer(5, 0.1)
    assert study.planned() == {"check_references": 1}, "finished runs stay"
    output = study.snakemake("--quiet", "rules", "host", "reason", check=False)
    assert "but 5 ± 0.1 was expected (published)" in output
    grid(0, seeds=[0, 1, 3])(study)
    output = study.snakemake("--quiet", "rules", "host", "reason", "--keep-going", check=False)
    assert not list((study.folder / RUNS / "long").glob("*/*/seed3.parquet"))
    assert "The sparse runs of this curve are not started" in output
    study.refer(0.5, 1.0)
    assert "computed" not in study.snakemake(
        "--quiet", "rules", "host", "reason", f"{RUNS}/long/dense/0.000/seed3.parquet"
    )
    study.run()
    assert study.planned() == {}


def test_a_missing_path_stops_the_dry_run(study):
    shutil.rmtree(study.folder / "data/one")
    output = study.snakemake("--dry-run", check=False)
    assert "data/one does not exist" in output
    assert "Traceback" not in output


def test_levels_stay_with_the_chunk_that_computed_them(study):
    """`long` walks two levels a job: a low level added later shifts no other."""
    names = {path.name for path in (study.folder / RUNS / "long/global").iterdir()}
    assert names == {"0.100+0.200", "0.300"}
    CHANGES["a low level of a chunked curve"][0](study)
    study.run()
    assert {path.name for path in Path(study.folder / RUNS / "long/global").iterdir()} == {*names, "0.050"}
