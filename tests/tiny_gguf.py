"""A tiny model of the Llama kind with a byte-level tokenizer and a chat template, as a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.tiny_maths import CHAT, END, PAD, make_tokenizer

HEADS, KEY_HEADS = 4, 2


def make_llama(seed: int = 0) -> LlamaForCausalLM:
    """Two layers 64 wide, with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(make_tokenizer()),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config)


def write_gguf(
    file: Path,
    model: LlamaForCausalLM,
    *,
    quantisation: str = "F32",
    architecture: str = "llama",
    has_end: bool = True,
    has_template: bool = True,
) -> Path:
    """Write a model as llama.cpp's converter does; ``quantisation`` is a name of ``GGMLQuantizationType``."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    kind = GGMLQuantizationType[quantisation]
    writer = GGUFWriter(file, architecture)
    _write_shape(writer, model.config)
    _write_tokenizer(writer, has_end=has_end, has_template=has_template)
    for name, weight in _tensors(model):
        is_quantised = weight.ndim == 2 and kind is not GGMLQuantizationType.F32
        writer.add_tensor(
            name, quantize(weight, kind) if is_quantised else weight, raw_dtype=kind if is_quantised else None
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _write_shape(writer: Any, config: LlamaConfig) -> None:
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _write_tokenizer(writer: Any, *, has_end: bool, has_template: bool) -> None:
    tokenizer = make_tokenizer()
    described = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    tokens = sorted(described["vocab"], key=described["vocab"].__getitem__)
    special = set(tokenizer.all_special_tokens) | {"<|im_start|>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in described["merges"]])
    if has_end:
        writer.add_eos_token_id(tokens.index(END))
    writer.add_pad_token_id(tokens.index(PAD))
    if has_template:
        writer.add_chat_template(CHAT)


def _tensors(model: LlamaForCausalLM) -> list[tuple[str, np.ndarray]]:
    """The weights by llama.cpp's names; rows of queries and keys in the order of its rotary embedding."""
    weights = {name: weight.detach().numpy() for name, weight in model.named_parameters()}
    found = [
        ("token_embd.weight", weights["model.embed_tokens.weight"]),
        ("output_norm.weight", weights["model.norm.weight"]),
    ]
    names = {
        "attn_norm": "input_layernorm",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    for layer in range(model.config.num_hidden_layers):
        inside = f"model.layers.{layer}"
        found += [
            (f"blk.{layer}.{ours}.weight", weights[f"{inside}.{theirs}.weight"]) for ours, theirs in names.items()
        ]
        for ours, theirs, heads in (("attn_q", "q_proj", HEADS), ("attn_k", "k_proj", KEY_HEADS)):
            found.append(
                (f"blk.{layer}.{ours}.weight", _interleaved(weights[f"{inside}.self_attn.{theirs}.weight"], heads))
            )
    return found


def _interleaved(weight: np.ndarray, heads: int) -> np.ndarray:
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
