"""Print what a run found, what it cost and where everything lies."""

import argparse
from pathlib import Path

from essential_sparsity import cli, tables
from essential_sparsity.figures import summary


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--knees", required=True, help="table of knees")
    parser.add_argument("--costs", help="table of costs")
    parser.add_argument("--results", type=Path, default=Path("results"), help="folder of the results")
    args = parser.parse_args(argv)
    print("Essential sparsity: share of the prunable weights that can go before the metric leaves its tolerance.")
    print(
        "essential: crossing of the isotonic mean (the headline); between: the levels of the grid that hold it, between"
    )
    print("which nothing was measured; kneedle, hinge: where the curve bends, whatever the tolerance. One seed: the")
    print("interval is that seed's, over other items, and says nothing of other seeds.\n")
    print("\n".join(summary.knee_lines(tables.read(args.knees, "knees"))))
    if args.costs:
        print("\nTime, summed over jobs\n")
        print("\n".join(summary.cost_lines(tables.read(args.costs, "costs"))))
    print("\nWhere everything lies\n")
    for what in ("tables", "figures"):
        for folder, count in summary.folders(args.results, f"{what}/**/*.*"):
            print(f"{what:9}{folder} ({count})")
    report = args.results / "report.html"
    print(f"{'report':9}{report if report.exists() else f'not made yet: snakemake --report {report}'}")


if __name__ == "__main__":
    cli.run(main)
