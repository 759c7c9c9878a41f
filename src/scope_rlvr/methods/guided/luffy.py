"""LUFFY: whole teacher traces as off-policy members of every group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.guided.traces import distinct_traces
from scope_rlvr.methods.parts.base import Status


class WholeTraces(GuidedMethod):
    """A method whose groups are rollouts of the policy and verified whole traces of the teacher.

    Of G rollouts n are the teacher's; a trace that the verifier does not call right, or that says what another says, is
    left out.
    """

    num_traces: int = Field(
        1, ge=1, description="teacher traces in a group, in the place of as many rollouts of the policy"
    )

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        if num_rollouts <= self.num_traces:
            raise ValueError(
                f"num_traces {self.num_traces} leaves none of {num_rollouts} rollouts to the policy; lower it, or sample more"
            )
        return tools.sample(groups, num_rollouts - self.num_traces)

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        traces_P = distinct_traces(groups, self.num_traces, tools)
        return [replace(g, members=(*g.members, *traces)) for g, traces in zip(groups, traces_P, strict=True)]


class Luffy(WholeTraces):
    """Mixed-policy GRPO with policy shaping.

    A group is G − n rollouts of the policy and n verified whole traces of the teacher, ``Â_i = r_i − mean(r)`` over all
    of them. The policy's tokens get the clipped surrogate, the teacher's ``−Â · π/(π+γ)`` without a clip.
    Source: Yan et al. 2025 (LUFFY), section 3; ``teacher_term`` other than ``shaped`` are its ablations.

    Different here: the released run has no clip, adds a bonus of 0.001 on the entropy, makes two updates of each batch, of
    64 problems of 128 (``objective.mini_batches = 2``), and adds losses up over rows, where others take the mean.

    >>> luffy = Luffy()
    >>> luffy.num_traces, luffy.teacher_term.gamma
    (1, 0.1)
    """

    title: ClassVar[str] = "LUFFY"
    source: ClassVar[str] = "arXiv 2504.14945"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "whole teacher traces in every group, shaped"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, the teacher's tokens `−Â·π/(π+γ)`"

    departures: ClassVar[str] = "the clip stays; no entropy bonus of 0.001; one update a batch"

    name: Literal["luffy"] = "luffy"
    normalisation: Normalisation | None = Normalisation.NONE
