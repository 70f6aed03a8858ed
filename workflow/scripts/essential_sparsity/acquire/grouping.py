"""Which files are one data set, and which of its splits each is, by their names below the folder of the data.

Where the `datasets` library would merge or pass over what it does not know, this is refused: one folder is one data set,
and each file is one split.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath

from essential_sparsity import files
from essential_sparsity.acquire import shards
from essential_sparsity.acquire.archives import SourceError
from essential_sparsity.acquire.splits import ALL, KNOWN, SAY_IT, Vocabulary

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)  # of one writing, as Spark names parts
COUNT = re.compile(r"(?<![^\W_])\d+[km](?![^\W_])", re.I)  # 2k, 1M
NAME_THE_FOLDER = "Name the folder or file of one data set in the column id (of a hub repository: owner/name:folder)."


def grouped(names: Iterable[str], suffixes: tuple[str, ...], vocabulary: Vocabulary = KNOWN) -> dict[str, list[str]]:
    """Split -> names of its files, sorted; `all` where no name speaks of a split. Raises SourceError for guesses.

    Refused are files of which some name a split and others none, files that lie in several folders within a split or in
    folders of different names beside it, names that differ within a split by more than numbers, or by a number that one of
    them lacks, names of two splits that each say what the other does not, two words for one split, a name in two forms, and
    shards of two sets.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(vocabulary.split_of(name) or ALL, []).append(name)
    if len(groups) > 1 and ALL in groups:
        others = [name for split, found in groups.items() if split != ALL for name in found]
        raise SourceError(
            f"{files.some(groups[ALL])}: the name says no split (train, validation, test), but {files.some(others, 3)} does. "
            f"Rename it, take it out of the folder, {SAY_IT}, or name one file in the column id."
        )
    places = {name: _place(name, vocabulary) for found in groups.values() for name in found}
    for found in groups.values():
        refuse_twice(found, suffixes)
        folders = {PurePosixPath(name).parent for name in found}
        if len(folders) > 1:
            raise SourceError(
                f"{files.some(found)} lie in {len(folders)} folders, as if of several data sets or configurations, and would "
                f"become one. {NAME_THE_FOLDER}"
            )
        _refuse_unlike(found, suffixes, vocabulary)
    said = sorted({_said(name, suffixes, vocabulary) for name in places}, key=lambda words: (len(words), sorted(words)))
    if not all(fewer <= more for fewer, more in pairwise(said)):
        told = [" ".join(sorted(words)) for words in said if words]
        raise SourceError(
            f"{files.some(list(places))} would be splits of one data set, although their names say more than a split ({files.some(told)}). "
            "Give them one name beside the split, or name one file in the column id."
        )
    if len(set(places.values())) > 1:
        raise SourceError(
            f"{files.some(list(places))} lie in folders of several data sets or configurations "
            f"({files.some(sorted({'/'.join(place) or '.' for place in places.values()}))}), and would become one. {NAME_THE_FOLDER}"
        )
    return groups


def _refuse_unlike(names: list[str], suffixes: tuple[str, ...], vocabulary: Vocabulary) -> None:
    """Refuse files of one split that are no parts of one table: parts differ by a number that each has, or as shards do."""
    split = vocabulary.split_of(names[0])
    become = f"all be the split {split}" if split else "become one table"
    if len({(frozenset(vocabulary.words(name)), _stem(name, suffixes, vocabulary)) for name in names}) > 1:
        raise SourceError(
            f"{files.some(names)} would {become}, although their names differ by more than a number. {NAME_THE_FOLDER}"
        )
    parts: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        plain = shards.SHARD.sub("", without_suffix(PurePosixPath(name).name, suffixes))
        parts.setdefault(tuple(map(int, re.findall(r"\d+", plain))), []).append(name)
    if len({len(numbers) for numbers in parts}) > 1:
        raise SourceError(
            f"{files.some(names)} would {become}, but one name has a number that another lacks, as a copy or a second download "
            "has. Take what is not meant out of the folder, number all parts, or name one file in the column id."
        )
    for found in parts.values():
        shards.check_one_set(found)


def _place(name: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The folders of a file above the part that names its split, that part without the split's name included."""
    folders = PurePosixPath(name).parent.parts
    for depth, part in enumerate(folders):
        if vocabulary.splits_in(part):
            rest = re.sub(r"[\d\W_]+", "", vocabulary.pattern.sub("", part)).removeprefix("split")
            return (*folders[:depth], rest) if rest else folders[:depth]
    return folders


def _stem(name: str, suffixes: tuple[str, ...], vocabulary: Vocabulary) -> str:
    """What a file's name says beside its split, numbers, and the hash of a shard."""
    plain = vocabulary.pattern.sub("", shards.SHARD.sub("", without_suffix(PurePosixPath(name).name, suffixes)))
    return re.sub(r"[\d\W_]+", "", plain).lower()


def _said(name: str, suffixes: tuple[str, ...], vocabulary: Vocabulary) -> frozenset[str]:
    """The words of a file's name beside its split, numbers (`2k` is one), and what marks one writing of it: a shard, a UUID."""
    plain = UUID.sub("", shards.SHARD.sub("", without_suffix(PurePosixPath(name).name, suffixes)))
    return frozenset(re.findall(r"[^\W\d_]+", COUNT.sub("", vocabulary.pattern.sub(" ", plain)).lower()))


def without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    """A name without the longest of the suffixes that it ends in, in any spelling."""
    found = [suffix for suffix in suffixes if name.lower().endswith(suffix)]
    return name[: len(name) - max(map(len, found), default=0)]


def refuse_twice(names: list[str], suffixes: tuple[str, ...]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        stem = without_suffix(name, suffixes).lower()
        if stem in seen:
            raise SourceError(
                f"{seen[stem]} and {name} are one name in two forms, and their rows would count twice. Take one of them out of the "
                "folder, or name one file in the column id."
            )
        seen[stem] = name
