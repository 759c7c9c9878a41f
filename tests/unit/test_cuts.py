"""Where a failure is cut when no scorer is asked."""

from __future__ import annotations

import random

import pytest

from scope_rlvr.core.groups import SalvageOutcome
from scope_rlvr.core.steps import Step
from scope_rlvr.methods import Scope
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.salvage.cuts import EntropyJump, TeacherDrop, uncertain_token
from tests.doubles import ScriptedPolicy, group, plain, salvaged
from tests.unit.methods.scoring import Teacher, reading_toolbox


def test_an_uncertain_token_is_drawn_evenly_among_the_most_uncertain():
    entropy_T = [5.0, 0.1, 3.0, 0.1, 2.0, 4.0]
    drawn = [uncertain_token(entropy_T, 3, random.Random(seed)) for seed in range(300)]
    assert set(drawn) == {2, 4, 5}
    assert all(70 < drawn.count(token) < 130 for token in (2, 4, 5))


def test_of_equal_entropies_the_earlier_comes_first():
    assert {uncertain_token([1.0] * 9, 2, random.Random(seed)) for seed in range(20)} == {1, 2}


@pytest.mark.parametrize("entropy_T", [[], [3.0]])
def test_where_nothing_lies_behind_a_token_there_is_none_and_nothing_is_drawn(entropy_T):
    rng, untouched = random.Random(0), random.Random(0)
    assert uncertain_token(entropy_T, 20, rng) == 0
    assert rng.random() == untouched.random()


# --- the first wrong step without a step scorer -------------------------------------------------------------------------

WITHOUT_SCORER = {"guards": {"low_score": False}, "min_prefix_ratio": 0.0}
FAILURE = "one\n\ntwX\n\nthree\n\nanswer 1|"


def test_a_token_that_the_teacher_finds_unlikely_marks_its_step():
    teacher = Teacher(["two\n\n"], logprob=lambda char: -4.5 if char == "X" else -0.5)
    tools = reading_toolbox(teacher=teacher, step_scorer=None, policy=ScriptedPolicy(["answer 7|"]))
    (after,) = salvaged(
        group(FAILURE, "a|"), tools, cut={"kind": "teacher_drop", "drop": 3.9, "sure": 0.6}, **WITHOUT_SCORER
    )
    assert plain(after.members[0].rollout) == "one\n\ntwo\n\nanswer 7|"
    assert teacher.scored == [FAILURE, "a|"]
    assert (tools.tokens["scored"], tools.tokens["teacher"]) == (len(FAILURE) + 2, 5)
    assert after.members[1].salvage.outcome is SalvageOutcome.NO_ERROR_FOUND


def test_where_the_policy_had_a_choice_the_teacher_s_other_choice_is_no_mistake():
    # Everything was sampled with a probability of 0.61.
    teacher = Teacher(logprob=lambda char: -9.0)
    (after,) = salvaged(group(FAILURE), reading_toolbox(teacher=teacher), cut="teacher_drop", **WITHOUT_SCORER)
    assert after.members[0].salvage.outcome is SalvageOutcome.NO_ERROR_FOUND
    assert TeacherDrop().first_drop([-9.0], [None], [Step("a", 0, 1)]) == 0


def test_what_the_teacher_could_not_score_is_given_up():
    tools = reading_toolbox(teacher=Teacher(fails="X"), step_scorer=None)
    (after,) = salvaged(group(FAILURE), tools, cut="teacher_drop", **WITHOUT_SCORER)
    assert after.members[0].salvage.outcome is SalvageOutcome.SCORER_FAILED


class Uncertain(ScriptedPolicy):
    """Certain of everything but an X and what comes after it in its step."""

    def entropies(self, prompts, responses, temperature):
        return [tuple(2.0 if token % (1 << 21) == ord("X") else 0.1 for token in ids) for ids in responses]


def test_a_step_of_which_the_policy_is_less_certain_is_cut():
    tools = reading_toolbox(teacher=Teacher(["two\n\n"]), step_scorer=None, policy=Uncertain(["answer 7|"]))
    (after,) = salvaged(group(FAILURE), tools, cut="entropy_jump", **WITHOUT_SCORER)
    assert plain(after.members[0].rollout) == "one\n\ntwo\n\nanswer 7|"
    # (4 · 0.1 + 2)/5 is 0.48, which is 0.38 above the first step.
    assert EntropyJump(jump=0.4).first_jump([0.1, 0.48]) is None


@pytest.mark.parametrize("entropy_S", [[], [9.0], [0.5, 0.5], [3.0, 0.1]])
def test_the_first_step_has_nothing_to_jump_from(entropy_S: list[float]):
    assert EntropyJump().first_jump(entropy_S) is None


def test_the_first_step_that_no_right_sibling_has_is_cut():
    tools = reading_toolbox(teacher=Teacher(["two\n\n"]), step_scorer=None, policy=ScriptedPolicy(["answer 7|"]))
    failed = group("one\n\n two\n\nfour\n\nanswer 1|", "two\n\none\n\nanswer 7|")
    (after,) = salvaged(failed, tools, cut="sibling_disagreement", **WITHOUT_SCORER)
    assert plain(after.members[0].rollout) == "one\n\n two\n\ntwo\n\nanswer 7|"
    (alone,) = salvaged(group("one\n\nanswer 1|"), tools, cut="sibling_disagreement", **WITHOUT_SCORER)
    assert alone.members[0].salvage.outcome is SalvageOutcome.NO_ERROR_FOUND


@pytest.mark.parametrize(
    ("cut", "needs"),
    [("teacher_drop", {Need.TEACHER, Need.TEACHER_SCORES}), ("entropy_jump", {Need.TEACHER}), ("sibling_disagreement", {Need.TEACHER})],
)  # fmt: skip
def test_no_process_reward_model_is_needed(cut: str, needs: set[Need]):
    assert Scope(cut=cut, guards={"low_score": False}).needs == needs
    assert Scope(cut=cut, max_salvages=0).needs == set()


def test_a_teacher_that_only_scores_is_needed_where_the_policy_tries_again_alone():
    assert Scope(cut="teacher_drop", mode="no_teacher").needs == {Need.TEACHER_SCORES}
