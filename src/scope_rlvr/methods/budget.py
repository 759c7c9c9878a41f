"""Rollouts by the number: another count for each problem."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout


def sample_counts(
    groups: Sequence[Group], num_rollouts_P: Sequence[int], tools: Toolbox, *names: int | str
) -> list[tuple[Member, ...]]:
    """So many fresh, verified rollouts of each problem; all are sampled at once. ``names`` seed the draw."""
    problems = [g.problem for g, count in zip(groups, num_rollouts_P, strict=True) for _ in range(count)]
    starts = [Rollout(g.prompt_ids, ()) for g, count in zip(groups, num_rollouts_P, strict=True) for _ in range(count)]
    written = tools.extend(starts, "sampling", *names)
    members = iter(tools.verified(list(zip(problems, written, strict=True))))
    return [tuple(next(members) for _ in range(count)) for count in num_rollouts_P]
