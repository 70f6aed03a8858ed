"""What happens before any job: config errors, the dry run on a machine without SLURM, linters, pins."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from workspace import STORE

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("config/config.yaml", "[minilm]", "[minilmm]", "unknown model 'minilmm'; did you mean 'minilm'?"),
        ("config/config.yaml", "resources:", "resource:", "unknown key 'resource'; did you mean 'resources'?"),
        ("config/config.yaml", "[0.25, 0.5, 0.75]", "[0.6]", "it has no sparsity 0.600"),
        (
            "config/config.yaml",
            "[global, random]",
            "[lth]",
            "pattern lth needs a task that is fine-tuned, but 'ws353'",
        ),
        ("config/config.yaml", "study: demo", "study: demo\nstudy: mine", "the key 'study' stands there twice"),
        ("config/config.yaml", "seeds: [0, 1]", "seeds: [0, 010]", "010 is the number 8 in YAML"),
        ("config/config.yaml", "share: 0.1", "share: 0.75", "lottery.share: 0.75 is greater than the maximum of 0.5"),
        ("config/config.yaml", "mask_sparsities", "mask_sparsity", "did you mean 'mask_sparsities'?"),
        (
            "config/config.yaml",
            "[0.3, 0.5, 0.7]",
            "[0.3, 1]",
            "emergence.mask_sparsities[1]: 1 is greater than the maximum",
        ),
        ("config/config.yaml", "[0.3, 0.5, 0.7]", "[0.3333]", "emergence.mask_sparsities: 0.3333 has more than three"),
        ("config/references.tsv", "minilm\tws353", "minilm\tws35", "column task: 'ws35' is not in config/tasks.tsv"),
        (
            "config/tasks.tsv",
            "\tprobe\t",
            "\tporbe\t",
            "column protocol: 'porbe' does not apply to text-classification; did you mean 'probe'?",
        ),
    ],
)
def test_a_mistake_stops_the_parse_with_one_message(workspace, file, old, new, message):
    with workspace.edit(file, old, new):
        output = workspace.snakemake("--dry-run", check=False)
    assert message in output
    assert "Job stats" not in output
    assert "Traceback" not in output


def test_values_on_the_command_line_are_checked_too(workspace):
    output = workspace.snakemake("--dry-run", "--config", "figures={layers_sparsity: 2}", check=False)
    assert "figures.layers_sparsity: 2 is greater than or equal to the maximum" in output
    assert "Job stats" in workspace.snakemake("--dry-run", "--config", "figures={layers_sparsity: 0.2}", "refine=null")


@pytest.mark.parametrize("option", [("--configfile", "config/nm.yaml"), ("--config", "missing_runs=skip")])
def test_an_option_that_stands_there_twice_is_refused(workspace, option):
    output = workspace.snakemake("--dry-run", *option, *option, check=False)
    assert f"{option[0]} stands there twice, and Snakemake reads the last one alone" in output
    assert "Job stats" not in output
    assert "Traceback" not in output


def test_the_preset_of_lottery_tickets_is_a_chain_of_rounds(workspace):
    planned = workspace.planned("--configfile", "config/lottery.yaml")
    assert planned["find_ticket"] == 21, "seven iterations of each of three seeds"
    assert (planned["compare_tickets"], planned["collect_similarity"], planned["measure_differences"]) == (1, 1, 1)
    assert "compare_checkpoints" not in planned
    output = workspace.snakemake("--configfile", "config/lottery.yaml", "--profile", "slurm", "--dry-run")
    asked = reviewed("lottery")
    for block in output.split("rule find_ticket:")[1:]:
        assert requested(block) == asked["minilm", "reviews-long", 1], "what a run of one level asks for"


def test_cards_of_a_pre_training_are_none_of_an_evaluation_or_a_ticket(workspace):
    call = ("--configfile", "config/lottery.yaml", "--profile", "slurm", "--dry-run", "--printshellcmds")
    with workspace.edit("config/config.yaml", "  gpu: 1", "  gpu: 4"):
        output = workspace.snakemake(*call)
    assert "--gpus" not in output, "find_ticket has no such option"
    tickets = output.split("rule find_ticket:")[1:]
    assert tickets
    assert {requested(block)[0] for block in tickets} == {1}


def test_a_pre_training_on_several_cards_leaves_nothing_to_the_users_own_file_of_accelerate(workspace):
    call = ("--configfile", "config/emergence-text.yaml", "--dry-run", "--printshellcmds")
    with workspace.edit("config/config.yaml", "  gpu: 1", "  gpu: 4"):
        output = workspace.snakemake(*call)
    launched = re.findall(r"accelerate launch (.*?) workflow/scripts/pretrain", output)
    said = "--multi_gpu --num_processes 4 --num_machines 1 --gpu_ids all --main_process_port 0 --mixed_precision no --dynamo_backend no"
    assert set(launched) == {said}


def test_costs_wait_for_all_checkpoints_that_are_measured(workspace):
    target = "results/emergence-text/tables/costs.parquet"
    output = workspace.snakemake("--configfile", "config/emergence-text.yaml", "--dry-run", "--", target)
    for share in (100, 50, 10):
        assert re.search(rf"^measure_pretraining_wiki-bert-{share} +1$", output, re.MULTILINE)


def test_paths_of_the_configuration_are_words_of_the_shell(workspace):
    table = workspace.folder / "config/my references.tsv"
    table.write_text((workspace.folder / "config/references.tsv").read_text())
    try:
        output = workspace.snakemake(
            "--dry-run", "--printshellcmds", "--config", f"references={table.relative_to(workspace.folder)}"
        )
    finally:
        table.unlink()
    shown = re.findall(r" --references (.{8})", output)
    assert len(shown) > 1
    assert set(shown) == {"'config/"}


def test_the_data_of_a_pre_training_alone_are_looked_at_before_any_job(workspace):
    call = ("--configfile", "config/emergence-bookcorpus.yaml", "--dry-run")
    output = workspace.snakemake(*call, check=False)
    assert "the data set 'bookcorpus': data/bookcorpus does not exist" in output
    assert "Job stats" not in output
    texts = workspace.folder / "data/bookcorpus/texts.parquet"
    texts.parent.mkdir(parents=True)
    texts.write_bytes(b"one")
    try:
        planned = workspace.planned(*call[:2])
        assert (planned["pretrain"], planned["train_tokenizer"], planned["fetch_dataset"]) == (5, 1, 5)
    finally:
        shutil.rmtree(texts.parent)


@pytest.mark.parametrize(("preset", "tickets", "pretrained"), [("paper", 105, 5), ("paper-small", 14, 6)])
def test_the_paper_is_one_study_of_parts(workspace, preset, tickets, pretrained):
    """Once its models' commits are known, and BookCorpus and the word problems are there."""
    head = "kind\trepository\trevision\tcommit"
    deit = f"model\tfacebook/deit-base-patch16-224\tmain\t{1:040d}"
    folds = [f"cv_{name}/fold{number}" for name in ("mawps", "asdiv-a") for number in range(5)]
    there = ["bookcorpus/texts.parquet", *(f"arithmetic/{fold}/dev.csv" for fold in (*folds, "mawps-asdiv-a_svamp"))]
    data = workspace.folder / "data"
    for name in there:
        (data / name).parent.mkdir(parents=True)
        (data / name).write_bytes(b"one")
    try:
        with workspace.edit("config/revisions.tsv", head, f"{head}\n{deit}"):
            planned = workspace.planned("--configfile", f"config/{preset}.yaml")
    finally:
        shutil.rmtree(data)
    assert (planned["find_ticket"], planned["pretrain"]) == (tickets, pretrained)
    for rule in (
        "judge_claims",
        "write_claims",
        "write_explorer",
        "measure_series",
        "collect_similarity",
        "measure_differences",
    ):
        assert planned[rule] == 1, rule
    assert planned["plot_panels"] >= 2


