"""Curricula by hand: which problems a step gets, and how much groups count."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.ports import Sampling
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.methods import CogDrift, Drive, Dump, Grpo, PuzzleCraft, SelfFilter, WeightedGrpo
from scope_rlvr.methods.parts.curricula import GreedyFailures, HardEasyPairs, HardFocus, Ladder
from scope_rlvr.methods.parts.pairing import RareOutcomes
from scope_rlvr.methods.parts.siblings import sibling_advantages
from tests.doubles import PROMPT_IDS, ScriptedPolicy, credited, group, toolbox

RIGHT, WRONG, UNKNOWN = "answer 7|", "answer 3|", "answer ?|"


def named(problem_id: str) -> Problem:
    return Problem(problem_id, "Q", "7")


def bare(problem_id: str) -> Group:
    return Group(named(problem_id), (), prompt_ids=PROMPT_IDS)


class PoolOf:
    def __init__(self, *ids: str) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def problem(self, index: int) -> Problem:
        return named(self.ids[index])

    def groups(self, indices: list[int]) -> list[Group]:
        return [bare(self.ids[i]) for i in indices]


def solved(problem_id: str, num_right: int, num_wrong: int) -> Group:
    return group(*[RIGHT] * num_right, *[WRONG] * num_wrong, problem=named(problem_id))


def ids(groups: list[Group]) -> list[str]:
    return [g.problem.id for g in groups]


# --- problem sources --------------------------------------------------------------------------------------------------


@dataclass
class ColdPolicy(ScriptedPolicy):
    """Remembers at which temperature it was asked."""

    temperatures: tuple[float, ...] = ()

    def extend(self, prefixes, sampling: Sampling, *, max_tokens, seed):
        self.temperatures += (sampling.temperature,)
        return super().extend(prefixes, sampling, max_tokens=max_tokens, seed=seed)


def test_what_the_policy_solves_greedily_is_exchanged():
    policy = ColdPolicy([RIGHT, WRONG, WRONG])
    tools = toolbox(policy=policy, problem_source=lambda count, seed: [bare(f"fresh{i}") for i in range(count)])
    chosen = GreedyFailures().choose([bare("solved"), bare("failed")], tools)
    assert ids(chosen) == ["failed", "fresh0"]
    assert policy.temperatures == (0.0, 0.0), "one greedy answer each, of the exchanged one too"
    assert not any(g.members for g in chosen)


def test_where_all_is_solved_the_batch_keeps_its_size():
    asked = []
    tools = toolbox(problem_source=lambda count, seed: asked.append(count) or [bare(f"f{i}") for i in range(count)])
    assert ids(GreedyFailures(max_rounds=2).choose([bare("a"), bare("b")], tools)) == ["a", "b"]
    assert asked == [2, 2]


def test_what_nobody_can_judge_is_no_failure():
    tools = toolbox(policy=ScriptedPolicy([UNKNOWN, WRONG]))
    assert ids(GreedyFailures(max_rounds=0).choose([bare("a"), bare("b")], tools)) == ["b", "a"]


def test_the_second_stage_trains_on_the_hardest_alone():
    source = HardFocus(uniform_share=0.5, kept_share=0.5, num_phases=1)
    tools = toolbox(pool=PoolOf("a", "b", "c", "d", "e"), num_steps=4)
    source.learn([solved("a", 2, 0), solved("b", 0, 2), solved("c", 1, 1), solved("d", 2, 0)], tools)
    offered = [bare("e")] * 2
    assert ids(source.choose(offered, replace(tools, step=2))) == ["e", "e"]
    assert sorted(ids(source.choose(offered, replace(tools, step=3)))) == ["b", "c"]
    assert set(ids(source.choose([bare("e")] * 9, replace(tools, step=4)))) == {"b", "c"}
    source.learn([solved("b", 2, 0)], tools)
    assert tools.memory["hard_focus"]["b"] == 1.0, "the latest visit counts"


def test_all_steps_alike_is_grpos_choice():
    source, offered = HardFocus(uniform_share=1.0), [bare("e")]
    tools = toolbox(pool=PoolOf("a", "e"), num_steps=2, step=2, memory={"hard_focus": {"a": 0.0}})
    assert source.choose(offered, tools) == offered


@given(st.integers(1, 60), st.floats(0, 1), st.integers(1, 5))
def test_phases_only_go_up_and_end_in_the_last(num_steps, uniform_share, num_phases):
    source = HardFocus(uniform_share=uniform_share, num_phases=num_phases)
    phases = [source.phase(step, num_steps) for step in range(1, num_steps + 1)]
    assert phases == sorted(phases)
    assert phases[-1] in (0, num_phases)
    assert (phases[-1] == 0) == (num_steps <= uniform_share * num_steps)


def test_hard_and_easy_problems_take_turns():
    source, tools = HardEasyPairs(), toolbox(pool=PoolOf("hard", "easy", "hopeless", "safe", "half", "new"))
    seen = [solved("hard", 1, 3), solved("easy", 3, 1), solved("hopeless", 0, 4), solved("safe", 4, 0)]
    source.learn([*seen, solved("half", 2, 2)], tools)
    assert ids(source.choose([bare("new")] * 4, tools)) == ["hard", "easy", "new", "new"]


def test_a_problem_climbs_its_ladder_and_stays_up():
    source, tools = Ladder(), toolbox(pool=PoolOf("p#1", "p#2", "p#3", "q"))
    offered = [bare("p#3"), bare("q")]
    assert ids(source.choose(offered, tools)) == ["p#1", "q"]
    source.learn([solved("p#1", 1, 1), solved("q", 2, 0)], tools)
    assert ids(source.choose(offered, tools)) == ["p#1", "q"], "half is not more than half"
    for form in ("p#1", "p#2", "p#3"):
        source.learn([solved(form, 2, 1)], tools)
    assert ids(source.choose([bare("p#1")], tools)) == ["p#3"]
    source.learn([solved("p#3", 0, 3)], tools)
    assert ids(source.choose([bare("p#1")], tools)) == ["p#3"]
    assert tools.memory["ladder"] == {"p": 3}


# --- what groups count ------------------------------------------------------------------------------------------------


def test_rare_outcomes_carry_a_pair():
    hard, easy = solved("hard", 1, 3), solved("easy", 3, 1)
    method = Grpo(parts=["rare_outcomes"])
    found = [[s.advantage_T[0] for s in streams_G] for streams_G in credited(method, [hard, easy])]
    # v = 4 once, -4 once, 0 six times: mean 0, deviation sqrt(32 / 8) = 2.
    assert found[0] == pytest.approx([4 / 2.0001, 0, 0, 0])
    assert found[1] == pytest.approx([0, 0, 0, -4 / 2.0001])


def test_flat_groups_and_unknown_verdicts_take_no_part_in_a_pair():
    mixed = group(RIGHT, WRONG, UNKNOWN)
    method = Grpo(parts=["rare_outcomes"])
    alone, among = credited(method, [mixed]), credited(method, [mixed, solved("flat", 2, 0), solved("no", 0, 2)])
    assert among[0] == alone[0]
    assert not any(any(s.advantage_T) for streams_G in among[1:] for s in streams_G)
    assert not any(alone[0][2].weight_T)
    assert [s.advantage_T[0] for s in credited(method, [solved("flat", 0, 2)])[0]] == [0, 0]


@given(st.integers(2, 8).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))))
def test_every_mixed_group_has_the_mean_of_its_class(counts):
    num_right, total = counts
    share = num_right / total
    mean = (
        num_right * RareOutcomes.value(True, share) + (total - num_right) * RareOutcomes.value(False, share)
    ) / total
    assert mean == pytest.approx(1.0 if share < 0.5 else -1.0)


def test_a_group_of_one_answer_counts_nothing_and_one_of_many_counts_most():
    part = {"kind": "exploration_curriculum"}
    same, different = group(RIGHT, RIGHT, WRONG, WRONG), group(RIGHT, RIGHT, WRONG, "answer 4|")
    flat = group(RIGHT, RIGHT, UNKNOWN)
    found = credited(Grpo(parts=[part]), [same, different, flat])
    assert [s.advantage_T[0] for s in found[0]] == pytest.approx([0.5 / 3, 0.5 / 3, -0.5 / 3, -0.5 / 3])
    assert [s.advantage_T[0] for s in found[1]] == pytest.approx([1 / 3, 1 / 3, -1 / 3, -1 / 3])
    assert not any(any(s.advantage_T) for s in found[2])
    groups = [same, different, flat]
    assert credited(Grpo(parts=[part | {"floor": 1}]), groups) == credited(Grpo(), groups)


# --- siblings ---------------------------------------------------------------------------------------------------------


def members_of(*responses: tuple[Outcome, tuple[int, ...]]) -> Group:
    members = [
        Member(Rollout((1,), (Segment(ids, Origin.POLICY, (-0.5,) * len(ids)),)), Verdict(outcome))
        for outcome, ids in responses
    ]
    return Group(named("p"), tuple(members))


def test_siblings_are_compared_where_they_part():
    one = members_of(
        (Outcome.RIGHT, (5, 6, 7)), (Outcome.WRONG, (5, 6, 8)), (Outcome.UNKNOWN, (4,)), (Outcome.WRONG, (5, 9))
    )
    streams = credited(Grpo(parts=["sibling_advantage"]), [one])[0]
    mean = 1 / 3
    assert streams[0].advantage_T == pytest.approx([1 - mean, 1 - mean + 0.25 / 0.2501, 1 - mean + 0.5 / 0.5001])
    assert streams[1].advantage_T == pytest.approx([-mean, -mean + 0.25 / 0.2501, -mean - 0.5 / 0.5001])
    assert streams[2].advantage_T == (0.0,), "unknown, and no sibling of the others"
    assert streams[3].advantage_T == pytest.approx([-mean, -mean - 0.25 / 0.2501])
    neutral = Grpo(parts=[{"kind": "sibling_advantage", "weight": 0}])
    assert credited(neutral, [one]) == credited(Grpo(), [one])


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=5), st.sampled_from([0.0, 1.0, None])), max_size=6))
def test_only_places_with_siblings_of_different_value_gain(drawn):
    responses, rewards = [tuple(ids) for ids, _ in drawn], [reward for _, reward in drawn]
    added = sibling_advantages(responses, rewards)
    for i, ids in enumerate(responses):
        for t, gain in enumerate(added[i]):
            others = {
                o[t]
                for o, r in zip(responses, rewards, strict=True)
                if r is not None and len(o) > t and o[:t] == ids[:t]
            }
            assert abs(gain) < 3
            if rewards[i] is None or len(others) < 2:
                assert gain == 0


# --- presets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "kinds"),
    [
        (Dump(), ["bandit"]),
        (SelfFilter(), ["greedy_failures"]),
        (Drive(), ["hard_focus"]),
        (WeightedGrpo(), ["hard_easy_pairs", "rare_outcomes"]),
        (CogDrift(), ["ladder"]),
        (PuzzleCraft(), ["exploration_curriculum"]),
    ],
)
def test_presets_are_grpo_with_their_parts(method, kinds):
    assert [part.kind for part in method.own_parts] == kinds
    if "rare_outcomes" not in kinds:
        assert method.normalisation is Normalisation.GROUP_STD
