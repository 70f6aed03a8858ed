# Lottery tickets: one job per iteration of magnitude pruning. Then what a ticket gains.
localrules:
    measure_differences,
    plot_difference,


DIFFERENCE_FIGURES = [
    f"{OUT}/figures/differences/{model}/{task}.svg"
    for model, task in iterations.beside_one_shot(STUDY.jobs)
]


rule find_ticket:
    input:
        manifest=f"{STORE}/checkpoints/{{model}}/manifest.json",
        data=dataset_of,
        dense=dense_first,
        previous=ancient(lambda wildcards: ticket_before(wildcards, ".safetensors")),
        previous_digest=lambda wildcards: ticket_before(wildcards, ".sha256"),
    output:
        ticket=update(f"{TICKET}.safetensors"),
        digest=update(f"{TICKET}.sha256"),
    log:
        f"{STORE}/logs/find_ticket/{iterations.TICKET}.log",
    benchmark:
        f"{STORE}/benchmarks/find_ticket/{iterations.TICKET}.tsv"
    wildcard_constraints:
        sparsity=r"[0-9]\.[0-9]{3}",
    conda:
        "../envs/evaluate.yaml"
    threads: CONFIG["resources"]["threads"]
    resources:
        gpu=CONFIG["resources"]["gpu"],
        mem_mb=run_mem_mb,
        runtime=run_minutes,
    params:
        program=program("find_ticket"),
        code=lambda wildcards: STUDY.code("find_ticket", wildcards.task),
        settings=run_settings,
        permissions=run_permissions,
        share=STUDY.share,
        iteration=lambda wildcards: len(
            iterations.chain(wildcards.sparsity, STUDY.share)
        ),
        work=f"{WORK}/find_ticket/{iterations.TICKET}",
        tokens=f"{STORE}/tokens/{{task}}",
    shell:
        "python {params.program} --model {wildcards.model} --task {wildcards.task} --seed {wildcards.seed} "
        "--sparsity {wildcards.sparsity} --iteration {params.iteration} --share {params.share} "
        "--settings {params.settings:q} --code {params.code} --manifest {input.manifest} --data {input.data} "
        "--dense {input.dense} --previous {input.previous} {params.permissions:q} --work {params.work} "
        "--tokens {params.tokens} --out {output.ticket} --digest {output.digest} 2>&1 | tee {log}"


rule measure_differences:
    input:
        grid=f"{OUT}/grid.parquet",
        runs=f"{OUT}/tables/runs.parquet",
    output:
        table=f"{OUT}/tables/differences.parquet",
    log:
        f"{OUT}/logs/measure_differences.log",
    conda:
        "../envs/analyse.yaml"
    params:
        program=program("measure_differences"),
        code=code("measure_differences"),
    message:
        "Comparing lottery tickets and controls with one-shot pruning"
    shell:
        "python {params.program} --grid {input.grid} --runs {input.runs} --out {output.table} 2>&1 | tee {log}"


rule plot_difference:
    input:
        differences=f"{OUT}/tables/differences.parquet",
    output:
        figure=report(
            f"{OUT}/figures/differences/{{model}}/{{task}}.svg",
            caption="../workflow/report/difference.rst",
            category="Lottery tickets",
            labels={"model": "{model}", "shows": "gain on {task}"},
        ),
    log:
        f"{OUT}/logs/plot_difference/{{model}}/{{task}}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        program=program("plot_difference"),
        code=code("plot_difference"),
        looks=looks_of,
        labels=labels_of,
    message:
        "Drawing what tickets of {wildcards.model} gain on {wildcards.task}"
    shell:
        "python {params.program} --differences {input.differences} --model {wildcards.model} "
        "--task {wildcards.task} --labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"