def reviewed(preset: str) -> dict[tuple[str, str, int], tuple[int, ...]]:
    """(model, task, levels a job) -> GPUs, memory and time, of the reviewed table of requests."""
    rows = (line.split("\t") for line in (ROOT / "tests/unit/requests.tsv").read_text().splitlines())
    return {
        (model, task, int(levels)): tuple(map(int, (gpus, memory, minutes)))
        for name, job, model, task, pattern, levels, gpus, _, memory, minutes in rows
        if (name, job, pattern) == (preset, "prune_eval", "")
    }


def requested(block: str) -> tuple[int, ...]:
    """GPUs, memory and time that a dry run shows of a job."""
    shown = re.search(r"resources: (.*)", block)[1]
    assert "slurm_partition=gpu" in shown
    return tuple(int(re.search(rf"\b{name}=(\d+)", shown)[1]) for name in ("gpu", "mem_mb", "runtime"))


def test_slurm_profile_without_slurm_shows_what_each_job_asks_for(workspace):
    output = workspace.snakemake("--profile", "slurm", "--dry-run")
    shown = output.split("rule prune_eval:")[1:]
    assert len(shown) > 10
    asked = reviewed("config")
    for block in shown:
        wildcards = dict(re.findall(r"(\w+)=([^,\n]+)", re.search(r"wildcards: (.*)", block)[1]))
        key = wildcards["model"], wildcards["task"], wildcards["sparsity"].count("+") + 1
        assert requested(block) == asked[key], key


