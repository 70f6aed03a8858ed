# Lottery tickets: one job per iteration of iterative magnitude pruning. Then what a ticket gains.
localrules:
    differences,
    plot_difference,


DIFFERENCE_FIGURES = [
    f"results/figures/differences/{model}/{task}.svg"
    for model, task in iterations.beside_one_shot(JOBS)
]


# A mask may pass 1 MB, above which Snakemake compares times instead of contents. So its time is ignored, and its
# SHA-256 is an input beside it wherever the mask is.
rule ticket:
    input:
        code=lambda wildcards: task_program(wildcards, "ticket"),
        manifest="results/checkpoints/{model}/manifest.json",
        data=lambda wildcards: f"results/datasets/{TASKS[wildcards.task]['dataset']}/manifest.json",
        dense=ancient(dense_checked),
        previous=ancient(lambda wildcards: ticket_before(wildcards, ".safetensors")),
        previous_digest=lambda wildcards: ticket_before(wildcards, ".sha256"),
    output:
        ticket=f"{TICKET}.safetensors",
        digest=f"{TICKET}.sha256",
    log:
        f"results/logs/ticket/{iterations.TICKET}.log",
    benchmark:
        f"results/benchmarks/ticket/{iterations.TICKET}.tsv"
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
        share=SHARE,
        iteration=lambda wildcards: len(iterations.chain(wildcards.sparsity, SHARE)),
        work=f"results/work/ticket/{iterations.TICKET}",
        tokens="results/tokens/{task}",
        threads=config["resources"]["threads"],
    shell:
        "python {input.code[0]} --model {wildcards.model} --task {wildcards.task} --seed {wildcards.seed} "
        "--sparsity {wildcards.sparsity} --iteration {params.iteration} --share {params.share} --settings {params.settings:q} "
        "--manifest {input.manifest} --data {input.data} --previous {input.previous} --threads {params.threads} "
        "--work {params.work} --tokens {params.tokens} --out {output.ticket} --digest {output.digest} 2>&1 | tee {log}"


rule differences:
    input:
        code=program("differences"),
        schema=schema("runs", "items", "differences"),
        runs="results/tables/runs.parquet",
        per_item=[
            f"results/items/{job.path}.parquet"
            for job in JOBS
            if (job.model, job.task) in CHAINED
        ],
    output:
        table="results/tables/differences.parquet",
    log:
        "results/logs/differences.log",
    conda:
        "../envs/analyse.yaml"
    params:
        grid=grid_json(),
    message:
        "Comparing lottery tickets and controls with one-shot pruning"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --runs {input.runs} --items results/items "
        "--out {output.table} 2>&1 | tee {log}"


rule plot_difference:
    input:
        code=program("plot_difference"),
        schema=schema("differences"),
        differences="results/tables/differences.parquet",
    output:
        figure=report(
            "results/figures/differences/{model}/{task}.svg",
            caption="../workflow/report/difference.rst",
            category="Lottery tickets",
            labels={"model": "{model}", "shows": "gain on {task}"},
        ),
    log:
        "results/logs/plot_difference/{model}/{task}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        labels=lambda wildcards: json.dumps(
            {
                "model": MODELS[wildcards.model]["label"],
                "task": TASKS[wildcards.task]["label"],
            }
        ),
    message:
        "Drawing what tickets of {wildcards.model} gain on {wildcards.task}"
    shell:
        "python {input.code[0]} --differences {input.differences} --model {wildcards.model} "
        "--task {wildcards.task} --labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"
