"""AMPO: a teacher's traces only where the policy fails altogether."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import distinct_traces, replace_failures, rescue_unsolved
from scope_rlvr.methods.parts.base import Status


class Ampo(GuidedMethod):
    """Guidance on demand: in a group without a right rollout, teacher traces replace failures drawn at random.

    Up to ``num_traces`` (k) verified whole traces take the places of as many wrong rollouts; ``Â_i = r_i − mean(r)`` over the
    mixed group, teacher tokens ``−Â · π/(π+γ)`` without a clip, all others the clipped surrogate. A group with a right
    rollout is left alone. Source: AMPO (arXiv 2510.02227), adaptive multi-guidance replacement.

    The paper asks several teachers and ranks their traces by how probable they make the reference answer to the policy.
    Here one teacher is asked k times: equal traces count once, so that a greedy teacher replaces one failure, and there
    is no ranking. Left out, too: the dual clip of the policy's own tokens, a reward of 0.1 for the format, the penalty on
    repetitions, a bonus of 0.001 on the entropy, and the second update of each batch
    (``objective.mini_batches = 2``).

    >>> from fractions import Fraction
    >>> rewards = [1, 1, 0, 0, 0, 0, 0, 0]  # eight failures, two of them replaced
    >>> [str(r - Fraction(sum(rewards), 8)) for r in rewards[1:3]]
    ['3/4', '-1/4']
    """

    title: ClassVar[str] = "AMPO"
    source: ClassVar[str] = "arXiv 2510.02227"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "teacher traces replace failures where all rollouts fail"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, the teacher's tokens `−Â·π/(π+γ)`"

    departures: ClassVar[str] = (
        "one teacher, no ranking; no dual clip, format reward, repetition penalty or entropy bonus; one update a batch"
    )

    name: Literal["ampo"] = "ampo"
    normalisation: Normalisation | None = Normalisation.NONE
    num_traces: int = Field(2, ge=1, description="distinct teacher traces put into a group without a right rollout")

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return rescue_unsolved(groups, lambda unsolved: self._guided(unsolved, tools))

    def _guided(self, unsolved: Sequence[Group], tools: Toolbox) -> list[Group]:
        rng = random.Random(derive_seed(tools.seed, "replaced"))
        traces_P = distinct_traces(unsolved, self.num_traces, tools)
        return [replace_failures(group, traces, rng) for group, traces in zip(unsolved, traces_P, strict=True)]
