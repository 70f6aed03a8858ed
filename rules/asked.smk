# All that a study asks for, and what is left of what it asked for before.
ASKED = [
    f"{OUT}/grid.parquet",
    *[f"{OUT}/tables/{table}.parquet" for table in study_tables()],
    # a lost run is computed again although its tables are there
    *([] if SKIPPING else [*RUN_FILES, *ITEM_FILES]),
    f"{OUT}/figures/knees.csv",
    *CURVE_FIGURES,
    *MODEL_FIGURES,
    *PANEL_FIGURES,
    *DIFFERENCE_FIGURES,
    *GAIN_FIGURES,
    *SIMILARITY_FIGURES,
    *LAYER_FIGURES,
    *SERIES_FIGURES,
    *CLAIMS_PAGE,
    f"{OUT}/explorer.html",
    f"{OUT}/ro-crate-metadata.json",
]

if workflow.is_main_process:
    belong = {*ASKED, *RUN_FILES, *ITEM_FILES, *MANIFESTS}
    belong.update(*map(records.measured, STUDY.used_models))
    if wrong := places.in_the_way(belong):
        raise WorkflowError(wrong)

# It stays where it was, and looks as if it were of the study that there is.
if workflow.is_main_process and (left := records.left(OUT, ASKED)):
    print(f"warning: {records.leftovers(OUT, left)}", file=sys.stderr)
