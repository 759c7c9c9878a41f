"""Salvage: turn a failed rollout into a right one while keeping what was right about it.

For a wrong rollout ``y = s_1 ... s_K`` the step scorer gives ``p_k``; the first wrong step is ``k*``. The policy's own
prefix ``u = s_1 ... s_{k*-1}`` is kept token for token, a teacher writes ``z`` (one step, or the rest), the policy
continues with ``v``, and ``u + z + v`` joins the group only if the verifier says that it is right. Otherwise the
original failure stays. Nothing here knows a model library, an engine or a loss.

Every batch of questions to the scorer, the teacher, the policy and the verifier spans all groups of a step.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from scope_rlvr.core.groups import Correction, Group, Member, Role, SalvageOutcome, SalvageRecord
from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.settings import BARE_NAME, BY_KIND, Settings
from scope_rlvr.core.steps import Step
from scope_rlvr.core.teacher_text import read_reply, request_after
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Outcome, Problem, Rollout, Verdict
from scope_rlvr.salvage.locate import NUM_ENTROPY_TOKENS, uncertain_token

# --- which groups -------------------------------------------------------------------------------------------------


class AnyFailure(Settings):
    """Every group with a failure is helped: the method's motive (wasted good prefixes) is not tied to hard groups."""

    kind: Literal["any_failure"] = "any_failure"

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_right < num_known


class AllFail(Settings):
    """Only groups without a single right rollout are helped, as AMPO, GHPO and Guide do."""

    kind: Literal["all_fail"] = "all_fail"

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_known > 0 and num_right == 0


class RateBelow(Settings):
    """Groups whose share of right rollouts is below ``rate`` are helped."""

    kind: Literal["rate_below"] = "rate_below"
    rate: float = Field(0.5, gt=0, le=1)

    def marks(self, num_right: int, num_known: int) -> bool:
        return num_known > 0 and num_right / num_known < self.rate


GroupRule = Annotated[AnyFailure | AllFail | RateBelow, BY_KIND, BARE_NAME]

# --- where to cut -------------------------------------------------------------------------------------------------


class Cut(StrEnum):
    """Where a failure is cut.

    ``FIRST_WRONG``: at the first wrong step, by the step scorer: the method. The others keep everything else as it is and
    tell what the scorer is worth. ``RANDOM_STEP``: at the start of a step drawn at random, the first excepted.
    ``HIGH_ENTROPY``: at a token drawn from the ``NUM_ENTROPY_TOKENS`` at which the policy was least certain (CURE).
    """

    FIRST_WRONG = "first_wrong"
    RANDOM_STEP = "random_step"
    HIGH_ENTROPY = "high_entropy"


class NoErrorRule(StrEnum):
    """What to do with a wrong answer in which the scorer finds no wrong step."""

    SKIP = "skip"
    LAST_STEP = "last_step"
    ARGMIN = "argmin"

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        """The step to take for the first wrong one, ``None`` to leave the rollout alone."""
        if self is NoErrorRule.SKIP or not step_scores_S:
            return None
        if self is NoErrorRule.LAST_STEP:
            return len(step_scores_S) - 1
        return min(range(len(step_scores_S)), key=step_scores_S.__getitem__)


class Ranking(StrEnum):
    """Which of a group's eligible failures come first when there are more than ``max_salvages``.

    ``LONGEST_PREFIX``: largest share of tokens kept, then mean score of the kept steps. ``LATEST_STEP``: most steps
    kept. ``SHORTEST``: shortest response. ``RANDOM``: a seeded draw.
    """

    LONGEST_PREFIX = "longest_prefix"
    LATEST_STEP = "latest_step"
    SHORTEST = "shortest"
    RANDOM = "random"

    def key(self, failure: _Failure, rng: random.Random) -> tuple[float, ...]:
        """Sorts ascending: the smallest key is salvaged first. Ties keep the order in the group."""
        kept_scores = failure.scores[: failure.first_wrong or 0]
        return {
            Ranking.LONGEST_PREFIX: (-failure.prefix_ratio, -fmean(kept_scores) if kept_scores else 0.0),
            Ranking.LATEST_STEP: (-(failure.first_wrong or 0),),
            Ranking.SHORTEST: (len(failure.member.rollout),),
            Ranking.RANDOM: (rng.random(),),
        }[self]


# --- what the teacher writes --------------------------------------------------------------------------------------


