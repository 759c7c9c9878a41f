"""RLPR and RLP: rewards by how likely a response makes the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import pstdev
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Streams
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.losses import Clip
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.answer_likelihood import AnswerProbability, InformationGain
from scope_rlvr.methods.parts.base import Part, Status

_MEMORY, _DROPPED = "rlpr", "is_dropped"


class Rlpr(Method):
    """GRPO on the probability of the reference answer after the reasoning; groups whose rewards hardly differ are dropped.

    ``r = max(0, p̄(a*|x, reasoning) − p̄(a*|x))``, ``Â = (r − mean)/std``, ratios clipped to [0.8, 1.27]. From step ``filter_from`` on, a group
    whose deviation of rewards is below ``filter_share`` times the moving average of the deviations (decay 0.99, from step
    ``average_from``) trains nothing and counts nowhere. Source: RLPR (2506.18254), and its released code, github.com/OpenBMB/RLPR at
    8490fca: ``examples/RLPR/reproduce_qwen.sh``.

    >>> Rlpr().filter_share, Rlpr().own_parts[0].kind
    (0.5, 'answer_probability')
    """

    title: ClassVar[str] = "RLPR"
    source: ClassVar[str] = "arXiv 2506.18254"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "responses are paid by how much likelier they make the reference answer"
    formula: ClassVar[str] = (
        "`r = max(0, p̄(a*|x, reasoning) − p̄(a*|x))`, `Â = (r − mean)/std`; `S(Â)` with ratios in `[0.8, 1.27]`"
    )
    departures: ClassVar[str] = "no reward for a format, no penalty on repetitions; one update of a batch, not four"

    name: Literal["rlpr"] = "rlpr"
    normalisation: Normalisation | None = Normalisation.GROUP_STD
    clip: Clip | None = Clip(low=0.2, high=0.27)
    kl: float | None = Field(0.0, ge=0)
    filter_share: float = Field(0.5, ge=0, description="share of the usual deviation below which a group is dropped")
    average_from: int = Field(6, ge=1, description="step from which on deviations are averaged")
    filter_from: int = Field(11, ge=1, description="step from which on groups are dropped")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (AnswerProbability(),)

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        paid = super().prepare(groups, tools)
        deviations = [pstdev([m.verdict.pay for m in g.members if m.verdict.pay is not None] or [0.0]) for g in paid]
        usual = tools.memory.get(_MEMORY, 0.0)
        least = self.filter_share * usual if tools.step >= self.filter_from else 0.0
        if tools.step >= self.average_from and deviations:
            mean = sum(deviations) / len(deviations)
            tools.memory[_MEMORY] = 0.99 * usual + 0.01 * mean if _MEMORY in tools.memory else mean
        return [
            replace(g, members=tuple(m.having(**{_DROPPED: float(deviation < least)}) for m in g.members))
            for g, deviation in zip(paid, deviations, strict=True)
        ]

    def credit(
        self, groups: Sequence[Group], rewards_PG: Sequence[Sequence[float | None]], normalisation: Normalisation
    ) -> list[tuple[Streams, ...]]:
        kept_PG = [
            [None if m.extras.get(_DROPPED) else reward for m, reward in zip(group.members, rewards_G, strict=True)]
            for group, rewards_G in zip(groups, rewards_PG, strict=True)
        ]
        return super().credit(groups, kept_PG, normalisation)


class Rlp(Method):
    """Reinforcement without a verifier: a thought is paid the information that it adds about what comes after it.

    ``r = log π(a* | x, thought) − log π̄(a* | x)``, ``π̄`` the moving average of the policies, ``Â = G/(G − 1) · (r − mean r)``, which is reward minus
    the mean of the others. Made for the last stage of pre-training, on ordinary text; here ``a*`` is a problem's reference.
    Source: RLP (2510.01265).

    >>> Rlp().baseline.value
    'leave_one_out'
    """

    title: ClassVar[str] = "RLP"
    source: ClassVar[str] = "arXiv 2510.01265"
    status: ClassVar[Status] = Status.TEXT
    changes: ClassVar[str] = "thoughts are paid the information that they add about the reference"
    formula: ClassVar[str] = "`r = log π(a*|x, thought) − log π̄(a*|x)`, `Â = r − mean of the others' r`; `S(Â)`"
    departures: ClassVar[str] = (
        "the reference answer is predicted, not the next words of a document; the answer does train"
    )

    name: Literal["rlp"] = "rlp"
    decay: float = Field(0.999, ge=0, lt=1, description="decay of the average of the policies in a step")
    baseline: Baseline = Baseline.LEAVE_ONE_OUT
    normalisation: Normalisation | None = Normalisation.NONE
    kl: float | None = Field(0.0, ge=0)

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (InformationGain.of(self),)
