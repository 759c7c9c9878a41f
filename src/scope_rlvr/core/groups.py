"""The nouns of the project, second half: groups, their members, what became of a failure, and token streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from scope_rlvr.core.steps import Step
from scope_rlvr.core.types import Origin, Problem, Rollout, Verdict


class Role(StrEnum):
    """How a rollout came into its group.

    ``SAMPLED``: the policy wrote it unaided. ``SALVAGED``: a failure that was corrected. ``GUIDED``: written by a teacher, or
    with a teacher's words before it. ``BRANCHED``: sampled by the policy from inside another rollout. ``REPLAYED``: from an
    earlier step, perhaps of another problem; it takes no part in the group's baseline.
    """

    SAMPLED = "sampled"
    SALVAGED = "salvaged"
    GUIDED = "guided"
    BRANCHED = "branched"
    REPLAYED = "replayed"


@dataclass(frozen=True, slots=True)
class StepScores:
    """What the step scorer said of a rollout: its steps, a score each, and the 0-based first wrong step if any."""

    steps: tuple[Step, ...]
    scores_S: tuple[float, ...]
    first_wrong: int | None


class SalvageOutcome(StrEnum):
    """How the salvage of a failure ended: why it was not attempted, why the attempt was rejected, or that it was admitted."""

    GROUP_NOT_MARKED = "group not marked"
    TRUNCATED = "truncated"
    SCORER_FAILED = "scorer failed"
    NO_ERROR_FOUND = "no wrong step found"
    PREFIX_TOO_SHORT = "prefix too short"
    NO_ROOM = "no room left"
    NOT_CHOSEN = "others ranked first"
    TEACHER_FAILED = "teacher failed"
    EMPTY_STEP = "teacher wrote nothing"
    UNFINISHED_STEP = "teacher step too long"
    REPEATED_STEP = "teacher repeated the step"
    ANSWER_LEAK = "teacher gave the answer away"
    LOW_SCORE = "teacher step scored low"
    STILL_WRONG = "still wrong"
    VERDICT_UNKNOWN = "verdict unknown"
    ADMITTED = "admitted"


@dataclass(frozen=True, slots=True)
class Correction:
    """What a teacher wrote in one place: its text, from response token ``at_token`` on, and the scorer's score of it."""

    at_token: int
    text: str
    num_tokens: int
    score: float | None = None


@dataclass(frozen=True, slots=True)
class SalvageRecord:
    """All that the salvage did with one failure.

    ``attempt`` is the last rollout that was put together, admitted or not. ``verdict`` is the verdict on it, ``None`` if it
    was not verified.

    ``steps`` and ``step_scores_S`` belong to the original failure. Of the two 0-based indices into ``steps``,
    ``first_wrong_step`` is what the step scorer said, and ``cut_step`` is the step at or inside which the failure was cut,
    before ``cut_back_steps`` and ``cut_back_tokens`` moved the cut. They are equal if the scorer chose the cut;
    ``first_wrong_step`` is ``None`` if the scorer was not asked.
    """

    outcome: SalvageOutcome
    steps: tuple[Step, ...] = ()
    step_scores_S: tuple[float, ...] = ()
    first_wrong_step: int | None = None
    cut_step: int | None = None
    num_kept_tokens: int = 0
    corrections: tuple[Correction, ...] = ()
    num_continuations: int = 0
    num_continuation_tokens: int = 0
    attempt: Rollout | None = None
    verdict: Verdict | None = None

    @property
    def is_located(self) -> bool:
        """Whether the step scorer found a first wrong step."""
        return self.first_wrong_step is not None

    @property
    def is_cut(self) -> bool:
        """Whether a place to cut was found, by the scorer or otherwise."""
        return self.cut_step is not None

    @property
    def was_attempted(self) -> bool:
        """Whether the teacher was asked or, without a teacher, the policy."""
        return bool(self.corrections) or self.passed_guards or self.outcome is SalvageOutcome.TEACHER_FAILED

    @property
    def passed_guards(self) -> bool:
        """Whether an attempt was continued or verified, in any round."""
        return self.num_continuations > 0 or self.verdict is not None

    @property
    def is_admitted(self) -> bool:
        return self.outcome is SalvageOutcome.ADMITTED


