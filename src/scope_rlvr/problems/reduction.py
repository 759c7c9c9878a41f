"""The family "reduction": add numbers modulo 13, two at a time, until one is left.

A step takes any two of the remaining numbers, adds them, and restates what remains in ascending order::

    reduce 0 3 5 7                 the prompt, followed by a blank line

    3 + 7 = 10 : 0 5 10            a step

    0 + 10 = 10 : 5 10

    5 + 10 = 2 : 2

    answer 2

Every order of steps is a right solution, so there are many ways to be right; one wrong sum makes everything after it
wrong, so there is exactly one first wrong step; and the number of steps grows with the level (how many numbers there
are), so that a model can be asked for solutions longer than it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import permutations
from random import Random

from scope_rlvr.core.types import Problem
from scope_rlvr.problems.family import Split, check_split, split_of

MODULUS = 13
SEPARATOR = "\n\n"
MIN_LEVEL, MAX_LEVEL = 2, 1000

_STEP = re.compile(r"(\d+) \+ (\d+) = (\d+) : (\d+(?: \d+)*)")
_ANSWER = re.compile(r"answer (\d+)")
_REPEATS_BEFORE_STARTING_OVER = 1000


def add(a: int, b: int) -> int:
    """The sum modulo 13.

    >>> add(7, 9)
    3
    """
    return (a + b) % MODULUS


def identity(numbers: Sequence[int]) -> str:
    """The id of the problem with these numbers, in whatever order they come.

    >>> identity([7, 0, 3, 5])
    'reduction-0.3.5.7'
    """
    return f"reduction-{'.'.join(map(str, sorted(numbers)))}"


def make_problem(numbers: Sequence[int]) -> Problem:
    """The problem of reducing these numbers.

    >>> make_problem([7, 0, 3, 5])
    Problem(id='reduction-0.3.5.7', prompt='reduce 0 3 5 7\\n\\n', reference='2', source='reduction', level=4)
    """
    return Problem(
        id=identity(numbers),
        prompt=f"reduce {_joined(sorted(numbers))}{SEPARATOR}",
        reference=str(sum(numbers) % MODULUS),
        source="reduction",
        level=len(numbers),
    )


def numbers_of(problem: Problem) -> tuple[int, ...]:
    """The numbers in a problem's prompt, ascending; raises ``ValueError`` for a prompt of another family.

    >>> numbers_of(make_problem([7, 0, 3, 5]))
    (0, 3, 5, 7)
    """
    word, *numbers = problem.prompt.split()
    if word != "reduce" or not numbers or not all(number.isdecimal() for number in numbers):
        raise ValueError(f"problem {problem.id!r} is not of the family 'reduction': its prompt is {problem.prompt!r}")
    return tuple(sorted(int(number) for number in numbers))


class Reduction:
    """Reduce a multiset of residues modulo 13 to their sum. ``level`` is how many numbers there are, at least 2.

    >>> family = Reduction()
    >>> problem = make_problem([0, 3, 5, 7])
    >>> steps = family.canonical_solution(problem).split(family.separator)
    >>> steps
    ['0 + 3 = 3 : 3 5 7', '3 + 5 = 8 : 7 8', '7 + 8 = 2 : 2', 'answer 2']
    >>> family.first_wrong_step(problem, steps) is None
    True
    >>> family.first_wrong_step(problem, ["0 + 3 = 3 : 3 5 7", "3 + 5 = 9 : 7 9"])
    1
    """

    name = "reduction"
    separator = SEPARATOR
    answer_pattern = _ANSWER.pattern

    def sample(self, level: int, count: int, seed: int, *, split: Split = "train") -> list[Problem]:
        """Problems whose numbers are drawn uniformly, of one split; see ``Family.sample``.

        Raises ``ValueError`` for a level out of range or an unknown split.
        """
        check_split(split)
        if not MIN_LEVEL <= level <= MAX_LEVEL:
            raise ValueError(
                f"level is how many numbers are to be reduced, from {MIN_LEVEL} to {MAX_LEVEL}; got {level}"
            )
        rng = Random(f"reduction/{split}/{level}/{seed}")
        problems: list[Problem] = []
        seen: set[str] = set()
        num_repeats = 0
        while len(problems) < count:
            numbers = [rng.randrange(MODULUS) for _ in range(level)]
            key = identity(numbers)
            if split_of(key) != split:
                continue
            if key in seen and num_repeats < _REPEATS_BEFORE_STARTING_OVER:
                num_repeats += 1
                continue
            if key in seen:
                seen.clear()
            num_repeats = 0
            seen.add(key)
            problems.append(make_problem(numbers))
        return problems

    def first_wrong_step(self, problem: Problem, steps: Sequence[str]) -> int | None:
        """See ``Family.first_wrong_step``. Spaces around a step do not matter, everything else in it does."""
        remaining: tuple[int, ...] | None = numbers_of(problem)
        for index, step in enumerate(steps):
            remaining = None if remaining is None else _after(remaining, step.strip())
            if remaining is None:
                return index
        return None

    def num_right_steps(self, problem: Problem, steps: Sequence[str]) -> int:
        """See ``ProblemFamily.num_right_steps``: every step can be checked."""
        first_wrong = self.first_wrong_step(problem, steps)
        return len(steps) if first_wrong is None else first_wrong

    def canonical_solution(self, problem: Problem) -> str:
        """The solution that always adds the two smallest numbers, the smaller one first."""
        return _canonical(numbers_of(problem))

    def canonical_rest(self, problem: Problem, prefix: str) -> str | None:
        """See ``Family.canonical_rest``; a step that has begun is ended by the first right step that begins so.

        >>> family, problem = Reduction(), make_problem([0, 3, 5])
        >>> family.canonical_rest(problem, "0 + 5 = 5 : 3 5\\n\\n")
        '3 + 5 = 8 : 8\\n\\nanswer 8'
        >>> family.canonical_rest(problem, "0 + 5 = 5 : 3 5\\n\\n5 +")
        ' 3 = 8 : 8\\n\\nanswer 8'
        >>> family.canonical_rest(problem, "0 + 5 = 6 : 3 6\\n\\n") is None
        True
        """
        *steps, begun = prefix.split(SEPARATOR)
        remaining: tuple[int, ...] | None = numbers_of(problem)
        for step in steps:
            remaining = None if remaining is None else _after(remaining, step.strip())
        if remaining is None:
            return None
        begun = begun.lstrip()
        if not remaining:
            return "" if not begun else None
        for step, after in _right_steps(remaining):
            # As a whole, since the beginning may end inside the separator.
            rest = SEPARATOR.join([step, *([_canonical(after)] if after else [])])
            if rest.startswith(begun):
                return rest[len(begun) :]
        return None

    def random_solution(self, problem: Problem, rng: Random, *, write_sum: Callable[[int, int], int] = add) -> str:
        """A solution in random order; ``write_sum`` can stand in for somebody who has learned some sums wrongly.

        >>> wrong = Reduction().random_solution(make_problem([5, 6]), Random(0), write_sum=lambda a, b: 0)
        >>> wrong.endswith("= 0 : 0\\n\\nanswer 0")
        True
        """
        return _solution(
            numbers_of(problem), choose=lambda remaining: rng.sample(range(len(remaining)), 2), write_sum=write_sum
        )


def _joined(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


def _solution(
    numbers: Sequence[int],
    choose: Callable[[Sequence[int]], Sequence[int]],
    write_sum: Callable[[int, int], int],
) -> str:
    remaining, steps = list(numbers), []
    while len(remaining) > 1:
        first, second = choose(remaining)
        a, b = remaining[first], remaining[second]
        total = write_sum(a, b)
        remaining = sorted([number for k, number in enumerate(remaining) if k not in (first, second)] + [total])
        steps.append(f"{a} + {b} = {total} : {_joined(remaining)}")
    return SEPARATOR.join([*steps, f"answer {remaining[0]}"])


def _canonical(numbers: Sequence[int]) -> str:
    return _solution(numbers, choose=lambda remaining: (0, 1), write_sum=add)


def _right_steps(remaining: Sequence[int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every right step with what remains after it, the canonical one first."""
    if len(remaining) == 1:
        yield f"answer {remaining[0]}", ()
        return
    for first, second in permutations(range(len(remaining)), 2):
        a, b = remaining[first], remaining[second]
        after = sorted([number for k, number in enumerate(remaining) if k not in (first, second)] + [add(a, b)])
        yield f"{a} + {b} = {add(a, b)} : {_joined(after)}", tuple(after)


def _after(remaining: tuple[int, ...], step: str) -> tuple[int, ...] | None:
    """What remains after a right step, nothing after the right answer, and ``None`` after a wrong step."""
    if answer := _ANSWER.fullmatch(step):
        return () if (answer[1],) == tuple(map(str, remaining)) else None
    parts = _STEP.fullmatch(step)
    if parts is None:
        return None
    a, b, total = int(parts[1]), int(parts[2]), add(int(parts[1]), int(parts[2]))
    rest = list(remaining)
    for number in (a, b):
        if number not in rest:
            return None
        rest.remove(number)
    rest = sorted([*rest, total])
    return tuple(rest) if step == f"{a} + {b} = {total} : {_joined(rest)}" else None
