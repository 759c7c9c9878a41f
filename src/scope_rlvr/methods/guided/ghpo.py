"""GHPO: part of a solution in the prompt, where the policy fails without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.guided.traces import PROMPT_THEN_HINT, hinted_prompt, rescue_unsolved, sample_with_hints
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Need, Status


class Ghpo(Method):
    """Hints of growing length in the prompts of all-wrong groups, trained under the hinted prompt.

    A group without a right rollout is sampled again with the first 25 % of a reference solution in its prompt, then 50 %,
    then 75 %; the first of these with a right rollout takes the group's place, prompt included. All of its tokens were
    sampled from that prompt, so that the update is on-policy: ``Â_i = (r_i − mean r) / std r``, the clipped surrogate on
    every token, none on the hint. Source: GHPO (arXiv 2507.10628), adaptive difficulty detection and prompt refinement.

    Left open, or different here: the reference solution is a verified trace of the teacher, its shares are counted in
    tokens, and a group that no hint helps stays as it was sampled. By default the hint's ids follow the prompt's, so that
    the policy goes on from there; the wording of the paper's prompt can be given as ``template``.

    >>> trace = range(8)
    >>> [len(trace[: int(share * len(trace))]) for share in Ghpo().hint_shares]
    [2, 4, 6]
    """

    title: ClassVar[str] = "GHPO"
    source: ClassVar[str] = "arXiv 2507.10628"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "part of a solution in the prompt where all rollouts fail"
    formula: ClassVar[str] = "`Â = (r − mean(r)) / std(r)`; `S(Â)` under the hinted prompt"
    departures: ClassVar[str] = "the hint comes from the teacher's trace; no reward for the format"

    name: Literal["ghpo"] = "ghpo"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    hint_shares: tuple[float, ...] = Field(
        (0.25, 0.5, 0.75), min_length=1, description="shares of the solution that are tried as a hint, in this order"
    )
    template: str = Field(
        PROMPT_THEN_HINT,
        pattern=r"\{hint\}",
        description="prompt with a hint, of `{prompt}` and `{hint}`; the default keeps the ids of both",
    )

    @field_validator("hint_shares")
    @classmethod
    def _growing(cls, shares: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise((0.0, *shares, 1.0))):
            raise ValueError(f"hint shares lie between 0 and 1 and grow from one to the next; got {shares}")
        return shares

    @property
    def own_needs(self) -> frozenset[Need]:
        return frozenset({Need.TEACHER})

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return rescue_unsolved(groups, lambda unsolved: self._hinted(unsolved, tools))

    def _hinted(self, unsolved: Sequence[Group], tools: Toolbox) -> list[Group]:
        def begin(group: Group, hint: Rollout) -> Rollout:
            return hinted_prompt(group, hint, self.template, tools)

        hinted = sample_with_hints(unsolved, self.hint_shares, begin, tools)
        return [
            group if members is None else replace(group, members=members, replaced=group.members)
            for group, members in zip(unsolved, hinted, strict=True)
        ]
