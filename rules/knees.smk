# The dedicated analysis rule: from the runs table to the essential sparsity of each curve.
localrules:
    knees,


rule knees:
    input:
        code=program("knees"),
        schema=schema("runs", "knees"),
        runs="results/tables/runs.parquet",
    output:
        table="results/tables/knees.parquet",
    log:
        "results/logs/knees.log",
    conda:
        "../envs/analyse.yaml"
    params:
        epsilon=json.dumps(
            {
                name: row["epsilon"]
                for name, row in sorted(TASKS.items())
                if row["epsilon"]
            }
        ),
    message:
        "Fitting the knees"
    shell:
        "python {input.code[0]} --runs {input.runs} --epsilon {params.epsilon:q} --out {output.table} 2>&1 | tee {log}"
