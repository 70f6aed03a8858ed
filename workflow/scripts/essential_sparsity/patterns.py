"""The registry of pruning patterns: what each name means, in parts, and how figures show it. Standard library only.

A pattern is a score of each weight, an allocation of the pruned weights over the matrices, and a structure inside a
matrix. A new pattern is one entry here; where its score is new, also one function, named as "module:function":
`score(weights, statistics) -> {tensor name: float32 tensor of its shape, >= 0, larger = kept longer}`, where `weights`
is the sequence of (PrunableWeight, dense tensor) and `statistics` what the pattern's own function
`statistics(model, weights, seed) -> mapping` found on the dense model, or None where it names none. Both modules are
imported by name, with workflow/scripts on the path.
"""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from essential_sparsity import errors

SCRIPTS = Path(__file__).parents[1]  # whose code decides runs (`codefiles`)
SCORES = ("magnitude", "random", "given", "wanda", "sparsegpt")  # given: by training, as masks
CALIBRATED = ("wanda", "sparsegpt")  # scores by the inputs that matrices have on texts or images
ALLOCATIONS = ("all", "matrix", "erk", "owl", "counts of global")
STRUCTURES = ("free", "rows", "nm")
NEEDS = ("nothing", "training", "calibration")
INPUTS = ("pruned", "dense")
MARKERS = "os^v<>xXPDdph8"  # that figures and the explorer both have
REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
FAMILY = re.compile(r"(.*nm)([1-9][0-9]*)")


@dataclass(frozen=True)
class Pattern:
    """One way to choose the pruned set. Raises ValueError naming the pattern for parts that do not exist.

    name        as users type it; of an N:M family without the size of its groups
    label       its text in legends
    colour      of its line, with `marker`; both None: one that is free in that figure
    score       "magnitude", "random", "given" (masks that training found), "wanda", "sparsegpt", or "module:function"
    statistics  "module:function" where the score needs more than the weights
    allocation  "all" (one ranking over all matrices), "matrix" (each matrix s), "erk" (Erdős–Rényi densities), "owl"
                (a share of each block by its outliers), or "counts of global" (as many of each matrix as the pattern global)
    structure   "free", "rows": so many of each output's weights, or "nm": so many of every `group` consecutive inputs
    needs       "nothing", "training" (only defined for tasks that are fine-tuned), "calibration" (texts or images)
    held        whether the pruned weights stay zero in training
    inputs      with calibration: those of blocks whose predecessors are "pruned", or of the "dense" model, measured once
    """

    name: str
    label: str
    colour: str | None = None
    marker: str | None = None
    score: str = "magnitude"
    statistics: str | None = None
    allocation: str = "all"
    structure: str = "free"
    group: int | None = None
    needs: str = "nothing"
    held: bool = True
    inputs: str = "pruned"

    def __post_init__(self) -> None:
        words = {"allocation": ALLOCATIONS, "structure": STRUCTURES, "needs": NEEDS, "inputs": INPUTS}
        for part, known in words.items():
            if getattr(self, part) not in known:
                raise errors.UserError(
                    f"pattern {self.name!r}: {part} {getattr(self, part)!r} is not one of: {', '.join(known)}."
                )
        for part, known in (("score", SCORES), ("statistics", (None,))):
            value = getattr(self, part)
            if value not in known and not REFERENCE.fullmatch(value):
                names = ", ".join([*filter(None, known), "module:function"])
                raise errors.UserError(f"pattern {self.name!r}: {part} {value!r} is not one of: {names}.")
        if (self.colour is None) != (self.marker is None) or self.marker not in (None, *MARKERS):
            raise errors.UserError(
                f"pattern {self.name!r}: colour {self.colour!r} and marker {self.marker!r}: write both or neither; markers are "
                f"{' '.join(MARKERS)}."
            )
        if self.group and self.structure != "nm":
            raise errors.UserError(f"pattern {self.name!r}: only the structure 'nm' has groups, here of {self.group}.")
        if self.structure == "nm" and self.allocation != "matrix":
            raise errors.UserError(
                f"pattern {self.name!r}: N:M gives each matrix the same share: its allocation is 'matrix'."
            )
        if self.structure == "rows" and self.allocation not in ("matrix", "owl"):
            raise errors.UserError(
                f"pattern {self.name!r}: each row of a matrix loses the same share: its allocation is 'matrix' or 'owl'."
            )
        if (self.score in CALIBRATED) != (self.needs == "calibration"):
            raise errors.UserError(
                f"pattern {self.name!r}: the scores {' and '.join(CALIBRATED)} need 'calibration', and they alone do."
            )
        if self.score in CALIBRATED and self.allocation not in ("matrix", "owl"):
            raise errors.UserError(
                f"pattern {self.name!r}: the scores {' and '.join(CALIBRATED)} are compared inside a matrix: the allocation is 'matrix' "
                f"or 'owl', not {self.allocation!r}."
            )
        if self.structure == "rows" and self.score in ("random", "sparsegpt"):
            raise errors.UserError(
                f"pattern {self.name!r}: the score {self.score!r} does not choose in each row of a matrix: the structure is 'free' or 'nm'."
            )
        if self.allocation == "owl" and self.score not in CALIBRATED:
            raise errors.UserError(f"pattern {self.name!r}: the allocation 'owl' is found by calibration.")
        if self.inputs == "dense" and self.score != "wanda":
            raise errors.UserError(
                f"pattern {self.name!r}: only the score 'wanda' is defined on inputs of the dense model."
            )

    @property
    def in_spectrum(self) -> bool:
        """Whether the stored spectrum tells how many weights of each matrix are pruned."""
        if self.score == "given":
            return False
        if self.allocation == "all":
            return self.score in ("magnitude", "random")
        return self.allocation in ("matrix", "erk", "counts of global")

    @property
    def peers(self) -> tuple[str, ...]:
        """The patterns that it is compared with at each sparsity, the closest first. Of a random one the global.

        Of a calibrated one those of magnitude with the same structure inside matrices or the same share of each, then the one
        without its last step: OWL's without OWL, SparseGPT's by Wanda, Wanda's of one pass by several.
        """
        if self.score == "random":
            return ("global",)
        if self.needs != "calibration":
            return ()
        magnitude = {"nm": (f"nm{self.group}",), "rows": ("rowwise", "layerwise"), "free": ("layerwise",)}[
            self.structure
        ]
        if self.allocation == "owl":
            return (*magnitude, self.score)
        if self.score == "sparsegpt":
            return (*magnitude, f"wanda-nm{self.group}" if self.structure == "nm" else "wanda")
        return (*magnitude, "wanda") if self.inputs == "dense" else magnitude

    @property
    def modules(self) -> list[str]:
        """Dotted names of the modules that its score is loaded from, sorted."""
        references = [reference for reference in (self.score, self.statistics) if reference and ":" in reference]
        return sorted({reference.partition(":")[0] for reference in references})


