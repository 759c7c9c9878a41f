"""RePO: where all rollouts fail, an earlier success comes back."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.edits import Replay
from scope_rlvr.methods.replay.replayed import ReplayingMethod


class Repo(ReplayingMethod):
    """GRPO, and in a group without a right rollout an earlier success on the same problem, with the ratio to the policy
    that wrote it. Source: RePO (2506.09340).

    >>> Repo(max_age=5).own_parts[0].max_age
    5
    """

    title: ClassVar[str] = "RePO"
    source: ClassVar[str] = "arXiv 2506.09340"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "where all fail, an earlier success on the same problem joins the group"
    formula: ClassVar[str] = (
        "group ∪ {right rollout of earlier steps}; `Â = (r − mean) / std`; `S(Â)`, `ρ = π/π_then` on its tokens"
    )
    departures: ClassVar[str] = "one rollout, and only where all fail; the paper compares several rules of retrieval"

    name: Literal["repo"] = "repo"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    capacity: int = Field(512, ge=1, description="problems that are remembered, the newest ones")
    max_age: int = Field(200, ge=1, description="steps after which a rollout is forgotten")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (Replay.of(self),)
