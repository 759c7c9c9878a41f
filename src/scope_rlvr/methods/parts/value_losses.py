"""Losses without a policy gradient: the policy's own log-ratio predicts a label, or a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.core.lazy import torch
from scope_rlvr.formulas.losses import Clip, Tokens
from scope_rlvr.formulas.readings import Detached, LogitReducer, SelfCertainty
from scope_rlvr.methods.parts.base import Loss, Rewards, Status
from scope_rlvr.methods.reading import Reading

if TYPE_CHECKING:
    from torch import Tensor


class LabelLikelihood(Loss):
    """The log-ratio of a response, against those of its group, predicts whether it is right.

    ``w_i·BCE(σ(ψ_i), r_i)`` with ``ψ_i = s_i − mean of the others' s``, ``s_i = β·Σ_t log(π/π_old)`` and w the weight that balances right
    and wrong in a group where there are both: ``G / (2·rollouts of the class)``. Other rows are not at hand in a micro-batch.
    Therefore each row has the loss ``w·BCE(σ(s_i), r_i) − s_i·c``, ``c`` the mean over the others of ``w_j·(½ − r_j)``: its gradient is the above
    for the first update of a batch, and for later ones takes the others as they were when they sampled. One row is one term of
    the mean: take the aggregation ``sequence_mean``. Source: PACS (2509.02522), and its released code, github.com/ritzz-ai/PACS at
    4c987b4: ``pacs_core_algos.py``, estimator ``rloo``, weights of a question.

    >>> weights, pulls = class_balance([1.0, 0.0, 0.0, None])
    >>> weights, pulls  # G/2 = 1.5 on one right, 0.75 on two wrong ones; the others' mean of w·(½ − r)
    ([1.5, 0.75, 0.75, 0.0], [0.375, -0.1875, -0.1875, 0.0])
    """

    title: ClassVar[str] = "PACS loss"
    source: ClassVar[str] = "arXiv 2509.02522"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the log-ratio of a response predicts whether it is right"
    formula: ClassVar[str] = "`w·BCE(σ(ψ), r)`, `ψ = s − mean of the others' s`, `s = β·Σ_t log ρ_t`"
    departures: ClassVar[str] = (
        "exact for the first update of a batch; later ones take the others as they were when they sampled"
    )
    learns_without_advantage = True

    kind: Literal["label_likelihood"] = "label_likelihood"
    beta: float = Field(1.0, gt=0, description="factor on the log-ratio of a response")

    def mark(
        self, groups: Sequence[Group], rewards_PG: Rewards, streams_PG: Sequence[Sequence[Streams]]
    ) -> list[tuple[Streams, ...]]:
        return [
            tuple(
                replace(s, extras={**s.extras, **{n: (v,) * len(s.weight_T) for n, v in marks.items()}})
                for s, marks in zip(streams_G, _marks(rewards_G), strict=True)
            )
            for streams_G, rewards_G in zip(streams_PG, rewards_PG, strict=True)
        ]

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        counts_BT = tokens.weight_BT > 0
        log_ratio_BT = torch.where(counts_BT, tokens.logp_BT - tokens.old_logp_BT, 0.0)
        score_B1 = self.beta * log_ratio_BT.sum(-1, keepdim=True)
        label_BT, weight_BT, pull_BT = (tokens.extras.get(n, torch.zeros_like(score_B1)) for n in MARKS)
        # BCE(σ(s), r) = softplus(s) − r·s.
        own_BT = weight_BT * (torch.nn.functional.softplus(score_B1) - label_BT * score_B1)
        return (own_BT - score_B1 * pull_BT).expand_as(tokens.logp_BT)


MARKS = ("label", "class_weight", "others_pull")
"""What each token of a response carries for the loss."""


def _marks(rewards_G: Sequence[float | None]) -> list[dict[str, float]]:
    labels = [min(1.0, max(0.0, reward or 0.0)) for reward in rewards_G]
    weights, pulls = class_balance(rewards_G)
    return [dict(zip(MARKS, marks, strict=True)) for marks in zip(labels, weights, pulls, strict=True)]


def class_balance(rewards_G: Sequence[float | None]) -> tuple[list[float], list[float]]:
    """The weight of each rollout, and the mean of the others' ``w·(½ − r)``; 0 where nothing is known, or nobody to compare with."""
    known = {i: min(1.0, max(0.0, reward)) for i, reward in enumerate(rewards_G) if reward is not None}
    classes = {label: sum(other == label for other in known.values()) for label in known.values()}
    weight_of = (
        {i: len(known) / (len(classes) * classes[label]) for i, label in known.items()} if len(known) > 1 else {}
    )
    slope_of = {i: weight * (0.5 - known[i]) for i, weight in weight_of.items()}
    total = sum(slope_of.values())
    pulls = [(total - slope_of[i]) / (len(known) - 1) if i in slope_of else 0.0 for i in range(len(rewards_G))]
    return [weight_of.get(i, 0.0) for i in range(len(rewards_G))], pulls


