"""Word problems in the format of MAWPS, ASDiv-A and SVAMP (columns Question, Numbers, Equation, Answer), generated.

    python benchmarks/word_problems.py --out config/data/word-problems

The files lie in the repository: train.csv and dev.csv, which share no question. The same seed writes the same bytes, on any machine.
A question is a story of one or more people and what they have, then what is asked: the same story is followed by questions
with other expressions, numbers that are not needed stand before, between and after those that are, and who is asked about decides which
number comes first. So an expression cannot be told from the words alone: they have to be bound to people and things.
"""

import argparse
import csv
import random
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "workflow/scripts"))

from essential_sparsity.tasks import _expressions

SEED, TRAIN, DEV = 0, 1200, 400
COLUMNS = ("Question", "Numbers", "Equation", "Answer")
PEOPLE = [
    "anna", "ben", "clara", "david", "emma", "frank", "grace", "henry", "irene", "jack", "karen", "leo", "maria",
    "nick", "olivia", "paul", "rosa", "sam", "tina", "victor",
]  # fmt: skip
THINGS = [
    "apples", "pears", "books", "pens", "stamps", "coins", "shells", "marbles", "cards", "stickers", "balloons",
    "cookies", "candies", "roses", "toys", "hats", "stones", "cups", "pencils", "eggs", "plums", "nuts", "keys",
    "beads",
]  # fmt: skip
BOXES = ["boxes", "bags", "baskets", "jars", "shelves", "drawers"]
CHANCE_OF_MORE = 0.5  # of a number that is not needed


class Story:
    """Sentences with the numbers in them, in the order in which they are told."""

    def __init__(self, draw: random.Random):
        self.draw, self.sentences = draw, []
        self.people, self.things = draw.sample(PEOPLE, 4), draw.sample(THINGS, 4)
        self.values: dict[str, int] = {}

    def tell(self, sentence: str, **values: int) -> None:
        """A sentence with {names} of numbers."""
        self.values |= values
        self.sentences.append(sentence)

    def written(self, question: str, expression: str) -> tuple[str, str, str, str]:
        """The row: names become number0, number1, … in the order of the text."""
        if self.draw.random() < CHANCE_OF_MORE:
            other = self.draw.choice(
                [f"{self.people[3]} has {{z}} {self.things[0]} .", f"{self.people[0]} has {{z}} {self.things[3]} ."]
            )
            self.values["z"] = self.draw.randint(2, 60)
            self.sentences.insert(self.draw.randint(0, len(self.sentences)), other)
        text = " ".join([*self.sentences, question])
        order = sorted(
            (name for name in self.values if f"{{{name}}}" in text), key=lambda name: text.index(f"{{{name}}}")
        )
        names = {name: f"number{index}" for index, name in enumerate(order)}
        equation = " ".join(names.get(word, word) for word in expression.split())
        numbers = [float(self.values[name]) for name in order]
        answer = _expressions.value(_expressions.read(equation), numbers)
        return text.format(**names), " ".join(map(str, numbers)), equation, repr(answer)


def two_owners(story: Story) -> tuple[str, str]:
    """Two people, two things each: what of it is asked decides everything."""
    draw, (a, b, *_), (x, y, *_) = story.draw, story.people, story.things
    values = draw.sample(range(2, 90), 4)
    owned = dict(zip(((a, x), (a, y), (b, x), (b, y)), "pqrs", strict=True))
    for who, (first, second) in ((a, draw.sample([x, y], 2)), (b, draw.sample([x, y], 2))):
        mine, more = owned[who, first], owned[who, second]
        story.tell(
            f"{who} has {{{mine}}} {first} and {{{more}}} {second} .",
            **{mine: values["pqrs".index(mine)], more: values["pqrs".index(more)]},
        )
    amount = {key: values["pqrs".index(name)] for key, name in owned.items()}
    thing, who = draw.choice([x, y]), draw.choice([a, b])
    more, less = sorted((a, b), key=lambda one: -amount[one, thing])
    many, few = sorted((x, y), key=lambda one: -amount[who, one])
    return draw.choice(
        [
            (f"how many {thing} do {a} and {b} have together ?", f"+ {owned[a, thing]} {owned[b, thing]}"),
            (f"how many {many} and {few} does {who} have in total ?", f"+ {owned[who, x]} {owned[who, y]}"),
            (f"how many more {thing} does {more} have than {less} ?", f"- {owned[more, thing]} {owned[less, thing]}"),
            (f"how many fewer {thing} does {less} have than {more} ?", f"- {owned[more, thing]} {owned[less, thing]}"),
            (f"how many more {many} than {few} does {who} have ?", f"- {owned[who, many]} {owned[who, few]}"),
        ]
    )


