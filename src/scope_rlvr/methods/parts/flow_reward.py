"""Rewards from a flow in the space of hidden states: steps that right responses do not take cost a little."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.readings import HiddenStates
from scope_rlvr.methods.heads import Head
from scope_rlvr.methods.parts.base import Advantage, Status
from scope_rlvr.methods.reading import Reading


class FlowReward(Advantage):
    """Tokens after which the hidden state goes where a flow of right responses would not take it cost a little.

    A small network learns the velocity ``v(x_τ, h_t, τ)`` from noise ``x_0`` to the hidden state ``h_{t+1}`` of the
    next token, given that of this one: ``x_τ = (1 − τ)·x_0 + τ·h_{t+1}``, target ``h_{t+1} − x_0``, states scaled to
    length √D. The deviation of a token is ``τ/(1 − τ)`` times the mean squared error at τ = ``time``. It is scaled to
    [0, 1] within a response, 0 below ``least``, and kept for the ``num_tokens`` largest; a token is paid ``−weight``
    times it, and what is paid from a token on is added to its advantage. The flow learns after it was asked, from the
    right responses of each step, and pays from step ``warmup`` + 1 on. Source: RLFR (2510.10201), and its released
    code, github.com/Jinghaoleven/RLFR: ``openrlhf/models/lmm_kits/flow_simple.py``, ``openrlhf/models/utils.py``.

    >>> paid_tokens([0.0, 1.0, 4.0, 5.0], least=0.6, num_tokens=1)  # scaled: 0, 0.2, 0.8, 1
    [0.0, 0.0, 0.0, 1.0]
    """

    title: ClassVar[str] = "RLFR flow"
    source: ClassVar[str] = "arXiv 2510.10201"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "hidden steps that right responses do not take cost a little"
    formula: ClassVar[str] = "`Â_t − 0.01·Σ_{s≥t} deviation_s` of a flow-matching head, the 15 largest of a response"
    departures: ClassVar[str] = "the last layer alone; the flow is not trained on expert data before; a smaller network"

    kind: Literal["flow_reward"] = "flow_reward"
    weight: float = Field(0.01, ge=0, description="what the largest deviation of a response costs")
    time: float = Field(0.8, gt=0, lt=1, description="between noise and hidden state, where the deviation is measured")
    least: float = Field(0.6, ge=0, le=1, description="scaled deviation below which a token costs nothing")
    num_tokens: int = Field(15, ge=1, description="tokens of a response that cost something, at most")
    warmup: int = Field(10, ge=0, description="steps in which the flow only learns")
    inner_width: int = Field(64, ge=1, description="width of the network's hidden layer")
    learning_rate: float = Field(1e-4, gt=0, description="of the network's own AdamW")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("flow_states", HiddenStates()),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        pairs = {id(m): _pairs(m) for g in groups for m in g.members if len(m.extras.get("flow_states", ())) > 1}
        found: dict[int, tuple[float, ...]] = {}
        if pairs:
            width = next(iter(pairs.values()))[0].size(-1)
            head = Head.of(tools, self.kind, width=2 * width + 1, inner_width=self.inner_width, outputs=width)
            if tools.step > self.warmup:
                members = {id(m): m for g in groups for m in g.members}
                found = {key: self._costs(head, members[key], *pair, tools) for key, pair in pairs.items()}
            right = [pairs[id(m)] for g in groups for m in g.members if m.verdict.is_right and id(m) in pairs]
            if right:
                self._learn(head, torch.cat([now for now, _ in right]), torch.cat([after for _, after in right]), tools)
        return [replace(g, members=tuple(_without_states(m, found.get(id(m))) for m in g.members)) for g in groups]

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        cost_T = member.extras.get("flow_cost")
        if cost_T is None:
            return streams.advantage_T
        to_come = list(accumulate(reversed(cost_T)))[::-1]
        return [
            a - self.weight * cost if w > 0 else a
            for a, cost, w in zip(streams.advantage_T, to_come, streams.weight_T, strict=True)
        ]

    def _costs(self, head: Head, member: Member, now: Tensor, after: Tensor, tools: Toolbox) -> tuple[float, ...]:
        """The scaled deviation of each token that counts; the first token follows no state and has none."""
        noise = _noise(after, tools, *member.rollout.token_ids)
        inputs, target = self._flow(now, after, noise, torch.full((len(now), 1), self.time))
        error = (head.all(inputs) - target).square().mean(-1) * self.time / (1 - self.time)
        return (0.0, *paid_tokens(error.tolist(), self.least, self.num_tokens))

    def _learn(self, head: Head, now: Tensor, after: Tensor, tools: Toolbox) -> None:
        noise = _noise(after, tools, "learning")
        times = torch.linspace(0, 1, len(now))[torch.randperm(len(now), generator=_generator(tools, "times"))][:, None]
        head.fit(*self._flow(now, after, noise, times), learning_rate=self.learning_rate)

    @staticmethod
    def _flow(now: Tensor, after: Tensor, noise: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is shown, and the velocity that is right."""
        return torch.cat([(1 - times) * noise + times * after, now, times], -1), after - noise


def paid_tokens(deviations: Sequence[float], least: float, num_tokens: int) -> list[float]:
    """Deviations scaled to [0, 1], 0 for those below ``least`` and for all but the ``num_tokens`` largest."""
    if not deviations or max(deviations) - min(deviations) < 1e-12:
        return [0.0] * len(deviations)
    low, span = min(deviations), max(deviations) - min(deviations)
    scaled = [(deviation - low) / span for deviation in deviations]
    largest = set(sorted(range(len(scaled)), key=lambda t: (-scaled[t], t))[:num_tokens])
    return [value if t in largest and value >= least else 0.0 for t, value in enumerate(scaled)]


def _pairs(member: Member) -> tuple[Tensor, Tensor]:
    """The states of each token but the last, and of the token after it, of length √D."""
    states_TD = torch.as_tensor(member.extras["flow_states"]).float()
    scaled_TD = torch.nn.functional.normalize(states_TD, dim=-1) * states_TD.size(-1) ** 0.5
    return scaled_TD[:-1], scaled_TD[1:]


def _generator(tools: Toolbox, *names: int | str) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(tools.seed, "flow", *names) % 2**63)


def _noise(like: Tensor, tools: Toolbox, *names: int | str) -> Tensor:
    return torch.randn(like.shape, generator=_generator(tools, *names))


def _without_states(member: Member, cost_T: tuple[float, ...] | None) -> Member:
    extras = {name: value for name, value in member.extras.items() if name != "flow_states"}
    return replace(member, extras=extras if cost_T is None else {**extras, "flow_cost": cost_T})
