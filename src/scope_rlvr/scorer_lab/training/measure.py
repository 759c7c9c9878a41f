"""How good a trained step scorer is on solutions that it has not seen, and the threshold that suits it best."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorer_lab.bench import ScoredSet
from scope_rlvr.scorer_lab.first_error import judge
from scope_rlvr.scorer_lab.rule_search import best_f1, kind_of


def best_threshold(scored: ScoredSet) -> Threshold:
    """The threshold with the highest F1 (ProcessBench's), as far as possible from the levels at which F1 changes; 0.5 if no row was scored.

    >>> from scope_rlvr.problems.labelled import LabelledSolution
    >>> from scope_rlvr.core.types import Problem
    >>> wrong, right = (LabelledSolution(Problem("p", "?", ""), ("a", "b"), first_wrong=k) for k in (1, None))
    >>> best_threshold(ScoredSet("held out", (wrong, right), ((0.8, 0.3), (0.9, 0.7)))).threshold
    0.5
    """
    rows = scored.rows()
    rule = best_f1(kind_of(Threshold(), 0.0, 1.0), rows) if rows else Threshold()
    assert isinstance(rule, Threshold)
    return rule


def held_out_figures(scored: ScoredSet, rule: Threshold) -> dict[str, Any]:
    """What the card and ``training.json`` say of solutions that neither training nor the choice of a threshold has seen.

    ``step_accuracy`` is the share of labelled steps that the threshold puts on the right side, ``step_accuracy_constant``
    the share of calling every step right; the rest is :func:`scope_rlvr.scorer_lab.first_error.judge`'s.
    """
    labelled = [pair for row in scored.labelled_scores() for pair in zip(row.scores, row.is_right, strict=True)]
    num_hits = sum((score >= rule.threshold) == is_right for score, is_right in labelled)
    found = asdict(judge(scored.predictions(rule)))
    return (
        {
            "num_solutions": len(scored.solutions),
            "num_labelled_steps": len(labelled),
            "num_unscored": sum(scores is None for scores in scored.scores),
            "step_accuracy": num_hits / len(labelled) if labelled else None,
            "step_accuracy_constant": sum(is_right for _, is_right in labelled) / len(labelled) if labelled else None,
        }
        | found
        | {"distances": {str(steps): rows for steps, rows in found["distances"].items()}}
    )
