# Runs: the dense one first where it can be compared with what is known, then the sparse ones.
localrules:
    check_dense,


# Prune, evaluate: the expensive rule. One job walks the levels of its path token for one model, task, pattern and seed.
# Its work folder is no output, which Snakemake would delete when the job fails: fine-tuning goes on from there.
rule prune_eval:
    input:
        code=task_program,
        schema=schema("runs", "items"),
        manifest="results/checkpoints/{model}/manifest.json",
        data=lambda wildcards: f"results/datasets/{TASKS[wildcards.task]['dataset']}/manifest.json",
        tickets=ancient(lambda wildcards: tickets_of_run(wildcards, ".safetensors")),
        # What it says is not part of a result: a reference that is reworded re-runs nothing.
        dense=ancient(dense_checked),
        ticket_digests=lambda wildcards: tickets_of_run(wildcards, ".sha256"),
    output:
        runs=f"results/runs/{RUN}.parquet",
        per_item=f"results/items/{RUN}.parquet",
    log:
        f"results/logs/prune_eval/{RUN}.log",
    benchmark:
        f"results/benchmarks/prune_eval/{RUN}.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: config["resources"]["threads"]
    resources:
        gpu=config["resources"]["gpu"],
        mem_mb=run_mem_mb,
        runtime=run_minutes,
    params:
        settings=run_settings,
        work=f"results/work/prune_eval/{RUN}",
        tokens="results/tokens/{task}",
        threads=config["resources"]["threads"],
    shell:
        "python {input.code[0]} --model {wildcards.model} --task {wildcards.task} --pattern {wildcards.pattern} "
        "--sparsities {wildcards.sparsity} --seed {wildcards.seed} --settings {params.settings:q} "
        "--manifest {input.manifest} --data {input.data} --tickets {input.tickets} --threads {params.threads} "
        "--work {params.work} --tokens {params.tokens} --runs {output.runs} --items {output.per_item} 2>&1 | tee {log}"


# A disagreement fails, and so stops what waits for it. `update` keeps the comparison before it: finished runs stay.
rule check_dense:
    input:
        code=program("check_dense"),
        schema=schema("runs"),
        runs="results/runs/{model}/{task}/dense/0.000/seed{seed}.parquet",
    output:
        compared=update(DENSE),
    log:
        "results/logs/check_dense/{model}/{task}/seed{seed}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        expected=lambda wildcards: json.dumps(
            REFERENCES[wildcards.model, wildcards.task]
        ),
        disagreement=config.get("dense_check", "stop"),
    message:
        "Comparing dense {wildcards.model} on {wildcards.task}, seed {wildcards.seed}, with its reference"
    shell:
        "python {input.code[0]} --runs {input.runs} --place '{wildcards.model} {wildcards.task} seed {wildcards.seed}' "
        "--expected {params.expected:q} --disagreement {params.disagreement} --out {output.compared} 2>&1 | tee {log}"
