# Inputs and params of a study's tables, figures and pages: named functions, which Snakemake calls per job.


def runs_collected(wildcards):
    """The files of the runs that are tabulated: all of the grid, or those that are there."""
    return run_files(STUDY.jobs)


def runs_of_curve(wildcards):
    """The same of one model and task."""
    return run_files(STUDY.jobs_of(**wildcards))


def made_of_curve(wildcards):
    """What the runs of a model and task must have been made of: what is there, where nothing is made."""
    return there(STUDY.made_of(STUDY.jobs_of(**wildcards)))


def of_other_curve(wildcards):
    """Those of `made_of_curve` that are of something else than is asked for."""
    return sorted({*made_of_curve(wildcards)} & {*OF_OTHER})


def run_files(jobs):
    """The files of the runs of jobs: of all of them, or of those that are there where none is computed."""
    jobs = STUDY.stored(jobs) if SKIPPING else jobs
    return [f"{STORE}/runs/{job.path}.parquet" for job in jobs]


def missing_runs(wildcards, output):
    """What runs do that are not there."""
    return "skip" if SKIPPING else "stop"


def waiting_for(wildcards):
    """The models that are checkpoints of a pre-training made here and are not there, each with its pre-training."""
    made = series.made_here(MODELS, STUDY.used_models) if SKIPPING else {}
    return [
        f"{model}={name}"
        for name, models in made.items()
        for model in models
        if not os.path.isfile(f"{STORE}/checkpoints/{model}/manifest.json")
    ]


def epsilon_of(wildcards):
    """The tolerance of a task that has its own, as an option."""
    found = TASKS[wildcards.task]["epsilon"]
    return f"--epsilon {found}" if found else ""


def models_of_other(wildcards):
    """The models whose checkpoint or spectrum in the store is of something else than is asked for."""
    return [
        model
        for model in STUDY.used_models
        if {
            f"{STORE}/checkpoints/{model}/manifest.json",
            f"{STORE}/spectra/{model}.parquet",
        }
        & {*OF_OTHER}
    ]


def spectra_counted(wildcards):
    """The weights of the models of which layers are counted: of all of them, or of those that are there as they are asked for."""
    models = [
        model for model in STUDY.used_models if model not in models_of_other(wildcards)
    ]
    return there(f"{STORE}/spectra/{model}.parquet" for model in models)


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
