"""Write down the commits of the hub revisions that a configuration uses, so that later runs read the same files.

python workflow/scripts/lock.py [--config config/my-study.yaml]
"""

import argparse
import csv
from functools import partial

from huggingface_hub import HfApi

from essential_sparsity import cli, files
from essential_sparsity.acquire import hub
from essential_sparsity.study import configuration, opening, revisions


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="configuration whose keys replace those of config/config.yaml")
    args = parser.parse_args(argv)
    own = [args.config] if args.config else []
    config = configuration.read_config("config/config.yaml", *own)
    locked = revisions.read(config["revisions"])
    asked = opening.unlocked(config, configuration.named(*own))
    wanted = {"model": (asked.models, asked.named_models), "dataset": (asked.datasets, asked.used_datasets)}
    missing = [key for kind, (rows, names) in wanted.items() for key in revisions.unlocked(rows, names, kind, locked)]
    api = HfApi()
    for kind, repository, revision in missing:
        with hub.told(repository, revision):
            info = hub.asked(partial(api.repo_info, repository, revision=revision, repo_type=kind))
        locked[kind, repository, revision] = info.sha
        print(f"{repository} {revision} {locked[kind, repository, revision]}", flush=True)
    with open(config["revisions"], encoding="utf-8") as table:
        comments = [line for line in table if line.startswith("#")]
    with files.atomic(config["revisions"]) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        handle.writelines(comments)
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerows(
            [("kind", "repository", "revision", "commit"), *((*key, locked[key]) for key in sorted(locked))]
        )
    print(f"{config['revisions']}: {len(missing)} new commits, {len(locked)} in all")


if __name__ == "__main__":
    cli.run(main)
