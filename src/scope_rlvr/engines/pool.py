"""All training problems of a run, as methods see them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from scope_rlvr.core.groups import Group
from scope_rlvr.core.types import Problem


@dataclass(frozen=True)
class Pool:
    """All training problems, as methods see them. ``begin`` makes a group without members of a problem."""

    problems: Sequence[Problem]
    begin: Callable[[Problem], Group]

    def __len__(self) -> int:
        return len(self.problems)

    def problem(self, index: int) -> Problem:
        return self.problems[index]

    def groups(self, indices: Sequence[int]) -> list[Group]:
        return [self.begin(self.problems[i]) for i in indices]

    def drawn(self, count: int, seed: int) -> list[Group]:
        """So many problems drawn at random."""
        return self.groups(random.Random(seed).choices(range(len(self.problems)), k=count))
