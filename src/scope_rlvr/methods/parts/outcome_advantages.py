"""Advantage transforms by outcome, length and place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean
from typing import ClassVar, Literal

from pydantic import Field

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.types import Outcome
from scope_rlvr.methods.parts.base import Advantage, Status
from scope_rlvr.methods.reading import ReadBy, Reading


class LengthGate(Advantage):
    """Groups whose longest success is no longer than their failures count little.

    ``Â ← Â · damping`` in a whole group, unless its longest right rollout has more tokens than its wrong ones on average; wrong
    ones that ran out of room do not count. Without a wrong one that counts the group is left as it is. Source: ADORA
    (2602.10019), length advantage, and its released code, github.com/ShadeCloak/ADORA at c518485:
    ``ADORA/verl/trainer/ppo/core_algos.py``. Its code for vision models damps groups without a wrong rollout and keeps
    those without a right one, the other way round.

    >>> LengthGate().factor([30, 10], [20, 20]), LengthGate().factor([15], [20, 20]), LengthGate().factor([15], [])
    (1.0, 0.1, 1.0)
    """

    title: ClassVar[str] = "ADORA gate"
    source: ClassVar[str] = "arXiv 2602.10019"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "groups count little where success is not longer than failure"
    formula: ClassVar[str] = "`0.1·Â` unless the longest right rollout is longer than the mean wrong one"
    departures: ClassVar[str] = (
        "a wrong rollout is left out if it was cut off, not from a fixed length on; no difficulty advantage"
    )

    kind: Literal["length_gate"] = "length_gate"
    damping: float = Field(0.1, ge=0, le=1, description="factor on the advantages of a group that is held back")

    def factor(self, right_lengths: Sequence[int], wrong_lengths: Sequence[int]) -> float:
        """What the advantages of a group with these lengths are multiplied by."""
        if not right_lengths:
            return self.damping
        return 1.0 if not wrong_lengths or max(right_lengths) > fmean(wrong_lengths) else self.damping

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        right = [len(m.rollout) for m in group.members if m.verdict.is_right]
        wrong = [
            len(m.rollout) for m in group.members if m.verdict.outcome is Outcome.WRONG and not m.rollout.is_truncated
        ]
        factor = self.factor(right, wrong)
        return [factor * a for a in streams.advantage_T]


class PositionBonus(Advantage):
    """Later tokens are pulled and pushed more: ``Â_t ← Â_t + gain·sign(Â_t)·σ(steepness·t/|y|)``.

    ``t`` counts from 1, σ is the logistic function. Source: Deng et al. 2025, "Decomposing the Entropy-Performance Exchange"
    (2508.02260): that late tokens count more is in the abstract; both numbers are argued here.

    >>> [round(x, 4) for x in positions(2, gain=0.1, steepness=2.0)]
    [0.0731, 0.0881]
    """

    title: ClassVar[str] = "Position shaping"
    source: ClassVar[str] = "arXiv 2508.02260"
    status: ClassVar[Status] = Status.ABSTRACT
    changes: ClassVar[str] = "tokens near the end are pulled and pushed more"
    formula: ClassVar[str] = "`Â_t + 0.1·sign(Â_t)·σ(2t/|y|)`"
    departures: ClassVar[str] = "both numbers are argued here"

    kind: Literal["position_bonus"] = "position_bonus"
    gain: float = Field(0.1, ge=0, description="size of the bonus; 0 changes nothing")
    steepness: float = Field(2.0, ge=0, description="how fast the bonus rises with the place of a token")

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        bonus_T = positions(len(streams.advantage_T), self.gain, self.steepness)
        return [
            a + math.copysign(bonus, a) if a else 0.0 for a, bonus in zip(streams.advantage_T, bonus_T, strict=True)
        ]


def positions(num_tokens: int, gain: float, steepness: float) -> list[float]:
    """What each of so many tokens is pulled more for its place."""
    return [gain / (1 + math.exp(-steepness * t / num_tokens)) for t in range(1, num_tokens + 1)]


class LogRatioSteps(Advantage):
    """A penalty for leaving the first policy, credited to the steps that leave it.

    ``Â_t ← Â_t − (1/η)·Σ_{s ≥ e(t)} log(π_old/π_ref)_s`` with ``e(t)`` the last token of t's block of ``block`` tokens: the part of
    the log-ratio that is still to come, as reward to go, at the end of the block. Source: PRL (2601.10201), and its released
    code, github.com/MaxwellJryao/Process-Reward-Learning at 1ee49fa: ``verl/trainer/ppo/ray_trainer.py`` 1082-1155. There a value
    of exactly 0 is overwritten by the next one, and the shipped script runs plain GRPO; neither is so here.

    >>> block_tails([1.0, 2.0, 3.0, 4.0, 5.0], block=2)  # sums from the second, fourth and fifth token on
    [14.0, 14.0, 9.0, 9.0, 5.0]
    """

    title: ClassVar[str] = "PRL credit"
    source: ClassVar[str] = "arXiv 2601.10201"
    status: ClassVar[Status] = Status.CODE
    changes: ClassVar[str] = "a KL penalty as process reward, block by block"
    formula: ClassVar[str] = "`Â − Σ_{s ≥ e(t)} log(π_old/π_ref)_s / 200`, `e(t)` the end of t's block of 256 tokens"
    departures: ClassVar[str] = "steps are blocks of tokens, not lines or paragraphs"

    kind: Literal["log_ratio_steps"] = "log_ratio_steps"
    eta: float = Field(200.0, gt=0, description="what the log-ratio is divided by; the larger, the weaker the penalty")
    block: int = Field(256, ge=1, description="tokens of a step")

    @property
    def readings(self) -> tuple[Reading, ...]:
        return Reading("policy_logprob"), Reading("reference_logprob", by=ReadBy.REFERENCE)

    def reshaped(self, group: Group, member: Member, streams: Streams) -> Sequence[float]:
        now_T, before_T = member.extras.get("policy_logprob"), member.extras.get("reference_logprob")
        if now_T is None or before_T is None:
            return streams.advantage_T
        tail_T = block_tails([now - before for now, before in zip(now_T, before_T, strict=True)], self.block)
        return [
            a - tail / self.eta if w else a
            for a, tail, w in zip(streams.advantage_T, tail_T, streams.weight_T, strict=True)
        ]


def block_tails(values_T: Sequence[float], block: int) -> list[float]:
    """For each token, the sum of the values from the last token of its block to the end."""
    tail_T = list(accumulate(reversed(values_T)))[::-1]
    last = len(values_T) - 1
    return [tail_T[min(t - t % block + block - 1, last)] for t in range(len(values_T))]
