# How much of a pre-trained transformer is free to remove? Rules in rules/, science in workflow/scripts/essential_sparsity/.
from snakemake.utils import min_version

min_version("9.20")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "rules/repository.smk"
include: "rules/common.smk"
include: "rules/inputs.smk"
include: "rules/collected.smk"
include: "rules/requests.smk"


if not SKIPPING:  # else what lies in the store is taken as it is

    include: "rules/fetch.smk"
    include: "rules/pretrain.smk"
    include: "rules/spectra.smk"
    include: "rules/runs.smk"


include: "rules/differences.smk"
include: "rules/similarity.smk"
include: "rules/tables.smk"
include: "rules/knees.smk"
include: "rules/studies.smk"
include: "rules/figures.smk"
include: "rules/claims.smk"
include: "rules/explorer.smk"
include: "rules/asked.smk"


rule all:
    default_target: True
    input:
        ASKED,


onstart:
    if OWN_PYTHON and (wrong := environment.differing(PINS)):
        raise WorkflowError(wrong)
    guard_interpreter()
    warn_of_triggers()
    heads.starts()
    stopping.listen(signal.SIGTERM)  # Snakemake has its own answer now
    stopping.quieten(logger)
    # the name that the SLURM plugin gives its jobs
    if run := getattr(workflow.scheduler._executor, "run_uuid", None):
        heads.submits(HEAD, run)


onerror:
    if number := stopping.noted():
        print(stopping.farewell(number), file=sys.stderr)
        raise SystemExit(128 + number)
    if not SKIPPING:
        print(
            f"Jobs failed: their logs lie in {STORE}/logs and {OUT}/logs, by rule. The same command tries them again. `make tables`, "
            "or Snakemake with `--config missing_runs=skip`, makes tables and figures of what is there, and computes nothing.",
            file=sys.stderr,
        )
