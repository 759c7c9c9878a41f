"""Which decision rule, at which level, reads a scorer's scores best: exact over all levels, on labelled rows.

Every rule here has the same shape: a step gets a **signal**, and the first step whose signal lies below the rule's
**level** is the first wrong one. For the threshold rule the signal is the score itself and the level the threshold. As the
level rises, the step that is found only moves forward, so the outcome of a row changes at three levels at most, and a
curve over all levels is a running sum over rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from scope_rlvr.formulas.estimators import LEVEL, NUM_RESAMPLES, Floats, resamples
from scope_rlvr.salvage.rules import AnyRule, ArgMin, Calibrated, Drop, Threshold, TwoInARow
from scope_rlvr.scorer_lab.first_error import Estimate, PredictionOutcome, estimate

_OUTCOMES = tuple(PredictionOutcome)
_NARROW = 1e-9
"""Share of the range of levels below which two of them are the same."""
_CODE = {outcome: code for code, outcome in enumerate(_OUTCOMES)}


@dataclass(frozen=True)
class RuleKind:
    """A kind of rule with one level: ``signals`` of a row's scores, the rule at a level, the open range of its levels."""

    name: str
    signals: Callable[[Sequence[float]], Sequence[float]]
    rule: Callable[[float], AnyRule]
    low: float = -math.inf
    high: float = math.inf


def _lowest_alone(scores_S: Sequence[float]) -> list[float]:
    lowest = min(range(len(scores_S)), key=scores_S.__getitem__)
    return [score if k == lowest else math.inf for k, score in enumerate(scores_S)]


def _changes(first: float, scores_S: Sequence[float]) -> list[float]:
    return [first, *(after - before for before, after in pairwise(scores_S))]


def kind_of(rule: AnyRule, low: float = -math.inf, high: float = math.inf) -> RuleKind:
    """The kind that a rule belongs to; everything but its level stays. ``low`` and ``high`` bound the scorer's scores.

    >>> kind = kind_of(Drop(drop=0.2))
    >>> [round(signal, 2) for signal in kind.signals([0.9, 0.8, 0.3])], kind.rule(-0.4).drop
    ([inf, -0.1, -0.5], 0.4)
    """

    def at(field: str, sign: int = 1) -> Callable[[float], Any]:
        return lambda level: rule.model_copy(update={field: sign * level})

    if isinstance(rule, Threshold):
        return RuleKind(rule.kind, lambda scores_S: scores_S, at("threshold"), low, high)
    if isinstance(rule, TwoInARow):
        return RuleKind(
            rule.kind,
            lambda s: [*map(max, pairwise(s)), s[-1]],
            at("threshold"),
            low,
            high,
        )
    if isinstance(rule, ArgMin):
        return RuleKind(rule.kind, _lowest_alone, at("below"), low, high)
    if isinstance(rule, Drop):
        below = rule.first_below

        def changes(scores_S: Sequence[float]) -> list[float]:
            return _changes(-math.inf if below is not None and scores_S[0] < below else math.inf, scores_S)

        return RuleKind(rule.kind, changes, at("drop", -1), -math.inf, 0.0)
    if isinstance(rule, Calibrated) and rule.map is not None:
        probability = rule.map.probability
        return RuleKind(rule.kind, lambda scores_S: list(map(probability, scores_S)), at("threshold"), 0.0, 1.0)
    raise ValueError(f"no level can be chosen for the rule {rule!r}")


def rule_kinds(low: float = -math.inf, high: float = math.inf) -> list[RuleKind]:
    """One of each kind that reads plain scores between ``low`` and ``high``."""
    return [kind_of(rule, low, high) for rule in (Threshold(), TwoInARow(), Drop(), ArgMin())]


@dataclass(frozen=True)
class ScoredRow:
    """The scores of a row's steps, and its first wrong step or ``None``."""

    scores: tuple[float, ...]
    first_wrong: int | None


