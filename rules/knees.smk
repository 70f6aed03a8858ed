# The dedicated analysis rules: from the runs and their items to the essential sparsity of each curve, with intervals.
CURVE = f"{OUT}/curves/{{model}}/{{task}}"
CURVE_TABLES = [
    f"{OUT}/curves/{model}/{task}/{table}.parquet"
    for model, task in STUDY.curves
    for table in ("runs", "knees", "resamples", "missing_runs")
]


# A job per model and task, of its own runs and its own part of the grid: what happens to other curves re-runs nothing here.
rule fit_knees:
    input:
        runs=runs_of_curve,
        made_of=made_of_curve,  # other runs count where they are of others, and no run changed
    output:
        runs=f"{CURVE}/runs.parquet",
        missing_runs=f"{CURVE}/missing_runs.parquet",
        knees=f"{CURVE}/knees.parquet",
        resamples=f"{CURVE}/resamples.parquet",
    log:
        f"{OUT}/logs/fit_knees/{{model}}/{{task}}.log",
    benchmark:
        f"{OUT}/benchmarks/fit_knees/{{model}}/{{task}}.tsv"
    conda:
        conda_file("analyse")
    resources:
        mem_mb=at_most("max_mem_mb", knees_mem_mb),
        runtime=at_most("max_minutes", knees_minutes),
    params:
        program=program("fit_knees"),
        code=code("fit_knees"),
        digest=lambda wildcards: STUDY.digest(STUDY.jobs_of(**wildcards)),
        epsilon=epsilon_of,
        study=study_json,
        logs=f"{STORE}/logs",
        missing=missing_runs,
        other=of_other_curve,
    shell:
        "python {params.program} --study {params.study:q} --model {wildcards.model} --task {wildcards.task} "
        "--digest {params.digest} {params.epsilon} --logs {params.logs} --missing {params.missing} "
        "--other {params.other:q} --runs {output.runs} --missing-runs {output.missing_runs} --knees {output.knees} "
        "--resamples {output.resamples} 2>&1 | tee {log}"


# After all runs were collected: what that refuses is in no table.
rule collect_knees:
    input:
        grid=f"{OUT}/grid.parquet",
        runs=f"{OUT}/tables/runs.parquet",
        curves=CURVE_TABLES,
    output:
        knees=f"{OUT}/tables/knees.parquet",
        comparisons=f"{OUT}/tables/comparisons.parquet",
    log:
        f"{OUT}/logs/collect_knees.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("collect_knees"),
        code=code("collect_knees"),
        curves=lambda wildcards: f"{OUT}/curves",
        missing=missing_runs,
        compare=CONFIG["knees"]["compare"],
    message:
        "Gathering the knees"
    shell:
        "python {params.program} --grid {input.grid} --runs {input.runs} --curves {params.curves} "
        "--missing {params.missing} --compare {params.compare} --knees {output.knees} --comparisons {output.comparisons} 2>&1 | tee {log}"


# `make refine` asks for this until it is empty, and appends it to the rounds of the study, which the grid includes.
rule choose_levels:
    input:
        runs=f"{OUT}/tables/runs.parquet",
        knees=f"{OUT}/tables/knees.parquet",
    output:
        levels=f"{OUT}/next_round.json",
    log:
        f"{OUT}/logs/choose_levels.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("choose_levels"),
        code=code("choose_levels"),
        width=refinement_of("width", 0),
        rounds=refinement_of("rounds", 6),
        levels=refinement_of("levels", refinement.LEVELS),
        protocols=refinement_of("protocols", refinement.CHEAP),
        before=f"{OUT}/rounds.json",
    message:
        "Looking for the levels that would sharpen the knees"
    shell:
        "python {params.program} --runs {input.runs} --knees {input.knees} --width {params.width} "
        "--rounds {params.rounds} --levels {params.levels} --protocols {params.protocols} --before {params.before} "
        "--out {output.levels} 2>&1 | tee {log}"
