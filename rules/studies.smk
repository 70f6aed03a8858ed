# Studies along series of checkpoints: how sparse, how abruptly, and how groups differ.
localrules:
    plot_trajectory,
    plot_distributions,


SERIES_FIGURES = expand(
    f"{OUT}/figures/{{shown}}/{{series}}.svg",
    shown=["trajectory", "distributions"],
    series=STUDY.studied,
)


rule measure_series:
    input:
        spectra=[
            f"{STORE}/spectra/{member['model']}.parquet" for member in STUDY.members
        ],
        fingerprints=[
            f"{STORE}/fingerprints/{member['model']}.parquet"
            for member in STUDY.members
        ],
        knees=f"{OUT}/tables/knees.parquet",
        losses=[path for _, path in STUDY.losses],
    output:
        trajectory=f"{OUT}/tables/trajectory.parquet",
        abruptness=f"{OUT}/tables/abruptness.parquet",
        contrasts=f"{OUT}/tables/contrasts.parquet",
    log:
        f"{OUT}/logs/measure_series.log",
    benchmark:
        f"{OUT}/benchmarks/measure_series/all.tsv"
    conda:
        "../envs/analyse.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=lambda wildcards, attempt: attempt * int(10 + len(STUDY.members) / 4),
    params:
        program=program("measure_series"),
        code=code("measure_series"),
        members=json.dumps(STUDY.members, sort_keys=True),
        losses=[f"{line}={path}" for line, path in STUDY.losses],
    shell:
        "python {params.program} --members {params.members:q} --results {params.store} --knees {input.knees} "
        "--losses {params.losses:q} --trajectory {output.trajectory} --abruptness {output.abruptness} "
        "--contrasts {output.contrasts} 2>&1 | tee {log}"


rule plot_trajectory:
    input:
        trajectory=f"{OUT}/tables/trajectory.parquet",
        abruptness=f"{OUT}/tables/abruptness.parquet",
        losses=[path for _, path in STUDY.losses],
    output:
        figure=report(
            f"{OUT}/figures/trajectory/{{series}}.svg",
            caption="../workflow/report/trajectory.rst",
            category="Emergence",
            labels={"series": "{series}", "shows": "measures over steps"},
        ),
    log:
        f"{OUT}/logs/plot_trajectory/{{series}}.log",
    conda:
        "../envs/analyse.yaml"
    params:
        program=program("plot_trajectory"),
        code=code("plot_trajectory"),
        losses=[f"{line}={path}" for line, path in STUDY.losses],
    message:
        "Drawing the series {wildcards.series}"
    shell:
        "python {params.program} --trajectory {input.trajectory} --abruptness {input.abruptness} "
        "--losses {params.losses:q} --series {wildcards.series} --out {output.figure} 2>&1 | tee {log}"


rule plot_distributions:
    input:
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
    conda:
        "../envs/analyse.yaml"
    params:
        program=program("plot_distributions"),
        code=code("plot_distributions"),
        spectra=lambda wildcards: [
            f"{group}=results/spectra/{model}.parquet"
            for group, model in series.last_of(STUDY.members, wildcards.series)
        ],
    message:
        "Drawing the weights of each layer in {wildcards.series}"
    shell:
        "python {params.program} --spectra {params.spectra:q} --series {wildcards.series} "
        "--out {output.figure} 2>&1 | tee {log}"
