"""POPE: hard problems come twice, with and without the beginning of a solution in the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.guided.traces import PROMPT_THEN_HINT, hinted_prompt, sample_with_hints
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status


class Pope(Method):
    """Privileged on-policy exploration.

    Where all rollouts of a group fail, the second half of them is written anew with the beginning of an oracle solution
    in the prompt: the shortest of ``prefix_shares`` with which any of them is right. Guided and unguided rollouts are
    two groups, each with its own mean. The prefix is part of the prompt and has no gradient. ``Â = (r − mean) / std``.
    Source: POPE (2601.18779), read in a digest; it looks for prefixes before training, with the first quarter where
    none helps, and mixes both kinds of problems 1 : 1.

    Different here: the solution is a verified trace of the teacher; prefixes are sought when a problem fails; where
    none helps, the group stays as it is. By default the prefix follows the prompt, without an instruction; ``template``
    gives it one.

    >>> [round(share * 8) for share in Pope().prefix_shares]
    [2, 4, 6]
    """

    title: ClassVar[str] = "POPE"
    source: ClassVar[str] = "arXiv 2601.18779"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "where all fail, half of the group is guided by the beginning of a solution"
    formula: ClassVar[str] = (
        "`Â = (r − mean) / std` over guided and over unguided rollouts; `S(Â)` under each one's own prompt"
    )
    departures: ClassVar[str] = "prefixes of the teacher's trace, sought when a problem fails; none where none helps"

    name: Literal["pope"] = "pope"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    prefix_shares: tuple[float, ...] = Field(
        (0.25, 0.5, 0.75), min_length=1, description="shares of the solution that are tried as a prefix, in this order"
    )
    template: str = Field(
        PROMPT_THEN_HINT,
        pattern=r"\{hint\}",
        description="prompt with a prefix, of `{prompt}` and `{hint}`; the default keeps the ids of both",
    )

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER})

    @property
    def has_variable_rows(self) -> bool:
        return True

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        def begin(group: Group, prefix: Rollout) -> Rollout:
            return hinted_prompt(group, prefix, self.template, tools)

        hard = [i for i, group in enumerate(groups) if group.group_class is GroupClass.ALL_WRONG]
        halves = [replace(groups[i], members=groups[i].members[-(len(groups[i].members) // 2) :]) for i in hard]
        guided = (
            dict(zip(hard, sample_with_hints(halves, self.prefix_shares, begin, tools), strict=True)) if hard else {}
        )
        edited = []
        for i, group in enumerate(groups):
            members = guided.get(i)
            if members is None or len(group.members) < 2:
                edited.append(group)
                continue
            kept = len(group.members) - len(members)
            edited.append(
                replace(group, members=group.members[:kept], replaced=(*group.replaced, *group.members[kept:]))
            )
            edited.append(Group(group.problem, members, prompt_ids=members[0].rollout.prompt_ids))
        return edited
