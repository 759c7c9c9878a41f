"""RGR-GRPO: a rubric pays, and its unmet criteria tell the policy what to revise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.memory import off_policy
from scope_rlvr.methods.parts.base import Need, Part, Status
from scope_rlvr.methods.parts.rubric import MARKS, REASONING, Criterion, Rubric

REVISION = "{prompt}\n\nAn attempt:\n\n{attempt}\n\nIt does not yet do this:\n\n{unmet}\n\nWrite the whole solution anew, and do all of it.\n\n"


class RgrGrpo(GuidedMethod):
    """Rubric rewards, and in every group a revision of the best rollout that does not meet the whole rubric.

    A judge marks every rollout. Of those with an unmet criterion the one with the highest total is shown to the policy, with the
    unmet criteria; what the policy writes then joins the group in a row of its own, under the plain prompt, if the verifier does
    not call it wrong where it called the first attempt right. Its tokens are off-policy, ``−Â·π/(π+γ)``, and train only where
    ``Â > 0``; all others have the clipped surrogate. Source: RGR-GRPO (2511.12344), rubric rewards and guided revision.

    >>> RgrGrpo().num_reserved_rows
    1
    """

    title: ClassVar[str] = "RGR-GRPO"
    source: ClassVar[str] = "arXiv 2511.12344"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "rubric rewards, and a revision by the unmet criteria in every group"
    formula: ClassVar[str] = "`r = Σ w·m / Σ w`, `Â = (r − mean)/std`; `S(Â)`, the revision `−Â·π/(π+γ)`"
    departures: ClassVar[str] = "one rubric for all problems; the revision is shaped as in LUFFY; the wording is ours"

    name: Literal["rgr_grpo"] = "rgr_grpo"
    criteria: tuple[Criterion, ...] = Field(
        REASONING, min_length=1, description="the rubric: `text`, `weight` and `veto` of each criterion"
    )
    share: float = Field(
        1.0, ge=0, le=1, description="share of the reward that the rubric decides; 0 leaves the verifier's"
    )
    met: float = Field(0.5, ge=0, le=1, description="mark from which on a criterion is met")
    template: str = Field(
        REVISION, pattern=r"\{unmet\}", description="what the policy is shown, of `{prompt}`, `{attempt}` and `{unmet}`"
    )
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset()

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Rubric.of(self),)

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + 1

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        rubric = Rubric.of(self)
        edited = rubric.marked(groups, tools, "before revision")
        chosen = [(g, best) for g, group in enumerate(edited) if (best := self._to_revise(group, rubric)) is not None]
        starts = [Rollout(self._prompt(edited[g], member, tools), ()) for g, member in chosen]
        rollouts = tools.extend(starts, "continuation", "revision")
        judged = tools.verified([(edited[g].problem, r) for (g, _), r in zip(chosen, rollouts, strict=True)])
        for (g, attempt), revised in zip(chosen, judged, strict=True):
            if revised.verdict.is_known and revised.verdict.is_right >= attempt.verdict.is_right:
                rollout = off_policy(revised.rollout, edited[g].prompt_ids)
                newcomer = replace(revised, rollout=rollout, role=Role.GUIDED)
                edited[g] = replace(edited[g], members=(*edited[g].members, newcomer))
        return edited

    def _to_revise(self, group: Group, rubric: Rubric) -> Member | None:
        imperfect = [m for m in group.members if m.verdict.is_known and min(m.extras.get(MARKS, (1.0,))) < self.met]
        return max(imperfect, key=lambda m: rubric.total(m.extras[MARKS]), default=None)

    def _prompt(self, group: Group, attempt: Member, tools: Toolbox) -> tuple[int, ...]:
        marks = attempt.extras[MARKS]
        unmet = "\n".join(c.text for c, mark in zip(self.criteria, marks, strict=True) if mark < self.met)
        shown = fill(self.template, prompt=group.problem.prompt, attempt=tools.text(attempt.rollout), unmet=unmet)
        return tools.read_prompt(group.problem, shown)
