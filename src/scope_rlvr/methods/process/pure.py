"""PURE: a response is worth its worst step, and that step gets the credit."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.estimators import MinForm, PaidSteps


class Pure(Method):
    """Min-form credit assignment, with verifiable rewards.

    With ``r_s = 2p_s − 1`` for the score p of a step: ``r*_s = r_s · softmax(−r/T)_s``, nearly all of it on the worst step.
    ``Â_t = Σ_{s ≥ s(t)} (r*_s − b_i·|s|) + outcome_weight · (r_i − mean of the others)``, where ``|s|`` counts tokens and
    ``b_i`` is what the other rollouts' steps are worth a token: ``Σ_{j≠i} Σ_s r*_{j,s} / Σ_{j≠i} |y_j|``. The token that
    ends a step, the last of the response among them, has advantage 0 unless ``train_step_ends``, so that where to end a step
    is no means to a better minimum. All other advantages of the batch are whitened. The loss is a mean over a rollout's
    tokens, then over rollouts, with a KL penalty of 0.001.

    A verifier's reward of −1 and 0, as in the source, has the same advantages as 0 and 1. Only rollouts with scores enter
    ``b``; with no other one scored there is no process part. Source: Cheng et al. 2025, "Stop Summation"; released code, PRM
    and verifier, github.com/CJReinforce/PURE at 41f9363: ``openrlhf/trainer/ppo_utils/experience_maker.py`` 232-248
    (KL, step ends) and 608-728 (baselines), ``openrlhf/trainer/pure_trainer.py`` 230 (whitening),
    ``openrlhf/models/loss.py`` 76 (the mean), ``examples/scripts/train_pure.sh`` (KL 0.001).

    Different here: the penalty is a term of the loss, and not taken off the rewards; ``|s|`` includes the separator, so that
    the steps' baselines add up to the response's; step ends do not enter the deviation, into which the released code adds
    mean² for each; one update of a step's rollouts, where the released run makes two (``objective.mini_batches = 2``); an update
    whose ratios are above 10 is made. The authors' second release, on verl, has the mean over all tokens instead.

    >>> Pure().own_parts[0].kind, Pure().fixed["kl"]
    ('min_form', 0.001)
    """

    title: ClassVar[str] = "PURE"
    source: ClassVar[str] = "arXiv 2504.15275"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "step scores by their minimum, added to the reward"
    formula: ClassVar[str] = (
        "`Â_t = Σ_{s ≥ s(t)} (r*_s − b·|s|) + (r − mean of the others' r)`, `r* = (2p−1)·softmax((1−2p)/T)`, 0 where a step "
        "ends, whitened over the batch; `S(Â_t)`, KL 0.001; mean over a rollout's tokens"
    )
    departures: ClassVar[str] = (
        "the KL penalty is a term of the loss; a step's tokens include its separator; one update a batch"
    )

    name: Literal["pure"] = "pure"
    paid_steps: PaidSteps = Field(
        PaidSteps.AS_SCORED,
        description="which scores count: all, or none after the first wrong step, where a scorer's words mean little",
    )
    temperature: float = Field(0.1, gt=0, description="of the softmax; the lower, the nearer to the minimum")
    outcome_weight: float = Field(1.0, ge=0, description="factor on the advantage from the outcome")
    train_step_ends: bool = Field(False, description="train the tokens that end steps, too")
    whiten: bool = Field(
        True, description="take the mean of the batch's token advantages off them, and divide by their deviation"
    )
    baseline: Baseline = Baseline.LEAVE_ONE_OUT
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.SEQUENCE_MEAN
    clip: Clip | None = Clip(low=0.2, high=0.2)
    kl: float | None = 0.001
    entropy: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (MinForm.of(self),)
