"""Weighted GRPO: hard and easy problems in pairs, credit for what is rare in each."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.methods.method import Method
from scope_rlvr.methods.parts.base import Part, Status
from scope_rlvr.methods.parts.curricula import HardEasyPairs
from scope_rlvr.methods.parts.pairing import RareOutcomes


class WeightedGrpo(Method):
    """Positive-negative pairing: each update sees hard but solvable problems, whose rare successes pull, beside easy
    but unsafe ones, whose rare failures push. Source: "Beyond Variance" (2602.03452), with one pair an update.

    >>> [part.kind for part in WeightedGrpo().own_parts]
    ['hard_easy_pairs', 'rare_outcomes']
    """

    title: ClassVar[str] = "Weighted GRPO"
    source: ClassVar[str] = "arXiv 2602.03452"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "hard and easy problems in pairs; rare outcomes are amplified"
    formula: ClassVar[str] = "`Â = (v − mean(v)) / std(v)`, `v = r/q` if `q < ½` else `−(1 − r)/(1 − q)`; `S(Â)`"
    departures: ClassVar[str] = "weights and bounds are argued here; as many pairs as a batch has room for"

    name: Literal["wgrpo"] = "wgrpo"
    highest_hard: float = Field(0.25, gt=0, lt=1, description="highest solve rate of a hard problem")
    lowest_easy: float = Field(0.75, gt=0, lt=1, description="lowest solve rate of an easy problem")

    @property
    def own_parts(self) -> tuple[Part, ...]:
        return HardEasyPairs.of(self), RareOutcomes()
