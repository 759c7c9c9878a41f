"""A story while it is invented: its plan, what it says, and how its solution words each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from scope_rlvr.problems.stories.plan import MisfitError, PlanBuilder
from scope_rlvr.problems.stories.tables import Noun, Person, Scene, Tables
from scope_rlvr.problems.stories.telling import Amount, Beat

_Item = TypeVar("_Item")

_DRAWS = 20
_FRACTIONS = {2: "half", 3: "a third", 4: "a quarter"}
_PERCENTAGES = (10, 20, 25, 30, 40, 50, 60, 75)
TIMES = {2: "twice", 3: "3 times", 4: "4 times", 5: "5 times"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """The ranges that the numbers of a story are drawn from, both ends included.

    ``start`` is what somebody has at first, ``change`` what comes or goes, ``groups`` how many groups of ``each`` things there
    are, ``purchase`` how many of one kind are bought, ``work`` how many hours somebody works or how many pieces of work there
    are, ``journey`` how many hours or days a part of a journey takes; no number of things is above ``most_things`` and no
    number at all above ``largest``.
    """

    start: tuple[int, int] = (8, 40)
    change: tuple[int, int] = (3, 20)
    groups: tuple[int, int] = (2, 6)
    each: tuple[int, int] = (3, 10)
    purchase: tuple[int, int] = (2, 6)
    work: tuple[int, int] = (3, 9)
    journey: tuple[int, int] = (2, 5)
    most_things: int = 150
    largest: int = 1000


@dataclass(frozen=True, slots=True)
class Given:
    """An amount in the plan and in words."""

    index: int
    amount: Amount


class Draft:
    """What the schemes of stories build on: numbers, people, beats, wordings. All choices come from ``rng``."""

    def __init__(self, level: int, tables: Tables, sizes: Sizes, rng: Random, *, has_percent: bool) -> None:
        self.level = level
        self.tables = tables
        self.sizes = sizes
        self.rng = rng
        self.has_percent = has_percent
        self.plan = PlanBuilder(sizes.largest)
        self.beats: list[Beat] = []
        self.worded: dict[int, Beat] = {}
        self.scene: Scene | None = None
        self._people: list[Person] = []

    @property
    def left(self) -> int:
        """How many operations are still to be used; below 0 the story is too long."""
        return self.level - self.plan.num_operations

    def tell(self, kind: str, /, **slots: Any) -> None:
        self.beats.append(Beat(kind, slots))

    def tell_first(self, kind: str, /, **slots: Any) -> None:
        self.beats.insert(0, Beat(kind, slots))

    def word(self, index: int, kind: str, /, **slots: Any) -> int:
        """Say how a solution words a calculated quantity; returns the quantity."""
        self.worded[index] = Beat(kind, slots)
        return index

    # --- choices ----------------------------------------------------------------------------------------------------

    def choose(self, items: Sequence[_Item]) -> _Item:
        if not items:
            raise MisfitError("nothing to choose from")
        return self.rng.choice(items)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def given(self, low: int, high: int) -> int:
        """A number that no quantity has yet, if there is one in the range."""
        if low > high:
            raise MisfitError(f"no number lies between {low} and {high}")
        taken = self.plan.values
        for _ in range(_DRAWS):
            value = self.rng.randint(low, high)
            if value not in taken:
                break
        return self.plan.given(value)

    def divisor(self, index: int, low: int, high: int) -> int:
        """A given number that divides a quantity with a quotient of at least 2."""
        value = self.plan.value(index)
        fitting = [n for n in range(low, min(high, value // 2) + 1) if value % n == 0]
        return self.plan.given(self.choose(fitting))

    def things(self, index: int) -> int:
        """The same quantity; raises where it is more than anybody has."""
        if self.plan.value(index) > self.sizes.most_things:
            raise MisfitError(f"{self.plan.value(index)} things are too many")
        return index

    def value(self, index: int) -> int:
        return self.plan.value(index)

    def people(self, count: int) -> list[Person]:
        """Different people, women and men in turn, whose names begin with different letters."""
        first = self.rng.randrange(2)
        while len(self._people) < count:
            is_woman = (len(self._people) + first) % 2 == 0
            name = self.rng.choice(self.tables.women if is_woman else self.tables.men)
            if all(name[0] != person.name[0] for person in self._people):
                words = ("she", "her", "her") if is_woman else ("he", "him", "his")
                self._people.append(Person(name, *words))
        return self._people[:count]

    # --- amounts ----------------------------------------------------------------------------------------------------

    def plain(self, low: int, high: int, thing: Noun, **part: Any) -> Given:
        index = self.given(low, high)
        return Given(index, Amount(self.value(index), thing, **part))

    def grouped(self, group: Noun, thing: Noun, most: int, **part: Any) -> Given:
        """So many groups of so many things; one operation."""
        number, each = self.given(*self.sizes.groups), self.given(*self.sizes.each)
        total = self.plan.multiply(number, each)
        if self.value(total) > most:
            raise MisfitError("too many in the groups")
        self.word(total, "groups", group=group, thing=thing)
        return Given(total, Amount(self.value(number), thing, group, self.value(each), **part))

    def fraction(self, low: int = 2) -> tuple[int, str]:
        """The number that a fraction divides by, and its words."""
        number = self.choose([n for n in _FRACTIONS if n >= low])
        return self.plan.word(number), _FRACTIONS[number]

    def times(self) -> tuple[int, str]:
        number = self.rng.choices(list(TIMES), weights=[6, 4, 2, 1])[0]
        return self.plan.word(number), TIMES[number]

    def percentage(self, whole: int, most: int) -> tuple[int, str]:
        """A share of a quantity by a percentage of at most ``most``; one operation. Returns the share and the words."""
        value = self.value(whole)
        fitting = [p for p in _PERCENTAGES if p <= most and value * p % 100 == 0]
        number = self.choose([p for p in fitting if 200 <= value * p <= 100 * (value - 2)])
        return self.plan.percent(whole, self.plan.word(number)), f"{number}%"