@dataclass(frozen=True, slots=True)
class Member:
    """A rollout in a group, with its verdict and, if it failed, what became of the attempt to salvage it.

    ``num_shared_tokens`` counts the tokens at the start that belong to another rollout of the group as well (a failure
    and its own salvage in ``pair`` mode; branches; a hint that responses begin with) and therefore do not train here.
    ``problem`` is the problem that it answers, where that is not the group's. ``step_scores`` is there where a method asked
    for it. ``extras`` are named values that one hook computed for a later
    one: a number for the rollout, or a sequence with one entry for each response token (see
    :mod:`scope_rlvr.methods.reading`).

    >>> from scope_rlvr.core.types import *
    >>> member = Member(Rollout((1,), (Segment((7, 2), Origin.POLICY),)), Verdict(Outcome.RIGHT))
    >>> member.having(entropy=(0.5, 0.1), novelty=2.0).extras["entropy"]
    (0.5, 0.1)
    """

    rollout: Rollout
    verdict: Verdict
    role: Role = Role.SAMPLED
    salvage: SalvageRecord | None = None
    num_shared_tokens: int = 0
    step_scores: StepScores | None = None
    problem: Problem | None = None
    extras: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def having(self, **extras: Any) -> Member:
        """The same member with these extras beside those that it has."""
        return replace(self, extras={**self.extras, **extras})


class GroupClass(StrEnum):
    """What a group can teach, by its verdicts."""

    ALL_RIGHT = "all right"
    ALL_WRONG = "all wrong"
    MIXED = "mixed"
    SALVAGED = "salvaged"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class Group:
    """The rollouts of one problem, whose prompt is ``prompt_ids`` to the policy.

    ``members`` train; ``replaced`` are rollouts that were sampled and whose place another took: they are kept for the
    record and never train.
    """

    problem: Problem
    members: tuple[Member, ...]
    replaced: tuple[Member, ...] = field(default=())
    prompt_ids: tuple[int, ...] = ()

    @property
    def num_sampled(self) -> int:
        """How many rollouts the policy wrote on its own for this problem."""
        return len(self.sampled)

    @property
    def sampled(self) -> tuple[Member, ...]:
        """What the policy wrote unaided: the members it sampled, and the failures that were replaced."""
        return tuple(m for m in (*self.members, *self.replaced) if m.role is Role.SAMPLED)

    @property
    def group_class(self) -> GroupClass:
        """Unusable when no verdict is known; salvaged when any salvaged rollout trains; else by the verdicts."""
        known = [member for member in self.members if member.verdict.is_known]
        if not known:
            return GroupClass.UNUSABLE
        if any(member.role is Role.SALVAGED for member in known):
            return GroupClass.SALVAGED
        num_right = sum(member.verdict.is_right for member in known)
        if num_right == len(known):
            return GroupClass.ALL_RIGHT
        return GroupClass.MIXED if num_right else GroupClass.ALL_WRONG


@dataclass(frozen=True, slots=True)
class Streams:
    """What the engine is told about one response, token by token. It needs to know nothing else of a method.

    ``advantage_T`` multiplies the policy gradient; ``weight_T`` is 1 where a token counts in the loss and in its
    normaliser, 0 where it is left out of both; ``origin_T`` says who wrote it; ``behaviour_logprob_T`` is the natural
    logarithm that it was sampled with, ``None`` where unknown. ``extras`` are further streams by name, one number a token,
    for a loss or a term that reads them.
    """

    advantage_T: tuple[float, ...]
    weight_T: tuple[float, ...]
    origin_T: tuple[Origin, ...]
    behaviour_logprob_T: tuple[float | None, ...]
    extras: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(self.advantage_T), len(self.weight_T), len(self.origin_T), len(self.behaviour_logprob_T)}
        lengths |= {len(values_T) for values_T in self.extras.values()}
        if len(lengths) != 1:
            raise ValueError(f"the streams of one response must be of one length, got lengths {sorted(lengths)}")

    @classmethod
    def of(cls, rollout: Rollout, advantage_T: Sequence[float], weight_T: Sequence[float]) -> Streams:
        """The streams of a rollout: origin and log-probabilities are the rollout's own."""
        return cls(tuple(advantage_T), tuple(weight_T), rollout.origin_T, rollout.logprob_T)
