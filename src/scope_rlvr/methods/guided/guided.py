"""What all methods with a teacher's tokens in their groups share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role, Streams
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Masked, NegativeLogLikelihood, Shaped, TeacherTerm, Tokens
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, TokenAdvantages

if TYPE_CHECKING:
    from torch import Tensor


class GuidedMethod(Method):
    """A method whose groups may hold a teacher's tokens: they train by ``teacher_term``, all others as in GRPO.

    A teacher's token has its rollout's advantage where that is positive, times ``teacher_weight``; it is never pushed
    away.
    """

    teacher_term: TeacherTerm = Field(Shaped(), description="the loss of the teacher's tokens")
    teacher_weight: float = Field(1.0, ge=0, description="factor on the advantage of the teacher's tokens")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER})

    def teacher_advantage(self, advantage: float) -> float:
        """The advantage of a teacher's token in a rollout where its own would be this one."""
        return self.teacher_weight * max(0.0, advantage)

    def credit_tokens(self, member: Member, advantage_T: Sequence[float]) -> Streams:
        streams = super().credit_tokens(member, advantage_T)
        if not member.rollout.num_tokens_from(Origin.TEACHER):
            return streams
        counts = float(not isinstance(self.teacher_term, Masked))
        is_teacher_T = [origin is Origin.TEACHER for origin in streams.origin_T]
        return replace(
            streams,
            advantage_T=tuple(
                self.teacher_advantage(a) if t and w else a
                for t, w, a in zip(is_teacher_T, streams.weight_T, streams.advantage_T, strict=True)
            ),
            weight_T=tuple(w * counts if t else w for t, w in zip(is_teacher_T, streams.weight_T, strict=True)),
        )

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        on_policy_BT = super().token_loss(tokens, clip)
        if not tokens.is_teacher_BT.any():
            return on_policy_BT
        return torch.where(tokens.is_teacher_BT, self.teacher_term.loss(tokens, clip), on_policy_BT)


class NewcomersAlone(GuidedMethod):
    """A guided method in which nothing trains but what joined the groups by guidance: each with advantage 1, if it is right."""

    teacher_term: TeacherTerm = NegativeLogLikelihood()

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        kept_PG = [
            [reward if m.role is Role.GUIDED else None for m, reward in zip(group.members, rewards_G, strict=True)]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        return super().credit(groups, kept_PG, normalisation)

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        return [[[float(m.verdict.is_right)] * len(m.rollout) for m in group.members] for group in groups]
