"""A study with a reference, chunked levels, tickets and two seeds, computed by the stand-in, and edits of it.

What computes is replaced by a stand-in whose values are drawn from all that decides them; Snakemake, the rules, the code
digests, the grid, collecting and the references are the real ones. So tables that are equal to those of a fresh study
were made of what the configuration asks for, and of nothing else.
"""

import os
import shutil
import time

import pandas as pd
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
TABULATED = {"collect_runs": 1, "collect_costs": 1, "check_references": 1, "fit_knees": 1, "collect_knees": 1}
TABULATED |= {"tabulate_knees": 1, "measure_differences": 1, "plot_difference": 1, "plot_curve": 1}
JUDGED = {"judge_claims": 1, "write_claims": 1, "write_provenance": 1}
EXPLORED = {"write_explorer": 1, "write_provenance": 1}
TABULATED |= JUDGED | EXPLORED
BOTH = {"fit_knees": 2, "plot_curve": 2}
GRIDDED = TABULATED | {"tabulate_grid": 1, "count_layers": 1, "plot_layers": 1}
COMPARED = {"compare_tickets": 1, "collect_similarity": 1, "plot_similarity": 1}
# dense 2, global 2 chunks x 2 seeds, lth 1 x 2; `short`: dense 1, random 2 levels
LONG, SHORT, TICKETS = 8, 3, 4


class Study(Workspace):
    """A study in a folder of its own, computed by the stand-in."""

    def environment(self):
        return {**super().environment(), "PATH": f"{self.folder / 'bin'}{os.pathsep}{super().environment()['PATH']}"}

    def build(self, real: tuple[str, ...] = ()) -> None:
        stand_in.install(self.folder / "bin", self.python, real)
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
        self.table("references", f"one\tlong\t\t\taccuracy\t{value}\t{tolerance}\t{source}\n")

    def run(self, *arguments: str, check: bool = True) -> str:
        return self.snakemake("--quiet", "rules", "host", "reason", "--cores", "4", *arguments, check=check)

    def fail(self, *parts: str) -> None:
        """From now on jobs fail that would write a file with one of these parts in its path."""
        stand_in.write(self.folder / stand_in.BROKEN, " ".join(parts))

    def hold(self, *parts: str) -> None:
        """The same for jobs that wait, until this is called again."""
        stand_in.write(self.folder / stand_in.HELD, " ".join(parts))

    def results(self) -> dict[str, pd.DataFrame | str]:
        """The tables of the study, costs aside."""
        found = {}
        root = self.folder / "results/mine"
        for path in sorted(root.rglob("*.parquet")):
            name = path.relative_to(root).with_suffix("").as_posix().removeprefix("tables/")
            if name in ("runs", "missing_runs", "references", "grid", "claims", "evidence"):
                found[name] = tables.read(path, name)
            elif name != "costs":
                found[name] = path.read_text()
        return found


def same(one: dict, other: dict) -> None:
    """The tables of two studies are equal; which job computed a level is no part of a result."""
    assert one.keys() == other.keys()
    chunks = ["job", "run", "items", "items_sha256"]
    chunked_alike = one["grid"]["job"].equals(other["grid"]["job"])
    for name in one:
        if name == "claims" and not chunked_alike:  # what the stand-in writes tells of the names of files too
            continue
        if not isinstance(one[name], str):
            pair = (frame.drop(columns=chunks, errors="ignore") for frame in (one[name], other[name]))
            pd.testing.assert_frame_equal(*pair)
        elif chunked_alike:
            assert one[name] == other[name], name


def edit(file: str, old: str, new: str):
    def change(study: Study) -> None:
        path = study.folder / file
        text = path.read_text()
        assert old in text, f"{old!r} is not in {file}: the test is out of date"
        path.write_text(text.replace(old, new, 1))

    return change


