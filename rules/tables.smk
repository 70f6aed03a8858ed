# The grid and its runs -> tables of the study. Programs read the grid from its table: 10,000 paths are no argument.
MANIFESTS = there(
    [
        *(f"{STORE}/checkpoints/{name}/manifest.json" for name in STUDY.named_models),
        *(f"{STORE}/datasets/{name}/manifest.json" for name in STUDY.used_datasets),
    ]
)


rule tabulate_grid:
    output:
        grid=f"{OUT}/grid.parquet",
    log:
        f"{OUT}/logs/tabulate_grid.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("tabulate_grid"),
        code=code("tabulate_grid"),
        digest=lambda wildcards: STUDY.digest(),
        study=study_json,
    message:
        "Writing the grid"
    shell:
        "python {params.program} --study {params.study:q} --digest {params.digest} --out {output.grid} 2>&1 | tee {log}"


rule collect_runs:
    input:
        grid=f"{OUT}/grid.parquet",
        runs=runs_collected,
    output:
        table=f"{OUT}/tables/runs.parquet",
        missing_runs=f"{OUT}/tables/missing_runs.parquet",
    log:
        f"{OUT}/logs/collect_runs.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("collect_runs"),
        code=code("collect_runs"),
        digest=lambda wildcards: STUDY.digest(),
        work=WORK,
        logs=f"{STORE}/logs",
        mixed=CONFIG.get("mixed_runs", "stop"),
        # compared: what was collected with `skip` is collected again without, so that no stale run passes in silence
        missing="skip" if SKIPPING else "stop",
        other=OF_OTHER,
        made=waiting_for,
    message:
        "Collecting the runs"
    shell:
        "python {params.program} --grid {input.grid} --digest {params.digest} --work {params.work} --logs {params.logs} "
        "--mixed {params.mixed} --missing {params.missing} --other {params.other:q} --made {params.made:q} --out {output.table} --missing-runs {output.missing_runs} 2>&1 | tee {log}"


# Depends on the runs, not on the benchmark files themselves: a lost one is no reason to spend GPU hours again.
rule collect_costs:
    input:
        runs=f"{OUT}/tables/runs.parquet",
        layers=f"{OUT}/tables/layers.parquet",  # behind it stand the spectra of what is pruned
        spectra=[
            f"{STORE}/spectra/{member['model']}.parquet" for member in STUDY.members
        ],
    output:
        table=f"{OUT}/tables/costs.parquet",
    log:
        f"{OUT}/logs/collect_costs.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("collect_costs"),
        code=code("collect_costs"),
        study=study_json,
        benchmarks=f"{STORE}/benchmarks",
        logs=f"{STORE}/logs",
    message:
        "Collecting the costs"
    shell:
        "python {params.program} --study {params.study:q} --benchmarks {params.benchmarks} --logs {params.logs} "
        "--out {output.table} 2>&1 | tee {log}"


# A disagreement fails here too, although runs that are finished stay.
rule check_references:
    input:
        runs=f"{OUT}/tables/runs.parquet",
    output:
        table=f"{OUT}/tables/references.parquet",
    log:
        f"{OUT}/logs/check_references.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("check_references"),
        code=code("check_references"),
        expected=lambda wildcards: digest_of(
            [STUDY.expected[curve] for curve in STUDY.referred]
        ),
        references=CONFIG.get("references"),
        disagreement=CONFIG.get("dense_check", "stop"),
    message:
        "Comparing dense runs with their references"
    shell:
        "python {params.program} --runs {input.runs} --references {params.references:q} "
        "--disagreement {params.disagreement} --out {output.table} 2>&1 | tee {log}"


rule count_layers:
    input:
        grid=f"{OUT}/grid.parquet",
        spectra=spectra_counted,
    output:
        table=f"{OUT}/tables/layers.parquet",
    log:
        f"{OUT}/logs/count_layers.log",
    benchmark:
        f"{OUT}/benchmarks/count_layers/all.tsv"
    conda:
        conda_file("evaluate")
    resources:
        mem_mb=at_most("max_mem_mb", 4000),
        runtime=at_most("max_minutes", 10 + len(STUDY.used_models)),
    params:
        program=program("count_layers"),
        code=code("count_layers"),
        sparsity=CONFIG["figures"]["layers_sparsity"],
        spectra=lambda wildcards: f"{STORE}/spectra",
        missing=missing_spectra,
        other=models_of_other,
    shell:
        "python {params.program} --grid {input.grid} --spectra {params.spectra} --sparsity {params.sparsity} "
        "{params.missing} --other {params.other:q} --out {output.table} 2>&1 | tee {log}"


rule write_provenance:
    input:
        results=[
            *(f"{OUT}/tables/{table}.parquet" for table in study_tables()),
            *([f"{OUT}/claims.html"] if STUDY.claims else []),
            f"{OUT}/explorer.html",
        ],
        manifests=MANIFESTS,
    output:
        crate=f"{OUT}/ro-crate-metadata.json",
    log:
        f"{OUT}/logs/write_provenance.log",
    localrule: True
    conda:
        conda_file("analyse")
    params:
        program=program("write_provenance"),
        code=code("write_provenance"),
        configuration=lambda wildcards: STUDY.deciding(),
    message:
        "Writing what the study was made of"
    shell:
        "python {params.program} --study {params.configuration:q} --results {input.results} --manifests {input.manifests} "
        "--out {output.crate} 2>&1 | tee {log}"