def test_a_job_that_cannot_fit_stops_the_parse_by_name_until_it_is_there(workspace):
    small = ("--config", "resources={gpu_class: t4}")
    assert "Job stats" in workspace.snakemake("--configfile", "config/vicuna.yaml", "--dry-run")
    output = workspace.snakemake("--configfile", "config/vicuna.yaml", "--dry-run", *small, check=False)
    assert "vicuna-7b on mmlu needs about 27 GB of GPU memory (13 of them weights), but t4 has 16" in output
    assert "Job stats" not in output
    assert "Traceback" not in output
    assert "Job stats" in workspace.snakemake(
        "--configfile", "config/vicuna.yaml", "--dry-run", *small, "missing_runs=skip"
    )


def test_a_model_that_is_spread_over_cards_asks_for_them_and_nothing_else_changes(workspace):
    call = ("--configfile", "config/vicuna.yaml", "--profile", "slurm", "--dry-run", "--printshellcmds")
    rows = (workspace.folder / "config/models.tsv").read_text().splitlines()
    head, vicuna = rows[0], next(row for row in rows if row.startswith("vicuna-7b\t"))
    one = workspace.snakemake(*call)
    assert "gpu=1" in one
    assert "--gpus" not in one
    with (
        workspace.edit("config/models.tsv", head, f"{head}\tgpus_per_job"),
        workspace.edit("config/models.tsv", vicuna, f"{vicuna}\t2"),
    ):
        two = workspace.snakemake(*call)
        with workspace.edit("config/config.yaml", "  gpu: 1", "  gpu: 0"):
            none = workspace.snakemake(*call)
    for block in two.split("rule prune_eval:")[1:]:
        assert "gpu=2" in re.search(r"resources: (.*)", block)[1]
    assert two.count(" --gpus 2 ") == two.count(" --sparsities ") > 0
    assert "--gpus" not in none, "on processors there is nothing to spread over"


def test_no_rule_holds_site_facts_or_retries():
    for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]:
        text = path.read_text()
        for word in ("slurm_partition", "slurm_account", "partition=", "retries:", "\ncheckpoint ", "run:"):
            assert word not in text, f"{path.name} holds {word!r}"
    assert not (ROOT / "profiles").exists()
    assert not (ROOT / "default").exists()


def test_profile_sends_the_rules_that_ask_for_a_gpu_and_no_others_to_the_gpu_partition():
    profile = yaml.safe_load((ROOT / "slurm/profile.v9+.yaml").read_text())
    asking = set()
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if re.search(r"^ +gpu=", rule, re.MULTILINE):
                asking.add(rule.partition(":")[0])
    assert set(profile["set-resources"]) == asking == {"prune_eval", "find_ticket", "pretrain"}
    assert {given["slurm_partition"] for given in profile["set-resources"].values()} == {"gpu"}
    assert profile["default-resources"]["slurm_partition"] == "cpu"


def test_the_head_fetches_and_makes_light_tables_and_figures_and_nothing_else(workspace):
    """What is no local rule says what it needs; local rules ask for one thread, which Snakemake hands on to libraries."""
    jobs = {}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text()
        jobs |= {rule.partition(":")[0]: rule for rule in re.split(r"^ *rule ", text, flags=re.MULTILINE)[1:]}
    local = {name for name, text in jobs.items() if re.search(r"^ +localrule: True$", text, re.MULTILINE)}
    assert local == {
        name for name in jobs if re.match("fetch|tabulate_|collect_|plot_|choose_|check_|judge_|write_", name)
    }
    for name, text in jobs.items():
        assert name in local or ("mem_mb=" in text and "runtime=" in text), name
        assert name not in local or "threads:" not in text, name
    profile = yaml.safe_load((ROOT / "slurm/profile.v9+.yaml").read_text())
    assert profile["local-cores"] == 2
    output = workspace.snakemake("--profile", "slurm", "--dry-run")
    for block in output.split("rule fit_knees:")[1:]:
        assert 1500 < int(re.search(r"mem_mb=(\d+)", block)[1]) < 10_000
        assert 10 <= int(re.search(r"runtime=(\d+)", block)[1]) < 60
    assert output.count("rule fit_knees:") > 2


