# Models and data -> small manifests. Local rules: compute nodes often have no network.
localrules:
    fetch_model,
    fetch_dataset,


rule fetch_model:
    input:
        code=program("fetch_model"),
        made=made_here,
    output:
        manifest="results/checkpoints/{model}/manifest.json",
    log:
        "results/logs/fetch_model/{model}.log",
    benchmark:
        "results/benchmarks/fetch_model/{model}.tsv"
    wildcard_constraints:
        model=FETCHED,
    conda:
        "../envs/fetch.yaml"
    params:
        settings=lambda wildcards: source_settings(MODELS[wildcards.model]),
    message:
        "Fetching the model {wildcards.model}"
    shell:
        "python {input.code[0]} --model {wildcards.model} --settings {params.settings:q} "
        "--manifest {output.manifest} 2>&1 | tee {log}"


rule fetch_dataset:
    input:
        code=program("fetch_dataset"),
    output:
        manifest="results/datasets/{dataset}/manifest.json",
    log:
        "results/logs/fetch_dataset/{dataset}.log",
    benchmark:
        "results/benchmarks/fetch_dataset/{dataset}.tsv"
    conda:
        "../envs/fetch.yaml"
    params:
        settings=lambda wildcards: source_settings(DATASETS[wildcards.dataset]),
    message:
        "Fetching the data {wildcards.dataset}"
    shell:
        "python {input.code[0]} --dataset {wildcards.dataset} --settings {params.settings:q} "
        "--manifest {output.manifest} 2>&1 | tee {log}"
