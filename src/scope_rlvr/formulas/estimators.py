"""Estimators of what repeated sampling achieves, with intervals over problems."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import comb, exp, lgamma, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

NUM_RESAMPLES = 2000
LEVEL = 0.95
_DRAWS_AT_ONCE = 1 << 22
"""Problem indices held in memory at once."""

Floats = NDArray[np.float64]


def powers_of_two(num_samples: int) -> tuple[int, ...]:
    """The numbers k for which pass@k and maj@k are reported: 1, 2, 4, ... and the number of samples itself.

    >>> powers_of_two(8), powers_of_two(6), powers_of_two(1)
    ((1, 2, 4, 8), (1, 2, 4, 6), (1,))
    """
    return tuple(sorted({2**i for i in range(num_samples.bit_length())} | {num_samples}))


def pass_at_k(num_samples: int, num_right: int, k: int) -> float:
    """Unbiased estimate of the chance that at least one of ``k`` samples is right: ``1 − C(n−c, k)/C(n, k)``.

    Source: Chen et al. 2021 (Codex), equation 1. Raises ``ValueError`` when ``k`` exceeds the number of samples.

    >>> pass_at_k(4, 1, 2), pass_at_k(4, 4, 1), pass_at_k(4, 0, 4)
    (0.5, 1.0, 0.0)
    """
    if not 1 <= k <= num_samples:
        raise ValueError(f"pass@{k} needs at least {k} samples a problem, got {num_samples}")
    return 1 - comb(num_samples - num_right, k) / comb(num_samples, k)


def maj_at_k(num_right: int, num_wrong_A: Sequence[int], num_silent: int, k: int) -> float:
    """Unbiased estimate of the chance that the most frequent answer of ``k`` samples is the right one.

    ``num_right`` samples gave the right answer, ``num_wrong_A[a]`` the wrong answer ``a``, and ``num_silent`` none at
    all: those do not vote. Where several answers are equally frequent, one of them is drawn, so the right one counts
    1/(number of them); a sample without any vote is wrong. The estimate is the mean over all ``C(n, k)`` subsets of
    the samples (for ``k = n`` the one vote of all), so that, like :func:`pass_at_k`, it does not depend on their order.

    It is not computed by going through them. In a random subset the counts of the answers are distributed as
    independent binomial variables given that they sum to ``k``, so a table over (answers tied at m votes, samples
    used) that takes in one answer after the other is enough, for each number m of right votes. Majority voting:
    Wang et al. 2022 (self-consistency).

    Raises ``ValueError`` when ``k`` exceeds the number of samples.

    >>> maj_at_k(2, [2, 1], 0, k=5), maj_at_k(3, [1], 4, k=8)
    (0.5, 1.0)
    >>> round(maj_at_k(1, [1, 1], 0, k=2), 4)  # two of three subsets hold the right answer, each in a tie
    0.3333
    """
    num_samples = num_right + sum(num_wrong_A) + num_silent
    if not 1 <= k <= num_samples:
        raise ValueError(f"maj@{k} needs at least {k} samples with a known verdict, got {num_samples}")
    if k == num_samples or not any(num_wrong_A):
        # One subset, or one answer: then a single vote for it decides, and maj@k is pass@k.
        if k < num_samples:
            return pass_at_k(num_samples, num_right, k)
        top = max([num_right, *num_wrong_A])
        return 1 / [num_right, *num_wrong_A].count(top) if num_right == top > 0 else 0.0
    share = k / num_samples
    right, silent = _binomial(num_right, share), _binomial(num_silent, share)
    wrong_A = [_binomial(count, share) for count in num_wrong_A if count]
    chance = sum(right[m] * _chance_to_win(m, wrong_A, silent, k - m) for m in range(1, min(k, num_right) + 1))
    return float(chance / _binomial(num_samples, share)[k])


def _binomial(count: int, share: float) -> Floats:
    """Probabilities of 0 to ``count`` successes; by logarithms, since binomial coefficients outgrow a float."""
    return np.array(
        [
            exp(
                lgamma(count + 1)
                - lgamma(t + 1)
                - lgamma(count - t + 1)
                + t * log(share)
                + (count - t) * log(1 - share)
            )
            for t in range(count + 1)
        ]
    )


def _chance_to_win(votes: int, wrong_A: Sequence[Floats], silent: Floats, others: int) -> float:
    """Chance that the other answers take ``others`` samples, none more than ``votes``, times the right one's share.

    ``state[j, s]``: the answers so far hold s samples, j of them exactly ``votes``, the rest less.
    """
    state = np.zeros((min(len(wrong_A), others // votes) + 1, others + 1))
    state[0, : len(silent)] = silent[: others + 1]
    for wrong in wrong_A:
        grown = sum(_shifted(state, t) * wrong[t] for t in range(min(votes, len(wrong), others + 1)))
        if len(wrong) > votes:
            grown[1:] += _shifted(state[:-1], votes) * wrong[votes]
        state = grown
    return float((state[:, others] / np.arange(1, len(state) + 1)).sum())


def _shifted(state: Floats, by: int) -> Floats:
    """The columns moved right by so many places; what falls off the end is gone."""
    moved = np.zeros_like(state)
    moved[:, by:] = state[:, : max(0, state.shape[1] - by)]
    return moved


def bootstrap_intervals(
    values_PM: ArrayLike, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL
) -> Floats:
    """Percentile bootstrap intervals of the means of several measures over problems: ``(2, M)``, low and high ends.

    Problems are drawn with replacement, the same ones for all measures. NaN marks a measure that is not defined for a
    problem and is left out of its mean; a resample without any defined value is left out of the quantiles.
    Source: Efron and Tibshirani 1993, chapter 13.

    >>> bootstrap_intervals([[0.5, 1.0], [0.5, float("nan")]])
    array([[0.5, 1. ],
           [0.5, 1. ]])
    """
    values_MP = np.ascontiguousarray(np.asarray(values_PM, dtype=float).T)
    means = [
        [_weighted_means(counts_RP, values_P) for values_P in values_MP]
        for counts_RP in resamples(values_MP.shape[1], seed=seed, num_resamples=num_resamples)
    ]
    return np.nanquantile(np.concatenate(means, axis=1), [(1 - level) / 2, (1 + level) / 2], axis=1)


def resamples(num_rows: int, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> Iterator[Floats]:
    """How often each row is drawn when as many as there are are drawn with replacement: ``(R, N)``, some at a time.

    >>> [counts_RN.sum(axis=1).tolist() for counts_RN in resamples(4, num_resamples=3)]
    [[4.0, 4.0, 4.0]]
    """
    rng, chunk = np.random.default_rng(seed), max(1, _DRAWS_AT_ONCE // num_rows)
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        draws = rng.integers(0, num_rows, (size, num_rows)) + num_rows * np.arange(size)[:, None]
        yield np.bincount(draws.ravel(), minlength=size * num_rows).reshape(size, num_rows).astype(float)


def _weighted_means(counts_RP: Floats, values_P: Floats) -> Floats:
    """The mean of one measure in each resample. One at a time: its rounding must not depend on what else is measured."""
    is_defined = ~np.isnan(values_P)
    with np.errstate(invalid="ignore"):
        return counts_RP @ np.where(is_defined, values_P, 0) / (counts_RP @ is_defined.astype(float))


def bootstrap_interval(
    values_P: Sequence[float], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES, level: float = LEVEL
) -> tuple[float, float]:
    """:func:`bootstrap_intervals` of one measure.

    >>> bootstrap_interval([0.5, 0.5, 0.5])
    (0.5, 0.5)
    """
    values = np.asarray(values_P, dtype=float)[:, None]
    low, high = bootstrap_intervals(values, seed=seed, num_resamples=num_resamples, level=level)[:, 0]
    return float(low), float(high)
