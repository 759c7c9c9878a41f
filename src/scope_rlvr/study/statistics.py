"""What a few seeds can tell: intervals, paired comparisons, and readings of mean curves.

Every function takes one number a seed. Seeds are the units: two arms with one seed saw the same problems in the same order,
so their difference is taken seed by seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

EXACT_SIGN_FLIPS = 12
"""Up to this many pairs, all sign flips are counted (4096); above, they are drawn."""

_MONTE_CARLO_DRAWS = 100_000
_SMOOTHING_REACH = 1


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over seeds with the ends of its interval; ``low`` and ``high`` are ``None`` where one seed is all there is."""

    mean: float
    low: float | None
    high: float | None
    num_seeds: int


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """``one − other`` over the seeds that both have, with two p-values of "no difference"."""

    interval: Interval
    p_t: float | None
    p_sign_flip: float | None


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """The mean and its Student-t interval, ``x̄ ± t_{(1+level)/2, n−1} · s/√n`` with ``s`` the sample deviation (n − 1).

    Exact for independent normal values, close for the bell-shaped ones that accuracies of seeds usually are.
    Source: Student 1908. Raises ``ValueError`` without a value.

    >>> found = mean_interval([1.0, 2.0, 3.0])  # t_{0.975, 2} = 4.302653, s/√n = 0.577350
    >>> found.mean, round(found.low, 4), round(found.high, 4)
    (2.0, -0.4841, 4.4841)
    """
    if not values:
        raise ValueError("a mean needs at least one value")
    count, mean = len(values), math.fsum(values) / len(values)
    if count == 1:
        return Interval(mean, None, None, 1)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    reach = float(stats.t.ppf((1 + level) / 2, count - 1)) * error
    return Interval(mean, mean - reach, mean + reach, count)


def paired_difference(one: Sequence[float], other: Sequence[float], level: float = 0.95) -> PairedDifference:
    """Differences seed by seed: their mean with its t interval, and the p-values of the two tests below.

    Raises ``ValueError`` for sequences of different lengths.

    >>> found = paired_difference([3.0, 5.0, 7.0], [1.0, 2.0, 3.0])
    >>> found.interval.mean, round(found.p_t, 4), found.p_sign_flip
    (3.0, 0.0351, 0.25)
    """
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return PairedDifference(mean_interval(differences, level), t_test(differences), sign_flip_test(differences))


def t_test(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of a mean of zero: ``2 · P(T_{n−1} ≥ |d̄| / (s/√n))``; ``None`` for fewer than two pairs.

    Source: Student 1908, the paired test. Differences that are all the same have no spread: p is 1 where they are
    zero, else 0.

    >>> round(t_test([2.0, 3.0, 4.0]), 4)  # t = 3 / 0.57735 = 5.19615 with 2 degrees of freedom
    0.0351
    """
    count = len(differences)
    if count < 2:
        return None
    mean, error = math.fsum(differences) / count, float(np.std(differences, ddof=1)) / math.sqrt(count)
    if error < 1e-12 * max(1.0, abs(mean)):
        return 1.0 if abs(mean) < 1e-12 else 0.0
    return float(2 * stats.t.sf(abs(mean) / error, count - 1))


def sign_flip_test(differences: Sequence[float], *, seed: int = 0, num_draws: int = _MONTE_CARLO_DRAWS) -> float | None:
    """Two-sided p-value of the sign-flip permutation test of "each difference might as well have the other sign".

    The share of all ``2ⁿ`` ways of flipping signs whose ``|Σ ±d|`` is at least the observed one. It needs no bell shape, and
    cannot fall below ``2/2ⁿ``: with 5 pairs not below 0.0625. Above 12 pairs ``num_draws`` flips are drawn with a seed, and p is
    ``(hits + 1)/(num_draws + 1)``. Source: Fisher 1935; the Monte Carlo form, Phipson and Smyth 2010. ``None`` without
    a pair.

    >>> sign_flip_test([2.0, 3.0, 4.0])  # +++ and --- of 8
    0.25
    >>> sign_flip_test([2.0, -1.0])  # |sum| = 1 or more: all four
    1.0
    """
    if not differences:
        return None
    values = np.asarray(differences, dtype=float)
    # Flips that are equal on paper must count as equal in floating point.
    threshold = abs(values.sum()) - 1e-9 * np.abs(values).sum()
    if len(values) <= EXACT_SIGN_FLIPS:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(values))))
        return float(np.mean(np.abs(signs @ values) >= threshold))
    rng, hits, left = np.random.default_rng(seed), 0, num_draws
    while left:
        rows = min(left, 10_000)
        signs = rng.integers(0, 2, (rows, len(values))) * 2.0 - 1.0
        hits += int(np.sum(np.abs(signs @ values) >= threshold))
        left -= rows
    return (hits + 1) / (num_draws + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for being several: the i-th smallest of m times ``m − i + 1``, never below a smaller one's, at most 1.

    Calling those below α significant keeps the chance of any false call at α, however the tests depend on each other. Source: Holm
    1979.

    >>> [round(p, 6) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def relative_change(one: Sequence[float], other: Sequence[float], level: float = 0.95) -> Interval | None:
    """How much larger ``one`` is than ``other``, as a share: ``exp(mean of ln(one/other)) − 1``, its interval the t interval of the
    logarithms. ``None`` where a value is not positive, or without a pair.

    >>> found = relative_change([2.0, 8.0], [1.0, 4.0])
    >>> round(found.mean, 6), round(found.low, 6)
    (1.0, 1.0)
    """
    pairs = list(zip(one, other, strict=True))
    if not pairs or min(min(pair) for pair in pairs) <= 0:
        return None
    logs = mean_interval([math.log(a / b) for a, b in pairs], level)
    low, high = (None if end is None else math.exp(end) - 1 for end in (logs.low, logs.high))
    return Interval(math.exp(logs.mean) - 1, low, high, logs.num_seeds)


def interpolate(xs: Sequence[float], ys: Sequence[float], at: float) -> float | None:
    """The curve's height at ``at``, straight between its points; ``None`` outside of them. ``xs`` ascend.

    >>> interpolate([10, 20], [0.0, 1.0], 15), interpolate([10, 20], [0.0, 1.0], 25)
    (0.5, None)
    """
    if not xs or not xs[0] <= at <= xs[-1]:
        return None
    return float(np.interp(at, xs, ys))


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and its two neighbours, at the ends of the value and its one neighbour.

    >>> smoothed([0.0, 3.0, 3.0, 6.0])
    [1.5, 2.0, 4.0, 4.5]
    """
    reach = _SMOOTHING_REACH
    windows = [values[max(0, i - reach) : i + reach + 1] for i in range(len(values))]
    return [math.fsum(window) / len(window) for window in windows]


def first_reached(xs: Sequence[float], ys: Sequence[float], target: float) -> float | None:
    """Where a curve first reaches ``target``, straight between its points; ``None`` where it never does.

    A curve that begins at or above the target has reached it at its first point, or before: nothing earlier was measured.

    >>> first_reached([10, 20, 30], [0.0, 0.5, 0.25], 0.25), first_reached([10, 20], [0.0, 0.5], 0.75)
    (15.0, None)
    """
    for i, y in enumerate(ys):
        if y < target:
            continue
        if i == 0:
            return float(xs[0])
        share = (target - ys[i - 1]) / (y - ys[i - 1])
        return float(xs[i - 1] + share * (xs[i] - xs[i - 1]))
    return None
