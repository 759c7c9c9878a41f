"""AMFT, reward-shaped imitation and one-shot selection: numbers by hand, and what they are where they are neutral."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Clip, NegativeLogLikelihood, example_tokens
from scope_rlvr.methods import METHODS, Grpo
from scope_rlvr.methods.guided.amft import Amft
from scope_rlvr.methods.parts.ranked_negatives import RivalMass, scaled_likelihood
from tests.doubles import PROMPT_IDS, toolbox
from tests.unit.methods.test_outcome_parts import RIGHT, UNKNOWN, WRONG, member
from tests.unit.methods.test_parts import PoolOfLevels

# --- AMFT -------------------------------------------------------------------------------------------------------------


def trace(num_tokens: int = 2) -> Any:
    one = member(RIGHT, num_tokens)
    return replace(one, role=Role.GUIDED, rollout=Rollout((1,), (Segment((7,) * num_tokens, Origin.TEACHER),)))


def test_amft_weighs_two_means_by_a_share_that_follows_the_entropy() -> None:
    method, tools = Amft(rate=0.5, normalisation="none"), toolbox()
    groups = [Group(Problem("p", "?", "7"), (member(RIGHT), member(WRONG), trace(1)))]

    def streams(entropy: float | None) -> Any:
        figures = {} if entropy is None else {"entropy": entropy}
        made = method.prepare(groups, replace(tools, figures=figures))
        return method.credit(made, [[1.0, 0.0, 1.0]], Normalisation.NONE)[0]

    # Five tokens: four of the policy's share 0.2 of the loss, one of the teacher's has 0.8 of it.
    right, wrong, teacher = streams(None)
    assert right.advantage_T == pytest.approx([0.5 * 0.2 * 5 / 4] * 2)
    assert wrong.advantage_T == pytest.approx([-0.5 * 0.2 * 5 / 4] * 2)
    assert teacher.advantage_T == pytest.approx([0.8 * 5])
    assert streams(1.0)[2].advantage_T == pytest.approx([0.8 * 5]), "the first entropy is the target"
    assert streams(1.4)[2].advantage_T == pytest.approx([0.6 * 5]), "0.8 + 0.5 · (1.0 − 1.4)"
    assert streams(0.9)[2].advantage_T == pytest.approx([0.65 * 5])


@given(st.floats(0, 1), st.floats(0, 5), st.floats(0, 5))
def test_the_share_of_imitation_stays_within_its_bounds_and_moves_towards_the_target(
    mu: float, target: float, now: float
) -> None:
    amft = Amft()
    moved = amft.steered(mu, (target, now))
    assert amft.mu_low <= moved <= amft.mu_high
    if amft.mu_low < mu < amft.mu_high and now != target:
        assert (moved >= mu) is (now < target) or moved == mu


# --- reward-shaped imitation ------------------------------------------------------------------------------------------


def test_at_its_neutral_setting_shaped_imitation_is_sft() -> None:
    tokens = example_tokens(0.3)
    shaped = METHODS["shaped_ntp"](exponent=0.0)
    assert torch.equal(shaped.token_loss(tokens, Clip()), NegativeLogLikelihood().loss(tokens, Clip()))
    (term,) = METHODS["shaped_ntp"](tail=0.0).own_parts
    marked = replace(tokens, extras={"rival_mass": torch.tensor([[0.2]])})
    assert term.loss(marked).item() == 0


def test_a_token_that_is_sure_is_pulled_on_and_never_without_bound() -> None:
    sure, unsure = torch.log(torch.tensor([[0.999999]])), torch.log(torch.tensor([[0.5]]))
    gains = []
    for logp in (sure, unsure):
        leaf = logp.clone().requires_grad_()
        scaled_likelihood(leaf, -0.5).sum().backward()
        gains.append(-leaf.grad.item())  # type: ignore[union-attr]
    assert gains == pytest.approx([0.01**-0.5, 0.5**-0.5])


@settings(deadline=None)
@given(st.lists(st.floats(-6, 6), min_size=3, max_size=6), st.integers(1, 9))
def test_the_mass_of_rivals_is_part_of_what_was_not_written(logits: list[float], k: int) -> None:
    row = torch.tensor([logits])
    mass = RivalMass(k=k)(row, torch.tensor([1])).item()
    rest = 1 - row.softmax(-1)[0, 1].item()
    assert 0 <= mass <= rest + 1e-6
    if k >= len(logits) - 1:
        assert mass == pytest.approx(rest, abs=1e-6)


def test_the_tail_is_pushed_down_and_the_likely_rivals_are_not() -> None:
    logits = torch.tensor([[1.0, 2.0, -1.0, -1.5]]).requires_grad_()
    (term,) = METHODS["shaped_ntp"]().own_parts
    mass = RivalMass(k=1)(logits, torch.tensor([0]))
    logp = logits.log_softmax(-1)[:, :1]
    tokens = replace(example_tokens(0.5), logp_BT=logp, extras={"rival_mass": mass[None]})
    term.loss(tokens).sum().backward()
    assert logits.grad is not None
    assert (logits.grad[0, 2:] > 0).all(), "a step against the gradient lowers them"
    assert (logits.grad[0, :2] < 0).all()


# --- one-shot ---------------------------------------------------------------------------------------------------------


def test_after_the_warm_up_the_problem_that_varied_most_fills_every_step() -> None:
    source = METHODS["one_shot"](warmup=2).own_parts[0]
    tools = toolbox(pool=PoolOfLevels([1, 1, 1]), step=1)
    offered = tools.pool.groups([0, 1, 2])  # type: ignore[union-attr]
    assert source.choose(offered, tools) == offered

    def seen(*outcomes: tuple[Outcome, ...]) -> list[Group]:
        return [replace(g, members=tuple(map(member, of))) for g, of in zip(offered, outcomes, strict=True)]

    source.learn(seen((RIGHT, WRONG), (RIGHT, RIGHT), (UNKNOWN,)), tools)
    source.learn(seen((RIGHT, WRONG), (WRONG, WRONG), (WRONG,)), replace(tools, step=2))
    later = replace(tools, step=3)
    assert [g.problem.id for g in source.choose(offered, later)] == ["p1"] * 3
    source.learn(seen((RIGHT, RIGHT), (RIGHT, RIGHT), (RIGHT,)), later)
    assert tools.memory["most_varied"] == {"p0": [0.5, 0.5], "p1": [1.0, 0.0], "p2": [0.0]}
    assert [g.prompt_ids for g in source.choose(offered[:1], later)] == [PROMPT_IDS]


def test_equal_deviations_are_told_apart_by_how_near_to_a_half_they_are() -> None:
    source = METHODS["one_shot"](warmup=0, count=2).own_parts[0]
    tools = toolbox(pool=PoolOfLevels([1, 1, 1]), memory={"most_varied": {"p0": [1.0], "p1": [0.25], "p2": [0.5]}})
    offered = tools.pool.groups([0, 0, 0])  # type: ignore[union-attr]
    assert [g.problem.id for g in source.choose(offered, tools)] == ["p2", "p1", "p2"]
    assert Grpo(parts=["most_varied"]).draws_problems
