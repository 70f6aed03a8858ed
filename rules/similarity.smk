# How alike masks are: of one-shot pruning and lottery tickets, and of neighbouring checkpoints of a series.
localrules:
    collect_similarity,
    plot_similarity,
    plot_neighbours,


SIMILARITY_FIGURES = [
    *expand("results/figures/similarity/{model}.svg", model=CHAINED_MODELS),
    *expand("results/figures/similarity/checkpoints/{series}.svg", series=NEIGHBOURED),
]
SIMILARITIES = [
    *(["results/similarity/tickets.parquet"] if TICKETS else []),
    *expand("results/similarity/checkpoints/{line}.parquet", line=LINES),
]


rule compare_tickets:
    input:
        code=program("compare_tickets"),
        schema=schema("similarity"),
        manifests=expand(
            "results/checkpoints/{model}/manifest.json",
            model=CHAINED_MODELS,
        ),
        tickets=ancient(tickets_compared(".safetensors")),
        ticket_digests=tickets_compared(".sha256"),
    output:
        table="results/similarity/tickets.parquet",
    log:
        "results/logs/compare_tickets.log",
    benchmark:
        "results/benchmarks/compare_tickets/all.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * int(
            3000
            + 8
            * max(MODELS[model]["parameters"] for model in CHAINED_MODELS or MODELS)
            / 1e6
        ),
        runtime=lambda wildcards, attempt: attempt * 30,
    params:
        grid=grid_json(),
        pickle=[model for model in USED_MODELS if MODELS[model]["allow_pickle"]],
    shell:
        "python {input.code[0]} --grid {params.grid:q} --results results --allow-pickle {params.pickle} "
        "--out {output.table} 2>&1 | tee {log}"


# One job per training: it reads each checkpoint once, and holds the packed masks of two.
rule compare_checkpoints:
    input:
        code=program("compare_checkpoints"),
        schema=schema("fingerprints", "similarity"),
        manifests=files_of_line("results/checkpoints/{model}/manifest.json"),
        fingerprints=files_of_line("results/fingerprints/{model}.parquet"),
        tickets=ancient(tickets_of_line(".safetensors")),
        ticket_digests=tickets_of_line(".sha256"),
    output:
        table="results/similarity/checkpoints/{line}.parquet",
    log:
        "results/logs/compare_checkpoints/{line}.log",
    benchmark:
        "results/benchmarks/compare_checkpoints/{line}.tsv"
    conda:
        "../envs/evaluate.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: attempt
        * int(
            3000
            + (8 + len(MASK_LEVELS) / 4)
            * MODELS[LINES[wildcards.line][0]["model"]]["parameters"]
            / 1e6
        ),
        runtime=lambda wildcards, attempt: attempt
        * int(
            10
            + len(LINES[wildcards.line])
            * (0.2 + MODELS[LINES[wildcards.line][0]["model"]]["parameters"] / 3e8)
        ),
    params:
        members=lambda wildcards: json.dumps(LINES[wildcards.line], sort_keys=True),
        sparsities=MASK_LEVELS,
        tickets=lambda wildcards: json.dumps(shared_tickets(wildcards.line)),
        pickle=lambda wildcards: (
            "--allow-pickle"
            if MODELS[LINES[wildcards.line][0]["model"]]["allow_pickle"]
            else ""
        ),
    shell:
        "python {input.code[0]} --members {params.members:q} --sparsities {params.sparsities} "
        "--tickets {params.tickets:q} --results results {params.pickle} --out {output.table} 2>&1 | tee {log}"


rule collect_similarity:
    input:
        code=program("collect_similarity"),
        schema=schema("similarity"),
        parts=SIMILARITIES,
    output:
        table="results/tables/similarity.parquet",
    log:
        "results/logs/collect_similarity.log",
    conda:
        "../envs/analyse.yaml"
    message:
        "Gathering how alike masks are"
    shell:
        "python {input.code[0]} --parts {input.parts} --out {output.table} 2>&1 | tee {log}"


rule plot_similarity:
    input:
        code=program("plot_similarity"),
        schema=schema("similarity"),
        similarity="results/tables/similarity.parquet",
    output:
        figure=report(
            "results/figures/similarity/{model}.svg",
            caption="../workflow/report/similarity.rst",
            category="Lottery tickets",
            labels={"model": "{model}", "shows": "similarity of masks"},
        ),
    log:
        "results/logs/plot_similarity/{model}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        label=lambda wildcards: MODELS[wildcards.model]["label"],
    message:
        "Drawing how alike the masks of {wildcards.model} are"
    shell:
        "python {input.code[0]} --similarity {input.similarity} --model {wildcards.model} "
        "--label {params.label:q} --out {output.figure} 2>&1 | tee {log}"


rule plot_neighbours:
    input:
        code=program("plot_neighbours"),
        schema=schema("similarity"),
        similarity="results/tables/similarity.parquet",
    output:
        figure=report(
            "results/figures/similarity/checkpoints/{series}.svg",
            caption="../workflow/report/neighbours.rst",
            category="Emergence",
            labels={
                "series": "{series}",
                "shows": "masks of neighbouring checkpoints",
            },
        ),
    log:
        "results/logs/plot_neighbours/{series}.log",
    conda:
        "../envs/analyse.yaml"
    message:
        "Drawing how alike the masks of neighbouring checkpoints of {wildcards.series} are"
    shell:
        "python {input.code[0]} --similarity {input.similarity} --series {wildcards.series} "
        "--out {output.figure} 2>&1 | tee {log}"
