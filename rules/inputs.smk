# Named functions of inputs and params, in the order of the pipeline; Snakemake calls them per job.
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
    row = STUDY.pretrainings[wildcards.pretraining]
    return json.dumps(
        {key: row[key] for key in row if key not in ("label", "note")}, sort_keys=True
    )


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


def runs_collected(wildcards):
    """The files of the runs that are tabulated: all of the grid, or those that are there."""
    return run_files(STUDY.jobs)


def runs_of_curve(wildcards):
    """The same of one model and task."""
    return run_files(STUDY.jobs_of(**wildcards))


def run_files(jobs):
    """The files of the runs of jobs: of all of them, or of those that are there where none is computed."""
    jobs = STUDY.stored(jobs) if SKIPPING else jobs
    return [f"{STORE}/runs/{job.path}.parquet" for job in jobs]


def missing_runs(wildcards, output):
    """What runs do that are not there."""
    return "skip" if SKIPPING else "stop"


def epsilon_of(wildcards):
    """The tolerance of a task that has its own, as an option."""
    found = TASKS[wildcards.task]["epsilon"]
    return f"--epsilon {found}" if found else ""


def missing_spectra(wildcards, output):
    """What models do whose weights were not measured, as an option."""
    return "--missing skip" if SKIPPING else ""


def tickets_compared(suffix):
    """The masks that the table of similarity compares, beside the one-shot masks."""
    return [
        f"{STORE}/tickets/{iterations.path(ticket)}{suffix}"
        for ticket in STUDY.compared_tickets()
    ]


def files_of_training(pattern):
    """An input function: this file of each checkpoint of the training that the wildcard `training` names."""
    return lambda wildcards: [
        pattern.format(model=member["model"])
        for member in STUDY.trainings[wildcards.training]
    ]


def tickets_of_training(suffix):
    """An input function: the tickets that two checkpoints or more of a training have, with this suffix."""
    return lambda wildcards: [
        f"{STORE}/tickets/{iterations.path(ticket)}{suffix}"
        for ticket in STUDY.shared_tickets(wildcards.training)
    ]


def trainings_of(wildcards):
    """The trainings of the series that the wildcard `series` names."""
    return [
        name
        for name, members in STUDY.trainings.items()
        if members[0]["series"] == wildcards.series
    ]


def labels_of(wildcards):
    """What figures call a model and a task, as JSON."""
    return json.dumps(
        {
            "model": MODELS[wildcards.model]["label"],
            "task": TASKS[wildcards.task]["label"],
        }
    )


def looks_of(wildcards):
    """How figures show the patterns of a curve: the registry is no code, so what of it is drawn is a param."""
    return digest_of(
        [
            patterns.looks(patterns.find(name))
            for name in STUDY.patterns[wildcards.model, wildcards.task]
        ]
    )


def refinement_of(key, default):
    """A value of the configuration's `refine`, which may be switched off."""
    return (CONFIG.get("refine") or {}).get(key, default)


def study_json(wildcards, output):
    """The configuration, for programs that work out the study themselves; what of it counts is another param."""
    return json.dumps(STUDY.given)


def digest_of(*values):
    """SHA-256 of values as JSON: what a program works out itself, as a param that Snakemake compares."""
    return files.sha256_text(json.dumps(values, sort_keys=True))
