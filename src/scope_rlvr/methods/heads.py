"""A small trained head on the policy's hidden states, with an optimiser of its own.

All of its state, weights and Adam's moments, lies in ``Toolbox.tensors``: checkpoints have it, resumed runs go on with it, and
the weights are saved beside the trained policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.toolbox import Toolbox

PREFIX = "head/"
"""Names of a head's weights among the tensors begin so; those of its optimiser with ``head_optimizer/``."""

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Head:
    """One number for each vector, or several: a linear layer, ``tanh``, a linear layer, by default; linear without ``inner_width``.

    >>> from types import SimpleNamespace
    >>> tools = SimpleNamespace(tensors={}, seed=0)
    >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> for _ in range(200):
    ...     _ = Head.of(tools, "value", width=2, inner_width=None).fit(features, torch.tensor([1.0, 0.0]), learning_rate=0.05)
    >>> Head.of(tools, "value", width=2, inner_width=None)(features).round(decimals=1).abs()
    tensor([1., 0.])
    """

    name: str
    tools: Toolbox
    net: nn.Module

    @classmethod
    def of(cls, tools: Toolbox, name: str, *, width: int, inner_width: int | None = 64, outputs: int = 1) -> Head:
        """The head of this name as it stands now, or a fresh one, drawn by the name alone."""
        generator = torch.Generator().manual_seed(derive_seed(0, "head", name) % 2**63)
        layers = (
            [nn.Linear(width, outputs)]
            if inner_width is None
            else [nn.Linear(width, inner_width), nn.Tanh(), nn.Linear(inner_width, outputs)]
        )
        net = nn.Sequential(*layers)
        for key, parameter in net.named_parameters():
            kept = tools.tensors.get(f"{PREFIX}{name}/{key}")
            scale = width**-0.5 if parameter.ndim > 1 else 0.0
            drawn = torch.randn(parameter.shape, generator=generator) * scale
            parameter.data.copy_(drawn if kept is None else kept)
        return cls(name, tools, net)

    @torch.no_grad()
    def __call__(self, features_ND: Tensor) -> Tensor:
        """The first number for each vector, ``(N,)``."""
        return self.net(features_ND.float())[:, 0]

    @torch.no_grad()
    def all(self, features_ND: Tensor) -> Tensor:
        """All numbers for each vector, ``(N, K)``."""
        return self.net(features_ND.float())

    def fit(self, features_ND: Tensor, targets: Tensor, *, learning_rate: float = 1e-3) -> float:
        """One AdamW step on the mean squared error, ``targets`` being ``(N,)`` or, of a head with several numbers, ``(N, K)``; the
        error before it."""
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=learning_rate, weight_decay=0.0)
        self._restore(optimizer)
        found = self.net(features_ND.float())
        error = nn.functional.mse_loss(found if targets.ndim == 2 else found[:, 0], targets.float())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        self._keep(optimizer)
        return float(error.detach())

    def _restore(self, optimizer: torch.optim.Optimizer) -> None:
        for key, parameter in self.net.named_parameters():
            kept = {m: self.tools.tensors.get(f"head_optimizer/{self.name}/{key}/{m}") for m in _MOMENTS}
            if all(tensor is not None for tensor in kept.values()):
                optimizer.state[parameter] = {m: tensor.clone() for m, tensor in kept.items() if tensor is not None}

    def _keep(self, optimizer: torch.optim.Optimizer) -> None:
        for key, parameter in self.net.named_parameters():
            self.tools.tensors[f"{PREFIX}{self.name}/{key}"] = parameter.detach().clone()
            for moment in _MOMENTS:
                name = f"head_optimizer/{self.name}/{key}/{moment}"
                self.tools.tensors[name] = optimizer.state[parameter][moment].clone()


def head_weights(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of all heads, for a file beside the policy."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items() if name.startswith(PREFIX)}
