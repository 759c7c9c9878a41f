"""The plainest engine and TRL's compute the same: equal rollouts and streams, equal losses and weights to rounding."""

from __future__ import annotations

from typing import Any

import pytest

from scope_rlvr.core.steps import StepRule
from scope_rlvr.engines.local import LocalEngine
from scope_rlvr.engines.trl.problems import problem_of_row
from scope_rlvr.methods import Grpo, Luffy, Method, Prime, Pure, Scope
from scope_rlvr.methods.loss import Objective
from scope_rlvr.methods.step import StepResult
from scope_rlvr.models.local import TokenizerCodec
from tests.engine.conftest import MakeTrainer, load_policy
from tests.engine.test_side_update import Beside

STEPS = 3


PARTS = ["replay", "overlong_penalty", "value_baseline", "forking_tokens", "entropy_smoothing"]
TESTED = {
    "grpo": Grpo(),
    "scope": Scope(),
    "luffy": Luffy(),
    "prime": Prime(),
    "beside": Beside(),
    "parts": Grpo(parts=PARTS),
}


@pytest.mark.parametrize("method", TESTED.values(), ids=TESTED)
def test_three_steps_by_both_engines(make_trainer: MakeTrainer, rows: list[dict[str, Any]], method: Method) -> None:
    results: list[StepResult] = []
    rows_per_group = 4 + method.num_reserved_rows
    args = {"num_generations": rows_per_group, "per_device_train_batch_size": 4 * rows_per_group}
    args |= {"max_steps": STEPS, "shuffle_dataset": False}
    trainer = make_trainer(method, args=args, on_groups=results.append)
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]

    model, tokenizer = load_policy()
    engine = LocalEngine(
        model,
        TokenizerCodec.of(tokenizer, model),
        method,
        trainer.verifier,
        trainer.objective,
        trainer.step_scorer,
        trainer.teacher,
        step_rule=StepRule(),
        learning_rate=1e-3,
        micro_batch_rows=5,
        seed=7,
    )
    problems = [problem_of_row(row) for row in rows]
    own = list(engine.train(problems, steps=STEPS, problems_per_step=4, rollouts_per_problem=4))
    for (result, figures), trls, log in zip(own, results, logs, strict=True):
        for group, expected, streams_G, expected_G in zip(
            result.groups, trls.groups, result.streams_PG, trls.streams_PG, strict=True
        ):
            assert [m.rollout.token_ids for m in group.members] == [m.rollout.token_ids for m in expected.members]
            assert [m.verdict for m in group.members] == [m.verdict for m in expected.members]
            for streams, others in zip(streams_G, expected_G, strict=True):
                assert (streams.origin_T, streams.weight_T) == (others.origin_T, others.weight_T)
                assert streams.advantage_T == pytest.approx(others.advantage_T, abs=1e-5)
                assert streams.behaviour_logprob_T == pytest.approx(others.behaviour_logprob_T, abs=1e-3)
        assert figures["loss"] == pytest.approx(log["loss"], abs=1e-6)
        aside = {name: value for name, value in figures.items() if name.startswith("side/")}
        assert {name: log[name] for name in aside} == pytest.approx(aside, rel=1e-4)
        assert bool(aside) == isinstance(method, Beside)
    differences = [
        (ours - theirs).abs().detach()
        for ours, theirs in zip(model.parameters(), trainer.model.parameters(), strict=True)
    ]
    # Adam moves a weight whose gradient is nearly nothing by a whole learning rate, this way or that.
    assert max(d.max().item() for d in differences) < 1e-3
    assert sum(d.sum().item() for d in differences) / sum(d.numel() for d in differences) < 1e-7


def test_a_kl_penalty_is_refused() -> None:
    model, tokenizer = load_policy()
    with pytest.raises(ValueError, match="no reference model"):
        LocalEngine(model, TokenizerCodec(tokenizer), Grpo(), None, Objective(80, kl=0.1))
    with pytest.raises(ValueError, match=r"method.kl = 0.001"):
        LocalEngine(model, TokenizerCodec(tokenizer), Pure(), None, Objective(80))
