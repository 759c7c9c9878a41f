"""What a step scorer learns from, and what nothing trains on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.store.digests import bytes_digest

_MAX_HELD_OUT = 4000
"""Solutions; more would cost more time than they add to the figures."""


@dataclass(frozen=True)
class Corpus:
    """Solutions to train on, to choose the threshold with, and to measure with: no two parts share a problem."""

    train: tuple[LabelledSolution, ...]
    threshold: tuple[LabelledSolution, ...]
    test: tuple[LabelledSolution, ...]

    @property
    def digest(self) -> str:
        """Sixteen hex digits that are equal for equal corpora."""
        return bytes_digest(self._pieces())[:16]

    def _pieces(self) -> Iterator[bytes]:
        for part in (self.train, self.threshold, self.test):
            for solution in part:
                row = [solution.problem.prompt, solution.steps, solution.first_wrong]
                yield json.dumps(row).encode() + b"\0"
            yield b"\1"


def split_corpus(solutions: Sequence[LabelledSolution], held_out: float, seed: int) -> Corpus:
    """Hold out a share of the problems (of at most 4000 solutions): half to choose the threshold, half to measure.

    The problem decides, by a hash of its words, so that another solution of it is always in the same part. Raises
    :class:`UserError` where nothing could be learned or measured.
    """
    share = min(held_out, _MAX_HELD_OUT / max(1, len(solutions)))
    parts: tuple[list[LabelledSolution], ...] = ([], [], [])
    for solution in solutions:
        place = derive_seed(seed, "held out", *solution.problem.prompt.split()) / 2**63
        parts[2 if place < share / 2 else 1 if place < share else 0].append(solution)
    corpus = Corpus(*map(tuple, parts))
    _require_both_kinds("to choose the threshold with", corpus.threshold, len(solutions))
    _require_both_kinds("to measure with", corpus.test, len(solutions))
    if all(solution.first_wrong is None for solution in corpus.train):
        raise UserError(
            f"none of the {len(corpus.train)} solutions to train on has a wrong step: there is nothing to tell apart; give "
            "data with wrong steps"
        )
    return corpus


def _require_both_kinds(what: str, part: Sequence[LabelledSolution], num_solutions: int) -> None:
    num_wrong = sum(solution.first_wrong is not None for solution in part)
    if not 0 < num_wrong < len(part):
        raise UserError(
            f"of {num_solutions} solutions {len(part)} are held out {what}, {num_wrong} of them with a wrong step; both kinds "
            "are needed, with and without. Give more data, or hold out a larger share of the problems (--held-out)"
        )
