"""DAPO: which groups are drawn anew, what length costs, who trains."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scope_rlvr.core.groups import Group
from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation, Clip
from scope_rlvr.methods import Dapo
from scope_rlvr.methods.step import sample_groups
from tests.doubles import PROBLEM, ScriptedPolicy, group, toolbox
from tests.unit.methods.crediting import credited, is_silent, pays

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


class Source:
    """Fresh problems, numbered; all with the answer 7."""

    def __init__(self) -> None:
        self.seeds: list[int] = []

    def __call__(self, count: int, seed: int) -> list[Group]:
        self.seeds.append(seed)
        return [Group(Problem(f"new {len(self.seeds)}.{i}", "Q", "7"), (), prompt_ids=(1, 2)) for i in range(count)]


def sampled(script: list[str], num_groups: int = 2, **settings: Any) -> tuple[list[Group], ScriptedPolicy, Source]:
    policy, source = ScriptedPolicy(script), Source()
    tools = toolbox(policy=policy, problem_source=source)
    empty = [Group(replace(PROBLEM, id=f"old {i}"), (), prompt_ids=(1, 2)) for i in range(num_groups)]
    return sample_groups(Dapo(**settings), empty, 2, tools), policy, source


def ids(groups: list[Group]) -> list[str]:
    return [g.problem.id for g in groups]


# --- dynamic sampling -----------------------------------------------------------------------------------------------


def test_the_paper_fixes_the_objective():
    dapo = Dapo()
    assert (dapo.normalisation, dapo.aggregation) == (Normalisation.GROUP_STD, Aggregation.TOKEN_MEAN)
    assert dapo.clip == Clip(low=0.2, high=0.28)


def test_mixed_groups_are_left_alone():
    groups, policy, source = sampled([RIGHT, WRONG, WRONG, RIGHT])
    assert ids(groups) == ["old 0", "old 1"]
    assert (policy.num_calls, source.seeds) == (1, [])


def test_flat_groups_give_way_to_fresh_problems_in_their_own_place():
    groups, _, _ = sampled([RIGHT, RIGHT, RIGHT, WRONG, WRONG, RIGHT])
    assert ids(groups) == ["new 1.0", "old 1"]
    assert [m.verdict.outcome for m in groups[0].members] == [Outcome.WRONG, Outcome.RIGHT]


def test_only_what_is_still_flat_is_drawn_again_with_another_seed():
    script = [RIGHT] * 4 + [RIGHT, WRONG, WRONG, WRONG] + [WRONG, RIGHT]
    groups, policy, source = sampled(script)
    assert ids(groups) == ["new 1.0", "new 2.0"]
    assert policy.num_calls == 3
    assert len(set(source.seeds)) == 2


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_what_cannot_be_filled_keeps_its_first_rollouts(rounds):
    groups, policy, source = sampled([WRONG], max_rounds=rounds)
    assert ids(groups) == ["old 0", "old 1"]
    assert policy.num_calls == 1 + rounds
    assert len(source.seeds) == rounds


def test_one_wrong_and_one_unknown_tell_nothing_apart():
    groups, _, _ = sampled([WRONG, UNKNOWN, RIGHT, WRONG], num_groups=1)
    assert ids(groups) == ["new 1.0"]
    groups, _, _ = sampled([UNKNOWN], num_groups=1, max_rounds=1)
    assert ids(groups) == ["old 0"]


# --- credit ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("texts", [(RIGHT,) * 3, (WRONG,) * 3, (UNKNOWN,) * 3, (RIGHT, UNKNOWN, RIGHT)])
def test_flat_groups_count_nowhere(texts):
    _, streams = credited(Dapo(), *texts)
    assert is_silent(streams)


def test_flat_groups_count_nowhere_even_if_their_lengths_differ():
    tools = toolbox(max_response_tokens=len(RIGHT) + 2)
    edited, streams = credited(Dapo(overlong_share=1), RIGHT, "1\n" + RIGHT, tools=tools)
    assert len({m.verdict.pay for m in edited.members}) == 2
    assert is_silent(streams)
    _, streams = credited(Dapo(overlong_share=1, drop_flat_groups=False), RIGHT, "1\n" + RIGHT, tools=tools)
    assert streams[0].advantage_T[0] > 0 > streams[1].advantage_T[0]


def test_advantages_are_divided_by_the_deviation_of_the_known_rewards():
    _, streams = credited(Dapo(), RIGHT, UNKNOWN, WRONG, normalisation=Normalisation.GROUP_STD)
    expected = 0.5 / (0.5**0.5 + 1e-4)
    assert [s.advantage_T[0] for s in streams] == pytest.approx([expected, 0, -expected])
    assert [s.weight_T[0] for s in streams] == [1, 0, 1]


def test_a_flat_group_takes_no_part_in_the_deviation_of_the_batch():
    groups = [group(RIGHT, WRONG), group(RIGHT, RIGHT)]
    streams_PG = Dapo().credit(groups, pays(groups), Normalisation.BATCH_STD)
    assert streams_PG[0][0].advantage_T[0] == pytest.approx(0.5 / (0.5**0.5 + 1e-4))
    assert is_silent(streams_PG[1])


# --- length ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_tokens", "penalty"), [(1, 0), (80, 0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1), (120, -1)]
)
def test_the_last_fifth_of_the_budget_is_charged(num_tokens, penalty):
    assert Dapo(overlong_penalty=1).length_penalty(num_tokens, 100) == pytest.approx(penalty)


def test_the_charge_goes_into_the_reward_and_changes_no_verdict():
    tools = toolbox(max_response_tokens=10)  # 9 tokens are one of the last two
    edited, _ = credited(Dapo(), RIGHT, WRONG, UNKNOWN, "bad|", tools=tools)
    assert [m.verdict.outcome for m in edited.members] == [Outcome.RIGHT, Outcome.WRONG, Outcome.UNKNOWN, Outcome.WRONG]
    assert [m.verdict.pay for m in edited.members] == [0.75, -0.25, None, 0]


def test_a_truncated_response_pays_the_whole_penalty():
    edited, _ = credited(Dapo(), "0123456789", RIGHT, tools=toolbox(max_response_tokens=10))
    assert edited.members[0].rollout.is_truncated
    assert edited.members[0].verdict.pay == -0.5


def test_no_penalty_no_change():
    texts = (RIGHT, WRONG, "0123456789")
    edited, _ = credited(Dapo(overlong_penalty=0), *texts, tools=toolbox(max_response_tokens=10))
    assert edited == group(*texts)
