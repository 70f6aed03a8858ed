# Figures, each with its place in the report.
localrules:
    plot_curve,
    plot_models,
    plot_layers,
    tabulate_knees,


CURVE_FIGURES = [f"results/figures/curves/{model}/{task}.svg" for model, task in CURVES]
MODELS_OF = grid.models_of(JOBS, "global")
MODEL_FIGURES = [
    f"results/figures/models/{task}.svg"
    for task, models in MODELS_OF.items()
    if len(models) > 1
]
LAYER_FIGURES = [
    f"results/figures/layers/{model}.svg"
    for model in USED_MODELS
    if MODELS[model]["position"] is None
]


rule plot_curve:
    input:
        code=program("plot_curve"),
        schema=schema("runs", "knees"),
        runs="results/tables/runs.parquet",
        knees="results/tables/knees.parquet",
    output:
        figure=report(
            "results/figures/curves/{model}/{task}.svg",
            caption="../workflow/report/curve.rst",
            category="Curves",
            labels={"model": "{model}", "task": "{task}"},
        ),
    log:
        "results/logs/plot_curve/{model}/{task}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        labels=lambda wildcards: json.dumps(
            {
                "model": MODELS[wildcards.model]["label"],
                "task": TASKS[wildcards.task]["label"],
            }
        ),
    message:
        "Drawing the curves of {wildcards.model} on {wildcards.task}"
    shell:
        "python {input.code[0]} --runs {input.runs} --knees {input.knees} --model {wildcards.model} "
        "--task {wildcards.task} --labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_models:
    input:
        code=program("plot_models"),
        schema=schema("runs", "knees"),
        runs="results/tables/runs.parquet",
        knees="results/tables/knees.parquet",
    output:
        figure=report(
            "results/figures/models/{task}.svg",
            caption="../workflow/report/models.rst",
            category="Curves",
            labels={"model": "all", "task": "{task}"},
        ),
    log:
        "results/logs/plot_models/{task}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        labels=lambda wildcards: json.dumps(
            {
                "models": {
                    model: MODELS[model]["label"]
                    for model in MODELS_OF[wildcards.task]
                },
                "task": TASKS[wildcards.task]["label"],
            }
        ),
    message:
        "Drawing the curves of all models on {wildcards.task}"
    shell:
        "python {input.code[0]} --runs {input.runs} --knees {input.knees} --task {wildcards.task} "
        "--labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_layers:
    input:
        code=program("plot_layers"),
        schema=schema("layers"),
        layers="results/tables/layers.parquet",
    output:
        figure=report(
            "results/figures/layers/{model}.svg",
            caption="../workflow/report/layers.rst",
            category="Where the pruned weights sit",
            labels={"model": "{model}"},
        ),
    log:
        "results/logs/plot_layers/{model}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        sparsity=LAYER_SPARSITY,
        label=lambda wildcards: MODELS[wildcards.model]["label"],
    message:
        "Drawing where the pruned weights of {wildcards.model} sit"
    shell:
        "python {input.code[0]} --layers {input.layers} --model {wildcards.model} --pattern global "
        "--sparsity {params.sparsity} --label {params.label:q} --out {output.figure} 2>&1 | tee {log}"


rule tabulate_knees:
    input:
        code=program("tabulate_knees"),
        schema=schema("knees"),
        knees="results/tables/knees.parquet",
    output:
        table=report(
            "results/figures/knees.csv",
            caption="../workflow/report/knees.rst",
            category="Essential sparsity",
            labels={"table": "all curves"},
        ),
    log:
        "results/logs/tabulate_knees.log",
    conda:
        "../envs/analyse.yaml"
    message:
        "Writing the table of knees for the report"
    shell:
        "python {input.code[0]} --knees {input.knees} --out {output.table} 2>&1 | tee {log}"
