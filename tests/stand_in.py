"""In the place of the programs that need torch or take long: outputs that tell what they were made of.

`install(folder, python)` puts a `python` on a PATH folder that calls this file for those programs and `python` itself for
the others. The last digits of a run's value are drawn from the digest of all that decides it, an image or table from what was read: so two
studies have the same results when, and only when, they were made of the same. Code and arguments are the real ones.
A job fails while the file BROKEN names a part of the path of a file that it would write, and waits while HELD does.
"""

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
BROKEN, HELD = "broken.txt", "held.txt"
VERSIONS = {"torch": "stand-in", "transformers": "stand-in", "device": "cpu"}
OUTPUTS = {  # program -> the options that name what it writes
    "fetch_model": ["--manifest"],
    "fetch_dataset": ["--manifest"],
    "measure_spectrum": ["--out", "--fingerprints"],
    "prune_eval": ["--runs", "--items"],
    "find_ticket": ["--out", "--digest"],
    "count_layers": ["--out"],
    "compare_tickets": ["--out"],
    "collect_similarity": ["--out"],
    "fit_knees": ["--runs", "--missing-runs", "--knees", "--resamples"],
    "collect_knees": ["--knees", "--comparisons"],
    "measure_differences": ["--out"],
    "plot_curve": ["--out"],
    "plot_models": ["--out"],
    "plot_layers": ["--out"],
    "plot_difference": ["--out"],
    "plot_gain": ["--out"],
    "plot_similarity": ["--out"],
    "plot_panels": ["--out"],
    "tabulate_knees": ["--out"],
    "judge_claims": ["--out", "--evidence"],
    "write_claims": ["--out"],
    "write_explorer": ["--out"],
    "write_provenance": ["--out"],
}

# options that decide nothing
IDLE = [
    "--work",
    "--missing",
    "--tokens",
    "--study",
    "--dense",
    "--references",
    "--disagreement",
    "--metrics",
    "--allow-pickle",
    "--device",
    "--code",
]


def install(folder: Path, python: str, real: tuple[str, ...] = ()) -> Path:
    """The folder to put first on PATH; the programs `real` are not replaced. `python`: the interpreter of both."""
    shim = folder / "python"
    folder.mkdir(parents=True, exist_ok=True)
    names = "|".join(name for name in OUTPUTS if name not in real)
    shim.write_text(
        f'#!/bin/sh\nprogram=$(basename "$1" .py)\ncase $program in {names}) '
        f'exec "{python}" "{__file__}" "$@" ;; esac\nexec "{python}" "$@"\n'
    )
    shim.chmod(0o755)
    return folder


def options(arguments: list[str]) -> dict[str, list[str]]:
    """Option -> its values."""
    found: dict[str, list[str]] = {}
    for argument in arguments:
        if argument.startswith("--"):
            values = found.setdefault(argument, [])
        else:
            values.append(argument)
    return found


def beside(program: str, given: dict[str, list[str]]) -> list[Path]:
    """The files that a program finds by itself."""
    sys.path.insert(0, str(Path.cwd() / "workflow/scripts"))
    if program == "fit_knees":
        from essential_sparsity.study import grid, opening

        jobs = opening.read(json.loads(given["--study"][0]), looking=False).jobs_of(
            given["--model"][0], given["--task"][0]
        )
        return [path for job in jobs if (path := Path(f"{grid.STORE}/runs/{job.path}.parquet")).is_file()]
    if program == "collect_knees":
        from essential_sparsity import tables

        curves = tables.read(given["--grid"][0], "grid")[["model", "task"]].drop_duplicates().itertuples(index=False)
        folders = [Path(given["--curves"][0], *curve) for curve in sorted(curves)]
        return [folder / f"{name}.parquet" for folder in folders for name in ("knees", "resamples")]
    return []


