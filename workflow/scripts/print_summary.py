"""Print what a study found, what it cost and where everything lies."""

import argparse
import contextlib
import sys
from pathlib import Path

from essential_sparsity import cli, errors, files, tables
from essential_sparsity.figures import summary
from essential_sparsity.runs import settled
from essential_sparsity.study import configuration, grid, opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", default=[], help="files whose keys replace those of config/config.yaml")
    args = parser.parse_args(argv)
    config = configuration.read_config("config/config.yaml", *args.config)
    folder = Path(grid.folder(config["study"]))
    lacking = [name for name in ("knees", "missing_runs", "costs") if not (folder / f"tables/{name}.parquet").is_file()]
    if lacking:
        raise errors.UserError(
            f"{folder}/tables has no {lacking[0]}.parquet yet: the study is not finished. Run it, or `make tables` for what is there."
        )
    knees, missing, costs = (
        tables.read(folder / f"tables/{name}.parquet", name) for name in ("knees", "missing_runs", "costs")
    )
    asked = opening.unlocked(config, looking=False)
    if other := settled.other_readings(asked, knees):
        print(
            f"warning: {files.some(other)}: another one now than these tables were made with, which are of before. {settled.AGAIN}",
            file=sys.stderr,
        )
    if stale := settled.other_settings(asked):
        print(f"warning: {stale}", file=sys.stderr)
    print("Essential sparsity: share of the prunable weights that can go before the metric leaves its tolerance.")
    print(
        "essential: crossing of the isotonic mean (the headline), no number where levels more than 10 points apart hold it;"
    )
    print(
        "between: the levels that hold it, between which nothing was measured; kneedle, hinge: where the curve bends,"
    )
    print(
        "whatever the tolerance. One seed: the interval is that seed's, over other items, and says nothing of others.\n"
    )
    print("\n".join(summary.knee_lines(knees)))
    spectra = {}
    for name in knees["model"].unique():
        with contextlib.suppress(OSError, ValueError):  # not there, or damaged: the next run makes it
            spectra[name] = tables.read(Path(grid.STORE, f"spectra/{name}.parquet"), "spectrum")
    if zeros := summary.zero_lines(spectra):
        print("\nZero before pruning\n")
        print("\n".join(zeros))
    if len(missing):
        print("\nMissing runs\n")
        print("\n".join(summary.missing_lines(missing, knees, folder / "tables/missing_runs.parquet")))
    there = asked.tables()  # a table that is asked for no more is of an earlier configuration
    compared = folder / "tables/references.parquet"
    if "references" in there and compared.is_file() and len(found := tables.read(compared, "references")):
        print("\nReference values\n")
        print("\n".join(summary.reference_lines(found, compared)))
    judged = folder / "tables/claims.parquet"
    if "claims" in there and judged.is_file():
        print(f"\nClaims ({folder / 'claims.html'} has the evidence)\n")
        print("\n".join(summary.claim_lines(tables.read(judged, "claims"))))
    print("\nTime, summed over jobs\n")
    print("\n".join(summary.cost_lines(costs)))
    print("\nWhere everything lies\n")
    for what in ("tables", "figures"):
        for place, count in summary.folders(folder, f"{what}/**/*.*"):
            print(f"{what:9}{place} ({count})")
    report = folder / "report.html"
    command = " ".join(["make report", *(f"CONFIG={path}" for path in args.config)])
    if len(args.config) > 1:
        command = " ".join(["python workflow/scripts/report.py --configfile", *args.config])
    print(f"{'report':9}{summary.report_line(report, folder / 'ro-crate-metadata.json', command)}")
    if (page := folder / "explorer.html").is_file():
        print(f"{'explorer':9}{page}")
    print(f"{'store':9}{grid.STORE} (runs, checkpoints and data, shared by all studies)")


if __name__ == "__main__":
    cli.run(main)
