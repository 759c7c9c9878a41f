"""Find where to cut each failure, and what is kept of it."""

from __future__ import annotations

from collections.abc import Sequence

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.steps import Step
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout
from scope_rlvr.salvage.failure import Failure, still_open
from scope_rlvr.salvage.settings import NoErrorRule, OneStep, SalvageSettings, WholeTrace


def locate(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Split failures into steps, find where to cut each, and set the prefix that is kept."""
    for failure in failures:
        failure.steps = tools.split(failure.member.rollout)
    settings.cut.locate(failures, tools)
    for failure in still_open(failures):
        if failure.cut_step is None:
            _apply(settings.no_error_rule, failure)
    for failure in still_open(failures):
        _keep_prefix(failure, settings, tools)


def relocate(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> list[Failure]:
    """Cut each failed attempt at its first wrong step after the last correction.

    Returns the failures whose attempt has such a step, with room left to correct it.
    """
    attempts = [(f, f.attempt) for f in failures if f.attempt is not None and not f.attempt.is_truncated]
    steps_of = [tools.split(attempt) for _, attempt in attempts]
    scores = tools.score([(f.problem, steps) for (f, _), steps in zip(attempts, steps_of, strict=True)])
    located = []
    for (failure, attempt), steps, step_scores_S in zip(attempts, steps_of, scores, strict=True):
        last = failure.corrections[-1] if failure.corrections else None
        corrected_to = failure.num_kept_tokens if last is None else last.at_token + last.num_tokens
        later = [index for index, step in enumerate(steps) if step.start >= corrected_to]
        if step_scores_S is None or not later:
            continue
        wrong = tools.decision_rule.first_wrong(step_scores_S[later[0] :])
        if wrong is None or steps[later[wrong]].start >= tools.max_response_tokens - 1:
            continue
        _set_prefix(failure, attempt, steps, steps[later[wrong]].start, settings, tools)
        failure.rejected_step = steps[later[wrong]].text
        located.append(failure)
    return located


def _apply(no_error_rule: NoErrorRule, failure: Failure) -> None:
    """Where no wrong step was found, take another for it, or give the failure up."""
    failure.first_wrong = no_error_rule.first_wrong(failure.step_scores_S)
    if failure.first_wrong is None:
        failure.outcome = SalvageOutcome.NO_ERROR_FOUND
    else:
        failure.cut_at_step(failure.first_wrong)


def _keep_prefix(failure: Failure, settings: SalvageSettings, tools: Toolbox) -> None:
    """Set the kept prefix of a failure, or the reason why nothing can be kept."""
    assert failure.cut_step is not None, "only what was cut comes here"
    keeps_nothing = isinstance(settings.mode, WholeTrace)
    num_kept = 0 if keeps_nothing else _num_kept_tokens(failure, failure.cut_step, settings)
    _set_prefix(failure, failure.member.rollout, failure.steps, num_kept, settings, tools)
    failure.num_kept_tokens = num_kept
    failure.rejected_step = failure.steps[failure.cut_step].text
    num_whole_steps = sum(step.end <= num_kept for step in failure.steps)
    too_short = num_whole_steps < settings.min_prefix_steps or failure.prefix_ratio < settings.min_prefix_ratio
    if too_short and not keeps_nothing:
        failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT
    elif num_kept >= tools.max_response_tokens - 1:
        failure.outcome = SalvageOutcome.NO_ROOM


def _num_kept_tokens(failure: Failure, cut_step: int, settings: SalvageSettings) -> int:
    num_kept_steps = min(max(0, cut_step - settings.cut_back_steps), len(failure.steps) - 1)
    at_token = failure.steps[num_kept_steps].start if failure.cut_token is None else failure.cut_token
    return max(0, at_token - settings.cut_back_tokens)


def _set_prefix(
    failure: Failure, rollout: Rollout, steps: Sequence[Step], at_token: int, settings: SalvageSettings, tools: Toolbox
) -> None:
    """Cut ``rollout`` at a token; keep what is before it, and remember what the policy itself wrote after it."""
    num_steps = settings.mode.num_steps if isinstance(settings.mode, OneStep) else 1
    ends = [step.end for step in steps if step.end > at_token][:num_steps]
    failure.prefix = rollout.cut(at_token)
    failure.own_next = "".join(tools.codec.pieces(rollout.token_ids)[at_token : ends[-1]])
