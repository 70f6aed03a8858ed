"""What a run found and cost, as plain text for a terminal."""

import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from essential_sparsity.curves.intervals import coarse, of_one_seed, seeds
from essential_sparsity.curves.verdicts import NOT_TESTABLE

WIDTH = 120  # of lines where the terminal is not wider
# What gives way where the knees' lines are too long: columns, and the characters that are left of each. Names are cut in their middle, as
# they often differ at their ends; notes at their end, where *one seed* stands, so they come last.
SHRINK = (((10,), 24), ((0, 1), 10), ((10,), 14), ((0, 1), 8), ((10,), 8))
CUT = "Notes are cut, at …: COLUMNS=200 before the command gives longer lines."
ZEROS = 0.01  # share of the prunable weights that is zero before pruning and worth a word
SHOWN = 3  # missing runs, and runs that disagree with their references, that are named


def knee_lines(knees: pd.DataFrame) -> list[str]:
    """The table `knees` as aligned lines as wide as the terminal, or WIDTH; sparsities in per cent, a dash for none.

    Where a note is cut, a last line says so.
    """
    header = ["model", "task", "pattern", "metric", "dense", "essential", "between", "95 %", "kneedle", "hinge", "note"]
    rows = []
    for row in knees[knees["headline"]].sort_values(["model", "task", "pattern"]).to_dict("records"):
        percents = [essential(row), *(_percent(row[name]) for name in ("kneedle", "hinge"))]
        percents.insert(1, interval(row["bracket_low"], row["bracket_high"]))
        percents.insert(2, interval(row["essential_sparsity_low"], row["essential_sparsity_high"]))
        dense = "–" if pd.isna(row["dense"]) else f"{row['dense']:.4g}"
        names = [row[name] for name in ("model", "task", "pattern", "metric")]
        rows.append([*names, dense, *percents, ", ".join(notes(row))])
    lines = _aligned(header, rows, left={0, 1, 2, 3, 10}, shrink=SHRINK)
    return lines + ([CUT] if any(line.endswith("…") for line in lines) else [])


def notes(row: Mapping[str, Any]) -> list[str]:
    """What a row of table `knees` wants said beside its numbers, in a few words each."""
    found = [] if pd.isna(row["reason"]) else [row["reason"].partition(":")[0]]
    returns = row["n_exits"] - (not row["no_drop"])  # of the exits, the last is the drop where there is one
    found += ["comes back in"] if returns > 0 else []
    found += [f"{row['n_undefined']} undefined"] if row["n_undefined"] else []
    found += [f"{row['n_unpaired']} without dense"] if row["n_unpaired"] and row["n_levels"] else []
    found += ["seeds missing"] if row["ragged"] else []
    found += [f"{row['n_missing']} missing"] if row["n_missing"] else []
    return found + (["one seed"] if of_one_seed(row) else [])


def essential(knee: Mapping[str, Any], short: bool = False) -> str:
    """The essential sparsity in per cent: `52.1 %`; the levels that hold it, `25–50 %`, where they are `coarse`; a dash.

    `short`: without decimals where the levels that hold it have none.
    """
    if pd.notna(knee["essential_sparsity"]) and coarse(knee):
        return interval(knee["bracket_low"], knee["bracket_high"])
    whole = all("." not in level(knee[name]) for name in ("bracket_low", "bracket_high") if pd.notna(knee[name]))
    return _percent(knee["essential_sparsity"], 0 if short and whole else 1)


def zero_lines(spectra: Mapping[str, pd.DataFrame]) -> list[str]:
    """The models of which many prunable weights are zero before any is pruned, by their tables `spectrum`."""
    shares = {
        name: frame.loc[frame["bin"] == 0, "count"].sum() / frame["count"].sum() for name, frame in spectra.items()
    }
    return [
        f"{name}: {_percent(share)} of its prunable weights are zero in its checkpoint. By magnitude these go first, and take nothing away."
        for name, share in sorted(shares.items())
        if share >= ZEROS
    ]


def missing_lines(missing: pd.DataFrame, knees: pd.DataFrame, table: Path) -> list[str]:
    """What is missing: a line per curve with missing runs, then the first few causes and where to look (`table`).

    Runs that have the same log, because they wait for the same, are one cause.
    """
    lines = []
    curves = knees[knees["headline"] & (knees["n_missing"] > 0)].sort_values(["model", "task", "pattern"])
    for row in curves.itertuples():
        count = f"{row.n_missing} run{'s are' if row.n_missing > 1 else ' is'} missing"
        lines.append(f"{row.model} on {row.task}, {row.pattern}: {count}")
    causes = missing[missing["log"].isna() | ~missing["log"].duplicated()]
    for row in causes.head(SHOWN).itertuples():
        lines.append(f"{row.model} {row.task} {row.pattern} {row.sparsity:.3f} seed {row.seed}: {row.reason}")
        lines += [f"  see {row.log}"] if pd.notna(row.log) else []
    return [*lines, f"All that are missing: {table} ({len(missing)})"] if len(missing) else lines


def reference_lines(references: pd.DataFrame, table: Path) -> list[str]:
    """How many runs agree with their references, and the first few that do not, pruned ones too (`table` has all)."""
    wrong = references[~references["agrees"]]
    lines = [f"{len(references) - len(wrong)} of {len(references)} comparisons agree: {table}"]
    for row in wrong.head(SHOWN).itertuples():
        run = "dense" if row.pattern == "dense" else f"{row.pattern} {row.sparsity:.3f}"
        found = "undefined" if pd.isna(row.found) else f"{row.found:.4g}"
        expected = f"{row.value:g} ± {row.tolerance:g} was expected ({row.source})"
        lines.append(f"{row.model} on {row.task}, {run}, seed {row.seed}: {row.metric} is {found}, {expected}")
    return lines


