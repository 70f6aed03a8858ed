"""How a card says that its files are read: what is read in another way here is refused."""

import codecs
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from essential_sparsity.acquire import cards
from essential_sparsity.acquire.archives import SourceError

OF_TEXT = {"encoding": ()}  # but for UTF-8
OF_COMMAS = OF_TEXT | {
    "sep": (",",),
    "delimiter": (",",),
    "header": (0, "infer"),
    "names": (),
    "column_names": (),
    "skiprows": (0, []),
    "skipfooter": (0,),
    "skip_blank_lines": (True,),
    "skipinitialspace": (False,),
    "nrows": (),
    "comment": (),
    "dialect": (),
    "quoting": (0,),
    "quotechar": ('"',),
    "doublequote": (True,),
    "escapechar": (),
    "lineterminator": ("\n",),
}
OF_OBJECTS = OF_TEXT | {"field": ()}
READ_SO = {  # suffix -> option of a configuration that decides what is a row and a cell -> its values with which such a file is read here
    ".csv": OF_COMMAS,
    ".tsv": OF_COMMAS | {"sep": ("\t",), "delimiter": ("\t",), "quoting": (0, 3)},
    ".json": OF_OBJECTS,
    ".jsonl": OF_OBJECTS,
    ".parquet": {"filters": ()},
}


def check(folder: Path, names: Sequence[str]) -> None:
    """Refuse files that a configuration reads with other separators, headers or the like than they are read with. Raises SourceError."""
    for config in cards.configurations(folder, yaml.SafeLoader):
        for name in config.files(names):
            suffix = PurePosixPath(name.lower().removesuffix(".gz")).suffix
            for option, values in READ_SO.get(suffix, {}).items():
                value = config.said.get(option)
                if option == "encoding" and _is_utf8(value):
                    continue
                if value not in values and (value is not None or (option == "header" and option in config.said)):
                    raise SourceError(
                        f"{cards.CARD} says that {name} is read with {option} = {value!r}, which it is not here. Save it as its format has it "
                        "(config/README.md, How data are read), and take that out of the card."
                    )


def _is_utf8(encoding: Any) -> bool:
    """Whether a name of an encoding, in any of its spellings (`UTF_8`, `U8`), is that of UTF-8."""
    try:
        return codecs.lookup(encoding).name in ("utf-8", "utf-8-sig")
    except (LookupError, TypeError, ValueError):
        return False
