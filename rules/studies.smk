# Studies along series of checkpoints: how sparse, how abruptly, and how groups differ.
localrules:
    tabulate_series,
    plot_trajectory,
    plot_distributions,


SERIES_FIGURES = expand(
    "results/figures/{shown}/{series}.svg",
    shown=["trajectory", "distributions"],
    series=STUDIED,
)
SERIES_TABLES = expand("results/series/{training}.parquet", training=TRAININGS)


# A table per training: another checkpoint of one compares no masks of another.
rule tabulate_series:
    input:
        code=program("tabulate_series"),
        schema=schema("series"),
    output:
        table="results/series/{training}.parquet",
    log:
        "results/logs/tabulate_series/{training}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        members=lambda wildcards: json.dumps(
            TRAININGS[wildcards.training], sort_keys=True
        ),
        losses=lambda wildcards: (
            f"--losses {LOSSES[wildcards.training]}"
            if wildcards.training in LOSSES
            else ""
        ),
    message:
        "Writing which checkpoints of {wildcards.training} are studied"
    shell:
        "python {input.code[0]} --members {params.members:q} --results results {params.losses} "
        "--out {output.table} 2>&1 | tee {log}"


rule trajectory:
    input:
        code=program("trajectory"),
        schema=schema(
            "series",
            "spectrum",
            "fingerprints",
            "knees",
            "losses",
            "trajectory",
            "abruptness",
            "contrasts",
        ),
        series=SERIES_TABLES,
        spectra=[f"results/spectra/{member['model']}.parquet" for member in MEMBERS],
        fingerprints=[
            f"results/fingerprints/{member['model']}.parquet" for member in MEMBERS
        ],
        knees="results/tables/knees.parquet",
        losses=list(LOSSES.values()),
    output:
        trajectory="results/tables/trajectory.parquet",
        abruptness="results/tables/abruptness.parquet",
        contrasts="results/tables/contrasts.parquet",
    log:
        "results/logs/trajectory.log",
    benchmark:
        "results/benchmarks/trajectory/all.tsv"
    conda:
        "../envs/analyse.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=lambda wildcards, attempt: attempt * int(10 + len(MEMBERS) / 4),
    shell:
        "python {input.code[0]} --series-table {input.series} --knees {input.knees} "
        "--trajectory {output.trajectory} --abruptness {output.abruptness} --contrasts {output.contrasts} "
        "2>&1 | tee {log}"


rule plot_trajectory:
    input:
        code=program("plot_trajectory"),
        schema=schema("series", "trajectory", "abruptness", "losses"),
        series=tables_of_series,
        trajectory="results/tables/trajectory.parquet",
        abruptness="results/tables/abruptness.parquet",
        losses=lambda wildcards: [
            LOSSES[name] for name in trainings_of(wildcards) if name in LOSSES
        ],
    output:
        figure=report(
            "results/figures/trajectory/{series}.svg",
            caption="../workflow/report/trajectory.rst",
            category="Emergence",
            labels={"series": "{series}", "shows": "measures over steps"},
        ),
    log:
        "results/logs/plot_trajectory/{series}.log",
    conda:
        "../envs/analyse.yaml"
    message:
        "Drawing the series {wildcards.series}"
    shell:
        "python {input.code[0]} --series-table {input.series} --trajectory {input.trajectory} "
        "--abruptness {input.abruptness} --series {wildcards.series} --out {output.figure} 2>&1 | tee {log}"


rule plot_distributions:
    input:
        code=program("plot_distributions"),
        schema=schema("series", "spectrum"),
        series=tables_of_series,
        spectra=lambda wildcards: [
            f"results/spectra/{model}.parquet"
            for _, model in series.last_of(MEMBERS, wildcards.series)
        ],
    output:
        figure=report(
            "results/figures/distributions/{series}.svg",
            caption="../workflow/report/distributions.rst",
            category="Emergence",
            labels={"series": "{series}", "shows": "weights of each layer"},
        ),
    log:
        "results/logs/plot_distributions/{series}.log",
    conda:
        "../envs/analyse.yaml"
    message:
        "Drawing the weights of each layer in {wildcards.series}"
    shell:
        "python {input.code[0]} --series-table {input.series} --series {wildcards.series} "
        "--out {output.figure} 2>&1 | tee {log}"
