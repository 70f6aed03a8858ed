"""Pack a finished study as a folder that `datasets` loads, with a data card, and push it to a hub where one is named.

make publish STUDY=demo REPO=owner/name
"""

import argparse
import re
from pathlib import Path

from essential_sparsity import cli, errors
from essential_sparsity.acquire import pushing
from essential_sparsity.runs import chosen, datacard, folders, publishing
from essential_sparsity.tables import crate

LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", nargs="+", default=[], help="files whose keys replace those of config/config.yaml")
    parser.add_argument("--study", help="name of the study (default: that of the configuration)")
    parser.add_argument(
        "--repo", help="owner/name of the data set on the hub that HF_ENDPOINT names (default: the folder alone)"
    )
    parser.add_argument(
        "--private", choices=["true", "false"], help="who sees a data set that is new there (default: true)"
    )
    parser.add_argument(
        "--license", default=datacard.UNKNOWN, help="of the tables, as the hub writes it: cc-by-4.0, mit, …"
    )
    args = parser.parse_args(argv)
    if args.repo is not None:
        pushing.check(args.repo)
    elif args.private is not None:
        raise errors.UserError(
            "PRIVATE says who sees a data set of a hub: name it by REPO=owner/name, or leave PRIVATE out."
        )
    if not LICENCE.fullmatch(args.license):
        raise errors.UserError(f"LICENSE is {args.license!r}: write it as the hub does, such as cc-by-4.0.")
    config = chosen.configured(args.study, args.config)
    made = publishing.publish(config, args.license, crate.commit_of(Path(__file__).parents[2]))
    print("\n".join(publishing.lines(made)))
    if args.license == datacard.UNKNOWN:
        print("The card names no licence of the tables: LICENSE=cc-by-4.0, or another, does.")
    if args.repo is None:
        print(
            "Nothing was pushed: REPO=owner/name does, to the hub that HF_ENDPOINT names; private unless PRIVATE=false is said."
        )
        return
    pushed = pushing.push(
        made.folder, args.repo, args.private != "false", folders.RECORD, f"The study {config['study']}"
    )
    seen = "private" if pushed.private else "public"
    what = f"commit {pushed.commit}" if pushed.new else f"unchanged since commit {pushed.commit}, no new one was made"
    print(f"{pushed.url}: {what} ({seen})")
    if pushed.private and args.private == "false":
        print("It was there and private, and stays so: who sees it is changed on the hub.")


if __name__ == "__main__":
    cli.run(main)
