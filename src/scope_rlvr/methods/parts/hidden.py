"""Credit from hidden states: how many directions a response uses, and which tokens move right responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, GroupClass, Member, Streams
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.features import RankDynamics
from scope_rlvr.formulas.readings import StatesBefore, TopK
from scope_rlvr.methods.parts.base import Advantage, Status
from scope_rlvr.methods.reading import Reading

if TYPE_CHECKING:
    from torch import Tensor

_FAR = 5.0
"""Relative deviations are cut off here."""


class HiddenRankBonus(Advantage):
    """Responses whose hidden states use more directions than usual, or use them faster, gain advantage.

    ``Â_t ← Â_t + min(relu(b·tanh d(ER) + (1 − b)·tanh d(ERV)), |Â_t| / kappa)`` with ``b = sigmoid(gain · d(ERA))``: ER
    the effective rank of a response's hidden states, ERV its growth, ERA the change of its growth, ``d(x) = (x −
    x̄)/|x̄|`` cut off at ±5, ``x̄`` a moving average over the steps before, in which the newest has the share
    ``momentum``. The first step has no bonus. Source: VERL (2509.23808), and its released code, github.com/hf618/VERL
    at 3de68f1: ``verl/trainer/reward_manager_versions.py`` 163-246. There the bonus reaches the last token alone, since
    the tensor is zero elsewhere; here it reaches all tokens, as the text says.

    >>> part = HiddenRankBonus()
    >>> usual = (10.0, 2.0, 1.0)
    >>> part.bonus(usual, usual), round(part.bonus((20.0, 2.0, 1.0), usual), 4)  # b is ½ where ERA is usual: tanh(1)/2
    (0.0, 0.3808)
    """

    title: ClassVar[str] = "VERL bonus"
    source: ClassVar[str] = "arXiv 2509.23808"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses whose hidden states use more directions gain"
    formula: ClassVar[str] = "`Â + min(relu(b·tanh d(ER) + (1−b)·tanh d(ERV)), |Â|/2)`, `b = σ(2·d(ERA))`"
    departures: ClassVar[str] = "the last layer; all tokens get the bonus; no scaling by performance"

    kind: Literal["hidden_rank_bonus"] = "hidden_rank_bonus"
    kappa: float = Field(2.0, gt=0, description="the bonus is at most `1/kappa` of the advantage's size")
    gain: float = Field(2.0, ge=0, description="how sharply the change of growth decides between rank and growth")
    momentum: float = Field(0.3, gt=0, le=1, description="share of the newest step in the moving average")
    stride: int = Field(40, ge=1, description="tokens from one measurement of the growth to the next")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("rank_dynamics", RankDynamics(stride=self.stride)),)

    def bonus(self, found: Sequence[float], usual: Sequence[float]) -> float:
        """The bonus before its bound, of a response's three figures and the usual ones."""
        rank, growth, change = (
            max(-_FAR, min(_FAR, (x - mean) / (abs(mean) + 1e-8))) for x, mean in zip(found, usual, strict=True)
        )
        share = 1 / (1 + math.exp(-self.gain * change))
        return max(0.0, share * math.tanh(rank) + (1 - share) * math.tanh(growth))

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        members = [m for group in groups for m in group.members if "rank_dynamics" in m.extras]
        usual = tools.memory.get(self.kind)
        known = [m.extras["rank_dynamics"] for m in members if m.verdict.is_known]
        if known:
            means = [fmean(values) for values in zip(*known, strict=True)]
            old = means if usual is None else usual
            tools.memory[self.kind] = [
                (1 - self.momentum) * x + self.momentum * mean for x, mean in zip(old, means, strict=True)
            ]
        found = {id(m): 0.0 if usual is None else self.bonus(m.extras["rank_dynamics"], usual) for m in members}
        return [
            replace(group, members=tuple(m.having(rank_bonus=found.get(id(m), 0.0)) for m in group.members))
            for group in groups
        ]

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        bonus = member.extras.get("rank_bonus", 0.0)
        return [a + min(bonus, abs(a) / self.kappa) for a in streams.advantage_T]


