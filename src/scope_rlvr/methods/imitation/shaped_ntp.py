"""Reward-shaped imitation: SFT that says how sure to be, and what becomes of the other tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.lazy import torch
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.methods.imitation.sft import Sft
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.ranked_negatives import RankedNegatives, scaled_likelihood

if TYPE_CHECKING:
    from torch import Tensor


class ShapedNtp(Sft):
    """Imitation of teacher traces as a policy gradient of one token, with rewards of its own for what was and was not written.

    ``−sg(1 − π)^β·log π`` on the teacher's tokens, beside a term on the probability of all others. ``β = 0`` without the term is SFT; below 0
    the policy is made surer, above 0 less sure. The paper finds that surer policies explore better in the reinforcement learning that
    follows. Source: Wu et al. 2025, "Diversity or Precision? A Deep Dive into Next Token Prediction", abstract.

    >>> ShapedNtp().exponent, ShapedNtp().own_parts[0].tail
    (-0.25, -0.1)
    """

    title: ClassVar[str] = "Reward-shaped NTP"
    source: ClassVar[str] = "arXiv 2512.22955"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "imitation that is surer, and pushes unlikely tokens down"
    formula: ClassVar[str] = "`−sg(1 − π)^β·log π + 0.1·(1 − π − P_k)` on teacher traces"
    departures: ClassVar[str] = (
        "the form and its numbers are argued here; a stage of imitation, where the paper pre-trains"
    )

    name: Literal["shaped_ntp"] = "shaped_ntp"  # type: ignore[assignment]
    exponent: float = Field(-0.25, description="β: below 0 the policy is made surer, above 0 less sure, 0 is SFT")
    tail: float = Field(-0.1, description="reward of the probability of unlikely tokens; a negative one pushes it down")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (RankedNegatives.of(self),)

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        written_BT = tokens.advantage_BT * scaled_likelihood(tokens.logp_BT, self.exponent)
        return torch.where(tokens.is_teacher_BT, written_BT, super().token_loss(tokens, clip))
