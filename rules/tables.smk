# Runs -> results/tables. The programs expand the grid themselves: 10,000 paths do not fit on a command line.
localrules:
    collect_runs,
    collect_costs,
    layers,


rule collect_runs:
    input:
        code=program("collect_runs"),
        schema=schema("runs"),
        runs=[f"results/runs/{job.path}.parquet" for job in JOBS],
    output:
        table="results/tables/runs.parquet",
    log:
        "results/logs/collect_runs.log",
    conda:
        "../envs/analyse.yaml"
    params:
        grid=grid_json(),
    message:
        "Collecting the runs"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --runs results/runs --out {output.table} 2>&1 | tee {log}"


rule collect_costs:
    input:
        code=program("collect_costs"),
        schema=schema("costs"),
        runs=[f"results/benchmarks/prune_eval/{job.path}.tsv" for job in JOBS],
        models=expand(
            "results/benchmarks/{rule}/{model}.tsv",
            rule=["fetch_model", "spectrum"],
            model=USED_MODELS,
        ),
        data=expand(
            "results/benchmarks/fetch_dataset/{dataset}.tsv", dataset=USED_DATASETS
        ),
    output:
        table="results/tables/costs.parquet",
    log:
        "results/logs/collect_costs.log",
    conda:
        "../envs/analyse.yaml"
    params:
        grid=grid_json(),
    message:
        "Collecting the costs"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --benchmarks results/benchmarks "
        "--others {input.models} {input.data} --out {output.table} 2>&1 | tee {log}"


rule layers:
    input:
        code=program("layers"),
        schema=schema("spectrum", "layers"),
        spectra=expand("results/spectra/{model}.parquet", model=USED_MODELS),
    output:
        table="results/tables/layers.parquet",
    log:
        "results/logs/layers.log",
    conda:
        "../envs/evaluate.yaml"
    params:
        grid=grid_json(),
        drawn=LAYER_SPARSITY,
    message:
        "Counting where the pruned weights sit"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --spectra results/spectra --drawn {params.drawn} --out {output.table} 2>&1 | tee {log}"
