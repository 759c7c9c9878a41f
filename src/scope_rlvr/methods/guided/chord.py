"""CHORD: imitation beside reinforcement learning, each in its own mean, with a weight that falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Role, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, TeacherTerm, Undecided
from scope_rlvr.methods.guided.luffy import WholeTraces
from scope_rlvr.methods.parts.base import Status, TokenAdvantages

_MU = "imitation_share"


class JointImitation(WholeTraces):
    """``(1 − μ)·L_GRPO + μ·L_SFT``: the policy's rollouts and a teacher's verified traces, each in a mean of its own.

    Advantages are those among the policy's own rollouts; a trace has no part in them. What the teacher's tokens lose is
    ``teacher_term`` with an advantage of 1.
    """

    def imitation_share(self, groups: Sequence[Group], tools: Toolbox) -> float:
        """The share μ of imitation in this step."""
        raise NotImplementedError

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        mu = self.imitation_share(groups, tools)
        groups = [replace(g, members=tuple(m.having(**{_MU: mu}) for m in g.members)) for g in groups]
        return super().prepare(groups, tools)

    def advantages(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> TokenAdvantages:
        """Those among the policy's own rollouts; a trace is in neither their mean nor their deviation."""
        own_PG = [
            [None if m.role is Role.GUIDED else r for m, r in zip(group.members, rewards_G, strict=True)]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        return super().advantages(groups, own_PG, normalisation)

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        streams_PG = super().credit(groups, rewards_PG, normalisation)
        mu = next((m.extras[_MU] for group in groups for m in group.members), 0.0)
        weights = dict.fromkeys(Origin, 0.0)
        for streams in (s for streams_G in streams_PG for s in streams_G):
            for origin, weight in zip(streams.origin_T, streams.weight_T, strict=True):
                weights[origin] += weight
        # The loss divides by all tokens; these factors make it a mean over each kind of them.
        shares = {Origin.POLICY: 1 - mu, Origin.TEACHER: mu * self.teacher_weight}
        factor = {o: share * sum(weights.values()) / weights[o] for o, share in shares.items() if weights[o]}
        return [tuple(_weighed(s, factor) for s in streams_G) for streams_G in streams_PG]


class Chord(JointImitation):
    """``(1 − μ)·L_GRPO + μ·L_SFT``: the policy's tokens train as in GRPO, a teacher's verified traces by imitation.

    ``L_GRPO`` is the mean over the policy's tokens of the clipped surrogate, with ``Â = (r − mean)/std`` among the rollouts of the
    policy alone; ``L_SFT`` the mean over the teacher's tokens of ``−φ·log π``, ``φ = sg π(1 − π)``: tokens that are certain, or out
    of reach, are left alone. ``μ`` rises to ``mu_peak`` over ``mu_warmup`` steps and falls along a cosine to ``mu_valley`` in the next
    ``mu_decay``; the published φ variant keeps it at 0.1, the μ variant has no φ (``teacher_term = "nll"``) and lets it fall from
    0.9 to 0.05. Source: CHORD (Zhang et al. 2025), and its released code, github.com/modelscope/Trinity-RFT at 0414330:
    ``trinity/algorithm/policy_loss_fn/chord_policy_loss.py``.

    A trace that the verifier does not call right is left out. Without a trace in the batch this is GRPO times ``1 − μ``.

    >>> chord = Chord(mu_peak=0.9, mu_valley=0.1, mu_warmup=2, mu_decay=4)
    >>> [round(chord.mu(step), 3) for step in (1, 2, 3, 5, 7, 99)]
    [0.0, 0.45, 0.9, 0.5, 0.1, 0.1]
    """

    title: ClassVar[str] = "CHORD"
    source: ClassVar[str] = "arXiv 2508.11408"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "imitation of teacher traces beside GRPO, weighted by how undecided the policy is"
    formula: ClassVar[str] = (
        "`Â = (r − mean)/std`; `(1 − μ)·mean S(Â) + μ·mean(−π(1 − π)·log π)` over the teacher's tokens"
    )
    departures: ClassVar[str] = (
        "traces are of the step's own problems and verified; the paper draws them from another set"
    )

    name: Literal["chord"] = "chord"
    teacher_term: TeacherTerm = Undecided()
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    mu_peak: float = Field(0.1, ge=0, le=1, description="share of imitation after the warm-up")
    mu_valley: float = Field(0.1, ge=0, le=1, description="share of imitation in the end")
    mu_warmup: int = Field(0, ge=0, description="steps over which the share rises from 0")
    mu_decay: int = Field(0, ge=0, description="steps over which it falls then")

    def mu(self, step: int) -> float:
        """The share of imitation at a step (from 1)."""
        done = step - 1
        if done < self.mu_warmup:
            return self.mu_peak * done / self.mu_warmup
        if done >= self.mu_warmup + self.mu_decay:
            return self.mu_valley
        fallen = 0.5 * (1 + math.cos(math.pi * (done - self.mu_warmup) / self.mu_decay))
        return self.mu_valley + (self.mu_peak - self.mu_valley) * fallen

    def imitation_share(self, groups: Sequence[Group], tools: Toolbox) -> float:
        return self.mu(tools.step)


def _weighed(streams: Streams, factor: dict[Origin, float]) -> Streams:
    """The policy's advantages times their factor; the teacher's are that factor itself, whatever the reward."""
    advantage_T = tuple(
        0.0 if not w else factor[o] * (1.0 if o is Origin.TEACHER else a)
        for a, w, o in zip(streams.advantage_T, streams.weight_T, streams.origin_T, strict=True)
    )
    return replace(streams, advantage_T=advantage_T)
