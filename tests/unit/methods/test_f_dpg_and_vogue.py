"""Distribution matching, and a bonus for what depends on the wording of the prompt."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.types import Problem
from scope_rlvr.methods import FDpg, Grpo
from scope_rlvr.methods.parts.f_divergence import PSEUDO_REWARDS, FDivergence
from scope_rlvr.methods.parts.prompt_sensitivity import PromptSensitivity
from scope_rlvr.methods.reading import read
from tests.doubles import group
from tests.unit.methods.crediting import credited, is_silent
from tests.unit.methods.scoring import Reader, chars, reading_toolbox

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


def matched(*texts: str, reference: float = -0.5, memory: dict | None = None, **settings):
    reader = Reader({"logprob": lambda prompt, char: reference})
    tools = reading_toolbox(readers={"reference": reader}, memory={} if memory is None else memory)
    return credited(FDpg(**settings), *texts, tools=tools)[1]


def test_at_the_reference_the_target_is_the_tilted_reference():
    # π is π_ref: log t is log Z − r/β, Z = (e + 1)/2.
    right, wrong, unknown = matched(RIGHT, WRONG, UNKNOWN, divergence="reverse_kl")
    log_z = math.log((math.e + 1) / 2)
    assert right.advantage_T[0] == pytest.approx(-(1 + log_z - 1))
    assert wrong.advantage_T[0] == pytest.approx(-(1 + log_z))
    assert is_silent((unknown,))


def test_the_lower_beta_the_more_the_reward_counts():
    gaps = []
    for beta in (1.0, 0.5):
        right, wrong = matched(RIGHT, WRONG, divergence="reverse_kl", beta=beta)
        gaps.append(right.advantage_T[0] - wrong.advantage_T[0])
    assert gaps == pytest.approx([1.0, 2.0])


def test_the_reverse_divergence_is_a_penalty_on_leaving_the_reference():
    # Nine tokens, each 0.1 nats likelier than to the reference: 0.9 less than at the reference, and Z with it.
    near, far = (matched(RIGHT, WRONG, reference=r, divergence="reverse_kl") for r in (-0.5, -0.6))
    assert [s.advantage_T[0] for s in far] == pytest.approx([s.advantage_T[0] for s in near])
    long, short = matched("so\nanswer 7|", RIGHT, reference=-0.6, divergence="reverse_kl")
    assert short.advantage_T[0] - long.advantage_T[0] == pytest.approx(0.1 * 3)


def test_the_moving_mean_of_steps_before_is_taken_off():
    memory: dict = {"f_divergence": [0.25, 0.75]}
    right, _ = matched(RIGHT, WRONG, memory=memory, divergence="reverse_kl")
    plain_right, _ = matched(RIGHT, WRONG, divergence="reverse_kl")
    assert right.advantage_T[0] == pytest.approx(plain_right.advantage_T[0] - 0.5)


def test_pseudo_rewards_are_remembered_in_a_window():
    reader = Reader({"logprob": lambda prompt, char: -0.5})
    tools = reading_toolbox(readers={"reference": reader})
    part = FDivergence(window=3)
    found, _ = credited(Grpo(parts=[part]), RIGHT, WRONG, tools=tools)
    for _ in range(3):
        part.learn([found], tools)
    expected = part.pseudo_rewards(found, [1.0, 0.0])
    assert tools.memory["f_divergence"] == [expected[1], *expected]


@given(st.floats(-25, 25), st.floats(-25, 25))
def test_what_the_target_wants_more_of_is_rewarded_more(a: float, b: float):
    low, high = min(a, b), max(a, b)
    assert all(reward(low) >= reward(high) - 1e-9 for reward in PSEUDO_REWARDS.values())


@pytest.mark.parametrize("name", PSEUDO_REWARDS)
def test_pseudo_rewards_are_the_derivatives(name: str):
    generators = {
        "reverse_kl": lambda t: t * math.log(t),
        "forward_kl": lambda t: -math.log(t),
        "jensen_shannon": lambda t: t * math.log(2 * t / (t + 1)) + math.log(2 / (t + 1)),
        "total_variation": lambda t: 0.5 * abs(t - 1),
    }
    f, step = generators[name], 1e-6
    for t in (0.3, 0.9, 1.7, 4.0):
        assert PSEUDO_REWARDS[name](math.log(t)) == pytest.approx(-(f(t + step) - f(t - step)) / (2 * step), abs=1e-4)


def test_what_is_impossible_to_the_reference_is_bounded():
    assert all(
        math.isfinite(a) for s in matched(RIGHT, WRONG, reference=-1e4, divergence="forward_kl") for a in s.advantage_T
    )


# --- VOGUE ------------------------------------------------------------------------------------------------------------

PROBLEM = Problem("p", "add one and two", "7")


def test_the_prompt_has_a_word_less_and_the_response_stays():
    part, found = PromptSensitivity(), group(RIGHT, WRONG, problem=PROBLEM)
    for member in found.members:
        shown, response = part.perturbed(found, member, reading_toolbox())
        assert len(chars(shown).split()) == 3
        assert set(chars(shown).split()) < set(PROBLEM.prompt.split())
        assert response == member.rollout.token_ids


def test_dependence_on_the_wording_is_paid():
    policy = Reader({"logprob": lambda prompt, char: -0.5 if len(prompt) < 3 else -1.5})
    tools = reading_toolbox(readers={"policy": policy})
    part = PromptSensitivity(weight=0.5)
    method = Grpo(parts=[part])
    (found,) = method.prepare(read([group(RIGHT, UNKNOWN, problem=PROBLEM)], method.readings, tools), tools)
    # Each token is a nat less likely without the word: 1 − 1 + e⁻¹.
    assert found.members[0].verdict.pay == pytest.approx(1 + 0.5 * math.exp(-1))
    assert found.members[1].verdict.pay is None


def test_a_prompt_of_one_word_has_nothing_to_lose_and_pays_nothing():
    found = group(RIGHT)
    assert PromptSensitivity().perturbed(found, found.members[0], reading_toolbox()) is None
    policy = Reader({"logprob": lambda prompt, char: -0.5})
    tools = reading_toolbox(readers={"policy": policy})
    assert credited(Grpo(parts=["prompt_sensitivity"]), RIGHT, WRONG, tools=tools)[0].members[0].verdict.pay == 1.0


@given(st.lists(st.tuples(st.floats(-30, 0), st.floats(-30, 0)), max_size=6))
def test_surprise_is_never_negative_and_zero_without_a_change(pairs):
    clean, perturbed = [c for c, _ in pairs], [p for _, p in pairs]
    assert PromptSensitivity.surprise(clean, perturbed) >= 0
    assert PromptSensitivity.surprise(clean, clean) == 0
