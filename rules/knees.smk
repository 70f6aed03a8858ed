# The dedicated analysis rule: from the runs and their items to the essential sparsity of each curve, with intervals.
localrules:
    knees,
    next_round,


rule knees:
    input:
        code=program("knees"),
        schema=schema("runs", "items", "knees", "comparisons"),
        runs="results/tables/runs.parquet",
        per_item=ITEM_FILES,
    output:
        knees="results/tables/knees.parquet",
        comparisons="results/tables/comparisons.parquet",
    log:
        "results/logs/knees.log",
    conda:
        "../envs/analyse.yaml"
    params:
        grid=grid_json(),
        epsilon=json.dumps(
            {
                name: row["epsilon"]
                for name, row in sorted(TASKS.items())
                if row["epsilon"]
            }
        ),
        compare=config["knees"]["compare"],
    message:
        "Fitting the knees"
    shell:
        "python {input.code[0]} --grid {params.grid:q} --runs {input.runs} --items results/items "
        "--epsilon {params.epsilon:q} --compare {params.compare} "
        "--knees {output.knees} --comparisons {output.comparisons} 2>&1 | tee {log}"


# `make refine` asks for this until it is empty, and appends it to results/rounds.json, which the grid includes.
rule next_round:
    input:
        code=program("next_round"),
        schema=schema("runs", "knees"),
        runs="results/tables/runs.parquet",
        knees="results/tables/knees.parquet",
    output:
        levels="results/next_round.json",
    log:
        "results/logs/next_round.log",
    conda:
        "../envs/analyse.yaml"
    params:
        width=config.get("refine", {}).get("width", 0),
    message:
        "Looking for the levels that would sharpen the knees"
    shell:
        "python {input.code[0]} --runs {input.runs} --knees {input.knees} --width {params.width} "
        "--out {output.levels} 2>&1 | tee {log}"
