"""What a teacher's log-probabilities of the policy's own tokens are used for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass, Member, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Tokens
from scope_rlvr.methods.parts.base import Advantage, Estimator, Need, Rewards, Status, Term, TokenAdvantages
from scope_rlvr.methods.reading import ReadBy, Reading, Text, as_written

if TYPE_CHECKING:
    from torch import Tensor


def failures_alone(group: Group, member: Member, tools: Toolbox) -> Text | None:
    """The response as it was written where the verifier calls it wrong; nothing else is read."""
    return as_written(group, member, tools) if member.verdict.outcome is Outcome.WRONG else None


class ReverseKl(Estimator):
    """On-policy distillation: each token is worth how much likelier the teacher finds it than the policy did.

    ``Â_t = coefficient · (log π_T(y_t) − log π_old(y_t))``, a one-sample estimate of ``−∂KL(π‖π_T)``; nothing is divided and there
    is no baseline. The policy's own log-probability is what it sampled with. In a rollout that the teacher could not score all
    advantages are 0, and so they are in rollouts that are not ``distilled``, which the teacher is not asked about. Source: Lu
    2025, "On-Policy Distillation"; Gu et al. 2024 (MiniLLM).

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
    distilled: Literal["all", "wrong"] = Field(
        "all", description="rollouts that the teacher scores: all, or those that the verifier calls wrong"
    )

    @property
    def readings(self) -> tuple[Reading, ...]:
        text = failures_alone if self.distilled == "wrong" else as_written
        return (Reading("teacher_logprob", by=ReadBy.TEACHER, text=text),)

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [
            [log_ratio(member, "teacher_logprob", self.coefficient) for member in group.members] for group in groups
        ]


def log_ratio(member: Member, name: str, coefficient: float = 1.0) -> list[float]:
    """``log π_T(y_t) − log π_old(y_t)`` of a reading of this name; 0 where either is unknown.

    >>> from scope_rlvr.core.types import *
    >>> member = Member(Rollout((), (Segment((5, 6), Origin.POLICY, (-1.0, -1.0)),)), Verdict(Outcome.RIGHT))
    >>> log_ratio(member.having(teacher_logprob=(-0.5, -3.0)), "teacher_logprob")
    [0.5, -2.0]
    """
    own_T = member.rollout.logprob_T
    theirs_T = member.extras.get(name)
    if theirs_T is None:
        return [0.0] * len(own_T)
    return [0.0 if own is None else coefficient * (theirs - own) for theirs, own in zip(theirs_T, own_T, strict=True)]


class EarlyTokens(Advantage):
    """Tokens count more the less advantage, of either sign, has been given before them in their response.

    ``Â_t ← Â_t · (1 + γ · (1 − Σ_{j<t} |Â_j| / Σ_j |Â_j|))``, sums over the tokens of the response that train: the factor falls
    from ``1 + γ`` at the first token to nearly 1 at the last. Made for on-policy distillation, where what follows a divergence
    from the teacher is a text that the teacher would not have written. Source: IW-OPD (2606.22600), read in TRL's
    ``trl/experimental/iw_opd/iw_opd_trainer.py`` 1231-1285 at f2cd577.

    >>> EarlyTokens(gamma=0.5).factors([2.0, -1.0, 1.0])
    [1.5, 1.25, 1.125]
    """

    title: ClassVar[str] = "IW-OPD weights"
    source: ClassVar[str] = "arXiv 2606.22600"
    status: ClassVar[Status] = Status.LIBRARY
    changes: ClassVar[str] = "tokens before a divergence from the teacher count more than those after it"
    formula: ClassVar[str] = "`Â_t·(1 + γ(1 − Σ_{j<t}|Â_j| / Σ_j|Â_j|))`"

    kind: Literal["early_tokens"] = "early_tokens"
    gamma: float = Field(0.5, ge=0, description="how much more the first token counts than the last; 0 changes nothing")

    def factors(self, advantage_T: Sequence[float]) -> list[float]:
        """What each advantage is multiplied by; 1 everywhere in a response without any advantage."""
        before_T = list(accumulate(map(abs, advantage_T), initial=0.0))
        total = before_T.pop()
        return [1 + self.gamma * (1 - before / total) if total > 0 else 1.0 for before in before_T]

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        counted_T = [a * (w > 0) for a, w in zip(streams.advantage_T, streams.weight_T, strict=True)]
        return [a * factor for a, factor in zip(streams.advantage_T, self.factors(counted_T), strict=True)]


