"""Reinforcement learning without labels: GRPO on what the rollouts of a group agree on."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.labels import MajorityVote, SubgroupVote


class Ttrl(Method):
    """GRPO whose reward is agreement with the majority of the group; the reference is read by nobody.

    What the verifier says of the reference stays as a figure, so that runs show when the vote goes wrong. Source: TTRL
    (2504.16084).

    >>> Ttrl().own_parts[0].kind
    'majority_vote'
    """

    title: ClassVar[str] = "TTRL"
    source: ClassVar[str] = "arXiv 2504.16084"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "the majority's answer is the label"
    formula: ClassVar[str] = "`r = 1[answer = majority's]`, `Â = (r − mean)/std`; `S(Â)`"
    departures: ClassVar[str] = "all rollouts vote and train; the paper draws 64 for the vote and trains on 32"

    name: Literal["ttrl"] = "ttrl"
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (MajorityVote(),)


class ScopeTtrl(Method):
    """GRPO whose labels are voted by confidence, another one for each part of a group. Another SCOPE than ``scope``.

    Source: SCOPE-TTRL, "Beyond Majority Voting": 64 rollouts a problem at temperature 0.6 there.

    >>> ScopeTtrl(balance=0.5).own_parts[0].balance
    0.5
    """

    title: ClassVar[str] = "SCOPE-TTRL"
    source: ClassVar[str] = "arXiv 2512.15146"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "labels voted by confidence, another one for each part of a group"
    formula: ClassVar[str] = "`r = 1[answer = argmax_a Σ confidence]`, `Â = (r − mean)/std`; `S(Â)`"
    departures: ClassVar[str] = "confidence by the likeliest tokens, as the paper says, not by the drawn one"

    name: Literal["scope_ttrl"] = "scope_ttrl"
    k: int = Field(20, ge=2, description="likeliest tokens that confidence is the mean of")
    balance: float = Field(0.7, ge=0, le=1, description="weight of reward against variety of labels")
    normalisation: Normalisation | None = Normalisation.GROUP_STD

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return (SubgroupVote.of(self),)
