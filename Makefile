# Two commands do everything: `make demo` and `make test`. Another study: `make demo CONFIG=config/my-study.yaml`, and so
# run, fetch, tables (of what is there, when runs failed), refine, report, summary, estimate, lock, export and publish.
CONFIG ?=
VENV ?= .venv
PYTHON ?= python3
CORES ?= all
SLURM_TESTS ?= slurm
BIN := $(abspath $(VENV))/bin
INSTALLED := $(VENV)/.installed
# Programs are called as `python`: inside the environment that is its own.
export PATH := $(BIN):$(PATH)
export PYTHONUNBUFFERED := 1

OF_PROGRAMS := MODEL NAME TYPE ALLOW_PICKLE TASK TASK_NAME DATA COLUMNS PROTOCOL STUDY PATTERN SPARSITY SEED TRAIN REPO PRIVATE LICENSE
KNOWN := CONFIG VENV PYTHON CORES GPUS SIZES SLURM_TESTS
GIVEN_ON := SHELL MAKEFLAGS TMPDIR HF_% CUDA_% OMP_% PYTEST_% PIP_% SLURM_% %_proxy %_PROXY
UNKNOWN := $(filter-out $(KNOWN) $(OF_PROGRAMS) $(GIVEN_ON),$(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
ifeq ($(MAKELEVEL),0)
$(if $(UNKNOWN),$(error Nothing here reads $(UNKNOWN). Known are $(KNOWN) and, of study, export and publish, $(OF_PROGRAMS). What programs read \
  of the environment stands before make: NAME=value make ...))
endif

# What a user types is put into no shell line: variables of the command line are in the environment of the recipes, as they were
# typed, where make would expand what begins with a dollar sign, and run a $(shell ...).
verbatim = $(foreach option,$(1),$(eval override export $(option) := $$(value $(option))))
typed = $(foreach option,$(1),$(if $(filter command,$(origin $(option))),$(option)))
$(call verbatim,$(call typed,CONFIG CORES GPUS SIZES SLURM_TESTS))
export CORES SLURM_TESTS
GIVEN = $(if $(value CONFIG),--config $$CONFIG)
CONFIGURED := $(if $(value CONFIG),--configfile $$CONFIG)
SNAKEMAKE := $(BIN)/python workflow/scripts/run_alone.py --cores "$$CORES" --scheduler greedy --scheduler-subsample 500 --rerun-incomplete --keep-going --quiet rules host reason $(CONFIGURED)

.PHONY: help demo study run fetch tables refine report summary estimate export publish docs test test-slurm lock lint

demo: refine report summary ## a whole study on real weights and data, with its report; CONFIG=… another one

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

$(INSTALLED): envs/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "Installing into $(VENV) (once, a few minutes)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# Byte code by all cores at once: pip would compile on one, and every job would start three times slower without.
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile -r envs/requirements.txt
	@$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(abspath $(VENV))/lib || true
	@touch $@

# Those of the environment, where NAME may be the machine's, are not meant.
TYPED := $(call typed,$(OF_PROGRAMS))
$(call verbatim,$(TYPED))

OPTIONS = $(foreach option,$(TYPED),--$(shell echo $(option) | tr A-Z_ a-z-) "$$$(option)")

study: $(INSTALLED) ## a row, a data set and a configuration for a model and data of your own
	@$(BIN)/python workflow/scripts/new_study.py $(OPTIONS)

# The pruned checkpoint of a run, as transformers loads it: `make export STUDY=demo MODEL=minilm PATTERN=global SPARSITY=essential TASK=ws353`.
export: $(INSTALLED) ## the pruned checkpoint of a run, as transformers loads it
	@$(BIN)/python workflow/scripts/export_checkpoint.py $(GIVEN) $(OPTIONS)

# A finished study as a folder that `datasets` loads, and on a hub where one is named: `make publish STUDY=demo REPO=owner/name`.
publish: $(INSTALLED) ## a finished study as a folder that datasets loads, or on a hub
	@$(BIN)/python workflow/scripts/publish_study.py $(GIVEN) $(OPTIONS)

run: $(INSTALLED) ## what a study asks for and is not there
	@$(SNAKEMAKE)

# On a machine with a network, such as a login node: what is fetched, and how large it is, then all of it; files that are complete are kept when it is stopped.
fetch: $(INSTALLED) ## models and data, on a machine with a network
	@$(BIN)/python workflow/scripts/estimate.py --downloads --sizes $(GIVEN)
	@$(SNAKEMAKE) -- fetch

tables: $(INSTALLED) ## tables and figures of what is there; nothing is computed
	@$(SNAKEMAKE) --config missing_runs=skip

refine: $(INSTALLED) ## a study, with levels added around its knees
	@$(BIN)/python workflow/scripts/refine.py $(SNAKEMAKE)

# What a study takes before it is run, on so many GPUs at once: `make estimate CONFIG=… GPUS=8`; GPUS=0: processors.
# SIZES=1 asks the hub how large the data are that have not been fetched.
estimate: $(INSTALLED) ## jobs, hours, memory and disk, before anything is spent
	@$(BIN)/python workflow/scripts/estimate.py $(GIVEN) $(if $(filter override,$(origin GPUS)),--gpus "$$GPUS") \
	  $(if $(filter override,$(origin SIZES)),$(if $(filter 1,$(SIZES)),--sizes))

lock: $(INSTALLED) ## branches of hub repositories as commits
	@$(BIN)/python workflow/scripts/lock.py $(GIVEN)

report: $(INSTALLED) ## the report of a finished study, one file
	@$(BIN)/python workflow/scripts/report.py $(CONFIGURED)

summary: $(INSTALLED) ## the essential sparsities of a study
	@$(BIN)/python workflow/scripts/print_summary.py $(GIVEN)

# The pages of README.md, docs/ and config/ as a site, in `site/`.
docs: $(INSTALLED) ## the pages as a site
	@$(BIN)/sphinx-build -q -W --keep-going -c docs . site

test: $(INSTALLED) ## the tests
	@$(BIN)/python -m pytest -n 2 --dist loadfile

test-slurm: $(INSTALLED) ## the tests on a SLURM of one machine
	@exec tests/slurm/run.sh $(BIN)/python "$$SLURM_TESTS"

lint: $(INSTALLED) ## what the tests ask of style
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/snakefmt --check Snakefile rules
	@$(BIN)/snakemake --lint
