"""A TRL reward function as the verifier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.reward import RewardVerifier, UnusableReward

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
            "id": ["p", "p"],
            "level": [None, None],
            "source": ["", ""],
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
    with pytest.raises(UnusableReward, match="returned 1 rewards for 2 responses"):
        RewardVerifier(lambda **_: [1.0]).verify([(PROBLEM, "")] * 2)


def test_conversational_functions_get_messages() -> None:
    def reward(prompts: list[list[dict[str, str]]], completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
        assert prompts == [[{"role": "user", "content": "1 + 1 = "}]]
        return [float(messages[0]["content"] == "2") for messages in completions]

    assert RewardVerifier(reward, conversational=True).verify([(PROBLEM, "2")])[0].is_right


def test_it_hands_over_whatever_else_trl_would() -> None:
    logged: list[tuple[str, float]] = []

    def reward(
        completions: list[str],
        completion_ids: list[list[int]],
        trainer_state: str,
        log_metric: Callable[[str, float], None],
        difficulty: list[int],
        **_: Any,
    ) -> list[float]:
        log_metric("ids", sum(map(len, completion_ids)))
        assert trainer_state == "later"
        return [float(text == "2") * weight for text, weight in zip(completions, difficulty, strict=True)]

    verifier = RewardVerifier(
        reward,
        encode=lambda text: [ord(char) for char in text],
        columns={"difficulty": {"p": 3}},
        given={"trainer_state": "now", "log_metric": lambda name, value: logged.append((name, value))},
    )
    verifier.given["trainer_state"] = "later"
    assert [v.pay for v in verifier.verify([(PROBLEM, "2"), (PROBLEM, "33")])] == [3.0, 0.0]
    assert logged == [("ids", 3)]
    with pytest.raises(UnusableReward, match="'difficulty' has no value for the problem 'q'"):
        verifier.verify([(Problem("q", "?", "1"), "1")])


def test_async_functions_are_awaited_in_one_loop_even_under_another() -> None:
    loops = []

    async def reward(completions: list[str], **_: Any) -> list[float]:
        loops.append(asyncio.get_running_loop())
        return await asyncio.gather(*(one(text) for text in completions))

    async def one(text: str) -> float:
        await asyncio.sleep(0)
        return float(text == "2")

    verifier = RewardVerifier(reward)

    async def as_in_a_notebook() -> list[Verdict]:
        return verifier.verify([(PROBLEM, "2"), (PROBLEM, "3")])

    assert [v.is_right for v in asyncio.run(as_in_a_notebook())] == [True, False]
    assert [v.is_right for v in verifier.verify([(PROBLEM, "3")])] == [False]
    assert loops[0] is loops[1]


def test_an_object_that_is_called_asynchronously() -> None:
    class Reward:
        async def __call__(self, completions: list[str], **_: Any) -> list[float]:
            return [1.0] * len(completions)

    assert RewardVerifier(Reward()).verify([(PROBLEM, "2")])[0].is_right


class Model:
    def forward(self) -> None: ...

    def __call__(self, **_: Any) -> list[float]:
        return []


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda completions, completion_ids, **_: [], r"requires completion_ids, .*encode="),
        (lambda completions, environments, **_: [], r'requires environments, .*given=\{"environments"'),
        (lambda completions, difficulty, **_: [], r'requires difficulty, .*columns=\{"difficulty"'),
        (lambda completions: [], r"takes no answer, id, .*prompts, .*let it take \*\*kwargs"),
        (lambda completions, /, **_: [], r"wants \['completions'\] by position"),
        (Model(), "a reward model gives scores"),
        ("some/model", "is no reward function"),
    ],
)
def test_a_function_that_would_not_get_what_it_requires_is_refused_at_construction(reward: Any, message: str) -> None:
    with pytest.raises(UnusableReward, match=message):
        RewardVerifier(reward)


def test_what_has_a_default_is_not_required() -> None:
    def reward(completions: list[str], log_metric: Callable[..., None] | None = None, **_: Any) -> list[float]:
        return [float(log_metric is None)]

    assert RewardVerifier(reward).verify([(PROBLEM, "")])[0].is_right


def test_what_a_trainer_has_is_asked_for_when_the_function_is_called() -> None:
    def reward(completions: list[str], trainer_state: str, log_extra: Callable[..., None], **_: Any) -> list[float]:
        log_extra("length", [len(text) for text in completions])
        return [float(trainer_state == "now")] * len(completions)

    verifier = RewardVerifier(reward)
    with pytest.raises(
        UnusableReward, match=r"requires log_extra, trainer_state, .* give this verifier to ScopeTrainer"
    ):
        verifier.verify([(PROBLEM, "2")])
    verifier.belong_to(lambda: {"trainer_state": "now", "log_metric": None})
    verdicts = verifier.verify([(PROBLEM, "2"), (PROBLEM, "33")])
    assert [verdict.extra for verdict in verdicts] == [{"length": 1}, {"length": 2}]
    assert all(verdict.is_right for verdict in verdicts)


def test_a_column_of_another_length_is_refused() -> None:
    def reward(completions: list[str], log_extra: Callable[..., None], **_: Any) -> list[float]:
        log_extra("length", [1])
        return [1.0] * len(completions)

    verifier = RewardVerifier(reward)
    verifier.belong_to(dict)
    with pytest.raises(UnusableReward, match="1 values for 2 responses"):
        verifier.verify([(PROBLEM, "2"), (PROBLEM, "33")])
