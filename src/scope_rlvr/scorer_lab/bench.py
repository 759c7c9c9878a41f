"""A step scorer on labelled solutions: ProcessBench's protocol, file by file, with its own rule and with a tuned one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scope_rlvr.core.ports import StepScorer
from scope_rlvr.core.toolbox import trusted_scores
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.salvage.rules import AnyRule, Calibrated
from scope_rlvr.scorer_lab.first_error import FirstErrorFigures, Prediction, judge
from scope_rlvr.scorer_lab.reliability import LabelledScores, Reliability, reliability
from scope_rlvr.scorer_lab.rule_search import ScoredRow, best_f1, kind_of

_ROWS_AT_ONCE = 64
"""Rows between two reports of progress; a scorer makes batches of its own from them."""

Scores = tuple[float, ...] | None
"""The scores of a solution's steps; ``None`` where it could not be scored."""


@dataclass(frozen=True)
class ScoredSet:
    """Labelled solutions with what a scorer said of each."""

    name: str
    solutions: tuple[LabelledSolution, ...]
    scores: tuple[Scores, ...]

    def rows(self) -> list[ScoredRow]:
        """The rows that were scored."""
        pairs = zip(self.solutions, self.scores, strict=True)
        return [ScoredRow(scores, solution.first_wrong) for solution, scores in pairs if scores is not None]

    def predictions(self, rule: AnyRule) -> list[Prediction]:
        """The predictions of a rule from the scores, row by row."""
        return [
            Prediction(solution.first_wrong, None if scores is None else rule.first_wrong(scores), scores is not None)
            for solution, scores in zip(self.solutions, self.scores, strict=True)
        ]

    def labelled_scores(self) -> list[LabelledScores]:
        """Scores and labels of the steps whose label is known: up to and including a row's first wrong one."""
        return [
            LabelledScores(scores[: len(solution.step_labels)], solution.step_labels)
            for solution, scores in zip(self.solutions, self.scores, strict=True)
            if scores is not None
        ]


def score_rows(scorer: StepScorer, solutions: Sequence[LabelledSolution]) -> Iterator[list[Scores]]:
    """The scores of the solutions in order, some rows at a time; ``None`` where a scorer's reply cannot be used."""
    for start in range(0, len(solutions), _ROWS_AT_ONCE):
        some = solutions[start : start + _ROWS_AT_ONCE]
        scores = scorer.score([(solution.problem, solution.steps) for solution in some])
        yield trusted_scores(scores, [len(solution.steps) for solution in some])


@dataclass(frozen=True)
class SetResult:
    """The figures of one set: with the scorer's own rule, with the tuned one, and with its own on wrong answers alone.

    ``on_wrong_answers`` is ``None`` where the rows do not say which final answers are right, ``reliability`` where scores
    are no probabilities.
    """

    name: str
    own: FirstErrorFigures
    tuned: FirstErrorFigures
    on_wrong_answers: FirstErrorFigures | None
    reliability: Reliability | None
    num_unscored: int


@dataclass(frozen=True)
class BenchResult:
    """The results of all sets. The tuned rule is the own rule with the level that has the highest F1 on ``tuned_on``.

    Where that set has no F1, not having scored rows with and without a wrong step, it is the own rule as it is.
    """

    own_rule: AnyRule
    tuned_rule: AnyRule
    tuned_on: str
    is_tuned: bool
    results: tuple[SetResult, ...]

    @property
    def mean_f1(self) -> float | None:
        """The mean over sets of F1 with the own rule, each set with equal weight, as in ProcessBench."""
        return _mean([result.own.f1.value for result in self.results])

    @property
    def mean_tuned_f1(self) -> float | None:
        """The same with the tuned rule, over the sets that it was not tuned on."""
        return _mean([result.tuned.f1.value for result in self.results if result.name != self.tuned_on])


def bench(sets: Sequence[ScoredSet], own_rule: AnyRule, tuned_on: str) -> BenchResult:
    """Judge a scorer by its scores. ``tuned_on`` is the name of one of the sets."""
    tuning = next(scored for scored in sets if scored.name == tuned_on)
    rows = tuning.rows()
    can_tune = len({row.first_wrong is None for row in rows}) == 2
    tuned_rule = best_f1(kind_of(own_rule, *score_range(sets)), rows) if can_tune else own_rule
    results = tuple(_judged(scored, own_rule, tuned_rule) for scored in sets)
    return BenchResult(own_rule, tuned_rule, tuned_on, can_tune, results)


def score_range(sets: Sequence[ScoredSet]) -> tuple[float, float]:
    """The range that levels are looked for in: that of probabilities where all scores are such, else all numbers."""
    scores = [score for scored in sets for row in scored.scores if row is not None for score in row]
    return (0.0, 1.0) if all(0 <= score <= 1 for score in scores) else (-math.inf, math.inf)


def _judged(scored: ScoredSet, own_rule: AnyRule, tuned_rule: AnyRule) -> SetResult:
    predictions = scored.predictions(own_rule)
    of_wrong_answers = [p for p, s in zip(predictions, scored.solutions, strict=True) if s.is_answer_right is False]
    return SetResult(
        name=scored.name,
        own=judge(predictions),
        tuned=judge(scored.predictions(tuned_rule)),
        on_wrong_answers=judge(of_wrong_answers) if of_wrong_answers else None,
        reliability=_reliability(scored.labelled_scores(), own_rule),
        num_unscored=sum(scores is None for scores in scored.scores),
    )


def _reliability(rows: Sequence[LabelledScores], rule: AnyRule) -> Reliability | None:
    """The reliability of the scores, or of the probabilities that the rule ``calibrated`` maps them to."""
    if isinstance(rule, Calibrated) and rule.map is not None:
        rows = [LabelledScores(tuple(map(rule.map.probability, row.scores)), row.is_right) for row in rows]
    if not rows or not all(0 <= score <= 1 for row in rows for score in row.scores):
        return None
    return reliability(rows)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None
