"""What a method may ask of the outside world: a policy, a teacher, a step scorer, a verifier, a text codec.

Salvage and every method speak only these words. A port never raises because the other side failed: a teacher or
scorer that could not answer says so in its reply, so that one bad answer costs one rollout and not the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from scope_rlvr.core.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``temperature`` 0 is greedy; ``top_p`` 1, ``top_k`` 0 and ``min_p`` 0 cut nothing off.

    ``stop_texts`` end a continuation right after the token in which one of them is complete.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Continuation:
    """Sampled tokens with their log-probabilities.

    ``finished`` says that the model ended the response itself (its end-of-sequence token is the last one);
    ``stopped`` that a stop text ended it. Neither: the length budget did.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finished: bool = False
    stopped: bool = False


@runtime_checkable
class Policy(Protocol):
    """The model being trained, as a sampler: the one sampling primitive of all methods."""

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        """Continue each prefix (prompt ids and response ids so far) by at most ``max_tokens[i]`` tokens."""
        ...

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        """For each token of each response, the entropy in nats of the distribution that it was to be drawn from."""
        ...


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """A prefix that somebody else should continue.

    ``prompt_ids`` and ``prefix_ids`` are the policy's ids, for a teacher that shares its vocabulary; ``prefix_text``
    is the same prefix as text, for one that does not. ``stop_text`` is the step boundary in step mode and ``None``
    where the teacher is to finish the solution. What the teacher may see of the rejected step and of the reference
    answer is the caller's choice: ``None`` means not shown.
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    prefix_ids: tuple[int, ...]
    prefix_text: str
    max_tokens: int
    stop_text: str | None = None
    rejected_step: str | None = None
    reference: str | None = None


class Fault(StrEnum):
    """Why nobody answered. The values are the last part of the metrics ``teacher/errors/...``."""

    CONNECTION = "connection"
    """Refused, reset, or broken off before the reply was complete."""
    TIMEOUT = "timeout"
    RATE_LIMIT = "rate_limit"
    SERVER = "server"
    """The server says that it failed (HTTP 5xx)."""
    REFUSED = "refused"
    """The server says that the request is wrong (other HTTP 3xx and 4xx)."""
    REPORTED = "reported"
    """Status 200, and an error inside."""
    MALFORMED = "malformed"
    """A reply that is not what was asked for: no JSON, missing fields, numbers that are none, somebody else's reply."""
    EMPTY = "empty"
    PAUSED = "paused"
    """Not asked: the server had failed too often in a row."""
    BUDGET = "budget"
    """Not asked: the budget is spent."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Effort:
    """What it took to get one reply from a server: requests sent (0 for a reply that was known), seconds, tokens as the
    server counts them, money in the currency of the prices."""

    num_requests: int = 0
    seconds: float = 0.0
    num_prompt_tokens: int = 0
    num_reply_tokens: int = 0
    money: float = 0.0


@dataclass(frozen=True, slots=True)
class TeacherReply:
    """What a teacher wrote: ids of the policy's vocabulary, or text, or the reason why it wrote nothing.

    ``finished`` says that the teacher ended the solution, ``is_cut_off`` that its token budget ended the text in the
    middle of a step; ``logprobs`` are its own for ``token_ids``. ``fault`` is the kind of ``error``; ``effort`` is there
    where a server was asked.
    """

    token_ids: tuple[int, ...] | None = None
    text: str | None = None
    logprobs: tuple[float, ...] | None = None
    finished: bool = False
    is_cut_off: bool = False
    error: str | None = None
    fault: Fault | None = None
    effort: Effort | None = None


class Teacher(Protocol):
    """Anything that can continue the policy's prefix: another model, a server, an exact solver."""

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request, in order; failures are replies with ``error``, not exceptions."""
        ...


class DecisionRule(Protocol):
    """Turns the scores of a rollout's steps into its first wrong step."""

    def first_wrong(self, step_scores_S: Sequence[float]) -> int | None:
        """The 0-based index of the first wrong step, ``None`` when no step is wrong."""
        ...

    def accepts(self, step_scores_S: Sequence[float]) -> bool:
        """Whether the last of these steps passes as right after those before it; there is at least one."""
        ...


class StepScorer(Protocol):
    """A process reward model: one number a step, higher is better, with the rule that reads them."""

    @property
    def rule(self) -> DecisionRule: ...

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        """The scores of each solution's steps, as many as steps; ``None`` where it could not be scored."""
        ...


def is_served(helper: object) -> bool:
    """Whether a teacher or a step scorer stands behind a server, as it says by an attribute of this name."""
    return bool(getattr(helper, "is_served", False))


class Verifier(Protocol):
    """The only source of reward: says whether the final answer of a response is right."""

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]: ...


class TextCodec(Protocol):
    """The policy's tokenizer, as far as methods need it."""

    @property
    def end_ids(self) -> frozenset[int]:
        """The ids that end a response."""
        ...

    @property
    def end_id(self) -> int:
        """The id that ends a response when somebody else than the policy says that it has ended."""
        ...

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        """The text that each token contributes; joined, they are the decoded text without special tokens."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text that nobody sampled, without special tokens."""
        ...

    def encode_prompt(self, text: str) -> tuple[int, ...]:
        """Ids of a prompt, with the special tokens that the tokenizer puts before a text."""
        ...
