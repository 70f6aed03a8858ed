# Figures, each with its place in the report.
CURVE_FIGURES = [
    f"{OUT}/figures/curves/{model}/{task}.svg" for model, task in STUDY.curves
]
MODELS_OF = grid.models_of(STUDY.jobs, "global")
MODEL_FIGURES = [
    f"{OUT}/figures/models/{task}.svg"
    for task, models in MODELS_OF.items()
    if len(models) > 1
]
PANELS = panels.chosen(CONFIG["figures"].get("panels"), STUDY.patterns, MODELS, TASKS)
PANEL_FIGURES = [f"{OUT}/figures/panels/{name}.svg" for name in PANELS]
LAYER_FIGURES = [
    f"{OUT}/figures/layers/{model}.svg"
    for model in STUDY.used_models
    if MODELS[model]["position"] is None
]


rule plot_curve:
    input:
        runs=f"{CURVE}/runs.parquet",
        knees=f"{CURVE}/knees.parquet",
        missing_runs=f"{CURVE}/missing_runs.parquet",
    output:
        figure=report(
            f"{OUT}/figures/curves/{{model}}/{{task}}.svg",
            caption="../workflow/report/curve.rst",
            category="Curves",
            labels={"model": "{model}", "task": "{task}"},
        ),
    log:
        f"{OUT}/logs/plot_curve/{{model}}/{{task}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_curve"),
        code=code("plot_curve"),
        looks=looks_of,
        labels=labels_of,
    message:
        "Drawing the curves of {wildcards.model} on {wildcards.task}"
    shell:
        "python {params.program} --runs {input.runs} --knees {input.knees} --missing-runs {input.missing_runs} --model {wildcards.model} "
        "--task {wildcards.task} --labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_models:
    input:
        runs=f"{OUT}/tables/runs.parquet",
        knees=f"{OUT}/tables/knees.parquet",
        missing_runs=f"{OUT}/tables/missing_runs.parquet",
    output:
        figure=report(
            f"{OUT}/figures/models/{{task}}.svg",
            caption="../workflow/report/models.rst",
            category="Curves",
            labels={"model": "all", "task": "{task}"},
        ),
    log:
        f"{OUT}/logs/plot_models/{{task}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_models"),
        code=code("plot_models"),
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
        "python {params.program} --runs {input.runs} --knees {input.knees} --missing-runs {input.missing_runs} --task {wildcards.task} "
        "--labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_panels:
    input:
        runs=f"{OUT}/tables/runs.parquet",
        knees=f"{OUT}/tables/knees.parquet",
        missing_runs=f"{OUT}/tables/missing_runs.parquet",
    output:
        figure=report(
            f"{OUT}/figures/panels/{{shown}}.svg",
            caption="../workflow/report/panels.rst",
            category="Curves side by side",
            labels={"figure": "{shown}"},
        ),
    log:
        f"{OUT}/logs/plot_panels/{{shown}}.log",
    wildcard_constraints:
        shown=grid.one_of(PANELS),
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_panels"),
        code=code("plot_panels"),
        caption=lambda wildcards: CONFIG["figures"]["panels"][wildcards.shown][
            "caption"
        ],
        shown=lambda wildcards: json.dumps(PANELS[wildcards.shown]),
        labels=lambda wildcards: json.dumps(
            {
                "models": {
                    model: MODELS[model]["label"]
                    for model, _ in PANELS[wildcards.shown]["lines"]
                },
                "tasks": {
                    task: TASKS[task]["label"]
                    for task in PANELS[wildcards.shown]["tasks"]
                },
            }
        ),
        looks=lambda wildcards: digest_of(
            [
                patterns.looks(patterns.find(pattern))
                for _, pattern in PANELS[wildcards.shown]["lines"]
            ]
        ),
    message:
        "Drawing the curves of {wildcards.shown} side by side"
    shell:
        "python {params.program} --runs {input.runs} --knees {input.knees} --missing-runs {input.missing_runs} "
        "--shown {params.shown:q} --labels {params.labels:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_layers:
    input:
        layers=f"{OUT}/tables/layers.parquet",
    output:
        figure=report(
            f"{OUT}/figures/layers/{{model}}.svg",
            caption="../workflow/report/layers.rst",
            category="Where the pruned weights sit",
            labels={"model": "{model}"},
        ),
    log:
        f"{OUT}/logs/plot_layers/{{model}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_layers"),
        code=code("plot_layers"),
        sparsity=CONFIG["figures"]["layers_sparsity"],
        label=lambda wildcards: MODELS[wildcards.model]["label"],
    message:
        "Drawing where the pruned weights of {wildcards.model} sit"
    shell:
        "python {params.program} --layers {input.layers} --model {wildcards.model} --pattern global "
        "--sparsity {params.sparsity} --label={params.label:q} --out {output.figure} 2>&1 | tee {log}"


rule tabulate_knees:
    input:
        knees=f"{OUT}/tables/knees.parquet",
    output:
        table=report(
            f"{OUT}/figures/knees.csv",
            caption="../workflow/report/knees.rst",
            category="Essential sparsity",
            labels={"table": "all curves"},
        ),
    log:
        f"{OUT}/logs/tabulate_knees.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("tabulate_knees"),
        code=code("tabulate_knees"),
    message:
        "Writing the table of knees for the report"
    shell:
        "python {params.program} --knees {input.knees} --out {output.table} 2>&1 | tee {log}"
