"""IGPO on a model that writes from left to right: part of a reference at the start, where all rollouts fail."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.lazy import torch
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Clipped, TeacherTerm, Tokens
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.prefix_rft import least_certain
from scope_rlvr.methods.guided.traces import first_part, replace_failures, rescue_unsolved, teacher_traces
from scope_rlvr.methods.parts.base import Status

if TYPE_CHECKING:
    from torch import Tensor


class Igpo(GuidedMethod):
    """In a group without a right rollout, completions of a part of the reference that the verifier accepts replace failures.

    For up to ``max_injections`` completions a share of the teacher's verified trace is drawn from [low, high] and given as the
    start of the response; the policy completes it. Those that are right take the places of failures, drawn at random.
    ``Â = r − mean(r)``; all tokens have the clipped surrogate against π_old, and of the injected ones only the ``top_entropy`` share at
    which the policy is least certain. Source: IGPO (inpainting-guided policy optimisation), which injects pieces anywhere in a
    masked-diffusion model's response.

    >>> Igpo().low, Igpo().high, Igpo().top_entropy
    (0.2, 0.6, 0.2)
    """

    title: ClassVar[str] = "IGPO"
    source: ClassVar[str] = "arXiv 2509.10396"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "where all fail, the policy completes a random part of a reference"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, of the injected part on its least certain fifth"
    departures: ClassVar[str] = (
        "the part is a prefix, since the model writes from left to right; injections are bounded here"
    )

    name: Literal["igpo"] = "igpo"
    normalisation: Normalisation | None = Normalisation.NONE
    teacher_term: TeacherTerm = Clipped()
    max_injections: int = Field(2, ge=0, description="completions tried in a group without a right rollout; 0 is GRPO")
    low: float = Field(0.2, ge=0, le=1, description="lowest share of the reference that is given")
    high: float = Field(0.6, ge=0, le=1, description="highest share of the reference that is given")
    top_entropy: float = Field(
        0.2, ge=0, le=1, description="share of injected tokens that train, those of highest entropy"
    )

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        if not self.max_injections:
            return list(groups)
        return rescue_unsolved(groups, lambda unsolved: self._injected(unsolved, tools))

    def _injected(self, unsolved: Sequence[Group], tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, "injected"))
        starts = [
            (p, first_part(trace.rollout, rng.uniform(self.low, self.high)))
            for p, trace in enumerate(teacher_traces(unsolved, tools))
            if trace is not None and len(trace.rollout) > 1
            for _ in range(self.max_injections)
        ]
        rollouts = tools.extend([start for _, start in starts], "continuation", "injected")
        judged = tools.verified([(unsolved[p].problem, r) for (p, _), r in zip(starts, rollouts, strict=True)])
        right: list[list[Member]] = [[] for _ in unsolved]
        for (p, _), member in zip(starts, judged, strict=True):
            if member.verdict.is_right:
                right[p].append(replace(member, role=Role.GUIDED))
        return [replace_failures(group, found, rng) for group, found in zip(unsolved, right, strict=True)]

    def token_loss(self, tokens: Tokens, clip: Clip) -> Tensor:
        loss_BT = super().token_loss(tokens, clip)
        return torch.where(~tokens.is_teacher_BT | least_certain(tokens, self.top_entropy), loss_BT, 0.0)
