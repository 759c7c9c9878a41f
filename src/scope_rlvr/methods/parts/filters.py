"""Which rollouts and tokens train at all."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass, Member, Streams
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.methods.parts.base import GroupEdit, Status, TokenWeight


class VoidResponses(TokenWeight):
    """A response that gives no answer carries no gradient; its reward stays in the baseline of its group.

    ``w_t ← 0`` in a rollout whose verdict names no answer. Source: SimpleTIR (2509.02479), which masks a trajectory with a
    void turn, one with neither a whole block of code nor an answer, and its released code, github.com/ltzheng/SimpleTIR at
    e7b5b44: ``recipe/simpletir/agent_utils.py``. A text of one turn is void where it gives no answer.

    >>> from scope_rlvr.core.types import *
    >>> silent = Member(Rollout((), (Segment((5,), Origin.POLICY),)), Verdict(Outcome.WRONG))
    >>> VoidResponses().weights(Group(Problem("p", "?", "1"), (silent,)), silent, Streams.of(silent.rollout, [1.0], [1.0]))
    [0.0]
    """

    title: ClassVar[str] = "SimpleTIR mask"
    source: ClassVar[str] = "arXiv 2509.02479"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses without an answer do not train"
    formula: ClassVar[str] = "`w_t · 1[there is an answer]`"
    departures: ClassVar[str] = "text of one turn: no tools, and no filters of groups"

    kind: Literal["void_responses"] = "void_responses"

    def weights(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        return [0.0] * len(streams.weight_T) if member.verdict.answer is None else streams.weight_T


class PushedTokens(TokenWeight):
    """Only tokens with an advantage count: ``w_t ← w_t · 1[Â_t ≠ 0]``.

    A token that is neither pulled nor pushed has no gradient, but it counts in the mean. Without it the mean is that over the
    rollouts that train. Source: github.com/TianHongZXY/RLVR-Decomposed at a5d4e7c, ``verl/trainer/ppo/ray_trainer.py``
    1192-1200: PSR and NSR leave the other rollouts out of the batch.

    >>> from scope_rlvr.core.types import *
    >>> one = Member(Rollout((), (Segment((5, 6), Origin.POLICY),)), Verdict(Outcome.WRONG))
    >>> PushedTokens().weights(Group(Problem("p", "?", "1"), (one,)), one, Streams.of(one.rollout, [0.0, 2.0], [1.0, 1.0]))
    [0.0, 1.0]
    """

    title: ClassVar[str] = "Pushed tokens"
    source: ClassVar[str] = "arXiv 2506.01347"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "tokens without advantage leave the normaliser"
    formula: ClassVar[str] = "`w_t · 1[Â_t ≠ 0]`"

    kind: Literal["pushed_tokens"] = "pushed_tokens"

    def weights(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        return [w if a else 0.0 for a, w in zip(streams.advantage_T, streams.weight_T, strict=True)]


class BalancedGroups(GroupEdit):
    """Groups with about as many right as wrong rollouts; groups whose rewards hardly differ do not count.

    Of ``m = min(right, wrong)`` in a mixed group, ``m + 2`` right and ``m + 1`` wrong rollouts train, drawn at random; the others
    stay in the group's record. A group whose rewards differ by less than ``least_spread`` does not count. Source:
    AgentCPM-Explore, released code, github.com/OpenBMB/AgentCPM at 844c007: ``AgentRL/src/rollout/mcp/_rewarding.py`` 36-95.

    >>> BalancedGroups.num_kept(num_right=1, num_wrong=7)
    (3, 2)
    """

    title: ClassVar[str] = "AgentCPM balance"
    source: ClassVar[str] = "arXiv 2602.06485"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "about as many right as wrong rollouts train"
    formula: ClassVar[str] = "at most `m + 2` right and `m + 1` wrong, `m = min(right, wrong)`"
    departures: ClassVar[str] = "no turns, and no failures of an environment"

    kind: Literal["balanced_groups"] = "balanced_groups"
    least_spread: float = Field(0.1, ge=0, description="difference of rewards from which on a group counts")

    @staticmethod
    def num_kept(num_right: int, num_wrong: int) -> tuple[int, int]:
        """The most right and wrong rollouts that train."""
        least = min(num_right, num_wrong)
        return least + 2, least + 1

    def edit(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._balanced(group, derive_seed(tools.seed, "balance", i)) for i, group in enumerate(groups)]

    def _balanced(self, group: Group, seed: int) -> Group:
        if group.group_class not in (GroupClass.MIXED, GroupClass.SALVAGED):
            return group
        right = [i for i, member in enumerate(group.members) if member.verdict.is_right]
        wrong = [i for i, member in enumerate(group.members) if member.verdict.outcome is Outcome.WRONG]
        rng = random.Random(seed)
        dropped = {
            i
            for places, most in zip((right, wrong), self.num_kept(len(right), len(wrong)), strict=True)
            for i in rng.sample(places, len(places))[most:]
        }
        return replace(
            group,
            members=tuple(member for i, member in enumerate(group.members) if i not in dropped),
            replaced=(*group.replaced, *(group.members[i] for i in sorted(dropped))),
        )

    def counts(self, group: Group) -> bool:
        pays = [member.verdict.pay for member in group.members if member.verdict.pay is not None]
        return not pays or max(pays) - min(pays) >= self.least_spread
