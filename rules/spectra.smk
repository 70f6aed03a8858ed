# The magnitude spectrum of each checkpoint: its weights are read once, where the pruned ones sit comes from here.
rule spectrum:
    input:
        code=program("spectrum"),
        schema=schema("spectrum", "fingerprints"),
        manifest="results/checkpoints/{model}/manifest.json",
    output:
        spectrum="results/spectra/{model}.parquet",
        fingerprints="results/fingerprints/{model}.parquet",
    log:
        "results/logs/spectrum/{model}.log",
    benchmark:
        "results/benchmarks/spectrum/{model}.tsv"
    wildcard_constraints:
        model=FETCHED,
    conda:
        "../envs/evaluate.yaml"
    threads: 2
    resources:
        mem_mb=lambda wildcards, attempt: attempt * 4000,
        runtime=lambda wildcards, attempt: attempt
        * int(10 + MODELS[wildcards.model]["parameters"] / 1e9),
    params:
        pickle=lambda wildcards: (
            "--allow-pickle" if MODELS[wildcards.model]["allow_pickle"] else ""
        ),
    shell:
        "python {input.code[0]} --manifest {input.manifest} --out {output.spectrum} "
        "--fingerprints {output.fingerprints} {params.pickle} 2>&1 | tee {log}"
