# Read and check the configuration, constrain the wildcards, name the input and resource functions.
import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))
from essential_sparsity import chains, codefiles, grid

try:
    grid.check_config(
        config, "the configuration (config/config.yaml, --configfile and --config)"
    )
    MODELS, TASKS, PACKAGES = grid.read_tables(config)
    grid.validate(config, MODELS, TASKS, "the configuration")
    chains.check(config, TASKS, "the configuration")
except grid.ConfigError as error:
    raise WorkflowError(str(error)) from None

LEVELS_PER_JOB = {task: row["levels_per_job"] for task, row in TASKS.items()}
ROUNDS_FILE = Path("results/rounds.json")  # levels that `make refine` added
ROUNDS = (
    json.loads(ROUNDS_FILE.read_text())["rounds"]
    if "refine" in config and ROUNDS_FILE.is_file()
    else []
)
JOBS = grid.expand(config["grid"], LEVELS_PER_JOB, ROUNDS)
DATASETS = {row["dataset"]: row for row in TASKS.values()}
CURVES = sorted({(job.model, job.task) for job in JOBS})
RUN_FILES = [f"results/runs/{job.path}.parquet" for job in JOBS]
ITEM_FILES = [f"results/items/{job.path}.parquet" for job in JOBS]
USED_MODELS = sorted({job.model for job in JOBS})
USED_DATASETS = sorted({TASKS[job.task]["dataset"] for job in JOBS})
SHARE = config["lottery"]["share"]
TICKETS = chains.tickets(JOBS, SHARE)
CHAINED = sorted({(model, task) for model, task, _, _ in TICKETS})
CHAINED_MODELS = sorted({model for model, _ in CHAINED})
TICKET = f"results/tickets/{chains.TICKET}"
LAYER_SPARSITY = grid.level(config["figures"]["layers_sparsity"])

RUN = grid.RUN


wildcard_constraints:
    model="|".join(map(re.escape, MODELS)),
    task="|".join(map(re.escape, TASKS)),
    dataset="|".join(map(re.escape, DATASETS)),
    pattern="|".join(["dense", *grid.PATTERNS, "nm[0-9]+"]),
    sparsity=r"[0-9]\.[0-9]{3}(\+[0-9]\.[0-9]{3})*",
    seed="[0-9]+",


def program(name):
    """A program and the library modules that it imports (what its results depend on), as relative paths."""
    return codefiles.program(f"workflow/scripts/{name}.py")


def schema(*names):
    """The schemas of the tables that a program writes or reads."""
    return [f"workflow/schemas/tables/{name}.yaml" for name in names]


def source_settings(row):
    """What fetching a table row depends on, as JSON."""
    settings = {
        key: row.get(key)
        for key in ("source", "id", "revision", "format", "columns", "allow_pickle")
    }
    settings["packages"] = PACKAGES[row["id"]] if row["source"] == "package" else []
    return json.dumps(settings, sort_keys=True)


def task_program(wildcards, name="prune_eval"):
    """A program with the modules that it loads by name: that of the task's kind, and that of tickets for pattern lth.

    So editing another kind's code, or that of tickets, re-runs nothing here.
    """
    modules = [f"tasks.{TASKS[wildcards.task]['kind'].replace('-', '_')}"]
    if wildcards.get("pattern") == chains.PATTERN:
        modules.append("tickets")
    extra = [f"essential_sparsity.{module}" for module in modules]
    return codefiles.program(f"workflow/scripts/{name}.py", *extra)


RUN_SETTINGS = "kind protocol n_train n_eval epochs learning_rate batch_size max_length context windows image_size".split()


def run_settings(wildcards):
    """What a run's numbers depend on beside its wildcards, as JSON."""
    settings = {key: TASKS[wildcards.task][key] for key in RUN_SETTINGS}
    settings["allow_pickle"] = MODELS[wildcards.model]["allow_pickle"]
    return json.dumps(settings, sort_keys=True)


def run_mem_mb(wildcards, attempt):
    """Float32 weights with activations; fine-tuning adds gradients, AdamW's two moments and the mask."""
    bytes_per_parameter = 24 if TASKS[wildcards.task]["protocol"] == "finetune" else 12
    return attempt * int(
        3000 + bytes_per_parameter * MODELS[wildcards.model]["parameters"] / 1e6
    )


def run_minutes(wildcards, attempt):
    """Start-up, and the task's time per level."""
    levels = wildcards.sparsity.count("+") + 1
    return attempt * int(10 + levels * TASKS[wildcards.task]["minutes_per_level"])


def grid_json():
    """The grid as one command-line argument: its cross products stay short however many runs they name."""
    used = sorted({job.task for job in JOBS})
    return json.dumps(
        {
            "blocks": config["grid"],
            "levels_per_job": {task: LEVELS_PER_JOB[task] for task in used},
            "rounds": ROUNDS,
        }
    )


def pruned_levels():
    """Model -> pattern -> sparsities whose pruned weights are counted per matrix, as JSON: neither tasks nor seeds matter."""
    levels = {
        model: {"global": {grid.level(config["figures"]["layers_sparsity"])}}
        for model in USED_MODELS
    }
    for job in JOBS:
        if job.pattern not in (
            "dense",
            chains.PATTERN,
        ):  # tickets are not in the spectra
            levels[job.model].setdefault(job.pattern, set()).update(job.levels)
    return json.dumps(levels, default=sorted, sort_keys=True)


def ticket_before(wildcards, suffix):
    """The mask with which a round starts, as input with this suffix; the first round has none."""
    before = chains.previous(wildcards.sparsity, SHARE)
    return TICKET.format(**{**wildcards, "sparsity": before}) + suffix if before else []


def tickets_of_run(wildcards, suffix):
    """The masks that a run of prune_eval applies, level by level; only pattern lth reads any."""
    levels = (
        wildcards.sparsity.split("+") if wildcards.pattern == chains.PATTERN else []
    )
    return [
        TICKET.format(**{**wildcards, "sparsity": name}) + suffix for name in levels
    ]


def tickets_compared(suffix):
    """The masks that the table of similarity compares, beside the one-shot masks."""
    wanted = {
        (job.model, job.task, job.seed, name)
        for job in JOBS
        if job.pattern == chains.PATTERN
        for name in job.levels
    }
    return [
        f"results/tickets/{chains.path(ticket)}{suffix}" for ticket in sorted(wanted)
    ]
