"""TAPO: a failure goes on after its mistake, finds it, and mends it with a right sibling in sight."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Baseline
from scope_rlvr.formulas.losses import NegativeLogLikelihood, TeacherTerm
from scope_rlvr.methods.correction.rewriting import Rewriting, rewrite, verified_rewrites
from scope_rlvr.methods.guided.guided import GuidedMethod
from scope_rlvr.methods.parts.base import Need, Status
from scope_rlvr.salvage.cuts import Cut, SiblingDisagreement
from scope_rlvr.salvage.failure import Failure

MENDING = (
    "{prompt}\n\nA right solution:\n\n{solution}\n\nAn attempt follows that goes wrong in its last step. Say in one sentence what is "
    "wrong, and then go on to the right answer.\n\n"
)


class Tapo(GuidedMethod):
    """Micro-reflective corrections: the wrong start stays, and what the policy adds to mend it trains.

    In groups with right and wrong rollouts, and a share of right ones in [low, high], up to ``max_corrections`` failures are cut
    behind their first wrong step. Shown a right sibling, the policy names the mistake and goes on to an answer. What the verifier
    calls right joins the group in a row of its own. The wrong start does not train there; diagnosis and correction were written
    under another prompt and train by ``teacher_term``. Advantages are decoupled: every reward is compared with the mean of what the
    policy sampled unaided, which a correction does not raise. Without corrections this is GRPO. Source: TAPO (2606.18844).

    >>> Tapo(max_corrections=2).num_reserved_rows, Tapo().baseline.value
    (2, 'sampled_only')
    """

    title: ClassVar[str] = "TAPO"
    source: ClassVar[str] = "arXiv 2606.18844"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "failures go on after their mistake, name it and mend it, with a right sibling in sight"
    formula: ClassVar[str] = "`Â = r − mean of the sampled r`; `S(Â)`, diagnosis and correction `−Â·log π`"
    departures: ClassVar[str] = (
        "how failures are chosen and cut, the term of a correction and the wording are chosen here"
    )

    name: Literal["tapo"] = "tapo"
    teacher_term: TeacherTerm = NegativeLogLikelihood()
    baseline: Baseline = Baseline.SAMPLED_ONLY
    max_corrections: int = Field(1, ge=0, description="failures of a group that are mended; 0 is GRPO")
    low: float = Field(0.0, ge=0, le=1, description="lowest share of right rollouts of a group that is looked at")
    high: float = Field(1.0, ge=0, le=1, description="highest share of right rollouts of a group that is looked at")
    cut: Cut = Field(SiblingDisagreement(), description="which step is the first wrong one")
    template: str = Field(
        MENDING, pattern=r"\{solution\}", description="what the policy is shown, of `{prompt}` and `{solution}`"
    )

    @property
    def own_needs(self) -> frozenset[Need]:
        wanted = {Need.STEP_SCORER: self.cut.needs_step_scorer, Need.TEACHER_SCORES: self.cut.needs_teacher_scores}
        return frozenset(need for need, is_needed in wanted.items() if is_needed and self.max_corrections)

    @property
    def num_reserved_rows(self) -> int:
        return super().num_reserved_rows + self.max_corrections

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        failures = [f for g, group in enumerate(groups) for f in self._chosen(g, group, tools)]
        for failure in failures:
            failure.steps = tools.split(failure.member.rollout)
        self.cut.locate(failures, tools)
        located = [f for f in failures if f.cut_step is not None]
        places = [self._place(f, tools) for f in located]
        mended = verified_rewrites(places, rewrite(places, self.template, tools, "mending"), tools)
        edited = list(groups)
        for failure, member in zip(located, mended, strict=True):
            if member.verdict.is_right:
                group = edited[failure.group_index]
                edited[failure.group_index] = replace(group, members=(*group.members, member))
        return edited

    def _chosen(self, number: int, group: Group, tools: Toolbox) -> list[Failure]:
        """Finished failures of a group at the edge of what the policy can do, drawn at random."""
        known = [m.verdict.is_right for m in group.members if m.verdict.is_known]
        if not (any(known) and not all(known) and self.low <= sum(known) / len(known) <= self.high):
            return []
        wrong = [
            i for i, m in enumerate(group.members) if m.verdict.outcome is Outcome.WRONG and not m.rollout.is_truncated
        ]
        rng = random.Random(derive_seed(tools.seed, "mending", number))
        return [Failure(number, group, i) for i in sorted(rng.sample(wrong, min(len(wrong), self.max_corrections)))]

    @staticmethod
    def _place(failure: Failure, tools: Toolbox) -> Rewriting:
        """Behind the first wrong step, with the first right sibling in sight; before it where it ends the response."""
        assert failure.cut_step is not None, "only what was located comes here"
        last = len(failure.steps) - 1
        end = failure.steps[failure.cut_step].end if failure.cut_step < last else failure.steps[last].start
        sibling = next(m for m in failure.group.members if m.verdict.is_right)
        shown = {"solution": tools.text(sibling.rollout)}
        return Rewriting(failure.group, shown, failure.member.rollout.cut(end))
