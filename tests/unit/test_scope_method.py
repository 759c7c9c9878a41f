"""SCOPE's credit and loss: who gets which advantage and weight, and when it is GRPO."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scope_rlvr.core.groups import Group, Role, Streams
from scope_rlvr.core.types import Origin, Outcome
from scope_rlvr.formulas.advantages import Baseline, Normalisation
from scope_rlvr.formulas.losses import Clip, NegativeLogLikelihood, Plain, Shaped, Tokens
from scope_rlvr.methods import METHODS, Grpo, Method, Scope
from scope_rlvr.methods.streams import silent
from tests.doubles import ScriptedPolicy, ScriptedTeacher, group, toolbox

FAILURE = "good 1\n\nbad 2\n\nanswer 3|"  # 8 tokens kept of 24
RIGHT = "answer 7|"
KEPT, TEACHER, CONTINUED = 8, 6, 9


def rewards(groups: list[Group]) -> list[list[float | None]]:
    value = {Outcome.RIGHT: 1.0, Outcome.WRONG: 0.0, Outcome.UNKNOWN: None}
    return [[value[m.verdict.outcome] for m in g.members] for g in groups]


def credited(method: Method, *texts: str, policy: str = "answer 7|") -> tuple[Group, tuple[Streams, ...]]:
    groups = method.edit_groups([group(*texts)], toolbox(policy=ScriptedPolicy([policy])))
    return groups[0], method.credit(groups, rewards(groups), Normalisation.NONE)[0]


def three_parts(streams: Streams) -> list[tuple[set[float], set[float]]]:
    """Advantages and weights of prefix, teacher step and continuation."""
    parts = [slice(0, KEPT), slice(KEPT, KEPT + TEACHER), slice(KEPT + TEACHER, None)]
    return [(set(streams.advantage_T[part]), set(streams.weight_T[part])) for part in parts]


# --- credit ---------------------------------------------------------------------------------------------------------


def test_an_all_wrong_group_with_one_salvage():
    _, streams = credited(Scope(), *[FAILURE] * 4)
    assert [set(s.advantage_T) for s in streams] == [{0.75}, {-0.25}, {-0.25}, {-0.25}]
    assert all(set(s.weight_T) == {1.0} for s in streams)
    assert streams[0].origin_T.count(Origin.TEACHER) == TEACHER


@pytest.mark.parametrize(
    ("prefix_credit", "expected"),
    [
        ("full", ({0.5}, {1.0})),
        ("masked", ({0.0}, {0.0})),
        ({"kind": "fraction", "share": 0.25}, ({0.125}, {1.0})),
        ("positive_only", ({0.5}, {1.0})),
    ],
)
def test_the_kept_prefix_is_credited_as_the_option_says(prefix_credit, expected):
    _, streams = credited(Scope(prefix_credit=prefix_credit), FAILURE, FAILURE)
    assert three_parts(streams[0]) == [expected, ({0.5}, {1.0}), ({0.5}, {1.0})]
    assert set(streams[1].advantage_T) == {-0.5}  # a failure's own prefix is not its business


@pytest.mark.parametrize(
    ("prefix_credit", "expected"), [("full", -0.5), ("positive_only", 0.0), ({"kind": "fraction"}, -0.25)]
)
def test_a_salvage_below_the_baseline(prefix_credit, expected):
    scope = Scope(admission="always", prefix_credit=prefix_credit)
    edited, streams = credited(scope, FAILURE, RIGHT, policy="answer 1|")
    assert edited.members[0].role is Role.SALVAGED
    assert three_parts(streams[0]) == [({expected}, {1.0}), ({0.0}, {1.0}), ({-0.5}, {1.0})]


def test_the_teacher_weight_scales_the_teacher_tokens_alone():
    _, streams = credited(Scope(teacher_weight=0.2), FAILURE, FAILURE)
    assert three_parts(streams[0]) == [({0.5}, {1.0}), ({0.1}, {1.0}), ({0.5}, {1.0})]


def test_masked_teacher_tokens_count_nowhere():
    _, streams = credited(Scope(teacher_term="masked"), FAILURE, FAILURE)
    assert [weights for _, weights in three_parts(streams[0])] == [{1.0}, {0.0}, {1.0}]


def test_of_several_corrections_only_the_first_kept_prefix_is_prefix():
    scope = Scope(max_rounds=2, prefix_credit="masked")
    tools = toolbox(
        policy=ScriptedPolicy(["go\n\nbad\n\nanswer 1|", "answer 7|"]), teacher=ScriptedTeacher(["a\n\n", "b\n\n"])
    )
    groups = scope.edit_groups([group(FAILURE, FAILURE)], tools)
    streams = scope.credit(groups, rewards(groups), Normalisation.NONE)[0][0]
    assert streams.weight_T == (0.0,) * KEPT + (1.0,) * (3 + 4 + 3 + CONTINUED)


def test_a_failure_that_was_not_salvaged_can_be_spared_its_right_prefix():
    _, uniform = credited(Scope(), FAILURE, RIGHT, policy="answer 1|")
    _, spared = credited(Scope(failure_credit="spare_prefix"), FAILURE, RIGHT, policy="answer 1|")
    assert set(uniform[0].advantage_T) == {-0.5}
    assert spared[0].advantage_T == (0.0,) * KEPT + (-0.5,) * (len(FAILURE) - KEPT)
    assert set(spared[0].weight_T) == {1.0}
    assert spared[1] == uniform[1]


def test_only_a_punishment_is_spared():
    scope = Scope(failure_credit="spare_prefix")
    edited, _ = credited(scope, FAILURE, RIGHT, policy="answer 1|")
    assert set(scope.credit_member(edited.members[0], 0.5).advantage_T) == {0.5}


def test_a_failure_without_a_located_error_pays_for_every_token():
    _, streams = credited(Scope(failure_credit="spare_prefix"), "good\n\nanswer 3|", RIGHT)
    assert set(streams[0].advantage_T) == {-0.5}


@pytest.mark.parametrize("cut", ["random_step", "high_entropy"])
def test_a_cut_that_no_scorer_chose_spares_no_prefix(cut):
    class EvenPolicy(ScriptedPolicy):
        def entropies(self, prompts, responses, temperature):
            return [(1.0,) * len(response) for response in responses]

    scope = Scope(failure_credit="spare_prefix", cut=cut, guards={"low_score": False}, min_prefix_ratio=0)
    groups = scope.edit_groups([group(FAILURE, RIGHT)], toolbox(policy=EvenPolicy(["answer 1|"])))
    assert groups[0].members[0].salvage.is_cut
    assert set(scope.credit(groups, rewards(groups), Normalisation.NONE)[0][0].advantage_T) == {-0.5}


def test_append_trains_the_failure_and_its_salvage():
    edited, streams = credited(Scope(insertion="append"), FAILURE, RIGHT)
    assert len(edited.members) == 3
    for one, expected in zip(streams, [-2 / 3, 1 / 3, 1 / 3], strict=True):
        assert one.advantage_T == pytest.approx([expected] * len(one.advantage_T))


def test_pair_leaves_the_shared_prefix_out_of_both():
    _, streams = credited(Scope(insertion="pair"), FAILURE, RIGHT)
    for one in (streams[0], streams[2]):
        assert set(one.advantage_T[:KEPT]) == set(one.weight_T[:KEPT]) == {0.0}
        assert set(one.weight_T[KEPT:]) == {1.0}
    assert streams[0].advantage_T[KEPT:] == pytest.approx([-2 / 3] * (len(FAILURE) - KEPT))
    assert streams[2].advantage_T[KEPT:] == pytest.approx([1 / 3] * (TEACHER + CONTINUED))
    assert set(streams[1].weight_T) == {1.0}


@pytest.mark.parametrize(
    ("baseline", "expected"),
    [
        (Baseline.GROUP_MEAN, [1 / 3, 1 / 3, -2 / 3]),
        (Baseline.LEAVE_ONE_OUT, [1 / 2, 1 / 2, -1]),
        (Baseline.SAMPLED_ONLY, [2 / 3, 2 / 3, -1 / 3]),
    ],
)
def test_baselines_of_a_salvaged_group(baseline, expected):
    _, streams = credited(Scope(baseline=baseline), FAILURE, RIGHT, "bad|")
    assert [s.advantage_T[-1] for s in streams] == pytest.approx(expected)


def test_the_sampled_baseline_is_the_same_for_every_insertion():
    for insertion in ("replace", "append", "pair"):
        edited, streams = credited(Scope(baseline="sampled_only", insertion=insertion), FAILURE, RIGHT)
        salvaged = next(s for m, s in zip(edited.members, streams, strict=True) if m.role is Role.SALVAGED)
        assert salvaged.advantage_T[-1] == 0.5


def test_unknown_verdicts_train_nothing_and_count_nowhere():
    for method in (Grpo(), Scope()):
        _, streams = credited(method, "answer ?|", RIGHT, "bad|")
        assert set(streams[0].advantage_T) == set(streams[0].weight_T) == {0.0}
        assert [s.advantage_T[0] for s in streams[1:]] == [0.5, -0.5]


@pytest.mark.parametrize(("drop", "weight"), [(False, 1.0), (True, 0.0)])
def test_flat_groups_stay_in_the_normaliser_unless_dropped(drop, weight):
    _, streams = credited(Grpo(drop_flat_groups=drop), RIGHT, RIGHT)
    assert all(set(s.advantage_T) == {0.0} and set(s.weight_T) == {weight} for s in streams)
    _, streams = credited(Grpo(drop_flat_groups=drop), RIGHT, "bad|")
    assert all(set(s.weight_T) == {1.0} for s in streams)


def test_silent_streams_keep_origin_and_log_probabilities():
    edited, _ = credited(Scope(), FAILURE)
    streams = silent(edited.members[0])
    assert streams.origin_T == edited.members[0].rollout.origin_T
    assert streams.behaviour_logprob_T == edited.members[0].rollout.logprob_T


# --- loss -----------------------------------------------------------------------------------------------------------


def mixed_tokens(is_teacher: list[bool], advantage: float = 1.0) -> Tokens:
    count = len(is_teacher)
    logp_BT = torch.log(torch.linspace(0.1, 0.9, count))[None].requires_grad_()
    old_BT = torch.log(torch.linspace(0.2, 0.5, count))[None]
    return Tokens(
        logp_BT, old_BT, torch.full((1, count), advantage), torch.tensor([is_teacher]), *torch.zeros(3, 1, count)
    )


@pytest.mark.parametrize("term", [Shaped(), Plain(), NegativeLogLikelihood()], ids=lambda t: t.kind)
def test_teacher_tokens_get_the_teacher_term_and_all_others_the_clipped_surrogate(term):
    is_teacher = [False, True, True, False, True]
    tokens = mixed_tokens(is_teacher)
    loss_BT = Scope(teacher_term=term).token_loss(tokens, Clip())
    on_policy_BT, teacher_BT = Grpo().token_loss(tokens, Clip()), term.loss(tokens, Clip())
    for t, teacher in enumerate(is_teacher):
        assert loss_BT[0, t] == (teacher_BT if teacher else on_policy_BT)[0, t]
    gradient = torch.autograd.grad(loss_BT.sum(), tokens.logp_BT)[0]
    assert torch.isfinite(gradient).all()


def test_without_teacher_tokens_the_loss_is_that_of_grpo_bit_for_bit():
    for advantage in (1.0, -1.0):
        tokens = mixed_tokens([False] * 5, advantage)
        assert torch.equal(Scope().token_loss(tokens, Clip()), Grpo().token_loss(tokens, Clip()))


# --- what the trainer asks a method ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "reserved"),
    [({}, 0), ({"insertion": "append"}, 1), ({"insertion": "pair", "max_salvages": 3}, 3)],
)
def test_reserved_rows_are_what_may_be_added(settings: dict[str, Any], reserved):
    scope = Scope(**settings)
    assert scope.num_reserved_rows == reserved
    edited, _ = credited(scope, *[FAILURE] * 4)
    assert len(edited.members) - 4 == reserved


def test_helpers_are_needed_only_where_something_is_salvaged():
    assert Scope().needs_teacher
    assert Scope().needs_step_scorer
    for method in (Grpo(), Scope(max_salvages=0)):
        assert not method.needs_teacher
        assert not method.needs_step_scorer
        assert method.num_reserved_rows == 0


def test_methods_are_known_by_their_names():
    assert {name: method.model_fields["name"].default for name, method in METHODS.items()} == {
        name: name for name in METHODS
    }
