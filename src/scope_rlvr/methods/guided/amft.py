"""AMFT: imitation beside reinforcement learning, with a weight that follows the entropy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, NegativeLogLikelihood, TeacherTerm
from scope_rlvr.methods.guided.chord import JointImitation
from scope_rlvr.methods.parts.base import Status


class Amft(JointImitation):
    """``(1 − μ)·L_GRPO + μ·L_SFT``, where μ rises while the policy's entropy is below a target, and falls while it is above.

    ``μ ← μ + rate·(H_target − H)``, kept between ``mu_low`` and ``mu_high``; H is the policy's entropy in the step before, the target that
    of the first step unless ``target`` says otherwise. ``L_SFT`` is the mean of ``−log π`` over the tokens of verified teacher traces.
    Source: AMFT (2508.06944), and its released code, github.com/TSYJ-He/AMFT at 0e030f4:
    ``adaptive_weight_controller.py``. The paper was withdrawn by its authors, and nothing is claimed from it. Its
    controller also follows a meta-gradient, which in the release has the wrong sign, and is left out here.

    >>> amft = Amft(rate=0.1)
    >>> [round(amft.steered(mu, entropy), 3) for mu, entropy in ((0.5, (1.0, 0.5)), (0.9, (9.0, 0.0)), (0.1, (0.0, 9.0)))]
    [0.55, 0.95, 0.05]
    """

    title: ClassVar[str] = "AMFT"
    source: ClassVar[str] = "arXiv 2508.06944 (withdrawn)"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "imitation of teacher traces beside GRPO, with a weight that follows the entropy"
    formula: ClassVar[str] = "`Â = (r − mean)/std`; `(1 − μ)·mean S(Â) + μ·mean(−log π)`, `μ += 5e-4·(H_target − H)`"
    departures: ClassVar[str] = (
        "the entropy part of the controller alone; its meta-gradient has the wrong sign in the release"
    )

    name: Literal["amft"] = "amft"
    teacher_term: TeacherTerm = NegativeLogLikelihood()
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    aggregation: Aggregation | None = Aggregation.TOKEN_MEAN
    mu: float = Field(0.8, ge=0, le=1, description="share of imitation in the first step")
    mu_low: float = Field(0.05, ge=0, le=1, description="least share of imitation")
    mu_high: float = Field(0.95, ge=0, le=1, description="largest share of imitation")
    rate: float = Field(5e-4, ge=0, description="change of the share for one nat of entropy in a step")
    target: float | None = Field(None, ge=0, description="entropy in nats to hold; that of the first step, without it")

    def steered(self, mu: float, entropy: tuple[float, float]) -> float:
        """The next share, from this one and the target and the policy's entropy."""
        target, now = entropy
        return min(self.mu_high, max(self.mu_low, mu + self.rate * (target - now)))

    def imitation_share(self, groups: Sequence[Group], tools: Toolbox) -> float:
        state = tools.memory.setdefault(self.name, {"mu": self.mu, "target": self.target})
        now = tools.figures.get("entropy")
        if now is not None:
            state["target"] = now if state["target"] is None else state["target"]
            state["mu"] = self.steered(state["mu"], (state["target"], now))
        share: float = state["mu"]
        return share
