"""What a step scorer learns from: where labelled solutions come from, and which of them nothing trains on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scope_rlvr.errors import UserError
from scope_rlvr.scorers.labelled_data import LabelledFile, LabelledSolution, labelled_from_rows, read_labelled
from scope_rlvr.seeds import derive_seed

_EMBEDDED = "embedded:"
_EMBEDDED_PER_LEVEL = 500
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
        digest = hashlib.sha256()
        for part in (self.train, self.threshold, self.test):
            for solution in part:
                row = [solution.problem.prompt, solution.steps, solution.first_wrong]
                digest.update(json.dumps(row).encode() + b"\0")
            digest.update(b"\1")
        return digest.hexdigest()[:16]


def read_source(name: str, *, skip_bad_rows: bool = False) -> LabelledFile:
    """The labelled solutions that a name stands for; raises :class:`UserError` where there are none.

    ``name`` is a JSONL, JSON or Parquet file; a data set on the Hub, ``owner/name`` or ``owner/name:split`` (``train``
    without a split); or ``embedded:altered`` or ``embedded:rollouts``, with ``:N`` for N solutions of each level.
    """
    if name.startswith(_EMBEDDED):
        return _embedded(name)
    path = Path(name).expanduser()
    if path.exists() or path.suffix in (".jsonl", ".json", ".parquet"):
        return read_labelled(path, skip_bad_rows=skip_bad_rows)
    repository, _, split = name.partition(":")
    if repository.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"the data {name!r} is neither a file (.jsonl, .json, .parquet), nor embedded:altered or embedded:rollouts, nor "
            "a data set on the Hub, owner/name or owner/name:split"
        )
    return labelled_from_rows(_hub_rows(repository, split or "train"), Path(name), skip_bad_rows=skip_bad_rows)


def _hub_rows(repository: str, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    from datasets import load_dataset

    try:
        rows = load_dataset(repository, split=split)
    except Exception as error:  # the client raises errors of many kinds, none of which stands for a fault of ours
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"the data set {repository!r}, split {split!r}, cannot be fetched: {reason}") from error
    for number, row in enumerate(rows, start=1):
        yield number, {name: value for name, value in row.items() if value is not None}


def _embedded(name: str) -> LabelledFile:
    from scope_rlvr.embedded.labelled import altered_solutions, policy_solutions

    kind, _, count = name.removeprefix(_EMBEDDED).partition(":")
    makers = {"altered": altered_solutions, "rollouts": policy_solutions}
    if kind not in makers or (count and not (count.isdecimal() and int(count) > 0)):
        raise UserError(
            f"the data {name!r} is not known; there are embedded:altered and embedded:rollouts, each with :N for N "
            f"solutions of each level ({_EMBEDDED_PER_LEVEL} without it)"
        )
    solutions = makers[kind](int(count) if count else _EMBEDDED_PER_LEVEL)
    return LabelledFile(Path(name), tuple(solutions), (), {})


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
