"""What training did to a policy's reach: measures of the papers that ask whether it learned anything new.

A problem's record is a pair ``(n, c)``: ``c`` of ``n`` unaided samples were right. ``start`` is the policy before training and
``now`` the one after it, on the same problems in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

import numpy as np

from scope_rlvr.formulas.estimators import pass_at_k

Counts = Sequence[tuple[int, int]]
"""``(P,)``: samples, and how many of them were right, for each problem."""


@dataclass(frozen=True, slots=True)
class SupportChange:
    """Which problems are solved at all, with ``k`` samples each, before and after.

    ``kept`` are solved by both policies, ``lost`` by the first alone, ``found`` by the second alone, ``neither`` by none.

    >>> change = SupportChange(kept=6, lost=2, found=1, neither=1)
    >>> change.retention, round(change.discovery, 3), round(change.net, 3)
    (0.75, 0.143, -0.111)
    """

    kept: int
    lost: int
    found: int
    neither: int

    @property
    def retention(self) -> float:
        """Support retention rate: ``kept / (kept + lost)``."""
        return _ratio(self.kept, self.kept + self.lost)

    @property
    def discovery(self) -> float:
        """Net discovery rate: ``found / (kept + found)``."""
        return _ratio(self.found, self.kept + self.found)

    @property
    def score(self) -> float:
        """Support dynamic score: the harmonic mean of retention and discovery."""
        return _ratio(2 * self.retention * self.discovery, self.retention + self.discovery)

    @property
    def net(self) -> float:
        """Net support change rate: ``(found − lost) / (kept + lost + found)``."""
        return _ratio(self.found - self.lost, self.kept + self.lost + self.found)


def support_change(start_P: Counts, now_P: Counts) -> SupportChange:
    """Problems that each policy solves at least once. Source: Wu et al. 2025 (Invisible Leash), arXiv 2507.14843.

    Both need equally many samples of a problem: more samples solve more problems. ``ValueError`` where they differ.

    >>> support_change([(4, 1), (4, 0), (4, 2)], [(4, 3), (4, 1), (4, 0)])
    SupportChange(kept=1, lost=1, found=1, neither=0)
    """
    _require_like(start_P, now_P)
    solved = [(before > 0, after > 0) for (_, before), (_, after) in zip(start_P, now_P, strict=True)]
    return SupportChange(
        *(solved.count(which) for which in ((True, True), (True, False), (False, True), (False, False)))
    )


def crossing(start_P: Counts, now_P: Counts) -> int | None:
    """The smallest ``k`` at which the starting policy's pass@k is above the trained one's; ``None`` where that never happens.

    Training that only sharpens wins at ``k = 1`` and loses at a large ``k``. Source: Yue et al. 2025, arXiv 2504.13837.

    >>> crossing([(4, 1), (4, 1)], [(4, 4), (4, 0)])  # pass@1 ¼ against ½, pass@2 ½ against ½, pass@3 ¾ against ½
    3
    """
    _require_like(start_P, now_P)
    for k in range(1, min((n for n, _ in start_P), default=0) + 1):
        before, after = (fmean(pass_at_k(n, c, k) for n, c in counts) for counts in (start_P, now_P))
        if before > after + 1e-12:
            return k
    return None


@dataclass(frozen=True, slots=True)
class Shift:
    """How the success of some problems changed: their number, and the means before and after."""

    low: float
    high: float
    num_problems: int
    before: float
    after: float


def shifts_by_start(start_P: Counts, now_P: Counts, bounds: Sequence[float] = (0.0, 0.25, 0.75)) -> list[Shift]:
    """Success before and after, for groups of problems of like success before.

    A group holds the problems whose share of right samples lies above one bound and up to the next; the first holds those that
    were never solved. Interference between problems shows as a fall in the groups of middling success while easy ones rise
    (Nguyen et al. 2025, Reasoning Boundary Paradox, arXiv 2510.02230). Part of a fall is regression to the mean: a problem that was
    solved by luck once is solved less often on the next try, without any training.

    >>> [(s.num_problems, s.before, s.after) for s in shifts_by_start([(4, 0), (4, 1), (4, 4)], [(4, 2), (4, 0), (4, 4)])]
    [(1, 0.0, 0.5), (1, 0.25, 0.0), (1, 1.0, 1.0)]
    """
    _require_like(start_P, now_P)
    rates = [(b / n, a / n) for (n, b), (_, a) in zip(start_P, now_P, strict=True) if n]
    edges = [-1.0, *bounds, 1.0]
    found = []
    for low, high in pairwise(edges):
        chosen = [(before, after) for before, after in rates if low < before <= high]
        if chosen:
            before, after = (fmean(column) for column in zip(*chosen, strict=True))
            found.append(Shift(max(low, 0.0), high, len(chosen), before, after))
    return found


@dataclass(frozen=True, slots=True)
class EntropyFit:
    """``accuracy ≈ b − a · exp(H)``: what is paid for accuracy in entropy. ``r_squared`` says how well it fits."""

    a: float
    b: float
    r_squared: float

    @property
    def ceiling(self) -> float:
        """The accuracy that the fit gives to a policy without entropy: ``b − a``."""
        return self.b - self.a


def entropy_fit(entropy_S: Sequence[float], accuracy_S: Sequence[float]) -> EntropyFit | None:
    """Least squares over the steps of a run; ``None`` for fewer than three steps, or where entropy does not move.

    Source: Cui et al. 2025 (The Entropy Mechanism), arXiv 2505.22617, equation 1; entropies in nats.

    >>> import math
    >>> fit = entropy_fit([0.0, 0.5, 1.0], [0.9 - 0.2 * math.exp(h) for h in (0.0, 0.5, 1.0)])
    >>> [round(x, 6) for x in (fit.a, fit.b, fit.ceiling, fit.r_squared)]
    [0.2, 0.9, 0.7, 1.0]
    """
    x, y = np.exp(np.asarray(entropy_S, dtype=float)), np.asarray(accuracy_S, dtype=float)
    if len(x) != len(y):
        raise ValueError(f"one entropy for each accuracy, got {len(x)} and {len(y)}")
    if len(x) < 3 or np.ptp(x) < 1e-9:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    left, whole = float(np.sum((y - slope * x - intercept) ** 2)), float(np.sum((y - y.mean()) ** 2))
    return EntropyFit(-float(slope), float(intercept), 1 - left / whole if whole > 0 else 1.0)


def collapse_step(accuracy_S: Sequence[float], below: float = 0.01, stretch: int = 1) -> int | None:
    """The first step, from 1, at which the mean accuracy of the last ``stretch`` steps is less than ``below``; ``None`` if never.

    For rewards without truth, such as majority votes, the accuracy is the share of right rewards, and a late collapse marks a
    policy that outcome rewards will improve. Source: He et al. 2026, arXiv 2603.08660, model collapse step.

    >>> collapse_step([0.5, 0.2, 0.004, 0.3]), collapse_step([0.5, 0.4])
    (3, None)
    """
    for step in range(stretch, len(accuracy_S) + 1):
        if fmean(accuracy_S[step - stretch : step]) < below:
            return step
    return None


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def _require_like(start_P: Counts, now_P: Counts) -> None:
    if [n for n, _ in start_P] != [n for n, _ in now_P]:
        raise ValueError("the two policies were not sampled equally often on the same problems")
