"""Where a failure is cut."""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import StrEnum


class Cut(StrEnum):
    """Where a failure is cut.

    ``FIRST_WRONG``: at the first wrong step, by the step scorer: the method. The others keep everything else as it is and
    tell what the scorer is worth. ``RANDOM_STEP``: at the start of a step drawn at random, the first excepted.
    ``HIGH_ENTROPY``: at a token drawn from the ``NUM_ENTROPY_TOKENS`` at which the policy was least certain (CURE).
    """

    FIRST_WRONG = "first_wrong"
    RANDOM_STEP = "random_step"
    HIGH_ENTROPY = "high_entropy"


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