class OneStep(Settings):
    """The teacher writes the corrected step and ``num_steps`` − 1 further ones, each of at most ``max_tokens`` tokens; the
    policy continues."""

    kind: Literal["step"] = "step"
    num_steps: int = Field(1, ge=1)
    max_tokens: int = Field(200, ge=1)


class Suffix(Settings):
    """The teacher finishes the solution; nothing is left for the policy to continue."""

    kind: Literal["suffix"] = "suffix"


class WholeTrace(Settings):
    """Nothing is kept: the teacher writes the whole solution, as whole-trajectory guidance does."""

    kind: Literal["whole_trace"] = "whole_trace"


class NoTeacher(Settings):
    """Nobody writes: the policy tries again from where it went wrong."""

    kind: Literal["no_teacher"] = "no_teacher"


Mode = Annotated[OneStep | Suffix | WholeTrace | NoTeacher, BY_KIND, BARE_NAME]


class Guards(Settings):
    """Reasons to refuse a teacher's step before anything is spent on continuing it.

    ``repeated``: it says what the rejected step said. ``answer_leak``: it states the right final answer although the
    policy's own next step would not have stated any. ``low_score``: the scorer calls it wrong, too. An empty step or
    one that does not end within its budget is always refused.
    """

    repeated: bool = True
    answer_leak: bool = True
    low_score: bool = True


class Fallback(StrEnum):
    """What to try when all rounds have failed: nothing, or let the teacher finish from the first cut."""

    NONE = "none"
    SUFFIX = "suffix"


class Admission(StrEnum):
    """``VERIFIED``: only what the verifier calls right joins the group. ``ALWAYS``: also what all rounds left wrong."""

    VERIFIED = "verified"
    ALWAYS = "always"


class Insertion(StrEnum):
    """How a salvaged rollout joins its group.

    ``REPLACE``: in the place of the failure. ``APPEND``: beside it. ``PAIR``: beside it, with the shared prefix left out
    of both, so that what remains is the contrast between the rejected step and its correction.
    """

    REPLACE = "replace"
    APPEND = "append"
    PAIR = "pair"


class SalvageSettings(Settings):
    """All that the paper's abstract leaves open about the salvage itself; each default is argued in docs/method.md."""

    max_salvages: int = Field(1, ge=0, description="salvages attempted per group; 0 is plain outcome training")
    group_rule: GroupRule = AnyFailure()
    cut: Cut = Cut.FIRST_WRONG
    no_error_rule: NoErrorRule = NoErrorRule.SKIP
    min_prefix_steps: int = Field(1, ge=0, description="steps that must be left to keep")
    min_prefix_ratio: float = Field(0.1, ge=0, le=1, description="share of the tokens that must be left to keep")
    include_truncated: bool = False
    ranking: Ranking = Ranking.LONGEST_PREFIX
    cut_back_steps: int = Field(
        0, description="right steps given up before the first wrong one; negative: wrong ones kept"
    )
    cut_back_tokens: int = Field(0, ge=0, description="tokens given up before the cut")
    mode: Mode = OneStep()
    max_rounds: int = Field(1, ge=1, description="corrections per rollout")
    num_continuations: int = Field(
        1, ge=1, description="continuations tried after a correction; the first right counts"
    )
    guards: Guards = Guards()
    fallback: Fallback = Fallback.NONE
    admission: Admission = Admission.VERIFIED
    insertion: Insertion = Insertion.REPLACE
    show_rejected_step: bool = False
    show_reference: bool = False

    @property
    def needs_step_scorer(self) -> bool:
        """Whether anything that is asked for here is for the step scorer to say."""
        locates = self.cut is Cut.FIRST_WRONG or self.max_rounds > 1
        guards = self.guards.low_score and isinstance(self.mode, OneStep)
        return self.max_salvages > 0 and (locates or guards)

    @property
    def needs_teacher(self) -> bool:
        writes = not isinstance(self.mode, NoTeacher) or self.fallback is Fallback.SUFFIX
        return self.max_salvages > 0 and writes


