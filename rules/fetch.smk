# Models and data -> small manifests. Local rules: compute nodes often have no network.
# All that a study reads from elsewhere, and nothing else: `make fetch`. Then it runs without a network.
rule fetch:
    input:
        [
            f"{STORE}/checkpoints/{model}/manifest.json"
            for model in STUDY.named_models
            if MODELS[model]["source"] != "pretraining"
        ],
        expand(
            f"{STORE}/datasets/{{dataset}}/manifest.json", dataset=STUDY.used_datasets
        ),
    localrule: True


rule fetch_model:
    input:
        made=made_here,
    output:
        manifest=f"{STORE}/checkpoints/{{model}}/manifest.json",
    log:
        f"{STORE}/logs/fetch_model/{{model}}.log",
    benchmark:
        f"{STORE}/benchmarks/fetch_model/{{model}}.tsv"
    wildcard_constraints:
        model=grid.one_of(model for model in MODELS if model not in MEASURED),
    localrule: True
    conda:
        conda_file("fetch")
    params:
        program=program("fetch_model"),
        code=code("fetch_model"),
        settings=lambda wildcards: STUDY.source(MODELS[wildcards.model]),
        pickle=pickle_of,
    message:
        "Fetching the model {wildcards.model}"
    shell:
        "python {params.program} --model {wildcards.model} --settings {params.settings:q} {params.pickle} "
        "--made {input.made} --manifest {output.manifest} 2>&1 | tee {log}"


rule fetch_dataset:
    output:
        manifest=report(
            f"{STORE}/datasets/{{dataset}}/manifest.json",
            caption="../workflow/report/data.rst",
            category="Data",
            labels={"data set": "{dataset}"},
        ),
    log:
        f"{STORE}/logs/fetch_dataset/{{dataset}}.log",
    benchmark:
        f"{STORE}/benchmarks/fetch_dataset/{{dataset}}.tsv"
    localrule: True
    conda:
        conda_file("fetch")
    params:
        program=program("fetch_dataset"),
        code=code("fetch_dataset"),
        settings=lambda wildcards: STUDY.source(DATASETS[wildcards.dataset]),
    message:
        "Fetching the data {wildcards.dataset}"
    shell:
        "python {params.program} --dataset {wildcards.dataset} --settings {params.settings:q} "
        "--manifest {output.manifest} 2>&1 | tee {log}"