def interval(low: float | None, high: float | None) -> str:
    """`61–75 %`, `47.5–50 %`; `≥ 61 %` where the upper end lies beyond the levels; a dash for none."""
    if pd.isna(low):
        return "–"
    return f"≥ {level(low)} %" if pd.isna(high) else f"{level(low)}–{level(high)} %"


def level(sparsity: float) -> str:
    """A level in per cent, as exactly as the paths of runs name it: `50`, `47.5`."""
    return f"{100 * sparsity:.1f}".removesuffix(".0")


def cost_lines(costs: pd.DataFrame) -> list[str]:
    """The table `costs` summed by rule, the longest first, as aligned lines."""
    by_rule = costs.groupby("rule").agg(
        jobs=("wall_s", "size"),
        wall=("wall_s", "sum"),
        longest=("wall_s", "max"),
        cpu=("cpu_s", lambda seconds: seconds.sum(min_count=1)),
        memory=("max_rss_mb", "max"),
    )
    rows = [
        [
            rule,
            f"{row['jobs']:.0f}",
            duration(row["wall"]),
            duration(row["longest"]),
            duration(row["cpu"]),
            "–" if pd.isna(row["memory"]) else f"{row['memory'] / 1000:.1f} GB",
        ]
        for rule, row in by_rule.sort_values("wall", ascending=False).iterrows()
    ]
    rows.append(["all", str(len(costs)), duration(costs["wall_s"].sum()), "", duration(costs["cpu_s"].sum()), ""])
    return _aligned(["rule", "jobs", "time", "longest job", "CPU time", "most memory"], rows, left={0})


def claim_lines(claims: pd.DataFrame) -> list[str]:
    """The table `claims` as lines: those that could be tested with their verdicts, and how many could not."""
    ordered = claims.sort_values("position")
    tested = ordered[ordered["verdict"] != NOT_TESTABLE]
    lines = [
        f"{row.verdict:15}{textwrap.shorten(row.says, WIDTH - 15, placeholder=' …')}" for row in tested.itertuples()
    ]
    return [*lines, f"{len(ordered) - len(tested)} claims are not testable on what was measured here."]


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s`, `5 h 07 min`; a dash when it was not measured."""
    if pd.isna(seconds):
        return "–"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _percent(sparsity: float | None, decimals: int = 1) -> str:
    return "–" if pd.isna(sparsity) else f"{100 * sparsity:.{decimals}f} %"


def _aligned(
    header: list[str], rows: list[list[str]], left: set[int], shrink: Sequence[tuple[tuple[int, ...], int]] = ()
) -> list[str]:
    """Columns two blanks apart; until the lines fit, those of `shrink` give way, group by group, the widest first."""
    table, most = [header, *rows], max(WIDTH, shutil.get_terminal_size().columns)
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for group, shortest in shrink:
        while sum(widths) + 2 * (len(widths) - 1) > most and max(widths[column] for column in group) > shortest:
            widths[max(group, key=lambda column: widths[column])] -= 1
    lines = []
    for row in table:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            end = width // 2 if column in (0, 1) else 0
            fitting = cell if len(cell) <= width else f"{cell[: width - 1 - end]}…{cell[len(cell) - end :]}"
            cells.append(fitting.ljust(width) if column in left else fitting.rjust(width))
        lines.append("  ".join(cells).rstrip())
    return lines


def folders(results: Path, pattern: str) -> list[tuple[Path, int]]:
    """Folders below `results` that hold files matching a pattern, and how many each holds."""
    return sorted(Counter(path.parent for path in results.glob(pattern) if path.is_file()).items())


def report_table(knees: pd.DataFrame) -> pd.DataFrame:
    """The table `knees` for a reader: sparsities in per cent with one decimal, a dash for none, reasons in words."""
    ordered = knees.sort_values(["model", "task", "metric", "pattern"])
    readings = {
        "last compliant": "last_compliant",
        "kneedle": "kneedle",
        "hinge": "hinge",
    }
    return pd.DataFrame(
        {name: ordered[name] for name in ("model", "task", "pattern", "metric")}
        | {"dense": ordered["dense"].map(lambda value: "–" if pd.isna(value) else f"{value:.4g}")}
        | {"essential sparsity": [essential(row) for row in ordered.to_dict("records")]}
        | {label: ordered[column].map(_percent) for label, column in readings.items()}
        | {
            label: [interval(*ends) for ends in zip(ordered[low], ordered[high], strict=True)]
            for label, low, high in (
                ("between levels", "bracket_low", "bracket_high"),
                ("95 % interval", "essential_sparsity_low", "essential_sparsity_high"),
            )
        }
        | {"shape": ordered["shape"].fillna("–")}
        | {"levels": ordered["n_levels"], "seeds": [seeds(row, "–") for row in ordered.to_dict("records")]}
        | {"missing": ordered["n_missing"]}
        | {"items": ordered["n_items"], "note": ordered["reason"].fillna("")}
    )


def report_line(report: Path, written: Path, command: str) -> str:
    """Where the report lies; or how it is made, where there is none or tables are younger. `written`: what is written with the tables."""
    if not report.exists():
        return f"not made yet: {command}"
    stale = written.exists() and written.stat().st_mtime > report.stat().st_mtime
    return f"{report}{f' (of before these tables; anew: {command})' if stale else ''}"
