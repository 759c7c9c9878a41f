"""How often each problem was solved when it was last sampled: a memory that curricula and budgets share."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox


def solve_rate(group: Group) -> float | None:
    """The share of right rollouts among those that the policy sampled unaided and whose verdict is known; ``None`` without any.

    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> def member(outcome):
    ...     return Member(Rollout((1,), (Segment((7,), Origin.POLICY),)), Verdict(outcome))
    >>> members = tuple(map(member, (Outcome.RIGHT, Outcome.WRONG, Outcome.WRONG, Outcome.UNKNOWN)))
    >>> round(solve_rate(Group(Problem("p", "?", "1"), members)), 3)
    0.333
    """
    known = [member.verdict.is_right for member in group.sampled if member.verdict.is_known]
    return fmean(known) if known else None


def remember_rates(groups: Sequence[Group], tools: Toolbox, key: str) -> None:
    """Write down the solve rate of each problem; ``key`` is the part's or the method's own."""
    rates = tools.memory.setdefault(key, {})
    rates.update({g.problem.id: rate for g in groups if (rate := solve_rate(g)) is not None})


def remembered_rates(tools: Toolbox, key: str) -> dict[str, float]:
    """The solve rates of the problems seen so far, by their ids."""
    return dict(tools.memory.get(key, {}))


def places_by_id(tools: Toolbox) -> dict[str, int]:
    """Where each training problem is in the pool, by its id."""
    assert tools.pool is not None, "an engine without a pool refuses whatever needs one"
    return {tools.pool.problem(i).id: i for i in range(len(tools.pool))}
