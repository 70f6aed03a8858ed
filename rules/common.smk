# Read and check the configuration, constrain the wildcards, name the input and resource functions.
import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))
from essential_sparsity import (
    chains,
    codefiles,
    grid,
    references,
    resources,
    revisions,
    rounds,
    series,
)

try:
    grid.check_config(
        config, "the configuration (config/config.yaml, --configfile and --config)"
    )
    MODELS, TASKS, PACKAGES, SERIES_ROWS = series.read(config)
    PRETRAININGS = series.pretrainings(config)
    config["grid"] = series.expand_blocks(config["grid"], SERIES_ROWS)
    MEMBERS = series.studied(config, MODELS)
    grid.validate(config, MODELS, TASKS, "the configuration")
    chains.check(config, TASKS, "the configuration")
    REFERENCES = references.read(config, MODELS, TASKS)
    ROUNDS = rounds.read() if "refine" in config else []
except grid.ConfigError as error:
    raise WorkflowError(str(error)) from None

LEVELS_PER_JOB = {task: row["levels_per_job"] for task, row in TASKS.items()}
JOBS = grid.expand(config["grid"], LEVELS_PER_JOB, ROUNDS)
DATASETS = {row["dataset"]: row for row in TASKS.values()}
CURVES = sorted({(job.model, job.task) for job in JOBS})
RUN_FILES = [f"results/runs/{job.path}.parquet" for job in JOBS]
ITEM_FILES = [f"results/items/{job.path}.parquet" for job in JOBS]
USED_MODELS = sorted({job.model for job in JOBS})
STUDIED = sorted({member["series"] for member in MEMBERS})
MEMBER_LOSSES = series.losses(MEMBERS, MODELS)
USED_DATASETS = sorted({TASKS[job.task]["dataset"] for job in JOBS})
try:
    LOCKED = revisions.read(config["revisions"])
    members = [member["model"] for member in MEMBERS]
    revisions.apply_(
        MODELS, {*USED_MODELS, *members}, "model", LOCKED, config["models"]
    )
    revisions.apply_(DATASETS, USED_DATASETS, "dataset", LOCKED, config["tasks"])
except grid.ConfigError as error:
    raise WorkflowError(str(error)) from None
SHARE = config["lottery"]["share"]
TICKETS = chains.tickets(JOBS, SHARE)
CHAINED = sorted({(model, task) for model, task, _, _ in TICKETS})
CHAINED_MODELS = sorted({model for model, _ in CHAINED})
DENSE = "results/dense/{model}/{task}/seed{seed}.json"
TICKET = f"results/tickets/{chains.TICKET}"
LAYER_SPARSITY = grid.level(config["figures"]["layers_sparsity"])

RUN = grid.RUN


# Checkpoints that are measured only: all those of a pre-training in one job. Those that the grid prunes have jobs of
# their own, so that another step in a series re-runs no evaluation.
MADE = series.made_here(MODELS, {*members} - {*USED_MODELS})
MEASURED = {model for models in MADE.values() for model in models}
FETCHED = "|".join(re.escape(model) for model in MODELS if model not in MEASURED)


wildcard_constraints:
    model="|".join(map(re.escape, MODELS)),
    task="|".join(map(re.escape, TASKS)),
    dataset="|".join(map(re.escape, DATASETS)),
    pretraining="|".join(map(re.escape, PRETRAININGS)),
    pattern="|".join(["dense", *grid.PATTERNS, "nm[0-9]+"]),
    sparsity=r"[0-9]\.[0-9]{3}(\+[0-9]\.[0-9]{3})*",
    seed="[0-9]+",


def program(name):
    """A program and the library modules that it imports (what its results depend on), as relative paths."""
    return codefiles.program(f"workflow/scripts/{name}.py")


