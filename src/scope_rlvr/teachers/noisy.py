"""A teacher that is wrong as often as it is told to be: for studies of what a weak teacher costs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import cast

from scope_rlvr.core.ports import (
    ScoreReply,
    ScoreRequest,
    Teacher,
    TeacherReply,
    TeacherRequest,
    TextCodec,
    TokenScorer,
    is_served,
    scoring_refusal,
)
from scope_rlvr.core.seeds import derive_seed

_NUMBER = re.compile(r"\d+")


class NoisyTeacher:
    """In a share of the replies, replaces one number by another one that stands in the problem or in the reply.

    Which replies and which number depends on the request, the call's ``seed`` and the instance's. A reply without another number
    to choose from is left alone. What is altered becomes text, without log-probabilities.

    >>> class Sure:
    ...     def continue_from(self, requests, *, seed):
    ...         return [TeacherReply(text="3 + 5 = 8", finished=True) for _ in requests]
    >>> from scope_rlvr.core.types import Problem
    >>> request = TeacherRequest(Problem("p", "reduce 3 5", "8"), (), (), "", max_tokens=9)
    >>> NoisyTeacher(Sure(), share=1.0, codec=None, seed=5).continue_from([request], seed=0)[0].text
    '8 + 5 = 8'
    """

    def __init__(self, teacher: Teacher, share: float, codec: TextCodec, seed: int) -> None:
        self.teacher = teacher
        self.share = share
        self.codec = codec
        self.seed = seed

    @property
    def is_served(self) -> bool:
        return is_served(self.teacher)

    @property
    def scoring_refusal(self) -> str | None:
        return scoring_refusal(self.teacher)

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        """The teacher's own scores: noise is for what it writes."""
        return cast(TokenScorer, self.teacher).score(requests)

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        replies = self.teacher.continue_from(requests, seed=seed)
        rng = Random(derive_seed(self.seed, "teacher noise", seed))
        return [
            self._altered(request, reply, rng) if rng.random() < self.share else reply
            for request, reply in zip(requests, replies, strict=True)
        ]

    def _altered(self, request: TeacherRequest, reply: TeacherReply, rng: Random) -> TeacherReply:
        if reply.error is not None:
            return reply
        text = (
            "".join(self.codec.pieces(reply.token_ids)) if reply.text is None and reply.token_ids else reply.text or ""
        )
        numbers = list(_NUMBER.finditer(text))
        known = {number.group() for number in numbers} | set(_NUMBER.findall(request.problem.prompt))
        changeable = [number for number in numbers if known - {number.group()}]
        if not changeable:
            return reply
        number = rng.choice(changeable)
        other = rng.choice(sorted(known - {number.group()}))
        altered = text[: number.start()] + other + text[number.end() :]
        is_cut_off = reply.is_cut_off or not (reply.finished or request.stop_text is None or request.stop_text in text)
        return replace(reply, token_ids=None, text=altered, logprobs=None, is_cut_off=is_cut_off)
