"""Budgets and replay by hand: who gets how many rollouts, what is kept, and how it trains when it comes back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.types import Origin, Outcome
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, example_tokens
from scope_rlvr.methods import DphRl, Exgrpo, Grpo, KnapsackRl, Method, Repo, RoRecomp, Spear
from scope_rlvr.methods.parts.objectives import ObjectiveBalance
from scope_rlvr.methods.replay.dph_rl import Divergence
from scope_rlvr.methods.replay.replayed import distinct, member_to_json, replayed
from tests.doubles import PROBLEM, ScriptedPolicy, credited, group, plain, toolbox
from tests.unit.methods.test_curricula import PoolOf, bare, ids, named, solved

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


@dataclass
class Policy(ScriptedPolicy):
    """Less certain the longer the response is."""

    def entropies(self, prompts, responses, temperature):
        return [(len(response) / 100,) * len(response) for response in responses]


def through_a_checkpoint(tools: Any) -> Any:
    return replace(tools, memory=json.loads(json.dumps(tools.memory)))


# --- Knapsack RL ------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([0.125, 0.25, 0.5, 0.75, 0.875]), min_size=1, max_size=3), st.integers(2, 4))
def test_one_by_one_is_the_best_of_all_ways_to_spend_the_budget(rates, num_rollouts):
    method, budget = KnapsackRl(fewest=1), num_rollouts * len(rates)
    found = method.shares(rates, num_rollouts)
    assert sum(found) == budget

    def total(counts):
        return sum(method.worth(rate, count) for rate, count in zip(rates, counts, strict=True))

    every = combinations_with_replacement(range(len(rates)), budget - len(rates))
    ways = ([1 + extra.count(i) for i in range(len(rates))] for extra in every)
    assert total(found) == pytest.approx(max(map(total, ways)))


def test_budgets_keep_their_bounds_and_spare_the_unknown():
    method = KnapsackRl(most=6)
    assert method.shares([None, None], 4) == [4, 4]
    assert method.shares([0.5, 0.0, 1.0], 4) == [6, 4, 2], "what is of no use to others goes to what was never solved"
    assert method.shares([0.0, 1.0], 1) == [1, 1]
    assert method.shares([], 4) == []


def test_rollouts_follow_what_was_seen():
    method, tools = KnapsackRl(min_seen=4), toolbox(policy=ScriptedPolicy([RIGHT]))
    method.learn([solved("half", 2, 2), solved("safe", 4, 0)], tools)
    sampled = method.sample([bare("half"), bare("safe"), bare("new")], 4, through_a_checkpoint(tools))
    assert [len(g.members) for g in sampled] == [6, 2, 4]
    assert method.has_variable_rows
    assert KnapsackRl().learn([solved("half", 9, 9)], tools) is None
    assert len(tools.memory["knapsack_rl"]["half"]) == 16


# --- ExGRPO -----------------------------------------------------------------------------------------------------------


def experienced(**options: Any) -> tuple[Exgrpo, Any]:
    method = Exgrpo(start_accuracy=0.3, **options)
    pool = PoolOf("half", "rare", "safe", "hopeless", "new")
    tools = toolbox(policy=Policy([WRONG]), pool=pool)
    half = group("a long way\nanswer 7|", RIGHT, WRONG, WRONG, problem=named("half"))
    method.learn([half, solved("rare", 1, 3), solved("safe", 4, 0), solved("hopeless", 0, 4)], tools)
    return method, through_a_checkpoint(tools)


def test_only_problems_between_hopeless_and_safe_are_kept():
    _, tools = experienced()
    kept = tools.memory["exgrpo"]["kept"]
    assert {name: (entry["rate"], len(entry["entries"])) for name, entry in kept.items()} == {
        "half": (0.5, 2),
        "rare": (0.25, 1),
    }


def test_half_of_the_batch_comes_back_with_its_surest_success():
    method, tools = experienced()
    method.learn([group("so it is\nanswer 7|", WRONG, WRONG, WRONG, problem=named("half"))], tools)
    chosen = method.choose([bare("new")] * 4, tools)
    assert ids(chosen)[:2] == ["new", "new"]
    assert sorted(ids(chosen)[2:]) == ["half", "rare"]
    sampled = method.sample(chosen, 3, tools)
    assert [len(g.members) for g in sampled] == [3, 3, 3, 3]
    assert [m.role for m in sampled[0].members] == [Role.SAMPLED] * 3
    back = next(g for g in sampled if g.problem.id == "half").members
    assert [m.role for m in back] == [Role.SAMPLED] * 2 + [Role.GUIDED]
    assert plain(back[-1].rollout) == RIGHT, "the shortest, of which the policy is surest"
    assert set(back[-1].rollout.origin_T) == {Origin.TEACHER}
    assert back[-1].rollout.logprob_T == (-0.5,) * len(RIGHT)
    streams = credited(method, sampled)[2]
    assert streams[-1].advantage_T == pytest.approx([2 / 3] * len(RIGHT))


def test_nothing_comes_back_before_the_policy_is_good_enough():
    method, tools = Exgrpo(start_accuracy=0.9), toolbox(pool=PoolOf("half"), policy=Policy([WRONG]))
    method.learn([solved("half", 2, 2)], tools)
    assert tools.memory["exgrpo"] == {"begun": False, "drawn": [], "kept": {}}
    assert ids(method.choose([bare("new")] * 2, tools)) == ["new", "new"]


def test_a_problem_that_is_solved_whole_is_forgotten_and_the_memory_is_bounded():
    method, tools = experienced(capacity=2)
    method.learn([solved("half", 4, 0)], tools)
    assert list(tools.memory["exgrpo"]["kept"]) == ["rare"]
    method.learn([solved("a", 2, 2), solved("b", 2, 2)], tools)
    assert list(tools.memory["exgrpo"]["kept"]) == ["a", "b"]


def test_the_loss_of_what_comes_back_is_shaped():
    tokens = example_tokens(0.2, teacher=0.5, advantage=0.5)
    assert Exgrpo().token_loss(tokens, Clip()).item() == pytest.approx(-0.5 * 0.4 / 0.5)


# --- SPEAR, RePO, RoRecomp --------------------------------------------------------------------------------------------


def test_the_best_of_the_last_steps_come_back_as_groups_of_their_own():
    method, tools = Spear(warmup=4, max_age=2), toolbox(step=1)
    # Mean ¼, deviation 0.433: right is 1.7 deviations above it. In a half-solved group it is 1, and stays below the bar.
    method.learn([solved("rare", 1, 3), solved("half", 2, 2), solved("none", 0, 2)], tools)
    tools = replace(through_a_checkpoint(tools), step=2)
    edited = method.edit_groups([solved("new", 1, 1)], tools)
    assert ids(edited) == ["new", "rare"]
    (member,) = edited[1].members
    assert (member.role, plain(member.rollout)) == (Role.GUIDED, RIGHT)
    streams = credited(method, edited)
    assert [s.advantage_T[0] for s in streams[0]] == [0.5, -0.5]
    # Baselines ¼, ½, 0: the median is ¼; the weight is 2/4.
    assert streams[1][0].advantage_T == pytest.approx([0.5 * 0.75] * len(RIGHT))
    method.learn(edited, tools)
    assert [e["step"] for e in tools.memory["spear"]["kept"]] == [1], "what came back is not kept anew"
    assert ids(method.edit_groups([solved("new", 1, 1)], replace(tools, step=4))) == ["new"]
    assert (method.num_reserved_rows, method.has_variable_rows) == (1, True)


@pytest.mark.parametrize("method", [Spear(), Repo()])
def test_the_ratio_of_what_comes_back_is_to_the_policy_that_wrote_it(method: Method):
    tokens = example_tokens(0.6, teacher=0.4)
    assert method.token_loss(tokens, Clip()).item() == pytest.approx(-1.2), "1.5, clipped"
    own = replace(tokens, is_teacher_BT=torch.tensor([[False]]))
    assert method.token_loss(own, Clip()).item() == pytest.approx(-1.0)


def test_short_successes_and_long_failures_go_first_and_the_rest_later():
    method, tools = RoRecomp(normalisation=Normalisation.NONE), toolbox()
    one = group(RIGHT, "so\nanswer 7|", "no answer 3|", WRONG, UNKNOWN)
    streams = credited(method, [one])[0]
    assert [any(s.weight_T) for s in streams] == [True, False, True, False, False]
    assert [s.advantage_T[0] for s in streams] == [0.5, 0.5, -0.5, -0.5, 0]
    assert method.side_updates([one], tools) == []
    assert [entry["advantage"] for entry in tools.memory["rorecomp"]] == [0.5, -0.5]
    tools = through_a_checkpoint(tools)
    assert method.side_updates([one], tools) == []
    (update,) = method.side_updates([one], tools)
    assert len(update.groups) == 5
    assert len(tools.memory["rorecomp"]) == 1
    found = credited(update.method, update.groups)
    assert [s.advantage_T[0] for (s,) in found] == [0.5, -0.5, 0.5, -0.5, 0.5]
    assert set(found[0][0].origin_T) == {Origin.TEACHER}


def test_all_at_once_is_grpo():
    one = group(RIGHT, WRONG, "no answer 3|", UNKNOWN)
    assert credited(RoRecomp(share=1.0), [one]) == credited(Grpo(), [one])


# --- DPH-RL -----------------------------------------------------------------------------------------------------------


def test_what_was_mastered_before_training_is_rehearsed():
    # Of three problems: two of two, one of two, none right.
    policy = ScriptedPolicy([RIGHT, RIGHT, RIGHT, WRONG, WRONG, WRONG, WRONG])
    tools = toolbox(policy=policy, pool=PoolOf("easy", "half", "never"))
    method = DphRl(num_presampled=2, mastered_share=1.0)
    chosen = method.choose([bare("easy"), bare("half"), bare("never")], tools)
    assert ids(chosen) == ["easy", "half", "half"]
    tools = through_a_checkpoint(tools)
    sampled = method.sample(chosen, 2, tools)
    assert [len(g.members) for g in sampled] == [1, 2, 2]
    assert policy.num_calls == 2
    rehearsed = credited(method, sampled)[0][0]
    assert rehearsed.advantage_T == (0.01,) * len(RIGHT)
    assert rehearsed.behaviour_logprob_T == (-0.5,) * len(RIGHT)
    tokens = replace(example_tokens(0.5, teacher=0.25), advantage_BT=torch.tensor([[0.01]]))
    assert method.token_loss(tokens, Clip()).item() == pytest.approx(
        0.01 * Divergence.FORWARD_KL.of(torch.log(torch.tensor(2.0))).item()
    )


@given(st.floats(-6, 6))
def test_divergences_are_zero_where_nothing_moved_and_positive_elsewhere(log_u):
    at = torch.tensor(log_u, dtype=torch.float64, requires_grad=True)
    for divergence in Divergence:
        value = divergence.of(at)
        (slope,) = torch.autograd.grad(value, at)
        assert value.item() >= -1e-12
        assert slope.item() * log_u >= -1e-9, "its gradient pulls back"
        assert divergence.of(torch.zeros(1)).item() == pytest.approx(0, abs=1e-6)


# --- RECAP ------------------------------------------------------------------------------------------------------------


def test_stalled_kinds_count_more():
    part, tools = ObjectiveBalance(window=1, temperature=1.0), toolbox()
    method = Grpo(parts=[part])
    easy, hard = replace(PROBLEM, level=1), replace(PROBLEM, level=2)
    for num_right in (1, 3):
        method.learn(
            [group(*[RIGHT] * num_right, *[WRONG] * (4 - num_right), problem=easy), group(RIGHT, WRONG, problem=hard)],
            tools,
        )
    assert tools.memory["objective_balance"] == {"level 1": [0.75, 0.25], "level 2": [0.5, 0.5]}
    groups = method.prepare([group(RIGHT, WRONG, problem=easy), group(RIGHT, WRONG, problem=hard)], tools)
    found = [streams_G[0].advantage_T[0] for streams_G in credited(method, groups)]
    first, second = (2.718281828 ** (score - 1) for score in (1 / 3, 1.0))
    assert found == pytest.approx([first / (first + second), second / (first + second)], abs=1e-6)


@given(st.dictionaries(st.sampled_from("abc"), st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=1))
def test_weights_of_objectives_have_the_mean_one(losses):
    weights = ObjectiveBalance(window=2).weights(losses)
    assert sum(weights) == pytest.approx(len(losses))
    assert all(weight > 0 for weight in weights)


def test_members_of_memory_keep_their_verdicts():
    (right, wrong) = group(RIGHT, WRONG).members
    entries = [member_to_json(m) for m in (right, wrong, right)]
    assert len(distinct(entries)) == 2
    back: Member = replayed(json.loads(json.dumps(entries[1])), Group(PROBLEM, (), prompt_ids=(9,)))
    assert (back.verdict.outcome, back.verdict.answer, back.rollout.prompt_ids) == (Outcome.WRONG, "3", (9,))
