"""Every mistake in config/ is one clear error that names the file, the place, the value and what was expected."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from essential_sparsity.study import configuration, grid, tsv

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The shipped configuration in a folder of its own; `change(...)` edits it, `read()` does what the Snakefile does."""
    shutil.copytree(ROOT / "config", tmp_path / "config")
    monkeypatch.chdir(tmp_path)

    class Study:
        config = yaml.safe_load((ROOT / "config/config.yaml").read_text())

        def replace(self, file, old, new):
            path = tmp_path / "config" / file
            text = path.read_text()
            assert old in text, f"{old!r} is not in {file}: the test is out of date"
            path.write_text(text.replace(old, new, 1))

        def read(self):
            configuration.check_config(self.config, "config/config.yaml")
            models, tasks, _ = tsv.read_tables(self.config)
            grid.validate(self.config, models, tasks, "config/config.yaml")
            return grid.expand(self.config["grid"], {name: row["levels_per_job"] for name, row in tasks.items()})

    return Study()


def block(**changes):
    return {
        "models": ["minilm"],
        "tasks": ["ws353"],
        "patterns": ["global"],
        "sparsities": [0.5],
        "seeds": [0],
    } | changes


def test_the_shipped_configuration_is_good(study):
    jobs = study.read()
    assert len(jobs) == len(set(jobs))
    assert all(job.levels for job in jobs)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            block(models=["minilmm"]),
            r"grid\[0\]\.models: unknown model 'minilmm'; did you mean 'minilm'\?.*config/models\.tsv has: minilm",
        ),
        (block(tasks=["ws35"]), r"grid\[0\]\.tasks: unknown task 'ws35'; did you mean 'ws353'\?"),
        (block(patterns=["globl"]), r"grid\[0\]\.patterns: unknown pattern 'globl'; did you mean 'global'\?"),
        (block(sparsities=[0.5, 1.0]), r"grid\[0\]\.sparsities: 1\.0 is outside \[0, 1\)"),
        (block(sparsities=[-0.1]), r"-0\.1 is outside \[0, 1\)"),
        (block(sparsities=[0.1234]), r"0\.1234 has more than three decimals"),
        (block(sparsities=[0.1237]), r"0\.1237 has more than three decimals; round it to 0\.124"),
        (block(patterns=["nm4"], sparsities=[0.7]), r"so it has no sparsity 0\.700"),
        (block(sparsities=[0.5, 0.5]), r"0\.500 stands there twice"),
        (
            block(patterns=["nm4"], sparsities=[0.6]),
            r"nm4 prunes whole weights of every 4, so it has no sparsity 0\.600; it has 0\.250, 0\.500, 0\.750",
        ),
        (block(patterns=["nm3"]), r"it has none of three decimals"),
        (
            block(patterns=["nm16"], sparsities=[0.3]),
            r"no sparsity 0\.300; it has 0\.125, 0\.250, 0\.375, 0\.500, 0\.625",
        ),
        (block(patterns=["nm5"], sparsities=[0.3]), r"no sparsity 0\.300; it has 0\.200, 0\.400, 0\.600, 0\.800\."),
        (block(patterns=["global", "dense"]), r"grid\[0\]\.patterns: 'dense' is added to every curve by itself"),
        (block(seeds=[2**32]), r"seeds\[0\]: 4294967296 is greater than the maximum"),
        (block(patterns=["nm1"]), r"a group has at least 2 inputs"),
        (
            block(models=["dinov2-s"]),
            r"'ws353' \(text-similarity\) evaluates models of type encoder or decoder, but 'dinov2-s' is of type vision",
        ),
        (block(seed=[0]), r"key grid\[0\]: unknown key 'seed'; did you mean 'seeds'\?"),
        ({k: v for k, v in block().items() if k != "seeds"}, r"key grid\[0\]: the key 'seeds' is missing"),
        (block(seeds=["zero"]), r"key grid\[0\]\.seeds\[0\].*'zero'"),
        (block(sparsities="0.5"), r"key grid\[0\]\.sparsities: '0\.5' was not expected here \(shares of the prunable"),
        (
            block(sparsities=[0.1, "0,5"]),
            r"key grid\[0\]\.sparsities\[1\]: '0,5' is a text; write a number, such as 0\.5",
        ),
        (
            block(sparsities=[0.1, None]),
            r"grid\[0\]\.sparsities\[1\]: it is empty; give it a value of type number, or leave the entry",
        ),
        (block(sparsities={"from": 0.1, "to": 0.5}), r"grid\[0\]\.sparsities: the key 'step' is missing"),
        (block(sparsities={"from": 0.1, "to": "90%", "step": 0.1}), r"grid\[0\]\.sparsities\.to: '90%' is a text"),
        (block(seeds=[0, 0]), r"key grid\[0\]\.seeds.*non-unique"),
    ],
)
def test_a_wrong_grid(study, changed, message):
    study.config["grid"] = [changed]
    with pytest.raises(configuration.ConfigError, match=message):
        study.read()


