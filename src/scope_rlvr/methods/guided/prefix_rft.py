"""Prefix-RFT: one rollout of every group begins in a teacher's words."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Clipped, TeacherTerm, Tokens
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import first_part, teacher_traces
from scope_rlvr.methods.parts.base import Status

if TYPE_CHECKING:
    from torch import Tensor


class PrefixRft(GuidedMethod):
    """Imitation and exploration in one rollout: a teacher's prefix, continued by the policy.

    A group is G − 1 rollouts and one hybrid: the first part of a verified teacher trace and what the policy makes of it,
    right or wrong; ``Â_i = r_i − mean(r)`` over all of them. The prefix's share of the trace is uniform in [low, high],
    with ``low = low_end + (low_start − low_end) · ½(1 + cos πx)`` as the run goes from x = 0 to 1: from imitation to
    exploration. All tokens have the clipped surrogate against π_old, and of the prefix only the ``top_entropy`` share of
    tokens at which the policy is least certain has a gradient.
    Source: Huang et al. 2025 (Prefix-RFT), prefix sampling and entropy-based clipping.

    Left open, or different here: the number of prefix tokens is rounded down, at least one and never the last; a hybrid
    below the baseline does not push its prefix away, only the policy's continuation; the dual clip is left out; without a
    verified trace the group has one rollout less. The released code takes the least certain tokens of a micro-batch together;
    here they are those of each prefix, which does not depend on how a batch is split. The default bounds and share are not from the released scripts, which
    do not state them.

    >>> [round(PrefixRft().lowest_share(step, num_steps=5), 3) for step in (1, 2, 3, 5)]
    [0.95, 0.818, 0.5, 0.05]
    """

    title: ClassVar[str] = "Prefix-RFT"
    source: ClassVar[str] = "arXiv 2507.01679"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "one rollout a group continues the start of a teacher trace"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, of the prefix `S(max(Â, 0))` on its least certain fifth"

    departures: ClassVar[str] = "no dual clip; no push away from the prefix; bounds and share are this project's"

    name: Literal["prefix_rft"] = "prefix_rft"
    normalisation: Normalisation | None = Normalisation.NONE
    teacher_term: TeacherTerm = Clipped()
    low_start: float = Field(0.95, ge=0, le=1, description="lowest share of a trace that is given, at the first step")
    low_end: float = Field(0.05, ge=0, le=1, description="lowest share of a trace that is given, at the last step")
    high: float = Field(0.95, ge=0, le=1, description="highest share of a trace that is given")
    top_entropy: float = Field(
        0.2, ge=0, le=1, description="share of prefix tokens that train, those of highest entropy"
    )

    def lowest_share(self, step: int, num_steps: int) -> float:
        """``low`` at a step, from 1."""
        progress = (step - 1) / max(1, num_steps - 1)
        return self.low_end + (self.low_start - self.low_end) * 0.5 * (1 + math.cos(math.pi * progress))

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        return tools.sample(groups, num_rollouts - 1)

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        """Every group with a hybrid, where the teacher has a verified trace of more than one token."""
        rng = random.Random(derive_seed(tools.seed, "prefix"))
        low = self.lowest_share(tools.step, tools.num_steps)
        starts: dict[int, Rollout] = {}
        for i, trace in enumerate(teacher_traces(groups, tools)):
            share = rng.uniform(low, self.high)
            if trace is not None and len(trace.rollout) > 1:
                starts[i] = first_part(trace.rollout, share)
        hybrids = tools.extend(list(starts.values()), "continuation", "hybrid")
        judged = tools.verified([(groups[i].problem, hybrid) for i, hybrid in zip(starts, hybrids, strict=True)])
        added = {i: (replace(member, role=Role.GUIDED),) for i, member in zip(starts, judged, strict=True)}
        return [replace(group, members=group.members + added.get(i, ())) for i, group in enumerate(groups)]

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        loss_BT = super().token_loss(tokens, clip)
        trains_BT = ~tokens.is_teacher_BT | least_certain(tokens, self.top_entropy)
        return torch.where(trains_BT, loss_BT, 0.0)


def least_certain(tokens: Tokens, share: float) -> Tensor:
    """Of each row's teacher tokens, the ``share`` with the highest entropy, rounded up; ``(B, T)``."""
    entropy_BT = torch.where(tokens.is_teacher_BT, tokens.entropy_BT, -torch.inf)
    rank_BT = entropy_BT.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    num_kept_B = torch.ceil(tokens.is_teacher_BT.sum(1).double() * share - 1e-9)
    return tokens.is_teacher_BT & (rank_BT < num_kept_B[:, None])
