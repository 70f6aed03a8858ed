# The study that the configuration asks for, the wildcards' values, and the code that each rule depends on.
import json
import os
import signal
import sys
from pathlib import Path

from snakemake import jobs
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.settings.enums import RerunTrigger
from snakemake.settings.types import SharedFSUsage

sys.path.insert(0, str(ROOT / "workflow/scripts"))
from essential_sparsity import codefiles, files, patterns
from essential_sparsity.study import (
    attempts,
    claims,
    commands,
    configuration,
    deciding,
    environment,
    grid,
    heads,
    iterations,
    opening,
    panels,
    places,
    records,
    refinement,
    resources,
    series,
    stopping,
)

# Of a module, the workflow that uses it says what its configuration is.
BASES = [] if workflow.modifier.skip_configfile else [configuration.BASE]

try:
    if workflow.is_main_process:
        commands.check(sys.argv[1:])
    STUDY = opening.read(
        configuration.settled(
            config,
            [*filter(os.path.isfile, BASES), *workflow.overwrite_configfiles],
            workflow.config_settings.config or {},
        ),
        configuration.named(
            *map(str, workflow.overwrite_configfiles),
            *["--config"] * bool(workflow.config_settings.config),
        ),
        looking=workflow.is_main_process,
    )
    REQUESTS = resources.read(STUDY)
except configuration.ConfigError as error:
    raise WorkflowError(str(error)) from None

STORE, OUT, CONFIG = grid.STORE, STUDY.folder, STUDY.given
MODELS, TASKS, DATASETS = STUDY.models, STUDY.tasks, STUDY.datasets
WORK = f"{STORE}/work"  # what outlives a job that ends badly
RUN = grid.RUN
RUN_FILES = [f"{STORE}/runs/{job.path}.parquet" for job in STUDY.jobs]
ITEM_FILES = [f"{STORE}/items/{job.path}.parquet" for job in STUDY.jobs]
TICKET = f"{STORE}/tickets/{iterations.TICKET}"
SKIPPING = STUDY.skipping  # tables of what is there: no rule makes a run then
# What is not made anew first may be of something else than is asked for.
OF_OTHER = STUDY.of_other if SKIPPING else []
MEASURED = {model for models in STUDY.measured_only.values() for model in models}


def there(paths):
    """Files of the store that a table is made of: all of them, or those that are there where none is made."""
    return [path for path in paths if not SKIPPING or os.path.isfile(path)]


wildcard_constraints:
    model=grid.one_of(MODELS),
    task=grid.one_of(TASKS),
    dataset=grid.one_of(DATASETS),
    pretraining=grid.one_of(STUDY.pretrainings),
    training=grid.one_of(STUDY.trainings),
    series=grid.one_of(STUDY.studied),
    pattern=patterns.expression(),
    sparsity=r"[0-9]\.[0-9]{3}(\+[0-9]\.[0-9]{3})*",
    seed="[0-9]+",


# Snakemake throws away what a job computed when an input is newer than the clock of the job's node. Each job reads
# these lines on its node before it computes.
if ahead := codefiles.from_the_future(
    [
        *(f"{STORE}/checkpoints/{name}/manifest.json" for name in STUDY.used_models),
        *(f"{STORE}/datasets/{name}/manifest.json" for name in STUDY.used_datasets),
    ]
):
    raise WorkflowError(
        f"{ahead[0]} (and {len(ahead) - 1} more) has a modification time in the future of this machine's clock; jobs here "
        "would compute in vain. Set the clock right, or give the files the present time: "
        "find results -newermt now -exec touch {} +"
    )

# What no attempt can succeed with is told before any job.
if workflow.is_main_process and not SKIPPING:
    problems = resources.problems(STUDY, REQUESTS)
    for problem in problems:
        if not problem.fatal:
            print(f"warning: {problem.message}", file=sys.stderr)
    if fatal := [problem for problem in problems if problem.fatal]:
        raise WorkflowError(
            f"Jobs of {len(fatal)} kinds cannot be run as the configuration says:\n"
            + "\n".join(problem.message for problem in fatal)
        )

# Where runs alone are compared with the configuration, the rest is what Snakemake has recorded of it. (`--touch` records.)
if workflow.is_main_process and "--touch" not in sys.argv:
    if lost := records.lost(STUDY):
        print(f"warning: {records.advice(STUDY, lost)}", file=sys.stderr)


# Who is at work here, and which of its jobs are tried again.
HEAD = None
if workflow.is_main_process and not heads.idle(sys.argv[1:]):
    HEAD = heads.announce()
    stopping.listen(signal.SIGINT)
    attempts.limit(HEAD.path, jobs.Job, jobs.GroupJob)

# Without conda or containers, jobs compute with the interpreter that runs Snakemake: on nodes whatever PATH says, here also where
# PATH has none or another installation first (an environment that was never activated, `module load`). Its versions are those
# that envs/requirements.txt pins, or no job starts.
PINS = ROOT / "envs/requirements.txt"
OWN_PYTHON = not workflow.deployment_settings.deployment_method
if OWN_PYTHON and (workflow.remote_exec or not environment.is_first()):
    environment.come_first()
if OWN_PYTHON and workflow.remote_exec and (wrong := environment.differing(PINS)):
    raise WorkflowError(wrong)


def guard_interpreter():
    """Have jobs on other machines that share the environment say so, where they do not find it."""
    shared = workflow.storage_settings.shared_fs_usage
    if OWN_PYTHON and SharedFSUsage.SOFTWARE_DEPLOYMENT in shared:
        given = workflow.remote_execution_settings
        guard = environment.guard(sys.executable)
        given.precommand = " && ".join(filter(None, [given.precommand, guard]))


def warn_of_triggers():
    """Say that Snakemake was told to look at less than decides what has changed."""
    if not set(RerunTrigger) <= {*workflow.rerun_triggers}:
        print(
            "warning: --rerun-triggers (of the command line or a profile) keeps Snakemake from seeing what settings and code "
            "have changed: what an earlier configuration made passes for what is asked. Leave it out.",
            file=sys.stderr,
        )


def code(name):
    """A param: the digest of a program's code, computed when a job needs it."""
    return lambda wildcards: codefiles.digest(name)


def study_tables():
    """The tables that this study asks for, as their schemas say."""
    return STUDY.tables()
