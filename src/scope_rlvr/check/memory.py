"""How much memory a run needs, by arithmetic from the shape of its models; docs/recipes.md explains each term.

These are estimates before anything is loaded. ``scope check`` runs the longest step there can be, and measures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from scope_rlvr.engines.samplers import LocalSampler, VllmSampler
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.models.lora import LoraSection
from scope_rlvr.models.precision import Precision
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.sections import ModelSection
from scope_rlvr.teachers.settings import NOBODY, THE_POLICY

GIB = 2**30

_FLOAT, _HALF = 4, 2
_ADAM_MOMENTS = 2
_GUESSED_PROMPT_TOKENS = 1024
_CPU = "cpu"


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A decoder of the Llama and Qwen2 kind. ``head_width`` is the width of one attention head.

    >>> round(KNOWN_SHAPES["Qwen/Qwen2.5-Math-1.5B"].num_parameters / 1e9, 2)
    1.54
    """

    layers: int
    width: int
    inner_width: int
    heads: int
    key_heads: int
    head_width: int
    vocabulary: int
    is_tied: bool
    has_bias: bool = True
    """Biases of queries, keys and values, as in Qwen2."""
    stored_bytes: int = _HALF
    """Bytes of a stored weight."""

    @property
    def key_width(self) -> int:
        """The width of all key heads together."""
        return self.key_heads * self.head_width

    @property
    def num_parameters(self) -> int:
        """``V·h·(1 or 2) + L·(2·h·a + 2·h·k + 3·h·f + 2·h [+ a + 2·k]) + h`` with ``a`` and ``k`` the width of all heads
        and of all key heads."""
        return self.vocabulary * self.width * (2 - self.is_tied) + self.num_upper_parameters(self.layers)

    def num_upper_parameters(self, layers: int) -> int:
        """The parameters of so many layers and of the final norm."""
        queries, keys = self.heads * self.head_width, self.key_width
        layer = 2 * self.width * (queries + keys) + 3 * self.width * self.inner_width + 2 * self.width
        layer += (queries + 2 * keys) * self.has_bias
        return layers * layer + self.width

    def num_trained_parameters(self, model: ModelSection) -> int:
        """The adapters, the upper layers that train, or all; also all where layers are named by patterns, at most."""
        if model.lora is not None:
            return self.num_adapter_parameters(model.lora)
        if isinstance(model.train_layers, int):
            return self.num_upper_parameters(min(model.train_layers, self.layers))
        return self.num_parameters

    def num_adapter_parameters(self, lora: LoraSection) -> int:
        """``rank`` times the inputs and outputs of every adapted layer.

        >>> KNOWN_SHAPES["Qwen/Qwen2.5-0.5B-Instruct"].num_adapter_parameters(LoraSection(rank=16))
        8798208
        """
        queries, keys = self.heads * self.head_width, self.key_width
        widths = dict.fromkeys(("q_proj", "o_proj"), self.width + queries)
        widths |= dict.fromkeys(("k_proj", "v_proj"), self.width + keys)
        widths |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), self.width + self.inner_width)
        named = widths if lora.target_modules is None else {name.rsplit(".", 1)[-1] for name in lora.target_modules}
        return lora.rank * self.layers * sum(width for name, width in widths.items() if name in named)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ModelShape | None:
        """The shape that a ``config.json`` describes, ``None`` where it is of another kind."""
        config = config.get("text_config") or config
        try:
            heads = int(config["num_attention_heads"])
            return cls(
                layers=int(config["num_hidden_layers"]),
                width=int(config["hidden_size"]),
                inner_width=int(config["intermediate_size"]),
                heads=heads,
                key_heads=int(config.get("num_key_value_heads") or heads),
                head_width=int(config.get("head_dim") or config["hidden_size"] // heads),
                vocabulary=int(config["vocab_size"]),
                is_tied=bool(config.get("tie_word_embeddings")),
                has_bias=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
                stored_bytes=_FLOAT if config.get("dtype", config.get("torch_dtype")) in (None, "float32") else _HALF,
            )
        except (KeyError, TypeError, ValueError):
            return None


KNOWN_SHAPES = {
    "Qwen/Qwen2.5-0.5B-Instruct": ModelShape(24, 896, 4864, 14, 2, 64, 151_936, is_tied=True),
    "Qwen/Qwen2.5-Math-1.5B": ModelShape(28, 1536, 8960, 12, 2, 128, 151_936, is_tied=True),
    "Qwen/Qwen2.5-Math-1.5B-Instruct": ModelShape(28, 1536, 8960, 12, 2, 128, 151_936, is_tied=True),
    "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-1.5B": ModelShape(28, 1536, 8960, 12, 2, 128, 151_936, is_tied=True),
    "Qwen/Qwen2.5-Math-7B": ModelShape(28, 3584, 18_944, 28, 4, 128, 152_064, is_tied=False),
    "Qwen/Qwen2.5-Math-PRM-7B": ModelShape(28, 3584, 18_944, 28, 4, 128, 152_064, is_tied=False),
    "Qwen/Qwen2.5-Math-7B-Instruct": ModelShape(28, 3584, 18_944, 28, 4, 128, 152_064, is_tied=False),
}
"""Shapes of the models in the recipes, for use without a network. Checked against their published sizes alone."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on the device of a run, by what they hold."""

    weights: float
    gradients: float
    optimizer: float
    half_copies: float
    reference: float
    helpers: float
    activations: float
    logits: float
    cache: float

    @property
    def total(self) -> float:
        """The most that is needed at once: what always stays, and the larger of a training pass and a sampling pass.

        >>> Memory(4, 4, 8, 2, 0, 1, 10, 5, 20).total
        35
        """
        stays = self.weights + self.optimizer + self.half_copies + self.reference + self.helpers
        return stays + max(self.gradients + self.activations + self.logits, self.cache)

    def lines(self) -> list[str]:
        """Every term that is not nothing, in GiB."""
        named = ((field.name.replace("_", " "), getattr(self, field.name)) for field in fields(self))
        return [f"{name} {size / GIB:.1f}" for name, size in named if size >= GIB / 20]


def shape_of(name: str, key: str) -> ModelShape | None:
    """The shape of a model by its name; ``None`` if only loading the model would tell."""
    source = Path(resolve_model(name, key))
    if not source.is_dir():
        return KNOWN_SHAPES.get(name)
    try:
        return ModelShape.of(json.loads((source / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def estimate(
    config: RunConfig,
    shape: ModelShape,
    prompt_tokens: int,
    *,
    on_gpu: bool,
    num_processes: int = 1,
    zero_stage: int = 0,
) -> Memory:
    """What each process of a run needs on its device, in bytes, with ``P`` parameters and rows of ``T`` tokens:

    * weights, gradients and the two moments of AdamW: ``4·P + 4·P + 8·P``; a KL penalty adds ``4·P``, side updates ``8·P``, a
      method that reads the first policy, or the average of the policies, ``4·P`` for each;
    * with bfloat16, the copies that autocast makes, and that sampling holds: ``2·P``;
    * where only upper layers train, gradients and moments of these alone, and activations from the lowest of them on;
    * with adapters of ``A`` parameters, gradients, moments and copies of the adapters alone: ``4·A + 8·A + 2·A``. Their
      weights, ``4·A``, come on top of the policy's, which a GPU holds as they are stored. A KL penalty adds nothing;
    * with DeepSpeed's ZeRO on ``n`` GPUs, all weights in 16 bits, ``2·P``; a share of float32 weights and moments,
      ``12·P/n``; and the gradients, ``2·P``, of which stage 2 holds a share, too;
    * activations of one micro-batch: ``rows·T·L·(34·h + 8·f)``, and with gradient checkpointing
      ``rows·T·(L·4·h + 34·h + 8·f)`` (width ``h``, inner width ``f``);
    * logits of one micro-batch, their logarithms and gradients: ``rows·responses·V·12``;
    * keys and values while sampling: ``rows·T·L·k·8`` (all key heads together ``k`` wide), half of it in bfloat16;
    * a teacher, a step scorer, a judge and a reference model of its own that run here: 2 bytes a parameter on a GPU, 4 on a CPU.
    """
    num_parameters, lora = shape.num_parameters, config.model.lora
    num_trained = shape.num_trained_parameters(config.model)
    # Autocast makes no copies of weights that are stored in 16 bits.
    frozen_bytes = 0 if lora is None else shape.stored_bytes if on_gpu else _FLOAT
    num_cast = num_parameters if lora is None else num_trained + (num_parameters if frozen_bytes == _FLOAT else 0)
    is_half = _is_half(config, on_gpu)
    response, rows = config.sampling.max_response_tokens, config.share(num_processes).micro_batch_rows
    memory = Memory(
        weights=_FLOAT * (num_parameters if lora is None else num_trained) + frozen_bytes * num_parameters,
        gradients=_FLOAT * num_trained,
        optimizer=_ADAM_MOMENTS * _FLOAT * num_trained * (1 + config.method.has_side_updates),
        half_copies=_HALF * num_cast if is_half else 0,
        reference=_FLOAT * _num_kept(config, num_parameters, num_trained),
        helpers=_helpers(config) * (_HALF if on_gpu else _FLOAT),
        activations=_activations(config, shape, rows * (prompt_tokens + response)),
        logits=rows * response * shape.vocabulary * 3 * _FLOAT,
        cache=_cache_bytes(shape, is_half) * max(_sampled_tokens(config, prompt_tokens, num_processes)),
    )
    if not (zero_stage and on_gpu):
        return memory
    num_held = num_parameters + (0 if lora is None else num_trained)
    return _shared_by_zero(memory, num_held, num_trained, num_processes, zero_stage)


def _shared_by_zero(memory: Memory, num_held: int, num_trained: int, num_processes: int, stage: int) -> Memory:
    """The same where DeepSpeed's ZeRO shares out moments and, from stage 2 on, gradients."""
    return replace(
        memory,
        weights=_HALF * num_held,
        gradients=_HALF * num_trained / (num_processes if stage > 1 else 1),
        optimizer=(1 + _ADAM_MOMENTS) * _FLOAT * num_trained / num_processes,
        half_copies=0,
    )


def _cache_bytes(shape: ModelShape, is_half: bool) -> int:
    """Keys and values of one token."""
    return 2 * (_HALF if is_half else _FLOAT) * shape.layers * shape.key_width


def _is_half(config: RunConfig, on_gpu: bool) -> bool:
    """Whether the policy is computed in bfloat16, as far as that is known before anything is measured."""
    return on_gpu if config.model.dtype is None else config.model.dtype is not Precision.FLOAT32


def _num_kept(config: RunConfig, num_parameters: int, num_trained: int) -> int:
    """Parameters that are kept beside the policy: a KL penalty's reference, which adapters make by being switched off; what
    was trained as it was at first, where no other model is named for it; and its average."""
    needs = config.method.needs
    of_penalty = num_parameters if config.resolved_objective.kl and config.model.lora is None else 0
    num_read = (Need.REFERENCE in needs and config.model.reference is None) + (Need.AVERAGE in needs)
    return of_penalty + num_read * num_trained


def _activations(config: RunConfig, shape: ModelShape, tokens: int) -> int:
    """Bytes that the backward pass over so many tokens needs."""
    inner, upper = 34 * shape.width + 8 * shape.inner_width, config.model.train_layers
    layers = min(upper, shape.layers) if isinstance(upper, int) else shape.layers
    if config.run.gradient_checkpointing:
        return tokens * (layers * _FLOAT * shape.width + inner)
    return tokens * layers * inner


def memory_beside_vllm(config: RunConfig, whole: float) -> float:
    """The memory of a card that is left beside a vLLM that stays awake on it.

    >>> from scope_rlvr.run.config import load_config
    >>> memory_beside_vllm(load_config(overrides=["sampling.sampler={kind='vllm', memory_share=0.25}"]), 80)
    60.0
    """
    sampler = config.sampling.sampler
    return whole * (1 - sampler.memory_share) if isinstance(sampler, VllmSampler) and not sampler.sleep else whole


def _sampled_tokens(config: RunConfig, prompt_tokens: int, num_processes: int) -> tuple[int, int]:
    """Most tokens held at once while sampling here: in a step, where vLLM does not do that, and while measuring."""
    rows = config.share(num_processes).rows if isinstance(config.sampling.sampler, LocalSampler) else 0
    training_rows = min(rows, config.sampling.batch_rows or rows)
    evaluation = config.evaluation
    return (
        training_rows * (prompt_tokens + config.sampling.max_response_tokens),
        evaluation.batch_rows * (prompt_tokens + evaluation.max_response_tokens) if evaluation.sets else 0,
    )


def _helpers(config: RunConfig) -> int:
    """Parameters of the helpers that run on the same device, as far as their shape is known."""
    named, needs = [], config.method.needs
    if config.method.needs_teacher:
        named += [(name, key) for key, name in config.teacher.folders]
    if config.method.needs_step_scorer:
        named += [(name, key) for key, name in config.scorer.folders]
    if Need.JUDGE in needs and not (config.judge.is_served or config.judge.model in (NOBODY, THE_POLICY)):
        named.append((config.judge.model, "judge.model"))
    if Need.REFERENCE in needs and config.model.reference is not None:
        named.append((config.model.reference, "model.reference"))
    shapes = [shape_of(name, key) for name, key in named]
    return sum(shape.num_parameters for shape in shapes if shape is not None)


def prompt_tokens_of(config: RunConfig) -> int:
    """The longest prompt that the arithmetic assumes: the limit, or else a guess."""
    return config.problems.max_prompt_tokens or min(_GUESSED_PROMPT_TOKENS, config.sampling.max_response_tokens)


def _device_memory() -> tuple[str, int]:
    """The device that a run would use, and its memory in bytes."""
    import psutil
    import torch

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return properties.name, int(properties.total_memory)
    return _CPU, int(psutil.virtual_memory().total)


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """What a run needs by arithmetic, beside what a process of it has on this machine, in bytes."""

    needed: Memory
    available: float
    device: str
    is_beside_vllm: bool

    @property
    def fits(self) -> bool:
        return self.needed.total <= self.available


def memory_fit(config: RunConfig, shape: ModelShape, num_processes: int = 1, zero_stage: int = 0) -> MemoryFit:
    """The arithmetic against this machine; without a graphics processor, processes share the machine's memory."""
    device, whole = _device_memory()
    on_gpu = device != _CPU
    available = memory_beside_vllm(config, whole)
    needed = estimate(
        config, shape, prompt_tokens_of(config), on_gpu=on_gpu, num_processes=num_processes, zero_stage=zero_stage
    )
    return MemoryFit(needed, available / (1 if on_gpu else num_processes), device, is_beside_vllm=available < whole)
