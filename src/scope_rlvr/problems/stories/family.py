"""The family "stories": English word problems of graded difficulty whose every step can be checked exactly.

    Mia baked 24 muffins before the shop opened. She took 3 more trays of 6 muffins out of the oven. A customer bought 10
    muffins. How many muffins did Mia have left?

    The trays held 3 x 6 = 18 muffins.

    That made 24 + 18 = 42 muffins.

    That left 42 - 10 = 32 muffins.

    Answer: 32

``docs/stories.md`` says how stories are made and what the checker decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import takewhile
from random import Random
from typing import cast

from scope_rlvr.core.types import Problem
from scope_rlvr.problems.family import Split, check_split
from scope_rlvr.problems.stories.checker import ANSWER_PATTERN, StepTruth, truths
from scope_rlvr.problems.stories.draft import Sizes
from scope_rlvr.problems.stories.solver import SEPARATOR, Solver
from scope_rlvr.problems.stories.story import Story, Variant, make_story

MIN_LEVEL, MAX_LEVEL = 2, 10
_REMEMBERED = 512
_ID = re.compile(r"(?P<family>[\w-]+)\.(?P<split>train|dev|test)\.(?P<level>\d{1,2})\.-?\d{1,20}\.\d{1,12}")
_REPEATS_BEFORE_STARTING_OVER = 1000

VARIANTS = {
    "stories": Variant(),
    "stories-big": Variant(
        sizes=Sizes(
            start=(60, 300),
            change=(20, 120),
            groups=(6, 20),
            each=(8, 25),
            purchase=(12, 40),
            work=(15, 60),
            journey=(6, 20),
            most_things=2000,
            largest=9999,
        )
    ),
    "stories-distractors": Variant(num_distractors=(1, 3)),
    "stories-percent": Variant(has_percent=True),
    "stories-unseen": Variant(is_unseen=True),
}
"""The sets of stories by name. The first is the one to train on; the others differ from it in one thing each."""


class Stories:
    """Word problems of one variant. ``level`` is how many operations a solution takes, from 2 to 10.

    >>> family = Stories("stories")
    >>> problem = family.sample(level=2, count=1, seed=0)[0]
    >>> steps = family.canonical_solution(problem).split(family.separator)
    >>> len(steps), family.first_wrong_step(problem, steps)
    (3, None)
    >>> family.first_wrong_step(problem, [steps[0], "2 + 2 = 5"])
    1
    """

    separator = SEPARATOR
    answer_pattern = ANSWER_PATTERN

    def __init__(self, name: str) -> None:
        self.name = name
        self.variant = VARIANTS[name]

    def sample(self, level: int, count: int, seed: int, *, split: Split = "train") -> list[Problem]:
        """Stories of one split, each with a worked solution; see ``ProblemFamily.sample``.

        Raises ``ValueError`` for a level that there is not, or an unknown split.
        """
        check_split(split)
        if not MIN_LEVEL <= level <= MAX_LEVEL:
            raise ValueError(
                f"level is how many operations a story takes, from {MIN_LEVEL} to {MAX_LEVEL}; got {level}"
            )
        problems: list[Problem] = []
        seen: set[str] = set()
        index = num_repeats = 0
        while len(problems) < count:
            problem = self._problem(split, level, seed, index)
            index += 1
            if problem.prompt in seen and num_repeats < _REPEATS_BEFORE_STARTING_OVER:
                num_repeats += 1
                continue
            num_repeats = 0
            seen.add(problem.prompt)
            problems.append(problem)
        return problems

    def step_truths(self, problem: Problem, steps: Sequence[str]) -> list[StepTruth]:
        """What the checker says about each step; unlike ``first_wrong_step`` it tells what it cannot read."""
        solver = self._solver(problem)
        return list(truths(solver.justified, solver.plan.answer, steps))

    def first_wrong_step(self, problem: Problem, steps: Sequence[str]) -> int | None:
        """See ``ProblemFamily.first_wrong_step``. A step without an equation, or with one that cannot be read, is not wrong."""
        found = self.step_truths(problem, steps)
        return found.index(StepTruth.WRONG) if StepTruth.WRONG in found else None

    def num_right_steps(self, problem: Problem, steps: Sequence[str]) -> int:
        """See ``ProblemFamily.num_right_steps``: a step without an equation says nothing to check."""
        before = takewhile(lambda truth: truth is not StepTruth.WRONG, self.step_truths(problem, steps))
        return sum(truth is StepTruth.RIGHT for truth in before)

    def canonical_solution(self, problem: Problem) -> str:
        """The solution in the order of the story, each step in the wording that this story always has."""
        return self._solver(problem).solution()

    def canonical_rest(self, problem: Problem, prefix: str) -> str | None:
        """See ``ProblemFamily.canonical_rest``. What the prefix has calculated is used; a step that it began is ended."""
        return self._solver(problem).rest(prefix)

    def random_solution(self, problem: Problem, rng: Random) -> str:
        """A right solution whose order of steps, wordings and order of summands and factors are drawn from ``rng``."""
        return self._solver(problem).solution(rng)

    def random_rest(self, problem: Problem, prefix: str, rng: Random) -> str | None:
        """The same for what follows on a prefix; see ``canonical_rest``."""
        return self._solver(problem).rest(prefix, rng)

    def story_of(self, problem: Problem) -> Story:
        """The story behind a problem, made again from its id; ``ValueError`` for a problem of another family."""
        return self._solver(problem).story

    def _problem(self, split: Split, level: int, seed: int, index: int) -> Problem:
        name = f"{self.name}.{split}.{level}.{seed}.{index}"
        solver = _solver(name)
        return Problem(
            id=name,
            prompt=f"{solver.story.text}{SEPARATOR}",
            reference=str(solver.plan.answer),
            source=self.name,
            level=level,
            solution=solver.solution(),
        )

    def _solver(self, problem: Problem) -> Solver:
        parts = _ID.fullmatch(problem.id)
        if parts and parts["family"] == self.name and MIN_LEVEL <= int(parts["level"]) <= MAX_LEVEL:
            solver = _solver(problem.id)
            if problem.prompt.strip() == solver.story.text:
                return solver
        raise ValueError(
            f"problem {problem.id!r} is not of the family {self.name!r}, or another version made it: its prompt is "
            f"{problem.prompt!r}"
        )


@lru_cache(maxsize=_REMEMBERED)
def _solver(name: str) -> Solver:
    """The solver of the story with this id; everything about a story follows from its id."""
    family, split, level, _, _ = name.split(".")
    return Solver(make_story(int(level), cast(Split, split), VARIANTS[family], Random(name)))
