"""Rewards by the direction in which a response would move the policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.features import OutputGradient
from scope_rlvr.methods.parts.base import Reward, Status
from scope_rlvr.methods.reading import Reading


class GradientNovelty(Reward):
    """Responses whose gradient points where no well-paid one of the group points are paid more.

    ``Φ_i`` is the mean of ``W_y − Σ_v p_v W_v`` over the tokens, ``ν_i = max(1 − Σ_{j≠i} w_ij cos(Φ_i, Φ_j)², 0)`` with
    ``w_ij`` the softmax of the others' rewards, ``ν̄`` scaled to [0, 1] in the group. With rewards s = ±1, as in the
    paper: ``as_printed`` pays ``s + strength·ν̄``, ``as_explained`` pays ``s·(1 + strength·(ν̄ − mean ν̄))``, both
    within ±3, and 0 and 1 here stand for −1 and 1. Source: G2RL (2512.15687). Its printed factor, ``1 + λ·s·ν̄``,
    punishes a novel error less, and its explanation says more; λ has no value in the text.

    >>> novelty([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [1.0, 1.0, 0.0])  # the first two point the same way
    [0.0, 0.0, 1.0]
    >>> part = GradientNovelty(strength=0.5)
    >>> [part.paid(reward, novelty=1.0, mean=0.5) for reward in (1.0, 0.0)]
    [1.25, 0.25]
    """

    title: ClassVar[str] = "G2RL"
    source: ClassVar[str] = "arXiv 2512.15687"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "responses whose gradients point elsewhere are paid more"
    formula: ClassVar[str] = "`r + ½λ·ν̄`, `ν = max(1 − Σ_j softmax(r)_j cos(Φ, Φ_j)², 0)`"
    departures: ClassVar[str] = "rewards are 0 and 1; the strength is chosen here"

    kind: Literal["gradient_novelty"] = "gradient_novelty"
    strength: float = Field(0.5, ge=0, description="factor on the novelty; 0 changes nothing")
    rule: Literal["as_printed", "as_explained"] = Field(
        "as_printed", description="the paper's formula, which spares novel errors, or its explanation, which does not"
    )

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("output_gradient", OutputGradient()),)

    def paid(self, reward: float, novelty: float, mean: float) -> float:
        """What a response of this reward, between 0 and 1, and this scaled novelty is paid."""
        signed = 2 * reward - 1
        shaped = (
            signed + self.strength * novelty
            if self.rule == "as_printed"
            else signed * (1 + self.strength * (novelty - mean))
        )
        return (max(-3.0, min(3.0, shaped)) + 1) / 2

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._measured(group) for group in groups]

    def _measured(self, group: Group) -> Group:
        read = [m for m in group.members if "output_gradient" in m.extras and m.verdict.pay is not None]
        novelty_G = novelty([m.extras["output_gradient"] for m in read], [m.verdict.pay or 0.0 for m in read])
        found = {id(m): value for m, value in zip(read, novelty_G, strict=True)}
        mean = sum(novelty_G) / max(1, len(novelty_G))
        return replace(
            group,
            members=tuple(
                m.having(gradient_novelty=found[id(m)], mean_novelty=mean) if id(m) in found else m
                for m in group.members
            ),
        )

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        if "gradient_novelty" not in member.extras:
            return member.verdict.pay
        return self.paid(member.verdict.pay, member.extras["gradient_novelty"], member.extras["mean_novelty"])


def novelty(features_GD: Sequence[Sequence[float]], rewards_G: Sequence[float]) -> list[float]:
    """How little each direction agrees with those of the others, the well-paid ones above all, scaled to [0, 1] in the
    group."""
    if len(features_GD) < 2:
        return [0.0] * len(features_GD)
    unit_GD = torch.nn.functional.normalize(torch.tensor(features_GD, dtype=torch.float64), dim=-1)
    agreement_GG = (unit_GD @ unit_GD.T).square()
    others_GG = torch.tensor(rewards_G, dtype=torch.float64).expand(len(rewards_G), -1).clone()
    others_GG.fill_diagonal_(-torch.inf)
    value_G = (1 - (others_GG.softmax(-1) * agreement_GG).sum(-1)).clamp(min=0)
    low, high = value_G.min(), value_G.max()
    return ((value_G - low) / (high - low)).tolist() if high - low > 1e-9 else [0.0] * len(value_G)
