# What lottery tickets gain over one-shot masks, and patterns over their peers of magnitude.
DIFFERENCE_FIGURES = [
    f"{OUT}/figures/differences/{model}/{task}.svg"
    for model, task in iterations.beside_one_shot(STUDY.jobs)
]

GAIN_FIGURES = [
    f"{OUT}/figures/gains/{model}/{task}.svg" for model, task in STUDY.calibrated
]


rule measure_differences:
    input:
        grid=f"{OUT}/grid.parquet",
        runs=f"{OUT}/tables/runs.parquet",
    output:
        table=f"{OUT}/tables/differences.parquet",
    log:
        f"{OUT}/logs/measure_differences.log",
    benchmark:
        f"{OUT}/benchmarks/measure_differences/all.tsv"
    conda:
        conda_file("analyse")
    resources:
        mem_mb=at_most("max_mem_mb", 4000),
        runtime=at_most("max_minutes", 20 + 10 * len({*STUDY.chained, *STUDY.peered})),
    params:
        program=program("measure_differences"),
        code=code("measure_differences"),
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
    localrule: True
    conda:
        conda_file("analyse")
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


rule plot_gain:
    input:
        differences=f"{OUT}/tables/differences.parquet",
    output:
        figure=report(
            f"{OUT}/figures/gains/{{model}}/{{task}}.svg",
            caption="../workflow/report/gain.rst",
            category="Calibration",
            labels={"model": "{model}", "shows": "gain on {task}"},
        ),
    log:
        f"{OUT}/logs/plot_gain/{{model}}/{{task}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_gain"),
        code=code("plot_gain"),
        looks=looks_of,
        labels=labels_of,
    message:
        "Drawing what calibration gains for {wildcards.model} on {wildcards.task}"
    shell:
        "python {params.program} --differences {input.differences} --model {wildcards.model} "
        "--task {wildcards.task} --labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"
