"""What methods fix of the objective, and who hears of it."""

from __future__ import annotations

import pytest

from scope_rlvr.engines.trl.options import objective_of, with_objective
from scope_rlvr.formulas.advantages import Normalisation
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods import METHODS, Grpo
from scope_rlvr.methods.loss import Objective
from scope_rlvr.run.config import load_config
from tests.engine.conftest import grpo_config

OTHERWISE = Objective(100, Normalisation.GROUP_STD, Aggregation.TOKEN_MEAN, kl=0.5, entropy=0.25)


def test_a_method_that_fixes_nothing_leaves_the_objective_as_it_is():
    assert Grpo().fixed == {}
    assert OTHERWISE.of(Grpo()) == OTHERWISE


def test_a_penalty_of_zero_is_fixed_too():
    found = OTHERWISE.of(Grpo(kl=0.0, entropy=0.0))
    assert (found.kl, found.entropy, found.normalisation) == (0.0, 0.0, Normalisation.GROUP_STD)


@pytest.mark.parametrize("name", ["ampo", "luffy", "rl_plus", "critique_grpo", "prefix_rft"])
def test_where_a_paper_divides_by_nothing_a_run_cannot_change_it(name):
    assert OTHERWISE.of(METHODS[name]()).normalisation is Normalisation.NONE


def test_the_plan_of_a_run_shows_what_holds():
    given = ["objective.kl=0.5", "method={name='grpo', kl=0.25, entropy=0.125}"]
    config = load_config(overrides=given)
    assert (config.resolved_objective.kl, config.resolved_objective.entropy) == (0.25, 0.125)
    assert any("kl 0.25, entropy 0.125" in line for line in config.plan())


def test_trl_is_told_by_a_copy(tmp_path):
    args = grpo_config(tmp_path, beta=0.5)
    method = Grpo(kl=0.25, entropy=0.125)
    told = with_objective(args, objective_of(args, method))
    assert (told.beta, told.entropy_coef) == (0.25, 0.125)
    assert (args.beta, args.entropy_coef) == (0.5, 0.0)
