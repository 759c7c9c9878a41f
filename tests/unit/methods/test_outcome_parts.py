"""Parts and presets that work with outcomes, lengths and places: numbers by hand, and what they are where they are neutral."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.types import Origin, Outcome, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Baseline, Normalisation, centred_rewards
from scope_rlvr.methods import METHODS, Grpo, Method
from scope_rlvr.methods.parts.filters import BalancedGroups
from scope_rlvr.methods.parts.group_rewards import RefinedLabels, rank_nudges, ranks
from scope_rlvr.methods.parts.outcome_estimators import split_advantages
from scope_rlvr.methods.step import edit_groups
from tests.doubles import PROBLEM, group, toolbox
from tests.unit.methods.crediting import credited

RIGHT, WRONG, UNKNOWN = Outcome.RIGHT, Outcome.WRONG, Outcome.UNKNOWN


def member(outcome: Outcome, num_tokens: int = 2, answer: str | None = "3", **extras: object) -> Member:
    segment = Segment(tuple(range(num_tokens)), Origin.POLICY, (-0.5,) * num_tokens)
    return Member(Rollout((1,), (segment,)), Verdict(outcome, answer), extras=extras)


def credit(method: Method, *members: Member, normalisation: Normalisation = Normalisation.NONE) -> tuple[Streams, ...]:
    one = Group(PROBLEM, members)
    return method.credit([one], [[m.verdict.pay for m in members]], normalisation)[0]


def first_advantages(method: Method, *members: Member) -> list[float]:
    return [streams.advantage_T[0] for streams in credit(method, *members)]


def paid(method: Method, *members: Member, seed: int = 0) -> list[float | None]:
    (found,) = method.prepare([Group(PROBLEM, members)], replace(toolbox(), seed=seed))
    return [m.verdict.pay for m in found.members]


# --- estimators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("w_reinforce", 0.1, -1.0),
        ("psr", 1.0, 0.0),
        ("nsr", 0.0, -1.0),
        ("pgfc", 0.2, -0.8),
        ("pgbc", 0.9 / 0.7, -1 / 7),
    ],
)
def test_without_a_baseline_a_verdict_has_one_worth_whatever_the_others_are(
    name: str, right: float, wrong: float
) -> None:
    for members in ([member(RIGHT), member(WRONG)], [member(RIGHT)] * 3 + [member(WRONG)], [member(RIGHT)]):
        expected = [right if m.verdict.is_right else wrong for m in members]
        assert first_advantages(METHODS[name](), *members) == pytest.approx(expected)


def test_the_halves_of_w_reinforce_take_their_mean_over_what_trains() -> None:
    right, wrong, unknown = credit(METHODS["psr"](), member(RIGHT), member(WRONG), member(UNKNOWN))
    assert (right.weight_T, wrong.weight_T, unknown.weight_T) == ((1, 1), (0, 0), (0, 0))
    right, wrong, _ = credit(METHODS["nsr"](), member(RIGHT), member(WRONG), member(UNKNOWN))
    assert (right.weight_T, wrong.weight_T) == ((0, 0), (1, 1))


@given(st.floats(0, 0.49), st.floats(0, 0.49))
def test_corrections_are_right_on_average(false_positives: float, false_negatives: float) -> None:
    backward = METHODS["pgbc"](false_positives=false_positives, false_negatives=false_negatives).own_parts[0]
    forward = METHODS["pgfc"](false_negatives=false_negatives).own_parts[0]

    def mean(part: object, chance: float) -> float:
        return chance * part.worth(1.0) + (1 - chance) * part.worth(0.0)  # type: ignore[attr-defined]

    if_right, if_wrong = 1 - false_negatives, false_positives
    assert mean(backward, if_right) == pytest.approx(1, abs=1e-9)
    assert mean(backward, if_wrong) == pytest.approx(0, abs=1e-9)
    # The forward weights differ from a perfect verifier's by a factor and by a constant, which is a baseline.
    gap = mean(forward, if_right) - mean(forward, if_wrong)
    assert gap == pytest.approx(1 - false_positives - false_negatives)


def test_error_rates_that_leave_nothing_to_correct_are_refused() -> None:
    with pytest.raises(ValueError, match=r"false_positives \+ false_negatives is 1.1; below 1"):
        METHODS["grpo"](parts=[{"kind": "backward_correction", "false_positives": 0.6, "false_negatives": 0.5}])


def test_canon_by_hand_by_entropy_and_by_length() -> None:
    low, high = {"entropy": (0.1, 0.3)}, {"entropy": (0.9, 0.5)}
    members = [
        member(WRONG, **high),
        member(RIGHT, **low),
        member(RIGHT, **high),
        member(UNKNOWN),
        member(WRONG, **low),
    ]
    # Low half: 1 and 0, mean ½; high half: 0 and 1, mean ½.
    assert first_advantages(METHODS["canon"](), *members) == [-0.5, 0.5, 0.5, 0, -0.5]
    long_ones = [member(RIGHT, 4), member(RIGHT, 3), member(WRONG, 1), member(RIGHT, 2)]
    # Short half: 0 and 1; long half: 1 and 1.
    assert first_advantages(METHODS["canon"](by="length"), *long_ones) == [0.5, 0.5, -1.0, 0.0]
    assert first_advantages(METHODS["canon"](by="length", mix=0), *long_ones) == [0, 0, -0.5, 0.5]
    assert first_advantages(METHODS["canon"](), member(RIGHT)) == [0]


@given(st.lists(st.sampled_from([0.0, 1.0, None]), min_size=2, max_size=2))
def test_canon_of_two_rollouts_is_leave_one_out(rewards: Sequence[float | None]) -> None:
    expected = centred_rewards(rewards, Baseline.LEAVE_ONE_OUT)
    assert split_advantages(rewards, [1, 2], mix=1.0) == pytest.approx(expected)


def test_lite_ppo_divides_by_the_deviation_of_the_batch() -> None:
    groups = [Group(PROBLEM, (member(RIGHT), member(WRONG))), Group(PROBLEM, (member(RIGHT), member(RIGHT)))]
    lite = METHODS["lite_ppo"]()
    (mixed, flat) = lite.credit(groups, [[1.0, 0.0], [1.0, 1.0]], lite.normalisation)
    assert mixed[0].advantage_T[0] == pytest.approx(0.5 / (0.5 + 1e-4))  # deviation of 1, 0, 1, 1
    assert flat[0].advantage_T[0] == 0


# --- advantages -------------------------------------------------------------------------------------------------------


def test_adora_holds_back_groups_whose_successes_are_short() -> None:
    method = METHODS["adora"](normalisation="none")
    assert first_advantages(method, member(RIGHT, 5), member(WRONG, 4)) == [0.5, -0.5]
    assert first_advantages(method, member(RIGHT, 4), member(WRONG, 4)) == [0.05, -0.05]
    cut_off = replace(member(WRONG, 9), rollout=replace(member(WRONG, 9).rollout, is_truncated=True))
    assert first_advantages(method, member(RIGHT, 4), cut_off) == [0.5, -0.5]


def test_the_end_of_a_response_is_pulled_and_pushed_more() -> None:
    streams = credit(Grpo(parts=["position_bonus"]), member(RIGHT), member(WRONG), member(RIGHT))
    bonus = [0.1 / (1 + math.exp(-2 * place)) for place in (0.5, 1.0)]
    assert streams[0].advantage_T == pytest.approx([1 / 3 + b for b in bonus])
    assert streams[1].advantage_T == pytest.approx([-2 / 3 - b for b in bonus])
    flat = credit(Grpo(parts=["position_bonus"]), member(RIGHT), member(RIGHT))
    assert not any(any(s.advantage_T) for s in flat)


def test_prl_credits_what_of_the_log_ratio_is_still_to_come() -> None:
    now, before = (-0.5, -0.5, -0.5), (-1.5, -2.5, -3.5)  # ratios of 1, 2 and 3
    members = [member(RIGHT, 3, policy_logprob=now, reference_logprob=before), member(WRONG, 3)]
    method = Grpo(parts=[{"kind": "log_ratio_steps", "eta": 10, "block": 2}])
    right, wrong = credit(method, *members)
    assert right.advantage_T == pytest.approx([0.5 - 0.5, 0.5 - 0.5, 0.5 - 0.3])
    assert wrong.advantage_T == (-0.5,) * 3, "what nobody read stays"
    whole = credit(Grpo(parts=[{"kind": "log_ratio_steps", "eta": 10, "block": 99}]), *members)[0]
    assert whole.advantage_T == pytest.approx([0.5 - 0.3] * 3)


NEUTRAL = [
    {"kind": "position_bonus", "gain": 0},
    {"kind": "length_gate", "damping": 1},
    {"kind": "unlikeliness", "weight": 0},
    {"kind": "length_rank", "spread": 0},
    {"kind": "thought_length", "cost": 0},
    {"kind": "flipped_verdicts", "rate": 0},
    {"kind": "reasoning_phrases", "share": 0},
    {"kind": "refined_labels", "patience": 999},
    {"kind": "void_responses"},
    {"kind": "log_ratio_steps", "eta": 1e300},
]


@pytest.mark.parametrize("part", NEUTRAL, ids=[part["kind"] for part in NEUTRAL])
def test_where_it_is_neutral_a_part_leaves_grpo(part: dict[str, object]) -> None:
    texts = ("answer 7|", "answer 3|", "good 1\n\nanswer 3|", "answer ?|")
    extras = {"policy_logprob": (-0.25,), "reference_logprob": (-0.75,)}

    def streams(method: Method) -> tuple[Streams, ...]:
        one = group(*texts)
        one = replace(
            one, members=tuple(m.having(**{n: v * len(m.rollout) for n, v in extras.items()}) for m in one.members)
        )
        (prepared,) = method.prepare([one], toolbox())
        return method.credit([prepared], [[m.verdict.pay for m in prepared.members]], Normalisation.GROUP_STD)[0]

    assert streams(Grpo(parts=[part])) == streams(Grpo())


# --- rewards ----------------------------------------------------------------------------------------------------------


def test_the_least_likely_success_is_paid_in_full() -> None:
    rare, common = {"policy_logprob": (-2.0, -2.0)}, {"policy_logprob": (-0.1, -0.1)}
    members = [member(RIGHT, **common), member(RIGHT, **rare), member(WRONG, **common), member(UNKNOWN)]
    # Ranks among the three known ones: 1, 0 and 2; of two equally likely ones the first comes first.
    assert paid(METHODS["reward_unlikely"](), *members) == [pytest.approx(1 - 0.25 / 3), 1.0, 0.0, None]
    assert paid(METHODS["reward_unlikely"](), *members[:2], members[3]) == [1.0, 1.0, None], "nobody to win against"


@given(st.lists(st.floats(-9, 0), max_size=9))
def test_ranks_are_places_in_order(values: list[float]) -> None:
    found = ranks(values)
    assert sorted(found) == list(range(len(values)))
    assert [v for _, v in sorted(zip(found, values, strict=True))] == sorted(values)


@given(st.lists(st.integers(1, 5), max_size=9), st.floats(0, 1))
def test_nudges_add_up_to_nothing_and_stay_small(values: list[int], spread: float) -> None:
    nudges = rank_nudges(values, spread)
    assert math.fsum(nudges) == pytest.approx(0, abs=1e-9)
    assert all(abs(nudge) <= spread / 2 + 1e-12 for nudge in nudges)


def test_short_successes_and_long_failures_are_paid_a_little_more() -> None:
    members = [member(RIGHT, 3), member(RIGHT, 1), member(WRONG, 5), member(WRONG, 4), member(UNKNOWN)]
    assert paid(Grpo(parts=["length_rank"]), *members) == pytest.approx([0.9, 1.1, 0.1, -0.1, None])
    assert paid(Grpo(parts=["length_rank"]), *members[:2]) == [1.0, 1.0], "a flat group stays flat"


def test_thoughts_are_charged_by_their_length_up_to_the_whole_reward() -> None:
    part = {"kind": "thought_length", "cost": 2}
    members = [member(RIGHT, 4), member(WRONG, 1), member(WRONG, 4, answer=None), member(UNKNOWN)]
    assert paid(Grpo(parts=[part]), *members) == [0.5, -1.0, -1.0, None]


def test_random_rewards_follow_the_seed_and_not_the_verdicts() -> None:
    method = Grpo(parts=["random_reward"])
    ones = paid(method, *[member(RIGHT)] * 400, seed=3)
    assert ones == paid(method, *[member(WRONG)] * 400, seed=3)
    assert ones != paid(method, *[member(RIGHT)] * 400, seed=4)
    assert 0.4 < sum(one or 0 for one in ones) / 400 < 0.6
    assert paid(method, member(UNKNOWN), *[member(RIGHT)] * 5, seed=3) == [None, *ones[:5]]


def test_a_format_reward_asks_for_an_answer_alone() -> None:
    assert paid(Grpo(parts=["format_reward"]), member(WRONG), member(RIGHT, answer=None), member(UNKNOWN)) == [
        1,
        0,
        None,
    ]


def test_whole_groups_are_turned_round() -> None:
    flipped = Grpo(parts=[{"kind": "flipped_verdicts", "rate": 1}])
    assert paid(flipped, member(RIGHT), member(WRONG), member(UNKNOWN)) == [0, 1, None]
    groups = [Group(PROBLEM, (member(RIGHT), member(WRONG)))] * 300
    found = Grpo(parts=["flipped_verdicts"]).prepare(groups, toolbox())
    turned = [g.members[0].verdict.pay == 0 for g in found]
    assert all((g.members[1].verdict.pay == 1) is t for g, t in zip(found, turned, strict=True))
    assert 0.3 < sum(turned) / 300 < 0.5


def test_a_majority_that_grows_surer_becomes_the_label() -> None:
    method, tools = Grpo(parts=[{"kind": "refined_labels", "patience": 3}]), toolbox()

    def pays(*answers: str | None) -> list[float | None]:
        members = tuple(member(RIGHT if answer == "7" else WRONG, answer=answer) for answer in answers)
        (found,) = method.prepare([Group(PROBLEM, members)], tools)
        return [m.verdict.pay for m in found.members]

    assert pays("8", "8", "7", None) == [0, 0, 1, 0]
    assert pays("8", "8", "8", "7") == [0, 0, 0, 1]
    assert pays("8", "8", "8", "8") == [1, 1, 1, 1], "the third time, after shares of ½ and ¾"
    assert tools.memory["refined_labels"][PROBLEM.id] == [["8", 0.5], ["8", 0.75], ["8", 1.0]]


def test_a_majority_that_others_were_as_often_is_no_label() -> None:
    part = RefinedLabels(patience=4)
    assert part.label([("7", 0.1), ("7", 0.3), ("8", 0.5), ("8", 0.7)]) is None
    assert part.label([("7", 0.1), ("8", 0.3), ("8", 0.5), ("8", 0.7)]) == "8"
    assert part.label([("8", 0.7), ("8", 0.5), ("8", 0.3), ("8", 0.1)]) is None


# --- what trains ------------------------------------------------------------------------------------------------------


def test_a_response_without_an_answer_keeps_its_place_in_the_baseline() -> None:
    silent, wrong, right = credit(
        Grpo(parts=["void_responses"]), member(WRONG, answer=None), member(WRONG), member(RIGHT)
    )
    assert (silent.weight_T, wrong.weight_T) == ((0, 0), (1, 1))
    assert right.advantage_T[0] == pytest.approx(2 / 3)


def test_groups_are_balanced_by_draw_and_keep_their_record() -> None:
    texts = ["answer 7|", *["answer 3|"] * 6, "answer ?|"]
    (edited,) = edit_groups(Grpo(parts=["balanced_groups"]), [group(*texts)], toolbox())
    assert [m.verdict.outcome for m in edited.members].count(WRONG) == 2
    assert len(edited.members) + len(edited.replaced) == len(texts)
    assert sum(m.verdict.is_right for m in edited.members) == 1
    (hopeless,) = edit_groups(Grpo(parts=["balanced_groups"]), [group("answer 3|", "answer 3|")], toolbox())
    assert len(hopeless.members) == 2


def test_rewards_that_hardly_differ_do_not_count() -> None:
    part = BalancedGroups()
    assert not part.counts(group("answer 7|", "answer 7|"))
    assert part.counts(group("answer 7|", "answer 3|", "answer ?|"))
    silent = credited(Grpo(parts=["balanced_groups"]), "answer 3|", "answer 3|")[1]
    assert not any(any(s.weight_T) for s in silent)
