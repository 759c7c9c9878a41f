"""Other models that methods read: the policy as it was before training, and the average of the policies so far."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scope_rlvr.core.ports import ReadableModel
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.models.local import LocalModel

if TYPE_CHECKING:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer

_PREFIX = "average/"


def reference_of(trainer: ScopeTrainer, given: PreTrainedModel | None) -> ReadableModel | None:
    """What is read as the reference, where the method reads one: the model that is given, or the policy as it is now."""
    if Need.REFERENCE not in trainer.method.needs:
        return None
    policy = trainer.accelerator.unwrap_model(trainer.model)
    if given is None and hasattr(policy, "disable_adapter"):
        return WithoutAdapters(LocalModel(policy, trainer.codec))
    model = frozen(policy if given is None else given, copied=given is None)
    return LocalModel(model.to(trainer.accelerator.device), trainer.codec)


def frozen(model: PreTrainedModel, *, copied: bool) -> PreTrainedModel:
    """The model, or a copy of it, that nothing trains."""
    if copied:
        model = deepcopy(model)
        # TRL and accelerate put a forward pass of their own on the instance, and the copy's would still be the original's.
        model.__dict__.pop("forward", None)
    return model.requires_grad_(False).eval()


@dataclass(frozen=True)
class WithoutAdapters:
    """The policy without its adapters, which is the policy as it was before training."""

    policy: LocalModel

    def read(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        reducers: Sequence[Any],
        temperature: float,
    ) -> list[dict[str, Any]]:
        with self.policy.model.disable_adapter():
            return self.policy.read(prompts, responses, reducers, temperature)


class PolicyAverage(TrainerCallback):
    """``θ̄ ← d·θ̄ + (1 − d)·θ`` after every optimiser step; begins as the policy that training begins with.

    The average lies in the trainer's tensors, so that checkpoints have it.
    """

    def __init__(self, trainer: ScopeTrainer, decay: float) -> None:
        self.trainer, self.decay = trainer, decay
        self.model = frozen(trainer.accelerator.unwrap_model(trainer.model), copied=True)
        self.reader = LocalModel(self.model, trainer.codec)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        tensors = self.trainer.tensors
        for name, parameter in self.model.named_parameters():
            kept = tensors.get(f"{_PREFIX}{name}")
            if kept is not None:
                parameter.data.copy_(kept)
            tensors[f"{_PREFIX}{name}"] = parameter.data

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        policy = self.trainer.accelerator.unwrap_model(self.trainer.model)
        for average, now in zip(self.model.parameters(), policy.parameters(), strict=True):
            average.data.lerp_(now.data.to(average.dtype), 1 - self.decay)
