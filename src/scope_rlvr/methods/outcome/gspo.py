"""GSPO: one importance ratio for a whole response."""

from __future__ import annotations

from typing import ClassVar, Literal

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.losses import SequenceRatio


class Gspo(Method):
    """The clipped surrogate with the ratio of sequences: ``s_i = exp(mean_t log(π/π_old)) = (π(y)/π_old(y))^(1/|y|)``.

    ``−min(s_i·Â_i, clip(s_i, 1 − 3e-4, 1 + 4e-4)·Â_i)``, mean over rollouts, ``Â_i = (r_i − mean) / std``. It is
    computed in the GSPO-token form: each token has the ratio ``sg[s_i] · π_t / sg[π_t]``, whose value is ``s_i`` and
    whose gradient goes to its own token; for one advantage a rollout, the mean over its tokens has value and gradient
    of the above. Only tokens with weight count in ``s_i``.

    On the first pass over fresh rollouts ``s_i`` is 1 and this is GRPO with a mean over sequences;
    ``objective.updates_per_batch`` above 1 makes the difference. Source: Zheng et al. 2025, sections 4.1 and 4.3; clip
    from section 5.1.
    """

    title: ClassVar[str] = "GSPO"
    source: ClassVar[str] = "arXiv 2507.18071"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "one ratio and one clip for a whole response"
    formula: ClassVar[str] = "`Â = (r − mean(r)) / std(r)`; `S(Â)` with `ρ = (π(y)/π_old(y))^(1/|y|)`"

    name: Literal["gspo"] = "gspo"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.SEQUENCE_MEAN
    clip: Clip | None = Clip(low=3e-4, high=4e-4)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SequenceRatio(),)
