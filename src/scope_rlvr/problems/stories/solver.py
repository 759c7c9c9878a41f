"""Solutions of a story: from the beginning in any order, and from any right beginning on.

A step is one sentence with one calculation. The last line is the answer. What somebody else has already calculated, in
whatever order or grouping, is used where it helps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import product
from random import Random

from scope_rlvr.problems.stories.algebra import PRIME, Justified, formula_fingerprints, justified_by
from scope_rlvr.problems.stories.checker import Checker, StepTruth, split_answer, states, unfinished_result
from scope_rlvr.problems.stories.plan import PERCENT_BASE, Operation
from scope_rlvr.problems.stories.story import Story

SEPARATOR = "\n\n"
_SIGNS = "+-−*/x×÷"


@dataclass(frozen=True)
class SolutionLine:
    """One line of a solution: the quantity that it calculates, and its text."""

    index: int
    text: str


class Solver:
    """Solves one story. ``rng`` draws order, wordings and the order of summands and factors; without it they are fixed.

    Without ``rng`` the steps follow the story, and each quantity of a story always has the same wording.
    """

    def __init__(self, story: Story) -> None:
        self.story = story
        self.plan = story.plan

    @cached_property
    def justified(self) -> Justified:
        return justified_by(self.plan)

    @cached_property
    def _marks(self) -> list[int]:
        return formula_fingerprints(self.plan)

    def solution(self, rng: Random | None = None) -> str:
        """A whole solution."""
        return SEPARATOR.join(self._lines(self._given(), rng))

    def rest(self, prefix: str, rng: Random | None = None) -> str | None:
        """What follows on the beginning of a solution, which may end anywhere; ``None`` where no right solution begins so."""
        *steps, begun = prefix.split(SEPARATOR)
        checker, known = Checker(self.justified), self._given()
        for place, step in enumerate(steps):
            calculation, answer = split_answer(step)
            if checker.truth_of(calculation) is StepTruth.WRONG:
                return None
            if answer is not None:
                is_right = states(answer, self.plan.answer) and not "".join([*steps[place + 1 :], begun]).strip()
                return "" if is_right else None
        known |= _whole(checker.found)
        if not begun.strip():
            return SEPARATOR.join(self._lines(known, rng))
        if states(begun.strip(), self.plan.answer):
            return ""
        return self._rest_of_step(begun.lstrip(), checker, known, rng)

    # --- lines ------------------------------------------------------------------------------------------------------

    def _given(self) -> dict[int, int]:
        """Fingerprints and values of what the text gives."""
        pairs = zip(self._marks, self.plan.quantities, strict=True)
        return {mark: quantity.value for mark, quantity in pairs if quantity.operation is None}

    def _lines(self, known: dict[int, int], rng: Random | None) -> Iterator[str]:
        """All lines from what is known on, the answer last."""
        known = dict(known)
        while self._marks[self.plan.asked] not in known:
            line = self._next_line(known, rng)
            known[self._marks[line.index]] = self.plan.quantities[line.index].value
            yield line.text
        yield f"Answer: {self.plan.answer}"

    def _next_line(self, known: dict[int, int], rng: Random | None) -> SolutionLine:
        missing = self._missing(known)
        for index in reversed(missing):
            calculation = self._shortcut(index, known)
            if calculation is not None:
                return SolutionLine(index, self._worded(index, calculation, rng))
        ready = [i for i in missing if all(self._marks[part] in known for part in self.plan.quantities[i].parts)]
        index = ready[0] if rng is None else rng.choice(ready)
        calculations = self._calculations(index)
        return SolutionLine(
            index, self._worded(index, calculations[0] if rng is None else rng.choice(calculations), rng)
        )

    def _missing(self, known: dict[int, int]) -> list[int]:
        """The quantities on the way to the answer that are not known, in the order of the story."""
        found: set[int] = set()
        waiting = [self.plan.asked]
        while waiting:
            index = waiting.pop()
            if index not in found and self._marks[index] not in known:
                found.add(index)
                waiting.extend(self.plan.quantities[index].parts)
        return sorted(found)

    def _shortcut(self, index: int, known: dict[int, int]) -> str | None:
        """One operation that reaches a quantity from something that the plan does not have but a solution calculated."""
        target, value = self._marks[index], self.plan.quantities[index].value
        others = known.keys() - set(self._marks)
        for one, other in product(known, known) if others else ():
            if one in others or other in others:
                a, b = known[one], known[other]
                for sign, mark in (("+", one + other), ("-", one - other), ("x", one * other)):
                    if mark % PRIME == target:
                        return f"{a} {sign} {b} = {value}"
                if other * target % PRIME == one:
                    return f"{a} / {b} = {value}"
        return None

    def _calculations(self, index: int) -> list[str]:
        """The ways to write the calculation of a quantity, the usual one first."""
        quantity = self.plan.quantities[index]
        a, b = (self.plan.quantities[part].value for part in quantity.parts)
        match quantity.operation:
            case Operation.PERCENT:
                return [
                    f"{a} x {b} / {PERCENT_BASE} = {quantity.value}",
                    f"{b} x {a} / {PERCENT_BASE} = {quantity.value}",
                ]
            case Operation.ADD | Operation.MULTIPLY:
                return [
                    f"{a} {quantity.operation} {b} = {quantity.value}",
                    f"{b} {quantity.operation} {a} = {quantity.value}",
                ]
        return [f"{a} {quantity.operation} {b} = {quantity.value}"]

    def _worded(self, index: int, calculation: str, rng: Random | None) -> str:
        forms = self.story.wordings[index]
        form = (rng or Random(f"{self.story.text}/{index}")).choice(forms)
        return form.replace("{eq}", calculation)

    # --- a step that has begun --------------------------------------------------------------------------------------

    def _rest_of_step(self, begun: str, checker: Checker, known: dict[int, int], rng: Random | None) -> str | None:
        """The rest after a beginning that ends inside a step, or inside the blank line behind it."""
        for end in self._ends_of_step(begun, checker, known):
            step = (begun + end).rstrip("\n")
            calculation, answer = split_answer(step)
            own = Checker(self.justified, checker)
            truth = own.truth_of(calculation)
            if truth is StepTruth.WRONG or (answer is not None and not states(answer, self.plan.answer)):
                continue
            if answer is not None:
                return end
            gap = SEPARATOR[len(begun + end) - len(step) :]
            return end + gap + SEPARATOR.join(self._lines(known | _whole(own.found), rng))
        return None

    def _ends_of_step(self, begun: str, checker: Checker, known: dict[int, int]) -> Iterator[str]:
        """Ends that a begun step may have, the best first; not all of them make it right."""
        # What is known already comes last: the step may be about to say it once more.
        missing = set(self._missing(known))
        order = sorted(self.plan.operations, key=lambda index: index not in missing)
        calculations = [(index, text) for index in order for text in self._calculations(index)]
        own = [form.replace("{eq}", text) for index, text in calculations for form in self.story.wordings[index]]
        for line in (*own, f"Answer: {self.plan.answer}"):
            if line.startswith(begun):
                yield line[len(begun) :]
        yield from _foreign_ends(begun, [text for _, text in calculations], checker.numbers())


def _whole(found: Mapping[int, Fraction]) -> dict[int, int]:
    return {mark: int(value) for mark, value in found.items() if value.denominator == 1 and value > 0}


def _foreign_ends(begun: str, calculations: Sequence[str], numbers: Sequence[int]) -> Iterator[str]:
    """Ends for a step in other words than the solver's."""
    text = begun.rstrip()
    space = " " if begun == text else ""
    result = unfinished_result(text)
    if begun[-1].isdigit():
        # The last number may be cut in two.
        written = text[len(text.rstrip("0123456789")) :]
        finished = [*calculations, *([] if result is None or "=" not in text else [str(result)])]
        yield from (f"{whole[len(written) :]}." for whole in finished if whole.startswith(written))
    if text[-1] in _SIGNS:
        with_number = ((number, unfinished_result(f"{text} {number}")) for number in numbers)
        yield from (f"{space}{number} = {value}." for number, value in with_number if value is not None)
    if result is not None and ("=" not in text or text.endswith("=")):
        yield f"{space}{result}." if text.endswith("=") else f"{space}= {result}."
    yield "" if text[-1] in ".!?" else "."
