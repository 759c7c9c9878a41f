"""A teacher behind an OpenAI-compatible server, asked to continue a text or token ids, or asked in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import Fault, ScoreReply, ScoreRequest, TeacherReply, TeacherRequest, TextCodec
from scope_rlvr.core.prompts import fill
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem
from scope_rlvr.servers.client import Client, ServerAnswer, ServerQuestion
from scope_rlvr.servers.replies import (
    BadReply,
    ids_in,
    is_cut_off,
    logprobs_in,
    object_in,
    only_choice,
    require_own_prompt,
    text_of,
    without_thoughts,
)
from scope_rlvr.store.digests import value_digest
from scope_rlvr.teachers.prompts import shown_problem
from scope_rlvr.teachers.remedies import require_answer
from scope_rlvr.teachers.server_scores import read_scores, scores_body, scores_bytes
from scope_rlvr.teachers.settings import PLAIN_PROMPT, AnyInterface, Chat, Completions

END_MARK = "[end]"
"""What a chat model writes below a step that ends the solution."""

NO_PREFIX = "(nothing yet)"
REJECTED = "\n\nThe step that stood here is wrong; write a right one in its place:\n{rejected_step}"
REFERENCE = "\n\nThe right final answer, for you alone (state it only where the solution arrives at it):\n{reference}"

_CHECK_TOKENS = 64
_SEED_BITS = 31
_LIMITS = ("max_tokens", "max_completion_tokens")
_REPLY_BYTES = 1 << 16
"""Bytes of a reply besides its tokens."""

_BYTES_A_TOKEN = 512
"""Bytes that a written token may take: its text, its id, its log-probability, its alternatives."""

_BYTES_A_PROMPT_TOKEN = 32


class ServerTeacher:
    """Asks a server for what comes after the policy's prefix.

    ``codec`` and ``num_ids`` are the policy's tokenizer and how many ids it has; ids from anywhere else are refused. At
    temperature 0 equal requests are asked once. Failures are replies with ``error``, ``fault`` and ``effort``.
    """

    is_served = True

    def __init__(
        self,
        client: Client,
        name: str,
        codec: TextCodec,
        num_ids: int,
        interface: AnyInterface,
        *,
        temperature: float = 0.0,
        prompt: str = PLAIN_PROMPT,
    ) -> None:
        self.client = client
        self.name = name
        self.codec = codec
        self.num_ids = num_ids
        self.interface = interface
        self.temperature = temperature
        self.prompt = prompt

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        """One reply for each request, in order."""
        return self._ask(requests, seed)

    @property
    def scoring_refusal(self) -> str | None:
        if isinstance(self.interface, Completions) and self.interface.token_ids:
            return None
        return (
            f"the teacher {self.name!r} at {self.client.url} is asked by text, and only token ids say which tokens are to be "
            'scored; take teacher.interface = {kind = "completions", token_ids = true} and a server whose model has the '
            "policy's vocabulary"
        )

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """The log-probabilities of each request's response, in order; without a prompt, the first token has none."""
        return self._score(requests)

    def check(self, problem: Problem) -> None:
        """Ask one question; :class:`UserError` says what is wrong where the answer cannot be used."""
        prompt_ids = self.codec.encode_prompt(problem.prompt)
        request = TeacherRequest(problem, prompt_ids, (), "", max_tokens=_CHECK_TOKENS)
        (reply,) = self._ask([request], 0, use_cache=False)
        require_answer(reply.fault, reply.error, self.client, "teacher", self.name, "answer")

    def check_scoring(self, problem: Problem) -> None:
        """Have one text scored; :class:`UserError` says what is wrong where the answer cannot be used."""
        if self.scoring_refusal is not None:
            raise UserError(self.scoring_refusal)
        prompt_ids = self.codec.encode_prompt(problem.prompt)
        request = ScoreRequest(problem, prompt_ids, self.codec.encode(problem.prompt), problem.prompt)
        (reply,) = self._score([request], use_cache=False)
        require_answer(reply.fault, reply.error, self.client, "teacher", self.name, "score tokens")

    def _ask(self, requests: Sequence[TeacherRequest], seed: int, *, use_cache: bool = True) -> list[TeacherReply]:
        bodies = [self._body(request) for request in requests]
        if self.temperature > 0:
            # A question that stands twice in one call is to be answered twice.
            seen: Counter[str] = Counter()
            for body in bodies:
                key = value_digest(body)
                body["seed"] = derive_seed(seed, key, seen[key]) % (1 << _SEED_BITS)
                seen[key] += 1
        questions = [self._question(request, body) for request, body in zip(requests, bodies, strict=True)]
        answers = self.client.ask(self.interface.path, questions, use_cache=use_cache)
        return [_reply_of(answer) for answer in answers]

    def _score(self, requests: Sequence[ScoreRequest], *, use_cache: bool = True) -> list[ScoreReply]:
        if self.scoring_refusal is not None:
            return [ScoreReply(error=self.scoring_refusal, fault=Fault.OTHER) for _ in requests]
        asked = [(i, self._score_question(request)) for i, request in enumerate(requests) if request.response_ids]
        answers = self.client.ask(self.interface.path, [question for _, question in asked], use_cache=use_cache)
        replies = {i: _scores_of(answer) for (i, _), answer in zip(asked, answers, strict=True)}
        return [replies.get(i, ScoreReply(logprobs=())) for i in range(len(requests))]

    def _score_question(self, request: ScoreRequest) -> ServerQuestion[ScoreReply]:
        shown = shown_problem(self.prompt, request)
        is_plain = shown == request.problem.prompt
        prompt_ids = request.prompt_ids if is_plain else self.codec.encode_prompt(shown)
        body = self.interface.adapted(scores_body(self.name, prompt_ids, request.response_ids, request.top_k))
        sent, num_scored, top_k = [*prompt_ids, *request.response_ids], len(request.response_ids), request.top_k
        return ServerQuestion(
            body,
            len(sent),
            1,
            lambda reply: read_scores(reply, sent, num_scored, top_k),
            max_bytes=scores_bytes(len(sent), top_k),
        )

    def _question(self, request: TeacherRequest, body: dict[str, Any]) -> ServerQuestion[TeacherReply]:
        body = self.interface.adapted(body)
        prompt = body.get("prompt")
        # Of a text, the policy's tokens are a guess; the server's own count takes its place as soon as it is known.
        text = prompt if isinstance(prompt, str) else body["messages"][0]["content"] if prompt is None else ""
        num_prompt_tokens = len(prompt) if isinstance(prompt, list) else len(self.codec.encode(text))
        most = max(self._num_tokens(request), *(body[name] for name in _LIMITS if type(body.get(name)) is int), 0)
        return ServerQuestion(
            body,
            num_prompt_tokens,
            most,
            lambda reply: self._read(request, body, most, reply),
            max_bytes=_REPLY_BYTES + _BYTES_A_TOKEN * most + _BYTES_A_PROMPT_TOKEN * num_prompt_tokens,
        )

    # --- what is asked --------------------------------------------------------------------------------------------

    def _num_tokens(self, request: TeacherRequest) -> int:
        return request.max_tokens + (self.interface.thinking_tokens if isinstance(self.interface, Chat) else 0)

    def _body(self, request: TeacherRequest) -> dict[str, Any]:
        common = {"model": self.name, "max_tokens": self._num_tokens(request), "temperature": self.temperature}
        shown = shown_problem(self.prompt, request)
        if isinstance(self.interface, Chat):
            return common | {"messages": [{"role": "user", "content": chat_text(self.interface, request, shown)}]}
        if not self.interface.token_ids:
            # No stop text: with one, most servers do not say whether it or the end of the solution has ended the text.
            return common | {"prompt": shown + request.prefix_text}
        is_plain = shown == request.problem.prompt
        prompt_ids = request.prompt_ids if is_plain else self.codec.encode_prompt(shown)
        stop = {} if request.stop_text is None else {"stop": [request.stop_text], "include_stop_str_in_output": True}
        return common | {"prompt": [*prompt_ids, *request.prefix_ids], "return_token_ids": True, "logprobs": 1} | stop

    # --- what is answered -----------------------------------------------------------------------------------------

    def _read(self, request: TeacherRequest, body: dict[str, Any], most: int, reply: Any) -> TeacherReply:
        """A reply of at most ``most`` tokens."""
        choice = only_choice(reply)
        cut_off = is_cut_off(choice)
        if isinstance(self.interface, Chat):
            return read_chat(text_of(object_in(choice, "message"), "content"), request, cut_off)
        text = text_of(choice, "text")
        stop_reason = choice.get("stop_reason")
        is_stopped = bool(request.stop_text) and (
            isinstance(stop_reason, str) or text.endswith(request.stop_text or "")
        )
        finished = not cut_off and not is_stopped
        token_ids = self._ids_of(reply, choice, body, most, text)
        if token_ids is None:
            return TeacherReply(text=_not_empty(text), finished=finished, is_cut_off=cut_off)
        return TeacherReply(token_ids, logprobs=self._logprobs_of(choice, len(token_ids)), finished=finished)

    def _ids_of(
        self, reply: Any, choice: dict[str, Any], body: dict[str, Any], most: int, text: str
    ) -> tuple[int, ...] | None:
        """The reply's ids where it has any; they must be those of its text, and it must answer what was asked."""
        sent = body.get("prompt")
        if not isinstance(self.interface, Completions) or not self.interface.token_ids or not isinstance(sent, list):
            return None
        require_own_prompt(reply, choice, sent)
        if choice.get("token_ids") is None:
            return None
        ids = ids_in(choice["token_ids"], self.num_ids, most, "token_ids")
        if not ids:
            raise BadReply(Fault.EMPTY, "the server wrote nothing")
        # A text may begin with another space than its tokens, and end in the middle of the last one.
        if not _letters("".join(self.codec.pieces(ids))).startswith(_letters(text)):
            raise BadReply(Fault.MALFORMED, "token_ids are not those of the text in the policy's vocabulary")
        return ids

    def _logprobs_of(self, choice: dict[str, Any], num_tokens: int) -> tuple[float, ...] | None:
        """The teacher's own log-probabilities, known at temperature 1 and where it is greedy alone: servers give those of
        temperature 1."""
        given = choice.get("logprobs")
        if given is None or self.temperature not in (0.0, 1.0):
            return None
        values = given.get("token_logprobs") if isinstance(given, dict) else None
        return logprobs_in(values, num_tokens, "logprobs.token_logprobs")