def by_name(entries: Sequence[Pattern]) -> dict[str, Pattern]:
    """The entries by name. UserError for a name that two have: the first would be lost."""
    found = {entry.name: entry for entry in entries}
    for entry in entries:
        if found[entry.name] is not entry:
            raise errors.UserError(f"the registry of patterns has {entry.name!r} twice: give one of them another name.")
    return found


PATTERNS = by_name(
    (
        Pattern("dense", "dense"),
        Pattern("global", "global", "#0072B2", "o"),
        Pattern("layerwise", "layerwise", "#D55E00", "s", allocation="matrix"),
        Pattern("erk", "erk", "#009E73", "^", allocation="erk"),
        Pattern("erk-random", "erk-random", "#555555", "v", score="random", allocation="erk"),
        Pattern("random", "random", "#999999", "x", score="random"),
        Pattern("rowwise", "rowwise", "#8C564B", "<", allocation="matrix", structure="rows"),
        Pattern("lth", "lth", "#CC79A7", "P", score="given", needs="training"),
        Pattern("layer-shuffle", "layer-shuffle", "#56B4E9", ">", score="random", allocation="counts of global"),
        Pattern("deletion", "deletion", "#E69F00", "X", needs="training", held=False),
        Pattern("wanda", "Wanda", "#882255", "o", "wanda", None, "matrix", "rows", needs="calibration"),
        Pattern(
            "wanda-onepass",
            "Wanda, one pass",
            "#999933",
            "h",
            "wanda",
            None,
            "matrix",
            "rows",
            needs="calibration",
            inputs="dense",
        ),
        Pattern("sparsegpt", "SparseGPT", "#332288", "s", "sparsegpt", None, "matrix", needs="calibration"),
        Pattern("owl-wanda", "OWL, Wanda", "#AA4499", "v", "wanda", None, "owl", "rows", needs="calibration"),
        Pattern("owl-sparsegpt", "OWL, SparseGPT", "#44AA99", "^", "sparsegpt", None, "owl", needs="calibration"),
    )
)
FAMILIES = {  # with the size of the group: nm4
    family.name: family
    for family in (
        Pattern("nm", "nm", allocation="matrix", structure="nm"),
        Pattern("wanda-nm", "Wanda nm", None, None, "wanda", None, "matrix", "nm", needs="calibration"),
        Pattern("sparsegpt-nm", "SparseGPT nm", None, None, "sparsegpt", None, "matrix", "nm", needs="calibration"),
    )
}
STYLES = {
    "nm4": ("#E69F00", "D"),
    "nm8": ("#56B4E9", "p"),
    "nm2": ("#000000", "d"),
    "wanda-nm4": ("#CC6677", "D"),
    "wanda-nm8": ("#DDCC77", "p"),
    "wanda-nm2": ("#661100", "d"),
    "sparsegpt-nm4": ("#6699CC", "D"),
    "sparsegpt-nm8": ("#88CCEE", "p"),
    "sparsegpt-nm2": ("#117733", "d"),
}  # members with a style of their own


