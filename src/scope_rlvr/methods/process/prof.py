"""PROF: the scorer decides which rollouts train, never what they are worth."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.edits import ConsistencyFilter


class Prof(Method):
    """Process consistency filter, then outcome GRPO on what is left.

    Of the n scored rollouts of a group, ``m = ⌈kept_share · n⌉`` train: the right ones with the highest and the wrong ones
    with the lowest mean step score, as many of either as makes the two classes most nearly equal. The baseline is the
    mean of those m. The others stay in the group's record. A rollout that could not be scored is not filtered.

    So ``rollouts_per_problem`` is n. Source: Ye et al. 2025, PROF-GRPO, and its released code (amazon-science/PROF-GRPO).
    Left out: the released code takes 10 off the mean score of a response of fewer than 2 or more than 30 steps, which is
    therefore dropped first, and it has a KL penalty of 0.001.
    """

    title: ClassVar[str] = "PROF"
    source: ClassVar[str] = "arXiv 2509.03403"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "only rollouts whose steps and outcome agree"
    formula: ClassVar[str] = "`Â = r − mean(r)` over the rollouts kept; `S(Â)`"
    departures: ClassVar[str] = (
        "no deduction from responses of fewer than 2 or more than 30 steps; no KL penalty of 0.001"
    )

    name: Literal["prof"] = "prof"
    kept_share: float = Field(0.5, gt=0, le=1, description="share of the scored rollouts that train")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ConsistencyFilter.of(self),)
