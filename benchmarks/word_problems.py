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

SEED, TRAIN, DEV = 0, 1000, 400
COLUMNS = ("Question", "Numbers", "Equation", "Answer")
PEOPLE = ["anna", "ben", "clara", "david", "emma", "frank", "grace", "henry", "maria", "paul", "rosa", "sam"]
THINGS = ["apples", "pears", "books", "pens", "stamps", "coins", "shells", "cards", "toys", "hats", "stones", "cups"]
BOXES = ["boxes", "bags", "baskets", "jars"]
CHANCE_OF_MORE = 0.3  # of a number that is not needed


class Story:
    """Sentences with the numbers in them, in the order in which they are told."""

    def __init__(self, draw: random.Random):
        self.draw, self.sentences = draw, []
        self.people, self.things = draw.sample(PEOPLE, 3), draw.sample(THINGS, 3)
        self.values: dict[str, int] = {}

    def tell(self, sentence: str, **values: int) -> None:
        """A sentence with {names} of numbers."""
        self.values |= values
        self.sentences.append(sentence)

    def written(self, question: str, expression: str) -> tuple[str, str, str, str]:
        """The row: names become number0, number1, … in the order of the text."""
        if self.draw.random() < CHANCE_OF_MORE:
            other = f"{self.people[2]} has {{z}} {self.things[0]} ."
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


def owned(story: Story) -> tuple[str, str]:
    """Two people, two things: what of it is asked decides everything."""
    draw, (a, b, *_), (x, y, *_) = story.draw, story.people, story.things
    more, less, few = sorted(draw.sample(range(2, 90), 3), reverse=True)
    told = [(f"{a} has {{p}} {x} and {{q}} {y} .", {"p": more, "q": few}), (f"{b} has {{r}} {x} .", {"r": less})]
    for sentence, values in draw.sample(told, 2):
        story.tell(sentence, **values)
    return draw.choice(
        [
            (f"how many {x} do {a} and {b} have ?", "+ p r"),
            (f"how many {x} and {y} does {a} have ?", "+ p q"),
            (f"how many more {x} than {b} does {a} have ?", "- p r"),
            (f"how many more {x} than {y} does {a} have ?", "- p q"),
        ]
    )


def given(story: Story) -> tuple[str, str]:
    """Things that change hands."""
    draw, (a, b, *_), x = story.draw, story.people, story.things[0]
    p, r, q = draw.randint(40, 99), draw.randint(2, 30), draw.randint(2, 39)
    story.tell(f"{a} had {{p}} {x} and {b} had {{r}} {x} .", p=p, r=r)
    giver, sign_a, sign_b = (a, "-", "+") if q >= r or draw.random() < 0.5 else (b, "+", "-")
    taker = b if giver == a else a
    told = draw.choice([f"{giver} gave {{q}} {x} to {taker} .", f"{taker} got {{q}} {x} from {giver} ."])
    story.tell(told, q=q)
    return draw.choice(
        [(f"how many does {a} have now ?", f"{sign_a} p q"), (f"how many does {b} have now ?", f"{sign_b} r q")]
    )


def boxed(story: Story) -> tuple[str, str]:
    """Things in boxes: products, and shares of what is left."""
    draw, a, x = story.draw, story.people[0], story.things[0]
    box, boxes, each, gone = draw.choice(BOXES), draw.randint(3, 12), draw.randint(3, 15), draw.randint(2, 8)
    if draw.random() < 0.5:
        story.tell(f"{a} had {{p}} {box} with {{q}} {x} in each .", p=boxes, q=each)
        told, sign = draw.choice([("lost", "-"), ("found", "+")])
        story.tell(f"{a} {told} {{r}} {x} .", r=gone)
        asked = [
            (f"how many {x} does {a} have now ?", f"{sign} * p q r"),
            (f"how many {x} did {a} have at first ?", "* p q"),
        ]
        return draw.choice(asked)
    story.tell(f"{a} had {{p}} {x} and lost {{q}} .", p=boxes * each + gone, q=gone)
    if draw.random() < 0.5:
        story.tell(f"the rest are in {{r}} {box} .", r=boxes)
        return f"how many {x} are in each ?", "/ - p q r"
    story.tell(f"the rest are in {box} with {{r}} in each .", r=each)
    return f"how many {box} are there ?", "/ - p q r"


def compared(story: Story) -> tuple[str, str]:
    """What one has is told by what another has: whether to add or to take away follows from who is known."""
    draw, (a, b, *_), x = story.draw, story.people, story.things[0]
    p, q = draw.randint(30, 90), draw.randint(2, 25)
    how, known = draw.choice([("more", True), ("fewer", True), ("more", False), ("fewer", False)])
    sign = "+" if (how == "more") == known else "-"
    relation = f"{a} has {{q}} {how} {x} than {b} ." if known else f"{b} has {{q}} {how} {x} than {a} ."
    for sentence, values in draw.sample([(f"{b} has {{p}} {x} .", {"p": p}), (relation, {"q": q})], 2):
        story.tell(sentence, **values)
    return draw.choice(
        [(f"how many {x} does {a} have ?", f"{sign} p q"), (f"how many {x} do {a} and {b} have ?", f"+ {sign} p q p")]
    )


def with_constants(story: Story) -> tuple[str, str]:
    """Dozens, halves, percents, weeks."""
    draw, a, x = story.draw, story.people[0], story.things[0]
    p, q, which = draw.randint(2, 9), draw.randint(2, 20), draw.randrange(4)
    if which == 0:
        story.tell(f"{a} buys {{p}} dozen {x} and loses {{q}} .", p=p, q=q)
        return draw.choice([(f"how many {x} are left ?", "- * p 12.0 q"), (f"how many {x} did {a} buy ?", "* p 12.0")])
    if which == 1:
        story.tell(f"{a} has {{p}} {x} , loses half of them and finds {{q}} .", p=2 * q, q=p)
        return draw.choice(
            [(f"how many {x} does {a} have now ?", "+ / p 2.0 q"), (f"how many {x} did {a} lose ?", "/ p 2.0")]
        )
    if which == 2:
        story.tell(f"{{q}} percent of the {{p}} {x} of {a} are red .", p=20 * q, q=5 * p)
        return draw.choice(
            [(f"how many {x} are red ?", "/ * p q 100.0"), (f"how many {x} are not red ?", "- p / * p q 100.0")]
        )
    story.tell(f"{a} makes {{p}} {x} and sells {{q}} {x} a day .", p=p + q, q=q)
    return draw.choice(
        [
            (f"how many {x} does {a} sell in a week ?", "* q 7.0"),
            (f"how many {x} are left after a week ?", "* - p q 7.0"),
        ]
    )


KINDS: tuple[Callable[[Story], tuple[str, str]], ...] = (owned, owned, given, boxed, compared, compared, with_constants)


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
