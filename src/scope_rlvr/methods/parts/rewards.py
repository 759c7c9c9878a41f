"""Rewards: what verdicts pay."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Reward, Status


class OverlongPenalty(Reward):
    """A soft penalty on responses that come near the length limit.

    ``r + overlong_penalty · R(|y|)`` with ``R = 0`` up to ``L − C`` tokens, ``−1`` at ``L``, linear between: ``L`` the longest
    allowed response, ``C = overlong_share · L``. Source: Yu et al. 2025 (DAPO), equation 13, where rewards are ±1 and the
    penalty goes to −1; rewards here are 1 and 0, hence the penalty of ½.

    >>> [OverlongPenalty().charge(num_tokens, max_tokens=100) for num_tokens in (80, 90, 100)]
    [0.0, -0.25, -0.5]
    """

    title: ClassVar[str] = "Overlong penalty"
    source: ClassVar[str] = "arXiv 2503.14476"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "long responses are charged"
    formula: ClassVar[str] = "`r + ½R(|y|)`, `R` from 0 to −1 over the last fifth of the longest response"

    kind: Literal["overlong_penalty"] = "overlong_penalty"
    overlong_share: float = Field(
        0.2, gt=0, le=1, description="share of the longest response, at its end, that is charged for"
    )
    overlong_penalty: float = Field(0.5, ge=0, description="what a response of the full length is charged")

    def charge(self, num_tokens: int, max_tokens: int) -> float:
        """What a response of this length is charged: 0 or less."""
        buffer = self.overlong_share * max_tokens
        excess = min(max(0.0, num_tokens - (max_tokens - buffer)), buffer)
        return -self.overlong_penalty * excess / buffer if excess else 0.0

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        return member.verdict.pay + self.charge(len(member.rollout), tools.max_response_tokens)