# Snakemake throws away what a job computed when an input is newer than the clock of the job's node. Each job reads
# these lines on its node before it computes.
if ahead := codefiles.from_the_future(
    [
        *map(str, Path("workflow").rglob("*.*")),
        *(f"results/checkpoints/{name}/manifest.json" for name in USED_MODELS),
        *(f"results/datasets/{name}/manifest.json" for name in USED_DATASETS),
    ]
):
    raise WorkflowError(
        f"{ahead[0]} (and {len(ahead) - 1} more) has a modification time in the future of this machine's clock; jobs here "
        "would compute in vain. Set the clock right, or give the files the present time: "
        "find workflow results -newermt now -exec touch {} +"
    )


def schema(*names):
    """The schemas of the tables that a program writes or reads."""
    return [f"workflow/schemas/tables/{name}.yaml" for name in names]


def source_settings(row):
    """What fetching a table row depends on, as JSON."""
    settings = {
        key: row.get(key)
        for key in ("source", "id", "revision", "format", "columns", "allow_pickle")
    }
    if row["source"] == "pretraining":
        settings |= {
            "source": "path",
            "id": f"results/pretraining/{row['id']}/step-{row['value']}",
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


RUN_SETTINGS = "kind protocol metrics eval_split held_out n_train n_eval epochs learning_rate batch_size max_length context windows positions suite shots image_size autocast".split()


def run_settings(wildcards):
    """What a run's numbers depend on beside its wildcards, as JSON."""
    settings = {key: TASKS[wildcards.task][key] for key in RUN_SETTINGS}
    settings["allow_pickle"] = MODELS[wildcards.model]["allow_pickle"]
    return json.dumps(settings, sort_keys=True)


def run_mem_mb(wildcards, attempt):
    """Memory of the model and the task, more with each attempt."""
    return attempt * resources.mem_mb(MODELS[wildcards.model], TASKS[wildcards.task])


def run_minutes(wildcards, attempt):
    """Time of the levels of one job, more with each attempt."""
    return attempt * resources.minutes(
        MODELS[wildcards.model],
        TASKS[wildcards.task],
        levels=wildcards.sparsity.count("+") + 1,
        gpu=config["resources"]["gpu"],
        threads=config["resources"]["threads"],
    )


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


def dense_checked(wildcards):
    """The comparison of the dense run with its reference, which runs of a (model, task) that has one wait for."""
    if (
        wildcards.get("pattern") == "dense"
        or (wildcards.model, wildcards.task) not in REFERENCES
    ):
        return []
    return DENSE.format(**wildcards)


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


def made_here(wildcards):
    """The manifest of the pre-training that a checkpoint comes from; none for checkpoints that are fetched."""
    row = MODELS[wildcards.model]
    return (
        f"results/pretraining/{row['id']}/manifest.json"
        if row["source"] == "pretraining"
        else []
    )


def tokenizer_of(wildcards):
    """The tokenizer of a pre-training on text."""
    row = PRETRAININGS[wildcards.pretraining]
    return (
        f"results/pretraining/tokenizers/{row['dataset']}-{row['vocabulary']}/tokenizer.json"
        if row["objective"] == "masked-lm"
        else []
    )


def pretraining_settings(wildcards):
    """What a pre-training depends on, as JSON."""
    row = PRETRAININGS[wildcards.pretraining]
    return json.dumps(
        {key: row[key] for key in row if key not in ("label", "note")}, sort_keys=True
    )


def pretraining_minutes(wildcards, attempt):
    """Time of a pre-training, more with each attempt; what an attempt did is not lost."""
    return attempt * resources.pretraining_minutes(
        PRETRAININGS[wildcards.pretraining],
        gpu=config["resources"]["gpu"],
        threads=config["resources"]["threads"],
    )


def last_of(name):
    """(group, model) of the last checkpoint of each group of a series."""
    last = {}
    for member in sorted(MEMBERS, key=lambda member: member["position"]):
        if member["series"] == name:
            last[member["group"]] = member["model"]
    return sorted(last.items())
