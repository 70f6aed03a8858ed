"""What a data set holds, said before anything is computed on it: kept in its manifest, printed when it is fetched."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from essential_sparsity import files
from essential_sparsity.acquire import splits
from essential_sparsity.acquire.archives import SourceError
from essential_sparsity.acquire.frames import as_seen, blank

CONTENT = ("text", "text_a", "text_b", "question", "context", "image", "document")  # what a model is given of a row
SEEN = r"[^\s\p{Z}\p{Cc}\p{Cf}]"  # a character of a text that is not empty, as `frames.unseen` says it
WHOLE = re.compile(r"-?\d+(\.0*)?")  # which can be written in several ways (1, 01, 1.0); 1.1 and 1.10 may be versions
LIST = re.compile(r"\[.*\]", re.DOTALL)
SEVERAL = re.compile(  # of those that hold more than one: [a, b], [0 2], ['a' 'b']
    r"""\[(.*,.*|\s*-?[\d.]+(\s+-?[\d.]+)+\s*|\s*(['"]).*\3\s+\3.*\3\s*)\]""", re.DOTALL
)
MOST = 50  # labels, or names of files, that are listed; more are counted


def describe(
    frame: pd.DataFrame, found: Sequence[str], left_out: Mapping[str, str], rows_left_out: Mapping[str, int]
) -> dict[str, Any]:
    """The report: nothing but what the data decide, so that the same data give the same manifest.

    `frame`: the rows as they will be kept, but for items that are their places; `found`: files read; `left_out`: other files of the source, with the reason;
    `rows_left_out`: reason -> rows that the reader dropped. Per split: `rows`; `labels`, as [label, rows] in their order, or
    the number of labels where they are many; `without_label`; `missing` and `empty` texts by column; `repeated`: rows whose
    content stands in the split already; `in_training`: rows whose content stands in train as well.
    """
    columns = [column for column in CONTENT if column in frame]
    parts = {str(name): rows for name, rows in frame.groupby("split", sort=False)} if "split" in frame else {}
    parts = parts or {splits.ALL: frame}
    content = {name: _content(rows, columns) for name, rows in parts.items()} if columns else {}
    trained = content.get("train", np.empty(0, np.uint64))
    report = {
        "splits": {name: _split(rows, columns) for name, rows in parts.items()},
        "files": _listed(sorted(found)),
        "files_left_out": _listed([[name, reason] for name, reason in sorted(left_out.items())]),
        "rows_left_out": dict(rows_left_out),
    }
    for name, rows in content.items():
        report["splits"][name]["repeated"] = int((rows[1:] == rows[:-1]).sum())
        if name != "train" and len(trained):
            report["splits"][name]["in_training"] = int(np.isin(rows, trained).sum())
    report["warnings"] = _warnings(report, frame)
    return report


def _content(rows: pd.DataFrame, columns: Sequence[str]) -> np.ndarray:
    """What a model is given of each row, to be compared with that of others: 64 bits of a digest, which one pair in 2e19 shares. Sorted."""
    cells = zip(*(rows[column] for column in columns), strict=True)
    found = np.fromiter(map(_digest, cells), np.uint64, len(rows))
    found.sort()  # in place: a corpus has tens of millions
    return found


def _digest(cells: Sequence[Any]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for cell in cells:
        data = (
            cell
            if isinstance(cell, bytes)
            else (cell if isinstance(cell, str) else repr(cell)).encode("utf-8", "surrogatepass")
        )
        digest.update(b"%d:%s" % (len(data), data))
    return int.from_bytes(digest.digest(), "little")


def _split(rows: pd.DataFrame, columns: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"rows": len(rows)}
    if "label" in rows:
        labels = rows["label"][rows["label"].notna() & ~blank(rows["label"])]
        counts = labels.value_counts(sort=False)
        counts = counts[counts > 0]
        if not isinstance(labels.dtype, pd.CategoricalDtype):
            counts = counts.sort_index(key=lambda index: index.map(str))
        listed = [[str(label), int(count)] for label, count in counts.items()]
        found |= {"labels": listed if len(listed) <= MOST else len(listed), "without_label": len(rows) - len(labels)}
    texts = [column for column in columns if column != "image"]
    missing = {column: int(rows[column].isna().sum()) for column in columns}
    empty = {column: _empty(rows[column].astype("string")) for column in texts}
    for name, counted in (("missing", missing), ("empty", empty)):
        found[name] = {column: count for column, count in counted.items() if count}
    return found


def _empty(texts: pd.Series) -> int:
    seen = pc.match_substring_regex(pa.array(texts.dropna(), pa.large_string()), SEEN)
    return len(seen) - (pc.sum(seen).as_py() or 0)


def _listed(names: Sequence[Any]) -> dict[str, Any]:
    return {"number": len(names), "first": list(names[:MOST])}


def _told(listed: Mapping[str, Any], most: int = 8) -> str:
    """`240 (a.png, b.png and 238 more)`: what `_listed` kept, in words; a file left out with its reason."""
    names = [name if isinstance(name, str) else f"{name[0]} ({name[1]})" for name in listed["first"][:most]]
    more = listed["number"] - len(names)
    return f"{listed['number']:,} ({', '.join(names)}{f' and {more:,} more' if more else ''})"


def _warnings(report: Mapping[str, Any], frame: pd.DataFrame) -> list[str]:
    """What is not as one expects it, and can yet be meant: a task that cannot use such data refuses them itself."""
    told = []
    if "split" not in frame:
        for column in (name for name in frame if name not in (*CONTENT, "item", "label", "target")):
            found = _splits_said(frame[column])
            if len(found) > 1 and "train" in found:
                told.append(
                    f"the column {column!r} says {', '.join(found)}, as splits are called, but is not read as that: all rows are one part. Name "
                    f"it in the column columns (split={column})"
                )
    if "label" in frame:
        found = frame["label"][frame["label"].notna()]
        if len(found) > 1 and (found == found.iloc[0]).all():
            told.append(f"all rows have the one label {found.iloc[0]!r}: no classification can use them")
        seen: dict[str | Decimal, list[str]] = {}
        for label in map(str, found.unique()):
            text = as_seen(label).casefold()
            seen.setdefault(Decimal(text) if WHOLE.fullmatch(text) else text, []).append(label)
        if twins := [label for alike in seen.values() if len(alike) > 1 for label in alike]:
            told.append(
                f"labels that differ in capitals, blanks, unseen signs, accents or the zeros of one whole number alone are several: {files.some([ascii(label) for label in twins])}"
            )
        lists = [label for label in found.unique() if isinstance(label, str) and LIST.fullmatch(label.strip())]
        if any(SEVERAL.fullmatch(label.strip()) for label in lists):
            told.append(
                f"labels that are written as lists count as one class each, whatever they share: {files.some(lists, 3)}"
            )
        if "split" in frame and "train" in set(frame["split"]):
            known = set(found[frame["split"] == "train"])
            for name in report["splits"]:
                other = [label for label in found[frame["split"] == name].unique() if label not in known]
                if other:
                    told.append(
                        f"the split {name} has labels that no row of train has: {files.some([repr(x) for x in other])}"
                    )
    for name, part in report["splits"].items():
        if part.get("in_training"):
            told.append(f"{part['in_training']:,} of {part['rows']:,} rows of the split {name} stand in train as well")
        if part.get("without_label", 0) > part["rows"] / 2:
            told.append(f"{part['without_label']:,} of {part['rows']:,} rows of the split {name} have no label")
    return told


def _splits_said(column: pd.Series) -> list[str]:
    """The splits that all cells of a column name; none where a cell says something else."""
    cells = column.dropna()
    found = {splits.SPLIT_OF.get(cell.strip().lower()) if isinstance(cell, str) else None for cell in cells.head(MOST)}
    if None in found:
        return []
    found = {splits.SPLIT_OF.get(str(cell).strip().lower()) for cell in cells}
    return [] if None in found else sorted(found)


def check(dataset: str, report: Mapping[str, Any], format_name: str) -> None:
    """Refuse data of which more than half was left out. Raises SourceError, which shows what and why."""
    dropped, kept = sum(report["rows_left_out"].values()), sum(part["rows"] for part in report["splits"].values())
    if dropped > kept:
        reasons = ", ".join(f"{count:,}: {reason}" for reason, count in report["rows_left_out"].items())
        raise SourceError(
            f"{dataset}: {dropped:,} of {dropped + kept:,} rows are left out ({reasons}), more than half."
        )
    if format_name != "imagefolder":
        return
    others = [name for name, reason in report["files_left_out"]["first"] if reason.startswith("no ")]
    if len(others) > min(report["files"]["number"], MOST - 1):
        raise SourceError(
            f"{dataset}: more than half of the files are no images that are read ({files.some(others)}, beside "
            f"{report['files']['number']:,} images). Save them as PNG or JPEG, or take them out of the folder."
        )


def lines(report: Mapping[str, Any]) -> list[str]:
    """The report for a person: a line per split, then the files, what was left out, and warnings."""
    told = []
    for name, part in report["splits"].items():
        words = [f"{name}: {part['rows']:,} rows"]
        if "labels" in part:
            labelled = max(part["rows"] - part["without_label"], 1)
            words.append(
                f"{part['labels']} labels"
                if isinstance(part["labels"], int)
                else "labels "
                + (", ".join(f"{label} {n:,} ({100 * n / labelled:.0f} %)" for label, n in part["labels"]) or "none")
            )
            words += [f"{part['without_label']:,} without a label"] if part["without_label"] else []
        for what in ("missing", "empty"):
            words += [f"{count:,} {what} in {column}" for column, count in part[what].items()]
        words += [f"{part['repeated']:,} repeat another row"] if part.get("repeated") else []
        words += [f"{part['in_training']:,} stand in train as well"] if part.get("in_training") else []
        told.append("; ".join(words))
    told.append(f"files read: {_told(report['files'])}")
    if report["files_left_out"]["number"]:
        told.append(f"files left out: {_told(report['files_left_out'])}")
    told += [f"rows left out: {count:,} ({reason})" for reason, count in report["rows_left_out"].items() if count]
    return [*told, *(f"warning: {warning}" for warning in report["warnings"])]