class HiddenInfluence(Advantage):
    """Knows how much each token's update moves the likelihood of the group's right rollouts, seen from the last layer.

    ``s_t = Σ_u (g_t · g_u)(h_t · h_u)`` over all tokens u of right rollouts: ``h`` the hidden state that a token was
    drawn from, ``g`` its one-hot vector less the distribution, whose ``top_k`` likeliest tokens are kept. The threshold
    of a group is ``beta · min`` over its right rollouts of the mean of ``s`` over their tokens.
    """

    top_k: int = Field(20, ge=1, description="likeliest tokens of each distribution that are kept")
    beta: float = Field(1.0, ge=0, description="factor on the threshold of influence")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (
            Reading("influence_states", StatesBefore()),
            Reading("influence_top", TopK(k=self.top_k)),
        )

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return [self._with_influence(group) for group in groups]

    def _with_influence(self, group: Group) -> Group:
        read = [m for m in group.members if "influence_states" in m.extras and m.verdict.is_known and len(m.rollout)]
        found: Mapping[int, tuple[float, ...]] = {}
        threshold = 0.0
        if {m.verdict.is_right for m in read} == {True, False}:
            influence = influences(
                [(m.rollout.token_ids, m.extras["influence_top"], m.extras["influence_states"]) for m in read],
                [m.verdict.is_right for m in read],
            )
            found = {id(m): s_T for m, s_T in zip(read, influence, strict=True)}
            threshold = self.beta * min(fmean(found[id(m)]) for m in read if m.verdict.is_right)
        heavy = {reading.name for reading in self.readings}
        return replace(
            group,
            members=tuple(
                replace(
                    m,
                    extras={name: value for name, value in m.extras.items() if name not in heavy}
                    | ({"influence": found[id(m)], "influence_threshold": threshold} if id(m) in found else {}),
                )
                for m in group.members
            ),
        )

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        if "influence" not in member.extras:
            return streams.advantage_T
        factor_T = self.factors(
            group, member, streams, member.extras["influence"], member.extras["influence_threshold"]
        )
        return [a * factor for a, factor in zip(streams.advantage_T, factor_T, strict=True)]

    def factors(
        self, group: Group, member: Member, streams: Streams, influence_T: Sequence[float], threshold: float
    ) -> list[float]:
        """What the advantage of each token is multiplied by."""
        raise NotImplementedError


def influences(
    read: Sequence[tuple[Sequence[int], Tensor, Tensor]], is_right_G: Sequence[bool]
) -> list[tuple[float, ...]]:
    """``s_t`` of each token of each response, from its ids, its likeliest tokens ``(T, 2, K)`` and its hidden states
    ``(T, D)``.

    >>> sure = torch.tensor([[[0.0], [1.0]]])  # the likeliest token is 1, with probability 1
    >>> state = torch.tensor([[2.0, 0.0]])
    >>> influences([((0,), sure, state), ((0,), sure, state), ((1,), sure, state)], [True, False, False])
    [(8.0,), (8.0,), (0.0,)]
    """
    tops = [top[:, 1].long() for _, top, _ in read]
    ids = sorted({*(i for response, _, _ in read for i in response), *torch.cat([t.flatten() for t in tops]).tolist()})
    column = {token: place for place, token in enumerate(ids)}
    errors = []
    for (response, top, _), likely in zip(read, tops, strict=True):
        error_TV = torch.zeros(len(response), len(ids))
        places = torch.tensor([[column[token] for token in row] for row in likely.tolist()])
        error_TV.scatter_add_(1, places, -top[:, 0].float().exp())
        error_TV[torch.arange(len(response)), [column[token] for token in response]] += 1.0
        errors.append(error_TV)
    states = [states_TD.float() for _, _, states_TD in read]
    moved_VD = sum(e.T @ h for e, h, right in zip(errors, states, is_right_G, strict=True) if right)
    return [tuple(((e @ moved_VD) * h).sum(-1).tolist()) for e, h in zip(errors, states, strict=True)]


