"""SCOPE: step-wise correction for on-policy exploration."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scope_rlvr.methods.base import Method
from scope_rlvr.objective import Clip, Masked, NegativeLogLikelihood, TeacherTerm, Tokens
from scope_rlvr.salvage import Insertion, SalvageSettings, Toolbox, salvage
from scope_rlvr.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.types import Group, Member, Origin, Role, Streams


class FullPrefix(Settings):
    """The kept prefix gets the rollout's advantage, as any token that led to success."""

    kind: Literal["full"] = "full"

    def credit(self, advantage: float) -> tuple[float, float]:
        """Advantage and weight of a prefix token."""
        return advantage, 1.0


class MaskedPrefix(Settings):
    """The kept prefix does not train and counts nowhere (PrefixRL, CURE, R3L)."""

    kind: Literal["masked"] = "masked"

    def credit(self, advantage: float) -> tuple[float, float]:
        return 0.0, 0.0


class FractionOfPrefix(Settings):
    """The kept prefix gets a share of the advantage: it led to success only with help (VPPO uses 0.5)."""

    kind: Literal["fraction"] = "fraction"
    share: float = Field(0.5, ge=0, le=1)

    def credit(self, advantage: float) -> tuple[float, float]:
        return self.share * advantage, 1.0


class PositivePrefix(Settings):
    """The kept prefix gets the advantage where that is positive, else nothing."""

    kind: Literal["positive_only"] = "positive_only"

    def credit(self, advantage: float) -> tuple[float, float]:
        return max(0.0, advantage), 1.0


PrefixCredit = Annotated[FullPrefix | MaskedPrefix | FractionOfPrefix | PositivePrefix, BY_KIND, BARE_NAME]


class FailureCredit(StrEnum):
    """Who pays for a failure that was not salvaged: every token, or only those from the first wrong step on."""

    UNIFORM = "uniform"
    SPARE_PREFIX = "spare_prefix"


class Scope(Method, SalvageSettings):
    """Salvage failures at their first wrong step, then train on the edited groups.

    With prefix u, teacher step z and continuation v of a salvaged rollout, and ``Â_i = r_i − mean(r)`` over the edited
    group: tokens of u and v get the clipped on-policy surrogate (u as ``prefix_credit`` says), tokens of z get
    the ``teacher_term``, by default ``−teacher_weight · Â · log π``, only where ``Â > 0`` and without a clip. Nothing
    salvaged: exactly GRPO. Source: arXiv 2602.24110 (abstract); every open point is an option, argued in
    docs/method.md.

    >>> Scope(max_salvages=2, teacher_term="plain", mode={"kind": "step", "max_tokens": 50}).teacher_term.kind
    'plain'
    """

    title: ClassVar[str] = "SCOPE"
    source: ClassVar[str] = "arXiv 2602.24110"

    name: Literal["scope"] = "scope"
    prefix_credit: PrefixCredit = FullPrefix()
    failure_credit: FailureCredit = FailureCredit.UNIFORM
    teacher_term: TeacherTerm = NegativeLogLikelihood()
    teacher_weight: float = Field(1.0, ge=0)

    @property
    def needs_step_scorer(self) -> bool:
        return self.max_salvages > 0

    @property
    def needs_teacher(self) -> bool:
        return self.max_salvages > 0

    @property
    def num_reserved_rows(self) -> int:
        return 0 if self.insertion is Insertion.REPLACE else self.max_salvages

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return salvage(groups, self, tools)

    def credit_member(self, member: Member, advantage: float) -> Streams:
        """Spread the advantage over kept prefix, teacher step and continuation as the options say."""
        if member.role is Role.SALVAGED:
            credits_T = self._salvaged_credits(member, advantage)
        elif self.failure_credit is FailureCredit.SPARE_PREFIX and advantage < 0:
            credits_T = self._spared_credits(member, advantage)
        else:
            credits_T = [(advantage, 1.0)] * len(member.rollout)
        credits_T = [(0.0, 0.0)] * member.num_shared_tokens + credits_T[member.num_shared_tokens :]
        return Streams.of(member.rollout, [a for a, _ in credits_T], [w for _, w in credits_T])

    def _salvaged_credits(self, member: Member, advantage: float) -> list[tuple[float, float]]:
        origin_T = member.rollout.origin_T
        num_prefix = origin_T.index(Origin.TEACHER) if Origin.TEACHER in origin_T else 0
        of_prefix = self.prefix_credit.credit(advantage)
        of_teacher = (self.teacher_weight * max(0.0, advantage), 0.0 if isinstance(self.teacher_term, Masked) else 1.0)
        return [
            of_prefix if t < num_prefix else of_teacher if origin is Origin.TEACHER else (advantage, 1.0)
            for t, origin in enumerate(origin_T)
        ]

    def _spared_credits(self, member: Member, advantage: float) -> list[tuple[float, float]]:
        record, num_spared = member.salvage, 0
        if record is not None and record.first_wrong_step is not None:
            num_spared = record.steps[record.first_wrong_step].start
        return [(0.0 if t < num_spared else advantage, 1.0) for t in range(len(member.rollout))]

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        on_policy_BT = super().token_loss(tokens, clip)
        if not tokens.is_teacher_BT.any():
            return on_policy_BT
        return torch.where(tokens.is_teacher_BT, self.teacher_term.loss(tokens, clip), on_policy_BT)
