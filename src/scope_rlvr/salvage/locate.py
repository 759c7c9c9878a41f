"""Find where to cut each failure, and what is kept of it."""

from __future__ import annotations

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.salvage.failure import Failure, still_open
from scope_rlvr.salvage.settings import NoErrorRule, OneStep, SalvageSettings, WholeTrace


def locate(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Split, find where to cut, and decide what could be kept."""
    for failure in failures:
        failure.steps = tools.split(failure.member.rollout)
    settings.cut.locate(failures, tools)
    for failure in still_open(failures):
        if failure.cut_step is None:
            _apply(settings.no_error_rule, failure)
    for failure in still_open(failures):
        _keep_prefix(failure, settings, tools)


def _apply(no_error_rule: NoErrorRule, failure: Failure) -> None:
    """Take another step for the first wrong one, where none was found."""
    failure.first_wrong = no_error_rule.first_wrong(failure.step_scores_S)
    if failure.first_wrong is None:
        failure.outcome = SalvageOutcome.NO_ERROR_FOUND
    else:
        failure.cut_at_step(failure.first_wrong)


def _keep_prefix(failure: Failure, settings: SalvageSettings, tools: Toolbox) -> None:
    """Set the kept prefix of a failure, or the reason why nothing can be kept."""
    assert failure.cut_step is not None, "only what was cut comes here"
    at_token = 0 if isinstance(settings.mode, WholeTrace) else _cut_token(failure, failure.cut_step, settings)
    failure.prefix = failure.member.rollout.cut(at_token)
    failure.num_kept_tokens = at_token
    failure.rejected_step = failure.steps[failure.cut_step].text
    num_steps = settings.mode.num_steps if isinstance(settings.mode, OneStep) else 1
    failure.own_next = _text_from(at_token, num_steps, failure, tools)
    num_whole_steps = sum(step.end <= at_token for step in failure.steps)
    too_short = num_whole_steps < settings.min_prefix_steps or failure.prefix_ratio < settings.min_prefix_ratio
    if too_short and not isinstance(settings.mode, WholeTrace):
        failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT
    elif at_token >= tools.max_response_tokens - 1:
        failure.outcome = SalvageOutcome.NO_ROOM


def _cut_token(failure: Failure, cut_step: int, settings: SalvageSettings) -> int:
    """How many tokens are kept."""
    num_kept_steps = min(max(0, cut_step - settings.cut_back_steps), len(failure.steps) - 1)
    at_token = failure.steps[num_kept_steps].start if failure.cut_token is None else failure.cut_token
    return max(0, at_token - settings.cut_back_tokens)


def _text_from(at_token: int, num_steps: int, failure: Failure, tools: Toolbox) -> str:
    """What the policy wrote from a token to the end of the step that it belongs to, and of the next steps up to
    ``num_steps``."""
    ends = [step.end for step in failure.steps if step.end > at_token][:num_steps]
    return "".join(tools.codec.pieces(failure.member.rollout.token_ids)[at_token : ends[-1]])


def relocate(failures: list[Failure], tools: Toolbox) -> list[Failure]:
    """Find the first wrong step of each failed attempt after its last correction; returns those that have one."""
    attempts = [(f, f.attempt) for f in failures if f.attempt is not None and not f.attempt.is_truncated]
    steps_of = [tools.split(attempt) for _, attempt in attempts]
    scores = tools.score([(f.problem, steps) for (f, _), steps in zip(attempts, steps_of, strict=True)])
    located = []
    for (failure, attempt), steps, step_scores_S in zip(attempts, steps_of, scores, strict=True):
        last = failure.corrections[-1] if failure.corrections else None
        corrected_to = failure.num_kept_tokens if last is None else last.at_token + last.num_tokens
        later = [i for i, step in enumerate(steps) if step.start >= corrected_to]
        if step_scores_S is None or not later:
            continue
        wrong = tools.decision_rule.first_wrong(step_scores_S[later[0] :])
        if wrong is None or steps[later[wrong]].start >= tools.max_response_tokens - 1:
            continue
        failure.prefix = attempt.cut(steps[later[wrong]].start)
        failure.rejected_step = failure.own_next = steps[later[wrong]].text
        located.append(failure)
    return located
