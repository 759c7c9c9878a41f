"""A judge behind an OpenAI-compatible server: it explains itself and writes its verdict in the last line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scope_rlvr.core.ports import Fault, JudgeKind, JudgeReply, JudgeRequest
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem
from scope_rlvr.servers.client import Client, ServerAnswer, ServerQuestion
from scope_rlvr.servers.replies import BadReply, is_cut_off, object_in, only_choice, text_of, without_thoughts
from scope_rlvr.store.digests import value_digest
from scope_rlvr.teachers.judging import (
    FORMS,
    Ballot,
    ballots,
    known_without_asking,
    mean_scores,
    read_verdict,
    total_effort,
)
from scope_rlvr.teachers.remedies import require_answer
from scope_rlvr.teachers.settings import JudgeChat, JudgeInterface

ENDING = """\


Explain your verdict in a few sentences. Then end with one line of the following form, and write nothing after it.
Verdict: {form}"""

_SEED_BITS = 31
_CHARACTERS_A_TOKEN = 3
"""A low guess, for the budget, of what the server will count."""

_REPLY_BYTES = 1 << 16
_BYTES_A_TOKEN = 512


class ServerJudge:
    """Asks a server's model for verdicts in writing.

    With ``both_orders`` it compares every set of responses twice, the second time the other way round, and takes the mean.
    A request one of whose verdicts cannot be had or read has failed: there is no number that would stand for it.
    """

    is_served = True

    def __init__(
        self,
        client: Client,
        name: str,
        interface: JudgeInterface,
        *,
        temperature: float = 0.0,
        max_tokens: int = 1024,
        both_orders: bool = True,
    ) -> None:
        self.client = client
        self.name = name
        self.interface = interface
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.both_orders = both_orders

    def judge(self, requests: Sequence[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        """One reply for each request, in order; equal questions are asked once at temperature 0."""
        return self._judge(requests, seed)

    def check(self) -> None:
        """Ask one question; :class:`~scope_rlvr.core.errors.UserError` says what is wrong where the answer cannot be used."""
        problem = Problem("check", "How much is 2 + 2?", "4")
        instruction = "Judge whether the response is right."
        request = JudgeRequest(problem, ("2 + 2 = 4.",), instruction, JudgeKind.SCORE)
        (reply,) = self._judge([request], 0, use_cache=False)
        require_answer(reply.fault, reply.error, self.client, "judge", self.name, "judge")

    def _judge(self, requests: Sequence[JudgeRequest], seed: int, *, use_cache: bool = True) -> list[JudgeReply]:
        known = [known_without_asking(request) for request in requests]
        asked = [
            ballots(request, both_orders=self.both_orders) if reply is None else []
            for request, reply in zip(requests, known, strict=True)
        ]
        questions = [self._question(ballot, seed, i) for i, of_one in enumerate(asked) for ballot in of_one]
        answers = iter(self.client.ask(self.interface.path, questions, use_cache=use_cache))
        return [
            reply or _reply_of(request, [(ballot, next(answers)) for ballot in of_one])
            for request, reply, of_one in zip(requests, known, asked, strict=True)
        ]

    def _question(self, ballot: Ballot, seed: int, number: int) -> ServerQuestion[tuple[float, ...]]:
        text = ballot.text + ENDING.format(form=FORMS[ballot.kind])
        said: dict[str, Any] = {"messages": [{"role": "user", "content": text}]}
        body = {"model": self.name, "max_tokens": self.max_tokens, "temperature": self.temperature}
        body |= said if isinstance(self.interface, JudgeChat) else {"prompt": text + "\n\n"}
        if self.temperature > 0:
            body["seed"] = derive_seed(seed, value_digest(body), number) % (1 << _SEED_BITS)
        num_prompt_tokens = len(text) // _CHARACTERS_A_TOKEN
        max_bytes = _REPLY_BYTES + _BYTES_A_TOKEN * self.max_tokens
        return ServerQuestion(
            self.interface.adapted(body),
            num_prompt_tokens,
            self.max_tokens,
            lambda reply: self._read(reply, ballot),
            max_bytes=max_bytes,
        )

    def _read(self, reply: Any, ballot: Ballot) -> tuple[float, ...]:
        choice = only_choice(reply)
        is_chat = isinstance(self.interface, JudgeChat)
        text = text_of(object_in(choice, "message"), "content") if is_chat else text_of(choice, "text")
        # What a budget cut off may end within a quotation of a response.
        if is_cut_off(choice):
            raise BadReply(Fault.MALFORMED, f"no verdict within {self.max_tokens} tokens; raise judge.max_tokens")
        return read_verdict(without_thoughts(text), ballot)


def _reply_of(request: JudgeRequest, answered: Sequence[tuple[Ballot, ServerAnswer[tuple[float, ...]]]]) -> JudgeReply:
    effort = total_effort([answer.effort for _, answer in answered])
    for _, answer in answered:
        if answer.value is None:
            return JudgeReply(error=answer.message, fault=answer.fault, effort=effort)
    votes = [(ballot, answer.value) for ballot, answer in answered if answer.value is not None]
    return JudgeReply(mean_scores(len(request.responses), votes), effort=effort)
