# Named functions of resources: what a job asks for, worked out by the package from the tables (REQUESTS).


def pretraining_minutes(wildcards, attempt):
    """Time of a pre-training, more with each attempt; what an attempt did is not lost."""
    need = REQUESTS.pretraining(wildcards.pretraining)
    return REQUESTS.minutes(need, attempt)


def pretraining_mem_mb(wildcards, attempt):
    """Memory of a pre-training, more with each attempt."""
    need = REQUESTS.pretraining(wildcards.pretraining)
    return REQUESTS.mem_mb(need, attempt)


def run_need(wildcards):
    """What a run, or an iteration of a ticket, is expected to take."""
    levels = wildcards.sparsity.count("+") + 1
    return REQUESTS.run(
        wildcards.model, wildcards.task, levels, wildcards.get("pattern") or ""
    )


def at_most(cap, amount):
    """A resource that grows with each attempt, up to the cap of the configuration; `amount`: a number, or of wildcards."""

    def grown(wildcards, attempt):
        first = amount(wildcards) if callable(amount) else amount
        return REQUESTS.within(attempt * int(first), cap)

    return grown


@per_run
def run_gpus(wildcards):
    """GPUs of a job."""
    return REQUESTS.cards(wildcards.model, wildcards.task)


@per_run
def run_mem_mb(wildcards, attempt):
    """Memory of the model and the task, more with each attempt."""
    return REQUESTS.mem_mb(run_need(wildcards), attempt)


@per_run
def run_minutes(wildcards, attempt):
    """Time of the levels of one job, more with each attempt."""
    return REQUESTS.minutes(run_need(wildcards), attempt)


def knees_mem_mb(wildcards):
    """Memory of fitting the curves of a model and task."""
    return REQUESTS.fitting(wildcards.task, STUDY.jobs_of(**wildcards)).host_mb


def knees_minutes(wildcards):
    """Time of fitting the curves of a model and task."""
    return REQUESTS.fitting(wildcards.task, STUDY.jobs_of(**wildcards)).minutes