def test_an_unknown_key_at_the_top(study):
    study.config["tolerence"] = 0.01
    with pytest.raises(configuration.ConfigError, match=r"config/config\.yaml: unknown key 'tolerence'"):
        study.read()


def test_a_missing_table(study):
    study.config["models"] = "config/modells.tsv"
    with pytest.raises(
        configuration.ConfigError, match=r"config/modells\.tsv: there is no such file \(config key 'models'\)"
    ):
        study.read()


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "models.tsv",
            "\tallow_pickle",
            "\tallow_pickel",
            r"config/models\.tsv, header: unknown column 'allow_pickel'; did you mean 'allow_pickle'",
        ),
        ("models.tsv", "\tparameters", "", r"config/models\.tsv, header: the column 'parameters' is missing"),
        (
            "models.tsv",
            "smollm2\t",
            "minilm\t",
            r"config/models\.tsv, line 3, column model: 'minilm' stands there already on line 2",
        ),
        (
            "models.tsv",
            "\tencoder\t",
            "\tencodre\t",
            r"config/models\.tsv, line 2, column type: 'encodre' is not one of: encoder.*did you mean 'encoder'",
        ),
        (
            "models.tsv",
            "\t22.7e6\t",
            "\tmany\t",
            r"config/models\.tsv, line 2, column parameters: 'many' is a text; write a number, such as 0.5",
        ),
        (
            "tasks.tsv",
            "\t8e-6\t",
            "\t8e-6x\t",
            r"config/tasks\.tsv, line \d+, column learning_rate: '8e-6x' is a text; write a number, such as 0.5",
        ),
        (
            "models.tsv",
            "\tpackage\tminilm\t",
            "\tpackage\tminilmm\t",
            r"'minilm', column id: there is no package 'minilmm'.*did you mean 'minilm'",
        ),
        (
            "models.tsv",
            "\tpackage\tminilm\t",
            "\thub\tminilm\t",
            r"'minilm', column revision: blank, but a hub source needs the commit hash",
        ),
        (
            "models.tsv",
            "minilm\tMini",
            "mini lm\tMini",
            r"config/models\.tsv, line 2, column model: 'mini lm' does not match",
        ),
        (
            "tasks.tsv",
            "\tfinetune\t",
            "\tfine-tune\t",
            r"'reviews-finetune', column protocol: 'fine-tune' does not apply to text-classification; did you mean 'finetune'",
        ),
        (
            "tasks.tsv",
            "\t2e-4\t",
            "\t\t",
            r"'reviews-finetune', column learning_rate: blank, but text-classification with protocol finetune needs",
        ),
        (
            "tasks.tsv",
            "\tzero-shot\tws353",
            "\tprobe\tws353",
            r"'ws353', column protocol: 'probe' does not apply to text-similarity",
        ),
        (
            "tasks.tsv",
            "\ttext-similarity\t",
            "\ttext-similarty\t",
            r"'ws353', column kind: there is no kind 'text-similarty'; did you mean 'text-similarity'\? Known: arithmetic, image-cl",
        ),
        (
            "tasks.tsv",
            "\tword-pairs\t",
            "\tlm-eval\t",
            r"'ws353', column format: 'lm-eval', but kind text-similarity does not",
        ),
        (
            "tasks.tsv",
            "reviews-probe\t",
            "ws353\t",
            r"config/tasks\.tsv, line 3, column task: 'ws353' stands there already on line 2",
        ),
        (
            "tasks.tsv",
            "\taccuracy,f1\t",
            "\taccuracy,f2\t",
            r"'qqp', column metrics: 'f2' is no metric of text-classification.*accuracy, chance_corrected_accuracy, matthews, f1",
        ),
        ("tasks.tsv", "\tmatthews\t", "\tMatthews\t", r"column metrics: 'Matthews' does not match"),
        (
            "tasks.tsv",
            "\t\ttest\t0.1",
            "\t\theld-out\t",
            r"'cifar10', column held_out: blank, but eval_split is held-out; give the share",
        ),
        (
            "tasks.tsv",
            "\ttest\t0.1",
            "\ttest\t1",
            r"column held_out: 1\.0 is greater than or equal to the maximum of 1",
        ),
        ("tasks.tsv", "\tlm-eval\t\t", "\tparquet\t\t", r"'mmlu', column format: 'parquet', but kind lm-eval"),
        (
            "tasks.tsv",
            "\tmmlu\t5",
            "\tmmlu\t",
            r"'mmlu', column shots: blank, but lm-eval with protocol zero-shot needs",
        ),
        (
            "tasks.tsv",
            "\tcut_prompts\tmean_length\tpasses\thead_learning_rate\n",
            "\tcut_prompts\tmean_length\tpasses\thead_learning_rate\tallow_code\nmine\tMine\tlm-eval\tzero-shot\tmine\thub\ta/b\tmain\tlm-eval"
            "\t\t\t\t\t\t\t64\t\t\t\t\t1\t\t\t\t\t\tmmlu\t5\t\t\t\t\ttrue\n",
            r"'mine', column allow_code: true, but only a suite of lm-eval in a folder of yours",
        ),
        ("tasks.tsv", "\t392702\t", "\t\t", r"'mnli', column minutes_per_level: blank, but without n_train the time"),
        (
            "packages.tsv",
            "sha256",
            "sha265",
            r"config/packages\.tsv, header: unknown column 'sha265'; did you mean 'sha256'",
        ),
    ],
)
def test_a_wrong_table(study, file, old, new, message):
    study.replace(file, old, new)
    with pytest.raises(configuration.ConfigError, match=message):
        study.read()


