# What the study says of claims about it: tables, and a page.
CLAIMS_PAGE = [f"{OUT}/claims.html"] if STUDY.claims else []


rule judge_claims:
    input:
        claims=CONFIG.get("claims") or [],
        tables=[
            f"{OUT}/tables/{table}.parquet"
            for table in study_tables()
            if table in (*claims.TABLES, *claims.BESIDE)
        ],
        resamples=[
            f"{OUT}/curves/{model}/{task}/resamples.parquet"
            for model, task in STUDY.curves
        ],
    output:
        claims=f"{OUT}/tables/claims.parquet",
        evidence=f"{OUT}/tables/evidence.parquet",
    log:
        f"{OUT}/logs/judge_claims.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("judge_claims"),
        code=code("judge_claims"),
        # a file that was moved here may be older than the tables
        said=lambda wildcards: digest_of(STUDY.claims),
        curves=lambda wildcards: f"{OUT}/curves",
        types=lambda wildcards: json.dumps(
            {model: MODELS[model]["type"] for model in STUDY.named_models}
        ),
    message:
        "Holding claims against the tables"
    shell:
        "python {params.program} --claims {input.claims:q} --types {params.types:q} --tables {input.tables} "
        "--curves {params.curves} --out {output.claims} --evidence {output.evidence} 2>&1 | tee {log}"


rule write_claims:
    input:
        claims=f"{OUT}/tables/claims.parquet",
        evidence=f"{OUT}/tables/evidence.parquet",
        missing_runs=f"{OUT}/tables/missing_runs.parquet",
        template=own("workflow/report/claims.html.jinja"),
    output:
        page=report(
            f"{OUT}/claims.html",
            caption="../workflow/report/claims.rst",
            category="Claims",
            labels={"page": "all claims"},
        ),
    log:
        f"{OUT}/logs/write_claims.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("write_claims"),
        code=code("write_claims"),
        study=STUDY.name,
    message:
        "Writing the page of claims"
    shell:
        "python {params.program} --claims {input.claims} --evidence {input.evidence} --missing-runs {input.missing_runs} "
        "--study {params.study} --template {input.template:q} --out {output.page} 2>&1 | tee {log}"
