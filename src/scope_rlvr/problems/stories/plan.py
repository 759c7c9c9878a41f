"""The numbers of a story: what is given, what follows from what by one operation, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

PERCENT_BASE = 100


class Operation(StrEnum):
    """One calculation with two numbers, by the sign that a solution writes."""

    ADD = "+"
    SUBTRACT = "-"
    MULTIPLY = "x"
    DIVIDE = "/"
    PERCENT = "%"
    """The first number is the whole, the second the percentage: ``40 x 20 / 100 = 8``."""


class MisfitError(Exception):
    """Numbers that make no sensible story, such as 7 marbles shared by 3. The draw is repeated with other numbers."""


@dataclass(frozen=True, slots=True)
class Quantity:
    """One number of a story: given in its text, fixed by a word (the 2 of "twice"), or the result of an operation."""

    value: int
    operation: Operation | None = None
    parts: tuple[int, ...] = ()
    is_word: bool = False

    @property
    def is_given(self) -> bool:
        return self.operation is None and not self.is_word


@dataclass(frozen=True, slots=True)
class Plan:
    """All quantities of a story in an order in which they can be calculated, and the index of the one that is asked."""

    quantities: tuple[Quantity, ...]
    asked: int

    @property
    def answer(self) -> int:
        return self.quantities[self.asked].value

    @property
    def operations(self) -> tuple[int, ...]:
        """The indices of the quantities that are calculated, in the order of the story."""
        return tuple(i for i, quantity in enumerate(self.quantities) if quantity.operation is not None)

    def needed(self, target: int) -> frozenset[int]:
        """The indices of all quantities that a target is calculated from, and its own."""
        found, waiting = {target}, [target]
        while waiting:
            for part in self.quantities[waiting.pop()].parts:
                if part not in found:
                    found.add(part)
                    waiting.append(part)
        return frozenset(found)


class PlanBuilder:
    """Builds a plan number by number and refuses numbers that no story should have.

    Every number is whole, at least 2 (so that nouns are always plural) and at most ``largest``; :class:`MisfitError` says
    that one is not.

    >>> builder = PlanBuilder(largest=100)
    >>> apples = builder.given(12)
    >>> half = builder.divide(apples, builder.word(2))
    >>> builder.value(half), builder.num_operations
    (6, 1)
    >>> builder.divide(half, builder.given(4))
    Traceback (most recent call last):
    ...
    scope_rlvr.problems.stories.plan.MisfitError: 6 / 4 is not a whole number
    """

    def __init__(self, largest: int) -> None:
        self.largest = largest
        self.num_operations = 0
        self._quantities: list[Quantity] = []

    def value(self, index: int) -> int:
        return self._quantities[index].value

    @property
    def values(self) -> frozenset[int]:
        """The values so far."""
        return frozenset(quantity.value for quantity in self._quantities)

    def given(self, value: int) -> int:
        return self._append(Quantity(value))

    def word(self, value: int) -> int:
        """A number that stands in the story as a word for an operation, or as a percentage."""
        return self._append(Quantity(value, is_word=True))

    def add(self, left: int, right: int) -> int:
        return self._calculated(self.value(left) + self.value(right), Operation.ADD, left, right)

    def subtract(self, left: int, right: int) -> int:
        return self._calculated(self.value(left) - self.value(right), Operation.SUBTRACT, left, right)

    def multiply(self, left: int, right: int) -> int:
        return self._calculated(self.value(left) * self.value(right), Operation.MULTIPLY, left, right)

    def divide(self, left: int, right: int) -> int:
        quotient, rest = divmod(self.value(left), self.value(right))
        if rest:
            raise MisfitError(f"{self.value(left)} / {self.value(right)} is not a whole number")
        return self._calculated(quotient, Operation.DIVIDE, left, right)

    def percent(self, whole: int, percentage: int) -> int:
        share, rest = divmod(self.value(whole) * self.value(percentage), PERCENT_BASE)
        if rest:
            raise MisfitError(f"{self.value(percentage)}% of {self.value(whole)} is not a whole number")
        return self._calculated(share, Operation.PERCENT, whole, percentage)

    def finished(self, asked: int) -> Plan:
        """The plan; :class:`MisfitError` where a number of the story is not needed for what is asked."""
        plan = Plan(tuple(self._quantities), asked)
        if len(plan.needed(asked)) < len(plan.quantities):
            raise MisfitError("a number is not needed")
        return plan

    def _calculated(self, value: int, operation: Operation, left: int, right: int) -> int:
        index = self._append(Quantity(value, operation, (left, right)))
        self.num_operations += 1
        return index

    def _append(self, quantity: Quantity) -> int:
        if not 2 <= quantity.value <= self.largest:
            raise MisfitError(f"{quantity.value} is not between 2 and {self.largest}")
        self._quantities.append(quantity)
        return len(self._quantities) - 1