def test_tasks_that_share_a_dataset_describe_one_source(study):
    study.replace(
        "tasks.tsv", "finetune\tmovie-reviews\tpackage\tmovie-reviews", "finetune\tmovie-reviews\tpackage\tws353"
    )
    with pytest.raises(
        configuration.ConfigError, match=r"'reviews-finetune', column id: 'ws353' but the task 'reviews-probe'"
    ):
        study.read()


def test_expansion_shares_dense_and_joins_blocks():
    blocks = [
        block(patterns=["global", "random"], sparsities=[0, 0.1, 0.2, 0.3]),
        block(sparsities=[0.25], seeds=[0, 1]),
    ]
    jobs = grid.expand(blocks, {"ws353": 2})
    found = {(job.pattern, job.token, job.seed) for job in jobs}
    assert found == {
        ("dense", "0.000", 0), ("dense", "0.000", 1),
        ("global", "0.100+0.200", 0), ("global", "0.250+0.300", 0), ("global", "0.250", 1),
        ("random", "0.100+0.200", 0), ("random", "0.300", 0),
    }  # fmt: skip
    assert len(jobs) == len(found)


def test_a_range_of_sparsities_includes_its_end():
    assert grid.sparsities({"sparsities": {"from": 0.1, "to": 0.9, "step": 0.1}}, "") == [
        f"0.{i}00" for i in range(1, 10)
    ]
    with pytest.raises(
        configuration.ConfigError, match=r"do not reach 0\.35, the last level; write to: 0\.3, or the levels"
    ):
        grid.sparsities({"sparsities": {"from": 0.1, "to": 0.35, "step": 0.1}}, "grid[0]")
    with pytest.raises(configuration.ConfigError, match=r"do not reach 0\.38, the last level; write to: 0\.3, or"):
        grid.sparsities({"sparsities": {"from": 0.1, "to": 0.38, "step": 0.1}}, "grid[0]")