class LevelSearch:
    """The outcomes of rows at every level of a rule.

    Levels lie in the middle between neighbouring levels at which something changes (``widths_L`` is the distance of
    those two), so that a chosen one keeps away from both. ``base_N`` is a row's outcome below all levels, an event a
    change of one row's outcome.

    >>> search = LevelSearch(rule_kinds()[0], [ScoredRow((0.9, 0.2), 1), ScoredRow((0.8, 0.6), None)])
    >>> search.levels_L.round(2).tolist()
    [-0.3, 0.4, 0.75, 1.4]
    >>> search.totals({PredictionOutcome.EXACT: 1.0, PredictionOutcome.LEFT_ALONE: 1.0}).tolist()
    [1.0, 2.0, 1.0, 0.0]
    """

    def __init__(self, kind: RuleKind, rows: Sequence[ScoredRow]) -> None:
        self.kind = kind
        self.base_N = np.array(
            [_CODE[PredictionOutcome.LEFT_ALONE if r.first_wrong is None else PredictionOutcome.MISSED] for r in rows]
        )
        events = [(level, i, *change) for i, row in enumerate(rows) for level, change in _events(kind, row)]
        events.sort(key=lambda event: event[0])
        at_K = np.array([event[0] for event in events], dtype=float)
        self._row_K, self._from_K, self._to_K = np.array([event[1:] for event in events], dtype=int).reshape(-1, 3).T
        self.levels_L, self.widths_L = _levels(at_K, kind.low, kind.high)
        self._num_before_L = np.searchsorted(at_K, self.levels_L, side="left")

    def totals(self, value_of: Mapping[PredictionOutcome, float], weights_N: Floats | None = None) -> Floats:
        """At each level the sum of the rows' values, each times the row's weight; an outcome without a value has 0."""
        values = np.array([value_of.get(outcome, 0.0) for outcome in _OUTCOMES])
        weights_N = np.ones(len(self.base_N)) if weights_N is None else weights_N
        change_K = (values[self._to_K] - values[self._from_K]) * weights_N[self._row_K]
        running = np.concatenate([[0.0], np.cumsum(change_K)])
        return (values[self.base_N] * weights_N).sum() + running[self._num_before_L]

    def best(self, score_L: Floats) -> int:
        """The level of the highest score; of equals, the one farthest from a change."""
        is_best_L = score_L >= score_L.max() - 1e-9
        return int(np.argmax(np.where(is_best_L, self.widths_L, -1.0)))

    def rule(self, index: int) -> AnyRule:
        return self.kind.rule(float(self.levels_L[index]))


def _events(kind: RuleKind, row: ScoredRow) -> list[tuple[float, tuple[int, int]]]:
    """Levels above which a row's outcome is another one, with the outcomes below and above."""
    lowest_S = np.minimum.accumulate(np.asarray(kind.signals(row.scores), dtype=float))
    if row.first_wrong is None:
        changes = [(lowest_S[-1], (_CODE[PredictionOutcome.LEFT_ALONE], _CODE[PredictionOutcome.FALSE_ALARM]))]
    else:
        changes = [
            (lowest_S[-1], (_CODE[PredictionOutcome.MISSED], _CODE[PredictionOutcome.LATE])),
            (lowest_S[row.first_wrong], (_CODE[PredictionOutcome.LATE], _CODE[PredictionOutcome.EXACT])),
        ]
        if row.first_wrong:
            changes.append(
                (lowest_S[row.first_wrong - 1], (_CODE[PredictionOutcome.EXACT], _CODE[PredictionOutcome.EARLY]))
            )
    return [(float(level), change) for level, change in changes if level < math.inf]


def _levels(at_K: Floats, low: float, high: float) -> tuple[Floats, Floats]:
    """One level in each stretch between changes, and the lengths of those stretches."""
    inner = np.unique(at_K[(at_K > low) & (at_K < high)])
    nearest = inner if len(inner) else np.array([next((end for end in (low, high) if math.isfinite(end)), 0.0)])
    beyond = max(1.0, float(nearest[-1] - nearest[0]))
    first = low if math.isfinite(low) else float(nearest[0]) - beyond
    last = high if math.isfinite(high) else float(nearest[-1]) + beyond
    edges = np.concatenate([[first], inner, [last]])
    widths = np.diff(edges)
    # What lies closer together differs by rounding, and a rule rounds in its own way.
    is_wide = widths > _NARROW * (last - first)
    return (edges[:-1] + widths / 2)[is_wide], widths[is_wide]


def best_f1(kind: RuleKind, rows: Sequence[ScoredRow]) -> AnyRule:
    """The rule of a kind with the highest F1 on these rows, which must be of both sorts."""
    search = LevelSearch(kind, rows)
    num_right = sum(row.first_wrong is None for row in rows)
    on_wrong_L = search.totals({PredictionOutcome.EXACT: 1.0}) / max(1, len(rows) - num_right)
    on_right_L = search.totals({PredictionOutcome.LEFT_ALONE: 1.0}) / max(1, num_right)
    total_L = on_wrong_L + on_right_L
    f1_L = np.where(total_L > 0, 2 * on_wrong_L * on_right_L / np.where(total_L > 0, total_L, 1.0), 0.0)
    return search.rule(search.best(f1_L))


