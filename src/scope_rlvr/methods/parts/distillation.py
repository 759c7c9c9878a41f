"""Estimators that compare the policy with a teacher, token by token, on what the policy wrote itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages
from scope_rlvr.methods.reading import ReadBy, Reading


class ReverseKl(Estimator):
    """On-policy distillation: each token is worth how much likelier the teacher finds it than the policy did.

    ``Â_t = coefficient · (log π_T(y_t) − log π_old(y_t))``, a one-sample estimate of ``−∂KL(π‖π_T)``; nothing is divided and there
    is no baseline. The policy's own log-probability is what it sampled with. In a rollout that the teacher could not score all
    advantages are 0. Source: Lu 2025, "On-Policy Distillation"; Gu et al. 2024 (MiniLLM).

    >>> teacher, policy = (-0.5, -3.0), (-1.0, -1.0)
    >>> [t - p for t, p in zip(teacher, policy)]
    [0.5, -2.0]
    """

    title: ClassVar[str] = "On-policy distillation"
    source: ClassVar[str] = "arXiv 2306.08543"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "advantages are the teacher's log-probabilities less the policy's"
    formula: ClassVar[str] = "`Â_t = log π_T − log π_old`"
    departures: ClassVar[str] = "one sampled token, not the whole distribution"

    kind: Literal["reverse_kl"] = "reverse_kl"
    coefficient: float = Field(1.0, gt=0, description="factor on the advantage")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("teacher_logprob", by=ReadBy.TEACHER),)

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [[self._of(member) for member in group.members] for group in groups]

    def _of(self, member: Member) -> list[float]:
        own_T = member.rollout.logprob_T
        theirs_T = member.extras.get("teacher_logprob")
        if theirs_T is None:
            return [0.0] * len(own_T)
        return [
            0.0 if own is None else self.coefficient * (theirs - own)
            for theirs, own in zip(theirs_T, own_T, strict=True)
        ]
