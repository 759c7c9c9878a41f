"""On-policy distillation: the policy writes, the teacher says how likely each token was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.distillation import EarlyTokens, ReverseKl


class ScoredRollouts(Method):
    """A method that trains what a model has scored, whatever the verdict; nothing else trains or counts."""

    reading: ClassVar[str] = "teacher_logprob"
    """The extra by which a scored rollout is known."""

    normalisation: Normalisation | None = Normalisation.NONE

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        scored_PG = [[0.0 if self.reading in m.extras else None for m in group.members] for group in groups]
        return super().credit(groups, scored_PG, normalisation)


class Opd(ScoredRollouts):
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
    distilled: Literal["all", "wrong"] = Field(
        "all",
        description="rollouts that the teacher scores and that train: all, or those that the verifier calls wrong",
    )

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ReverseKl.of(self),)


class OpdOnFailures(Opd):
    """On-policy distillation of wrong rollouts alone: what is right already is left alone, and the teacher scores fewer tokens.

    Source: 2605.10889, whose abstract says that distillation helps more on wrong rollouts.

    >>> OpdOnFailures().own_parts[0].distilled
    'wrong'
    """

    title: ClassVar[str] = "OPD on failures"
    source: ClassVar[str] = "arXiv 2605.10889"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "the teacher scores the tokens of the policy's failures; no reward"
    formula: ClassVar[str] = "`Â_t = log π_T − log π_old` on wrong rollouts; `S(Â_t)`"
    departures: ClassVar[str] = "all tokens of a failure, not those after its first error alone"

    name: Literal["opd_on_failures"] = "opd_on_failures"  # type: ignore[assignment]
    distilled: Literal["all", "wrong"] = "wrong"


class IwOpd(Opd):
    """On-policy distillation in which a token counts less the more the teacher has disagreed before it.

    ``Â_t = w_t·a_t`` with ``a = log π_T − log π_old`` and ``w_t = 1 + γ (1 − Σ_{j<t}|a_j| / Σ_j|a_j|)``; mean over all tokens.
    Source: IW-OPD (2606.22600), read in TRL.

    >>> [part.kind for part in IwOpd().own_parts]
    ['reverse_kl', 'early_tokens']
    """

    title: ClassVar[str] = "IW-OPD"
    source: ClassVar[str] = "arXiv 2606.22600"
    status: ClassVar[Status] = Status.LIBRARY
    changes: ClassVar[str] = "distillation in which tokens before a divergence count more"
    formula: ClassVar[str] = "`Â_t = (1 + γ(1 − Σ_{j<t}|a_j| / Σ_j|a_j|))·a_t`, `a = log π_T − log π_old`; `S(Â_t)`"
    departures: ClassVar[str] = "the clip stays, which acts only with several updates a batch"

    name: Literal["iw_opd"] = "iw_opd"  # type: ignore[assignment]
    gamma: float = Field(0.5, ge=0, description="how much more the first token counts than the last; 0 is OPD")
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (*super().own_parts, EarlyTokens.of(self))
