"""On-policy distillation: the policy writes, the teacher says how likely each token was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.distillation import ReverseKl


class Opd(Method):
    """The policy's own rollouts, each token with the advantage ``log π_T − log π_old``: reverse KL to the teacher, estimated by
    the tokens that were sampled. No reward is used; what the verifier says is a figure. Source: Lu 2025, "On-Policy
    Distillation"; Gu et al. 2024 (MiniLLM). The teacher writes nothing: its tokens are *scored*, and counted apart.

    >>> Opd().own_parts[0].kind
    'reverse_kl'
    """

    title: ClassVar[str] = "OPD"
    source: ClassVar[str] = "arXiv 2306.08543"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "the teacher scores the policy's own tokens; no reward"
    formula: ClassVar[str] = "`Â_t = log π_T − log π_old`; `S(Â_t)`"
    departures: ClassVar[str] = "one sampled token, not the whole distribution"

    name: Literal["opd"] = "opd"
    coefficient: float = Field(1.0, gt=0, description="factor on the advantage")
    normalisation: Normalisation | None = Normalisation.NONE

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ReverseKl.of(self),)

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        """What the teacher scored trains, whatever the verdict; nothing else does."""
        scored_PG = [[0.0 if "teacher_logprob" in m.extras else None for m in group.members] for group in groups]
        return super().credit(groups, scored_PG, normalisation)
