"""Reading a checkpoint's backbone and head natively, so that none of its own code is needed."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

from scope_rlvr.models.loading import device, inference_dtype, require_all_weights


def load_backbone(folder: Path) -> PreTrainedModel:
    """The transformer of a checkpoint without its head, ready to read; :class:`ValueError` where weights are missing."""
    return _whole(AutoModel, folder)


def load_causal_scorer(folder: Path) -> PreTrainedModel:
    """The causal language model of a checkpoint, ready to read."""
    model = _whole(AutoModelForCausalLM, folder)
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(model.config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"its configuration says {name}: logits that are scaled after the head are not read here")
    return model


def _whole(kind: type, folder: Path) -> PreTrainedModel:
    model, info = kind.from_pretrained(  # type: ignore[attr-defined]
        folder, use_safetensors=True, trust_remote_code=False, dtype=inference_dtype(), output_loading_info=True
    )
    require_all_weights(model, info)
    return model.eval().to(device())


def tensors_of(folder: Path, prefix: str) -> dict[str, Tensor]:
    """Tensors of a checkpoint whose names start with ``prefix``, by the rest of their names."""
    index = folder / "model.safetensors.index.json"
    files = [folder / "model.safetensors"]
    if index.is_file():
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = sorted({folder / Path(file).name for name, file in weight_map.items() if name.startswith(prefix)})
    found: dict[str, Tensor] = {}
    for file in files:
        with safe_open(file, framework="pt") as weights:
            names = [name for name in weights.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            found |= {name.removeprefix(prefix): weights.get_tensor(name) for name in names}
    return found


def load_head(folder: Path, prefix: str, num_outputs: int) -> nn.Module:
    """The head whose tensors start with ``prefix``: a linear layer, or linear layers with a ReLU between each two.

    In float32 whatever the backbone computes in: a head costs nothing, and a probability must not underflow.
    Raises :class:`ValueError` for any other layout, and for another number of outputs than ``num_outputs``.
    """
    tensors = tensors_of(folder, prefix)
    layers = sorted((int(n) if n else 0, n) for n in {_layer_of(name, prefix) for name in tensors})
    if not layers:
        raise ValueError(f"its weights hold no head {prefix!r}")
    linears = [_linear(tensors, f"{name}." if name else "") for _, name in layers]
    if linears[-1].out_features != num_outputs:
        raise ValueError(f"its head has {linears[-1].out_features} outputs; a scorer of this family has {num_outputs}")
    if any(a.out_features != b.in_features for a, b in pairwise(linears)):
        raise ValueError(f"the layers of its head {prefix!r} do not fit together")
    modules: list[nn.Module] = [linears[0]]
    for linear in linears[1:]:
        modules += [nn.ReLU(), linear]
    return nn.Sequential(*modules).eval().requires_grad_(False).to(device())


def _layer_of(name: str, prefix: str) -> str:
    match = re.fullmatch(r"(?:(\d+)\.)?(?:weight|bias)", name)
    if match is None:
        raise ValueError(f"its head holds {prefix + name!r}; known are linear layers, as in {prefix}0.weight")
    return match[1] or ""


def _linear(tensors: dict[str, Tensor], prefix: str) -> nn.Linear:
    if f"{prefix}weight" not in tensors or tensors[f"{prefix}weight"].dim() != 2:
        raise ValueError(f"its head has no matrix {prefix}weight")
    weight, bias = tensors[f"{prefix}weight"], tensors.get(f"{prefix}bias")
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float32)
    linear.load_state_dict({"weight": weight} if bias is None else {"weight": weight, "bias": bias})
    return linear