def test_ten_thousand_runs_expand_in_moments():
    wide = block(sparsities={"from": 0.001, "to": 0.999, "step": 0.001}, seeds=list(range(10)))
    assert len(grid.expand([wide], {"ws353": 1})) == 9990 + 10


def test_levels_that_are_stored_stay_in_their_chunks():
    levels = ["0.100", "0.200", "0.300", "0.400", "0.500"]
    assert grid.chunks(levels, 2) == [("0.100", "0.200"), ("0.300", "0.400"), ("0.500",)]
    stored = ["0.200+0.300", "0.500"]
    assert sorted(grid.chunks(levels, 2, stored)) == [("0.100", "0.400"), ("0.200", "0.300"), ("0.500",)]
    assert grid.chunks(["0.050", *levels], 5, ["+".join(levels)]) == [tuple(levels), ("0.050",)], "a low one runs alone"
    assert grid.chunks(["0.300"], 2, stored) == [("0.200", "0.300")], "a level taken away leaves the file as it is"
    assert grid.chunks(["0.200", "0.300"], 2, ["0.200", "0.200+0.300"]) == [("0.200", "0.300")], "in as few as possible"


def test_chunks_stay_the_same_while_jobs_finish_in_any_order():
    levels = [f"0.{i}00" for i in range(1, 10)]
    for stored in (["0.300+0.400"], [], ["0.100", "0.900+0.950"]):
        planned = sorted(grid.chunks(levels, 4, stored))
        for finished in planned:
            assert sorted(grid.chunks(levels, 4, [*stored, "+".join(finished)])) == planned


def test_a_job_names_the_levels_that_are_asked_of_it(tmp_path):
    made = tmp_path / "minilm/ws353/global/0.100+0.200+0.300/seed0.parquet"
    made.parent.mkdir(parents=True)
    made.touch()
    (tmp_path / "minilm/ws353/global/notes").mkdir()
    blocks = [block(sparsities=[0.2, 0.4], seeds=[0, 1])]
    jobs = grid.expand(blocks, {"ws353": 9}, stored=grid.stored_in(str(tmp_path)))
    found = {(job.seed, job.levels): job.asked for job in jobs if job.pattern == "global"}
    assert found == {
        (0, ("0.100", "0.200", "0.300")): ("0.200",),
        (0, ("0.400",)): ("0.400",),
        (1, ("0.200", "0.400")): ("0.200", "0.400"),
    }


def test_a_node_cuts_the_levels_of_a_curve_as_the_head_did(tmp_path):
    """Jobs on other machines start from chunks that know nothing of the store, after the runs of the curve are there."""
    blocks = [block(sparsities=[0.1, 0.2, 0.3, 0.4, 0.6], seeds=[0, 1])]
    sizes, stored = {"ws353": 2}, grid.stored_in(str(tmp_path))
    for name in ("0.200+0.300/seed0", "0.100+0.500/seed1"):
        made = tmp_path / f"minilm/ws353/global/{name}.parquet"
        made.parent.mkdir(parents=True)
        made.touch()
    head = grid.expand(blocks, sizes, stored=stored)
    for job in head:
        (tmp_path / f"{job.path}.parquet").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{job.path}.parquet").touch()
    blind = grid.expand(blocks, sizes)
    assert blind != head
    assert grid.cut(blind, 2, grid.stored_in(str(tmp_path))) == head


