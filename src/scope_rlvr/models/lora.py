"""Low-rank adapters: the policy stays as it is, and small matrices beside its linear layers are trained (LoRA).

A linear layer ``W x`` becomes ``W x + (alpha / rank) * B (A x)`` with ``A`` of ``rank`` rows and ``B`` of ``rank``
columns. ``B`` begins as zeros, so that the adapter changes nothing before the first step. Source: Hu et al. 2021,
arXiv 2106.09685, equation 3. The adapters themselves are those of ``peft``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic import Field

from scope_rlvr.core.settings import Settings

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from torch import nn
    from transformers import PreTrainedModel


class LoraSection(Settings):
    """Which adapters are trained in the place of the policy's own weights."""

    rank: int = Field(16, ge=1, le=65_536, description="rows of `A` and columns of `B`: how much an adapter can change")
    alpha: float = Field(32.0, gt=0, description="the adapter's output is multiplied by `alpha / rank`")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of an adapter's inputs that is set to zero while the loss is computed"
    )
    target_modules: tuple[str, ...] | None = Field(
        None,
        min_length=1,
        description='names of the linear layers that get an adapter, such as `["q_proj", "v_proj"]`; all but the output '
        "layer by default",
    )


def adapted_layers(model: PreTrainedModel, section: LoraSection) -> dict[str, nn.Linear]:
    """The layers that get an adapter, by their names; ``ValueError`` where a target names none."""
    linear = dict(_linear_layers(model))
    if section.target_modules is None:
        return linear
    # peft would ignore a name that fits nothing beside one that fits.
    for target in section.target_modules:
        if not any(_is_called(name, target) for name in linear):
            known = ", ".join(sorted({name.rsplit(".", 1)[-1] for name in linear}))
            raise ValueError(f"{target!r} is no linear layer of this model that can have an adapter; there are {known}")
    return {n: layer for n, layer in linear.items() if any(_is_called(n, target) for target in section.target_modules)}


def _linear_layers(model: PreTrainedModel) -> Iterator[tuple[str, nn.Linear]]:
    """All linear layers but the output layer, which the trainer does not let be adapted."""
    import torch

    output = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and module is not output:
            yield name, module


def _is_called(name: str, target: str) -> bool:
    """Whether a layer's full name ends with the target, whole parts only, as peft matches them."""
    return name == target or name.endswith(f".{target}")


def num_parameters(model: PreTrainedModel, section: LoraSection) -> int:
    """Trained parameters: ``rank * (inputs + outputs)`` for each adapted layer."""
    layers = adapted_layers(model, section).values()
    return sum(section.rank * (layer.in_features + layer.out_features) for layer in layers)


def adapter_config(section: LoraSection) -> LoraConfig:
    """The same adapter in peft's words."""
    from peft import LoraConfig, TaskType

    return LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=section.rank,
        lora_alpha=section.alpha,
        lora_dropout=section.dropout,
        target_modules="all-linear" if section.target_modules is None else list(section.target_modules),
        bias="none",
    )


def merged(model: PeftModel) -> PreTrainedModel:
    """The policy with its adapters added to its weights, in float32 and on the CPU, so that no small change is rounded
    away. The model that is given is used up."""
    import torch

    return model.to(device="cpu", dtype=torch.float32).merge_and_unload()
