"""RL-PLUS: whole teacher traces, weighed against a mixture and by their novelty."""

from __future__ import annotations

from typing import ClassVar, Literal

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Mixture, TeacherTerm
from scope_rlvr.methods.guided.luffy import WholeTraces
from scope_rlvr.methods.parts.base import Status


class RlPlus(WholeTraces):
    """Mixed-policy GRPO whose teacher tokens are weighed by multiple importance sampling.

    A group is G − n rollouts and n verified whole traces, ``Â_i = r_i − mean(r)`` over all of them. A teacher's token has
    the loss ``−Â · (1 − sg π)^ξ · 2π/(π_old + ω)`` with ``ω = (π_old + 1)/2`` and ξ = ½: the ratio against a mixture of the
    old policy and the teacher, whose unknown probability is guessed to lie halfway between π_old and 1, times a bonus for
    what the policy finds unlikely. No clip on it; the policy's own tokens keep the clipped surrogate.
    Source: Dong et al. 2025 (RL-PLUS), multiple importance sampling and exploration-based advantage function.

    Different here: the released run has no clip, adds a bonus of 0.001 on the entropy, makes two updates of each batch, of
    64 problems of 128 (``objective.mini_batches = 2``), and adds losses up over rows, where others take the mean.

    >>> import torch
    >>> from scope_rlvr.formulas.losses import Clip, example_tokens
    >>> term = RlPlus().teacher_term
    >>> [round(term.loss(example_tokens(p, advantage=0.75), Clip()).item(), 4) for p in (0.01, 0.3, 0.99)]
    [-0.029, -0.3963, -0.0748]
    """

    title: ClassVar[str] = "RL-PLUS"
    source: ClassVar[str] = "arXiv 2508.00222"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "whole teacher traces in every group, mixture ratio and novelty bonus"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `S(Â)`, the teacher's tokens `−Â·√(1−π)·4π/(3π_old+1)`"

    departures: ClassVar[str] = "the clip stays; no entropy bonus of 0.001; one update a batch"

    name: Literal["rl_plus"] = "rl_plus"
    normalisation: Normalisation | None = Normalisation.NONE
    teacher_term: TeacherTerm = Mixture()
