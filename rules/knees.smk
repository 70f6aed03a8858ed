# The dedicated analysis rule: from the runs and their items to the essential sparsity of each curve, with intervals.
localrules:
    fit_knees,
    choose_levels,


rule fit_knees:
    input:
        grid=f"{OUT}/grid.parquet",
        runs=f"{OUT}/tables/runs.parquet",
    output:
        knees=f"{OUT}/tables/knees.parquet",
        comparisons=f"{OUT}/tables/comparisons.parquet",
    log:
        f"{OUT}/logs/fit_knees.log",
    conda:
        "../envs/analyse.yaml"
    params:
        program=program("fit_knees"),
        code=code("fit_knees"),
        epsilon=json.dumps(
            {
                task: TASKS[task]["epsilon"]
                for task in sorted({task for _, task in STUDY.curves})
                if TASKS[task]["epsilon"]
            }
        ),
        compare=CONFIG["knees"]["compare"],
    message:
        "Fitting the knees"
    shell:
        "python {params.program} --grid {input.grid} --runs {input.runs} "
        "--epsilon {params.epsilon:q} --compare {params.compare} "
        "--knees {output.knees} --comparisons {output.comparisons} 2>&1 | tee {log}"


# `make refine` asks for this until it is empty, and appends it to the rounds of the study, which the grid includes.
rule choose_levels:
    input:
        runs=f"{OUT}/tables/runs.parquet",
        knees=f"{OUT}/tables/knees.parquet",
    output:
        levels=f"{OUT}/next_round.json",
    log:
        f"{OUT}/logs/choose_levels.log",
    conda:
        "../envs/analyse.yaml"
    params:
        program=program("choose_levels"),
        code=code("choose_levels"),
        width=refinement_of("width", 0),
        rounds=refinement_of("rounds", 6),
        levels=refinement_of("levels", 20),
        protocols=refinement_of("protocols", refinement.CHEAP),
        before=f"{OUT}/rounds.json",
    message:
        "Looking for the levels that would sharpen the knees"
    shell:
        "python {params.program} --runs {input.runs} --knees {input.knees} --width {params.width} "
        "--rounds {params.rounds} --levels {params.levels} --protocols {params.protocols} --before {params.before} "
        "--out {output.levels} 2>&1 | tee {log}"
