# Studies along series of checkpoints: how sparse, how abruptly, and how groups differ.
localrules:
    plot_trajectory,
    plot_distributions,


SERIES_FIGURES = expand(
    "results/figures/{shown}/{series}.svg",
    shown=["trajectory", "distributions"],
    series=STUDIED,
)


rule trajectory:
    input:
        code=program("trajectory"),
        schema=schema(
            "spectrum",
            "fingerprints",
            "knees",
            "losses",
            "trajectory",
            "abruptness",
            "contrasts",
        ),
        spectra=[f"results/spectra/{member['model']}.parquet" for member in MEMBERS],
        fingerprints=[
            f"results/fingerprints/{member['model']}.parquet" for member in MEMBERS
        ],
        knees="results/tables/knees.parquet",
        losses=[path for _, path in MEMBER_LOSSES],
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
    params:
        members=json.dumps(MEMBERS, sort_keys=True),
        losses=[f"{line}={path}" for line, path in MEMBER_LOSSES],
    shell:
        "python {input.code[0]} --members {params.members:q} --results results --knees {input.knees} "
        "--losses {params.losses:q} --trajectory {output.trajectory} --abruptness {output.abruptness} "
        "--contrasts {output.contrasts} 2>&1 | tee {log}"


rule plot_trajectory:
    input:
        code=program("plot_trajectory"),
        schema=schema("trajectory", "abruptness", "losses"),
        trajectory="results/tables/trajectory.parquet",
        abruptness="results/tables/abruptness.parquet",
        losses=[path for _, path in MEMBER_LOSSES],
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
    params:
        losses=[f"{line}={path}" for line, path in MEMBER_LOSSES],
    message:
        "Drawing the series {wildcards.series}"
    shell:
        "python {input.code[0]} --trajectory {input.trajectory} --abruptness {input.abruptness} "
        "--losses {params.losses:q} --series {wildcards.series} --out {output.figure} 2>&1 | tee {log}"


rule plot_distributions:
    input:
        code=program("plot_distributions"),
        schema=schema("spectrum"),
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
    params:
        spectra=lambda wildcards: [
            f"{group}=results/spectra/{model}.parquet"
            for group, model in series.last_of(MEMBERS, wildcards.series)
        ],
    message:
        "Drawing the weights of each layer in {wildcards.series}"
    shell:
        "python {input.code[0]} --spectra {params.spectra:q} --series {wildcards.series} "
        "--out {output.figure} 2>&1 | tee {log}"