def chat_text(interface: Chat, request: TeacherRequest, problem: str) -> str:
    """What a chat model is asked: the template with the problem as it is shown, and what the request shows besides where the
    template has no place for it."""
    template = interface.rest if request.stop_text is None else interface.next_step
    for shown, place, addition in (
        (request.rejected_step, "{rejected_step}", REJECTED),
        (request.reference, "{reference}", REFERENCE),
    ):
        template += addition if shown is not None and place not in template else ""
    return fill(
        template,
        problem=problem.strip(),
        prefix=request.prefix_text.strip() or NO_PREFIX,
        rejected_step=(request.rejected_step or "").strip(),
        reference=request.reference or "",
    )


def read_chat(content: str, request: TeacherRequest, is_cut_off: bool) -> TeacherReply:
    r"""A chat model's words as a reply: without its thoughts, and without the mark that ends a solution.

    >>> request = TeacherRequest(Problem("p", "2 + 2?", "4"), (), (), "", max_tokens=9, stop_text="\n\n")
    >>> reply = read_chat("<think>easy</think>So it is 4.\n[end]", request, is_cut_off=False)
    >>> reply.text, reply.finished
    ('So it is 4.', True)
    """
    text, mark, _ = without_thoughts(content).partition(END_MARK)
    # A single step that is not marked may be followed by others; a whole solution ends where the reply does.
    finished = bool(mark) or (request.stop_text is None and not is_cut_off)
    return TeacherReply(text=_not_empty(text.strip()), finished=finished, is_cut_off=is_cut_off and not mark)


def _reply_of(answer: ServerAnswer[TeacherReply]) -> TeacherReply:
    if answer.value is None:
        return TeacherReply(error=answer.message, fault=answer.fault, effort=answer.effort)
    return replace(answer.value, effort=answer.effort)


def _scores_of(answer: ServerAnswer[ScoreReply]) -> ScoreReply:
    if answer.value is None:
        return ScoreReply(error=answer.message, fault=answer.fault, effort=answer.effort)
    return replace(answer.value, effort=answer.effort)


def _not_empty(text: str) -> str:
    if not text.strip():
        raise BadReply(Fault.EMPTY, "the server wrote nothing")
    return text


def _letters(text: str) -> str:
    """Text without white space and broken characters."""
    return "".join(text.replace("\ufffd", "").split())
