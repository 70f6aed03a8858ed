# Pre-training from scratch with saved checkpoints. A training that was killed goes on from results/store/pretraining/…/state.
PRETRAINED = f"{STORE}/pretraining/{{pretraining}}"
TOKENIZER = f"{STORE}/pretraining/tokenizers/{{dataset}}-{{size}}/tokenizer.json"


rule train_tokenizer:
    input:
        data=f"{STORE}/datasets/{{dataset}}/manifest.json",
    output:
        tokenizer=TOKENIZER,
        configuration=f"{STORE}/pretraining/tokenizers/{{dataset}}-{{size}}/tokenizer_config.json",
    log:
        f"{STORE}/logs/train_tokenizer/{{dataset}}-{{size}}.log",
    wildcard_constraints:
        size="[0-9]+",
    conda:
        conda_file("evaluate")
    threads: CONFIG["resources"]["threads"]
    resources:
        mem_mb=at_most("max_mem_mb", 8000),
        runtime=at_most("max_minutes", 60),
    params:
        program=program("train_tokenizer"),
        code=code("train_tokenizer"),
    shell:
        "python {params.program} --data {input.data} --size {wildcards.size} --out {output.tokenizer} 2>&1 | tee {log}"


rule pretrain:
    input:
        data=pretraining_data,
        tokenizer=tokenizer_of,
    output:
        losses=f"{PRETRAINED}/losses.parquet",
        manifest=f"{PRETRAINED}/manifest.json",
    log:
        f"{STORE}/logs/pretrain/{{pretraining}}.log",
    benchmark:
        f"{STORE}/benchmarks/pretrain/{{pretraining}}.tsv"
    conda:
        conda_file("evaluate")
    threads: CONFIG["resources"]["threads"]
    resources:
        gpu=REQUESTS.gpus,
        mem_mb=pretraining_mem_mb,
        runtime=pretraining_minutes,
    params:
        program=program("pretrain"),
        code=code("pretrain"),
        settings=pretraining_settings,
        threads=CONFIG["resources"]["threads"],
        device=device_of,
        # More than one GPU of a node: one process each. Said in full: what is not, accelerate takes from a file of the user's
        # (`accelerate config`), such as FSDP, or one process alone. Port 0: any that is free.
        launch=(
            f"accelerate launch --multi_gpu --num_processes {REQUESTS.gpus} --num_machines 1 "
            "--gpu_ids all --main_process_port 0 --mixed_precision no --dynamo_backend no"
            if REQUESTS.gpus > 1
            else "python"
        ),
    shell:
        "{params.launch} {params.program} --pretraining {wildcards.pretraining} --settings {params.settings:q} "
        "--code {params.code} --data {input.data} --tokenizer {input.tokenizer} --threads {params.threads} --device {params.device} "
        "--losses {output.losses} --manifest {output.manifest} 2>&1 | tee {log}"


# The checkpoints of a pre-training are many and small: one job measures all that are not pruned.
for made, models in STUDY.measured_only.items():

    rule:
        name:
            f"measure_pretraining_{made}"
        input:
            made=f"{STORE}/pretraining/{made}/manifest.json",
        output:
            manifests=expand(
                f"{STORE}/checkpoints/{{model}}/manifest.json", model=models
            ),
            spectra=expand(f"{STORE}/spectra/{{model}}.parquet", model=models),
            fingerprints=expand(f"{STORE}/fingerprints/{{model}}.parquet", model=models),
        log:
            f"{STORE}/logs/measure_pretraining/{made}.log",
        benchmark:
            f"{STORE}/benchmarks/measure_pretraining/{made}.tsv"
        conda:
            conda_file("evaluate")
        threads: 2
        resources:
            mem_mb=at_most("max_mem_mb", 4000),
            runtime=at_most("max_minutes", 60),
        params:
            program=program("measure_pretraining"),
            code=code("measure_pretraining"),
            models=lambda wildcards, made=made, models=models: digest_of(
                [STUDY.source(MODELS[model]) for model in models]
            ),
            made=made,
            study=study_json,
            store=STORE,
        shell:
            "python {params.program} --study {params.study:q} --pretraining {params.made} --store {params.store} "
            "2>&1 | tee {log}"