# --- the way of a failure ----------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Failure:
    """A wrong rollout on its way through the salvage; ``outcome`` is set as soon as its way ends."""

    group: int
    index: int
    problem: Problem
    member: Member
    outcome: SalvageOutcome | None = None
    steps: tuple[Step, ...] = ()
    scores: tuple[float, ...] = ()
    first_wrong: int | None = None
    at_token: int | None = None
    """Where to cut, if that is not the start of the first wrong step."""
    prefix: Rollout | None = None
    rejected_step: str = ""
    """The first wrong step, whole."""
    own_next: str = ""
    """What the policy wrote in the place of what the teacher is to write."""
    corrections: list[Correction] = field(default_factory=list)
    num_kept_tokens: int = 0
    num_continuations: int = 0
    num_continuation_tokens: int = 0
    draft: Rollout | None = None
    """What stands so far in this round, to be continued unless it is finished."""
    attempt: Rollout | None = None
    verdict: Verdict | None = None

    @property
    def prefix_ratio(self) -> float:
        return self.num_kept_tokens / max(1, len(self.member.rollout))

    def record(self) -> SalvageRecord:
        assert self.outcome is not None, "every failure leaves the salvage with an outcome"
        return SalvageRecord(
            self.outcome,
            self.steps,
            self.scores,
            self.first_wrong,
            self.num_kept_tokens,
            tuple(self.corrections),
            self.num_continuations,
            self.num_continuation_tokens,
            self.attempt,
            self.verdict,
        )


def _open(failures: Sequence[_Failure]) -> list[_Failure]:
    return [failure for failure in failures if failure.outcome is None]


def salvage(groups: Sequence[Group], settings: SalvageSettings, tools: Toolbox) -> list[Group]:
    """Salvage what can be salvaged of each group's failures; groups without failures come back as they are.

    Raises ``ValueError`` when a salvage is wanted but the toolbox has no step scorer or no teacher.
    """
    if settings.max_salvages == 0:
        return list(groups)
    for what, is_missing in (
        ("step scorer", settings.needs_step_scorer and tools.step_scorer is None),
        ("teacher", settings.needs_teacher and tools.teacher is None),
    ):
        if is_missing:
            raise ValueError(f"salvaging needs a {what}, and none was given; name one, or set max_salvages to 0")
    failures = _collect(groups, settings)
    _locate(_open(failures), settings, tools)
    _choose(_open(failures), settings, tools.seed)
    _correct(_open(failures), settings, tools)
    return _insert(groups, failures, settings)


def _collect(groups: Sequence[Group], settings: SalvageSettings) -> list[_Failure]:
    """All known failures; those that may not be salvaged already carry the reason."""
    failures = []
    for group_index, group in enumerate(groups):
        known = [member.verdict for member in group.members if member.verdict.is_known]
        marked = settings.group_rule.marks(sum(verdict.is_right for verdict in known), len(known))
        for index, member in enumerate(group.members):
            if member.verdict.outcome is not Outcome.WRONG:
                continue
            failure = _Failure(group_index, index, group.problem, member)
            if not marked:
                failure.outcome = SalvageOutcome.GROUP_NOT_MARKED
            elif member.rollout.is_truncated and not settings.include_truncated:
                failure.outcome = SalvageOutcome.TRUNCATED
            failures.append(failure)
    return failures