class UniformValue(Loss):
    """The log-ratio of a token is the value of a policy that chooses at random, and is fitted to what follows.

    ``(ρ·log(π/π_old)(y_t) − sg[Â_t + ρ·mean_v log(π/π_old)(v | y_{≤t})])²``: the second mean is over the whole vocabulary at the next
    token, 0 at the last one. ``Â`` is the reward less the group's mean. On the first update of a batch both log-ratios are 0, and
    the gradient is that of ``−2ρ·Â·log π``. Source: ROVER (2509.24981), and its released code, github.com/tinnerhrhe/ROVER at b0fa587:
    ``Countdown/verl/workers/actor/dp_actor.py`` 540-560. Its code for mathematics centres rewards over the whole batch, and
    weighs the two signs 5 and 2.

    >>> logp, old = torch.log(torch.tensor([[0.6, 0.5]])), torch.log(torch.tensor([[0.5, 0.5]]))
    >>> value_loss(logp, old, torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 0.1]]), rho=1.0)  # (log 1.2 − 1.1)², (0 − 1)²
    tensor([[0.8421, 1.0000]])
    """

    title: ClassVar[str] = "ROVER loss"
    source: ClassVar[str] = "arXiv 2509.24981"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the log-ratio is fitted to the value of a random policy"
    formula: ClassVar[str] = "`(log ρ_t − sg[Â + mean_v log ρ_{t+1}(v)])²`"
    departures: ClassVar[str] = (
        "rewards are centred in their group, as in the paper and the smaller of its two programs"
    )
    carries = ("old_self_certainty",)
    learns_without_advantage = True

    kind: Literal["uniform_value"] = "uniform_value"
    rho: float = Field(1.0, gt=0, description="factor on log-ratios, which makes values of them")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("old_self_certainty", SelfCertainty()),)

    @property
    def reducers(self) -> tuple[LogitReducer, ...]:
        return (Detached(of=SelfCertainty()),)

    def loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        # Self-certainty is −log V − mean_v log π(v): the mean log-ratio is what it was less what it is.
        nothing_BT = torch.zeros_like(tokens.logp_BT)
        before_BT, now_BT = (tokens.extras.get(n, nothing_BT) for n in ("old_self_certainty", "self_certainty"))
        mean_BT = torch.where(tokens.weight_BT > 0, before_BT - now_BT, 0.0)
        return value_loss(tokens.logp_BT, tokens.old_logp_BT, tokens.advantage_BT, mean_BT, self.rho)


def value_loss(
    logp_BT: Tensor, old_logp_BT: Tensor, advantage_BT: Tensor, mean_log_ratio_BT: Tensor, rho: float
) -> Tensor:
    """The squared error of each token's value; ``mean_log_ratio_BT`` is over the vocabulary before each token."""
    next_BT = torch.nn.functional.pad(mean_log_ratio_BT[:, 1:], (0, 1))
    target_BT = (advantage_BT + rho * next_BT).detach()
    return (rho * (logp_BT - old_logp_BT) - target_BT).square()
