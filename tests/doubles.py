"""Stand-ins for models: a world in which every character is a token and every player reads from a script.

In all scripts ``|`` is the end-of-sequence token. Sampled characters have other ids than encoded ones, so that text
which was decoded and encoded again can be told from ids that were kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.ports import (
    Continuation,
    Fault,
    JudgeKind,
    JudgeReply,
    JudgeRequest,
    Sampling,
    TeacherReply,
    TeacherRequest,
)
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods.method import Method
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.salvage.salvage import salvage
from scope_rlvr.salvage.settings import SalvageSettings
from scope_rlvr.teachers.judging import rank_scores

END = 0
END_MARK = "|"
SAMPLED = 1 << 21
"""Added to the id of a character that somebody sampled."""

LOGPROB = -0.5
"""What every scripted token was sampled with."""


class CharCodec:
    """One token a character."""

    end_id = END
    end_ids = frozenset({END})
    vocabulary_size = 1 << 22

    def pieces(self, token_ids: Sequence[int]) -> tuple[str, ...]:
        return tuple("" if token == END else chr(token % SAMPLED) for token in token_ids)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


def sampled(text: str) -> tuple[int, ...]:
    """Ids of a text that a model sampled."""
    return tuple(END if char == END_MARK else SAMPLED + ord(char) for char in text)


def plain(rollout: Rollout) -> str:
    """The text of a rollout, end-of-sequence tokens included."""
    return "".join(END_MARK if token == END else chr(token % SAMPLED) for token in rollout.token_ids)


@dataclass
class ScriptedPolicy:
    """Gives the continuations of its script in order, the last one again and again, cut to the budget."""

    script: Sequence[str] = ("answer 7|",)
    prefixes: list[tuple[int, ...]] = field(default_factory=list)
    budgets: list[int] = field(default_factory=list)
    num_calls: int = 0

    def extend(
        self, prefixes: Sequence[Sequence[int]], sampling: Sampling, *, max_tokens: Sequence[int], seed: int
    ) -> list[Continuation]:
        self.num_calls += 1
        continuations = []
        for prefix, budget in zip(prefixes, max_tokens, strict=True):
            ids = sampled(self.script[min(len(self.prefixes), len(self.script) - 1)])[:budget]
            self.prefixes.append(tuple(prefix))
            self.budgets.append(budget)
            continuations.append(Continuation(ids, (LOGPROB,) * len(ids), finished=ids[-1:] == (END,)))
        return continuations


@dataclass
class ScriptedTeacher:
    """Gives the replies of its script in order, the last one again and again; a string is a reply by ids."""

    script: Sequence[str | TeacherReply] = ("good\n\n",)
    requests: list[TeacherRequest] = field(default_factory=list)
    num_calls: int = 0

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        self.num_calls += 1
        replies = []
        for request in requests:
            reply = self.script[min(len(self.requests), len(self.script) - 1)]
            self.requests.append(request)
            if isinstance(reply, str):
                ids = sampled(reply)
                reply = TeacherReply(ids, logprobs=(-0.1,) * len(ids), finished=ids[-1:] == (END,))
            replies.append(reply)
        return replies


@dataclass
class TableScorer:
    """A step with ``bad`` in it scores 0.1, any other 0.9; ``table`` says otherwise for single steps.

    ``distort`` is applied to the scores of every solution, to play a scorer that fails.
    """

    table: dict[str, float] = field(default_factory=dict)
    distort: Callable[[tuple[float, ...]], Any] = lambda scores: scores
    rule: Threshold = field(default_factory=lambda: Threshold(threshold=0.5))
    solutions: list[tuple[str, ...]] = field(default_factory=list)
    num_calls: int = 0

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        self.num_calls += 1
        self.solutions += [tuple(steps) for _, steps in solutions]
        return [
            self.distort(tuple(self.table.get(step.strip(), 0.1 if "bad" in step else 0.9) for step in steps))
            for _, steps in solutions
        ]


@dataclass
class ExactJudge:
    """Knows how good a response is: ``goodness`` says so, by default 1 for a text without ``bad`` in it and 0 else.

    It fails for a response with ``unreadable`` in it.
    """

    goodness: Callable[[str], float] = lambda text: float("bad" not in text)
    requests: list[JudgeRequest] = field(default_factory=list)

    def judge(self, requests: Sequence[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        self.requests += requests
        return [self._reply(request) for request in requests]

    def _reply(self, request: JudgeRequest) -> JudgeReply:
        if any("unreadable" in text for text in request.responses):
            return JudgeReply(error="no verdict", fault=Fault.MALFORMED)
        good = [self.goodness(text) for text in request.responses]
        if request.kind is JudgeKind.SCORE:
            return JudgeReply(tuple(good))
        order = sorted(range(len(good)), key=lambda place: -good[place])
        if request.kind is JudgeKind.PICK:
            return JudgeReply(tuple(float(place == order[0]) for place in range(len(good))))
        return JudgeReply(rank_scores(order) if len(good) > 1 else (1.0,) * len(good))


@dataclass
class ExactVerifier:
    """Reads ``answer X`` in the last line; ``answer ?`` cannot be judged."""

    texts: list[str] = field(default_factory=list)

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        self.texts += [text for _, text in attempts]
        return [self._verdict(problem, text) for problem, text in attempts]

    def _verdict(self, problem: Problem, text: str) -> Verdict:
        last = text.strip().split("\n")[-1].strip()
        if not last.startswith("answer "):
            return Verdict(Outcome.WRONG, reason="no answer")
        answer = last.removeprefix("answer ").strip()
        if answer == "?":
            return Verdict(Outcome.UNKNOWN, answer, "cannot be judged")
        return Verdict(Outcome.RIGHT if answer == problem.reference else Outcome.WRONG, answer)


PROBLEM = Problem("p", "Q", "7")
PROMPT_IDS = (1, 2)


def rollout(text: str) -> Rollout:
    """A rollout of the policy: truncated unless the text ends with the end mark."""
    ids = sampled(text)
    segment = Segment(ids, Origin.POLICY, (LOGPROB,) * len(ids))
    return Rollout(PROMPT_IDS, (segment,) if ids else (), is_truncated=not text.endswith(END_MARK))


def group(*texts: str, problem: Problem = PROBLEM) -> Group:
    """The verified group of some responses."""
    rollouts = [rollout(text) for text in texts]
    verdicts = toolbox().verify([(problem, r) for r in rollouts])
    members = tuple(Member(r, v) for r, v in zip(rollouts, verdicts, strict=True))
    return Group(problem, members, prompt_ids=PROMPT_IDS)


def credited(method: Method, groups: Sequence[Group]) -> list[tuple[Streams, ...]]:
    """The streams of groups whose rewards are the verifier's, without any normalisation."""
    return method.credit(groups, [[m.verdict.pay for m in g.members] for g in groups], Normalisation.NONE)


def toolbox(**changes: Any) -> Toolbox:
    """A complete toolbox of doubles, with some of its parts replaced."""
    parts: dict[str, Any] = {
        "policy": ScriptedPolicy(),
        "verifier": ExactVerifier(),
        "codec": CharCodec(),
        "sampling": Sampling(),
        "max_response_tokens": 200,
        "seed": 0,
        "step_scorer": TableScorer(),
        "teacher": ScriptedTeacher(),
    }
    return Toolbox(**(parts | changes))


def salvaged(groups: Group | Sequence[Group], tools: Toolbox | None = None, **settings: Any) -> list[Group]:
    """Salvage with settings given by name."""
    groups = [groups] if isinstance(groups, Group) else groups
    return salvage(groups, SalvageSettings(**settings), tools or toolbox())
