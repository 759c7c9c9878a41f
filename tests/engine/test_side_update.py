"""Updates beside the step's: what they move and by how much, in parts, with adapters, and what they leave alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file
from torch.nn.functional import log_softmax

from scope_rlvr.check.longest_step import run_longest_step
from scope_rlvr.core.groups import Group
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.engines.trl.options import refuse_unsupported_model
from scope_rlvr.engines.trl.side_update import OPTIMIZERS_FILE, SideUpdates
from scope_rlvr.engines.trl.trainer import NonFiniteLoss, ScopeTrainer, UnsupportedOption
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.methods import Grpo, ReLift, Sft
from scope_rlvr.methods.method import SideUpdate
from scope_rlvr.methods.step import StepResult
from scope_rlvr.run.components import load_policy as load_run_policy
from scope_rlvr.run.config import load_config
from scope_rlvr.run.data import training_problems
from tests.engine.conftest import MakeTrainer, load_policy

RATE, STEP_RATE = 0.5, 1e-3


class Beside(Grpo):
    """Learns nothing in the step itself, and imitates traces of its problems beside it."""

    def advantages(self, groups: Any, rewards_PG: Any, normalisation: Any) -> Any:
        return [[[0.0] * len(member.rollout) for member in group.members] for group in groups]

    def side_updates(self, groups: Any, tools: Toolbox) -> list[SideUpdate]:
        sft = Sft(aggregation=Aggregation.TOKEN_MEAN)
        bare = [Group(group.problem, (), prompt_ids=group.prompt_ids) for group in groups]
        return [SideUpdate(sft, tuple(sft.edit_groups(bare, tools)), RATE)]


def trained(make_trainer: MakeTrainer, *, steps: int = 2, **changes: Any) -> tuple[ScopeTrainer, list[Any]]:
    results: list[StepResult] = []
    args = {"max_steps": steps, "learning_rate": STEP_RATE, "max_grad_norm": 0.0} | changes.pop("args", {})
    trainer = make_trainer(changes.pop("method", Beside()), args=args, on_groups=results.append, **changes)
    trainer.train()
    return trainer, [[m.rollout for g in r.side_updates[0].groups for m in g.members] for r in results]


def parameters(trainer: ScopeTrainer) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])


def test_the_update_is_a_step_of_adamw_on_the_mean_of_all_tokens(make_trainer: MakeTrainer) -> None:
    trainer, rollouts = trained(make_trainer)
    model, _ = load_policy()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE * STEP_RATE, betas=(0.9, 0.999), eps=1e-8, weight_decay=0)
    losses = []
    for step in rollouts:
        logps = []
        for rollout in step:
            ids = torch.tensor([[*rollout.prompt_ids, *rollout.token_ids]])
            logits = model(ids).logits[0, len(rollout.prompt_ids) - 1 : -1]
            logps.append(log_softmax(logits, -1).gather(1, torch.tensor(rollout.token_ids)[:, None])[:, 0])
        loss = -torch.cat(logps).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    expected = torch.cat([p.detach().flatten() for p in model.parameters()])
    # AdamW makes whole steps of gradients near zero, whose sign is a matter of rounding.
    assert ((parameters(trainer) - expected).abs() > 1e-6).float().mean() < 2e-3
    assert [log["side/sft/loss"] for log in trainer.state.log_history if "loss" in log] == pytest.approx(
        losses, rel=1e-4
    )
    assert [log["side/sft/rollouts"] for log in trainer.state.log_history if "loss" in log] == [4, 4]
    # The step's own optimiser saw gradients of zero.
    moments = [state["exp_avg_sq"] for state in trainer.optimizer.optimizer.state.values()]
    assert not any(moment.any() for moment in moments)


def test_micro_batches_and_passes_change_nothing_but_rounding(make_trainer: MakeTrainer) -> None:
    whole, _ = trained(make_trainer, steps=1)
    # Four backward passes of one trace each, after the second pass over the same rollouts.
    split = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 16, "steps_per_generation": 16}
    other, _ = trained(make_trainer, steps=4, args=split | {"num_iterations": 2})
    assert [log.get("side/sft/rollouts", 0) for log in other.state.log_history if "loss" in log] == [0, 4, 0, 4]
    for name in ("side/sft/loss", "side/sft/grad_norm"):
        assert other.state.log_history[1][name] == pytest.approx(whole.state.log_history[0][name], rel=1e-4)


def test_mini_batches_come_first(make_trainer: MakeTrainer) -> None:
    halves = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "steps_per_generation": 2}
    trainer, _ = trained(make_trainer, steps=4, args=halves)
    assert [log.get("side/sft/rollouts", 0) for log in trainer.state.log_history if "loss" in log] == [0, 4, 0, 4]


def test_gradients_are_clipped_as_in_the_step(make_trainer: MakeTrainer) -> None:
    trainer, _ = trained(make_trainer, steps=1, args={"max_grad_norm": 1e-3})
    # What a moment is made of was scaled down to this norm: exp_avg = 0.1 * gradient after one step.
    (optimizer,) = trainer.side_updates._optimizers.values()
    norm = torch.stack([s["exp_avg"].norm() for s in optimizer.state.values()]).norm() / 0.1
    assert norm.item() == pytest.approx(1e-3, rel=1e-3)
    assert trainer.state.log_history[0]["side/sft/grad_norm"] > 1e-3


def test_adapters_alone_are_moved(make_trainer: MakeTrainer) -> None:
    trainer, _ = trained(make_trainer, steps=1, peft_config=LoraConfig(r=4, target_modules=["q_proj"]))
    before = dict(load_policy()[0].named_parameters())
    after = {
        name.removeprefix("base_model.model.").replace(".base_layer", ""): p
        for name, p in trainer.model.named_parameters()
        if "lora_" not in name
    }
    assert all(torch.equal(before[name], p) for name, p in after.items())
    assert any(p.any() for name, p in trainer.model.named_parameters() if "lora_B" in name)


def test_without_a_trace_there_is_no_update(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sft, "edit_groups", lambda self, groups, tools: list(groups))
    trainer, _ = trained(make_trainer, steps=1, args={"weight_decay": 0.5, "learning_rate": 0.0})
    assert "side/sft/loss" not in trainer.state.log_history[0]
    assert trainer.side_updates._optimizers == {}


def test_a_gradient_that_is_not_a_number_moves_nothing(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sft, "token_loss", lambda self, tokens, clip: tokens.logp_BT * float("nan"))
    trainer = make_trainer(Beside(), args={"max_steps": 1})
    before = parameters(trainer)
    with pytest.raises(NonFiniteLoss, match="a gradient of sft, beside the step's own update"):
        trainer.train()
    assert torch.equal(parameters(trainer), before)


def test_the_optimisers_lie_in_checkpoints_and_go_on_from_there(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1}
    trainer, _ = trained(make_trainer, steps=2, args=saving)
    saved = load_file(tmp_path / "checkpoint-1" / OPTIMIZERS_FILE)
    assert {name.rsplit("/", 1)[1] for name in saved} == {"step", "exp_avg", "exp_avg_sq"}
    assert "sft/model.norm.weight/exp_avg" in saved
    resumed = make_trainer(Beside(), args={"max_steps": 2, "learning_rate": STEP_RATE, "max_grad_norm": 0.0} | saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    assert torch.equal(parameters(resumed), parameters(trainer))


def test_an_optimiser_that_rests_is_saved_all_the_same(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    saving = {"save_strategy": "steps", "save_steps": 1}
    trained(make_trainer, steps=1, args=saving)
    first = load_file(tmp_path / "checkpoint-1" / OPTIMIZERS_FILE)
    resting = make_trainer(Grpo(), args={"max_steps": 2} | saving)
    resting.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    again = load_file(tmp_path / "checkpoint-2" / OPTIMIZERS_FILE)
    assert again.keys() == first.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_fp16_is_refused(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(ReLift())
    monkeypatch.setattr(trainer.args, "fp16", True)
    with pytest.raises(UnsupportedOption, match="method ReLIFT makes beside the step's"):
        refuse_unsupported_model(trainer)


def test_the_longest_step_holds_their_optimiser_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = SideUpdates._make

    def make(self: SideUpdates, update: SideUpdate) -> None:
        original(self, update)
        made.append(sum(bool(state) for o in self._optimizers.values() for state in o.state.values()))

    monkeypatch.setattr(SideUpdates, "_make", make)
    small = ["run.problems_per_step=2", "run.rollouts_per_problem=2", "sampling.max_response_tokens=24"]
    for name, expected in (("relift", [20]), ("grpo", [])):
        config = load_config(overrides=[*small, f"method.name={name}"])
        problems = training_problems(config).problems
        policy = load_run_policy(config, problems)
        made.clear()
        run_longest_step(config, policy, problems[:2])
        assert made == expected
