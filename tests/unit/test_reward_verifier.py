"""A TRL reward function as the verifier."""

from __future__ import annotations

from typing import Any

import pytest

from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.grading.reward import RewardVerifier

PROBLEM = Problem("p", "1 + 1 = ", "2")


def test_it_is_called_once_for_all_responses_as_trl_calls_it() -> None:
    calls: list[dict[str, Any]] = []

    def reward(**given: Any) -> list[float]:
        calls.append(given)
        return [1.0, 0.0]

    RewardVerifier(reward).verify([(PROBLEM, "2"), (PROBLEM, "3")])
    assert calls == [
        {
            "prompts": ["1 + 1 = "] * 2,
            "completions": ["2", "3"],
            "reference": ["2", "2"],
            "answer": ["2", "2"],
            "solution": ["2", "2"],
        }
    ]
    RewardVerifier(reward).verify([])
    assert len(calls) == 1


def test_right_begins_at_the_stated_value_and_the_reward_is_paid_as_it_is() -> None:
    rewards = [0.49, 0.5, 2.0, -1.0]
    verdicts = RewardVerifier(lambda **_: rewards, right_at=0.5).verify([(PROBLEM, "")] * 4)
    assert [v.outcome for v in verdicts] == [Outcome.WRONG, Outcome.RIGHT, Outcome.RIGHT, Outcome.WRONG]
    assert [v.pay for v in verdicts] == rewards


def test_no_reward_is_an_unknown_verdict_and_pays_nothing_rather_than_zero() -> None:
    verdicts = RewardVerifier(lambda **_: [None, float("nan")]).verify([(PROBLEM, "")] * 2)
    assert [v.outcome for v in verdicts] == [Outcome.UNKNOWN] * 2
    assert [v.pay for v in verdicts] == [None, None]


def test_a_wrong_number_of_rewards_is_an_error() -> None:
    with pytest.raises(ValueError, match="returned 1 rewards for 2 responses"):
        RewardVerifier(lambda **_: [1.0]).verify([(PROBLEM, "")] * 2)


def test_conversational_functions_get_messages() -> None:
    def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
        return [float(messages[0]["content"] == "2") for messages in completions]

    assert RewardVerifier(reward, conversational=True).verify([(PROBLEM, "2")])[0].is_right
