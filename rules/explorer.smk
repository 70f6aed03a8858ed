# The tables of the study as one page to look around in.
EXPLORED = [
    "runs",
    "knees",
    "comparisons",
    "layers",
    "missing_runs",
    "differences",
    "references",
]
EXPLORER = "workflow/report/explorer"  # markup and script of the page


# Items are read too; what they hold is in the runs, which have their SHA-256. The report links to the page and does not hold it:
# it would be an address of more than 2 MB there, of which Chromium shows nothing.
rule write_explorer:
    input:
        grid=f"{OUT}/grid.parquet",
        tables=[
            f"{OUT}/tables/{table}.parquet"
            for table in study_tables()
            if table in EXPLORED
        ],
        manifests=MANIFESTS,
        page=sorted(map(own, Path(ROOT, EXPLORER).glob("*.j*"))),
    output:
        page=f"{OUT}/explorer.html",
    log:
        f"{OUT}/logs/write_explorer.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("write_explorer"),
        code=code("write_explorer"),
        study=STUDY.name,
        page=lambda wildcards: own(EXPLORER),
        looks=lambda wildcards: digest_of(
            [
                patterns.looks(patterns.find(name))
                for name in sorted({"global"}.union(*STUDY.patterns.values()))
            ]
        ),
        labels=lambda wildcards: json.dumps(
            {
                "models": {name: MODELS[name]["label"] for name in STUDY.used_models},
                "tasks": {task: TASKS[task]["label"] for _, task in STUDY.curves},
            }
        ),
    message:
        "Writing the explorer"
    shell:
        "python {params.program} --grid {input.grid} --tables {input.tables} --study {params.study} --labels {params.labels:q} "
        "--page {params.page:q} --out {output.page} 2>&1 | tee {log}"
