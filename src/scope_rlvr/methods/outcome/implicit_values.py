"""The policy's log-ratio as a classifier, and as a value: PACS, ROVER."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.value_losses import LabelLikelihood, UniformValue


class Pacs(Method):
    """Implicit actor critic: the log-ratio of a response, against those of its group, predicts whether it is right.

    Binary cross-entropy with weights that balance right and wrong, mean over rollouts; no KL penalty, no entropy bonus. Source: PACS
    (2509.02522), and ``scripts/pacs/pacs_beta_1.0.sh`` of github.com/ritzz-ai/PACS at 4c987b4.

    >>> Pacs().aggregation.value, Pacs().own_parts[0].beta
    ('sequence_mean', 1.0)
    """

    title: ClassVar[str] = "PACS"
    source: ClassVar[str] = "arXiv 2509.02522"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the log-ratio of a response predicts whether it is right"
    formula: ClassVar[str] = (
        "`w·BCE(σ(ψ), r)`, `ψ = s − mean of the others' s`, `s = β·Σ_t log ρ_t`; mean over rollouts"
    )
    departures: ClassVar[str] = (
        "exact for the first update of a batch; later ones take the others as they were when they sampled"
    )

    name: Literal["pacs"] = "pacs"
    beta: float = Field(1.0, gt=0, description="factor on the log-ratio of a response")
    aggregation: Aggregation | None = Aggregation.SEQUENCE_MEAN
    kl: float | None = 0.0
    entropy: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (LabelLikelihood.of(self),)


class Rover(Method):
    """Random policy valuation: the log-ratio of a token is fitted to the value of a policy that chooses at random.

    ``Â = r − mean``, squared error, mean over tokens, no KL penalty. The release samples at temperature 0.6 (1 for its smaller program).
    Source: ROVER (2509.24981), and ``Countdown/scripts/train_rover.sh`` of github.com/tinnerhrhe/ROVER at b0fa587.

    >>> Rover().normalisation.value, Rover().own_parts[0].rho
    ('none', 1.0)
    """

    title: ClassVar[str] = "ROVER"
    source: ClassVar[str] = "arXiv 2509.24981"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the log-ratio is fitted to the value of a random policy"
    formula: ClassVar[str] = "`Â = r − mean(r)`; `(log ρ_t − sg[Â + mean_v log ρ_{t+1}(v)])²`; mean over tokens"
    departures: ClassVar[str] = "one update a batch, the release four"

    name: Literal["rover"] = "rover"
    rho: float = Field(1.0, gt=0, description="factor on log-ratios, which makes values of them")
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    kl: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (UniformValue.of(self),)
