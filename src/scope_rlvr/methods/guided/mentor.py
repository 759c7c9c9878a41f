"""MENTOR: a teacher puts in single tokens where the policy is least certain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.teacher_text import read_reply, request_after
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Problem, Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clipped, TeacherTerm
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.parts.base import Status, TokenAdvantages

_WEIGHT = "mentor_weight"


class Mentor(GuidedMethod):
    """Half of a group is written with a teacher's tokens at critical places, and counts by what it does better than the rest.

    The first part of a group is the policy's alone. In the others, at the first token whose entropy is at least
    ``max(q, least_entropy)``, ``q`` the ``quantile`` of the entropies of the batch's own rollouts, the teacher writes one token and the
    policy goes on; so on, ``num_points`` times. ``Â = (r − mean)/std`` among the policy's own rollouts; a mixed one has
    ``max(r − mean of those, 0)``, times a weight that falls from 1 to 0 along a cosine over ``num_guided_steps`` steps, after which
    nothing is mixed. All tokens have the clipped surrogate, mean over tokens. Source: MENTOR (2510.04140), and its released
    code, github.com/Jiangzs1028/MENTOR at f9b4fb5: ``verl/trainer/core_algos.py`` 170-228, ``verl/trainer/ray_trainer.py`` 633, ``examples/train.sh``.
    There each token is drawn from ``π + (π_T − π)·min(1, H/threshold)``, by speculative decoding.

    >>> [round(Mentor().expert_weight(step), 3) for step in (1, 60, 120)]
    [1.0, 0.507, 0.0]
    """

    title: ClassVar[str] = "MENTOR"
    source: ClassVar[str] = "arXiv 2510.04140"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a teacher writes single tokens where the policy is least certain, in half of a group"
    formula: ClassVar[str] = "`Â = (r − mean)/std`, of mixed rollouts `w·max(r − mean, 0)`; `S(Â)`; mean over tokens"
    departures: ClassVar[str] = "the teacher's own token at few places, in the place of a mixture at every token"

    name: Literal["mentor"] = "mentor"
    teacher_term: TeacherTerm = Clipped()
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    mixed_share: float = Field(
        0.5, ge=0, lt=1, description="share of a group that the teacher helps to write; 0 is GRPO"
    )
    num_points: int = Field(3, ge=1, description="most tokens that the teacher puts into a rollout")
    quantile: float = Field(0.95, ge=0, le=1, description="quantile of entropies from which on a token is critical")
    least_entropy: float = Field(1.5, ge=0, description="entropy in nats below which no token is critical")
    num_guided_steps: int = Field(120, ge=1, description="steps over which the weight of mixed rollouts falls to 0")

    def expert_weight(self, step: int) -> float:
        """The weight of mixed rollouts at a step (from 1)."""
        done = (step - 1) / max(1, self.num_guided_steps - 1)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, done))) if done < 1 else 0.0

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        weight = self.expert_weight(tools.step)
        num_mixed = round(self.mixed_share * num_rollouts) if weight > 0 else 0
        sampled = tools.sample(groups, num_rollouts - num_mixed)
        if not num_mixed:
            return sampled
        problems = [group.problem for group in groups for _ in range(num_mixed)]
        starts = [Rollout(group.prompt_ids, ()) for group in groups for _ in range(num_mixed)]
        written = tools.extend(starts, "sampling", "mixed")
        rollouts = self._mixed(written, problems, self._threshold(sampled, tools), tools)
        judged = [
            replace(m, role=Role.GUIDED, extras={_WEIGHT: weight})
            for m in tools.verified(list(zip(problems, rollouts, strict=True)))
        ]
        return [
            replace(group, members=(*group.members, *judged[p * num_mixed : (p + 1) * num_mixed]))
            for p, group in enumerate(sampled)
        ]

    def _threshold(self, groups: Sequence[Group], tools: Toolbox) -> float:
        """The entropy from which on a token is critical in this batch."""
        found = sorted(h for h_T in tools.entropies([m.rollout for g in groups for m in g.members]) for h in h_T)
        place = math.ceil(self.quantile * (len(found) - 1) - 1e-9) if found else 0
        return max(self.least_entropy, found[place] if found else 0.0)

    def _mixed(
        self, rollouts: Sequence[Rollout], problems: Sequence[Problem], threshold: float, tools: Toolbox
    ) -> list[Rollout]:
        """The rollouts, with the teacher's token at one critical place after another."""
        mixed, looked_to = list(rollouts), [0] * len(rollouts)
        for number in range(self.num_points):
            found = [
                (i, t)
                for i, entropy_T in enumerate(tools.entropies(mixed))
                if (t := next((t for t in range(looked_to[i], len(entropy_T)) if entropy_T[t] >= threshold), None))
                is not None
            ]
            starts = [mixed[i].cut(t) for i, t in found]
            requests = [
                replace(request_after(start, problems[i], tools), max_tokens=1)
                for (i, _), start in zip(found, starts, strict=True)
            ]
            going_on: list[tuple[int, Rollout]] = []
            for (i, t), start, reply in zip(found, starts, tools.ask(requests, "critical", number), strict=True):
                looked_to[i] = t + 1
                token = read_reply(reply, tools).segment.head(1)
                if reply.error is None and len(token):
                    ends = token.token_ids[0] in tools.codec.end_ids
                    mixed[i] = start.then(token, is_truncated=not ends)
                    going_on += [] if ends or len(mixed[i]) >= tools.max_response_tokens else [(i, mixed[i])]
            grown = tools.extend([rollout for _, rollout in going_on], "sampling", "mixed", number)
            for (i, _), rollout in zip(going_on, grown, strict=True):
                mixed[i] = rollout
        return mixed

    def teacher_advantage(self, advantage: float) -> float:
        return self.teacher_weight * advantage

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        own_PG = [
            [None if _is_mixed(m) else reward for m, reward in zip(group.members, rewards_G, strict=True)]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        credited = super().advantages(groups, own_PG, normalisation)
        return [
            [
                [self._gain(m, reward, own_G)] * len(m.rollout) if _is_mixed(m) else a_T
                for m, reward, a_T in zip(group.members, rewards_G, a_GT, strict=True)
            ]
            for group, rewards_G, own_G, a_GT in zip(groups, rewards_PG, own_PG, credited, strict=True)
        ]

    @staticmethod
    def _gain(member: Member, reward: float | None, own_G: Sequence[float | None]) -> float:
        """What a mixed rollout is better than the policy's own on average, weighted."""
        known = [own for own in own_G if own is not None]
        if reward is None or not known:
            return 0.0
        return float(member.extras[_WEIGHT]) * max(0.0, reward - math.fsum(known) / len(known))


def _is_mixed(member: Member) -> bool:
    return _WEIGHT in member.extras
