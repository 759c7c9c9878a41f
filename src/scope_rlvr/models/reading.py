"""One forward pass, read by any number of reducers, without a tensor of all tokens times the vocabulary.

The decoder runs once and gives hidden states; the vocabulary's logits are computed for a few tokens at a time, reduced,
and forgotten. With gradients they are computed a second time in the backward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from scope_rlvr.formulas.readings import EmbeddingReducer, HiddenReducer, LogitReducer

LOGITS_AT_ONCE = 1 << 24
"""Logits that exist at once: 64 MiB in float32, and a few times that while they are reduced. A GPU, whose products pay only
when they are large, has eight times as many."""


@dataclass(frozen=True)
class Projection:
    """From hidden states ``(N, D)`` to logits ``(N, V)``, for any number of tokens, as the model itself does it: its output
    layer, then the scale, the divisor and the cap that its configuration names, if any."""

    model: PreTrainedModel

    @property
    def embedding(self) -> Tensor:
        """The output embeddings, ``(V, D)``."""
        return self.model.get_output_embeddings().weight

    @property
    def vocabulary(self) -> int:
        return self.embedding.size(0)

    def __call__(self, states_ND: Tensor) -> Tensor:
        logits_NV = self.model.get_output_embeddings()(states_ND)
        config = self.model.config.get_text_config()
        for factor in ("logit_scale", "lm_head_multiplier"):
            if getattr(config, factor, None) not in (None, 1.0):
                logits_NV = logits_NV * getattr(config, factor)
        if getattr(config, "logits_scaling", None) not in (None, 1.0):
            logits_NV = logits_NV / config.logits_scaling
        cap = getattr(config, "final_logit_softcapping", None)
        return logits_NV if cap is None else cap * torch.tanh(logits_NV / cap)


def hidden_states(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The last hidden states ``(B, L, D)`` of a causal model, by its own (possibly wrapped) forward pass.

    The pass goes through the wrapper of the training (autocast, data parallelism), whose hooks must run; of its logits only
    the last position's are computed, and thrown away.
    """
    seen: list[Tensor] = []

    # Asking for hidden states in the ordinary way would keep those of every layer.
    def look(module: nn.Module, arguments: Any, output: Any) -> None:
        seen.append(output[0])

    hook = unwrapped(model).base_model.register_forward_hook(look)
    try:
        model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=(attention_mask.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=1,
        )
    finally:
        hook.remove()
    return seen[0]


def unwrapped(model: Any) -> PreTrainedModel:
    """The causal model inside the wrappers of a training (data parallelism, adapters)."""
    model = getattr(model, "module", model)
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def read_last(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    num_tokens: int,
    reducers: Sequence[LogitReducer],
    temperature: float,
) -> dict[str, Tensor]:
    """What each reducer keeps of the last ``num_tokens`` of padded rows ``(B, L)``: ``(B, num_tokens)`` by its name."""
    states_BLD = hidden_states(model, input_ids, attention_mask)
    # A token was drawn from what the model said one position earlier.
    before_BTD, ids_BT = states_BLD[:, -num_tokens - 1 : -1], input_ids[:, input_ids.size(1) - num_tokens :]
    return read_tokens(before_BTD, ids_BT, projection_of(model), reducers, temperature)


def read_tokens(
    states_BTD: Tensor, ids_BT: Tensor, project: Projection, reducers: Sequence[LogitReducer], temperature: float
) -> dict[str, Tensor]:
    """What each reducer keeps of the logits before each token, ``(B, T)`` or ``(B, T, K)``, by its name.

    ``states_BTD`` are the hidden states that the tokens ``ids_BT`` come from, one position before them. Works with and
    without gradients; temperature 0, greedy sampling, reads at temperature 1.
    """
    if not reducers:
        return {}
    ids_N, states_ND = ids_BT.flatten(), states_BTD.flatten(0, 1)

    def reduced(part_ND: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
        logits_NV = project(part_ND).float()
        logits_NV = logits_NV / temperature if temperature not in (0.0, 1.0) else logits_NV
        return tuple(
            r(logits_NV, ids, project.embedding) if isinstance(r, EmbeddingReducer) else r(logits_NV, ids)
            for r in reducers
        )

    at_once = LOGITS_AT_ONCE * (8 if states_ND.is_cuda else 1)
    rows = max(1, at_once // project.vocabulary)
    parts = []
    for part_ND, ids in zip(states_ND.split(rows), ids_N.split(rows), strict=True):
        if torch.is_grad_enabled() and len(ids_N) > rows:
            parts.append(checkpoint(reduced, part_ND, ids, use_reentrant=False))
        else:
            parts.append(reduced(part_ND, ids))
    whole = [torch.cat(of_one) for of_one in zip(*parts, strict=True)]
    return {r.name: kept.unflatten(0, ids_BT.shape) for r, kept in zip(reducers, whole, strict=True)}


_tried: WeakSet[nn.Module] = WeakSet()
"""The models whose projection is known to give their own logits."""


def projection_of(model: Any) -> Projection:
    """The projection of a (possibly wrapped) model, which is compared once with the model's own logits.

    Raises ``ValueError`` for a model whose logits come about in another way.
    """
    plain = unwrapped(model)
    projection = Projection(plain)
    if plain not in _tried:
        _require_own_logits(projection)
        _tried.add(plain)
    return projection


@torch.no_grad()
def _require_own_logits(projection: Projection) -> None:
    model, seen = projection.model, list[Tensor]()
    ids = torch.arange(min(8, projection.vocabulary), device=model.device)[None]
    hook = model.base_model.register_forward_hook(lambda module, arguments, output: seen.append(output[0]))
    was_training = model.training
    # Dropout would draw random numbers, once in each process: a resumed run would go on with others.
    model.eval()
    try:
        expected = model(input_ids=ids, use_cache=False).logits.float()
    finally:
        hook.remove()
        model.train(was_training)
    difference, largest = (projection(seen[0]).float() - expected).abs().max(), expected.abs().max()
    if not difference <= 1e-2 * largest:
        raise ValueError(
            f"the logits of {type(model).__name__} are not its output layer, scale and cap applied to its last hidden states "
            f"(difference {difference:.3g}, largest logit {largest:.3g}): they cannot be computed for a few tokens at a time"
        )


def read_hidden(states_LD: Tensor, num_tokens: int, reducers: Sequence[HiddenReducer]) -> dict[str, Tensor]:
    """What each reducer keeps of the hidden states at the last ``num_tokens`` of a text, or one position before them."""
    start = len(states_LD) - num_tokens
    own, before = states_LD[start:], states_LD[max(0, start - 1) : max(0, len(states_LD) - 1)][:num_tokens]
    return {reducer.name: reducer((before if reducer.is_before else own).float()) for reducer in reducers}
