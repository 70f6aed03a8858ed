"""Write down the commits of the hub revisions that a configuration uses, so that later runs read the same files.

python workflow/scripts/lock.py [--config config/my-study.yaml]
"""

import argparse
import csv

from huggingface_hub import HfApi
from huggingface_hub import errors as hub_errors

from essential_sparsity import cli, errors, files
from essential_sparsity.study import configuration, revisions, study


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="configuration whose keys replace those of config/config.yaml")
    args = parser.parse_args(argv)
    config = configuration.read_config("config/config.yaml", *([args.config] if args.config else []))
    locked = revisions.read(config["revisions"])
    asked = study.unlocked(config)
    wanted = {"model": (asked.models, asked.named_models), "dataset": (asked.datasets, asked.used_datasets)}
    missing = [key for kind, (rows, names) in wanted.items() for key in revisions.unlocked(rows, names, kind, locked)]
    api = HfApi()
    for kind, repository, revision in missing:
        try:
            locked[kind, repository, revision] = api.repo_info(repository, revision=revision, repo_type=kind).sha
        except (hub_errors.HTTPError, hub_errors.OfflineModeIsEnabled, OSError) as error:
            raise errors.UserError(
                f"{repository} at {revision!r} could not be asked for its commit: {error}"
            ) from error
        print(f"{repository} {revision} {locked[kind, repository, revision]}", flush=True)
    with files.atomic(config["revisions"]) as temporary, open(temporary, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, delimiter="\t", lineterminator="\n")
        writer.writerows(
            [("kind", "repository", "revision", "commit"), *((*key, locked[key]) for key in sorted(locked))]
        )
    print(f"{config['revisions']}: {len(missing)} new commits, {len(locked)} in all")


if __name__ == "__main__":
    cli.run(main)
