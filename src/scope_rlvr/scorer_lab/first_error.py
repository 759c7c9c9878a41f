"""How well a step scorer finds the first wrong step: ProcessBench's figures, and which way it errs.

A row is a solution whose first wrong step is known, or that has none. ProcessBench (Zheng et al. 2024, arXiv 2412.06559,
section 3) counts a row as right when the scorer names exactly that step, or says that there is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from scope_rlvr.formulas.estimators import LEVEL, NUM_RESAMPLES, Floats, resamples


class PredictionOutcome(StrEnum):
    """How a prediction compares with the label. The first five are of rows with a wrong step, the others of rows without."""

    EXACT = "exact"
    EARLY = "too_early"
    LATE = "too_late"
    MISSED = "missed"
    UNSCORED_WRONG = "unscored_wrong"
    LEFT_ALONE = "left_alone"
    FALSE_ALARM = "false_alarm"
    UNSCORED_RIGHT = "unscored_right"


OF_WRONG = (
    PredictionOutcome.EXACT,
    PredictionOutcome.EARLY,
    PredictionOutcome.LATE,
    PredictionOutcome.MISSED,
    PredictionOutcome.UNSCORED_WRONG,
)
OF_RIGHT = (PredictionOutcome.LEFT_ALONE, PredictionOutcome.FALSE_ALARM, PredictionOutcome.UNSCORED_RIGHT)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A row's first wrong step and the one that was found: 0-based indices, ``None`` for no wrong step.

    A row that could not be scored has a prediction, too: ProcessBench counts a reply that cannot be read as wrong.

    >>> Prediction(first_wrong=3, found=1).outcome.value, Prediction(first_wrong=3, found=1).distance
    ('too_early', -2)
    """

    first_wrong: int | None
    found: int | None
    is_scored: bool = True

    @property
    def outcome(self) -> PredictionOutcome:
        if self.first_wrong is None:
            if not self.is_scored:
                return PredictionOutcome.UNSCORED_RIGHT
            return PredictionOutcome.LEFT_ALONE if self.found is None else PredictionOutcome.FALSE_ALARM
        if not self.is_scored:
            return PredictionOutcome.UNSCORED_WRONG
        if self.found is None:
            return PredictionOutcome.MISSED
        if self.found == self.first_wrong:
            return PredictionOutcome.EXACT
        return PredictionOutcome.EARLY if self.found < self.first_wrong else PredictionOutcome.LATE

    @property
    def distance(self) -> int | None:
        """Steps from the first wrong step to the one that was found, negative for too early; ``None`` without both."""
        return None if self.first_wrong is None or self.found is None else self.found - self.first_wrong


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % percentile bootstrap interval over rows; ``None`` where no row, or no resample, can tell it."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class FirstErrorFigures:
    """Figures of a set of rows, all of them shares.

    ``accuracy_wrong`` and ``accuracy_right`` are ProcessBench's accuracies on rows with and without a wrong step, ``f1``
    their harmonic mean. ``wrong`` says what became of rows with a wrong step, ``right`` of rows without, each as shares
    that sum to 1. ``distances`` counts rows by the steps between the first wrong one and the one found (0: exact).
    """

    num_wrong: int
    num_right: int
    accuracy_wrong: Estimate
    accuracy_right: Estimate
    f1: Estimate
    wrong: dict[str, Estimate]
    right: dict[str, Estimate]
    distances: dict[int, int]


def harmonic_mean(accuracy_wrong: float, accuracy_right: float) -> float:
    """ProcessBench's F1, ``2ab/(a + b)``; 0 where both are 0.

    >>> harmonic_mean(0.25, 0.75), harmonic_mean(0.0, 0.0)
    (0.375, 0.0)
    """
    total = accuracy_wrong + accuracy_right
    return 2 * accuracy_wrong * accuracy_right / total if total else 0.0


def judge(predictions: Sequence[Prediction], *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> FirstErrorFigures:
    """Every figure of these rows. Intervals are drawn over rows, of both kinds together.

    >>> rows = [Prediction(2, 2), Prediction(2, 1), Prediction(0, None), Prediction(1, 1), Prediction(None, None), Prediction(None, 0)]
    >>> found = judge(rows)
    >>> found.accuracy_wrong.value, found.accuracy_right.value, found.f1.value, found.wrong["missed"].value
    (0.5, 0.5, 0.5, 0.25)
    >>> found.distances
    {-1: 1, 0: 2}
    """
    outcomes = [prediction.outcome for prediction in predictions]
    kinds = (*OF_WRONG, *OF_RIGHT)
    # One column for each outcome: every figure is a ratio of sums of columns.
    is_kind_NF = np.array([[outcome is kind for kind in kinds] for outcome in outcomes], dtype=float).reshape(
        -1, len(kinds)
    )
    drawn_RF = [
        counts_RN @ is_kind_NF for counts_RN in resamples(len(outcomes), seed=seed, num_resamples=num_resamples)
    ]
    # The first row is the sample itself.
    sums_F = dict(zip(kinds, np.vstack([is_kind_NF.sum(axis=0), *drawn_RF]).T, strict=True))
    wrong = {kind: _ratio(sums_F[kind], sum(sums_F[k] for k in OF_WRONG)) for kind in OF_WRONG}
    right = {kind: _ratio(sums_F[kind], sum(sums_F[k] for k in OF_RIGHT)) for kind in OF_RIGHT}
    on_wrong, on_right = wrong[PredictionOutcome.EXACT], right[PredictionOutcome.LEFT_ALONE]
    total = on_wrong + on_right
    f1 = np.where(total == 0, 0.0, _ratio(2 * on_wrong * on_right, total))
    distances = Counter(d for prediction in predictions if (d := prediction.distance) is not None)
    return FirstErrorFigures(
        num_wrong=sum(outcome in OF_WRONG for outcome in outcomes),
        num_right=sum(outcome in OF_RIGHT for outcome in outcomes),
        accuracy_wrong=estimate(on_wrong),
        accuracy_right=estimate(on_right),
        f1=estimate(f1),
        wrong={kind.value: estimate(share) for kind, share in wrong.items()},
        right={kind.value: estimate(share) for kind, share in right.items()},
        distances=dict(sorted(distances.items())),
    )


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        return above / below


def estimate(values_R: Floats) -> Estimate:
    """The first value with the quantiles of the others; NaN is left out of them, and ``None`` where it is the value."""
    value, drawn = float(values_R[0]), values_R[1:]
    if np.isnan(value):
        return Estimate(None, None)
    if np.isnan(drawn).all():
        return Estimate(value, None)
    low, high = np.nanquantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, (float(low), float(high)))
