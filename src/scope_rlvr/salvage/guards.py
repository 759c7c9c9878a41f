"""Refuse bad teacher steps before the policy continues them."""

from __future__ import annotations

from dataclasses import replace

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.salvage.failure import Failure, still_open
from scope_rlvr.salvage.settings import SalvageSettings


def guard(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Set the outcome of each failure whose last correction a guard refuses."""
    guards = settings.guards
    if guards.repeated:
        for failure in failures:
            if failure.corrections[-1].text.strip() == failure.rejected_step.strip():
                failure.outcome = SalvageOutcome.REPEATED_STEP
    if guards.answer_leak:
        _guard_leak(still_open(failures), tools)
    if guards.low_score:
        _guard_score(still_open(failures), tools)


def _guard_leak(failures: list[Failure], tools: Toolbox) -> None:
    """A correction may state the right answer only if the policy's own steps in its place stated an answer, too."""
    stated = tools.verify_texts([(f.problem, f.corrections[-1].text) for f in failures])
    right = [failure for failure, verdict in zip(failures, stated, strict=True) if verdict.is_right]
    own_next = tools.verify_texts([(f.problem, f.own_next) for f in right])
    for failure, verdict in zip(right, own_next, strict=True):
        if verdict.answer is None:
            failure.outcome = SalvageOutcome.ANSWER_LEAK


def _guard_score(failures: list[Failure], tools: Toolbox) -> None:
    """The scorer must accept the last step of the correction."""
    steps_of = [tools.split(failure.draft) for failure in failures if failure.draft is not None]
    scores = tools.score([(f.problem, steps) for f, steps in zip(failures, steps_of, strict=True)])
    for failure, step_scores_S in zip(failures, scores, strict=True):
        if step_scores_S is None:
            failure.outcome = SalvageOutcome.SCORER_FAILED
            continue
        failure.corrections[-1] = replace(failure.corrections[-1], score=step_scores_S[-1])
        if not tools.decision_rule.accepts(step_scores_S):
            failure.outcome = SalvageOutcome.LOW_SCORE
