"""ARRoL: rollouts are pruned while they are written, by a small head that foresees success."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.readings import MeanHidden
from scope_rlvr.methods.heads import Head
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status


class Arrol(Method):
    """Online rollout pruning.

    All rollouts of a group are begun, up to ``detection_tokens``. A head on the policy's mean hidden state foresees the
    success of those that have not ended, and ``kept_share`` of the group, rounded up, goes on: what has ended, then in
    turns the likeliest to succeed and the likeliest to fail, so that right and wrong ones are as many as can be. The
    others are left out. The head learns from what is finished, by ``updates`` AdamW steps on ``(p − r)²`` a step;
    nothing is pruned in the first ``warmup`` steps. Source: ARRoL (2603.24840), read in notes: 512 tokens, about half
    is kept, 20 steps; how its survival probabilities balance a group is argued here.

    >>> Arrol.survivors([0.9, 0.2, 0.6, 0.4], num_kept=2), Arrol.survivors([0.9, 0.2, 0.6, 0.4], num_kept=3)
    ([0, 1], [0, 1, 2])
    """

    title: ClassVar[str] = "ARRoL"
    source: ClassVar[str] = "arXiv 2603.24840"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "half of the rollouts are given up early, so that successes and failures balance"
    formula: ClassVar[str] = "keep the extremes of `p(success | first 512 tokens)`; `Â = (r − mean) / std`; `S(Â)`"
    departures: ClassVar[str] = (
        "the rule of survival is argued here; the head is not calibrated and is not used in evaluation"
    )

    name: Literal["arrol"] = "arrol"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    detection_tokens: int = Field(512, ge=1, description="tokens after which success is foreseen")
    kept_share: float = Field(0.5, gt=0, le=1, description="share of a group that is finished")
    warmup: int = Field(20, ge=0, description="steps in which nothing is pruned")
    updates: int = Field(4, ge=1, description="AdamW steps of the head on each batch")
    learning_rate: float = Field(1e-3, gt=0, description="of the head's own AdamW")

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.DECODING})

    @staticmethod
    def survivors(success: Sequence[float], num_kept: int) -> list[int]:
        """Which rollouts go on, by how likely each succeeds: the likeliest, the unlikeliest, the second likeliest, and
        so on."""
        order = sorted(range(len(success)), key=lambda i: (-success[i], i))
        turns = [order[i // 2] if i % 2 == 0 else order[-1 - i // 2] for i in range(len(order))]
        return sorted(turns[:num_kept])

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        starts = [Rollout(g.prompt_ids, ()) for g in groups for _ in range(num_rollouts)]
        begun = tools.extend(starts, "sampling", "begin", max_tokens=self.detection_tokens)
        states = self._states(begun, tools)
        success = self._foreseen(states, tools)
        going = [
            g * num_rollouts + i
            for g in range(len(groups))
            for i in self._kept(begun[g * num_rollouts :][:num_rollouts], success[g * num_rollouts :], tools)
        ]
        unfinished = [i for i in going if begun[i].is_truncated and len(begun[i]) < tools.max_response_tokens]
        written = dict(zip(unfinished, tools.extend([begun[i] for i in unfinished], "sampling", "rest"), strict=True))
        rollouts = [written.get(i, begun[i]) for i in going]
        problems = [groups[i // num_rollouts].problem for i in going]
        judged = list(zip(going, tools.verified(list(zip(problems, rollouts, strict=True))), strict=True))
        self._learn(states, [(i, m.verdict.pay) for i, m in judged if m.verdict.pay is not None], tools)
        return [
            replace(group, members=tuple(m for i, m in judged if i // num_rollouts == g))
            for g, group in enumerate(groups)
        ]

    def _kept(self, begun: Sequence[Rollout], success: Sequence[float], tools: Toolbox) -> list[int]:
        """Which rollouts of a group are finished."""
        if tools.step <= self.warmup:
            return list(range(len(begun)))
        ended = [i for i, rollout in enumerate(begun) if not rollout.is_truncated]
        is_open = [i for i, rollout in enumerate(begun) if rollout.is_truncated]
        room = max(0, math.ceil(self.kept_share * len(begun)) - len(ended))
        return sorted([*ended, *(is_open[i] for i in self.survivors([success[i] for i in is_open], room))])

    def _states(self, rollouts: Sequence[Rollout], tools: Toolbox) -> Any:
        reducer = MeanHidden()
        read = tools.read("policy", [(r.prompt_ids, r.token_ids) for r in rollouts], [reducer])
        return torch.stack([kept[reducer.name] for kept in read])

    def _head(self, states_ND: Any, tools: Toolbox) -> Head:
        return Head.of(tools, self.name, width=states_ND.size(-1))

    def _foreseen(self, states_ND: Any, tools: Toolbox) -> list[float]:
        return self._head(states_ND, tools)(states_ND).tolist()

    def _learn(self, states_ND: Any, known: Sequence[tuple[int, float]], tools: Toolbox) -> None:
        if known:
            head = self._head(states_ND, tools)
            for _ in range(self.updates):
                head.fit(
                    states_ND[[i for i, _ in known]],
                    torch.tensor([reward for _, reward in known]),
                    learning_rate=self.learning_rate,
                )
