"""The nouns of the project, first half: problems, segments, rollouts and verdicts.

Everything here is immutable and knows no model library. Shape suffixes used throughout:
``P`` problems, ``G`` rollouts in a group, ``S`` steps in a rollout, ``T`` tokens of a response,
``B`` rows of a training batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any


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
    context: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """The conversation that the prompt is the last message of: role and text of each message, the last text left empty.
    Empty for a plain prompt."""


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

    ``reward`` is what a known verdict pays, where that is something else than 1 for right and 0 for wrong. ``extra`` is what
    the verifier wants to be shown beside the response, by the names of columns.
    """

    outcome: Outcome
    answer: str | None = None
    reason: str = ""
    reward: float | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

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
