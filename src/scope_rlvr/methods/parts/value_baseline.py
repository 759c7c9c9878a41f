"""A critic: a small head on the policy's hidden states that learns what a response will be worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.readings import StatesBefore
from scope_rlvr.methods.heads import Head
from scope_rlvr.methods.parts.base import Estimator, Rewards, Status, TokenAdvantages
from scope_rlvr.methods.reading import Reading


class ValueBaseline(Estimator):
    """Reward minus the value that a trained head gave before each token.

    ``Â_t = r − V(h_t)`` with ``h_t`` the last hidden state that token t was drawn from: PPO's advantage with discount and λ of 1.
    ``V`` is a small network on the frozen hidden states, trained after it was asked by ``updates`` AdamW steps on
    ``(V(h_t) − r)²`` over all tokens of the batch; its state lies in the checkpoints, its weights beside the trained policy.
    Source: Schulman et al. 2017 (PPO), section 5; λ of 1 for the value as in VC-PPO (2503.01491).

    >>> reward, values = 1.0, (0.25, 0.5, 0.75)
    >>> [reward - value for value in values]
    [0.75, 0.5, 0.25]
    """

    title: ClassVar[str] = "PPO value baseline"
    source: ClassVar[str] = "arXiv 1707.06347"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "a trained head on the policy's hidden states is the baseline"
    formula: ClassVar[str] = "`Â_t = r − V(h_t)`"
    departures: ClassVar[str] = "the head sees hidden states and does not train the decoder below it"

    kind: Literal["value_baseline"] = "value_baseline"
    inner_width: int = Field(64, ge=1, description="width of the head's hidden layer")
    learning_rate: float = Field(1e-3, gt=0, description="of the head's own AdamW")
    updates: int = Field(4, ge=1, description="AdamW steps of the head on each batch")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("states_before", StatesBefore()),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        read = [(m, m.extras["states_before"]) for g in groups for m in g.members if "states_before" in m.extras]
        read = [(member, states_TD) for member, states_TD in read if len(states_TD)]
        if not read:
            return list(groups)
        head = Head.of(tools, "value", width=read[0][1].size(-1), inner_width=self.inner_width)
        values = {id(member): tuple(head(states_TD).tolist()) for member, states_TD in read}
        known = [(states_TD, m.verdict.pay) for m, states_TD in read if m.verdict.pay is not None]
        if known:
            states_ND = torch.cat([states_TD for states_TD, _ in known])
            targets_N = torch.cat([torch.full((len(states_TD),), pay) for states_TD, pay in known])
            for _ in range(self.updates):
                head.fit(states_ND, targets_N, learning_rate=self.learning_rate)
        return [replace(g, members=tuple(_valued(m, values.get(id(m))) for m in g.members)) for g in groups]

    def advantages(self, groups: Sequence[Group], rewards_PG: Rewards, normalisation: Normalisation) -> TokenAdvantages:
        return [
            [
                [(reward or 0.0) - value for value in member.extras.get("value", (0.0,) * len(member.rollout))]
                for member, reward in zip(group.members, rewards_G, strict=True)
            ]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]


def _valued(member: Member, value_T: tuple[float, ...] | None) -> Member:
    """The member with its values in the place of the hidden states that they came from."""
    extras = {name: value for name, value in member.extras.items() if name != "states_before"}
    return replace(member, extras=extras if value_T is None else {**extras, "value": value_T})
