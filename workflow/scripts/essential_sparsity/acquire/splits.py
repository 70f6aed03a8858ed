"""Which files are one data set, and which of its splits each is, by their names below the folder of the data.

As the `datasets` library finds splits: a word in the name of a file or folder, between separators. Where that library
would merge or pass over what it does not know, this is refused: one folder is one data set, and each file is one split.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import PurePosixPath

from essential_sparsity import files
from essential_sparsity.acquire.archives import SourceError

ALL = "all"  # the name of the rows of data without splits
UNLABELLED = "unsupervised"  # a split where no word for another stands beside it, as in IMDb: rows that neither train nor are evaluated
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
    UNLABELLED: (UNLABELLED,),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
SEPARATORS = r"\-._ =0-9"
SPLIT = re.compile(
    rf"(?:^|(?<=[{SEPARATORS}]))({'|'.join(sorted(SPLIT_OF, key=len, reverse=True))})(_(?:mis)?matched)?(?=[{SEPARATORS}]|$)",
    re.I,
)
SHARD = re.compile(r"[-._](\d{1,9})-of-(\d{1,9})(?!\d)(?:-[0-9a-f]+)?")
PART = re.compile(r"(?:part|shard|data)s?[-_. ]?(\d{1,9})(?!\d)", re.I)  # a number that counts files
PADDED = re.compile(r"(?<!\d)(\d{3,9})(?!\d)(?!.*\d{3})")  # 000 and 001 count too; 01 may be a month
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)  # of one writing, as Spark names parts
COUNT = re.compile(r"(?<![^\W_])\d+[km](?![^\W_])", re.I)  # 2k, 1M
TAKE_OLD_OUT = "Take those of the older set out of the folder."
NAME_THE_FOLDER = "Name the folder or file of one data set in the column id (of a hub repository: owner/name:folder)."


def splits_in(part: str) -> set[str]:
    """The splits that a file's or folder's name speaks of, in one spelling (`validation`; `validation_matched`)."""
    return _labelled({SPLIT_OF[word.lower()] + suffix.lower() for word, suffix in SPLIT.findall(part)})


def split_of(name: str) -> str | None:
    """The split that a path below the data's folder names; None where it names none. Raises SourceError for two."""
    found = _labelled(set().union(*map(splits_in, PurePosixPath(name).parts)))
    if len(found) > 1:
        raise SourceError(
            f"The name {name} speaks of the splits {' and '.join(sorted(found))}: a file is one of them. Rename it, or name "
            "the folder that it lies in in the column id."
        )
    return next(iter(found), None)


def _labelled(found: set[str]) -> set[str]:
    return found - {UNLABELLED} or found


def grouped(names: Iterable[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
    """Split -> names of its files, sorted; `all` where no name speaks of a split. Raises SourceError for guesses.

    Refused are files of which some name a split and others none, files that lie in several folders within a split or in
    folders of different names beside it, names that differ within a split by more than numbers, or by a number that one of
    them lacks, names of two splits that each say what the other does not, two words for one split, a name in two forms, and
    shards of two sets.
    """
    groups: dict[str, list[str]] = {}
    for name in sorted(names):
        groups.setdefault(split_of(name) or ALL, []).append(name)
    if len(groups) > 1 and ALL in groups:
        others = [name for split, found in groups.items() if split != ALL for name in found]
        raise SourceError(
            f"{files.some(groups[ALL])}: the name says no split (train, validation, test), but {files.some(others, 3)} does. "
            "Rename it, take it out of the folder, or name one file in the column id."
        )
    places = {name: _place(name) for found in groups.values() for name in found}
    for found in groups.values():
        _refuse_twice(found, suffixes)
        folders = {PurePosixPath(name).parent for name in found}
        if len(folders) > 1:
            raise SourceError(
                f"{files.some(found)} lie in {len(folders)} folders, as if of several data sets or configurations, and would "
                f"become one. {NAME_THE_FOLDER}"
            )
        _refuse_unlike(found, suffixes)
    said = sorted({_said(name, suffixes) for name in places}, key=lambda words: (len(words), sorted(words)))
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


def _refuse_unlike(names: list[str], suffixes: tuple[str, ...]) -> None:
    """Refuse files of one split that are no parts of one table: parts differ by a number that each has, or as shards do."""
    split = split_of(names[0])
    become = f"all be the split {split}" if split else "become one table"
    if len({(_words(name), _stem(name, suffixes)) for name in names}) > 1:
        raise SourceError(
            f"{files.some(names)} would {become}, although their names differ by more than a number. {NAME_THE_FOLDER}"
        )
    parts: dict[tuple[int, ...], list[str]] = {}
    for name in names:
        plain = SHARD.sub("", without_suffix(PurePosixPath(name).name, suffixes))
        parts.setdefault(tuple(map(int, re.findall(r"\d+", plain))), []).append(name)
    if len({len(numbers) for numbers in parts}) > 1:
        raise SourceError(
            f"{files.some(names)} would {become}, but one name has a number that another lacks, as a copy or a second download "
            "has. Take what is not meant out of the folder, number all parts, or name one file in the column id."
        )
    for found in parts.values():
        check_one_set(found)


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


def _place(name: str) -> tuple[str, ...]:
    """The folders of a file above the part that names its split, that part without the split's name included."""
    folders = PurePosixPath(name).parent.parts
    for depth, part in enumerate(folders):
        if splits_in(part):
            rest = re.sub(r"[\d\W_]+", "", SPLIT.sub("", part)).removeprefix("split")
            return (*folders[:depth], rest) if rest else folders[:depth]
    return folders


def _words(name: str) -> frozenset[str]:
    """The words that name a split in a path, as they stand there: `dev` is another than `val`."""
    return frozenset(word.lower() for part in PurePosixPath(name).parts for word, _ in SPLIT.findall(part))


def _stem(name: str, suffixes: tuple[str, ...]) -> str:
    """What a file's name says beside its split, numbers, and the hash of a shard."""
    plain = SPLIT.sub("", SHARD.sub("", without_suffix(PurePosixPath(name).name, suffixes)))
    return re.sub(r"[\d\W_]+", "", plain).lower()


def _said(name: str, suffixes: tuple[str, ...]) -> frozenset[str]:
    """The words of a file's name beside its split, numbers (`2k` is one), and what marks one writing of it: a shard, a UUID."""
    plain = UUID.sub("", SHARD.sub("", without_suffix(PurePosixPath(name).name, suffixes)))
    no_split = frozenset({UNLABELLED}) & _words(plain) if splits_in(plain) != {UNLABELLED} else frozenset()
    return no_split | frozenset(re.findall(r"[^\W\d_]+", COUNT.sub("", SPLIT.sub(" ", plain)).lower()))


def without_suffix(name: str, suffixes: tuple[str, ...]) -> str:
    """A name without the longest of the suffixes that it ends in, in any spelling."""
    found = [suffix for suffix in suffixes if name.lower().endswith(suffix)]
    return name[: len(name) - max(map(len, found), default=0)]


def _refuse_twice(names: list[str], suffixes: tuple[str, ...]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        stem = without_suffix(name, suffixes).lower()
        if stem in seen:
            raise SourceError(
                f"{seen[stem]} and {name} are one name in two forms, and their rows would count twice. Take one of them out of the "
                "folder, or name one file in the column id."
            )
        seen[stem] = name
