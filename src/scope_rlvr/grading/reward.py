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

OF_TRAINER = frozenset({"trainer_state", "log_metric", "log_extra"})
"""What TRL hands to reward functions of its own."""


class UnusableReward(UserError):
    """A reward function that cannot be called as TRL would call it."""


class RewardVerifier:
    """Lets one reward function say what is right: a response that it pays ``right_at`` or more.

    The function is called as TRL calls it, once for all responses, by keyword:

    * ``prompts`` and ``completions``: texts, or, where ``conversational``, lists of one message each;
    * ``reference``, ``answer`` and ``solution``: the reference; ``id``, ``level`` and ``source`` of the problems;
    * ``columns``: further columns of the data set, each a mapping from the ids of the problems to values;
    * ``completion_ids``, with ``encode``: the responses in token ids, encoded anew, since a verifier is handed texts;
    * ``trainer_state``, ``log_metric`` and ``log_extra``, as TRL means them, from the ``ScopeTrainer`` that the verifier is
      given to. What ``log_extra`` is told goes to the completions table, beside the rows that are trained on;
    * ``given``: anything else by name, such as ``environments``, as it is.

    An ``async`` function is awaited, always in the same event loop. Rewards are paid as they are; ``None`` or NaN is an unknown
    verdict.

    What the function takes for the answer cannot be known, so verdicts name none, and the answer-leak guard refuses any
    correction that is paid as right by itself, also one of a last line.

    Raises :class:`UnusableReward` for a function that requires what it would not be given, or is a model; for a problem that a
    column has no value for; when another number of rewards comes back than there are responses; and where a function that
    requires a trainer's things is called without a trainer.

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
        self._trainer: Callable[[], Mapping[str, Any]] | None = None
        parameters = _parameters_of(reward_func)
        _require_callable(reward_func, parameters, set(self._arguments([])))
        takes_any = parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters)
        self._wants = OF_TRAINER if takes_any else OF_TRAINER & {p.name for p in parameters or ()}
        self._requires = OF_TRAINER & {p.name for p in parameters or () if p.default is p.empty}

    def belong_to(self, trainer: Callable[[], Mapping[str, Any]]) -> None:
        """From now on, hand the function the trainer's ``trainer_state`` and ``log_metric``, as they are at each call.

        What it logs by ``log_extra`` goes to the verdicts, since not every response that is judged is one that is trained on.
        """
        self._trainer = trainer

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        """One verdict for each problem and response, in order."""
        if not attempts:
            return []
        columns: dict[str, list[Any]] = {}
        rewards = self.reward_func(**self._arguments(attempts), **self._of_trainer(columns))
        if inspect.isawaitable(rewards):
            rewards = self._awaited(rewards)
        if len(rewards) != len(attempts):
            raise UnusableReward(f"the reward function returned {len(rewards)} rewards for {len(attempts)} responses")
        for name, values in columns.items():
            if len(values) != len(attempts):
                raise UnusableReward(
                    f"log_extra({name!r}, ...) was given {len(values)} values for {len(attempts)} responses; give one for each"
                )
        extras = [{name: values[i] for name, values in columns.items()} for i in range(len(attempts))]
        return [self._verdict(reward, extra) for reward, extra in zip(rewards, extras, strict=True)]

    def _of_trainer(self, columns: dict[str, list[Any]]) -> dict[str, Any]:
        """What of a trainer the function takes; ``columns`` takes up what it says of each response."""
        missing = self._requires - self.given.keys()
        if self._trainer is None and missing:
            raise UnusableReward(
                f"the reward function requires {', '.join(sorted(missing))}, which a trainer has: give this verifier to "
                "ScopeTrainer, or make these parameters optional"
            )
        if self._trainer is None:
            return {}
        things = {**self._trainer(), "log_extra": lambda name, values: columns.setdefault(name, []).extend(values)}
        return {name: thing for name, thing in things.items() if name in self._wants - self.given.keys()}

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

    def _verdict(self, reward: float | None, extra: Mapping[str, Any]) -> Verdict:
        if reward is None or math.isnan(reward):
            return Verdict(Outcome.UNKNOWN, reason="the reward function gave no reward", extra=extra)
        outcome = Outcome.RIGHT if reward >= self.right_at else Outcome.WRONG
        return Verdict(outcome, reason=f"reward {reward}, right at {self.right_at}", reward=float(reward), extra=extra)


def _value(name: str, column: Mapping[str, Any], problem: Problem) -> Any:
    if problem.id not in column:
        raise UnusableReward(f"the column {name!r} has no value for the problem {problem.id!r}; add it to columns")
    return column[problem.id]


_REMEDIES = {
    "completion_ids": "encode=lambda text: tokenizer.encode(text, add_special_tokens=False)",
    "environments": 'given={"environments": ...}',
}


def _parameters_of(reward_func: Any) -> list[inspect.Parameter] | None:
    """The parameters of a function; ``None`` for one in C, which has no signature that could be looked at."""
    try:
        return list(inspect.signature(reward_func).parameters.values())
    except (TypeError, ValueError):
        return None


def _require_callable(reward_func: Any, parameters: list[inspect.Parameter] | None, given: set[str]) -> None:
    """Raise :class:`UnusableReward` where the function would not get what it requires."""
    if not callable(reward_func) or hasattr(reward_func, "forward"):
        raise UnusableReward(
            f"{reward_func!r:.80} is no reward function: RewardVerifier needs a function of prompts and completions; a reward "
            "model gives scores, not verdicts"
        )
    if parameters is None:
        return
    by_position = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    if by_position:
        raise UnusableReward(f"the reward function wants {by_position} by position, and is called by keyword")
    needs_value = [p for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    missing = [p.name for p in needs_value if p.name not in given | OF_TRAINER]
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
