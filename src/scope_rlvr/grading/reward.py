"""A TRL reward function as a verifier."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Outcome, Problem, Verdict

Rewards: TypeAlias = Sequence[float | None]


class UnusableReward(UserError):
    """A reward function that cannot be called as TRL would call it."""


class RewardVerifier:
    """Lets one reward function say what is right: a response that it pays ``right_at`` or more.

    The function is called as TRL calls it, once for all responses, by keyword:

    * ``prompts`` and ``completions``: texts, or, where ``conversational``, lists of one message each;
    * ``reference``, ``answer`` and ``solution``: the reference; ``id``, ``level`` and ``source`` of the problems;
    * ``columns``: further columns of the data set, each a mapping from the ids of the problems to values;
    * ``completion_ids``, with ``encode``: the responses in token ids, encoded anew, since a verifier is handed texts;
    * ``given``: anything else by name, such as ``trainer_state``, ``log_metric`` and ``log_extra``, as it is. It is read at
      each call, so what belongs to a trainer can be put in when there is one.

    An ``async`` function is awaited, always in the same event loop. Rewards are paid as they are; ``None`` or NaN is an unknown
    verdict.

    What the function takes for the answer cannot be known, so verdicts name none, and the answer-leak guard refuses any
    correction that is paid as right by itself, also one of a last line.

    Raises :class:`UnusableReward` for a function that requires what it would not be given, or is a model; for a problem that a
    column has no value for; and when another number of rewards comes back than there are responses.

    >>> def length_reward(prompts, completions, **columns):
    ...     return [len(text) / 4 for text in completions]
    >>> problem = Problem("p", "?", "1")
    >>> [v.outcome.value for v in RewardVerifier(length_reward).verify([(problem, "abcd"), (problem, "ab")])]
    ['right', 'wrong']
    """

    def __init__(
        self,
        reward_func: Callable[..., Rewards | Awaitable[Rewards]],
        right_at: float = 1.0,
        *,
        conversational: bool = False,
        encode: Callable[[str], Sequence[int]] | None = None,
        columns: Mapping[str, Mapping[str, Any]] | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.reward_func = reward_func
        self.right_at = right_at
        self.conversational = conversational
        self.encode = encode
        self.columns = dict(columns or {})
        self.given = dict(given or {})
        self._loop: asyncio.AbstractEventLoop | None = None
        _require_callable(reward_func, set(self._arguments([])))

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict for each problem and response, in order."""
        if not attempts:
            return []
        rewards = self.reward_func(**self._arguments(attempts))
        if inspect.isawaitable(rewards):
            rewards = self._awaited(rewards)
        if len(rewards) != len(attempts):
            raise UnusableReward(f"the reward function returned {len(rewards)} rewards for {len(attempts)} responses")
        return [self._verdict(reward) for reward in rewards]

    def _arguments(self, attempts: Sequence[tuple[Problem, str]]) -> dict[str, Any]:
        problems = [problem for problem, _ in attempts]
        texts = [text for _, text in attempts]
        references = [problem.reference for problem in problems]
        arguments: dict[str, Any] = {
            "prompts": [self._said("user", problem.prompt) for problem in problems],
            "completions": [self._said("assistant", text) for text in texts],
            **dict.fromkeys(("reference", "answer", "solution"), references),
            **{name: [getattr(problem, name) for problem in problems] for name in ("id", "level", "source")},
        }
        if self.encode is not None:
            arguments["completion_ids"] = [list(self.encode(text)) for text in texts]
        columns = {
            name: [_value(name, column, problem) for problem in problems] for name, column in self.columns.items()
        }
        return arguments | columns | self.given

    def _said(self, role: str, text: str) -> Any:
        return [{"role": role, "content": text}] if self.conversational else text

    def _awaited(self, rewards: Awaitable[Rewards]) -> Rewards:
        """In a loop of its own thread: this one may have a loop already, as in a notebook."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="reward-function", daemon=True).start()

        async def wait() -> Rewards:
            return await rewards

        return asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _verdict(self, reward: float | None) -> Verdict:
        if reward is None or math.isnan(reward):
            return Verdict(Outcome.UNKNOWN, reason="the reward function gave no reward")
        outcome = Outcome.RIGHT if reward >= self.right_at else Outcome.WRONG
        return Verdict(outcome, reason=f"reward {reward}, right at {self.right_at}", reward=float(reward))


def _value(name: str, column: Mapping[str, Any], problem: Problem) -> Any:
    if problem.id not in column:
        raise UnusableReward(f"the column {name!r} has no value for the problem {problem.id!r}; add it to columns")
    return column[problem.id]


_REMEDIES = {
    "completion_ids": "encode=lambda text: tokenizer.encode(text, add_special_tokens=False)",
    "trainer_state": 'given={"trainer_state": ...}',
    "log_metric": 'given={"log_metric": a function of a name and a number}',
    "log_extra": 'given={"log_extra": a function of a column and its values}',
    "environments": 'given={"environments": ...}',
}


def _require_callable(reward_func: Any, given: set[str]) -> None:
    """Raise :class:`UnusableReward` where the function would not get what it requires."""
    if not callable(reward_func) or hasattr(reward_func, "forward"):
        raise UnusableReward(
            f"{reward_func!r:.80} is no reward function: RewardVerifier needs a function of prompts and completions; a reward "
            "model gives scores, not verdicts"
        )
    try:
        parameters = inspect.signature(reward_func).parameters.values()
    except ValueError:  # A function in C has no signature that could be looked at.
        return
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if by_position:
        raise UnusableReward(f"the reward function wants {by_position} by position, and is called by keyword")
    needs_value = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [p.name for p in needs_value if p.name not in given]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    unknown = sorted(given - {p.name for p in parameters}) if not takes_any else []
    if missing:
        remedies = [_REMEDIES.get(name, f'columns={{"{name}": values by the id of the problem}}') for name in missing]
        raise UnusableReward(
            f"the reward function requires {', '.join(missing)}, and would not get it: make it RewardVerifier(..., "
            f"{', '.join(remedies)})"
        )
    if unknown:
        raise UnusableReward(
            f"the reward function takes no {', '.join(unknown)}: let it take **kwargs, as TRL's reward functions do"
        )
