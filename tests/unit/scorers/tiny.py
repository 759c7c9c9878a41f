"""Tiny checkpoints of the classes that real step scorers have, with their heads, special tokens and chat templates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForTokenClassification,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2Model,
)

from scope_rlvr.core.types import Problem

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin|>{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}<|eot|>{% endfor %}"
)
MERGES = [("Ð", "º"), ("Ð", "¸"), ("Ðº", "Ð¸"), ("Ġ", "-"), ("Ċ", "Ċ"), (".", "ĊĊ")]
"""``ки``, ``" -"``, a blank line, and a full stop that swallows one: what tokenizers do to text that is joined."""

PROBLEM = Problem("p", "How much is 2 + 3 * 4?", "14")
STEPS = ["First the product: 3 * 4 = 12.", "Then 2 + 12 = 15.", "The answer is 15."]


def make_tokenizer(*special: str, template: str | None = None, **named: str) -> PreTrainedTokenizerFast:
    """Every byte a token, a few merges, and special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: i for i, letter in enumerate([*letters, *(a + b for a, b in MERGES)])}
    raw = Tokenizer(BPE(vocab=vocab, merges=MERGES))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens([AddedToken(word, special=True) for word in special])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **named)
    tokenizer.chat_template = template
    return tokenizer


def _shape(tokenizer: PreTrainedTokenizerFast, context: int) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        # Wide enough that scores differ from step to step, as those of a trained model do.
        "initializer_range": 0.3,
    }


def qwen_prm(folder: Path, context: int = 1024, seed: int = 7, num_outputs: int = 2, prefix: str = "score.") -> Path:
    """A Qwen2 backbone with a head of two layers, in the layout and under the class name of Qwen2.5-Math-PRM."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(
        "<|im_start|>", "<|im_end|>", "<extra_0>", "<|endoftext|>", template=CHATML, eos_token="<|endoftext|>"
    )
    return _with_head(folder, tokenizer, "Qwen2ForProcessRewardModel", _two_layers(num_outputs, prefix), context)


def skywork_prm(folder: Path, context: int = 1024, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(
        "<|endoftext|>", eos_token="<|endoftext|>", bos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    head = {"v_head.summary.weight": torch.randn(1, 32) * 0.3, "v_head.summary.bias": torch.randn(1) * 0.1}
    return _with_head(folder, tokenizer, "Qwen2ForPrmModel", head, context)


def universal_prm(folder: Path, context: int = 1024, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(
        "<|im_start|>", "<|im_end|>", "<|endoftext|>", template=CHATML, eos_token="<|endoftext|>"
    )
    return _with_head(folder, tokenizer, "UniversalModel", _two_layers(1, "score."), context)


def _two_layers(num_outputs: int, prefix: str) -> dict[str, torch.Tensor]:
    return {
        f"{prefix}0.weight": torch.randn(32, 32) * 0.3,
        f"{prefix}0.bias": torch.randn(32) * 0.1,
        f"{prefix}2.weight": torch.randn(num_outputs, 32) * 0.5,
        f"{prefix}2.bias": torch.randn(num_outputs) * 0.1,
    }


def _with_head(
    folder: Path, tokenizer: PreTrainedTokenizerFast, kind: str, head: dict[str, torch.Tensor], context: int
) -> Path:
    model = Qwen2Model(Qwen2Config(**_shape(tokenizer, context)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    backbone = {f"model.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    _in_two_files(folder, backbone, head)
    config = json.loads((folder / "config.json").read_text())
    hook = {"AutoConfig": "theirs.Config", "AutoModel": "theirs.Model"}
    (folder / "config.json").write_text(json.dumps(config | {"architectures": [kind], "auto_map": hook}))
    (folder / "theirs.py").write_text("raise SystemExit('code from a checkpoint was run')\n")
    return folder


def _in_two_files(folder: Path, backbone: dict[str, torch.Tensor], head: dict[str, torch.Tensor]) -> None:
    """As large checkpoints lie on disk: several files and an index."""
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for number, tensors in enumerate((backbone, head), start=1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    index = {"metadata": {"total_size": 0}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def causal(folder: Path, kind: str, context: int = 1024, seed: int = 0) -> Path:
    """A causal language model with the tokenizer of ``math_shepherd`` or ``rlhflow``."""
    torch.manual_seed(seed)
    tokenizer = (
        make_tokenizer("<s>", "</s>", bos_token="<s>", eos_token="</s>")
        if kind == "math_shepherd"
        else make_tokenizer("<|begin|>", "<|head|>", "<|/head|>", "<|eot|>", template=LLAMA3, eos_token="<|eot|>")
    )
    LlamaForCausalLM(LlamaConfig(**_shape(tokenizer, context))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat_causal(folder: Path, seed: int = 0) -> Path:
    """A causal language model with a chat template, as a policy has one."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer("<|im_start|>", "<|im_end|>", template=CHATML, eos_token="<|im_end|>")
    LlamaForCausalLM(LlamaConfig(**_shape(tokenizer, 1024))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def token_classifier(folder: Path, context: int = 1024, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    tokenizer = make_tokenizer("<s>", "</s>", bos_token="<s>", eos_token="</s>")
    LlamaForTokenClassification(LlamaConfig(num_labels=2, **_shape(tokenizer, context))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
