"""Whether step scores mean what they say: reliability curves, calibration error, and the map that mends them.

The steps that count are those with a known label: of a solution without a wrong step all of them, of any other those up to
and including the first wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scope_rlvr.formulas.estimators import NUM_RESAMPLES, Floats, resamples
from scope_rlvr.salvage.rules import CalibrationMap
from scope_rlvr.scorer_lab.first_error import Estimate, estimate

NUM_BINS = 10
_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Steps whose score lies in ``[low, high)`` (the last bin has its end, too): how many, their mean score, the share right."""

    low: float
    high: float
    num_steps: int
    mean_score: float | None
    share_right: float | None


@dataclass(frozen=True, slots=True)
class Reliability:
    """The reliability curve, and the expected calibration error with its interval over rows."""

    num_steps: int
    bins: tuple[ReliabilityBin, ...]
    error: Estimate


@dataclass(frozen=True, slots=True)
class LabelledScores:
    """Scores and labels of the steps of one row whose label is known."""

    scores: tuple[float, ...]
    is_right: tuple[bool, ...]


def reliability(
    rows: Sequence[LabelledScores], *, num_bins: int = NUM_BINS, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> Reliability:
    """Bins of equal width over [0, 1], and ``ECE = Σ_b n_b/n · |share right_b − mean score_b|``.

    Source: Guo et al. 2017 (arXiv 1706.04599), equation 3. With few steps a bin the error is biased upwards: a perfect
    scorer has one above 0. Raises ``ValueError`` for scores outside [0, 1], which are no probabilities.

    >>> found = reliability([LabelledScores((0.95, 0.85, 0.15), (True, True, False)), LabelledScores((0.85,), (False,))])
    >>> [(b.num_steps, b.mean_score, b.share_right) for b in found.bins if b.num_steps]
    [(1, 0.15, 0.0), (2, 0.85, 0.5), (1, 0.95, 1.0)]
    >>> round(found.error.value, 4)  # (0.15 + 2 * 0.35 + 0.05) / 4
    0.225
    """
    scores, is_right, row_of = _flat(rows)
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        raise ValueError(f"a probability lies in [0, 1]; these scores reach from {scores.min():g} to {scores.max():g}")
    edges = np.arange(num_bins + 1) / num_bins
    bin_of = np.minimum(np.searchsorted(edges, scores, side="right") - 1, num_bins - 1)
    sums_CNB = np.zeros((3, max(1, len(rows)), num_bins))
    for sums_NB, values in zip(sums_CNB, (np.ones_like(scores), scores, is_right), strict=True):
        np.add.at(sums_NB, (row_of, bin_of), values)
    num_B, score_B, right_B = sums_CNB.sum(axis=1)
    errors = [_error(num_B[None], score_B[None], right_B[None])]
    for counts_RN in resamples(sums_CNB.shape[1], seed=seed, num_resamples=num_resamples):
        errors.append(_error(*(counts_RN @ sums_NB for sums_NB in sums_CNB)))
    bins = [
        ReliabilityBin(float(low), float(high), int(n), *((float(s / n), float(r / n)) if n else (None, None)))
        for low, high, n, s, r in zip(edges, edges[1:], num_B, score_B, right_B, strict=False)
    ]
    return Reliability(len(scores), tuple(bins), estimate(np.concatenate(errors)))


def _flat(rows: Sequence[LabelledScores]) -> tuple[Floats, Floats, np.ndarray]:
    """Scores, labels and row numbers of all steps."""
    scores = np.array([score for row in rows for score in row.scores], dtype=float)
    is_right = np.array([right for row in rows for right in row.is_right], dtype=float)
    return scores, is_right, np.repeat(np.arange(len(rows)), [len(row.scores) for row in rows])


def _error(num_RB: Floats, score_RB: Floats, right_RB: Floats) -> Floats:
    """``n_b · |share_b − mean_b|`` is ``|right_b − score_b|`` of the sums."""
    with np.errstate(invalid="ignore"):
        return np.abs(right_RB - score_RB).sum(axis=1) / num_RB.sum(axis=1)


def isotonic_map(scores: Sequence[float], is_right: Sequence[bool]) -> CalibrationMap:
    """The rising map from scores to probabilities of being right with the least squared error.

    Pool adjacent violators: from the lowest score on, neighbours whose share of right steps falls are pooled into one
    block. A block is a level stretch of the map; between blocks the map is a straight line. Source: Ayer et al. 1955;
    for calibration, Zadrozny and Elkan 2002. Raises ``ValueError`` without a step.

    >>> isotonic_map([0.1, 0.2, 0.3, 0.4], [False, True, False, True])
    CalibrationMap(scores=(0.1, 0.2, 0.3, 0.4), probabilities=(0.0, 0.5, 0.5, 1.0))
    """
    if not len(scores):
        raise ValueError("a calibration needs at least one labelled step")
    distinct, at = np.unique(np.asarray(scores, dtype=float), return_inverse=True)
    counts, rights = np.bincount(at), np.bincount(at, weights=np.asarray(is_right, dtype=float))
    blocks: list[tuple[float, float, float, float]] = []  # lowest and highest score, steps, right steps
    for score, count, right in zip(distinct.tolist(), counts.tolist(), rights.tolist(), strict=True):
        block = (score, score, count, right)
        # Shares are compared as products: equal ones pool whatever their rounding.
        while blocks and blocks[-1][3] * block[2] >= block[3] * blocks[-1][2]:
            low, _, count_before, right_before = blocks.pop()
            block = (low, block[1], count_before + block[2], right_before + block[3])
        blocks.append(block)
    points = [(end, right / count) for low, high, count, right in blocks for end in dict.fromkeys((low, high))]
    return CalibrationMap(scores=tuple(p[0] for p in points), probabilities=tuple(p[1] for p in points))


def calibrated_elsewhere(rows: Sequence[LabelledScores], *, seed: int = 0) -> list[LabelledScores]:
    """The rows with calibrated scores, each by a map that was fitted without it: five folds of whole rows.

    What a map promises on the rows that it was fitted to is too good; this is what it keeps. Needs two rows.
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    calibrated: list[LabelledScores | None] = [None] * len(rows)
    for fold in range(min(_NUM_FOLDS, len(rows))):
        held = set(order[fold::_NUM_FOLDS].tolist())
        others = [row for i, row in enumerate(rows) if i not in held]
        mapped = isotonic_map([s for row in others for s in row.scores], [r for row in others for r in row.is_right])
        for i in held:
            calibrated[i] = LabelledScores(tuple(map(mapped.probability, rows[i].scores)), rows[i].is_right)
    return [row for row in calibrated if row is not None]
