"""VPPO: the scorer says where a failure goes wrong, and what came before is spared. Nothing is written."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.estimators import GoodPrefix


class Vppo(Method):
    """Credit for the good prefix of a failure.

    ``a_{i,t}`` is the reward of the rollout, 1 or 0, and ``prefix_credit`` (α) on the good prefix of a wrong one;
    ``Â_{i,t} = a_{i,t} − mean_i ā_i`` with ``ā_i`` the mean over the tokens of rollout i: 1, or α·|prefix|/|y|.

    The good prefix ends ``cut_back_tokens`` before the first wrong step, so that writing more steps does not pay; the
    paper takes as many as the prompt has, which is the default. Where most of a group is right, ``mean ā`` may exceed α
    and push the prefix away, only less than the rest; ``positive_prefix`` keeps it at 0 or above. A failure that was not scored,
    or in which the scorer finds no wrong step, has no good prefix: the paper does not say what to do with the latter.
    Source: "Save the Good Prefix" (2026), token-level credit; α 0.5 and a threshold of 0.8 there.

    >>> from scope_rlvr.core.steps import Step
    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> rollout = Rollout((), (Segment((5, 6, 7, 8), Origin.POLICY),))
    >>> scores = StepScores((Step("good", 0, 2), Step("bad", 2, 4)), (0.9, 0.1), first_wrong=1)
    >>> group = Group(Problem("p", "?", "1"), (
    ...     Member(rollout, Verdict(Outcome.WRONG), step_scores=scores), Member(rollout, Verdict(Outcome.RIGHT))))
    >>> [s.advantage_T for s in Vppo().credit([group], [[0.0, 1.0]], Normalisation.NONE)[0]]
    [(-0.125, -0.125, -0.625, -0.625), (0.375, 0.375, 0.375, 0.375)]
    """

    title: ClassVar[str] = "VPPO"
    source: ClassVar[str] = "arXiv 2601.18984"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "the good prefix of a failure is credited"
    formula: ClassVar[str] = "`Â_t = a_t − mean(ā)`, `a_t` = `r`, or `α` on the good prefix of a failure; `S(Â_t)`"

    name: Literal["vppo"] = "vppo"
    prefix_credit: float = Field(0.5, ge=0, le=1, description="credit of the good prefix of a wrong rollout")
    cut_back_tokens: int | None = Field(
        None, ge=0, description="tokens given up before the first wrong step; by default as many as the prompt has"
    )
    positive_prefix: bool = Field(False, description="never push a good prefix away")
    normalisation: Normalisation | None = Normalisation.NONE

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (GoodPrefix.of(self),)