def told(program: str, given: dict[str, list[str]], outputs: list[str]) -> str:
    """SHA-256 of the options and of the content of the files that they name or that the program finds, outputs aside."""
    parts = []
    for name, values in sorted(given.items()):
        if name in (*outputs, *IDLE):
            continue
        for value in values:
            parts.append(Path(value).read_bytes() if os.path.isfile(value) else value.encode())
    parts += [path.read_bytes() for path in beside(program, given)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def write(path: str, content: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(content)


def manifest(given: dict[str, list[str]]) -> dict:
    """What fetching finds: names and SHA-256 of the files of a path."""
    source = Path(json.loads(given["--settings"][0])["id"])
    paths = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    return {"files": [{"path": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in paths]}


def drawn(sparsity: float, digest: str) -> float:
    """The value of a run: each curve has a knee, and the last digits tell what decided it."""
    return 0.9 - 0.8 * sparsity + 0.001 * int(digest[:8], 16) / 16**8


def evaluate(given: dict[str, list[str]]) -> None:
    """The tables of an evaluation, each value drawn from its digest."""
    sys.path.insert(0, str(Path.cwd() / "workflow/scripts"))
    import pandas as pd

    from essential_sparsity import tables
    from essential_sparsity.runs import job

    args = argparse.Namespace(
        model=given["--model"][0], task=given["--task"][0], pattern=given["--pattern"][0], seed=int(given["--seed"][0]),
        sparsities=given["--sparsities"][0], settings=given["--settings"][0], code=given["--code"][0],
        manifest=given["--manifest"][0], data=given["--data"][0], tickets=given.get("--tickets", []),
        calibration=given.get("--calibration", [None])[0],
        dense=given.get("--dense", []), references=given.get("--references", [None])[0],
        disagreement=given.get("--disagreement", ["stop"])[0], work=Path(given["--work"][0]),
        runs=Path(given["--runs"][0]), items=Path(given["--items"][0]),
    )  # fmt: skip

    def computed(made: job.Made) -> tuple[pd.DataFrame, pd.DataFrame]:
        row = dict.fromkeys(tables.schema("runs").names)
        for field in tables.schema("runs"):
            if not field.nullable:
                row[field.name] = {"int64": 1, "double": 0.5, "bool": False}.get(str(field.type), "stand-in")
        row["protocol"] = json.loads(args.settings)["protocol"]
        rows, items = [], []
        for level, parts in made.items():
            value = {"metric": "accuracy", "value": drawn(float(level), parts["digest"]), "sparsity": float(level)}
            rows += [row | job.key(args) | parts | value, row | job.key(args) | parts | value | {"metric": "matthews"}]
            found = {"item": "i", "score": value["value"], "sparsity": float(level), "weight": 1.0}
            items.append(dict.fromkeys(tables.schema("items").names) | job.key(args) | found)
        print("computed", flush=True)
        return pd.DataFrame(rows).drop(columns="items_sha256"), pd.DataFrame(items)

    job.run(args, VERSIONS, computed)


def judge(given: dict[str, list[str]], digest: str) -> None:
    """The tables of one claim, which says what it was judged by."""
    sys.path.insert(0, str(Path.cwd() / "workflow/scripts"))
    import pandas as pd

    from essential_sparsity import tables

    texts = dict.fromkeys(("source", "because", "refuted_by", "expected"), "")
    counts = dict.fromkeys(("position", "n_evidence", "n_for", "n_against", "n_against_all"), 0)
    row = {"claim": "one", "says": digest, "verdict": "undecided", "expected_low": None, "expected_high": None}
    tables.write(pd.DataFrame([row | texts | counts]), "claims", given["--out"][0])
    tables.write(pd.DataFrame([]), "evidence", given["--evidence"][0])


def named(file: str, outputs: list[str]) -> bool:
    """Whether a file names a part of one of these paths."""
    parts = Path(file).read_text().split() if os.path.isfile(file) else []
    return any(part in path for part in parts for path in outputs)


def fail(outputs: list[str]) -> None:
    """End as a program does that meets a wrong input, for the files that BROKEN names; wait for those that HELD names."""
    if named(HELD, outputs):
        print("held", flush=True)
    while named(HELD, outputs):
        time.sleep(0.05)
    if named(BROKEN, outputs):
        print("reading the data", flush=True)
        raise ValueError(f"{outputs[0]} cannot be made.")


def main() -> None:
    program, given = Path(sys.argv[1]).stem, options(sys.argv[2:])
    fail([path for name in OUTPUTS[program] for path in given[name]])
    if program == "prune_eval":
        evaluate(given)
        return
    digest = told(program, given, OUTPUTS[program])
    if program == "judge_claims":
        judge(given, digest)
        return
    for name in OUTPUTS[program]:
        if name == "--manifest":
            write(given[name][0], json.dumps(manifest(given)))
        elif name == "--digest":
            write(given[name][0], f"{hashlib.sha256(digest.encode()).hexdigest()}  ticket\n")
        elif program == "write_provenance":
            write(given[name][0], json.dumps({"@graph": [], "made_of": digest}))
        else:
            write(given[name][0], digest)


if __name__ == "__main__":
    sys.path.pop(0)
    try:
        main()
    except ValueError as error:
        sys.exit(f"error: {Path(sys.argv[1]).stem}: {error}")
