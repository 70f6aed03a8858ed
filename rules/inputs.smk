# Named functions of inputs, params and resources, in the order of the pipeline; Snakemake calls them per job.


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


DENSE = "results/dense/{model}/{task}/seed{seed}.json"


def task_program(wildcards, name="prune_eval"):
    """A program with the modules that it loads by name: those of the task's kind, of the pattern's score, of tickets.

    So editing another kind's code, or that of tickets, re-runs nothing here.
    """
    modules = [codefiles.task_module(TASKS[wildcards.task]["kind"])]
    if pattern := wildcards.get("pattern"):
        modules += patterns.find(pattern).modules
        if iterations.found_by_training(pattern):
            modules.append("essential_sparsity.pruning.tickets")
    return codefiles.program(f"workflow/scripts/{name}.py", *modules)


RUN_SETTINGS = "dataset kind protocol metrics eval_split held_out n_train n_eval epochs learning_rate batch_size max_length context windows positions suite shots image_size autocast".split()


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


def dense_checked(wildcards):
    """The comparison of the dense run with its reference, which runs of a (model, task) that has one wait for."""
    if (
        wildcards.get("pattern") == "dense"
        or (wildcards.model, wildcards.task) not in REFERENCES
    ):
        return []
    return DENSE.format(**wildcards)


def ticket_before(wildcards, suffix):
    """The mask with which an iteration starts, as input with this suffix; the first has none."""
    before = iterations.previous(wildcards.sparsity, SHARE)
    return TICKET.format(**{**wildcards, "sparsity": before}) + suffix if before else []


def tickets_of_run(wildcards, suffix):
    """The masks that a run of prune_eval applies, level by level; only those that training found are read."""
    levels = (
        wildcards.sparsity.split("+")
        if iterations.found_by_training(wildcards.pattern)
        else []
    )
    return [
        TICKET.format(**{**wildcards, "sparsity": name}) + suffix for name in levels
    ]


def tickets_compared(suffix):
    """The masks that the table of similarity compares, beside the one-shot masks."""
    wanted = {
        (job.model, job.task, job.seed, name)
        for job in JOBS
        if iterations.found_by_training(job.pattern)
        for name in job.levels
    }
    return [
        f"results/tickets/{iterations.path(ticket)}{suffix}"
        for ticket in sorted(wanted)
    ]


def files_of_line(pattern):
    """An input function: this file of each checkpoint of the training that the wildcard `line` names."""
    return lambda wildcards: [
        pattern.format(model=member["model"]) for member in LINES[wildcards.line]
    ]


def shared_tickets(line):
    """The tickets of a training's checkpoints that two of them or more have."""
    return iterations.of_several(JOBS, [member["model"] for member in LINES[line]])


def tickets_of_line(suffix):
    """An input function: `shared_tickets` of the wildcard `line`, with this suffix."""
    return lambda wildcards: [
        f"results/tickets/{iterations.path(ticket)}{suffix}"
        for ticket in shared_tickets(wildcards.line)
    ]


def pruned_levels():
    """Model -> pattern -> sparsities whose pruned weights are counted per matrix, as JSON: neither tasks nor seeds matter."""
    levels = {
        model: {"global": {grid.level(config["figures"]["layers_sparsity"])}}
        for model in USED_MODELS
    }
    for job in JOBS:
        if job.pattern != "dense" and patterns.find(job.pattern).in_spectrum:
            levels[job.model].setdefault(job.pattern, set()).update(job.levels)
    return json.dumps(levels, default=sorted, sort_keys=True)
