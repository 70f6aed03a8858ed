"""The splits of a data set by their names: what is said of them in the names of files and folders, and their one spelling.

As the `datasets` library finds splits: a word in the name of a file or folder, between separators.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath

from essential_sparsity.acquire.archives import SourceError

ALL = "all"  # the name of the rows of data without splits
WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
SPLIT_OF = {word: split for split, words in WORDS.items() for word in words}
SEPARATORS = r"\-._ =0-9"
MATCHED = "_matched", "_mismatched"  # what a word may end in
SAY_IT = "say its split in the configs of a card (README.md)"


def spelt(names: Collection[str]) -> dict[str, str]:
    """Name of a split, as it stands -> its one spelling (`dev` is `validation`); where two would be one, as they stand."""
    one = {name: SPLIT_OF.get(name.lower(), name) for name in names}
    counts = Counter(one.values())
    return {name: split if counts[split] == 1 else name for name, split in one.items()}


@dataclass(frozen=True)
class Vocabulary:
    """The words that speak of a split: those of `WORDS`, and the names that a data set says its splits have (`own`)."""

    own: frozenset[str] = frozenset()

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        own = "|".join(re.escape(name) for name in sorted(self.own, key=len, reverse=True)) or "(?!)"
        words = "|".join(sorted(SPLIT_OF, key=len, reverse=True))
        return re.compile(
            rf"(?<![^\W_])(?-i:(?P<own>{own}))(?![^\W_])"
            rf"|(?:^|(?<=[{SEPARATORS}]))(?P<word>{words})(?P<suffix>{'|'.join(MATCHED)})?(?=[{SEPARATORS}]|$)",
            re.I,
        )

    @cached_property
    def spelt(self) -> dict[str | None, str]:
        return dict(spelt(self.own))

    def words(self, name: str) -> dict[str, str]:
        """Word of a path that speaks of a split, as it stands there but in small letters -> that split."""
        found = (match for part in PurePosixPath(name).parts for match in self.pattern.finditer(part))
        return {
            match["own"] or match[0].lower(): self.spelt.get(match["own"])
            or SPLIT_OF[match["word"].lower()] + (match["suffix"] or "").lower()
            for match in found
        }

    def splits_in(self, part: str) -> set[str]:
        """The splits that a file's or folder's name speaks of, in one spelling (`validation`; `validation_matched`)."""
        return set(self.words(part).values())

    def split_of(self, name: str) -> str | None:
        """The split that a path below the data's folder names; None where it names none. Raises SourceError for two."""
        found = set(self.words(name).values())
        if len(found) > 1:
            raise SourceError(
                f"The name {name} speaks of the splits {' and '.join(sorted(found))}: a file is one of them. Rename it, "
                f"{SAY_IT}, or name the folder that it lies in in the column id."
            )
        return next(iter(found), None)


KNOWN = Vocabulary()


def all_in(names: Iterable[str]) -> set[str]:
    """The splits that the names of files and of their folders speak of."""
    return {split for name in names for split in KNOWN.words(name).values()}