class TeacherKl(Term):
    """A penalty on the divergence from a teacher, beside whatever the advantages are.

    ``½ (log π − log π_T)²`` on each token of the policy that the teacher scored: its gradient, ``(log π − log π_T) ∇log π``, is
    on average that of ``KL(π‖π_T)``. (``log π − log π_T`` itself has no gradient on average, and ``π_T/π − log(π_T/π) − 1`` that
    of another divergence.) The weight goes from ``weight`` down to ``last_weight`` by ``decay`` in a step. ``only`` restricts it to
    wrong rollouts, or to groups without a right one. Source: KDRL (2506.02208), reward-guided distillation included.

    >>> from dataclasses import replace
    >>> import torch
    >>> from scope_rlvr.formulas.losses import example_tokens
    >>> extras = {"teacher_logprob": torch.log(torch.tensor([[0.25]])), "is_scored": torch.ones(1, 1)}
    >>> own = replace(example_tokens(0.5), is_teacher_BT=torch.tensor([[False]]), extras=extras)
    >>> TeacherKl().loss(own)  # ½ (log 2)²
    tensor([[0.2402]])
    """

    title: ClassVar[str] = "KDRL penalty"
    source: ClassVar[str] = "arXiv 2506.02208"
    status: ClassVar[Status] = Status.LIBRARY
    changes: ClassVar[str] = "a penalty on the divergence from a teacher that scores the policy's tokens"
    formula: ClassVar[str] = "`+ β·mean(½(log π − log π_T)²)`"
    departures: ClassVar[str] = "β and its decay are remembered figures, not read ones"
    carries = ("teacher_logprob", "is_scored")

    kind: Literal["teacher_kl"] = "teacher_kl"
    weight: float = Field(2e-3, ge=0, description="factor on the penalty at the first step")
    last_weight: float = Field(0.0, ge=0, description="what the factor does not fall below")
    decay: float = Field(0.0, ge=0, description="what the factor falls by in a step")
    only: Literal["all", "wrong", "unsolved"] = Field(
        "all",
        description="which rollouts are held to the teacher: all, wrong ones, or those of groups without a right one",
    )

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER_SCORES})

    @property
    def readings(self) -> tuple[Reading, ...]:
        texts = {"all": as_written, "wrong": failures_alone, "unsolved": _unsolved_alone}
        return (Reading("teacher_logprob", by=ReadBy.TEACHER, text=texts[self.only]),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [
            replace(g, members=tuple(m.having(is_scored=float("teacher_logprob" in m.extras)) for m in g.members))
            for g in groups
        ]

    def weight_after(self, figures: Mapping[str, float], tools: Toolbox) -> float:
        return min(self.weight, max(self.last_weight, self.weight - self.decay * (tools.step - 1)))

    def loss(self, tokens: Tokens) -> Tensor:
        gap_BT = tokens.logp_BT - tokens.extras["teacher_logprob"]
        counts_BT = (tokens.extras["is_scored"] > 0) & ~tokens.is_teacher_BT & (tokens.weight_BT > 0)
        return 0.5 * gap_BT.where(counts_BT, gap_BT.new_zeros(())) ** 2


def _unsolved_alone(group: Group, member: Member, tools: Toolbox) -> Text | None:
    return as_written(group, member, tools) if group.group_class is GroupClass.ALL_WRONG else None
