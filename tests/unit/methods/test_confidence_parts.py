"""Parts and presets that work with entropy, likelihood and confidence: numbers by hand, and what they are where they are neutral."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Member, Streams
from scope_rlvr.core.types import Outcome
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, Tokens, clipped_policy_loss
from scope_rlvr.formulas.readings import Entropy, LogProb, MinPLogProb, NucleusEntropy, TemperedLogProb
from scope_rlvr.methods import METHODS, Grpo, Method
from scope_rlvr.methods.parts.anchored_entropy import slopes
from scope_rlvr.methods.parts.covariance import covariances
from scope_rlvr.methods.reading import read
from tests.doubles import PROBLEM, group, toolbox
from tests.unit.methods.test_outcome_parts import RIGHT, UNKNOWN, WRONG, member
from tests.unit.methods.test_parts_in_methods import Reader

Members = Sequence[Member]


def credit(method: Method, *groups: Members, normalisation: Normalisation = Normalisation.NONE) -> list[Streams]:
    made = method.prepare([Group(PROBLEM, tuple(members)) for members in groups], toolbox())
    rewards = [[m.verdict.pay for m in one.members] for one in made]
    return [s for streams_G in method.credit(made, rewards, normalisation) for s in streams_G]


def tokens_of(streams: Sequence[Streams], logp: float = -0.5, old: float = -0.5) -> Tokens:
    """Streams of equal length as the loss sees them, all tokens with these log-probabilities."""
    advantage_BT = torch.tensor([s.advantage_T for s in streams])
    same_BT = torch.ones_like(advantage_BT)
    names = streams[0].extras
    return Tokens(
        logp_BT=(logp * same_BT).requires_grad_(),
        old_logp_BT=old * same_BT,
        advantage_BT=advantage_BT,
        is_teacher_BT=torch.zeros_like(same_BT, dtype=torch.bool),
        teacher_logp_BT=0 * same_BT,
        weight_BT=torch.tensor([s.weight_T for s in streams]),
        entropy_BT=0 * same_BT,
        extras={name: torch.tensor([s.extras[name] for s in streams]) for name in names},
    )


# --- reducers ---------------------------------------------------------------------------------------------------------

LOGITS = st.lists(st.floats(-8, 8), min_size=3, max_size=6).map(lambda row: torch.tensor([row]))


@settings(deadline=None)
@given(LOGITS)
def test_reducers_at_their_neutral_setting_are_the_plain_ones(logits: torch.Tensor) -> None:
    ids = torch.tensor([1])
    torch.testing.assert_close(TemperedLogProb(temperature=1)(logits, ids), LogProb()(logits, ids))
    torch.testing.assert_close(MinPLogProb(min_p=0)(logits, ids), LogProb()(logits, ids))
    torch.testing.assert_close(NucleusEntropy(top_p=1)(logits, ids), Entropy()(logits, ids), atol=1e-5, rtol=1e-4)


@settings(deadline=None)
@given(LOGITS, st.floats(0.05, 1))
def test_a_filtered_distribution_is_one(logits: torch.Tensor, min_p: float) -> None:
    ids = torch.arange(logits.size(1))
    kept = MinPLogProb(min_p=min_p)(logits.expand(len(ids), -1), ids)
    assert kept.exp().sum().item() == pytest.approx(1, abs=1e-5)
    assert kept[logits[0].argmax()] > -2, "the likeliest token is always kept"


def test_the_entropy_of_a_nucleus_has_a_gradient() -> None:
    logits = torch.tensor([[3.0, 2.0, -5.0]]).requires_grad_()
    NucleusEntropy(top_p=0.9)(logits, torch.tensor([0])).sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[0, 0] < 0 < logits.grad[0, 1]


# --- entropy ----------------------------------------------------------------------------------------------------------


def test_steer_by_hand() -> None:
    sure, unsure = math.log(0.9), math.log(0.5)
    members = [
        member(RIGHT, policy_logprob=(sure, unsure), entropy=(0.3, 0.7)),
        member(WRONG, policy_logprob=(sure, sure), entropy=(0.3, 0.3)),
    ]
    first, second = credit(METHODS["steer"](), members)
    small, large = 0.5 * 0.1 * abs(sure + 0.3), 0.5 * 0.5 * abs(unsure + 0.7)
    assert small > large, "ln π + H is nearly nothing at the second token"
    assert small < 0.02
    weights = [0.8 ** (change / 0.02) for change in (small, large)]
    assert first.advantage_T == pytest.approx([0.5 * w for w in weights])
    assert second.advantage_T == pytest.approx([-0.5 * weights[0]] * 2)
    one = credit(METHODS["steer"](), [replace(m, extras={**m.extras, "entropy": (9.0, 9.0)}) for m in members])[0]
    assert min(one.advantage_T) == pytest.approx(0.4), "the largest change of the batch gets 0.8"


def test_a_factor_on_the_advantage_is_a_factor_on_the_clipped_loss() -> None:
    ratio, advantage = torch.tensor([0.5, 1.1, 3.0, 30.0]), torch.tensor([[1.0], [-2.0]])
    clip, old = Clip(low=0.2, high=0.28, dual=10), torch.zeros(2, 4)
    plain = clipped_policy_loss(ratio.log().expand(2, 4), old, advantage.expand(2, 4), clip)
    scaled = clipped_policy_loss(ratio.log().expand(2, 4), old, 0.8 * advantage.expand(2, 4), clip)
    torch.testing.assert_close(scaled, 0.8 * plain)


def test_uncertain_tokens_are_scaled_up_and_never_turned_round() -> None:
    method = Grpo(parts=[{"kind": "entropy_scale", "strength": 2.0}])
    first, second = credit(method, [member(RIGHT, entropy=(0.0, 2.0)), member(WRONG, entropy=(1.0, 1.0))])
    # Mean 1, deviation √½.
    assert first.advantage_T == pytest.approx([0.0, 0.5 * (1 + 2 * math.sqrt(2))])
    assert second.advantage_T == pytest.approx([-0.5, -0.5])


def test_covariances_are_over_the_tokens_that_count() -> None:
    members = (
        member(RIGHT, policy_logprob=(-1.0, -3.0)),
        member(WRONG, policy_logprob=(-2.0, -2.0)),
        member(UNKNOWN, policy_logprob=(-9.0, -9.0)),
    )
    one = Group(PROBLEM, members)
    streams = Grpo().credit([one], [[1.0, 0.0, None]], Normalisation.NONE)
    assert covariances([one], streams) == {(0, 0, 0): 0.5, (0, 0, 1): -0.5, (0, 1, 0): 0.0, (0, 1, 1): 0.0}


def test_clip_cov_takes_the_gradient_of_some_tokens_in_its_band() -> None:
    spread = {"policy_logprob": (-1.0, -9.0)}
    members = [member(RIGHT, **spread), member(WRONG, **spread)]  # covariances of ±2 and ∓2
    part = {"kind": "covariance_mask", "share": 0.25}
    first, second = credit(Grpo(parts=[part]), members)
    zeros = [(i, t) for i, s in enumerate((first, second)) for t, a in enumerate(s.advantage_T) if a == 0]
    assert len(zeros) == 1
    assert zeros[0] in {(0, 0), (1, 1)}
    assert first.weight_T == (1, 1), "it still counts in the mean"
    assert credit(Grpo(parts=[{**part, "low": 3.0}]), members) == credit(Grpo(), members)


def test_kl_cov_holds_the_highest_covariance_back() -> None:
    members = [member(RIGHT, policy_logprob=(-1.0, -9.0)), member(WRONG, policy_logprob=(-4.0, -5.0))]
    method = METHODS["kl_cov"](share=0.25, normalisation="none")
    streams = credit(method, members)
    assert [s.extras["held_back"] for s in streams] == [(1, 0), (0, 0)]
    moved = tokens_of(streams, logp=-0.5 + math.log(4), old=-0.5)
    loss_BT = method.token_loss(moved, Clip())
    assert loss_BT.tolist() == [pytest.approx([-2 + math.log(4), -2]), pytest.approx([2, 2])], (
        "ratios of 4 are not clipped"
    )
    still = tokens_of(streams)
    method.token_loss(still, Clip()).sum().backward()
    plain = tokens_of(credit(Grpo(), members))
    Grpo().token_loss(plain, Clip()).sum().backward()
    assert torch.equal(still.logp_BT.grad, plain.logp_BT.grad)  # type: ignore[arg-type]


def test_siren_has_the_gradient_of_the_square() -> None:
    before = [[0.1, 0.9, 0.8, 0.2, 0.3], [0.4, 0.5]]
    for gap in (0.5, -0.25):
        now = [torch.tensor(h, dtype=torch.float64).requires_grad_() for h in before]
        kept = [[h >= sorted(row)[-1] for h in row] for row in before]  # a fifth of 5, and of 2
        mean = torch.stack([h[torch.tensor(k)].mean() for h, k in zip(now, kept, strict=True)]).mean()
        anchor = mean.item() - gap
        (mean - anchor).square().backward()
        slope = slopes(before, gap, share=0.2)
        for h, row in zip(now, slope, strict=True):
            # The term is the mean over all seven tokens.
            assert h.grad is not None
            assert h.grad.tolist() == pytest.approx([s / 7 for s in row])


def test_the_anchor_is_the_first_step_and_a_rollout_that_does_not_count_holds_nothing() -> None:
    method, tools = METHODS["siren"](), toolbox(readers={"policy": Reader()})

    def streams(*texts: str) -> tuple[Streams, ...]:
        groups = method.prepare(read([group(*texts)], method.readings, tools), tools)
        return method.credit(groups, [[m.verdict.pay for m in groups[0].members]], Normalisation.NONE)[0]

    texts = ("answer 7|", "answer 33|", "answer ?|")
    assert not any(any(s.extras["entropy_slope"]) for s in streams(*texts)), "the gap is nothing yet"
    tools.memory["anchored_entropy"] -= 0.5
    later = streams(*texts)
    assert [sum(x > 0 for x in s.extras["entropy_slope"]) for s in later] == [2, 2, 0]
    assert sum(sum(s.extras["entropy_slope"]) for s in later) == pytest.approx(
        2 * 0.5 * sum(map(len, (texts[0], texts[1])))
    )


# --- confidence -------------------------------------------------------------------------------------------------------


def test_ucas_by_hand() -> None:
    members = [
        member(RIGHT, self_certainty=(3.0, 5.0), chosen_logit=(0.0, 10.0)),
        member(WRONG, self_certainty=(2.0, 2.0), chosen_logit=(5.0, 5.0)),
        member(UNKNOWN, self_certainty=(99.0, 99.0), chosen_logit=(99.0, 99.0)),
    ]
    right, wrong, unknown = credit(METHODS["ucas"](), members)
    z = 1 / math.sqrt(2)  # of 4 and 2
    assert right.advantage_T == pytest.approx([0.5 * math.exp(-0.25 * z), 0.5 * math.exp(-0.25 * z) - 0.05])
    assert wrong.advantage_T == pytest.approx([-0.5 * math.exp(-0.35 * z) - 0.025] * 2)
    assert not any(unknown.advantage_T)


def test_a_high_logit_does_not_turn_a_success_into_a_failure() -> None:
    part = {"kind": "uncertainty", "logit_weight": 9.0}
    right, wrong = credit(
        Grpo(parts=[part]),
        [
            member(RIGHT, self_certainty=(1.0, 1.0), chosen_logit=(0.0, 1.0)),
            member(WRONG, self_certainty=(1.0, 1.0), chosen_logit=(0.0, 1.0)),
        ],
    )
    assert right.advantage_T == (0.5, 0.0)
    assert wrong.advantage_T == (-0.5, -9.5)


def test_progrpo_compares_the_least_likely_tokens_of_prompt_and_response() -> None:
    low, high = math.log(0.2), math.log(0.9)
    members = [
        member(RIGHT, policy_logprob=(low, high), prompt_logprob=(math.log(0.6), high)),
        member(WRONG, policy_logprob=(high, high)),
    ]
    right, wrong = credit(METHODS["progrpo"](), members)
    assert right.advantage_T == pytest.approx([0.5 + 0.1 * (0.6 - 0.2)] * 2)
    assert wrong.advantage_T == pytest.approx([-0.5 + 0.1 * (0.6 - 0.9)] * 2)
    flat = credit(METHODS["progrpo"](), [replace(members[0]), replace(members[0])])
    assert not any(any(s.advantage_T) for s in flat)


def test_the_prompt_is_read_once_for_a_group_after_its_first_token() -> None:
    method = METHODS["progrpo"]()
    (found,) = read([group("answer 7|", "answer 3|")], method.readings, toolbox(readers={"policy": Reader()}))
    first, second = found.members
    assert len(first.extras["prompt_logprob"]) == len(first.rollout.prompt_ids) - 1
    assert "prompt_logprob" not in second.extras


def test_rollouts_of_low_perplexity_count_more() -> None:
    members = [member(RIGHT, policy_logprob=(-0.5, -0.5)), member(WRONG, policy_logprob=(-2.5, -2.5))]
    right, wrong = credit(METHODS["perplexity_shaping"](strength=0.1), members)
    z = 1 / math.sqrt(2)
    assert right.advantage_T == pytest.approx([0.5 * (1 + 0.1 * z)] * 2)
    assert wrong.advantage_T == pytest.approx([-0.5 * (1 - 0.1 * z)] * 2)


def test_dcpo_mixes_what_another_temperature_would_have_drawn() -> None:
    logprobs = {"policy_logprob": (-0.4, -0.4), "hot_logprob": (-0.5, -0.3), "cold_logprob": (9.0, 9.0)}
    members = [member(RIGHT, **logprobs), member(WRONG, **logprobs)]
    right, wrong = credit(METHODS["dcpo"](target=0.45), members)
    alpha = 0.1 / 1.1  # a gap of 0.05, over a share of ½
    assert right.advantage_T == pytest.approx([(1 - alpha) * 0.5 + alpha * math.exp(d) for d in (-0.1, 0.1)])
    assert wrong.advantage_T == pytest.approx([(1 - alpha) * -0.5] * 2)
    hopeless = credit(METHODS["dcpo"](), [member(WRONG, **logprobs), member(WRONG, **logprobs)])
    assert not any(any(s.advantage_T) for s in hopeless)
    at_target = credit(METHODS["dcpo"](target=0.4), members)
    assert at_target == credit(Grpo(), members)


NEUTRAL = [
    {"kind": "entropy_change", "least": 1},
    {"kind": "entropy_scale", "strength": 0},
    {"kind": "covariance_mask", "low": 99, "high": 999},
    {"kind": "uncertainty", "positive": 0, "negative": 0, "logit_weight": 0},
    {"kind": "answer_confidence", "weight": 0},
    {"kind": "perplexity", "strength": 0},
]


@pytest.mark.parametrize("part", NEUTRAL, ids=[part["kind"] for part in NEUTRAL])
def test_where_it_is_neutral_a_part_leaves_grpo(part: dict[str, object]) -> None:
    def streams(method: Method) -> list[tuple[Streams, ...]]:
        tools = toolbox(readers={"policy": Reader(), "reference": Reader()})
        groups = read(
            [group("answer 7|", "answer 3|", "answer ?|"), group("answer 7|", "answer 7|")], method.readings, tools
        )
        groups = method.prepare(groups, tools)
        return method.credit(groups, [[m.verdict.pay for m in g.members] for g in groups], Normalisation.GROUP_STD)

    assert streams(Grpo(parts=[part])) == streams(Grpo())


@pytest.mark.parametrize("outcomes", [(RIGHT, RIGHT), (WRONG, WRONG), (UNKNOWN, UNKNOWN), (RIGHT, UNKNOWN)])
def test_groups_that_teach_nothing_stay_finite(outcomes: Sequence[Outcome]) -> None:
    names = (
        "policy_logprob",
        "entropy",
        "self_certainty",
        "chosen_logit",
        "prompt_logprob",
        "hot_logprob",
        "cold_logprob",
    )
    extras = dict.fromkeys(names, (-0.5,))
    for kind in (
        "entropy_change",
        "entropy_scale",
        "covariance_mask",
        "uncertainty",
        "answer_confidence",
        "perplexity",
        "tempered_mix",
    ):
        found = credit(Grpo(parts=[kind]), [member(outcome, 1, **extras) for outcome in outcomes])
        assert all(math.isfinite(a) for s in found for a in s.advantage_T), kind
