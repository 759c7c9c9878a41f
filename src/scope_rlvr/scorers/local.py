"""Step scorers that run here: a writer makes the input, a reader takes the scores from one forward pass."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from scope_rlvr.core.ports import DecisionRule
from scope_rlvr.core.types import Problem
from scope_rlvr.scorers.batching import BatchedPasses, Inputs
from scope_rlvr.scorers.families import LocalFamily, TooLong
from scope_rlvr.scorers.writing import InputWriter, ScorerInput

_logger = logging.getLogger(__name__)


class ScoreReader(Protocol):
    """What is read from a model at the positions of a batch."""

    @property
    def model(self) -> PreTrainedModel: ...

    def read(self, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
        """One forward pass: for each row the scores at its positions."""
        ...


class LocalScorer:
    """A model of some family with its way of writing and reading.

    Past the model's context the family's ``too_long`` decides, and the first solution that it hits is logged.
    ``can_share_prefixes`` is false where ``reader`` cannot go on from another pass's keys and values; ``tokens_a_pass``
    bounds a pass, which otherwise the device decides.
    """

    def __init__(
        self,
        writer: InputWriter,
        reader: ScoreReader,
        tokenizer: PreTrainedTokenizerBase,
        rule: DecisionRule,
        family: LocalFamily,
        *,
        can_share_prefixes: bool = True,
        tokens_a_pass: int | None = None,
    ) -> None:
        self.writer = writer
        self.reader = reader
        self.tokenizer = tokenizer
        self.rule = rule
        self.family = family
        self.max_tokens: int = family.max_tokens or reader.model.config.max_position_embeddings
        # Any id will do where nothing looks; a tokenizer's own may lie outside the model's vocabulary.
        self._passes = BatchedPasses(reader.model, reader.read, 0, tokens_a_pass, can_share_prefixes)
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
        prompts = [problem.prompt for part, (problem, _) in zip(written, solutions, strict=True) for _ in part]
        scores = iter(self._passes(sequences, prompts))
        return [
            self._filled([score for _ in part for score in next(scores).tolist()], len(steps))
            for part, (_, steps) in zip(written, solutions, strict=True)
        ]

    def _write(self, problem: Problem, steps: Sequence[str]) -> list[ScorerInput]:
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
        """Steps past the context count as right, since they were not read."""
        return (*scores, *[self.family.highest] * (num_steps - len(scores))) if scores else None


def _head(sequence: ScorerInput, num_tokens: int) -> ScorerInput:
    positions = [position for position in sequence.positions if position < num_tokens]
    return replace(sequence, token_ids=sequence.token_ids[:num_tokens], positions=positions)


def hidden_at(backbone: PreTrainedModel, inputs: Inputs, rows: Sequence[ScorerInput]) -> list[Tensor]:
    """For each row the last hidden states at its positions, ``(S, H)``."""
    hidden_BTH = backbone(**inputs).last_hidden_state
    return [hidden_BTH[i, written.positions] for i, written in enumerate(rows)]
