"""Decision rules: from the scores of a rollout's steps to its first wrong step.

A rule is separate from the scorer, because equal scores of two scorers mean different things. Each family of scorers has
its own default rule.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings


class Threshold(Settings):
    """The first step with a score below ``threshold``: ``k* = min{k : s_k < threshold}``.

    A larger threshold never finds a later step. ProcessBench defines the first wrong step in this way. The step with the
    lowest score may be another one, and steps after the first wrong one often score high again.

    >>> Threshold(threshold=0.5).first_wrong([0.9, 0.2, 0.1, 0.8])
    1
    >>> Threshold(threshold=0.5).first_wrong([0.9, 0.7]) is None
    True
    """

    kind: Literal["threshold"] = "threshold"
    threshold: float = 0.5

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        return next((k for k, score in enumerate(step_scores_S) if score < self.threshold), None)

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        return step_scores_S[-1] >= self.threshold


class Drop(Settings):
    """The first step that scores more than ``drop`` below the step before it: ``k* = min{k : s_k < s_(k-1) − drop}``.

    For scorers whose absolute scores mean little. The first step has no step before it: it is wrong if it scores below
    ``first_below``, and never if that is ``None``. Source: PRMBench reads Skywork's scores by their change; above −0.05 a
    step is valid.

    >>> Drop(drop=0.2).first_wrong([0.5, 0.45, 0.1, 0.9])
    2
    >>> Drop(drop=0.2, first_below=0.6).first_wrong([0.5, 0.45])
    0
    """

    kind: Literal["drop"] = "drop"
    drop: float = Field(0.05, gt=0)
    first_below: float | None = None

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        ends = range(1, len(step_scores_S) + 1)
        return next((end - 1 for end in ends if not self.accepts(step_scores_S[max(0, end - 2) : end])), None)

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        if len(step_scores_S) == 1:
            return self.first_below is None or step_scores_S[0] >= self.first_below
        return step_scores_S[-1] >= step_scores_S[-2] - self.drop


class ArgMin(Settings):
    """The step with the lowest score, the earliest of equals, if that score is below ``below``.

    With ``below`` of ``None`` every solution has a wrong step, even a right one.

    >>> ArgMin().first_wrong([0.9, 0.4, 0.2, 0.8])
    2
    >>> ArgMin(below=0.1).first_wrong([0.9, 0.4, 0.2, 0.8]) is None
    True
    """

    kind: Literal["argmin"] = "argmin"
    below: float | None = None

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        if not step_scores_S:
            return None
        lowest = min(range(len(step_scores_S)), key=step_scores_S.__getitem__)
        return lowest if self.below is None or step_scores_S[lowest] < self.below else None

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        """Without ``below``, a step passes unless it scores below all steps before it; a first step always passes."""
        if self.below is not None and step_scores_S[-1] < self.below:
            return False
        return self.below is not None or len(step_scores_S) == 1 or step_scores_S[-1] >= min(step_scores_S[:-1])


class TwoInARow(Settings):
    """The first of two neighbouring steps that both score below ``threshold``; one low score alone counts as noise.

    The last step has no step after it, so its own low score is enough. Never finds an earlier step than
    :class:`Threshold`.

    >>> TwoInARow(threshold=0.5).first_wrong([0.9, 0.2, 0.8, 0.3, 0.1])
    3
    >>> TwoInARow(threshold=0.5).first_wrong([0.9, 0.2, 0.8, 0.3])
    3
    """

    kind: Literal["two_in_a_row"] = "two_in_a_row"
    threshold: float = 0.5

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        is_low_S = [score < self.threshold for score in step_scores_S]
        return next((k for k, low in enumerate(is_low_S) if low and all(is_low_S[k : k + 2])), None)

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        return step_scores_S[-1] >= self.threshold


class CalibrationMap(Settings):
    """A monotone map from a score to the probability that the step is right: straight lines between its points.

    A score outside the points gets the probability of the nearest point.

    >>> CalibrationMap(scores=(0.2, 0.6), probabilities=(0.1, 0.9)).probability(0.3)
    0.3
    """

    scores: tuple[float, ...] = Field(min_length=1)
    probabilities: tuple[Annotated[float, Field(ge=0, le=1)], ...]

    @model_validator(mode="after")
    def _rises(self) -> CalibrationMap:
        if len(self.scores) != len(self.probabilities):
            raise ValueError(
                f"{len(self.scores)} scores and {len(self.probabilities)} probabilities; give one for each"
            )
        if any(b <= a for a, b in pairwise(self.scores)):
            raise ValueError("the scores of a calibration must rise from point to point")
        if any(b < a for a, b in pairwise(self.probabilities)):
            raise ValueError("a calibration must not fall: a higher score cannot mean a lower probability")
        return self

    def probability(self, score: float) -> float:
        right = bisect_right(self.scores, score)
        if right in (0, len(self.scores)):
            return self.probabilities[min(right, len(self.scores) - 1)]
        (low, high), (at_low, at_high) = self.scores[right - 1 : right + 1], self.probabilities[right - 1 : right + 1]
        return at_low + (at_high - at_low) * (score - low) / (high - low)


class Calibrated(Settings):
    """The first step whose calibrated probability of being right is below ``threshold``.

    Without ``map``, the ``calibration`` in the scorer's own ``scorer.json`` is used.

    >>> map = CalibrationMap(scores=(0.70, 0.74), probabilities=(0.0, 1.0))
    >>> Calibrated(map=map, threshold=0.5).first_wrong([0.735, 0.73, 0.71])
    2
    """

    kind: Literal["calibrated"] = "calibrated"
    threshold: float = Field(0.5, gt=0, le=1)
    map: CalibrationMap | None = None

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        return next((k for k, score in enumerate(step_scores_S) if not self.accepts([score])), None)

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        if self.map is None:
            raise ValueError(
                "the rule 'calibrated' has no map from scores to probabilities; calibrate the scorer first"
            )
        return self.map.probability(step_scores_S[-1]) >= self.threshold


AnyRule = Annotated[Threshold | Drop | ArgMin | TwoInARow | Calibrated, BARE_NAME, BY_KIND]
"""Every decision rule, told apart by ``kind``."""
