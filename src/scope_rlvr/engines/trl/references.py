"""Other models that methods read: the policy as it was before training, and the average of the policies so far.

Both are the policy with other values of the parameters that are trained. While one of them is read, the policy holds its
values, so that there is no second model, and all are read in the same arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Parameter
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from scope_rlvr.core.ports import ReadableModel
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.models.local import LocalModel

if TYPE_CHECKING:
    from scope_rlvr.engines.trl.trainer import ScopeTrainer

_PREFIX = "average/"


def trained_parameters(trainer: ScopeTrainer) -> dict[str, Parameter]:
    """What training moves, by name: all of the policy, or its adapters."""
    policy = trainer.accelerator.unwrap_model(trainer.model)
    return {name: parameter for name, parameter in policy.named_parameters() if parameter.requires_grad}


def reference_of(trainer: ScopeTrainer, given: PreTrainedModel | None) -> ReadableModel | None:
    """What is read as the reference, where the method reads one: the model that is given, or the policy as it is now."""
    if Need.REFERENCE not in trainer.method.needs:
        return None
    if given is not None:
        return LocalModel(given.requires_grad_(False).eval().to(trainer.accelerator.device), trainer.codec)
    return PolicyWith({name: p.detach().clone() for name, p in trained_parameters(trainer).items()}, trainer)


@dataclass(frozen=True)
class PolicyWith:
    """The policy with these values of its trained parameters."""

    weights: Mapping[str, Tensor]
    trainer: ScopeTrainer

    def read(
        self,
        prompts: Sequence[Sequence[int]],
        responses: Sequence[Sequence[int]],
        reducers: Sequence[Any],
        temperature: float,
    ) -> list[dict[str, Any]]:
        policy = LocalModel(self.trainer.accelerator.unwrap_model(self.trainer.model), self.trainer.codec)
        with self._in_place():
            return policy.read(prompts, responses, reducers, temperature)

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        parameters = trained_parameters(self.trainer)
        own = {name: parameter.data for name, parameter in parameters.items()}
        try:
            for name, parameter in parameters.items():
                parameter.data = self.weights[name].to(parameter)
            yield
        finally:
            for name, parameter in parameters.items():
                parameter.data = own[name]


class PolicyAverage(TrainerCallback):
    """``θ̄ ← d·θ̄ + (1 − d)·θ`` after every optimiser step; begins as the policy that training begins with.

    The average is in float32, in which small steps are not rounded away, and lies in the trainer's tensors, so that
    checkpoints have it.
    """

    def __init__(self, trainer: ScopeTrainer, decay: float) -> None:
        self.trainer, self.decay = trainer, decay
        self.weights = {
            name: parameter.detach().to(torch.float32, copy=True)
            for name, parameter in trained_parameters(trainer).items()
        }
        self.reader = PolicyWith(self.weights, trainer)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        tensors, parameters = self.trainer.tensors, trained_parameters(self.trainer)
        for name, average in self.weights.items():
            average.copy_(tensors.get(f"{_PREFIX}{name}", parameters[name].detach()))
            tensors[f"{_PREFIX}{name}"] = average

    @torch.no_grad()
    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for name, parameter in trained_parameters(self.trainer).items():
            self.weights[name].lerp_(parameter.to(self.weights[name]), 1 - self.decay)