# --- by cost ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MistakeCosts:
    """What a mistake costs, in units of one cut that came too early; an exact find and a right row left alone cost nothing.

    Too early, right steps are thrown away and the teacher writes what the policy had right. Too late, a wrong step is
    kept and, if the correction leads to the right answer after all, rewarded. Missed, a failure stays as it was.
    """

    late: float
    missed: float = 1.0
    false_alarm: float = 1.0
    early: float = 1.0

    def of(self) -> dict[PredictionOutcome, float]:
        return {
            PredictionOutcome.EARLY: self.early,
            PredictionOutcome.LATE: self.late,
            PredictionOutcome.MISSED: self.missed,
            PredictionOutcome.FALSE_ALARM: self.false_alarm,
        }


@dataclass(frozen=True)
class RuleChoice:
    """The rule with the lowest mean cost a row, and how sure that is.

    ``cost`` is its mean cost on the rows that it was chosen on, ``cost_elsewhere`` what rules chosen on resamples of the
    rows cost on the rows left out of each: the honest figure. ``level_interval`` holds 95 % of the levels that resamples
    choose where they choose this kind, ``kind_shares`` the share of resamples that choose each kind.
    """

    rule: AnyRule
    cost: Estimate
    cost_elsewhere: Estimate
    level_interval: tuple[float, float]
    kind_shares: dict[str, float]


def cheapest(
    kinds: Sequence[RuleKind],
    rows: Sequence[ScoredRow],
    costs: MistakeCosts,
    *,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> RuleChoice:
    """The rule and level of least expected cost, ``mean over rows of cost(outcome)``, with a bootstrap over rows.

    >>> rows = [ScoredRow((0.9, 0.2), 1), ScoredRow((0.8, 0.3, 0.9), 1), ScoredRow((0.8, 0.7), None)] * 5
    >>> choice = cheapest(rule_kinds(0.0, 1.0)[:1], rows, MistakeCosts(late=5.0), num_resamples=100)
    >>> choice.rule.threshold, choice.cost.value, choice.cost_elsewhere.value
    (0.5, 0.0, 0.0)
    """
    searches = [LevelSearch(kind, rows) for kind in kinds]
    values = costs.of()

    def choose(weights_N: Floats) -> tuple[int, int, float]:
        """Kind, level and total cost; of kinds that cost the same, the first."""
        found = []
        for search in searches:
            cost_L = search.totals(values, weights_N)
            index = search.best(-cost_L)
            found.append((index, float(cost_L[index])))
        which = min(range(len(found)), key=lambda i: round(found[i][1], 9))
        return which, *found[which]

    chosen, index, cost = choose(np.ones(len(rows)))
    here, elsewhere, picked = [cost / len(rows)], [], []
    for counts_RN in resamples(len(rows), seed=seed, num_resamples=num_resamples):
        for counts_N in counts_RN:
            which, at, _ = choose(counts_N)
            picked.append((which, float(searches[which].levels_L[at])))
            here.append(float(searches[chosen].totals(values, counts_N)[index]) / len(rows))
            is_out_N = (counts_N == 0).astype(float)
            if is_out_N.any():
                elsewhere.append(float(searches[which].totals(values, is_out_N)[at] / is_out_N.sum()))
    levels = [level for which, level in picked if which == chosen] or [float(searches[chosen].levels_L[index])]
    low, high = np.quantile(levels, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return RuleChoice(
        rule=searches[chosen].rule(index),
        cost=estimate(np.array(here)),
        cost_elsewhere=estimate(np.array([np.mean(elsewhere), *elsewhere])) if elsewhere else Estimate(None, None),
        level_interval=(float(low), float(high)),
        kind_shares={k.name: sum(which == i for which, _ in picked) / len(picked) for i, k in enumerate(kinds)},
    )


def mean_cost(outcomes: Sequence[PredictionOutcome], costs: MistakeCosts) -> float:
    """Mean cost a row.

    >>> mean_cost([PredictionOutcome.EXACT, PredictionOutcome.LATE, PredictionOutcome.MISSED, PredictionOutcome.EARLY], MistakeCosts(late=5.0))
    1.75
    """
    values = costs.of()
    return math.fsum(values.get(outcome, 0.0) for outcome in outcomes) / len(outcomes)
