"""Several optimiser steps on parts of one batch of rollouts: what each of them is, and that runs go on from between batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.methods import Grpo, Method, Scope
from scope_rlvr.models.lora import LoraSection, adapter_config
from tests.engine.conftest import MakeTrainer, first_batch, load_policy

PARTS, RATE, CLIP, MAX_LENGTH = 2, 0.3, 0.2, 80
MINI_BATCHES = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "steps_per_generation": PARTS}


def trained(
    make_trainer: MakeTrainer, method: Method, **args: Any
) -> tuple[ScopeTrainer, list[dict[str, torch.Tensor]]]:
    """The trainer after its steps, and the rows that each loss was computed on."""
    seen: list[dict[str, torch.Tensor]] = []
    original = ScopeTrainer._compute_loss

    def compute(self: ScopeTrainer, model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in inputs.items() if isinstance(value, torch.Tensor)})
        return original(self, model, inputs)

    trainer = make_trainer(method, args=MINI_BATCHES | args)
    with mock.patch.object(ScopeTrainer, "_compute_loss", compute):
        trainer.train()
    return trainer, seen


def logps_of(model: Any, rows: dict[str, torch.Tensor]) -> torch.Tensor:
    """Log-probabilities of the response tokens, from all logits at once."""
    ids = torch.cat([rows["prompt_ids"], rows["completion_ids"]], 1)
    mask = torch.cat([rows["prompt_mask"], rows["completion_mask"]], 1)
    logits = model(ids, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits[:, :-1]
    own = logits.log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    return own[:, -rows["completion_ids"].size(1) :]


@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo", "grpo"])
def test_each_step_is_one_of_sgd_on_its_part_with_its_share_of_the_batchs_normaliser(
    make_trainer: MakeTrainer, loss_type: str
) -> None:
    args = {"loss_type": loss_type, "optim": "sgd", "learning_rate": RATE, "max_grad_norm": 0.0, "max_steps": PARTS}
    # A group without advantage counts in the normaliser all the same; one that is left out does not.
    trainer, parts = trained(make_trainer, Grpo(drop_flat_groups=True), **args)
    assert len(parts) == PARTS
    weights = [part["token_weights"] for part in parts]
    num_rows = sum((w.sum(1) > 0).sum() for w in weights) / PARTS
    num_tokens = sum(w.sum() for w in weights) / PARTS
    model, _ = load_policy()
    with torch.no_grad():
        olds = [logps_of(model, part) for part in parts]
    optimizer, losses = torch.optim.SGD(model.parameters(), RATE), []
    for part, weight, old in zip(parts, weights, olds, strict=True):
        ratio, advantage = (logps_of(model, part) - old).exp(), part["advantages"]
        loss = -torch.minimum(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage) * weight
        summed = {
            "dr_grpo": loss.sum() / (num_rows * MAX_LENGTH),
            "dapo": loss.sum() / num_tokens,
            "grpo": (loss.sum(1) / weight.sum(1).clamp(min=1)).sum() / num_rows,
        }[loss_type]
        optimizer.zero_grad()
        summed.backward()
        optimizer.step()
        losses.append(summed.item())
    logged = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert logged == pytest.approx(losses, abs=1e-5)
    assert abs((logps_of(model, parts[1]) - olds[1]).detach()).max() > 0.05, "the second part is off-policy by then"
    for ours, expected in zip(trainer.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=2e-6)


def test_the_policy_before_the_steps_is_the_one_that_sampled(make_trainer: MakeTrainer) -> None:
    dropping = adapter_config(LoraSection(rank=4, dropout=0.5, target_modules=("q_proj", "down_proj")))
    trainer = make_trainer(Grpo(), args=MINI_BATCHES, peft_config=dropping)
    for name, parameter in trainer.model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    batch = first_batch(trainer)
    gap = (batch["old_per_token_logps"] - batch["behaviour_logps"]) * batch["completion_mask"]
    assert gap.abs().max() < 1e-3
    assert trainer.model.training


def test_without_a_step_between_them_the_parts_add_up_to_the_batch(make_trainer: MakeTrainer) -> None:
    def gradients(trainer: ScopeTrainer, batches: list[dict[str, Any]]) -> torch.Tensor:
        total = torch.zeros(sum(p.numel() for p in trainer.model.parameters()))
        trainer.current_gradient_accumulation_steps = 1
        for batch in batches:
            trainer.model.zero_grad()
            trainer._compute_loss(trainer.model, batch).backward()
            total += torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
        return total / len(batches)

    found = []
    method = Scope(insertion="append", parts=["forking_tokens", {"kind": "anchor", "weight": 0.5}])
    for size in ({}, MINI_BATCHES):
        trainer = make_trainer(method, args={"loss_type": "dapo", "entropy_coef": 0.01} | size)
        trainer.model.train()
        rows = next(iter(trainer.get_train_dataloader()))
        first = trainer._prepare_inputs(rows)
        found.append(gradients(trainer, trainer._buffered_inputs or [first]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", [Grpo(parts=["replay"]), Scope()], ids=lambda method: method.name)
def test_a_run_goes_on_from_between_two_batches(make_trainer: MakeTrainer, tmp_path: Path, method: Method) -> None:
    saving = {"max_steps": 3 * PARTS, "save_strategy": "steps", "save_steps": PARTS, "lr_scheduler_type": "linear"}
    whole = make_trainer(method, args=MINI_BATCHES | saving | {"output_dir": str(tmp_path / "whole")})
    whole.train()
    resumed = make_trainer(method, args=MINI_BATCHES | saving | {"output_dir": str(tmp_path / "resumed")})
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{PARTS}"))
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert whole.memory == resumed.memory