def _locate(failures: list[_Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Split, find where to cut, and decide what could be kept."""
    for failure in failures:
        failure.steps = tools.split(failure.member.rollout)
    if settings.cut is Cut.FIRST_WRONG:
        _locate_first_wrong(failures, settings, tools)
    elif settings.cut is Cut.RANDOM_STEP:
        rng = random.Random(derive_seed(tools.seed, "cut"))
        for failure in failures:
            failure.first_wrong = rng.randrange(1, max(2, len(failure.steps)))
    else:
        _locate_high_entropy(failures, tools)
    for failure in _open(failures):
        _cut(failure, settings, tools)


def _locate_first_wrong(failures: list[_Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    scores = tools.score([(f.problem, f.steps) for f in failures])
    for failure, step_scores_S in zip(failures, scores, strict=True):
        if step_scores_S is None:
            failure.outcome = SalvageOutcome.SCORER_FAILED
            continue
        failure.scores = step_scores_S
        first_wrong = _rule(tools).first_wrong(step_scores_S)
        failure.first_wrong = settings.no_error_rule.first_wrong(step_scores_S) if first_wrong is None else first_wrong
        if failure.first_wrong is None:
            failure.outcome = SalvageOutcome.NO_ERROR_FOUND


def _locate_high_entropy(failures: list[_Failure], tools: Toolbox) -> None:
    rng = random.Random(derive_seed(tools.seed, "cut"))
    for failure, entropy_T in zip(failures, tools.entropies([f.member.rollout for f in failures]), strict=True):
        failure.at_token = uncertain_token(entropy_T, NUM_ENTROPY_TOKENS, rng)
        failure.first_wrong = next(i for i, step in enumerate(failure.steps) if step.end > failure.at_token)


def _rule(tools: Toolbox) -> DecisionRule:
    assert tools.step_scorer is not None, "salvage() asks for a scorer where one is needed"
    return tools.step_scorer.rule


def _cut(failure: _Failure, settings: SalvageSettings, tools: Toolbox) -> None:
    """Set the kept prefix of a failure, or the reason why nothing can be kept."""
    steps, first_wrong = failure.steps, failure.first_wrong
    if first_wrong is None or first_wrong >= len(steps):
        failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT
        return
    at_token = 0 if isinstance(settings.mode, WholeTrace) else _cut_token(failure, first_wrong, settings)
    failure.prefix = failure.member.rollout.cut(at_token)
    failure.num_kept_tokens = at_token
    failure.rejected_step = steps[first_wrong].text
    num_steps = settings.mode.num_steps if isinstance(settings.mode, OneStep) else 1
    failure.own_next = _text_from(at_token, num_steps, failure, tools)
    num_whole_steps = sum(step.end <= at_token for step in steps)
    too_short = num_whole_steps < settings.min_prefix_steps or failure.prefix_ratio < settings.min_prefix_ratio
    if too_short and not isinstance(settings.mode, WholeTrace):
        failure.outcome = SalvageOutcome.PREFIX_TOO_SHORT
    elif at_token >= tools.max_response_tokens - 1:
        failure.outcome = SalvageOutcome.NO_ROOM


def _cut_token(failure: _Failure, first_wrong: int, settings: SalvageSettings) -> int:
    """How many tokens are kept."""
    num_kept_steps = min(max(0, first_wrong - settings.cut_back_steps), len(failure.steps) - 1)
    at_token = failure.steps[num_kept_steps].start if failure.at_token is None else failure.at_token
    return max(0, at_token - settings.cut_back_tokens)


def _text_from(at_token: int, num_steps: int, failure: _Failure, tools: Toolbox) -> str:
    """What the policy wrote from a token to the end of the step that it belongs to, and of the next steps up to
    ``num_steps``."""
    ends = [step.end for step in failure.steps if step.end > at_token][:num_steps]
    return "".join(tools.codec.pieces(failure.member.rollout.token_ids)[at_token : ends[-1]])


def _choose(failures: list[_Failure], settings: SalvageSettings, seed: int) -> None:
    """Leave open the first ``max_salvages`` of each group."""
    rng = random.Random(derive_seed(seed, "ranking"))
    by_group: dict[int, list[_Failure]] = {}
    for failure in failures:
        by_group.setdefault(failure.group, []).append(failure)
    for rivals in by_group.values():
        keys = {id(failure): settings.ranking.key(failure, rng) for failure in rivals}
        for failure in sorted(rivals, key=lambda f: keys[id(f)])[settings.max_salvages :]:
            failure.outcome = SalvageOutcome.NOT_CHOSEN


def _correct(chosen: list[_Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Rounds of: the teacher writes, the policy continues, the verifier decides; then the fallback."""
    first_cuts = {id(failure): (failure.prefix, failure.rejected_step, failure.own_next) for failure in chosen}
    trying = chosen
    for number in range(settings.max_rounds):
        _one_round(trying, settings.mode, settings, replace(tools, seed=derive_seed(tools.seed, number)))
        trying = [failure for failure in trying if failure.outcome is SalvageOutcome.STILL_WRONG]
        if number + 1 < settings.max_rounds and trying:
            trying = _relocate(trying, tools)
    if settings.fallback is Fallback.SUFFIX and not isinstance(settings.mode, Suffix):
        hopeless = [f for f in chosen if f.outcome is not SalvageOutcome.ADMITTED]
        for failure in hopeless:
            failure.prefix, failure.rejected_step, failure.own_next = first_cuts[id(failure)]
        _one_round(hopeless, Suffix(), settings, replace(tools, seed=derive_seed(tools.seed, "fallback")))
    if settings.admission is Admission.ALWAYS:
        for failure in chosen:
            if failure.outcome is SalvageOutcome.STILL_WRONG:
                failure.outcome = SalvageOutcome.ADMITTED


def _relocate(failures: list[_Failure], tools: Toolbox) -> list[_Failure]:
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
        wrong = _rule(tools).first_wrong(step_scores_S[later[0] :])
        if wrong is None or steps[later[wrong]].start >= tools.max_response_tokens - 1:
            continue
        failure.prefix = attempt.cut(steps[later[wrong]].start)
        failure.rejected_step = failure.own_next = steps[later[wrong]].text
        located.append(failure)
    return located


def _one_round(failures: list[_Failure], mode: Mode, settings: SalvageSettings, tools: Toolbox) -> None:
    """One correction for each failure; each gets the outcome of this round."""
    for failure in failures:
        assert failure.prefix is not None, "only what can be cut comes here"
        failure.outcome, failure.draft = None, replace(failure.prefix, is_truncated=True)
    if isinstance(mode, OneStep):
        for number in range(mode.num_steps):
            writing = [f for f in _open(failures) if f.draft is not None and f.draft.is_truncated]
            _ask_teacher(writing, mode.max_tokens, settings, tools, number)
            _guard(_open(writing), settings, tools)
    elif not isinstance(mode, NoTeacher):
        _ask_teacher(failures, None, settings, tools)
    _continue(_open(failures), settings, tools)


def _ask_teacher(
    failures: list[_Failure], step_tokens: int | None, settings: SalvageSettings, tools: Toolbox, *names: int
) -> None:
    """Append what the teacher writes to each draft: one step, or with ``step_tokens`` of ``None`` the rest."""
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
    for (failure, draft), reply in zip(drafts, tools.ask(requests, *names), strict=True):
        if reply.error is not None:
            failure.outcome = SalvageOutcome.TEACHER_FAILED
            continue
        written = read_reply(reply, tools, step_tokens=step_tokens)
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


def _guard(failures: list[_Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """Refuse steps that the guards refuse."""
    guards = settings.guards
    if guards.repeated:
        for failure in failures:
            if failure.corrections[-1].text.strip() == failure.rejected_step.strip():
                failure.outcome = SalvageOutcome.REPEATED_STEP
    if guards.answer_leak:
        _guard_leak(_open(failures), tools)
    if guards.low_score:
        _guard_score(_open(failures), tools)


def _guard_leak(failures: list[_Failure], tools: Toolbox) -> None:
    """A step may state the right answer only where the policy's own next step stated an answer, too."""
    stated = tools.verifier.verify([(f.problem, f.corrections[-1].text) for f in failures])
    own_next = tools.verifier.verify([(f.problem, f.own_next) for f in failures])
    for failure, correction, own in zip(failures, stated, own_next, strict=True):
        if correction.is_right and own.answer is None:
            failure.outcome = SalvageOutcome.ANSWER_LEAK


def _guard_score(failures: list[_Failure], tools: Toolbox) -> None:
    """The scorer must accept the step that the correction ends in."""
    steps_of = [tools.split(failure.draft) for failure in failures if failure.draft is not None]
    scores = tools.score([(f.problem, steps) for f, steps in zip(failures, steps_of, strict=True)])
    for failure, step_scores_S in zip(failures, scores, strict=True):
        if step_scores_S is None:
            failure.outcome = SalvageOutcome.SCORER_FAILED
            continue
        failure.corrections[-1] = replace(failure.corrections[-1], score=step_scores_S[-1])
        if not _rule(tools).accepts(step_scores_S):
            failure.outcome = SalvageOutcome.LOW_SCORE


def _continue(failures: list[_Failure], settings: SalvageSettings, tools: Toolbox) -> None:
    """The policy continues unfinished attempts; the first right continuation counts, else the first one."""
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


def _insert(groups: Sequence[Group], failures: list[_Failure], settings: SalvageSettings) -> list[Group]:
    """Put admitted rollouts into their groups and every record beside its failure."""
    by_group: dict[int, list[_Failure]] = {}
    for failure in failures:
        by_group.setdefault(failure.group, []).append(failure)
    return [_edit(group, by_group.get(i, []), settings.insertion) for i, group in enumerate(groups)]


def _edit(group: Group, failures: list[_Failure], insertion: Insertion) -> Group:
    if not failures:
        return group
    members, replaced, added = list(group.members), list(group.replaced), []
    for failure in failures:
        record = failure.record()
        original = replace(failure.member, salvage=record)
        members[failure.index] = original
        if failure.outcome is not SalvageOutcome.ADMITTED or record.attempt is None or record.verdict is None:
            continue
        salvaged = Member(record.attempt, record.verdict, Role.SALVAGED, record)
        if insertion is Insertion.REPLACE:
            members[failure.index] = salvaged
            replaced.append(original)
        elif insertion is Insertion.PAIR:
            shared = record.num_kept_tokens
            members[failure.index] = replace(original, num_shared_tokens=shared)
            added.append(replace(salvaged, num_shared_tokens=shared))
        else:
            added.append(salvaged)
    return replace(group, members=tuple(members + added), replaced=tuple(replaced))
