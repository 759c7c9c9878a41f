"""GRPO: group-relative policy optimisation, the baseline of everything else."""

from __future__ import annotations

from typing import ClassVar, Literal

from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Status


class Grpo(Method):
    """Group-relative outcome training.

    ``Â_i = r_i − mean(r)`` over the group (divided by its deviation if the run's ``objective.normalisation`` says so),
    the clipped surrogate on every token. Without the division and with ``max_length`` aggregation it is Dr. GRPO.
    Source: Shao et al. 2024 (DeepSeekMath), section 4.1; Liu et al. 2025 (Dr. GRPO).

    >>> from scope_rlvr.formulas.advantages import Normalisation
    >>> from scope_rlvr.core.types import *
    >>> from scope_rlvr.core.groups import *
    >>> def member(outcome):
    ...     return Member(Rollout((1,), (Segment((7, 2), Origin.POLICY),)), Verdict(outcome))
    >>> group = Group(Problem("p", "?", "1"), (member(Outcome.RIGHT), member(Outcome.WRONG)))
    >>> [s.advantage_T for s in Grpo().credit([group], [[1.0, 0.0]], Normalisation.NONE)[0]]
    [(0.5, 0.5), (-0.5, -0.5)]
    """

    title: ClassVar[str] = "GRPO"
    source: ClassVar[str] = "arXiv 2402.03300"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "nothing: the baseline"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`"
    departures: ClassVar[str] = (
        "division by the deviation, mean over a rollout's tokens and KL penalty are the run's to choose"
    )

    name: Literal["grpo"] = "grpo"
