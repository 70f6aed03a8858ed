"""The runs of a grid in one table, checked against what the grid asks for; and their evaluated items."""

import sys
from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from essential_sparsity import errors, files, tables
from essential_sparsity.tables import provenance

KEY = ["model", "task", "pattern", "sparsity", "seed"]
MIXED = ("torch", "transformers", "device")  # what may not differ among the runs of a model and task
WEIGHTS = {"weights_sha256": "SHA-256 of the weights", "dtype": "data type of the weights"}  # nor among a model's
OTHERWISE = "which rounds otherwise and may draw other dropout"  # what other hardware does
SHOWN = 5  # stale files that a message names


def collect(grid: pd.DataFrame, mixed: str | None = "stop") -> pd.DataFrame:
    """The rows of table `runs` that a grid (table `grid`) asks for, of the metrics that its tasks name.

    Raises ValueError naming the files that were made of something else than the configuration asks for, and what; for a
    metric that a run does not have; for runs of one model that scored other weights, or weights of another data type; and for
    runs of one model and task that another version of a library or another type of device computed, where `mixed` is "stop"
    ("warn" says so and goes on; None does not look).
    """
    found = tables.collect(grid["run"].drop_duplicates(), "runs")
    joined = beside(grid, found)
    if (missing := joined["metric"].isna()).any():
        first = joined[missing].iloc[0]
        raise errors.UserError(
            f"{first['run']} has no run at sparsity {first['sparsity']}, which its name promises. Delete it and run again."
        )
    _refuse_stale(joined)
    _refuse_other_weights(joined)
    if mixed:
        _compare_versions(joined, mixed)
    return _chosen(grid, found)


def beside(grid: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """Each row of table `grid` beside its rows of table `runs`, which are null where a run is not among `found`."""
    return grid.merge(found, on=KEY, how="left", suffixes=("_asked", ""))


def _chosen(grid: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The rows of the metrics that are wanted of each run."""
    wanted = grid.assign(metric=grid["metrics"].str.split(",")).explode("metric")[[*KEY, "metric", "named", "run"]]
    joined = wanted.merge(found, on=[*KEY, "metric"], how="left")
    lacking = joined[joined["digest"].isna() & joined["named"]]
    if len(lacking):
        first = lacking.iloc[0]
        raise errors.UserError(
            f"{first['run']} has no metric {first['metric']!r}, which the task {first['task']!r} asks for in the column "
            "metrics: it is not defined on this data. Leave it out."
        )
    return joined[joined["digest"].notna()].drop(columns=["named", "run"])


def differing(joined: pd.DataFrame) -> pd.Series:
    """What each run was made of that is not what the configuration asks for, such as `settings, code`; empty for most.

    `joined`: each row of table `runs` beside that of table `grid`, whose columns of the same name end in `_asked`.
    """
    asked = {
        "settings_sha256": joined["settings_sha256_asked"],
        "code_sha256": joined["code_sha256_asked"],
        "checkpoint_sha256": joined["checkpoint"].map(provenance.of_manifest),
        "data_sha256": joined["dataset"].map(provenance.of_manifest),
    }
    calibrations = joined["calibration_asked"].dropna()
    asked["calibration_sha256"] = calibrations.map(provenance.of_manifest).reindex(joined.index)
    tickets = joined["ticket"].dropna()
    asked["ticket_sha256"] = tickets.map(provenance.of_ticket).reindex(joined.index)
    other = pd.DataFrame(
        {
            column: (joined[column] != values) & ~(joined[column].isna() & values.isna())
            for column, values in asked.items()
        }
    )
    if not other.to_numpy().any():
        return pd.Series("", index=joined.index)
    return other.apply(lambda row: ", ".join(_names(row)), axis=1)


def _refuse_stale(joined: pd.DataFrame) -> None:
    stale = joined.assign(why=differing(joined))
    stale = stale[stale["why"] != ""].drop_duplicates("run")
    if stale.empty:
        return
    told = [f"  {row['run']}: other {row['why']}" for _, row in stale.head(SHOWN).iterrows()]
    more = f"\n  and {len(stale) - SHOWN} more" if len(stale) > SHOWN else ""
    raise errors.UserError(
        f"{len(stale)} of {joined['run'].nunique()} files of runs were made of something else than the configuration asks "
        "for now; nothing is tabulated from them. Run the same command again: it computes them anew. Should it find nothing to "
        "do, delete these files first:\n" + "\n".join(told) + more
    )


def _refuse_other_weights(joined: pd.DataFrame) -> None:
    """All runs of a model scored the same weights, in the same data type."""
    if told := _mixed(joined, ["model"], WEIGHTS):
        raise errors.UserError(
            "Runs of one model scored other weights. Delete those that are not of the checkpoint in results/store/checkpoints and "
            "run again:\n  " + "\n  ".join(told)
        )


def _compare_versions(joined: pd.DataFrame, mixed: str) -> None:
    """Runs that are compared with one another were computed by the same libraries on the same type of device."""
    told = _mixed(joined, ["model", "task"], {column: provenance.PARTS[column] for column in MIXED})
    if told and mixed == "stop":
        raise errors.UserError(
            "Runs that are compared with one another were computed differently. Delete those of the one kind and run again, or "
            "say that it is meant (`mixed_runs: warn` in the configuration):\n  " + "\n  ".join(told)
        )
    for line in told:
        print(f"warning: {line}", file=sys.stderr)
    if curves := mixed_hardware(joined):
        print(
            f"warning: runs that are compared with one another were computed on different hardware, {OTHERWISE}: {files.some(curves)}",
            file=sys.stderr,
        )


def mixed_hardware(found: pd.DataFrame) -> list[str]:
    """Model and task of the runs (table `runs`) that more than one hardware computed, with its names: `bert on mnli (A, B)`."""
    names = found.drop_duplicates(["model", "task", "hardware"]).groupby(["model", "task"])["hardware"].agg(sorted)
    return [f"{' on '.join(key)} ({', '.join(each)})" for key, each in names.items() if len(each) > 1]


def _mixed(joined: pd.DataFrame, by: list[str], columns: Mapping[str, str]) -> list[str]:
    """The values of each column (name -> what it is) that more than one occurs of among the runs that share `by`, in words."""
    told = []
    for key, rows in joined.groupby(by):
        for column, what in columns.items():
            if (rows[column] != rows[column].iloc[0]).any():
                first = rows.drop_duplicates(column).sort_values(column)
                values = ", ".join(f"{row[column]} ({row['run']})" for _, row in first.head(SHOWN).iterrows())
                told.append(f"{' on '.join(key)}: {what} {values}")
    return told


def _names(row: pd.Series) -> Iterator[str]:
    return (provenance.PARTS[column] for column in row.index[row.to_numpy()])


def items(grid: pd.DataFrame) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A function from rows of table `runs` to the rows of table `items` of their jobs, which `grid` (table) says where.

    It raises ValueError naming a file whose SHA-256 is not the one that its runs were written with.
    """
    places = grid[[*KEY, "items"]]

    def read(runs: pd.DataFrame) -> pd.DataFrame:
        wanted = runs[[*KEY, "items_sha256"]].drop_duplicates(KEY).merge(places, on=KEY)
        wanted = wanted.drop_duplicates("items").sort_values("items")
        for path, sha256 in zip(wanted["items"], wanted["items_sha256"], strict=True):
            if files.sha256_file(path) != sha256:
                raise errors.UserError(
                    f"{path} does not hold the items that its runs were written with (SHA-256 differs). Delete it and run again."
                )
        return tables.collect(wanted["items"], "items")

    return read
