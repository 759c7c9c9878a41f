"""Passes of a step scorer: no score depends on how its rows were put together."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from transformers import (
    BertConfig,
    BertForTokenClassification,
    LlamaConfig,
    LlamaForTokenClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForTokenClassification,
)

from scope_rlvr.scorers.batching import BatchedPasses, Inputs, batches_within, shared_length, side_by_side
from scope_rlvr.scorers.writing import ScorerInput as Row

VOCAB = 50


def small_model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "num_labels": 2}
    # Weights far from zero, so that what a token attends to shows.
    sizes |= {"num_attention_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.3}
    if kind == "bert":
        return BertForTokenClassification(BertConfig(**sizes)).eval()
    if kind == "sliding":
        window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
        return Qwen2ForTokenClassification(Qwen2Config(**sizes, num_key_value_heads=1, **window)).eval()
    return LlamaForTokenClassification(LlamaConfig(**sizes, num_key_value_heads=1)).eval()


@dataclass
class Reading:
    """What a scorer's reader does, and a note of every pass."""

    model: PreTrainedModel

    def __post_init__(self) -> None:
        self.num_tokens: list[int] = []

    def __call__(self, inputs: Inputs, rows: Sequence[Row]) -> list[torch.Tensor]:
        self.num_tokens.append(inputs["input_ids"].numel())
        probs = self.model(**inputs).logits.softmax(-1)[..., 1]
        return [probs[i, row.positions] for i, row in enumerate(rows)]


def rows_of_problems(prefix_tokens: int, seed: int = 0) -> tuple[list[Row], list[str]]:
    """Five responses to each of three prompts, in a mixed order, and the prompt of each."""
    rng = random.Random(seed)
    made = []
    for problem in range(3):
        prompt = [rng.randrange(1, VOCAB) for _ in range(prefix_tokens + problem)]
        for _ in range(5):
            response = [rng.randrange(1, VOCAB) for _ in range(rng.randrange(2, 25))]
            ends = sorted(rng.sample(range(len(response)), min(3, len(response))))
            made.append((Row(prompt + response, [len(prompt) + end for end in ends]), f"problem {problem}"))
    rng.shuffle(made)
    return [row for row, _ in made], [group for _, group in made]


def one_at_a_time(model: PreTrainedModel, rows: list[Row]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([r.token_ids])).logits.softmax(-1)[0, r.positions, 1] for r in rows]


@pytest.mark.parametrize("kind", ["llama", "sliding", "bert"])
@pytest.mark.parametrize("prefix_tokens", [2, 40])
@pytest.mark.parametrize("max_tokens", [1, 60, 10_000])
@pytest.mark.parametrize("share_prefixes", [True, False])
def test_scores_do_not_depend_on_batches_padding_or_the_cache(kind, prefix_tokens, max_tokens, share_prefixes):
    model = small_model(kind)
    rows, groups = rows_of_problems(prefix_tokens)
    read = BatchedPasses(model, Reading(model), pad_id=7, max_tokens=max_tokens, share_prefixes=share_prefixes)(
        rows, groups
    )
    for found, expected in zip(read, one_at_a_time(model, rows), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_the_order_of_rows_is_the_order_of_answers():
    model = small_model("llama")
    rows, groups = rows_of_problems(40)
    forward = BatchedPasses(model, Reading(model), pad_id=0)(rows, groups)
    backward = BatchedPasses(model, Reading(model), pad_id=0)(rows[::-1], groups[::-1])
    for a, b in zip(forward, backward[::-1], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-6)


@pytest.mark.parametrize(("kind", "is_shared"), [("llama", True), ("sliding", True), ("bert", False)])
def test_a_long_prompt_is_read_once_where_no_token_sees_what_follows(kind, is_shared):
    model = small_model(kind)
    rows, groups = rows_of_problems(40)
    reading = Reading(model)
    BatchedPasses(model, reading, pad_id=0)(rows, groups)
    assert (sum(reading.num_tokens) < sum(len(row.token_ids) for row in rows)) is is_shared


def test_a_short_prompt_is_not_worth_a_pass_of_its_own():
    model = small_model("llama")
    rows, groups = rows_of_problems(1)
    reading = Reading(model)
    BatchedPasses(model, reading, pad_id=0)(rows, groups)
    assert sum(reading.num_tokens) >= sum(len(row.token_ids) for row in rows)


def test_what_all_rows_read_or_one_row_ends_with_is_not_shared():
    assert shared_length([Row([1, 2, 3], [2]), Row([1, 2, 3], [2])]) == 2
    assert shared_length([Row([1, 2, 3, 4], [0, 3]), Row([1, 2, 3, 4], [3])]) == 0
    assert shared_length([Row([1, 2, 3, 4], [3]), Row([1, 9, 3, 4], [3]), Row([1, 2, 3, 5], [3])]) == 1


def test_batches_hold_what_their_budget_allows():
    lengths = [random.Random(1).randrange(1, 90) for _ in range(200)]
    batches = batches_within(lengths, max_tokens=100)
    assert sorted(index for batch in batches for index in batch) == list(range(200))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 100 for batch in batches)
    assert batches_within([], max_tokens=100) == []


def test_threads_change_neither_scores_nor_the_number_of_threads():
    model = small_model("llama")
    rows, groups = rows_of_problems(40)
    rows += [Row(row.token_ids[:30], [20]) for row in rows]
    groups += [f"alone {i}" for i in range(len(groups))]
    before, read = torch.get_num_threads(), {}
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            read[num_threads] = BatchedPasses(model, Reading(model), pad_id=0, max_tokens=60)(rows, groups)
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(read[1], read[3], strict=True))


def test_what_fails_on_a_thread_fails_here_and_nothing_more_is_begun():
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 0:
            raise ValueError("no such item")
        time.sleep(0.01)
        return item

    with pytest.raises(ValueError, match="no such item"):
        side_by_side(work, range(1000), num_threads=2)
    assert len(begun) < 1000
