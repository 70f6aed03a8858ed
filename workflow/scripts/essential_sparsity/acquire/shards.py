"""Files that are parts of one table, by the numbers in their names: shards of a set, and files that are counted."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from essential_sparsity import files
from essential_sparsity.acquire.archives import SourceError

SHARD = re.compile(r"[-._](\d{1,9})-of-(\d{1,9})(?!\d)(?:-[0-9a-f]+)?")
PART = re.compile(r"(?:part|shard|data)s?[-_. ]?(\d{1,9})(?!\d)", re.I)  # a number that counts files
PADDED = re.compile(r"(?<!\d)(\d{3,9})(?!\d)(?!.*\d{3})")  # 000 and 001 count too; 01 may be a month
TAKE_OLD_OUT = "Take those of the older set out of the folder."


def check_one_set(names: Iterable[str]) -> None:
    """Refuse several files that are not the shards of one name. Raises SourceError."""
    if len({_before_shard(name) for name in names}) > 1:
        raise SourceError(
            f"{files.some(list(names))} are no parts of one set: parts have a number each, or are shards as 00000-of-00002. Take "
            "what is not meant out of the folder, or name one file in the column id."
        )


def check_shards(names: Iterable[str]) -> None:
    """Refuse shards of one name that are of sets of two sizes, one that stands twice or is none of its set, and missing ones."""
    sets: dict[str, list[str]] = {}
    for name in sorted(names):
        if SHARD.search(PurePosixPath(name).name):
            sets.setdefault(_before_shard(name), []).append(name)
    for stem, found in sets.items():
        numbers, totals = zip(
            *(map(int, SHARD.search(PurePosixPath(name).name).groups()) for name in found), strict=True
        )
        total = totals[0]
        if len(set(totals)) > 1:
            raise SourceError(
                f"{files.some(found)} are shards of sets of different sizes, as where data were saved over older ones. {TAKE_OLD_OUT}"
            )
        if twice := [name for name, number in zip(found, numbers, strict=True) if numbers.count(number) > 1]:
            raise SourceError(f"{files.some(twice)} are shards of {total:,} with one number. {TAKE_OLD_OUT}")
        first = int(total in numbers)  # shards are counted from 0; from 1 where the last is n of n
        expected = range(first, total + first)
        if wrong := [name for name, number in zip(found, numbers, strict=True) if number not in expected]:
            raise SourceError(
                f"{files.some(wrong)} are more than the {total:,} shards that their names say. {TAKE_OLD_OUT}"
            )
        if missing := total - len(found):
            lacking = next(number for number in expected if number not in numbers)
            raise SourceError(
                f"{stem}: {missing:,} of {total:,} shards are missing (the first is number {lacking}). Add them, or name one "
                "file in the column id, if it is all that is meant."
            )


def check_parts(names: Iterable[str]) -> None:
    """Refuse files that are counted from 0 or 1 (`part-0`, `000`) where numbers lack between them, fewer than there are.

    Years, and numbers in steps of a thousand, leave holes that are none. Raises SourceError.
    """
    counted: dict[tuple[str, str], dict[int, str]] = {}
    for name in sorted(names):
        file = PurePosixPath(name).name
        if not SHARD.search(file) and (number := PART.search(file) or PADDED.search(file)):
            start, end = (place - len(file) for place in number.span(1))
            counted.setdefault((name[:start], name[end:]), {})[int(number[1])] = number[1]
    for (before, after), found in counted.items():
        first, last = min(found), max(found)
        if first <= 1 and 0 < last - first + 1 - len(found) < len(found):
            lacking = [number for number in range(first, last) if number not in found]
            width = len(found[first])
            raise SourceError(
                f"{files.some([f'{before}{number:0{width}}{after}' for number in lacking])}: missing, between files that are there. "
                "Add what lacks, number the files anew if these are all, or name one file in the column id."
            )


def _before_shard(name: str) -> str:
    """A name up to where it says which shard it is; a name that says none as it stands."""
    path = PurePosixPath(name)
    shard = SHARD.search(path.name)
    return str(path.with_name(path.name[: shard.start()] or "-")) if shard else name
