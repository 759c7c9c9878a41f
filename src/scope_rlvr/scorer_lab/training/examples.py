"""Labelled solutions as a token classifier learns them: ids, labels at the ends of steps, batches of like length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.scorers.token_classifier import RIGHT_LABEL, WRONG_LABEL, TokenClassifierWriter

IGNORED = -100
"""The label of a token that says nothing of a step: PyTorch's cross-entropy leaves it out."""

_BATCHES_SORTED_TOGETHER = 50


@dataclass(frozen=True, slots=True)
class Example:
    """Token ids and, for each, 1 (the step that ends here is right), 0 (it is the first wrong one) or ``IGNORED``."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]


def make_example(
    tokenizer: PreTrainedTokenizerBase,
    solution: LabelledSolution,
    family: TokenClassifier,
    max_tokens: int | None = None,
) -> Example | None:
    """A solution as its scorer will read it, labelled at the last token of the separator after each step.

    What does not fit into ``max_tokens`` is cut off step by step, with its labels; ``None`` where not even one fits.

    >>> from scope_rlvr.embedded.tokenizer import make_tokenizer
    >>> from scope_rlvr.core.types import Problem
    >>> solution = LabelledSolution(Problem("p", "reduce 3 7", "10"), ("answer 10", "answer 3", "answer 9"), first_wrong=1)
    >>> make_example(make_tokenizer(), solution, TokenClassifier()).labels
    (-100, -100, -100, -100, -100, 1, -100, -100, 0, -100, -100, -100)
    """
    [written] = TokenClassifierWriter(tokenizer, family).write(solution.problem, solution.steps)
    fitting = [end for end in written.positions if max_tokens is None or end < max_tokens]
    if not fitting:
        return None
    labels = [IGNORED] * (fitting[-1] + 1)
    for end, is_right in zip(fitting, solution.step_labels, strict=False):
        labels[end] = RIGHT_LABEL if is_right else WRONG_LABEL
    return Example(tuple(written.token_ids[: len(labels)]), tuple(labels))


def training_order(lengths: Sequence[int], num_batches: int, batch_rows: int, seed: int) -> list[int]:
    """Indices of the rows of ``num_batches`` batches, one after another: every row once an epoch, in random order.

    Rows of a batch are of like length: out of every 50 batches that are drawn at random, rows are sorted by length and
    the batches shuffled. What is left over at the end of an epoch begins the next.

    >>> sorted(training_order([5, 9, 7, 6], num_batches=2, batch_rows=2, seed=0))
    [0, 1, 2, 3]
    """
    order: list[int] = []
    waiting: list[int] = []
    epoch = 0
    while len(order) < num_batches * batch_rows:
        rng = np.random.default_rng(derive_seed(seed, "order of rows", epoch))
        waiting += rng.permutation(len(lengths)).tolist()
        num_full = len(waiting) // batch_rows * batch_rows
        block = batch_rows * _BATCHES_SORTED_TOGETHER
        for start in range(0, num_full, block):
            rows = sorted(waiting[start : min(start + block, num_full)], key=lengths.__getitem__)
            batches = [rows[k : k + batch_rows] for k in range(0, len(rows), batch_rows)]
            order += [row for k in rng.permutation(len(batches)) for row in batches[k]]
        waiting = waiting[num_full:]
        epoch += 1
    return order[: num_batches * batch_rows]


class OrderedExamples(torch.utils.data.Dataset):
    """The examples in the order in which they are to be seen, some of them several times."""

    def __init__(self, examples: Sequence[Example], order: Sequence[int]) -> None:
        self.examples = examples
        self.order = order

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> Example:
        return self.examples[self.order[place]]


def collate(examples: Sequence[Example], pad_id: int) -> dict[str, torch.Tensor]:
    """``input_ids``, ``attention_mask`` and ``labels``, each (rows x longest), padded on the right as in use."""
    width = max(len(example.ids) for example in examples)

    def padded(rows: Sequence[Sequence[int]], value: int) -> torch.Tensor:
        return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows])

    return {
        "input_ids": padded([e.ids for e in examples], pad_id),
        "attention_mask": padded([[1] * len(e.ids) for e in examples], 0),
        "labels": padded([e.labels for e in examples], IGNORED),
    }
