"""Correct failures: the teacher writes, the policy continues, the verifier decides."""

from __future__ import annotations

from dataclasses import replace

from scope_rlvr.core.groups import Correction, SalvageOutcome
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.teacher_text import read_reply, request_after
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Rollout, Verdict
from scope_rlvr.salvage.failure import Failure, still_open
from scope_rlvr.salvage.guards import guard
from scope_rlvr.salvage.locate import relocate
from scope_rlvr.salvage.settings import Admission, Fallback, Mode, NoTeacher, OneStep, SalvageSettings, Suffix


def correct(chosen: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """In each round the teacher writes, the policy continues and the verifier decides. The fallback comes last."""
    first_cuts = {id(failure): (failure.prefix, failure.rejected_step, failure.own_next) for failure in chosen}
    trying = chosen
    for number in range(settings.max_rounds):
        _one_round(trying, settings.mode, settings, replace(tools, seed=derive_seed(tools.seed, number)))
        trying = [failure for failure in trying if failure.outcome is SalvageOutcome.STILL_WRONG]
        if number + 1 < settings.max_rounds and trying:
            trying = relocate(trying, settings, tools)
    if settings.fallback is Fallback.SUFFIX and not isinstance(settings.mode, Suffix):
        failed = [f for f in chosen if f.outcome is not SalvageOutcome.ADMITTED]
        for failure in failed:
            failure.prefix, failure.rejected_step, failure.own_next = first_cuts[id(failure)]
        _one_round(failed, Suffix(), settings, replace(tools, seed=derive_seed(tools.seed, "fallback")))
    if settings.admission is Admission.ALWAYS:
        for failure in chosen:
            if failure.outcome is SalvageOutcome.STILL_WRONG:
                failure.outcome = SalvageOutcome.ADMITTED


def _one_round(failures: list[Failure], mode: Mode, settings: SalvageSettings, tools: Toolbox) -> None:
    """Correct each failure once. Its outcome is then that of this round."""
    for failure in failures:
        assert failure.prefix is not None, "only what can be cut comes here"
        failure.outcome, failure.draft = None, replace(failure.prefix, is_truncated=True)
    if isinstance(mode, OneStep):
        for number in range(mode.num_steps):
            writing = [f for f in still_open(failures) if f.draft is not None and f.draft.is_truncated]
            _ask_teacher(writing, mode.max_tokens, settings, tools, number)
            guard(still_open(writing), settings, tools)
    elif not isinstance(mode, NoTeacher):
        _ask_teacher(failures, None, settings, tools)
    _continue(still_open(failures), settings, tools)


def _ask_teacher(
    failures: list[Failure], step_tokens: int | None, settings: SalvageSettings, tools: Toolbox, *names: int
) -> None:
    """Append what the teacher writes to each draft: one step of at most ``step_tokens`` tokens, or all the rest if that is
    ``None``. ``names`` seed the draw."""
    drafts = [(f, f.draft) for f in failures if f.draft is not None]
    requests = [
        request_after(
            draft,
            failure.problem,
            tools,
            step_tokens=step_tokens,
            rejected_step=failure.rejected_step if settings.show_rejected_step else None,
            reference=failure.problem.reference if settings.show_reference else None,
        )
        for failure, draft in drafts
    ]
    for (failure, draft), request, reply in zip(drafts, requests, tools.ask(requests, *names), strict=True):
        if reply.error is not None:
            failure.outcome = SalvageOutcome.TEACHER_FAILED
            continue
        written = read_reply(reply, tools, step_tokens=step_tokens, before=request.prefix_text)
        segment, room = written.segment, tools.max_response_tokens - len(draft)
        text = "".join(tools.codec.pieces(segment.token_ids))
        failure.corrections.append(Correction(len(draft), text, len(segment)))
        failure.draft = draft.then(segment, is_truncated=not written.finished)
        failure.attempt, failure.verdict = failure.draft, None
        if not text.strip():
            failure.outcome = SalvageOutcome.EMPTY_STEP
        elif len(segment) > room or (len(segment) == room and not written.finished):
            failure.outcome = SalvageOutcome.NO_ROOM
        elif not written.ended:
            failure.outcome = SalvageOutcome.UNFINISHED_STEP


def _continue(failures: list[Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """The policy continues the drafts that are not finished. The first right continuation counts, or else the first."""
    drafts = [(f, f.draft) for f in failures if f.draft is not None]
    starts = [draft for draft in drafts if draft[1].is_truncated for _ in range(settings.num_continuations)]
    rollouts = tools.extend([start for _, start in starts], "continuation")
    candidates: dict[int, list[Rollout]] = {id(f): [draft] for f, draft in drafts if not draft.is_truncated}
    for (failure, start), rollout in zip(starts, rollouts, strict=True):
        failure.num_continuations += 1
        failure.num_continuation_tokens += len(rollout) - len(start)
        candidates.setdefault(id(failure), []).append(rollout)
    pairs = [(failure, rollout) for failure in failures for rollout in candidates[id(failure)]]
    verdicts = tools.verify([(failure.problem, rollout) for failure, rollout in pairs])
    judged: dict[int, list[tuple[Rollout, Verdict]]] = {}
    for (failure, rollout), verdict in zip(pairs, verdicts, strict=True):
        judged.setdefault(id(failure), []).append((rollout, verdict))
    for failure in failures:
        tries = judged[id(failure)]
        failure.attempt, failure.verdict = next((t for t in tries if t[1].is_right), tries[0])
        failure.outcome = _outcome_of(failure.verdict)


def _outcome_of(verdict: Verdict) -> SalvageOutcome:
    if verdict.is_right:
        return SalvageOutcome.ADMITTED
    return SalvageOutcome.STILL_WRONG if verdict.is_known else SalvageOutcome.VERDICT_UNKNOWN
