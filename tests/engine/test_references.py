"""What methods read beside the policy: the policy as it was at first, and the average of the policies so far."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from transformers import TrainerCallback

from scope_rlvr.engines.trl.references import PolicyAverage, trained_parameters
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.formulas.readings import LogProb
from scope_rlvr.methods import Grpo
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.lora import LoraSection, adapter_config
from tests.engine.conftest import MakeTrainer, load_policy

DECAY = 0.5
AVERAGE = Grpo(parts=[{"kind": "anchor", "weight": 1.0, "decay": DECAY}])
FIRST = Grpo(parts=["confidence_penalty"])
LORA = adapter_config(LoraSection(rank=2, target_modules=("q_proj", "down_proj")))


def weights_of(trainer: ScopeTrainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in trained_parameters(trainer).items()}


def read_by(model: Any, trainer: ScopeTrainer) -> torch.Tensor:
    prompt, response = trainer.codec.encode_prompt("reduce 1 2 3\n\n"), trainer.codec.encode("1 + 2 = 3\n\n")
    return model.read([prompt], [response], [LogProb()], 1.0)[0]["logprob"]


class Watch(TrainerCallback):
    """Keeps the policy after every step."""

    def __init__(self) -> None:
        self.trainer: ScopeTrainer | None = None
        self.seen: list[dict[str, torch.Tensor]] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        assert self.trainer is not None
        self.seen.append(weights_of(self.trainer))


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapters"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "gradient checkpointing"])
def test_the_average_is_that_of_the_policies(make_trainer: MakeTrainer, adapted: bool, checkpointing: bool) -> None:
    watch = Watch()
    extra = {"peft_config": LORA} if adapted else {}
    args = {"max_steps": 3, "gradient_checkpointing": checkpointing}
    trainer = make_trainer(AVERAGE, args=args, callbacks=[watch], **extra)
    watch.trainer, expected = trainer, weights_of(trainer)
    trainer.train()
    for now in watch.seen:
        expected = {name: DECAY * average + (1 - DECAY) * now[name] for name, average in expected.items()}
    found = {name.removeprefix("average/"): tensor for name, tensor in trainer.tensors.items()}
    assert found.keys() == expected.keys(), "what is not trained is not kept a second time"
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-7)
    # To read it changes nothing, and it is what a policy with these weights says.
    before = weights_of(trainer)
    said = read_by(trainer.rollouts.average, trainer)
    assert all(torch.equal(tensor, weights_of(trainer)[name]) for name, tensor in before.items())
    for name, p in trained_parameters(trainer).items():
        p.data.copy_(expected[name])
    policy = LocalModel(trainer.model, trainer.codec)
    torch.testing.assert_close(said, read_by(policy, trainer), rtol=1e-4, atol=1e-5)
    for name, p in trained_parameters(trainer).items():
        p.data.copy_(before[name])
    assert (said - read_by(policy, trainer)).abs().max() > 1e-4, "the average lags behind the policy"


@pytest.mark.parametrize("adapted", [False, True], ids=["whole", "adapters"])
def test_the_first_policy_stays_the_first(make_trainer: MakeTrainer, adapted: bool) -> None:
    plain = LocalModel(load_policy()[0], (trainer := make_trainer(FIRST, **_lora(adapted))).codec)
    trainer.train()
    torch.testing.assert_close(read_by(trainer.rollouts.reference, trainer), read_by(plain, trainer))
    gap = read_by(LocalModel(trainer.model, trainer.codec), trainer) - read_by(plain, trainer)
    assert gap.abs().max() > 1e-4


def _lora(adapted: bool) -> dict[str, Any]:
    return {"peft_config": LORA} if adapted else {}


def test_adapters_that_were_trained_before_belong_to_the_first_policy(make_trainer: MakeTrainer) -> None:
    model = get_peft_model(load_policy()[0], LORA)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.2, generator=torch.Generator().manual_seed(0))
    trainer = make_trainer(FIRST, model=model, args={"max_steps": 1})
    first = read_by(LocalModel(trainer.model, trainer.codec), trainer)
    trainer.train()
    torch.testing.assert_close(read_by(trainer.rollouts.reference, trainer), first)


def test_small_steps_are_not_rounded_away(make_trainer: MakeTrainer) -> None:
    model = load_policy()[0].to(torch.bfloat16)
    trainer = make_trainer(Grpo(), model=model)
    average = PolicyAverage(trainer, decay=0.99)
    parameter = trained_parameters(trainer)["model.norm.weight"]
    parameter.data.fill_(1.0)
    average.weights["model.norm.weight"].fill_(1.0)
    parameter.data.fill_(1.0625)
    for _ in range(20):
        average.on_optimizer_step(trainer.args, trainer.state, trainer.control)
    expected = 1.0625 - 0.0625 * 0.99**20
    torch.testing.assert_close(
        average.weights["model.norm.weight"], torch.full_like(average.weights["model.norm.weight"], expected)
    )


def test_an_average_begins_anew_with_another_training(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(AVERAGE, args={"max_steps": 1})
    trainer.train()
    policy = weights_of(trainer)
    trainer.args.learning_rate = 0.0
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.train()
    for name, tensor in policy.items():
        torch.testing.assert_close(trainer.tensors[f"average/{name}"], tensor)
