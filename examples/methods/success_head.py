"""A head on the policy: it learns how likely a response is to succeed, and is the baseline of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.readings import StatesBefore
from scope_rlvr.methods.heads import Head
from scope_rlvr.methods.parts.base import Estimator
from scope_rlvr.methods.reading import Reading


class SuccessHead(Estimator):
    """``Â_t = r − V(h_t)``: ``V`` is trained on each batch, saved in checkpoints, and lies beside the model at the end."""

    learning_rate: float = Field(1e-3, gt=0)

    @property
    def readings(self) -> tuple[Reading, ...]:
        return (Reading("states", StatesBefore()),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        known = [m for g in groups for m in g.members if m.verdict.is_known and len(m.rollout)]
        if not known:
            return list(groups)
        head = Head.of(tools, "success", width=known[0].extras["states"].size(-1))
        prepared = [
            replace(g, members=tuple(m.having(value=tuple(head(m.extras["states"]).tolist())) for m in g.members))
            for g in groups
        ]
        features = torch.cat([m.extras["states"] for m in known])
        targets = torch.cat([torch.full((len(m.rollout),), m.verdict.pay) for m in known])
        head.fit(features, targets, learning_rate=self.learning_rate)
        return prepared

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[list[list[float]]]:
        return [
            [[(r or 0.0) - v for v in m.extras["value"]] for m, r in zip(g.members, rewards_G, strict=True)]
            for g, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
