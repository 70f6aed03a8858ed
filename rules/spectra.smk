# The magnitude spectrum of each checkpoint: its weights are read once, every threshold comes from here.
rule measure_spectrum:
    input:
        manifest=f"{STORE}/checkpoints/{{model}}/manifest.json",
    output:
        spectrum=f"{STORE}/spectra/{{model}}.parquet",
        fingerprints=f"{STORE}/fingerprints/{{model}}.parquet",
    log:
        f"{STORE}/logs/measure_spectrum/{{model}}.log",
    benchmark:
        f"{STORE}/benchmarks/measure_spectrum/{{model}}.tsv"
    wildcard_constraints:
        model=grid.one_of(model for model in MODELS if model not in MEASURED),
    conda:
        conda_file("evaluate")
    threads: 2
    resources:
        mem_mb=at_most("max_mem_mb", 4000),
        runtime=at_most(
            "max_minutes",
            lambda wildcards: 10 + MODELS[wildcards.model]["parameters"] / 1e9,
        ),
    params:
        program=program("measure_spectrum"),
        code=code("measure_spectrum"),
        pickle=pickle_of,
    shell:
        "python {params.program} --manifest {input.manifest} --out {output.spectrum} "
        "--fingerprints {output.fingerprints} {params.pickle} 2>&1 | tee {log}"
