"""What an embedded problem family must offer: problems with references, and the exact truth about every step.

The exact checker makes labels, tests and studies possible. Training never sees it: there the verifier pays reward and
a learned step scorer says where to cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Literal, Protocol, get_args

from scope_rlvr.core.types import Problem
from scope_rlvr.store.digests import bytes_digest

Split = Literal["train", "dev", "test"]

TRAIN_SHARE, DEV_SHARE = 0.8, 0.1
"""The rest is the test split."""


class ProblemFamily(Protocol):
    """A source of problems of graded difficulty whose every step can be checked exactly.

    ``separator`` stands between the steps of a solution; ``answer_pattern`` is a regular expression with one group
    that matches the whole last line of a solution and captures the answer.
    """

    name: str
    separator: str
    answer_pattern: str

    def sample(self, level: int, count: int, seed: int, *, split: Split = "train") -> list[Problem]:
        """``count`` problems, the same for the same arguments; a problem repeats only when the split is used up."""
        ...

    def first_wrong_step(self, problem: Problem, steps: Sequence[str]) -> int | None:
        """The 0-based index of the first wrong step, counting the answer line; ``None`` when every step is right."""
        ...

    def num_right_steps(self, problem: Problem, steps: Sequence[str]) -> int:
        """How many steps before the first wrong one are right; a step that says nothing to check is not counted."""
        ...

    def canonical_solution(self, problem: Problem) -> str:
        """The one solution that a fixed order of steps gives."""
        ...

    def canonical_rest(self, problem: Problem, prefix: str) -> str | None:
        """What the fixed order of steps gives after the beginning of a solution, which may end anywhere in a step.

        Prefix and rest together are a right solution; the rest is empty where there is nothing left to say. ``None`` where
        no right solution begins so.
        """
        ...

    def random_solution(self, problem: Problem, rng: Random) -> str:
        """A right solution whose order of steps is drawn from ``rng``."""
        ...


def split_of(identity: str) -> Split:
    """The split that a problem belongs to, decided by a hash of what the problem is, so that no two splits share one.

    >>> split_of("reduction-0.3.5.7") == split_of("reduction-0.3.5.7")
    True
    """
    position = int(bytes_digest([identity.encode()])[:8], 16) / 2**32
    if position < TRAIN_SHARE:
        return "train"
    return "dev" if position < TRAIN_SHARE + DEV_SHARE else "test"


def check_split(split: str) -> None:
    """Raise ``ValueError`` for a split that does not exist.

    >>> check_split("validation")
    Traceback (most recent call last):
    ...
    ValueError: there is no split 'validation'; the splits are train, dev, test
    """
    if split not in get_args(Split):
        raise ValueError(f"there is no split {split!r}; the splits are {', '.join(get_args(Split))}")
