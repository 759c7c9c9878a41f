"""Where a rollout goes wrong, or may go another way: decision rules on step scores, and tokens of high entropy.

A decision rule leads from the scores of a rollout's steps to its first wrong step. A rule is kept apart from the scorer because the same score means different things for different scorers: each
scorer carries its own rule with its own threshold.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Threshold:
    """The first step whose score is below ``threshold`` is the first wrong one: ``k* = min{k : p_k < threshold}``.

    A larger threshold never finds a later step. This is the meaning of "first wrong step" in ProcessBench; later
    steps often score high again, so the minimum over steps would be another step.

    >>> Threshold(0.5).first_wrong([0.9, 0.2, 0.1, 0.8])
    1
    >>> Threshold(0.5).first_wrong([0.9, 0.7]) is None
    True
    """

    threshold: float

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"a threshold must lie in (0, 1], got {self.threshold}")

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        return next((k for k, score in enumerate(step_scores_S) if not self.accepts(score)), None)

    def accepts(self, step_score: float) -> bool:
        return step_score >= self.threshold


NUM_ENTROPY_TOKENS = 20
"""Tokens of highest entropy among which one is drawn (CURE)."""


def uncertain_token(entropy_T: Sequence[float], num_tokens: int, rng: random.Random) -> int:
    """One of the ``num_tokens`` tokens before which the entropy was highest, each as likely as the other.

    The first token is none of them: before it there is nothing to keep. 0 where there is no other. Of equal entropies
    the earlier comes first.

    >>> sorted({uncertain_token([9.0, 0.1, 2.0, 0.1, 3.0], 2, random.Random(seed)) for seed in range(9)})
    [2, 4]
    """
    ranked = sorted(range(1, len(entropy_T)), key=lambda t: -entropy_T[t])[:num_tokens]
    return rng.choice(ranked) if ranked else 0
