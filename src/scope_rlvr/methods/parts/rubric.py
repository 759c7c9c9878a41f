"""Rewards by a rubric that a judge goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import JudgeKind, JudgeRequest
from scope_rlvr.core.settings import Settings
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods.parts.base import Need, Reward, Status

MARKS = "rubric_marks"


class Criterion(Settings):
    """One line of a rubric. A ``veto`` pays 0 for the whole response if it is not met."""

    text: str = Field(min_length=1, description="what a good response does, as the judge is told")
    weight: float = Field(1.0, ge=0, description="how much it counts among the criteria")
    veto: bool = Field(False, description="whether a response that does not meet it is paid nothing")


REASONING = (
    Criterion(text="Every step follows from the steps before it."),
    Criterion(text="Every number is copied and computed correctly."),
    Criterion(text="The response ends with one answer, to the question that was asked."),
)
"""A rubric for reasoning: the default."""


class Rubric(Reward):
    """A response is paid the weighted share of a rubric's criteria that a judge finds met.

    ``s = Σ_k w_k·m_k / Σ_k w_k`` with the judge's mark ``m_k`` between 0 and 1; 0 if a criterion with a veto has a mark below
    ``met``. What exceeds ``saturation`` counts for nothing: ``min(s, saturation) / saturation``, so that nobody is paid for piling up
    what the judge likes. ``r ← (1 − share)·r + share·s``. A group in which the judge failed keeps its rewards; an unknown verdict
    stays unknown. Source: Rubric Anchors (2508.12790), weighted criteria, veto and saturation.

    >>> rubric = Rubric(criteria=[{"text": "a", "weight": 3}, {"text": "b"}])
    >>> rubric.total([1.0, 0.0]), rubric.total([1.0, 1.0])
    (0.75, 1.0)
    """

    title: ClassVar[str] = "Rubric anchors"
    source: ClassVar[str] = "arXiv 2508.12790"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "responses are paid by a rubric that a judge goes through"
    formula: ClassVar[str] = "`(1 − share)·r + share·Σ w·m / Σ w`, 0 after a veto"
    departures: ClassVar[str] = "one rubric for all problems; how vetoes and saturation are computed is argued here"

    kind: Literal["rubric"] = "rubric"
    criteria: tuple[Criterion, ...] = Field(
        REASONING, min_length=1, description="the rubric: `text`, `weight` and `veto` of each criterion"
    )
    share: float = Field(
        1.0, ge=0, le=1, description="share of the reward that the rubric decides; 0 leaves the verifier's"
    )
    met: float = Field(0.5, ge=0, le=1, description="mark from which on a criterion is met")
    saturation: float = Field(1.0, gt=0, le=1, description="total from which on nothing more is paid")

    @property
    def needs(self) -> frozenset[Need]:
        return frozenset({Need.JUDGE})

    def total(self, marks: Sequence[float]) -> float:
        """What the judge's marks, one a criterion, are worth, between 0 and 1."""
        if any(c.veto and mark < self.met for c, mark in zip(self.criteria, marks, strict=True)):
            return 0.0
        weights = sum(c.weight for c in self.criteria)
        found = sum(c.weight * mark for c, mark in zip(self.criteria, marks, strict=True)) / weights if weights else 0.0
        return min(found, self.saturation) / self.saturation

    def marked(self, groups: Sequence[Group], tools: Toolbox, *names: int | str) -> list[Group]:
        """The groups with the judge's marks on every member that has none; none in a group in which the judge failed."""
        asked = [(g, [m for m in group.members if MARKS not in m.extras]) for g, group in enumerate(groups)]
        requests = [
            JudgeRequest(
                groups[g].problem, tuple(tools.text(m.rollout) for m in members), criterion.text, JudgeKind.SCORE
            )
            for g, members in asked
            for criterion in self.criteria
            if members
        ]
        said = iter(tools.ask_judge(requests, self.kind, *names))
        marks: dict[int, tuple[float, ...]] = {}
        for _, members in asked:
            of_criteria = [next(said) for _ in self.criteria] if members else []
            if all(scores is not None for scores in of_criteria):
                marks |= {id(m): tuple(s[i] for s in of_criteria if s is not None) for i, m in enumerate(members)}
        return [
            replace(g, members=tuple(m.having(**{MARKS: marks[id(m)]}) if id(m) in marks else m for m in g.members))
            for g in groups
        ]

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return self.marked(groups, tools) if self.share else list(groups)

    def reward(self, group: Group, member: Member, tools: Toolbox) -> float:
        assert member.verdict.pay is not None, "only known verdicts are paid"
        if any(MARKS not in m.extras for m in group.members):
            return member.verdict.pay
        return (1 - self.share) * member.verdict.pay + self.share * self.total(member.extras[MARKS])
