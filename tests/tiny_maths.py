"""A tiny model of the Qwen2 kind with a byte-level tokenizer and a chat template, and files of mathematical problems."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

END, PAD = "<|im_end|>", "<|endoftext|>"
CHAT = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATTERN = r".*\\boxed\{(.+)\}.*"
"""An answer pattern for a box in the last line."""


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, so that it can read anything."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, "<|im_start|>", END]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["What is 1 + 2? The answer is $\\boxed{3}$."] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD, chat_template=CHAT)


def make_model(folder: Path, positions: int = 2048) -> Path:
    """A model folder with random weights."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def sums(start: int, count: int) -> list[dict[str, Any]]:
    """Rows of a data set, no two alike."""
    return [{"problem": f"What is ${i} + {i + 1}$?", "answer": str(2 * i + 1)} for i in range(start, start + count)]


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


PATTERN_VERIFIER = f"""
kind = "pattern"
answer_pattern = '{PATTERN}'
"""


def write_config(file: Path, *, policy: Path, problems: Path, verifier: str = PATTERN_VERIFIER) -> Path:
    """A run of two steps of GRPO on a file, measured on a benchmark."""
    file.write_text(
        f"""
[run]
steps = 2
problems_per_step = 2
rollouts_per_problem = 2
[model]
policy = "{policy}"
[problems]
source = "{problems}"
folder = "{problems.parent}"
max_prompt_tokens = 200
[prompt]
template = '''{{problem}}
Please reason step by step, and put your final answer within \\boxed{{}}.'''
[sampling]
max_response_tokens = 24
batch_rows = 3
[method]
name = "grpo"
[verifier]
{verifier}
[evaluation]
num_problems = 3
samples_per_problem = 2
max_response_tokens = 16
sets = [{{role = "out of distribution", source = "math500", samples_per_problem = 4}}]
""",
        encoding="utf-8",
    )
    return file
