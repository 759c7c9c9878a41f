"""A tiny policy of the Qwen2 kind that has learned a few sums by heart, half of them wrongly, and a tiny process reward
model that knows which of its steps are wrong: trained in seconds, so that a run has something to salvage."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2ForTokenClassification,
)

from scope_rlvr.scorers.step_ends import encode_steps
from tests.tiny_maths import CHAT, END, PAD

TEMPLATE = "{problem}\nPlease reason step by step, and put your final answer within \\boxed{}."
SEPARATOR = "\n\n"
SUMS = ((3, 4, 5), (6, 2, 7), (9, 8, 1), (5, 5, 3), (2, 9, 4), (7, 1, 8))
_IGNORED = -100

Sum = Sequence[int]


def problem(numbers: Sum) -> str:
    """What is asked."""
    return f"What is ${' + '.join(map(str, numbers))}$?"


def steps(numbers: Sum, off: int = 0) -> list[str]:
    """A solution in three steps, the second one wrong by ``off``; what follows is what it then says.

    >>> steps((3, 4, 5), off=1)
    ['3 + 4 = 7', '7 + 5 = 13', 'The answer is $\\\\boxed{13}$.']
    """
    a, b, c = numbers
    end = a + b + c + off
    return [f"{a} + {b} = {a + b}", f"{a + b} + {c} = {end}", f"The answer is $\\boxed{{{end}}}$."]


def right_rest(before: str) -> str:
    """What a right solution goes on with behind the text so far, with as many steps as are there; a teacher's part."""
    asked, *prefix = before.strip().split(SEPARATOR)
    found = re.search(r"\$(\d+) \+ (\d+) \+ (\d+)\$", asked)
    assert found is not None, f"no sum is asked for in {asked!r}"
    return SEPARATOR.join(steps([int(number) for number in found.groups()])[len(prefix) :])


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, with a token for every digit and for every word that occurs."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, special_tokens=[PAD, "<|im_start|>", END], initial_alphabet=alphabet)
    texts = [SEPARATOR.join([problem(numbers), *steps(numbers)]) for numbers in SUMS]
    made.train_from_iterator([*texts, *[TEMPLATE, CHAT, "You are a helpful assistant."] * 5], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=PAD, chat_template=CHAT)


def make_policy(folder: Path, num_steps: int = 100) -> Path:
    """A policy that writes each solution of :data:`SUMS` right or wrong, as often the one as the other."""
    reads = tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(reads),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=reads.eos_token_id,
        pad_token_id=reads.pad_token_id,
    )
    model = Qwen2ForCausalLM(config)
    rows = []
    for numbers in SUMS:
        messages = [{"role": "user", "content": TEMPLATE.replace("{problem}", problem(numbers))}]
        shown = reads.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        for off in (0, 1):
            asked, written = (
                reads.encode(str(shown)),
                [*reads.encode(SEPARATOR.join(steps(numbers, off))), reads.eos_token_id],
            )
            rows.append(([*asked, *written], [_IGNORED] * len(asked) + written))
    _learn(model, rows, num_steps, 5e-3)
    model.save_pretrained(folder)
    reads.save_pretrained(folder)
    return folder


def make_scorer(folder: Path, policy: Path, num_steps: int = 40) -> Path:
    """A token classifier on the policy's body that has read all solutions with the label of each of their steps."""
    reads = PreTrainedTokenizerFast.from_pretrained(policy)
    model = Qwen2ForTokenClassification.from_pretrained(policy, num_labels=2)
    rows = []
    for numbers in SUMS:
        for off in (0, 1):
            ids, ends = encode_steps(reads, problem(numbers), steps(numbers, off), SEPARATOR)
            labels = [_IGNORED] * len(ids)
            for number, end in enumerate(ends):
                labels[end] = int(number == 0 or not off)
            rows.append((list(ids), labels))
    _learn(model, rows, num_steps, 2e-3)
    model.save_pretrained(folder)
    reads.save_pretrained(folder)
    return folder


def _learn(model: PreTrainedModel, rows: Sequence[tuple[list[int], list[int]]], num_steps: int, rate: float) -> None:
    """Full-batch AdamW on ids and labels."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([[*ids, *[0] * (longest - len(ids))] for ids, _ in rows])
    labels = torch.tensor([[*found, *[_IGNORED] * (longest - len(found))] for _, found in rows])
    mask = torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    model.train()
    for step in range(num_steps):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 10)
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
