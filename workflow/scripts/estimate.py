"""Print what a study takes, before anything is spent: jobs, time, memory, downloads and disk, in all and what is left."""

import argparse

from essential_sparsity import cli
from essential_sparsity.study import configuration, estimate, study


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", default=[], help="files whose keys replace those of config/config.yaml")
    parser.add_argument(
        "--gpus", type=int, help="GPUs at once (default: those of the profile for SLURM); 0: processors"
    )
    parser.add_argument("--downloads", action="store_true", help="only what is fetched, and how large it is")
    args = parser.parse_args(argv)
    config = configuration.read_config("config/config.yaml", *args.config)
    if args.gpus == 0:
        config["resources"]["gpu"] = 0
    asked = study.unlocked(config)
    told = estimate.to_fetch(asked) if args.downloads else estimate.lines(asked, args.gpus, outdated(asked))
    print("\n".join(told))


def outdated(asked: study.Study) -> dict[str, str]:
    """The jobs that have run and are computed anew, and why: evaluations by their path, others by the file that they make."""
    try:
        other = study.read(asked.given).of_other
    except configuration.ConfigError:  # a branch of a hub that nobody has locked, a path that is gone
        other = []
    again = {
        path: "made of something else than is asked for now" for path in other if path.startswith(estimate.TRAINED)
    }
    there = asked.stored(asked.jobs)
    if not there:
        return again
    import pandas as pd  # not before anything has run: an estimate is then there at once

    from essential_sparsity.tables import missing

    return missing.outdated(pd.DataFrame(asked.rows(there)), other) | again


if __name__ == "__main__":
    cli.run(main)
