"""Many rows in few model passes: rows of like length share a pass, rows of one problem what they begin with.

Answers come back in the order of the rows, and nothing here changes them by more than rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

ItemT = TypeVar("ItemT")
AnswerT = TypeVar("AnswerT")
TokenRowT = TypeVar("TokenRowT", bound="TokenRow")
Inputs = dict[str, Any]
"""Keyword arguments of a model's forward pass, for rows padded at the right."""

TOKENS_ON_CPU = 512
"""Tokens of a pass on a processor: what a layer writes then stays in its caches (measured, see docs/performance.md)."""

TOKENS_ON_ACCELERATOR = 16_384
"""Tokens of a pass on an accelerator, which small passes would leave idle."""

WORTH_SHARING = 0.25
"""Share of a group's tokens that must be saved before a pass of its own for what they share is faster (measured)."""

_TRIED_TOKENS = 4


def batches_within(lengths: Sequence[int], max_tokens: int) -> list[list[int]]:
    """Indices of rows in batches of like length, the longest first: what outgrows memory does so at once.

    A batch, padded to its longest row, holds at most ``max_tokens`` tokens; a longer row has a batch of its own.

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
    items: Sequence[ItemT],
    lengths: Sequence[int],
    max_tokens: int,
    answer: Callable[[list[ItemT]], Sequence[AnswerT]],
) -> list[AnswerT]:
    """What ``answer`` says of each item, one answer an item, asked in batches and given in the order of ``items``.

    >>> in_batches(["ccc", "a", "bb"], [3, 1, 2], max_tokens=4, answer=lambda batch: [(x, len(batch)) for x in batch])
    [('ccc', 1), ('a', 2), ('bb', 2)]
    """
    answers: dict[int, AnswerT] = {}
    for batch in batches_within(lengths, max_tokens):
        answers.update(zip(batch, answer([items[i] for i in batch]), strict=True))
    return [answers[i] for i in range(len(items))]


def side_by_side(work: Callable[[ItemT], AnswerT], items: Sequence[ItemT], num_threads: int) -> list[AnswerT]:
    """``work`` of each item, in order, on threads that compute with one core each.

    Small passes gain little from a second core each, and lose what its help costs to ask for (measured, see
    docs/performance.md).

    >>> side_by_side(lambda x: x * x, [1, 2, 3], num_threads=2)
    [1, 4, 9]
    """
    if num_threads == 1 or len(items) < 2:
        return list(map(work, items))
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(num_threads, "passes", torch.set_num_threads, (1,)) as threads:
            return list(threads.map(work, items))
    finally:
        # A thread sets its own number, and that of threads to come.
        torch.set_num_threads(before)


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


class TokenRow(Protocol):
    """Token ids, and the positions, in rising order, at which something is read: one at least."""

    @property
    def token_ids(self) -> list[int]: ...

    @property
    def positions(self) -> list[int]: ...

    def after(self, num_tokens: int) -> Self:
        """What is left of the row when its first tokens have been read; positions count from there on."""
        ...


def shared_length(rows: Sequence[TokenRow]) -> int:
    """How many tokens at the start all rows have in common; none of those is read in any.

    >>> from types import SimpleNamespace as TokenRow
    >>> shared_length([TokenRow(token_ids=[5, 6, 7, 8], positions=[3]), TokenRow(token_ids=[5, 6, 9], positions=[1, 2])])
    1
    """
    # Whatever the least and the greatest row begin with, those between them begin with, too.
    ids = [row.token_ids for row in rows]
    pairs = enumerate(zip(min(ids), max(ids), strict=False))
    unread = min(row.positions[0] for row in rows)
    return next((i for i, (a, b) in pairs if a != b or i == unread), min(unread, *map(len, ids)))


@dataclass
class BatchedPasses(Generic[TokenRowT]):
    """Reads rows through a model, in as few and as small passes as its device likes.

    ``read`` runs one forward pass with the keyword arguments that it is given, and returns for each row the values at
    its positions; it gets rows without what the pass finds in a cache. ``max_tokens`` bounds a pass; the device decides
    without it. Rows of a group share the keys and values of the beginning that they have in common, where that saves
    enough and the model can do it, unless ``share_prefixes`` is false.
    """

    model: PreTrainedModel
    read: Callable[[Inputs, Sequence[TokenRowT]], Sequence[Tensor]]
    pad_id: int
    max_tokens: int | None = None
    share_prefixes: bool = True

    @torch.inference_mode()
    def __call__(self, rows: Sequence[TokenRowT], groups: Sequence[Hashable]) -> list[Tensor]:
        """What is read of each row; ``groups`` names the group that each belongs to."""
        members: dict[Hashable, list[int]] = {}
        for index, group in enumerate(groups):
            members.setdefault(group, []).append(index)
        # Rows that are read one after the other, and the tokens that are read before them.
        jobs: list[tuple[list[int], list[int]]] = []
        unshared: list[int] = []
        for indices in members.values():
            prefix = self._shared_prefix([rows[i] for i in indices])
            if prefix:
                jobs.append((indices, prefix))
            else:
                unshared += indices
        batches = batches_within([len(rows[i].token_ids) for i in unshared], self._budget)
        jobs += [([unshared[i] for i in batch], []) for batch in batches]
        # An accelerator gains nothing from several threads.
        num_threads = torch.get_num_threads() if self._is_on_cpu else 1
        read = side_by_side(lambda job: self._read([rows[i] for i in job[0]], job[1]), jobs, num_threads)
        found = {
            i: one for (indices, _), said in zip(jobs, read, strict=True) for i, one in zip(indices, said, strict=True)
        }
        return [found[i] for i in range(len(rows))]

    @property
    def _is_on_cpu(self) -> bool:
        return self.model.device.type == "cpu"

    @property
    def _budget(self) -> int:
        return self.max_tokens or (TOKENS_ON_CPU if self._is_on_cpu else TOKENS_ON_ACCELERATOR)

    def _shared_prefix(self, rows: Sequence[TokenRowT]) -> list[int]:
        """What the rows begin with, if that is to be computed once for all of them."""
        if not self.share_prefixes or len(rows) == 1:
            return []
        length = shared_length(rows)
        num_saved, num_tokens = length * (len(rows) - 1), sum(len(row.token_ids) for row in rows)
        if num_saved < WORTH_SHARING * num_tokens or not self._can_share:
            return []
        return rows[0].token_ids[:length]

    def _cache_of(self, prefix: list[int]) -> DynamicCache:
        cache = DynamicCache(config=self.model.config)
        input_ids = torch.tensor([prefix], device=self.model.device)
        self.model.base_model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return cache

    @torch.inference_mode()  # a mode of each thread
    def _read(self, rows: Sequence[TokenRowT], prefix: list[int]) -> list[Tensor]:
        """Read rows that begin with ``prefix``, which is computed once."""
        start, cache = len(prefix), self._cache_of(prefix) if prefix else None
        rest = [row.after(start) for row in rows]

        def read_batch(batch: list[TokenRowT]) -> Sequence[Tensor]:
            return self.read(self._inputs([row.token_ids for row in batch], start, cache), batch)

        return in_batches(rest, [len(row.token_ids) for row in rest], self._budget, read_batch)

    def _inputs(self, rows: list[list[int]], start: int, cache: DynamicCache | None) -> Inputs:
        ids_BT, mask_BT = right_padded(rows, self.pad_id, self.model.device)
        if cache is None:
            return {"input_ids": ids_BT, "attention_mask": mask_BT, "use_cache": False}
        copied = copy.deepcopy(cache)
        copied.batch_repeat_interleave(len(rows))
        return {
            "input_ids": ids_BT,
            "attention_mask": torch.cat([mask_BT.new_ones(len(rows), start), mask_BT], dim=1),
            "position_ids": torch.arange(start, start + ids_BT.size(1), device=ids_BT.device)[None],
            "past_key_values": copied,
            "use_cache": True,
        }

    @cached_property
    def _can_share(self) -> bool:
        """Whether two halves of a row, one after the other, give what the whole row gives.

        They do not where a token sees what comes after it. Tried out, since no configuration says it for all models.
        """
        row = list(range(1, 1 + 2 * _TRIED_TOKENS))
        first, second = row[:_TRIED_TOKENS], row[_TRIED_TOKENS:]
        try:
            whole = self._states(self._inputs([row], 0, None))
            cached = self._states(self._inputs([second], len(first), self._cache_of(first)))
        # Code of all kinds of models runs here, and may say in its own way that it keeps no such cache.
        except Exception:
            return False
        alone = self._states(self._inputs([first], 0, None))
        error = (torch.cat([alone, cached], dim=1) - whole).abs().max()
        return bool(error <= torch.finfo(whole.dtype).eps ** 0.5 * whole.abs().max())

    def _states(self, inputs: Inputs) -> Tensor:
        return self.model.base_model(**inputs)[0]
