"""The nouns of the project: problems, segments, rollouts, verdicts, groups and token streams.

Everything here is immutable and knows no model library. Shape suffixes used throughout:
``P`` problems, ``G`` rollouts in a group, ``S`` steps in a rollout, ``T`` tokens of a response,
``B`` rows of a training batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from scope_rlvr.core.steps import Step

if TYPE_CHECKING:
    from scope_rlvr.salvage.salvage import SalvageRecord


class Origin(StrEnum):
    """Who sampled a token: the policy being trained, or a teacher."""

    POLICY = "policy"
    TEACHER = "teacher"


@dataclass(frozen=True, slots=True)
class Problem:
    """A question whose final answer can be verified.

    ``prompt`` is its text, ``reference`` the answer that the verifier compares with,
    ``source`` says where the problem came from, ``level`` is its difficulty in the source's own unit
    (for the embedded family: how many numbers are to be combined), ``solution`` a worked solution where the source has
    one.

    >>> Problem(id="p0", prompt="reduce 3 4\\n\\n", reference="7").level is None
    True
    """

    id: str
    prompt: str
    reference: str
    source: str = ""
    level: int | None = None
    solution: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive token ids of one origin, with the log-probabilities they were sampled with.

    ``logprobs`` has one natural logarithm a token, under the model that sampled it, or is ``None``
    where nobody reported them.
    """

    token_ids: tuple[int, ...]
    origin: Origin
    logprobs: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.logprobs is not None and len(self.logprobs) != len(self.token_ids):
            raise ValueError(
                f"a segment of {len(self.token_ids)} tokens came with {len(self.logprobs)} log-probabilities; "
                "give one for each token, or None"
            )

    def __len__(self) -> int:
        return len(self.token_ids)

    def head(self, num_tokens: int) -> Segment:
        """The first ``num_tokens`` tokens, ids and log-probabilities unchanged."""
        logprobs = None if self.logprobs is None else self.logprobs[:num_tokens]
        return Segment(self.token_ids[:num_tokens], self.origin, logprobs)


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response to one prompt: a tuple of segments that partition its tokens.

    A prefix is never decoded and encoded again: ``cut`` keeps the sampled ids, ``then`` appends.

    >>> sampled = Rollout((1, 2), (Segment((5, 6, 7, 8), Origin.POLICY),))
    >>> salvaged = sampled.cut(2).then(Segment((9,), Origin.TEACHER)).then(Segment((3,), Origin.POLICY))
    >>> salvaged.token_ids
    (5, 6, 9, 3)
    >>> [origin.value for origin in salvaged.origin_T]
    ['policy', 'policy', 'teacher', 'policy']
    """

    prompt_ids: tuple[int, ...]
    segments: tuple[Segment, ...]
    is_truncated: bool = False
    """The length budget ended the response, not the policy."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        return tuple(token for segment in self.segments for token in segment.token_ids)

    @property
    def origin_T(self) -> tuple[Origin, ...]:
        return tuple(segment.origin for segment in self.segments for _ in segment.token_ids)

    @property
    def logprob_T(self) -> tuple[float | None, ...]:
        """Behaviour log-probability of each token, ``None`` where unknown."""
        return tuple(
            logprob
            for segment in self.segments
            for logprob in (segment.logprobs if segment.logprobs is not None else [None] * len(segment))
        )

    def __len__(self) -> int:
        return sum(len(segment) for segment in self.segments)

    def num_tokens_from(self, origin: Origin) -> int:
        return sum(len(segment) for segment in self.segments if segment.origin is origin)

    def cut(self, at_token: int) -> Rollout:
        """Keep the first ``at_token`` tokens of the response, exactly as they were sampled."""
        if not 0 <= at_token <= len(self):
            raise ValueError(f"cannot cut a response of {len(self)} tokens at token {at_token}")
        kept, room = [], at_token
        for segment in self.segments:
            if room <= 0:
                break
            kept.append(segment.head(room))
            room -= len(kept[-1])
        return Rollout(self.prompt_ids, tuple(kept))

    def then(self, segment: Segment, *, is_truncated: bool = False) -> Rollout:
        """Append a segment; an empty one changes nothing but ``is_truncated``."""
        segments = (*self.segments, segment) if len(segment) else self.segments
        return replace(self, segments=segments, is_truncated=is_truncated)


class Outcome(StrEnum):
    """What a verifier can say. Unknown (time-out, crash, unparsable reference) is never a zero reward."""

    RIGHT = "right"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verifier's word on one response, the answer that it read there, and why it decided so.

    ``reward`` is what a known verdict pays, where that is something else than 1 for right and 0 for wrong.
    """

    outcome: Outcome
    answer: str | None = None
    reason: str = ""
    reward: float | None = None

    @property
    def is_right(self) -> bool:
        return self.outcome is Outcome.RIGHT

    @property
    def is_known(self) -> bool:
        return self.outcome is not Outcome.UNKNOWN

    @property
    def pay(self) -> float | None:
        """The reward of the response; ``None`` where the verdict is unknown, which is not the same as zero.

        >>> [Verdict(outcome).pay for outcome in Outcome]
        [1.0, 0.0, None]
        """
        if not self.is_known:
            return None
        return float(self.is_right) if self.reward is None else self.reward


class Role(StrEnum):
    """How a rollout came into its group.

    ``SAMPLED``: the policy wrote it unaided. ``SALVAGED``: a failure that was corrected. ``GUIDED``: written by a teacher, or
    with a teacher's words before it. ``BRANCHED``: sampled by the policy from inside another rollout.
    """

    SAMPLED = "sampled"
    SALVAGED = "salvaged"
    GUIDED = "guided"
    BRANCHED = "branched"


@dataclass(frozen=True, slots=True)
class StepScores:
    """What the step scorer said of a rollout: its steps, a score each, and the 0-based first wrong step if any."""

    steps: tuple[Step, ...]
    scores_S: tuple[float, ...]
    first_wrong: int | None


@dataclass(frozen=True, slots=True)
class Member:
    """A rollout in a group, with its verdict and, if it failed, what became of the attempt to salvage it.

    ``num_shared_tokens`` counts the tokens at the start that belong to another rollout of the group as well (a failure
    and its own salvage in ``pair`` mode; branches; a hint that responses begin with) and therefore do not train here.
    ``step_scores`` is there where a method asked for it.
    """

    rollout: Rollout
    verdict: Verdict
    role: Role = Role.SAMPLED
    salvage: SalvageRecord | None = None
    num_shared_tokens: int = 0
    step_scores: StepScores | None = None


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
    logarithm that it was sampled with, ``None`` where unknown.
    """

    advantage_T: tuple[float, ...]
    weight_T: tuple[float, ...]
    origin_T: tuple[Origin, ...]
    behaviour_logprob_T: tuple[float | None, ...]

    def __post_init__(self) -> None:
        lengths = {len(self.advantage_T), len(self.weight_T), len(self.origin_T), len(self.behaviour_logprob_T)}
        if len(lengths) != 1:
            raise ValueError(f"the streams of one response must be of one length, got lengths {sorted(lengths)}")

    @classmethod
    def of(cls, rollout: Rollout, advantage_T: Sequence[float], weight_T: Sequence[float]) -> Streams:
        """The streams of a rollout: origin and log-probabilities are the rollout's own."""
        return cls(tuple(advantage_T), tuple(weight_T), rollout.origin_T, rollout.logprob_T)
