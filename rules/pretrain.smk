# Pre-training from scratch with saved checkpoints. A training that was killed goes on from results/pretraining/…/state.
PRETRAINED = "results/pretraining/{pretraining}"
TOKENIZER = "results/pretraining/tokenizers/{dataset}-{size}/tokenizer.json"


rule train_tokenizer:
    input:
        code=program("train_tokenizer"),
        data="results/datasets/{dataset}/manifest.json",
    output:
        tokenizer=TOKENIZER,
        configuration="results/pretraining/tokenizers/{dataset}-{size}/tokenizer_config.json",
    log:
        "results/logs/train_tokenizer/{dataset}-{size}.log",
    wildcard_constraints:
        size="[0-9]+",
    conda:
        "../envs/evaluate.yaml"
    threads: config["resources"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 8000,
        runtime=lambda wildcards, attempt: attempt * 60,
    shell:
        "python {input.code[0]} --data {input.data} --size {wildcards.size} --out {output.tokenizer} 2>&1 | tee {log}"


rule pretrain:
    input:
        code=program("pretrain"),
        schema=schema("losses"),
        data=lambda wildcards: f"results/datasets/{PRETRAININGS[wildcards.pretraining]['dataset']}/manifest.json",
        tokenizer=tokenizer_of,
    output:
        losses=f"{PRETRAINED}/losses.parquet",
        manifest=f"{PRETRAINED}/manifest.json",
    log:
        "results/logs/pretrain/{pretraining}.log",
    benchmark:
        "results/benchmarks/pretrain/{pretraining}.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: config["resources"]["threads"]
    resources:
        gpu=config["resources"]["gpu"],
        mem_mb=lambda wildcards, attempt: attempt * 16000,
        runtime=pretraining_minutes,
    params:
        settings=pretraining_settings,
        threads=config["resources"]["threads"],
        # more than one GPU of a node: one process each
        launch=(
            f"accelerate launch --num_processes {config['resources']['gpu']} --num_machines 1 "
            "--mixed_precision no --dynamo_backend no"
            if config["resources"]["gpu"] > 1
            else "python"
        ),
    shell:
        "{params.launch} {input.code[0]} --pretraining {wildcards.pretraining} --settings {params.settings:q} "
        "--data {input.data} --tokenizer {input.tokenizer} --threads {params.threads} --losses {output.losses} "
        "--manifest {output.manifest} 2>&1 | tee {log}"


# The checkpoints of a pre-training are many and small: one job measures all that are not pruned.
for made, models in MADE.items():

    rule:
        name:
            f"measure_{made}"
        input:
            code=program("measure_pretraining"),
            schema=schema("spectrum", "fingerprints"),
            made=f"results/pretraining/{made}/manifest.json",
        output:
            manifests=expand("results/checkpoints/{model}/manifest.json", model=models),
            spectra=expand("results/spectra/{model}.parquet", model=models),
            fingerprints=expand("results/fingerprints/{model}.parquet", model=models),
        log:
            f"results/logs/measure_pretraining/{made}.log",
        benchmark:
            f"results/benchmarks/measure_pretraining/{made}.tsv"
        conda:
            "../envs/evaluate.yaml"
        threads: 2
        resources:
            mem_mb=lambda wildcards, attempt: attempt * 4000,
            runtime=lambda wildcards, attempt: attempt * 60,
        params:
            models=json.dumps(
                {model: json.loads(source_settings(MODELS[model])) for model in models}
            ),
        shell:
            "python {input.code[0]} --models {params.models:q} --results results 2>&1 | tee {log}"