def find(name: str) -> Pattern:
    """The pattern of a name: an entry of `PATTERNS`, or the member of an N:M family, such as nm4 (groups of 4).

    Raises ValueError for an unknown name, with a near one, and for groups of fewer than 2 inputs.
    """
    if name in PATTERNS:
        return PATTERNS[name]
    match = FAMILY.fullmatch(name)
    if match and match[1] in FAMILIES:
        group = int(match[2])
        if group < 2:
            raise errors.UserError(f"{name!r}: a group has at least 2 inputs.")
        colour, marker = STYLES.get(name, (None, None))
        family = FAMILIES[match[1]]
        return replace(family, name=name, label=f"{family.label}{group}", colour=colour, marker=marker, group=group)
    close = get_close_matches(name, [*PATTERNS, *(f"{family}4" for family in FAMILIES)], n=1)
    near = f"; did you mean {close[0]!r}?" if close else "."
    groups = ", ".join(f"{family}2, {family}4, …" for family in FAMILIES)
    raise errors.UserError(f"unknown pattern {name!r}{near} Known: {', '.join(PATTERNS)}, and {groups} (N:M groups).")


def magnitude(name: str, others: Collection[str]) -> str | None:
    """The closest pattern of magnitude among others that a calibrated one is compared with; None for other patterns."""
    own = find(name)
    peers = own.peers if own.needs == "calibration" else ()
    return next((peer for peer in peers if peer in others and find(peer).score == "magnitude"), None)


def expression() -> str:
    """A regular expression of all names."""
    return "|".join([*map(re.escape, PATTERNS), *(f"{re.escape(family)}[1-9][0-9]*" for family in FAMILIES)])


def essence(pattern: Pattern) -> dict[str, Any]:
    """What decides a mask: all but name and looks, for the digests of results."""
    parts = ("score", "statistics", "allocation", "structure", "group", "needs", "held", "inputs")
    return {part: getattr(pattern, part) for part in parts}


def looks(pattern: Pattern) -> list[str | None]:
    """What figures show of a pattern, for the digests of figures."""
    return [pattern.name, pattern.label, pattern.colour, pattern.marker]


def load(reference: str) -> Callable:
    """The function that a "module:function" names.

    ValueError names the reference when there is none, and where its module lies elsewhere: its code is not among what decides a run.
    """
    module, _, name = reference.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise errors.UserError(
            f"the registry of patterns names {reference}, which cannot be loaded ({error}): the module must be "
            "importable with workflow/scripts on the path, and have that function."
        ) from error
    file = getattr(import_module(module), "__file__", None)
    if not file or not Path(file).is_relative_to(SCRIPTS):
        raise errors.UserError(
            f"the registry of patterns names {reference}, which lies in {file or 'no file'}: only code below {SCRIPTS} decides runs, and what was edited "
            "there would go unseen. Put the module into workflow/scripts/extensions/."
        )
    return found
