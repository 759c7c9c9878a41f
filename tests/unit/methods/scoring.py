"""Models that score texts by a rule, for methods that read or are taught by scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from scope_rlvr.core.ports import ScoreReply, ScoreRequest
from scope_rlvr.core.toolbox import Toolbox
from tests.doubles import SAMPLED, ScriptedTeacher, toolbox


def chars(token_ids: Sequence[int]) -> str:
    """The text of ids, end-of-sequence tokens as ``|``."""
    return "".join("|" if token == 0 else chr(token % SAMPLED) for token in token_ids)


@dataclass
class Teacher(ScriptedTeacher):
    """Writes by its script, and finds each character as likely as ``logprob`` says; a text with ``fails`` in it not at all."""

    logprob: Callable[[str], float] = lambda char: -0.1
    fails: str = "\0"
    scored: list[str] = field(default_factory=list)
    scoring_refusal: str | None = None

    def score(self, requests: Sequence[ScoreRequest]) -> list[ScoreReply]:
        texts = [chars(request.response_ids) for request in requests]
        self.scored += texts
        return [
            ScoreReply(error="cannot be read") if self.fails in text else ScoreReply(tuple(map(self.logprob, text)))
            for text in texts
        ]


@dataclass
class Reader:
    """Keeps what ``rules`` say of each character of a response, by the reducer's name, and remembers what it read."""

    rules: dict[str, Callable[[str, str], float]]
    texts: list[tuple[str, str]] = field(default_factory=list)

    def read(self, prompts: Any, responses: Any, reducers: Any, temperature: float) -> list[dict[str, Any]]:
        found = []
        for prompt, response in zip(prompts, responses, strict=True):
            shown, text = chars(prompt), chars(response)
            self.texts.append((shown, text))
            found.append({r.name: torch.tensor([self.rules[r.name](shown, char) for char in text]) for r in reducers})
        return found


def reading_toolbox(**changes: Any) -> Toolbox:
    """A toolbox whose prompts are their text, one id a character."""
    return toolbox(**({"prompt_reader": lambda problem, text: tuple(map(ord, text))} | changes))
