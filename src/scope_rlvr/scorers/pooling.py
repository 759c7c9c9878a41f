"""A process reward model behind vLLM's ``/pooling``: token ids go out, one score a step comes back.

The input is written here, by the family of the served model, so that both sides agree on where steps end; the number of
scores, what they are and whose they are is checked in every reply.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import DecisionRule, Fault
from scope_rlvr.core.types import Problem
from scope_rlvr.scorers.families import MathShepherd, PurePrm, Skywork, VllmPooling
from scope_rlvr.scorers.writing import InputWriter, ScorerInput
from scope_rlvr.servers.client import Client, ServerAnswer, ServerQuestion
from scope_rlvr.servers.replies import BadReply

_logger = logging.getLogger(__name__)

_ROUNDING = 0.02
"""How far the sum of probabilities in half precision may be from 1."""


class PoolingScorer:
    """Asks a vLLM server for the scores of sequences that a writer has made.

    ``limit`` is the longest input in tokens. What is longer, and what is not answered as it should be, gets no scores.
    """

    is_served = True

    def __init__(
        self, client: Client, name: str, writer: InputWriter, family: VllmPooling, rule: DecisionRule, limit: int | None
    ) -> None:
        self.client = client
        self.name = name
        self.writer = writer
        self.family = family
        self.rule = rule
        self.limit = limit
        self._has_complained = False

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        answers = iter(self.ask([solution for solution in solutions if solution[1]]))
        return [next(answers).value if steps else None for _, steps in solutions]

    def ask(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[ServerAnswer[tuple[float, ...]]]:
        """The scores of each solution, or the reason why there are none."""
        written = [self._written(*solution) for solution in solutions]
        questions = [self._question(part) for part in written if isinstance(part, ScorerInput)]
        answers = iter(self.client.ask("/pooling", questions))
        found = [next(answers) if isinstance(part, ScorerInput) else part for part in written]
        for answer in found:
            if answer.fault is not None and not self._has_complained:
                self._has_complained = True
                _logger.warning("a solution gets no scores: %s (said once)", answer.message)
        return found

    def _written(self, problem: Problem, steps: Sequence[str]) -> ScorerInput | ServerAnswer[tuple[float, ...]]:
        try:
            (written,) = self.writer.write(problem, steps)
        except ValueError as error:
            return ServerAnswer(fault=Fault.OTHER, message=f"it cannot be written: {error}")
        if self.limit is not None and len(written.token_ids) > self.limit:
            told = f"its {len(written.token_ids)} tokens are more than the {self.limit} that the server reads"
            return ServerAnswer(fault=Fault.OTHER, message=told)
        return written

    def _question(self, written: ScorerInput) -> ServerQuestion[tuple[float, ...]]:
        body = {"model": self.name, "input": written.token_ids}
        return ServerQuestion(body, len(written.token_ids), 0, lambda reply: self._read(reply, written))

    def _read(self, reply: Any, written: ScorerInput) -> tuple[float, ...]:
        try:
            (part,), name = reply["data"], reply["model"]
            rows = part["data"]
        except (KeyError, TypeError, ValueError):
            raise BadReply(Fault.MALFORMED, "a reply without model and data[0].data") from None
        if name != self.name:
            raise BadReply(Fault.MALFORMED, f"the reply is of the model {name!r}, not of {self.name!r}")
        is_of_steps = self.family.reply == "step"
        wanted = len(written.positions) if is_of_steps else len(written.token_ids)
        if not isinstance(rows, list) or len(rows) != wanted:
            num = len(rows) if isinstance(rows, list) else "no"
            of = f"{wanted} {'steps' if is_of_steps else 'tokens'}"
            raise BadReply(
                Fault.MALFORMED, f"{num} entries for {of}; check the server's pooling type, and scorer.family.reply"
            )
        chosen = rows if is_of_steps else [rows[place] for place in written.positions]
        return tuple(self._score(row) for row in chosen)

    def _score(self, row: Any) -> float:
        """The score in what the server gives out for one place."""
        numbers = row if isinstance(row, list) else [row]
        if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
            raise BadReply(Fault.MALFORMED, f"an entry that is no list of numbers: {str(row)[:80]}")
        of = self.family.of
        if isinstance(of, Skywork):
            if len(numbers) != 1:
                raise BadReply(Fault.MALFORMED, f"{len(numbers)} numbers a place where this family has one")
            return _sigmoid(numbers[0])
        if len(numbers) != 2 or min(numbers) < 0 or abs(sum(numbers) - 1) > _ROUNDING:
            raise BadReply(
                Fault.MALFORMED,
                f"{numbers} are not two probabilities; check that the server applies softmax to its logits",
            )
        # The labels are (wrong, right), except where vLLM is told to return the tokens "+" and "-", in this order.
        wrong, right = numbers[::-1] if isinstance(of, MathShepherd) else numbers
        return right - wrong if isinstance(of, PurePrm) else min(1.0, right)


def _sigmoid(value: float) -> float:
    """The logistic function, without overflow.

    >>> _sigmoid(0.0), _sigmoid(-1000.0)
    (0.5, 0.0)
    """
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))


def check_pooling(scorer: PoolingScorer, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> None:
    """Ask about some solutions; :class:`UserError` with the reason where one gets no scores."""
    for answer in scorer.ask(solutions):
        if answer.fault is not None:
            raise UserError(
                f"the step scorer {scorer.name!r} at {scorer.client.url} does not answer as it should ({answer.fault}): "
                f"{answer.message}. Check the address, scorer.family.name, scorer.family.of and scorer.family.tokenizer"
            )
