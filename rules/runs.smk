# Runs and lottery tickets: prune, evaluate. Where a dense value is known, the dense run comes first and must agree.


# The expensive rule. One job walks the levels of its path token for one model, task, pattern and seed. Its work folder is
# no output, which Snakemake would delete when the job fails: fine-tuning goes on from there. `update`: a run that is there
# and made of the same is taken as it is.
rule prune_eval:
    input:
        manifest=f"{STORE}/checkpoints/{{model}}/manifest.json",
        data=dataset_of,
        calibration=calibration_of,
        dense=dense_first,
        # A mask may pass 1 MB, above which Snakemake compares times instead of contents: its time is ignored, and its
        # SHA-256, of the same job, stands beside it.
        tickets=ancient(tickets_of_run(".safetensors")),
        ticket_digests=tickets_of_run(".sha256"),
    output:
        runs=update(f"{STORE}/runs/{RUN}.parquet"),
        per_item=update(f"{STORE}/items/{RUN}.parquet"),
    log:
        f"{STORE}/logs/prune_eval/{RUN}.log",
    benchmark:
        f"{STORE}/benchmarks/prune_eval/{RUN}.tsv"
    conda:
        conda_file("evaluate")
    threads: CONFIG["resources"]["threads"]
    resources:
        gpu=run_gpus,
        mem_mb=run_mem_mb,
        runtime=run_minutes,
    params:
        program=program("prune_eval"),
        code=run_code,
        settings=run_settings,
        permissions=run_permissions,
        calibration=lambda wildcards, input: (
            f"--calibration {input.calibration}" if input.calibration else ""
        ),
        work=f"{WORK}/prune_eval/{RUN}",
        tokens=f"{STORE}/tokens/{{task}}",
    shell:
        "python {params.program} --model {wildcards.model} --task {wildcards.task} --pattern {wildcards.pattern} "
        "--sparsities {wildcards.sparsity} --seed {wildcards.seed} --settings {params.settings:q} --code {params.code} "
        "--manifest {input.manifest} --data {input.data} --dense {input.dense} --tickets {input.tickets} "
        "{params.permissions:q} {params.calibration} --work {params.work} --tokens {params.tokens} "
        "--runs {output.runs} --items {output.per_item} 2>&1 | tee {log}"


# One job per iteration of magnitude pruning.
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
        conda_file("evaluate")
    threads: CONFIG["resources"]["threads"]
    resources:
        gpu=run_gpus,
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
