"""CalibRL: exploration that an expert's trace calibrates."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.calibration import ExpertCalibration


class CalibRl(Method):
    """GRPO on the policy's own rollouts, and a term that compares them with a verified trace of the teacher.

    ``Â = r − mean(r)``; the clipped surrogate with a dual clip of 3, and ``|Â|·LeakyReLU(−s·(log π(y_t) − log π_old(e_t)))`` beside it, both means over
    all tokens. The trace itself never trains. Without a trace, or with ``guidance = 0``, this is GRPO. Source: CalibRL, and its
    released code, github.com/zhh6425/CalibRL at 0efd799: ``core_algos``, ``src/examples/run_qwen25vl7b_virl_mix_policy.sh``.

    >>> CalibRl(guidance=0.5).own_parts[0].weight
    0.5
    """

    title: ClassVar[str] = "CalibRL"
    source: ClassVar[str] = "arXiv 2602.20197"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "GRPO, and a term that holds rollouts to how likely a teacher's trace is"
    formula: ClassVar[str] = (
        "`Â = r − mean(r)`; `S(Â) + |Â|·LeakyReLU(−s·(log π(y_t) − log π_old(e_t)))`; mean over tokens"
    )
    departures: ClassVar[str] = "written for images and text; one update of a batch, not four"

    name: Literal["calibrl"] = "calibrl"
    guidance: float = Field(1.0, ge=0, description="weight of the term; 0 is GRPO")
    slope: float = Field(
        0.5, ge=0, le=1, description="pull on the right side of the expert, as a share of that on the wrong one"
    )
    normalisation: Normalisation | None = Normalisation.NONE
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    clip: Clip | None = Clip(dual=3.0)
    kl: float | None = Field(0.0, ge=0)
    entropy: float | None = 0.0

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (ExpertCalibration(weight=self.guidance, slope=self.slope),)