def test_profile_keeps_what_was_learned_on_real_clusters():
    profile = yaml.safe_load((ROOT / "slurm/profile.v9+.yaml").read_text())
    assert profile["slurm-status-command"] == "squeue"
    assert profile["retries"] >= 1
    assert "slurm-array-jobs" not in profile


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["snakefmt", "--check", "Snakefile", "rules"],
        ["snakemake", "--lint"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_linters_are_clean(command):
    result = subprocess.run(
        [BIN / command[0], *command[1:]], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert result.returncode == 0, result.stdout


def test_conda_files_carry_the_pins_of_requirements():
    lines = (ROOT / "envs/requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    files = sorted((ROOT / "envs").glob("*.yaml"))
    assert len(files) >= 3
    for path in files:
        listed = yaml.safe_load(path.read_text())["dependencies"][-1]["pip"]
        assert listed
        for line in listed:
            name, _, version = line.partition("==")
            assert pins.get(name) == version, f"{path.name}: {line}, but requirements.txt has {pins.get(name)}"


def test_every_rule_names_an_environment_that_holds_what_it_imports():
    provided = {"sklearn": "scikit-learn", "yaml": "pyyaml", "PIL": "pillow"}
    sys.path.insert(0, str(ROOT / "workflow/scripts"))
    from essential_sparsity import codefiles

    for path in sorted((ROOT / "rules").glob("*.smk")):
        for body in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            name = body.split(":")[0]
            if "shell:" not in body:  # names what others make
                continue
            environment = re.search(r'conda:\s+conda_file\("(\w+)"\)', body)[1]
            pins = yaml.safe_load((ROOT / f"envs/{environment}.yaml").read_text())["dependencies"][-1]["pip"]
            extra = [
                f"essential_sparsity.tasks.{f.stem}"
                for f in (ROOT / "workflow/scripts/essential_sparsity/tasks").glob("[a-z]*.py")
            ]
            loaded = {"prune_eval": [*extra, "essential_sparsity.pruning.tickets"], "find_ticket": extra}.get(name, [])
            for file in codefiles.program(name, *loaded):
                for module in re.findall(r"^\s*(?:import|from) (\w+)", file.read_text(), re.MULTILINE):
                    known = module in sys.stdlib_module_names or module == "essential_sparsity"
                    package = provided.get(module, module)
                    assert known or any(pin.startswith(f"{package}==") for pin in pins) or module in TRANSITIVE, (
                        f"{name}: {file} imports {module}, which envs/{environment}.yaml lacks"
                    )


TRANSITIVE = {"threadpoolctl", "google", "httpx2"}  # of scikit-learn, onnx (protobuf), huggingface_hub


def test_readme_names_every_key_and_column():
    text = (ROOT / "config/README.md").read_text()
    for path in sorted((ROOT / "workflow/schemas").glob("*.schema.yaml")):
        for key in yaml.safe_load(path.read_text())["properties"]:
            assert f"`{key}`" in text, f"config/README.md does not explain `{key}` of {path.name}"


def test_dry_run_of_a_good_config_is_quick_enough_to_type_often(workspace):
    """No timing: nothing heavy is imported while parsing."""
    code = (
        "import sys; sys.path.insert(0, 'workflow/scripts');"
        "from essential_sparsity import codefiles; from essential_sparsity.study import grid, iterations; import json;"
        "print(json.dumps([m for m in ('torch', 'transformers', 'pandas', 'numpy', 'pyarrow') if m in sys.modules]))"
    )
    assert json.loads(workspace.call(sys.executable, "-c", code).stdout) == []


def test_a_manifest_from_the_future_stops_the_parse_before_jobs_compute_in_vain(workspace):
    manifest = workspace.folder / f"{STORE}/checkpoints/minilm/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    os.utime(manifest, (time.time() + 3600,) * 2)
    output = workspace.snakemake("--dry-run", check=False)
    assert "minilm/manifest.json (and 0 more) has a modification time in the future" in output
    assert "Job stats" not in output
    assert "Traceback" not in output
    advice = re.search(r"find results .* \+$", output, re.MULTILINE)[0]
    workspace.call("sh", "-c", advice)
    assert "in the future" not in workspace.snakemake("--dry-run", check=False)
