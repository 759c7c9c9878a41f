"""Training some layers of a policy and leaving the others as they are.

Back-propagation ends at the lowest layer that trains: no activations are kept below it, and no gradients are computed there.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

Layers = int | tuple[str, ...]
"""The number of upper decoder layers that train, or patterns of the names of parameters that do."""


def train_only(model: PreTrainedModel, layers: Layers) -> None:
    """Let only these layers train: the upper ``layers`` of the decoder and the final norm, or the parameters whose names
    fit one of the patterns (``"model.layers.2?.*"``, as in file names).

    Raises ``ValueError`` for more layers than there are, and for a pattern that no name fits.
    """
    names = set(_upper(model, layers) if isinstance(layers, int) else _fitting(model, layers))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)


def num_trained(model: PreTrainedModel) -> int:
    """How many parameters train."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _fitting(model: PreTrainedModel, patterns: tuple[str, ...]) -> Iterator[str]:
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        found = [name for name in names if fnmatchcase(name, pattern)]
        if not found:
            raise ValueError(f"{pattern!r} fits the name of no parameter; there are {names[0]!r} to {names[-1]!r}")
        yield from found


def _upper(model: PreTrainedModel, count: int) -> Iterator[str]:
    """The upper layers of the decoder, and what comes after the last one but the output layer."""
    import torch

    place, stack = _decoder_layers(model)
    if count > len(stack):
        raise ValueError(f"the model has {len(stack)} layers, and {count} cannot be trained")
    for number in range(len(stack) - count, len(stack)):
        yield from (f"{place}.{number}.{name}" for name, _ in stack[number].named_parameters())
    above, _, own = place.rpartition(".")
    for name, module in model.get_submodule(above).named_children():
        if name != own and not isinstance(module, torch.nn.Embedding):
            yield from (f"{above}.{name}.{parameter}" for parameter, _ in module.named_parameters())


def _decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList]:
    """The list of the decoder's layers, and its name."""
    import torch

    count = model.config.get_text_config().num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == count:
            return name, module
    raise ValueError(
        f"the layers of {type(model).__name__} are not in one list of {count}; name what trains by patterns of its parameters"
    )
