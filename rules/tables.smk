# Runs -> results/tables. The programs expand the grid themselves: 10,000 paths do not fit on a command line.
localrules:
    collect_runs,
    collect_costs,
    layers,


rule collect_runs:
    input:
        code=program("collect_runs"),
        schema=schema("runs"),
        runs=RUN_FILES,
    output:
        table="results/tables/runs.parquet",
    log:
        "results/logs/collect_runs.log",
    conda:
        "../envs/analyse.yaml"
    params:
        grid=grid_json(),
        share=SHARE,
    message:
        "Collecting the runs"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --runs results/runs "
        "--share {params.share} --work results/work --out {output.table} 2>&1 | tee {log}"


rule collect_costs:
    input:
        code=program("collect_costs"),
        schema=schema("costs"),
        # Not the benchmark files themselves: a lost one is no reason to spend GPU hours again.
        runs=RUN_FILES,
    output:
        table="results/tables/costs.parquet",
    log:
        "results/logs/collect_costs.log",
    conda:
        "../envs/analyse.yaml"
    params:
        grid=grid_json(),
        others=expand("fetch_dataset/{dataset}", dataset=USED_DATASETS)
        + expand(
            "{rule}/{model}",
            rule=["fetch_model", "spectrum"],
            model=USED_MODELS,
        )
        + expand("measure_pretraining/{made}", made=MADE)
        + expand(
            "pretrain/{made}",
            made=series.made_here(MODELS, {*USED_MODELS, *members}),
        )
        + [f"ticket/{iterations.path(ticket)}" for ticket in TICKETS],
    message:
        "Collecting the costs"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --benchmarks results/benchmarks "
        "--others {params.others} --out {output.table} 2>&1 | tee {log}"


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
        levels=pruned_levels(),
    message:
        "Counting where the pruned weights sit"
    shell:
        "python {input.code[0]} --levels {params.levels:q} --spectra results/spectra --out {output.table} 2>&1 | tee {log}"