def given_away(story: Story) -> tuple[str, str]:
    """Things that change hands."""
    draw, (a, b, *_), (x, *_) = story.draw, story.people, story.things
    p, r = draw.randint(40, 99), draw.randint(2, 30)
    q, s = draw.randint(2, p // 2), draw.randint(2, 15)
    story.tell(f"{a} had {{p}} {x} and {b} had {{r}} {x} .", p=p, r=r)
    if draw.random() < 0.5:
        story.tell(f"{a} gave {{q}} {x} to {b} .", q=q)
    else:
        story.tell(f"{b} got {{q}} {x} from {a} .", q=q)
    asked = [(f"how many {x} does {a} have now ?", "- p q"), (f"how many {x} does {b} have now ?", "+ r q")]
    if draw.random() < 0.5:
        story.tell(f"then {a} found {{s}} {x} .", s=s)
        asked[0] = (asked[0][0], "+ - p q s")
    return draw.choice([*asked, (f"how many {x} did {a} and {b} have at first ?", "+ p r")])


def boxed(story: Story) -> tuple[str, str]:
    """Things in boxes: products, and shares of what is left."""
    draw, a, x = story.draw, story.people[0], story.things[0]
    box, boxes, each = draw.choice(BOXES), draw.randint(3, 12), draw.randint(3, 15)
    if draw.random() < 0.5:
        story.tell(f"{a} has {{p}} {box} with {{q}} {x} in each .", p=boxes, q=each)
        rest = draw.randint(2, boxes * each - 1)
        told = draw.choice(["gave away", "lost", "bought", "found"])
        story.tell(f"{a} {told} {{r}} {x} .", r=rest)
        sign = "-" if told in ("gave away", "lost") else "+"
        asked = [
            (f"how many {x} does {a} have now ?", f"{sign} * p q r"),
            (f"how many {x} did {a} have at first ?", "* p q"),
        ]
        return draw.choice(asked)
    gone = draw.randint(2, 20)
    story.tell(f"{a} has {{p}} {x} .", p=boxes * each + gone)
    story.tell(draw.choice([f"{{q}} {x} are broken .", f"{a} keeps {{q}} {x} ."]), q=gone)
    if draw.random() < 0.5:
        story.tell(f"the rest of the {x} are put into {{r}} {box} .", r=boxes)
        return f"how many {x} are in each of the {box} ?", "/ - p q r"
    story.tell(f"the rest of the {x} are put into {box} with {{r}} {x} in each .", r=each)
    return f"how many {box} does {a} need ?", "/ - p q r"


def compared(story: Story) -> tuple[str, str]:
    """What one has is told by what another has: whether to add or to take away follows from who is known."""
    draw, (a, b, *_), (x, *_) = story.draw, story.people, story.things
    p, q, r = draw.randint(30, 90), draw.randint(2, 25), draw.randint(2, 9)
    how = draw.choice(["more", "fewer"])
    known, unknown = ("- p q", "+ p q") if how == "fewer" else ("+ p q", "- p q")
    if draw.random() < 0.5:
        sentences = [(f"{b} has {{p}} {x} .", {"p": p}), (f"{a} has {{q}} {how} {x} than {b} .", {"q": q})]
        sign = known
    else:
        sentences = [(f"{b} has {{p}} {x} .", {"p": p}), (f"{b} has {{q}} {how} {x} than {a} .", {"q": q})]
        sign = unknown
    for sentence, values in draw.sample(sentences, 2):
        story.tell(sentence, **values)
    price = (f"how many coins does {a} get for all {x} if each is sold for {{r}} coins ?", f"* {sign} r")
    story.values["r"] = r
    return draw.choice(
        [
            (f"how many {x} does {a} have ?", sign),
            (f"how many {x} do {a} and {b} have together ?", f"+ {sign} p"),
            price,
        ]
    )


def with_constants(story: Story) -> tuple[str, str]:
    """Dozens, halves, percents."""
    draw, (a, b, *_), (x, *_) = story.draw, story.people, story.things
    p, q = draw.randint(2, 9), draw.randint(2, 20)
    which = draw.randrange(4)
    if which == 0:
        story.tell(f"{a} buys {{p}} dozen {x} and eats {{q}} of them .", p=p, q=q)
        return draw.choice([(f"how many {x} are left ?", "- * p 12.0 q"), (f"how many {x} did {a} buy ?", "* p 12.0")])
    if which == 1:
        story.tell(f"{a} has {{p}} {x} .", p=2 * q)
        story.tell(f"{a} gives half of the {x} to {b} , who had {{q}} {x} before .", q=p)
        return draw.choice(
            [(f"how many {x} does {b} have now ?", "+ / p 2.0 q"), (f"how many {x} does {a} have now ?", "/ p 2.0")]
        )
    if which == 2:
        story.tell(f"{a} has {{p}} {x} .", p=20 * q)
        story.tell(f"{{q}} percent of the {x} are red and the others are blue .", q=5 * p)
        return draw.choice(
            [(f"how many {x} are red ?", "/ * p q 100.0"), (f"how many {x} are blue ?", "- p / * p q 100.0")]
        )
    story.tell(f"{a} reads {{p}} pages a day and {b} reads {{q}} pages a day .", p=p, q=q)
    who, other, name = draw.choice([(a, b, "p"), (b, a, "q")])
    return draw.choice(
        [
            (f"how many pages does {who} read in a week ?", f"* {name} 7.0"),
            (f"how many pages do {who} and {other} read in a week ?", "* + p q 7.0"),
        ]
    )


KINDS: tuple[Callable[[Story], tuple[str, str]], ...] = (
    two_owners,
    two_owners,
    given_away,
    boxed,
    compared,
    compared,
    with_constants,
)


def problems(count: int, seed: int) -> list[tuple[str, str, str, str]]:
    """Rows of COLUMNS, no question twice."""
    draw, found = random.Random(seed), {}
    while len(found) < count:
        story = Story(draw)
        row = story.written(*draw.choice(KINDS)(story))
        found.setdefault(row[0], row)
    return list(found.values())


def write(path: Path, rows: list[tuple[str, str, str, str]]) -> None:
    """A CSV with a header and lines that end alike everywhere."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerows([COLUMNS, *rows])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path, help="folder to write train.csv and dev.csv into")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    rows = problems(TRAIN + DEV, SEED)
    write(args.out / "train.csv", rows[:TRAIN])
    write(args.out / "dev.csv", rows[TRAIN:])


if __name__ == "__main__":
    main()