def older(file: str, old: str, new: str):
    def change(study: Study) -> None:
        edit(file, old, new)(study)
        os.utime(study.folder / file, (1, 1))

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
    now = time.time()
    for path in sorted(study.folder.rglob("*")):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path, (now, now))


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
    "the colour of a pattern": (edit(f"{LIBRARY}/patterns.py", '"#0072B2"', '"#0072B3"'), {"plot_curve": 1, "plot_difference": 1} | EXPLORED),
    "a setting of a task": (edit(FILES["tasks"], "\t16\t\t\t\t\t2", "\t12\t\t\t\t\t2"), {"prune_eval": LONG, "find_ticket": TICKETS} | GRIDDED | COMPARED),
    "what jobs compute on": (lambda study: study.study(resources={"gpu": 1, "device": "cuda", "threads": 1}), {}),
    "what card jobs get": (lambda study: study.study(resources={"gpu": 1, "device": "auto", "threads": 1, "gpu_class": "h100", "max_minutes": 600}), {}),
    "the table of cards": (edit("config/devices.tsv", "H200", "another"), {}),
    "how requests are worked out": (append(f"{LIBRARY}/study/resources.py", "MORE = 1\n"), {}),
    "what a job asks for": (edit(FILES["tasks"], "\t2\t1\t", "\t2\t7\t"), {}),
    "a kind added": (write("workflow/scripts/extensions/my_kind.py", KIND), {}),
    "a permission": (edit(FILES["models"], "\tfalse\t", "\ttrue\t"), {}),
    "another metric": (edit(FILES["tasks"], "\t2\t1\t\t", "\t2\t1\tmatthews,accuracy\t"), GRIDDED),
    "code of pruning": (edit(f"{LIBRARY}/pruning/masks.py", "import ", "import sys\nimport "), {"prune_eval": LONG + SHORT, "find_ticket": TICKETS} | GRIDDED | COMPARED | BOTH),
    "code of the kind": (append(f"{LIBRARY}/tasks/text_classification.py", "MORE = 1\n"), {"prune_eval": LONG + SHORT, "find_ticket": TICKETS} | GRIDDED | COMPARED | BOTH),
    "code of another kind": (append(f"{LIBRARY}/tasks/perplexity.py", "MORE = 1\n"), {}),
    "code of training": (append(f"{LIBRARY}/training/finetuning.py", "MORE = 1\n"), {"prune_eval": LONG + SHORT, "find_ticket": TICKETS} | GRIDDED | COMPARED | BOTH),
    "code of spectra": (append(f"{LIBRARY}/pruning/measuring.py", "MORE = 1\n"), {"measure_spectrum": 1, "count_layers": 1, "plot_layers": 1, "collect_costs": 1} | JUDGED | EXPLORED),
    "code of tickets": (append(f"{LIBRARY}/runs/lottery.py", "MORE = 1\n"), {"find_ticket": TICKETS, "prune_eval": 2} | TABULATED | COMPARED),
    "code of knees": (append(f"{LIBRARY}/curves/knees.py", "MORE = 1\n"), {"collect_knees": 1, "tabulate_knees": 1} | BOTH | JUDGED | EXPLORED),
    "code of a figure": (append(f"{LIBRARY}/figures/heat_maps.py", "MORE = 1\n"), {"plot_layers": 1}),
    "a label": (edit(FILES["models"], "one\tone", "one\tOne"), {"plot_curve": 2, "plot_layers": 1, "plot_difference": 1, "plot_similarity": 1} | EXPLORED),
    "a level": (grid(2, sparsities=[0.1, 0.2, 0.4]), {"prune_eval": 1} | GRIDDED),
    "a low level of a chunked curve": (blocks(GRID[0] | {"patterns": ["global"], "sparsities": [0.05]}), {"prune_eval": 2} | GRIDDED),
    "a level taken away": (grid(0, sparsities=[0.1, 0.3]), GRIDDED),
    "a seed": (grid(2, seeds=[0, 2]), {"prune_eval": 3} | GRIDDED),
    "a higher ticket": (grid(1, sparsities=[0.1, 0.2, 0.3]), {"find_ticket": 2, "prune_eval": 2} | GRIDDED | COMPARED),
    "a pattern of the grid": (grid(2, patterns=["random", "erk"]), {"prune_eval": 2} | GRIDDED),
    "a model": (grid(2, models=["one", "two"]), {"fetch_model": 1, "measure_spectrum": 1, "prune_eval": 3} | GRIDDED | {"plot_layers": 2}),
    "a task": (append(FILES["tasks"], TASK.format("third", "news", 1)), {}),
    "a task of the grid": (lambda study: (append(FILES["tasks"], TASK.format("third", "news", 1))(study), grid(2, tasks=["short", "third"])(study)), {"prune_eval": 3} | GRIDDED),
    "a local data file": (append("data/reviews.csv", "more,0\n"), {"fetch_dataset": 1, "prune_eval": LONG, "find_ticket": TICKETS} | TABULATED | COMPARED),
    "local weights": (write("data/one/model.safetensors", "pruned"), {"fetch_model": 1, "measure_spectrum": 1, "prune_eval": LONG + SHORT, "find_ticket": TICKETS, "count_layers": 1, "plot_layers": 1} | TABULATED | COMPARED | BOTH),
    "a tokenizer beside local weights": (write("data/one/tokenizer.json", "{}"), {"fetch_model": 1, "measure_spectrum": 1, "prune_eval": LONG + SHORT, "find_ticket": TICKETS, "count_layers": 1, "plot_layers": 1} | TABULATED | COMPARED | BOTH),
    "a hidden file beside local weights": (write("data/one/.cache", "{}"), {}),
    "a reference's wording": (lambda study: study.refer(0.5, 1.0, "told otherwise"), {"check_references": 1} | EXPLORED),
    "a reference's value": (lambda study: study.refer(0.4, 1.0), {"check_references": 1} | EXPLORED),
    "a run of one task": (remove(f"{RUNS}/short/random/0.400/seed0.parquet"), {"prune_eval": 1} | TABULATED),
    "a tolerance of a task": (edit(FILES["tasks"], "\t\t2\t1", "\t0.02\t2\t1"), {"fit_knees": 1, "plot_curve": 1, "collect_knees": 1, "tabulate_knees": 1} | JUDGED | EXPLORED),
    "a lost table of a curve, which nothing needs now": (remove("results/mine/curves/one/short/knees.parquet"), {}),
    "what is compared": (lambda study: study.study(knees={"compare": ["model"]}), {"collect_knees": 1, "tabulate_knees": 1} | JUDGED | EXPLORED),
    "a claim": (edit("config/claims.yaml", "above: 0.215", "above: 0.2"), JUDGED),
    "another file of claims, which is older": (older("config/claims.yaml", "above: 0.215", "above: 0.2"), JUDGED),
    "the template of the claims": (append("workflow/report/claims.html.jinja", "<!-- -->"), {"write_claims": 1, "write_provenance": 1}),
    "what the explorer does": (append("workflow/report/explorer/curves.js", "// more\n"), EXPLORED),
    "code of the explorer": (append(f"{LIBRARY}/figures/explored.py", "MORE = 1\n"), EXPLORED),
    "a lost run": (remove(f"{RUNS}/long/global/0.300/seed1.parquet"), {"prune_eval": 1} | TABULATED),
    "a lost spectrum, which nothing needs now": (remove("results/store/spectra/one.parquet"), {}),
    "lost benchmarks": (lambda study: shutil.rmtree(study.folder / "results/store/benchmarks"), {}),
    "a lost grid": (remove("results/mine/grid.parquet"), {rule: n for rule, n in GRIDDED.items() if rule not in BOTH}),
}  # fmt: skip
FRESH = {"a setting of a task", "a low level of a chunked curve", "local weights"}
ALIKE = {"code of the kind", "code of training", "a tokenizer beside local weights"}  # runs what another change does
