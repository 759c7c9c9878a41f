"""What a method may ask of the outside world: a policy, a teacher, a step scorer, a verifier, a text codec.

Salvage and every method speak only these words. A port never raises because the other side failed: a teacher or
scorer that could not answer says so in its reply, so that one bad answer costs one rollout and not the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from scope_rlvr.core.types import Problem, Verdict

if TYPE_CHECKING:
    from scope_rlvr.core.groups import Group


class DecodingControl(Protocol):
    """Changes the distribution that single tokens are drawn from.

    What a token was sampled with, its behaviour log-probability, stays that of the distribution at the sampling
    temperature, before any control and any cut-off: this is what the losses compare with.
    """

    def adjust(self, logits_BV: Any, num_written_B: Sequence[int]) -> Any:
        """The logits to draw from, a tensor ``(B, V)`` like the one given, which is already divided by the temperature.

        ``num_written_B`` says how many response tokens each row has so far.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn. ``temperature`` 0 is greedy; ``top_p`` 1, ``top_k`` 0 and ``min_p`` 0 cut nothing off.

    ``stop_texts`` end a continuation right after the token in which one of them is complete. ``control`` may change what
    is drawn from, token by token.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop_texts: tuple[str, ...] = ()
    control: DecodingControl | None = None


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
        """Continue each prefix (prompt ids and response ids so far) by at most ``max_tokens[i]`` tokens.

        A policy that can obey ``sampling.control`` also takes ``num_written``: how many of each prefix's tokens are the
        response's. It is given where there is a control, and only there.
        """
        ...

    def entropies(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]], temperature: float
    ) -> list[tuple[float, ...]]:
        """For each token of each response, the entropy in nats of the distribution that it was to be drawn from."""
        ...


class ProblemPool(Protocol):
    """All training problems of a run."""

    def __len__(self) -> int: ...

    def problem(self, index: int) -> Problem:
        """The problem at a place."""
        ...

    def groups(self, indices: Sequence[int]) -> list[Group]:
        """The problems at these places as groups without members, ready to be sampled."""
        ...


class Reducer(Protocol):
    """What is kept of a model's next-token distributions, a few tokens at a time; see :mod:`scope_rlvr.formulas.readings`."""

    @property
    def name(self) -> str: ...


class ReadableModel(Protocol):
    """A model that can be read: the policy, a reference, an average of past policies."""

    def read(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        reducers: Sequence[Any],
        temperature: float,
    ) -> list[dict[str, Any]]:
        """For each response what every reducer, by its name, keeps of the distributions that its tokens come from.

        All reducers of a call share one forward pass. Logits are divided by ``temperature`` first.
        """
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
    NO_SOLUTION = "no_solution"
    """The problem came without a worked solution."""
    UNALIGNED = "unaligned"
    """The worked solution does not go on from the prefix."""
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
    where a server was asked, ``is_aligned`` where a text that was there already was to go on from the prefix.
    """

    token_ids: tuple[int, ...] | None = None
    text: str | None = None
    logprobs: tuple[float, ...] | None = None
    finished: bool = False
    is_cut_off: bool = False
    error: str | None = None
    fault: Fault | None = None
    effort: Effort | None = None
    is_aligned: bool | None = None


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

    @property
    def vocabulary_size(self) -> int:
        """How many ids there are."""
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


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A response that somebody else wrote, for a teacher to say how likely each of its tokens is.

    ``prompt_ids`` and ``response_ids`` are the policy's ids, ``response_text`` is the same response as text. ``reference``
    is what the teacher may see of the reference answer, ``None`` for nothing. With ``top_k`` above 0 the reply also holds
    the ``top_k`` likeliest tokens at each place.
    """

    problem: Problem
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    response_text: str
    reference: str | None = None
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class ScoreReply:
    """A teacher's log-probabilities of a response, or the reason why there are none.

    ``logprobs`` has one number for each of the ``T`` response tokens: ``log π_T(y_t | x, y_<t)``, the natural logarithm
    under the teacher's own distribution at temperature 1, nothing cut off. ``top_ids`` and ``top_logprobs`` are the
    ``T`` rows of the ``K`` likeliest tokens, likeliest first, where the request asks for them.

    >>> reply = ScoreReply(logprobs=(-0.5, -2.0), top_ids=((7, 3), (3, 9)), top_logprobs=((-0.5, -1.0), (-0.2, -2.0)))
    >>> reply.num_tokens, ScoreReply(error="no reply within 60 s", fault=Fault.TIMEOUT).num_tokens
    (2, 0)
    """

    logprobs: tuple[float, ...] | None = None
    top_ids: tuple[tuple[int, ...], ...] | None = None
    top_logprobs: tuple[tuple[float, ...], ...] | None = None
    error: str | None = None
    fault: Fault | None = None
    effort: Effort | None = None

    @property
    def num_tokens(self) -> int:
        """Tokens that were scored. The teacher wrote none of them, so they are counted apart."""
        return len(self.logprobs or ())


class TokenScorer(Protocol):
    """A teacher that can say how likely somebody else's tokens are. On-policy distillation needs one.

    Many teachers cannot: ask :func:`scoring_refusal` before a run.
    """

    @property
    def scoring_refusal(self) -> str | None:
        """Why this teacher cannot score tokens, with the remedy; ``None`` where it can."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """One reply for each request, in order; failures are replies with ``error``, not exceptions."""
        ...


def scoring_refusal(teacher: object) -> str | None:
    """Why a teacher cannot score tokens, with the remedy; ``None`` where it can.

    >>> scoring_refusal(object())
    'object cannot score tokens; take a model with the same vocabulary as the policy, or a server that returns the log-probabilities of a prompt'
    """
    if not hasattr(teacher, "score"):
        return (
            f"{type(teacher).__name__} cannot score tokens; take a model with the same vocabulary as the policy, or a server "
            "that returns the log-probabilities of a prompt"
        )
    return getattr(teacher, "scoring_refusal", None)


class JudgeKind(StrEnum):
    """What a judge is asked about responses to one problem. Its numbers lie between 0 and 1; higher is better."""

    SCORE = "score"
    """How good is each response by itself? Nothing of the others is shown."""
    RANK = "rank"
    """In which order do they come? The best of ``n`` gets 1, the next one ``(n − 2) / (n − 1)``, the last one 0."""
    PICK = "pick"
    """Which one is the best? Shares that sum to 1: how sure the judge is, or 1 for the one that it names."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """Responses to one problem, for a judge to compare or to grade. ``instruction`` says what makes a response good.

    The responses are texts that a model wrote. A judge shows them as material and never as part of its instruction.
    """

    problem: Problem
    responses: tuple[str, ...]
    instruction: str
    kind: JudgeKind = JudgeKind.SCORE


@dataclass(frozen=True, slots=True)
class JudgeReply:
    """One number for each response, or the reason why there are none. A judge that failed never gives zeros."""

    scores: tuple[float, ...] | None = None
    error: str | None = None
    fault: Fault | None = None
    effort: Effort | None = None


class Judge(Protocol):
    """A model that grades, ranks or compares responses. What it says is an opinion: only a verifier knows what is right."""

    def judge(self, requests: Sequence[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        """One reply for each request, in order; failures are replies with ``error``, not exceptions."""
        ...
