# Studies along series of checkpoints: how sparse, how abruptly, and how groups differ.
SERIES_FIGURES = expand(
    f"{OUT}/figures/{{shown}}/{{series}}.svg",
    shown=["trajectory", "distributions"],
    series=STUDY.studied,
)


# A table per training: another checkpoint of one compares no masks of another.
rule tabulate_series:
    output:
        table=f"{OUT}/series/{{training}}.parquet",
    log:
        f"{OUT}/logs/tabulate_series/{{training}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("tabulate_series"),
        code=code("tabulate_series"),
        members=lambda wildcards: digest_of(STUDY.trainings[wildcards.training]),
        study=study_json,
        store=STORE,
    message:
        "Writing which checkpoints of {wildcards.training} are studied"
    shell:
        "python {params.program} --study {params.study:q} --training {wildcards.training} --store {params.store} "
        "--out {output.table} 2>&1 | tee {log}"


rule measure_series:
    input:
        series=expand(f"{OUT}/series/{{training}}.parquet", training=STUDY.trainings),
        spectra=[
            f"{STORE}/spectra/{member['model']}.parquet" for member in STUDY.members
        ],
        fingerprints=[
            f"{STORE}/fingerprints/{member['model']}.parquet"
            for member in STUDY.members
        ],
        knees=f"{OUT}/tables/knees.parquet",
        losses=filter(None, map(STUDY.losses, STUDY.trainings)),
    output:
        trajectory=f"{OUT}/tables/trajectory.parquet",
        abruptness=f"{OUT}/tables/abruptness.parquet",
        contrasts=f"{OUT}/tables/contrasts.parquet",
    log:
        f"{OUT}/logs/measure_series.log",
    benchmark:
        f"{OUT}/benchmarks/measure_series/all.tsv"
    conda:
        conda_file("analyse")
    resources:
        mem_mb=at_most("max_mem_mb", 4000),
        runtime=at_most("max_minutes", 10 + len(STUDY.members) / 4),
    params:
        program=program("measure_series"),
        code=code("measure_series"),
    shell:
        "python {params.program} --series-table {input.series} --knees {input.knees} "
        "--trajectory {output.trajectory} --abruptness {output.abruptness} --contrasts {output.contrasts} "
        "2>&1 | tee {log}"


rule plot_trajectory:
    input:
        series=lambda wildcards: expand(
            f"{OUT}/series/{{training}}.parquet", training=trainings_of(wildcards)
        ),
        trajectory=f"{OUT}/tables/trajectory.parquet",
        abruptness=f"{OUT}/tables/abruptness.parquet",
        losses=lambda wildcards: [
            *filter(None, map(STUDY.losses, trainings_of(wildcards)))
        ],
    output:
        figure=report(
            f"{OUT}/figures/trajectory/{{series}}.svg",
            caption="../workflow/report/trajectory.rst",
            category="Emergence",
            labels={"series": "{series}", "shows": "measures over steps"},
        ),
    log:
        f"{OUT}/logs/plot_trajectory/{{series}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_trajectory"),
        code=code("plot_trajectory"),
    message:
        "Drawing the series {wildcards.series}"
    shell:
        "python {params.program} --series-table {input.series} --trajectory {input.trajectory} "
        "--abruptness {input.abruptness} --series {wildcards.series} --out {output.figure} 2>&1 | tee {log}"


rule plot_distributions:
    input:
        series=lambda wildcards: expand(
            f"{OUT}/series/{{training}}.parquet", training=trainings_of(wildcards)
        ),
        spectra=lambda wildcards: [
            f"{STORE}/spectra/{model}.parquet"
            for _, model in series.last_of(STUDY.members, wildcards.series)
        ],
    output:
        figure=report(
            f"{OUT}/figures/distributions/{{series}}.svg",
            caption="../workflow/report/distributions.rst",
            category="Emergence",
            labels={"series": "{series}", "shows": "weights of each layer"},
        ),
    log:
        f"{OUT}/logs/plot_distributions/{{series}}.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("plot_distributions"),
        code=code("plot_distributions"),
    message:
        "Drawing the weights of each layer in {wildcards.series}"
    shell:
        "python {params.program} --series-table {input.series} --series {wildcards.series} "
        "--out {output.figure} 2>&1 | tee {log}"