def test_a_range_that_runs_backwards_is_refused():
    with pytest.raises(configuration.ConfigError, match=r"from 0\.9 to 0\.1 runs backwards; swap the two"):
        grid.sparsities(block(sparsities={"from": 0.9, "to": 0.1, "step": 0.1}), "grid[0]")


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("column", ["held_out", "epochs", "learning_rate", "epsilon"])
def test_numbers_of_a_table_that_are_not_finite_are_refused_by_cell(tmp_path, column, number):
    lines = Path("config/tasks.tsv").read_text().splitlines()
    header = next(line for line in lines if not line.startswith("#")).split("\t")
    cells = (lines[lines.index("\t".join(header)) + 1].split("\t") + [""] * len(header))[: len(header)]
    cells[header.index(column)] = number
    (tmp_path / "tasks.tsv").write_text("\t".join(header) + "\n" + "\t".join(cells) + "\n")
    with pytest.raises(
        configuration.ConfigError, match=rf"tasks.tsv, line 2, column {column}: {number} is no finite number"
    ):
        tsv.read_table(str(tmp_path / "tasks.tsv"), "tasks", "task")


def test_a_column_is_read_from_one_of_the_source():
    row = {"source": "path", "revision": None, "columns": "text=a,label=b,text=c"}
    with pytest.raises(configuration.ConfigError, match=r"tasks.tsv, 'x', column columns: 'text' stands there twice"):
        tsv.check_source("tasks.tsv, 'x'", row, {})


def test_models_of_a_task_are_those_that_a_pattern_prunes():
    blocks = [
        block(models=["b", "a"], tasks=["t", "s"], patterns=["lth", "global"]),
        block(models=["c"], tasks=["t"]),
    ]
    jobs = grid.expand(blocks, {"t": 1, "s": 1})
    assert list(grid.models_of(jobs[::-1], "lth").items()) == [("s", ["a", "b"]), ("t", ["a", "b"])]
    assert grid.models_of(jobs, "global") == {"s": ["a", "b"], "t": ["a", "b", "c"]}
    assert grid.models_of(jobs, "random") == {}


def test_minus_nothing_is_nothing():
    assert grid.sparsities({"sparsities": [-0.0, 0.5]}, "here") == ["0.000", "0.500"]


@pytest.mark.parametrize(
    "wrong", ["https://hub.example/a/b", "hub.example/a/b", "datasets/a/b", "a/b/", "a b", "a/b:", "hf://a/b"]
)
def test_a_repository_is_named_without_its_address(wrong):
    row = {"source": "hub", "revision": "main", "columns": None}
    for right in ("gpt2", "a/b", "nyu-mll/glue:sst2", "a/b:data/x-*.csv", "a/step_{step}k"):
        tsv.check_source("tasks.tsv, 'x'", row | {"id": right}, {})
    with pytest.raises(
        configuration.ConfigError, match=r"tasks\.tsv, 'x', column id: .* is no repository of a hub\. Write owner/name"
    ):
        tsv.check_source("tasks.tsv, 'x'", row | {"id": wrong}, {})


def test_an_expression_of_names_means_these_and_no_others():
    names = [
        "bert",
        "bert-large",
        "opt-1.3b",
        "opt-125m",
        "a+b",
        "b",
        *(f"wiki-100-{step}" for step in range(0, 500, 25)),
    ]
    found = re.compile(f"models/({grid.one_of(names)})/(x)")
    for name in names:
        assert found.fullmatch(f"models/{name}/x").groups() == (name, "x")
    for other in ("", "ber", "bert-", "bert-largee", "opt-1a3b", "aab", "wiki-100-", "wiki-100-26", "none"):
        assert not found.fullmatch(f"models/{other}/x")
    assert grid.one_of([]) == "none"
