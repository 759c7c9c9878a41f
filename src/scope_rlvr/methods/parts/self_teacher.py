"""Self-distillation: the policy, shown a right response of the same group, teaches itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.readings import Entropy
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages
from scope_rlvr.methods.parts.distillation import log_ratio
from scope_rlvr.methods.reading import ReadBy, Reading, Text
from scope_rlvr.methods.streams import outcome_advantages

DEMONSTRATION = "{prompt}\n\nA right solution:\n\n{solution}\n\nNow solve the problem yourself.\n\n"


def right_sibling(group: Group, member: Member) -> Member | None:
    """The first right response of the group beside the member itself."""
    return next((other for other in group.members if other.verdict.is_right and other is not member), None)


class SelfTeacher(Estimator):
    """The policy's moving average, shown a right response to the same problem, says how likely each token should be.

    ``Â_t = log π̄(y_t | x, y*, y_<t) − log π_old(y_t | x, y_<t)``: ``π̄`` the average of the policies, ``y*`` the first right
    response of the group that is not ``y`` itself. A rollout without such a sibling, or without a known verdict, has advantage 0. Source: SDPO (2601.20802),
    and its released code, github.com/lasgroup/SDPO at 0e6d510: ``verl/trainer/ppo/core_algos.py`` 1085-1180 (the loss for
    sampled tokens), ``verl/trainer/config/actor/actor.yaml`` 79-150. The wording of the demonstration is ours.

    >>> from scope_rlvr.core.types import *
    >>> member = Member(Rollout((), (Segment((5, 6), Origin.POLICY, (-1.0, -1.0)),)), Verdict(Outcome.WRONG))
    >>> log_ratio(member.having(self_teacher_logprob=(-0.2, -4.0)), "self_teacher_logprob")
    [0.8, -3.0]
    """

    title: ClassVar[str] = "SDPO self-teacher"
    source: ClassVar[str] = "arXiv 2601.20802"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the policy, shown a right sibling, scores its own tokens"
    formula: ClassVar[str] = "`Â_t = log π̄(y_t|x, y*) − log π_old(y_t|x)`"
    departures: ClassVar[str] = (
        "the sampled tokens, not a Jensen-Shannon divergence over the 100 likeliest; no feedback from an environment"
    )

    kind: Literal["self_teacher"] = "self_teacher"
    decay: float = Field(0.95, ge=0, lt=1, description="decay of the average of the policies in a step")
    template: str = Field(
        DEMONSTRATION,
        pattern=r"\{solution\}",
        description="what the self-teacher is shown, of `{prompt}` and `{solution}`",
    )

    @property
    def average_decay(self) -> float | None:
        return self.decay

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("self_teacher_logprob", by=ReadBy.AVERAGE, text=self.demonstrated),)

    def demonstrated(self, group: Group, member: Member, tools: Toolbox) -> Text | None:
        """The response after a prompt with a right sibling in it; ``None`` without such a sibling or a known verdict."""
        sibling = right_sibling(group, member)
        if sibling is None or not member.verdict.is_known:
            return None
        shown = fill(self.template, prompt=group.problem.prompt, solution=tools.text(sibling.rollout))
        return tools.read_prompt(group.problem, shown), member.rollout.token_ids

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [[log_ratio(member, "self_teacher_logprob") for member in group.members] for group in groups]


class SampleRouting(SelfTeacher):
    """Failures with a right sibling are taught by it, token by token; every other rollout has GRPO's advantage.

    Routed: ``Â_t = w_t · (log π̄(y_t | x, y*) − log π_old(y_t))`` with ``w_t = exp(−β·H̄_t)``, ``H̄_t`` the self-teacher's entropy
    there, divided by the mean of ``w`` over all routed tokens of the batch: an uncertain self-teacher counts less. Not routed:
    reward minus baseline, divided as the normalisation says. Source: SRPO (2604.02288).

    >>> SampleRouting(beta=math.log(2)).certainty([[0.0, 1.0]])  # exp(−β·H) is 1 and ½, and their mean ¾
    [[1.3333333333333333, 0.6666666666666666]]
    """

    title: ClassVar[str] = "SRPO routing"
    source: ClassVar[str] = "arXiv 2604.02288"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = (
        "failures are distilled from the policy shown a right sibling, the others trained as in GRPO"
    )
    formula: ClassVar[str] = "`Â`, or on failures with a right sibling `e^(−βH̄_t)·(log π̄(y_t|x, y*) − log π_old)`"
    departures: ClassVar[str] = "the sampled tokens, not a divergence over the likeliest"

    kind: Literal["sample_routing"] = "sample_routing"  # type: ignore[assignment]
    beta: float = Field(1.0, ge=0, description="how much less an uncertain self-teacher counts; 0 counts all alike")
    baseline: Baseline = Field(Baseline.GROUP_MEAN, description="what a reward is compared with, as in a method")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (
            Reading("self_teacher_logprob", by=ReadBy.AVERAGE, text=self.demonstrated),
            Reading("self_teacher_entropy", Entropy(), by=ReadBy.AVERAGE, text=self.demonstrated),
        )

    def demonstrated(self, group: Group, member: Member, tools: Toolbox) -> Text | None:
        is_wrong = member.verdict.outcome is Outcome.WRONG
        return super().demonstrated(group, member, tools) if is_wrong else None

    def certainty(self, entropy_NT: Sequence[Sequence[float]]) -> list[list[float]]:
        """The weight of each token of the routed rollouts, 1 on average over all of them."""
        raw_NT = [[math.exp(-self.beta * h) for h in entropy_T] for entropy_T in entropy_NT]
        mean = fmean([w for raw_T in raw_NT for w in raw_T] or [1.0])
        return [[w / mean for w in raw_T] for raw_T in raw_NT]

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        outcome_PG = outcome_advantages(groups, rewards_PG, self.baseline, normalisation)
        routed = [m for group in groups for m in group.members if "self_teacher_entropy" in m.extras]
        weights = iter(self.certainty([m.extras["self_teacher_entropy"] for m in routed]))
        return [
            [
                [w * a for w, a in zip(next(weights), log_ratio(m, "self_teacher_logprob"), strict=True)]
                if "self_teacher_entropy" in m.extras
                else [outcome] * len(m.rollout)
                for m, outcome in zip(group.members, outcome_G, strict=True)
            ]
            for group, outcome_G in zip(groups, outcome_PG, strict=True)
        ]
