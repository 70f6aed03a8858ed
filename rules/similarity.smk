# How alike masks are: of one-shot pruning and lottery tickets, and of neighbouring checkpoints of a series.
SIMILARITY_FIGURES = [
    *expand(f"{OUT}/figures/similarity/{{model}}.svg", model=STUDY.chained_models),
    *expand(
        f"{OUT}/figures/similarity/checkpoints/{{series}}.svg", series=STUDY.neighboured
    ),
]
SIMILARITIES = [
    *([f"{OUT}/similarity/tickets.parquet"] if STUDY.tickets else []),
    *expand(
        f"{OUT}/similarity/checkpoints/{{training}}.parquet", training=STUDY.compared
    ),
]


rule compare_tickets:
    input:
        manifests=there(
            f"{STORE}/checkpoints/{model}/manifest.json"
            for model in STUDY.chained_models
        ),
        tickets=ancient(tickets_compared(".safetensors")),
        ticket_digests=tickets_compared(".sha256"),
    output:
        table=f"{OUT}/similarity/tickets.parquet",
    log:
        f"{OUT}/logs/compare_tickets.log",
    benchmark:
        f"{OUT}/benchmarks/compare_tickets/all.tsv"
    conda:
        conda_file("evaluate")
    threads: 2
    resources:
        mem_mb=at_most(
            "max_mem_mb",
            lambda wildcards: 3000
            + 8
            * max(
                MODELS[model]["parameters"] for model in STUDY.chained_models or MODELS
            )
            / 1e6,
        ),
        runtime=at_most("max_minutes", 30),
    params:
        program=program("compare_tickets"),
        code=code("compare_tickets"),
        pairs=lambda wildcards: digest_of(STUDY.pairs),
        study=study_json,
        store=STORE,
    shell:
        "python {params.program} --study {params.study:q} --store {params.store} --out {output.table} 2>&1 | tee {log}"


# One job per training: it reads each checkpoint once, and holds the packed masks of two.
rule compare_checkpoints:
    input:
        series=f"{OUT}/series/{{training}}.parquet",
        manifests=files_of_training(f"{STORE}/checkpoints/{{model}}/manifest.json"),
        fingerprints=files_of_training(f"{STORE}/fingerprints/{{model}}.parquet"),
        tickets=ancient(tickets_of_training(".safetensors")),
        ticket_digests=tickets_of_training(".sha256"),
    output:
        table=f"{OUT}/similarity/checkpoints/{{training}}.parquet",
    log:
        f"{OUT}/logs/compare_checkpoints/{{training}}.log",
    benchmark:
        f"{OUT}/benchmarks/compare_checkpoints/{{training}}.tsv"
    conda:
        conda_file("evaluate")
    threads: 2
    resources:
        mem_mb=at_most(
            "max_mem_mb",
            lambda wildcards: 3000
            + (8 + len(STUDY.mask_levels) / 4)
            * MODELS[STUDY.trainings[wildcards.training][0]["model"]]["parameters"]
            / 1e6,
        ),
        runtime=at_most(
            "max_minutes",
            lambda wildcards: 10
            + len(STUDY.trainings[wildcards.training])
            * (
                0.2
                + MODELS[STUDY.trainings[wildcards.training][0]["model"]]["parameters"]
                / 3e8
            ),
        ),
    params:
        program=program("compare_checkpoints"),
        code=code("compare_checkpoints"),
        masks=lambda wildcards: digest_of(
            STUDY.mask_levels, STUDY.shared_tickets(wildcards.training)
        ),
        study=study_json,
        store=STORE,
    shell:
        "python {params.program} --study {params.study:q} --series-table {input.series} --store {params.store} "
        "--out {output.table} 2>&1 | tee {log}"


rule collect_similarity:
    input:
        parts=SIMILARITIES,
    output:
        table=f"{OUT}/tables/similarity.parquet",
    log:
        f"{OUT}/logs/collect_similarity.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("collect_similarity"),
        code=code("collect_similarity"),
    message:
        "Gathering how alike masks are"
    shell:
        "python {params.program} --parts {input.parts} --out {output.table} 2>&1 | tee {log}"


rule plot_similarity:
    input:
        similarity=f"{OUT}/tables/similarity.parquet",
    output:
        figure=report(
            f"{OUT}/figures/similarity/{{model}}.svg",
            caption="../workflow/report/similarity.rst",
            category="Lottery tickets",
            labels={"model": "{model}", "shows": "similarity of masks"},
        ),
    log:
        f"{OUT}/logs/plot_similarity/{{model}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_similarity"),
        code=code("plot_similarity"),
        label=lambda wildcards: MODELS[wildcards.model]["label"],
    message:
        "Drawing how alike the masks of {wildcards.model} are"
    shell:
        "python {params.program} --similarity {input.similarity} --model {wildcards.model} "
        "--label={params.label:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_neighbours:
    input:
        similarity=f"{OUT}/tables/similarity.parquet",
    output:
        figure=report(
            f"{OUT}/figures/similarity/checkpoints/{{series}}.svg",
            caption="../workflow/report/neighbours.rst",
            category="Emergence",
            labels={
                "series": "{series}",
                "shows": "masks of neighbouring checkpoints",
            },
        ),
    log:
        f"{OUT}/logs/plot_neighbours/{{series}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_neighbours"),
        code=code("plot_neighbours"),
    message:
        "Drawing how alike the masks of neighbouring checkpoints of {wildcards.series} are"
    shell:
        "python {params.program} --similarity {input.similarity} --series {wildcards.series} "
        "--out {output.figure} 2>&1 | tee {log}"
