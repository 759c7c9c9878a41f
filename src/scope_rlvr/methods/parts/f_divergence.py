"""Distribution matching: advantages from an f-divergence between the policy and an explicit target."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages
from scope_rlvr.methods.reading import ReadBy, Reading

_BASELINE, _LARGEST = "f_dpg_baseline", 20.0


def _softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


PSEUDO_REWARDS: dict[str, Callable[[float], float]] = {
    "reverse_kl": lambda log_t: -(1 + log_t),
    "forward_kl": lambda log_t: math.exp(-log_t),
    "jensen_shannon": lambda log_t: _softplus(-log_t) - math.log(2),
    "total_variation": lambda log_t: -0.5 * math.copysign(1.0, log_t) if log_t else 0.0,
}
"""``−f′(t)`` of each divergence, by ``log t``, ``t = π/p``."""


class FDivergence(Estimator):
    """Each rollout's advantage is ``−f′(π(y)/p(y))``, less its moving mean: gradient descent on ``D_f(π‖p)``.

    The target is ``p(y|x) = π_ref(y|x)·exp(r/β)/Z(x)``, with ``Z`` estimated from the group by ``mean(exp(r/β)·π_ref(y)/π_old(y))``. ``−f′(t)`` is
    ``−(1 + log t)`` for the reverse KL, which is the usual objective with a KL penalty; ``1/t`` for the forward KL; ``log(1 + 1/t) − log 2`` for
    Jensen-Shannon; ``−sign(log t)/2`` for the total variation. ``log t``, of whole responses, is kept within ±20. Nothing is divided.
    Source: f-DPG (2302.08215), section 3; the target from rewards is argued here.

    >>> [round(PSEUDO_REWARDS[name](math.log(2)), 4) for name in ("reverse_kl", "forward_kl", "jensen_shannon")]
    [-1.6931, 0.5, -0.2877]
    """

    title: ClassVar[str] = "f-DPG"
    source: ClassVar[str] = "arXiv 2302.08215"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "advantages pull the policy towards a target distribution, by any of four divergences"
    formula: ClassVar[str] = "`Â = −f′(π/p) − mean`, `p ∝ π_ref·e^(r/β)`"
    departures: ClassVar[str] = (
        "the target of verified rewards is argued here; Z is estimated from the group; log t is bounded"
    )

    kind: Literal["f_divergence"] = "f_divergence"
    divergence: Literal["reverse_kl", "forward_kl", "jensen_shannon", "total_variation"] = Field(
        "jensen_shannon", description="the divergence that falls"
    )
    beta: float = Field(1.0, gt=0, description="temperature of the target: the lower, the more the reward counts")
    window: int = Field(1024, ge=1, description="rollouts that the moving mean is over")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("reference_logprob", by=ReadBy.REFERENCE),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        recent = tools.memory.get(self.kind, [])
        mean = fmean(recent) if recent else 0.0
        return [replace(g, members=tuple(m.having(**{_BASELINE: mean}) for m in g.members)) for g in groups]

    def learn(self, groups: Sequence[Group], tools: Toolbox) -> None:
        found = [p for g in groups for p in self.pseudo_rewards(g, [m.verdict.pay for m in g.members]) if p is not None]
        tools.memory[self.kind] = [*tools.memory.get(self.kind, []), *found][-self.window :]

    def pseudo_rewards(self, group: Group, rewards_G: Sequence[float | None]) -> list[float | None]:
        """``−f′(t)`` of each member with a known reward and a known probability."""
        log_odds_G = [_log_odds(m, reward) for m, reward in zip(group.members, rewards_G, strict=True)]
        known = [
            r / self.beta - odds
            for r, odds in zip(rewards_G, log_odds_G, strict=True)
            if r is not None and odds is not None
        ]
        if not known:
            return [None] * len(rewards_G)
        highest = max(known)
        log_z = highest + math.log(fmean([math.exp(x - highest) for x in known]))
        found: list[float | None] = []
        for reward, odds in zip(rewards_G, log_odds_G, strict=True):
            if reward is None or odds is None:
                found.append(None)
                continue
            log_t = min(_LARGEST, max(-_LARGEST, odds - reward / self.beta + log_z))
            found.append(PSEUDO_REWARDS[self.divergence](log_t))
        return found

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [
            [
                [0.0 if pseudo is None else pseudo - m.extras.get(_BASELINE, 0.0)] * len(m.rollout)
                for m, pseudo in zip(group.members, self.pseudo_rewards(group, rewards_G), strict=True)
            ]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]


def _log_odds(member: Member, reward: float | None) -> float | None:
    """``log π_old(y) − log π_ref(y)`` of the whole response; ``None`` where either is unknown."""
    reference_T = member.extras.get("reference_logprob")
    own_T = member.rollout.logprob_T
    if reward is None or reference_T is None or any(own is None for own in own_T):
        return None
    return math.fsum(own for own in own_T if own is not None) - math.fsum(reference_T)
