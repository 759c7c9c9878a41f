"""A TRL reward function as a verifier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from scope_rlvr.core.types import Outcome, Problem, Verdict


class RewardVerifier:
    """Lets one reward function say what is right: a response that it pays ``right_at`` or more.

    The function is called as TRL calls it, once for all responses: with ``prompts``, ``completions`` (texts, or, where
    ``conversational``, lists of one assistant message) and the reference as columns ``reference``, ``answer`` and
    ``solution``. Other columns of a data set are not passed. Its rewards are paid as they are; ``None`` or NaN is an
    unknown verdict.
    Raises ``ValueError`` when it returns another number of rewards than responses.

    What the function takes for the answer cannot be known, so verdicts name none, and the answer-leak guard refuses any
    correction that is paid as right by itself, also one of a last line.

    >>> def length_reward(prompts, completions, **columns):
    ...     return [len(text) / 4 for text in completions]
    >>> problem = Problem("p", "?", "1")
    >>> [v.outcome.value for v in RewardVerifier(length_reward).verify([(problem, "abcd"), (problem, "ab")])]
    ['right', 'wrong']
    """

    def __init__(
        self,
        reward_func: Callable[..., Sequence[float | None]],
        right_at: float = 1.0,
        *,
        conversational: bool = False,
    ) -> None:
        self.reward_func = reward_func
        self.right_at = right_at
        self.conversational = conversational

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        if not attempts:
            return []
        references = [problem.reference for problem, _ in attempts]
        columns: dict[str, Any] = {"reference": references, "answer": references, "solution": references}
        completions: list[Any] = [text for _, text in attempts]
        if self.conversational:
            completions = [[{"role": "assistant", "content": text}] for text in completions]
        rewards = self.reward_func(
            prompts=[problem.prompt for problem, _ in attempts], completions=completions, **columns
        )
        if len(rewards) != len(attempts):
            raise ValueError(f"the reward function returned {len(rewards)} rewards for {len(attempts)} responses")
        return [self._verdict(reward) for reward in rewards]

    def _verdict(self, reward: float | None) -> Verdict:
        if reward is None or math.isnan(reward):
            return Verdict(Outcome.UNKNOWN, reason="the reward function gave no reward")
        outcome = Outcome.RIGHT if reward >= self.right_at else Outcome.WRONG
        return Verdict(outcome, reason=f"reward {reward}, right at {self.right_at}", reward=float(reward))
