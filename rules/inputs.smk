# Inputs and params of what all studies share: pre-trainings, runs and tickets. Named functions, which Snakemake calls per job.
import inspect


def per_run(function):
    """Remember the signature of a function: Snakemake asks for it three times for each call, and has it worked out anew."""
    function.__signature__ = inspect.signature(function)
    return function


def made_here(wildcards):
    """The manifest of the pre-training that a checkpoint comes from; none for checkpoints that are fetched."""
    row = MODELS[wildcards.model]
    if row["source"] != "pretraining":
        return []
    return f"{STORE}/pretraining/{row['id']}/manifest.json"


def pretraining_data(wildcards):
    """The manifest of the data of a pre-training."""
    dataset = STUDY.pretrainings[wildcards.pretraining]["dataset"]
    return f"{STORE}/datasets/{dataset}/manifest.json"


def tokenizer_of(wildcards):
    """The tokenizer of a pre-training on text."""
    row = STUDY.pretrainings[wildcards.pretraining]
    if row["objective"] != "masked-lm":
        return []
    return f"{STORE}/pretraining/tokenizers/{row['dataset']}-{row['vocabulary']}/tokenizer.json"


def pretraining_settings(wildcards):
    """What a pre-training depends on, as JSON."""
    return deciding.pretraining(STUDY.pretrainings[wildcards.pretraining])


@per_run
def dataset_of(wildcards):
    """The manifest of a task's data."""
    return f"{STORE}/datasets/{TASKS[wildcards.task]['dataset']}/manifest.json"


@per_run
def calibration_of(wildcards):
    """The manifest of the data that a pattern is calibrated on; most need none."""
    return STUDY.calibration_data(wildcards.model, wildcards.pattern) or []


@per_run
def run_code(wildcards):
    """The code of an evaluation: its program's, its kind's and its pattern's, so that another kind's re-runs nothing."""
    return STUDY.code("prune_eval", wildcards.task, wildcards.pattern)


@per_run
def run_settings(wildcards):
    """What a run's numbers depend on beside its wildcards, as JSON."""
    calibration = None
    if "pattern" in wildcards.keys():  # an iteration of a ticket has none
        calibration = STUDY.calibration(wildcards.model, wildcards.pattern)
    return STUDY.settings(wildcards.task, calibration)


# Params that decide no number take `output`, so that Snakemake does not compare them.
def device_of(wildcards, output):
    """What to compute on; the type of device that it comes to stands in each run's row."""
    return CONFIG["resources"]["device"]


def pickle_of(wildcards, output):
    """The permission to read a pickle, as an option."""
    return "--allow-pickle" if MODELS[wildcards.model]["allow_pickle"] else ""


@per_run
def run_permissions(wildcards, output):
    """What a run may do and what it is told about, which decides no number: options of the program."""
    row = TASKS[wildcards.task]
    found = ["--device", device_of(wildcards, output)]
    found += filter(None, [pickle_of(wildcards, output)])
    if row["metrics"]:
        found += ["--metrics", row["metrics"]]
    if (gpus := run_gpus(wildcards)) > 1:
        found += ["--gpus", str(gpus)]
    if (wildcards.model, wildcards.task) in STUDY.expected:
        found += ["--references", CONFIG["references"]]
        found += ["--disagreement", CONFIG.get("dense_check", "stop")]
    return found


@per_run
def dense_first(wildcards):
    """The dense run of a curve, before all others: where it has to agree with a reference, they start when it does.

    It is an input whether there is a reference or not: so a first reference, or a study without any, re-runs nothing.
    """
    if wildcards.get("pattern") == "dense":
        return []
    dense = {**wildcards, "pattern": "dense", "sparsity": grid.level(0)}
    return f"{STORE}/runs/{RUN}.parquet".format(**dense)


def ticket_before(wildcards, suffix):
    """The mask with which an iteration starts, as input with this suffix; the first has none."""
    before = iterations.previous(wildcards.sparsity, STUDY.share)
    return TICKET.format(**{**wildcards, "sparsity": before}) + suffix if before else []


def tickets_of_run(suffix):
    """An input function: the masks that a run applies, level by level, with this suffix; only lottery tickets have any."""

    @per_run
    def tickets(wildcards):
        if not iterations.found_by_training(wildcards.pattern):
            return []
        return [
            TICKET.format(**{**wildcards, "sparsity": name}) + suffix
            for name in wildcards.sparsity.split("+")
        ]

    return tickets
