# Read and check the configuration, constrain the wildcards, name the input and resource functions.
import json
import re
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(Path(workflow.basedir) / "workflow/scripts"))
from essential_sparsity import codefiles, patterns
from essential_sparsity.study import (
    configuration,
    grid,
    iterations,
    references,
    resources,
    revisions,
    rounds,
    series,
)

try:
    configuration.check_config(
        config, "the configuration (config/config.yaml, --configfile and --config)"
    )
    TABLES = series.read(config)
    MODELS, TASKS, PACKAGES = TABLES.models, TABLES.tasks, TABLES.packages
    PRETRAININGS = TABLES.pretrainings
    config["grid"] = series.expand_blocks(config["grid"], TABLES.members)
    MEMBERS = series.studied(config, MODELS)
    MASK_LEVELS = series.mask_levels(config)
    grid.validate(config, MODELS, TASKS, "the configuration")
    iterations.check(config, TASKS, "the configuration")
    REFERENCES = references.read(config, MODELS, TASKS)
    ROUNDS = rounds.read() if "refine" in config else []
except configuration.ConfigError as error:
    raise WorkflowError(str(error)) from None

LEVELS_PER_JOB = {task: row["levels_per_job"] for task, row in TASKS.items()}
JOBS = grid.expand(config["grid"], LEVELS_PER_JOB, ROUNDS)
DATASETS = {row["dataset"]: row for row in TASKS.values()}
CURVES = sorted({(job.model, job.task) for job in JOBS})
RUN_FILES = [f"results/runs/{job.path}.parquet" for job in JOBS]
ITEM_FILES = [f"results/items/{job.path}.parquet" for job in JOBS]
USED_MODELS = sorted({job.model for job in JOBS})
STUDIED = sorted({member["series"] for member in MEMBERS})
LINES = series.lines(MEMBERS) if MASK_LEVELS else {}  # whose neighbours are compared
NEIGHBOURED = sorted({line[0]["series"] for line in LINES.values()})
MEMBER_LOSSES = series.losses(MEMBERS, MODELS)
USED_DATASETS = sorted({TASKS[job.task]["dataset"] for job in JOBS})
try:
    LOCKED = revisions.read(config["revisions"])
    members = [member["model"] for member in MEMBERS]
    revisions.apply_(
        MODELS, {*USED_MODELS, *members}, "model", LOCKED, config["models"]
    )
    revisions.apply_(DATASETS, USED_DATASETS, "dataset", LOCKED, config["tasks"])
except configuration.ConfigError as error:
    raise WorkflowError(str(error)) from None
SHARE = config["lottery"]["share"]
TICKETS = iterations.tickets(JOBS, SHARE)
CHAINED = sorted({(model, task) for model, task, _, _ in TICKETS})
CHAINED_MODELS = sorted({model for model, _ in CHAINED})
TICKET = f"results/tickets/{iterations.TICKET}"
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
    line="|".join(map(re.escape, LINES)) or "none",
    pattern=patterns.expression(),
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
