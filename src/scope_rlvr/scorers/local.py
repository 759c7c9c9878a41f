"""Step scorers that run here: a writer makes the input, a reader takes the scores from one forward pass."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.engines.local import batches_of_like_length
from scope_rlvr.ports import DecisionRule
from scope_rlvr.scorers.families import LocalFamily, TooLong
from scope_rlvr.scorers.writing import Writer, Written
from scope_rlvr.types import Problem

_logger = logging.getLogger(__name__)


class Reader(Protocol):
    """What is read from a model at the positions of a batch."""

    @property
    def model(self) -> PreTrainedModel: ...

    def read(self, ids_BT: Tensor, mask_BT: Tensor, rows: Sequence[Written]) -> list[Tensor]:
        """For each row the scores at its positions."""
        ...


class LocalScorer:
    """A model of some family with its way of writing and reading.

    Padding stands at the right, where no step before it can see it. Past the model's context the family's ``too_long``
    decides, and the first solution that it hits is logged.
    """

    def __init__(
        self,
        writer: Writer,
        reader: Reader,
        tokenizer: PreTrainedTokenizerBase,
        rule: DecisionRule,
        family: LocalFamily,
        batch_rows: int = 128,
    ) -> None:
        self.writer = writer
        self.reader = reader
        self.tokenizer = tokenizer
        self.rule = rule
        self.family = family
        self.batch_rows = batch_rows
        self.max_tokens: int = family.max_tokens or reader.model.config.max_position_embeddings
        self._has_complained = False
        # What is wrong with a tokenizer shows here, before anything is scored.
        writer.write(Problem("", "1", ""), ["1"])

    @property
    def model(self) -> PreTrainedModel:
        return self.reader.model

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        """The scores of every solution's steps; ``None`` without steps, and where it is too long."""
        written = [self._write(problem, steps) for problem, steps in solutions]
        sequences = [sequence for part in written for sequence in part]
        scores = iter(self._read(sequences))
        return [
            self._filled([score for _ in part for score in next(scores)], len(steps))
            for part, (_, steps) in zip(written, solutions, strict=True)
        ]

    def _write(self, problem: Problem, steps: Sequence[str]) -> list[Written]:
        """The sequences of a solution, as far as they fit; none where it is not to be scored."""
        if not steps:
            return []
        try:
            whole = self.writer.write(problem, steps)
        except ValueError as error:
            self._complain(f"a solution cannot be written for the step scorer, and gets no scores: {error}")
            return []
        if all(len(sequence.token_ids) <= self.max_tokens for sequence in whole):
            return whole
        num_tokens = max(len(sequence.token_ids) for sequence in whole)
        self._complain(
            f"a solution of {num_tokens} tokens is longer than the step scorer's context of {self.max_tokens}; "
            f"too_long = {self.family.too_long.value!r}"
        )
        if self.family.too_long is TooLong.UNSCORED:
            return []
        fitting = [_head(sequence, self.max_tokens) for sequence in whole]
        return [sequence for sequence in fitting if sequence.positions]

    def _complain(self, cause: str) -> None:
        """Say the first time what leaves a solution without scores; the others are counted where scores are used."""
        if not self._has_complained:
            self._has_complained = True
            _logger.warning("%s (said once)", cause)

    def _filled(self, scores: list[float], num_steps: int) -> tuple[float, ...] | None:
        """Steps past the context count as right: nobody has read them."""
        return (*scores, *[self.family.highest] * (num_steps - len(scores))) if scores else None

    @torch.inference_mode()
    def _read(self, sequences: Sequence[Written]) -> list[list[float]]:
        scores: list[list[float]] = [[] for _ in sequences]
        lengths = [len(sequence.token_ids) for sequence in sequences]
        for batch in batches_of_like_length(lengths, self.model.config.hidden_size):
            for start in range(0, len(batch), self.batch_rows):
                rows = batch[start : start + self.batch_rows]
                ids_BT, mask_BT = self._padded([sequences[i].token_ids for i in rows])
                read = self.reader.read(ids_BT, mask_BT, [sequences[i] for i in rows])
                for i, scores_S in zip(rows, read, strict=True):
                    scores[i] = scores_S.tolist()
        return scores

    def _padded(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        width = max(map(len, rows))
        # Any id will do, as nothing looks there; a tokenizer's own may lie outside the model's vocabulary.
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        return ids.to(self.model.device), mask.to(self.model.device)


def _head(sequence: Written, num_tokens: int) -> Written:
    positions = [position for position in sequence.positions if position < num_tokens]
    return replace(sequence, token_ids=sequence.token_ids[:num_tokens], positions=positions)


def hidden_at(backbone: PreTrainedModel, ids_BT: Tensor, mask_BT: Tensor, rows: Sequence[Written]) -> list[Tensor]:
    """For each row the last hidden states at its positions, ``(S, H)``."""
    hidden_BTH = backbone(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
    return [hidden_BTH[i, written.positions] for i, written in enumerate(rows)]
