"""Estimators of what repeated sampling achieves, with intervals over problems."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import fmean

import numpy as np


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of ``k`` samples is right: ``1 − C(n−c, k)/C(n, k)``.

    Source: Chen et al. 2021 (Codex), equation 1. Raises ``ValueError`` when ``k`` exceeds the number of samples.

    >>> pass_at_k(4, 1, 2), pass_at_k(4, 4, 1), pass_at_k(4, 0, 4)
    (0.5, 1.0, 0.0)
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, got {num_samples}")
    return 1 - comb(num_samples - num_right, k) / comb(num_samples, k)


def bootstrap_interval(
    values_P: Sequence[float], *, seed: int = 0, num_resamples: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over problems.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    values = np.asarray(values_P, dtype=float)
    draws = np.random.default_rng(seed).integers(0, len(values), (num_resamples, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_pass_at_k(num_right_P: Sequence[int], num_samples: int, k: int) -> float:
    """Mean of :func:`pass_at_k` over problems.

    >>> mean_pass_at_k([1, 0], num_samples=4, k=2)
    0.25
    """
    return fmean(pass_at_k(num_samples, num_right, k) for num_right in num_right_P)
