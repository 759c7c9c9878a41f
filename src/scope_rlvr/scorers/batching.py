"""Many rows in few model passes: rows of like length share a pass, and answers come back in the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Row = TypeVar("Row")
Answer = TypeVar("Answer")

TOKENS_ON_CPU = 512
"""Tokens of a pass on a processor: what a layer writes then stays in its caches (measured, see docs/performance.md)."""

TOKENS_ON_ACCELERATOR = 16_384
"""Tokens of a pass on an accelerator, which small passes would leave idle."""


def token_budget(device: torch.device) -> int:
    """How many tokens, padding included, one pass should hold."""
    return TOKENS_ON_CPU if device.type == "cpu" else TOKENS_ON_ACCELERATOR


def batches_within(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of rows in batches of like length, the longest first: what outgrows memory does so at once.

    A batch, padded to its longest row, holds at most ``max_tokens`` tokens; a row that is longer stands alone.

    >>> batches_within([3, 9, 2, 4], max_tokens=8)
    [[1], [3, 0], [2]]
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
        batches[-1].append(index)
    return batches


def in_batches(
    rows: Sequence[Row],
    lengths: Sequence[int],
    max_tokens: int,
    answer: Callable[[list[Row]], Sequence[Answer]],
) -> list[Answer]:
    """What ``answer`` says of each row, one answer a row, asked in batches and given in the order of ``rows``.

    >>> in_batches(["ccc", "a", "bb"], [3, 1, 2], max_tokens=4, answer=lambda rows: [(row, len(rows)) for row in rows])
    [('ccc', 1), ('a', 2), ('bb', 2)]
    """
    answers: dict[int, Answer] = {}
    for batch in batches_within(lengths, max_tokens):
        answers.update(zip(batch, answer([rows[i] for i in batch]), strict=True))
    return [answers[i] for i in range(len(rows))]


def right_padded(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask, both ``(rows, longest row)``.

    >>> ids, mask = right_padded([[5, 6], [7]], pad_id=0, device=torch.device("cpu"))
    >>> ids.tolist(), mask.tolist()
    ([[5, 6], [7, 0]], [[1, 1], [1, 0]])
    """
    width = max(map(len, rows))
    ids = [[*row, *[pad_id] * (width - len(row))] for row in rows]
    mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
