"""Find where to cut each failure, and what is kept of it."""

from __future__ import annotations

import random

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.salvage.cuts import NUM_ENTROPY_TOKENS, Cut, uncertain_token
from scope_rlvr.salvage.failure import Failure, still_open
from scope_rlvr.salvage.settings import OneStep, SalvageSettings, WholeTrace


def locate(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Split, find where to cut, and decide what could be kept."""
    for failure in failures:
        failure.steps = tools.split(failure.member.rollout)
    if settings.cut is Cut.FIRST_WRONG:
        _locate_first_wrong(failures, settings, tools)
    elif settings.cut is Cut.RANDOM_STEP:
        _locate_random_step(failures, tools)
    else:
        _locate_high_entropy(failures, tools)
    for failure in still_open(failures):
        _cut(failure, settings, tools)


def _locate_first_wrong(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    scores = tools.score([(f.problem, f.steps) for f in failures])
    for failure, step_scores_S in zip(failures, scores, strict=True):
        if step_scores_S is None:
            failure.outcome = SalvageOutcome.SCORER_FAILED
            continue
        failure.scores = step_scores_S
        first_wrong = decision_rule(tools).first_wrong(step_scores_S)
        failure.first_wrong = settings.no_error_rule.first_wrong(step_scores_S) if first_wrong is None else first_wrong
        failure.cut_step = failure.first_wrong
        if failure.first_wrong is None:
            failure.outcome = SalvageOutcome.NO_ERROR_FOUND


def _locate_random_step(failures: list[Failure], tools: Toolbox) -> None:
    rng = random.Random(derive_seed(tools.seed, "cut"))
    for failure in failures:
        step = rng.randrange(1, max(2, len(failure.steps)))
        if step < len(failure.steps):
            failure.cut_step = step


def _locate_high_entropy(failures: list[Failure], tools: Toolbox) -> None:
    rng = random.Random(derive_seed(tools.seed, "cut"))
    for failure, entropy_T in zip(failures, tools.entropies([f.member.rollout for f in failures]), strict=True):
        token = failure.cut_token = uncertain_token(entropy_T, NUM_ENTROPY_TOKENS, rng)
        failure.cut_step = next((i for i, step in enumerate(failure.steps) if step.end > token), None)


def decision_rule(tools: Toolbox) -> DecisionRule:
    assert tools.step_scorer is not None, "salvage() asks for a scorer where one is needed"
    return tools.step_scorer.rule


def _cut(failure: Failure, settings: SalvageSettings, tools: Toolbox) -> None:
    """Set the kept prefix of a failure, or the reason why nothing can be kept."""
    steps, cut_step = failure.steps, failure.cut_step
    if cut_step is None:
        failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT
        return
    at_token = 0 if isinstance(settings.mode, WholeTrace) else _cut_token(failure, cut_step, settings)
    failure.prefix = failure.member.rollout.cut(at_token)
    failure.num_kept_tokens = at_token
    failure.rejected_step = steps[cut_step].text
    num_steps = settings.mode.num_steps if isinstance(settings.mode, OneStep) else 1
    failure.own_next = _text_from(at_token, num_steps, failure, tools)
    num_whole_steps = sum(step.end <= at_token for step in steps)
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
        wrong = decision_rule(tools).first_wrong(step_scores_S[later[0] :])
        if wrong is None or steps[later[wrong]].start >= tools.max_response_tokens - 1:
            continue
        failure.prefix = attempt.cut(steps[later[wrong]].start)
        failure.rejected_step = failure.own_next = steps[later[wrong]].text
        located.append(failure)
    return located
