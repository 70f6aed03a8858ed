# How much of a pre-trained transformer is free to remove? Rules in rules/, science in workflow/scripts/essential_sparsity/.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/fetch.smk"
include: "rules/pretrain.smk"
include: "rules/spectra.smk"
include: "rules/runs.smk"
include: "rules/lottery.smk"
include: "rules/similarity.smk"
include: "rules/tables.smk"
include: "rules/knees.smk"
include: "rules/studies.smk"
include: "rules/figures.smk"


rule all:
    default_target: True
    input:
        f"{OUT}/grid.parquet",
        [f"{OUT}/tables/{table}.parquet" for table in study_tables()],
        RUN_FILES,  # a lost run is computed again although its tables are there
        ITEM_FILES,
        f"{OUT}/figures/knees.csv",
        CURVE_FIGURES,
        MODEL_FIGURES,
        DIFFERENCE_FIGURES,
        SIMILARITY_FIGURES,
        LAYER_FIGURES,
        SERIES_FIGURES,
