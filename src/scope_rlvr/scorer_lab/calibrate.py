"""``scope scorer calibrate``: a rule and its level by what mistakes cost, a map from scores to probabilities, one file."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.problems.labelled import LabelledFile
from scope_rlvr.salvage.rules import AnyRule, CalibrationMap
from scope_rlvr.scorer_lab.bench import ScoredSet, score_range
from scope_rlvr.scorer_lab.bench_command import ScorerSpec, figures_record, file_record, interval
from scope_rlvr.scorer_lab.first_error import FirstErrorFigures, judge
from scope_rlvr.scorer_lab.reliability import Reliability, calibrated_elsewhere, isotonic_map, reliability
from scope_rlvr.scorer_lab.rule_search import MistakeCosts, RuleChoice, cheapest, mean_cost, rule_kinds
from scope_rlvr.store.folder import environment

CALIBRATION_SCHEMA = 1
MIN_ROWS, MIN_WRONG = 10, 2
"""Rows, and rows with a wrong step, below which nothing is chosen."""


@dataclass(frozen=True)
class Calibration:
    """A chosen rule with its costs beside those of doing without it, and a calibration map with what it mends."""

    scored: ScoredSet
    costs: MistakeCosts
    choice: RuleChoice
    own_rule: AnyRule
    own_cost: float
    cost_of_no_cut: float
    figures: FirstErrorFigures
    map: CalibrationMap
    before: Reliability | None
    after: Reliability


def make_costs(late: float, missed: float, false_alarm: float) -> MistakeCosts:
    """The costs; :class:`UserError` for one that is negative or not finite."""
    for name, cost in (("late", late), ("missed", missed), ("false-alarm", false_alarm)):
        if not (math.isfinite(cost) and cost >= 0):
            raise UserError(f"--{name}-cost {cost}: give a number that is 0 or more; one cut too early costs 1")
    return MistakeCosts(late, missed, false_alarm)


def draw_rows(file: LabelledFile, count: int, seed: int) -> LabelledFile:
    """``count`` rows drawn at random; all of them where there are no more. Files are often sorted by difficulty."""
    if count >= len(file.solutions):
        return file
    drawn = sorted(Random(seed).sample(range(len(file.solutions)), count))
    return replace(file, solutions=tuple(file.solutions[i] for i in drawn))


def calibrate(scored: ScoredSet, rule: AnyRule, costs: MistakeCosts) -> Calibration:
    """Choose rule and level by cost, and fit the map; :class:`UserError` where the rows cannot tell."""
    rows, steps = scored.rows(), scored.labelled_scores()
    _require_enough(scored)
    kinds = rule_kinds(*score_range([scored]))
    choice = cheapest(kinds, rows, costs)
    outcomes = [prediction.outcome for prediction in scored.predictions(rule) if prediction.is_scored]
    fitted = isotonic_map([s for row in steps for s in row.scores], [r for row in steps for r in row.is_right])
    are_probabilities = all(0 <= score <= 1 for row in steps for score in row.scores)
    return Calibration(
        scored=scored,
        costs=costs,
        choice=choice,
        own_rule=rule,
        own_cost=mean_cost(outcomes, costs),
        cost_of_no_cut=costs.missed * sum(row.first_wrong is not None for row in rows) / len(rows),
        figures=judge(scored.predictions(choice.rule)),
        map=fitted,
        before=reliability(steps) if are_probabilities else None,
        after=reliability(calibrated_elsewhere(steps)),
    )


def _require_enough(scored: ScoredSet) -> None:
    rows = scored.rows()
    num_wrong = sum(row.first_wrong is not None for row in rows)
    if num_wrong < MIN_WRONG or len(rows) < MIN_ROWS:
        raise UserError(
            f"{scored.name}: {len(rows)} of {len(scored.solutions)} rows could be scored, {num_wrong} of them with a wrong "
            f"step; a rule can be chosen on {MIN_ROWS} rows or more, {MIN_WRONG} or more of them with a wrong step"
        )


def calibration_record(spec: ScorerSpec, file: LabelledFile, found: Calibration, seed: int) -> dict[str, Any]:
    """The content of a calibration file, as docs/formats.md describes it."""
    choice = found.choice
    return {
        "schema": CALIBRATION_SCHEMA,
        "rule": choice.rule.model_dump(mode="json"),
        "calibration": found.map.model_dump(mode="json"),
        "scorer": spec.record(found.own_rule),
        "file": file_record(file),
        "rows_seed": seed,
        "num_unscored": sum(scores is None for scores in found.scored.scores),
        "costs": asdict(found.costs),
        "cost": asdict(choice.cost),
        "cost_elsewhere": asdict(choice.cost_elsewhere),
        "cost_of_own_rule": found.own_cost,
        "cost_of_no_cut": found.cost_of_no_cut,
        "level_interval": list(choice.level_interval),
        "rule_shares": choice.kind_shares,
        "figures": figures_record(found.figures),
        "calibration_error": {
            "before": None if found.before is None else asdict(found.before.error),
            "after": asdict(found.after.error),
        },
        "interval": interval(),
        "environment": environment(),
    }