class TokenHiddenReward(HiddenInfluence):
    """Only tokens that move the likelihood of right rollouts train, tilted to exploit or to explore.

    ``Â_t ← Â_t · 1[|THR_t| > τ] · (1 + tilt · sign THR_t)`` with ``THR_t = sign(Â_t) · s_t``: ``tilt`` above 0
    strengthens what makes right rollouts likelier, and so exploits; below 0 it explores. Flat groups stay as they are.
    ``s`` and ``τ``: see ``negative_influence``. Source: THR (2510.03669). The form of the factor is inferred from
    reviews of the paper, ``tilt`` is chosen here.

    >>> part = TokenHiddenReward(tilt=0.1)
    >>> [part.factor(advantage, influence=2.0, threshold=1.0) for advantage in (0.5, -0.5)], part.factor(0.5, 1.0, 1.0)
    ([1.1, 0.9], 0.0)
    """

    title: ClassVar[str] = "THR"
    source: ClassVar[str] = "arXiv 2510.03669"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "only tokens that move right rollouts train, tilted to exploit or explore"
    formula: ClassVar[str] = "`Â·1[|THR| > τ]·(1 + p·sign THR)`, `THR = sign(Â)·Σ_u (g·g_u)(h·h_u)`"
    departures: ClassVar[str] = "the form of the factor and its size are argued here; the k likeliest tokens alone"

    kind: Literal["token_hidden_reward"] = "token_hidden_reward"
    conflicts = ("negative_influence",)
    tilt: float = Field(0.1, ge=-1, le=1, description="above 0 exploits, below 0 explores")

    def factor(self, advantage: float, influence: float, threshold: float) -> float:
        """What the advantage of a token is multiplied by."""
        if abs(influence) <= threshold:
            return 0.0
        return 1 + self.tilt * math.copysign(1.0, advantage * influence)

    def factors(
        self, group: Group, member: Member, streams: Streams, influence_T: Sequence[float], threshold: float
    ) -> list[float]:
        return [self.factor(a, s, threshold) for a, s in zip(streams.advantage_T, influence_T, strict=True)]


class NegativeInfluence(HiddenInfluence):
    """In wrong rollouts, tokens whose punishment would also push right rollouts away are pushed less.

    ``Â_t ← Â_t · 2·|½ − q|`` in wrong rollouts where ``s_t > τ``, with ``q`` the share of right rollouts; all else
    stays. ``s_t`` is how much an update of token t moves the likelihood of the group's right rollouts, ``Σ_u (g_t ·
    g_u)(h_t · h_u)`` over their tokens: ``h`` the last hidden state that a token was drawn from, ``g`` its one-hot
    vector less the distribution. ``τ`` is ``beta · min`` over right rollouts of the mean of ``s``. Source: NTHR,
    described in THR (2510.03669).

    >>> [NegativeInfluence.damping(share) for share in (0.5, 0.25, 0.0)]
    [0.0, 0.5, 1.0]
    """

    title: ClassVar[str] = "NTHR"
    source: ClassVar[str] = "arXiv 2510.03669"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "what right rollouts share with wrong ones is pushed less"
    formula: ClassVar[str] = "`Â·2|½ − q|` in wrong rollouts where `Σ_u (g·g_u)(h·h_u) > τ`"
    departures: ClassVar[str] = "the k likeliest tokens of each distribution alone"

    kind: Literal["negative_influence"] = "negative_influence"

    @staticmethod
    def damping(share_right: float) -> float:
        """The factor on the advantage of a token that right rollouts share."""
        return 2 * abs(0.5 - share_right)

    def factors(
        self, group: Group, member: Member, streams: Streams, influence_T: Sequence[float], threshold: float
    ) -> list[float]:
        if member.verdict.is_right or group.group_class is GroupClass.UNUSABLE:
            return [1.0] * len(influence_T)
        known = [m.verdict.is_right for m in group.members if m.verdict.is_known]
        less = self.damping(fmean(known))
        return [less if s > threshold else 1.0 for s in influence_T]
