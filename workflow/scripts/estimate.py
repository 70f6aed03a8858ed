"""Print what a study takes, before anything is spent: jobs, time, memory, downloads and disk, in all and what is left."""

import argparse

from essential_sparsity import cli
from essential_sparsity.study import configuration, estimate, opening


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", nargs="+", default=[], help="files whose keys replace those of config/config.yaml")
    parser.add_argument(
        "--gpus", type=int, help="GPUs at once (default: those of the profile for SLURM); 0: processors"
    )
    parser.add_argument("--downloads", action="store_true", help="only what is fetched, and how large it is")
    parser.add_argument("--sizes", action="store_true", help="ask the hub how large the data are that are not here")
    args = parser.parse_args(argv)
    config = configuration.read_config("config/config.yaml", *args.config)
    if args.gpus == 0:
        config["resources"] |= {"gpu": 0, "device": "cpu"}
    asked = opening.unlocked(config, configuration.named(*args.config))
    gone = [opening.absent(row) for row in opening.local_rows(asked) if not opening.there(row)]
    known = {}
    if args.sizes:
        from essential_sparsity.study import sizes

        known = sizes.of_hub(asked)
    if args.downloads:
        told = estimate.to_fetch(asked, known)
    elif estimate.begun(asked):
        from essential_sparsity.runs import settled  # with pandas: before anything has run an estimate is there at once

        told = estimate.lines(asked, args.gpus, settled.outdated(asked), known)
    else:
        told = estimate.lines(asked, args.gpus, sizes=known)
    print("\n".join([*told, *(f"Nothing is computed of {said}" for said in gone)]))


if __name__ == "__main__":
    cli.run(main)
