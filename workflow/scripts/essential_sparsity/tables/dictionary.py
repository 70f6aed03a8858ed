"""The data dictionary: what every table holds, as a page that is written from the schemas."""

from essential_sparsity import codefiles

ASKED = {  # word of a schema, see `Study.tables` -> when the table is made
    "always": "every study",
    "tickets": "studies with lottery tickets (pattern `lth`)",
    "differences": "studies with lottery tickets, or with a pattern beside one that it is compared with",
    "claims": "studies that are held against claims (key `claims`)",
    "masks": "studies whose masks are compared: lottery tickets, or checkpoints of a series",
    "series": "studies of a series (key `emergence: series`)",
    "references": "studies with reference values (key `references`)",
}
PLACES = {  # tables that are no table of a study's folder `tables` -> where they lie
    "fingerprints": "results/store/fingerprints/{model}.parquet",
    "grid": "results/{study}/grid.parquet",
    "items": "results/store/items/{model}/{task}/{pattern}/{levels}/seed{seed}.parquet",
    "losses": "results/store/pretraining/{pre-training}/losses.parquet",
    "resamples": "results/{study}/curves/{model}/{task}/resamples.parquet",
    "series": "results/{study}/series/{training}.parquet",
    "spectrum": "results/store/spectra/{model}.parquet",
}
HEAD = """# The tables

Written from `workflow/schemas/tables/*.yaml` by `python workflow/scripts/write_dictionary.py`: edit those. Every table is Parquet. Its version and
the unit and meaning of each column stand in its metadata too, and a SHA-256 of its rows. A table of another version, or with rows that were
changed after it was written, is refused by name when it is read ([reading.md](reading.md)).

*Key*: the columns that together identify a row, in whose order rows are sorted. Types: text, number (float64), whole number (int64), yes or no.
"""


def text() -> str:
    """The page, in Markdown."""
    names = codefiles.tables()
    index = ["| table | one row |", "|---|---|"]
    index += [f"| [`{name}`](#{name}) | {_cell(codefiles.described(name)['description'])} |" for name in names]
    return "\n".join([HEAD, *index, *(line for name in names for line in _table(name))]) + "\n"


def place(name: str) -> str:
    """Where a table lies."""
    return PLACES.get(name, f"results/{{study}}/tables/{name}.parquet")


def _table(name: str) -> list[str]:
    said = codefiles.described(name)
    lines = ["", f"## {name}", "", said["description"], ""]
    if said["asked"] in ASKED:
        lines += [f"- Made for {ASKED[said['asked']]}, by the rule `{said['made_by']}`"]
    else:
        lines += [f"- Made by the rule `{said['made_by']}`"]
    lines += [f"- File: `{place(name)}`", f"- Version: {said['version']}", f"- Key: {', '.join(said['key'])}", ""]
    lines += ["| column | type | unit | meaning |", "|---|---|---|---|"]
    for column, field in said["columns"].items():
        kind = field["type"] + (" or empty" if field.get("nullable") else "")
        lines.append(f"| `{column}` | {kind} | {_cell(field.get('unit', ''))} | {_cell(field['description'])} |")
    return lines


def _cell(words: str) -> str:
    return words.replace("|", r"\|")
