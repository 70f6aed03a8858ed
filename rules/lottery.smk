# Lottery tickets: one job per round of iterative magnitude pruning. Then how alike masks are, and what a ticket gains.
localrules:
    differences,
    plot_difference,
    plot_similarity,


TICKETS = chains.tickets(JOBS, config["lottery"]["share"])
TICKET = "results/tickets/" + chains.TICKET
CHAINED = sorted({(model, task) for model, task, _, _ in TICKETS})
LOTTERY = (
    [
        "results/tables/similarity.parquet",
        "results/tables/differences.parquet",
        *(f"results/figures/differences/{model}/{task}.svg" for model, task in CHAINED),
        *expand(
            "results/figures/similarity/{model}.svg",
            model=sorted({model for model, _ in CHAINED}),
        ),
    ]
    if TICKETS
    else []
)


def previous_ticket(wildcards):
    """The mask that a round starts with; the first has none."""
    before = chains.previous(wildcards.sparsity, config["lottery"]["share"])
    return TICKET.format(**{**wildcards, "sparsity": before}) if before else []


def tickets_of(wildcards):
    """The tickets that a run of prune_eval applies, level by level; only pattern lth has any."""
    if wildcards.pattern != chains.PATTERN:
        return []
    return [
        TICKET.format(**{**wildcards, "sparsity": name})
        for name in wildcards.sparsity.split("+")
    ]


# A mask may pass 1 MB, above which Snakemake compares times instead of contents. So its time is ignored, and its
# SHA-256 is an input beside it wherever the mask is.
def with_suffix(paths, suffix):
    """Ticket paths with a suffix, for a function that gives one, several or none."""

    def find(wildcards):
        found = paths(wildcards)
        return (
            f"{found}{suffix}"
            if isinstance(found, str)
            else [f"{path}{suffix}" for path in found]
        )

    return find


rule ticket:
    input:
        code=lambda wildcards: task_program(wildcards, "ticket"),
        manifest="results/checkpoints/{model}/manifest.json",
        data=lambda wildcards: f"results/datasets/{TASKS[wildcards.task]['dataset']}/manifest.json",
        previous=ancient(with_suffix(previous_ticket, ".safetensors")),
        previous_digest=with_suffix(previous_ticket, ".sha256"),
    output:
        ticket=f"{TICKET}.safetensors",
        digest=f"{TICKET}.sha256",
    log:
        f"results/logs/ticket/{chains.TICKET}.log",
    benchmark:
        f"results/benchmarks/ticket/{chains.TICKET}.tsv"
    wildcard_constraints:
        sparsity=r"[0-9]\.[0-9]{3}",
    conda:
        "../envs/evaluate.yaml"
    threads: config["resources"]["threads"]
    resources:
        gpu=config["resources"]["gpu"],
        mem_mb=run_mem_mb,
        runtime=run_minutes,
    params:
        settings=run_settings,
        share=config["lottery"]["share"],
        round=lambda wildcards: len(
            chains.rounds(wildcards.sparsity, config["lottery"]["share"])
        ),
        threads=config["resources"]["threads"],
    shell:
        "python {input.code[0]} --model {wildcards.model} --task {wildcards.task} --seed {wildcards.seed} "
        "--sparsity {wildcards.sparsity} --round {params.round} --share {params.share} --settings {params.settings:q} "
        "--manifest {input.manifest} --data {input.data} --previous {input.previous} --threads {params.threads} "
        "--out {output.ticket} --digest {output.digest} 2>&1 | tee {log}"
