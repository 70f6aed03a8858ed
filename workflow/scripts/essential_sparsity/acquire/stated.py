"""What a data set says itself of its splits: the configurations of its card, the names in its `dataset_info`, and how
`push_to_hub` of the `datasets` library calls files. Where it says nothing, the names of its files decide (`grouping`).
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from essential_sparsity import files
from essential_sparsity.acquire import cards, grouping, splits
from essential_sparsity.acquire.archives import SourceError

NAME = r"\w+(?:\.\w+)*"  # of a split, as `datasets` takes it
PUSHED = re.compile(rf"(?:.*/)?({NAME})-\d{{5}}-of-\d{{5}}[^/]*\.[^/]*")
HIDDEN = "hidden"  # why a file is not read
UNNAMED = f"not named by {cards.CARD}"  # or is left out


@dataclass(frozen=True)
class Stated:
    """`placed`: split, as it stands -> its files in their order, where a card says them; `vocabulary`: else the words that name splits;
    `left_out`: files that are none of the data set."""

    placed: Mapping[str, Sequence[str]] | None = None
    vocabulary: splits.Vocabulary = splits.KNOWN
    left_out: Sequence[str] = ()

    def grouped(self, names: Sequence[str], suffixes: tuple[str, ...]) -> dict[str, list[str]]:
        """Split -> names of its files in their order; `all` where nothing speaks of a split. Raises SourceError for guesses."""
        if self.placed is None:
            found = grouping.grouped(names, suffixes, self.vocabulary)
        else:
            found = {split: list(placed) for split, placed in self.placed.items()}
            for placed in found.values():
                grouping.refuse_twice(placed, suffixes)
        spelt = splits.spelt(found)
        return {spelt[split]: of_split for split, of_split in sorted(found.items(), key=lambda entry: min(entry[1]))}


NOTHING = Stated()


def of(
    folder: Path,
    names: Sequence[str],
    inside: str = "",
    unread: Mapping[str, str] = MappingProxyType({}),
    whole: Sequence[str] = (),
) -> Stated:
    """What the data set in a folder says of files below it, which all lie `inside` (a folder, with a slash at its end, or nothing); in the
    result, names below that. `unread`: further data of it -> why they are not read; `whole`: all of its files, nothing where a part of them is
    looked at. Raises SourceError where it says several data sets, a file twice, none of files beside its own, those that are not read, and
    those that are not there."""
    configs = cards.configurations(folder)
    config = _chosen(configs, names)
    for known in (config for config in configs if config.is_default):
        _refuse_unread(known, names, unread)
    place = max(inside, config.folder if config else "", key=len)
    infos = [
        info
        for _, info in cards.infos(folder)
        if not config or str(info.get("config_name", cards.DEFAULT)) == config.name
    ]
    own = {
        str(split.get("name"))
        for info in infos
        for split in cards.listed(info.get("splits"))
        if isinstance(split, Mapping)
    }
    own |= _pushed([name.removeprefix(place) for name in names])
    vocabulary = splits.Vocabulary(frozenset(name for name in own if re.fullmatch(NAME, name)))
    if not config:
        return Stated(vocabulary=vocabulary)
    _refuse_unread(config, names, unread)
    if whole:
        _refuse_lacking(config, names, whole)
    left_out = [name.removeprefix(inside) for name in _beside(config, names)]
    if config.patterns is None:
        return Stated(None, vocabulary, left_out)
    placed = {split: [name.removeprefix(inside) for name in found] for split, found in _placed(config, names).items()}
    _refuse_crossed({split: found for split, found in placed.items() if found})
    return Stated({split: found for split, found in placed.items() if found}, vocabulary, left_out)


def _pushed(names: Sequence[str]) -> set[str]:
    """The splits that `push_to_hub` wrote: in the folder `data` the names of all shards; elsewhere those that speak of none, beside such as do."""
    found = {name: pushed[1] for name in names if (pushed := PUSHED.fullmatch(name))}
    speaking = {name for name in names if splits.KNOWN.words(name)}
    return {
        split
        for name, split in found.items()
        if name.rpartition("/")[0] == "data" or (speaking and name not in speaking)
    }


def _chosen(configs: Sequence[cards.Configuration], names: Sequence[str]) -> cards.Configuration | None:
    """The configuration that files are; None where none says that they are its own. Raises SourceError where they are of several."""
    known = [(config, found) for config in configs if config.says_files and (found := config.files(names))]
    if not known:
        return None
    named = {name for _, found in known for name in found}
    whole = [config for config, found in known if found == named]
    default = next((config for config, _ in known if config.is_default), None)
    if not whole or (default and default not in whole):
        one, first = next((entry for entry in known if entry[0] is default), known[0])
        other = next(config for config, found in known if found - first)
        raise SourceError(
            f"{cards.CARD} says that {files.some(sorted(first), 3)} are the configuration {one.name!r}, and "
            f"{files.some(sorted(named - first), 3)} another one ({other.name!r}), but all would become one. {grouping.NAME_THE_FOLDER}"
        )
    chosen = default or whole[0]
    if other := next(
        (config for config in whole if not chosen.is_default and config.placed(names) != chosen.placed(names)), None
    ):
        raise SourceError(
            f"{cards.CARD} says that {files.some(sorted(named), 3)} are the configuration {chosen.name!r}, and with other splits the "
            f"configuration {other.name!r}. Leave one of them in a copy of the folder, as the column id names it."
        )
    return chosen


def _refuse_unread(config: cards.Configuration, names: Sequence[str], unread: Mapping[str, str]) -> None:
    """Refuse a configuration that names what is hidden, or a split of which nothing is read. Raises SourceError."""
    read = config.placed(names) or {}
    for split, found in (config.placed(unread) or {}).items():
        lost = [name for name in found if not read[split] or unread[name] == HIDDEN]
        if lost:
            raise SourceError(
                f"{cards.CARD} says that {files.some(lost, 3)} are of the split {split}, which are not read: {unread[lost[0]]}. Save them in the "
                "same form as the others, under names that are not hidden, or take them out of the card."
            )


def _refuse_lacking(config: cards.Configuration, names: Sequence[str], whole: Sequence[str]) -> None:
    """Refuse a configuration that names files that are not there: rows, or a whole split, would be missing. Raises SourceError."""
    if lacking := config.lacking(whole):
        split, path = lacking[0]
        raise SourceError(
            f"{cards.CARD} says that {path} is of the split {split} (configuration {config.name!r}), and there is no such file beside "
            f"{files.some(sorted(names), 3)}. Add it, or correct the card (the files of a folder are its name and /*)."
        )


def _beside(config: cards.Configuration, names: Sequence[str]) -> list[str]:
    """Files that a configuration does not name. Raises SourceError for one in a folder of its own files."""
    own = config.files(names)
    places = {PurePosixPath(name).parent for name in own}
    other = [name for name in names if name not in own]
    if near := [name for name in other if PurePosixPath(name).parent in places]:
        raise SourceError(
            f"{cards.CARD} says that {files.some(sorted(own), 3)} are the configuration {config.name!r}, without {files.some(near, 3)}. Add "
            f"what is meant to the card, and take the rest out of the folder. {grouping.NAME_THE_FOLDER}"
        )
    return other


def _placed(config: cards.Configuration, names: Sequence[str]) -> Mapping[str, list[str]]:
    """Split -> its files in the order in which the card names them. Raises SourceError for a file that it names twice."""
    placed = config.placed(names) or {}
    counts = Counter(name for found in placed.values() for name in found)
    if twice := [name for name, count in counts.items() if count > 1]:
        of_splits = sorted(split for split, found in placed.items() if twice[0] in found)
        raise SourceError(
            f"{cards.CARD} names {twice[0]} twice in the configuration {config.name!r} ({files.some(of_splits)}), and its rows would count "
            "twice. Correct it."
        )
    return placed


def _refuse_crossed(placed: Mapping[str, Sequence[str]]) -> None:
    """Refuse a card that calls test what the names of files call train, or the like. Raises SourceError."""
    for split, found in splits.spelt(placed).items():
        for name in placed[split]:
            in_name = set(splits.KNOWN.words(name).values())
            if found in splits.WORDS and in_name & set(splits.WORDS) and found not in in_name:
                raise SourceError(
                    f"{cards.CARD} puts {name} into the split {split}, and its name says {files.some(sorted(in_name))}. Correct the card (files "
                    "without a split are train there), or rename the file."
                )
