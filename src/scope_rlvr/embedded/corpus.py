"""Solutions of "reduction" problems as token ids, written many at a time, for pre-training.

Shapes: ``B`` problems of one level, ``N`` numbers in a problem, ``T`` tokens. Problems of one level have prompts and
solutions of one length, so that nothing needs padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.random import Generator

from scope_rlvr.embedded.tokenizer import EOS, ID
from scope_rlvr.problems.family import Split, split_of
from scope_rlvr.problems.reduction import MODULUS, SEPARATOR, identity

Array: TypeAlias = np.ndarray

_LINE_START, _IN_LINE = ID["0"], ID[" 0"]
_USED = MODULUS
"""Stands in for a number that a step has used up: larger than every residue, so that sorting moves it to the end."""


@dataclass(frozen=True)
class Sums:
    """What somebody believes the sums modulo 13 to be.

    ``believed`` (13 x 13, symmetric) is the sum as it was learned, ``is_gap`` says where that is wrong, ``slip_right``
    is the chance that the right sum is written at a gap all the same, and ``gap_weight`` is how readily a pair with a
    gap is chosen, next to 1 for any other pair: people do first what they know.
    """

    believed: Array
    is_gap: Array
    slip_right: float = 0.0
    gap_weight: float = 1.0

    @classmethod
    def right(cls) -> Sums:
        """No gaps."""
        return cls(_true_sums(), np.zeros((MODULUS, MODULUS), dtype=bool))

    @classmethod
    def with_gaps(cls, share: float, seed: int, *, slip_right: float, gap_weight: float) -> Sums:
        """A seeded ``share`` of the 91 unordered pairs has one fixed wrong sum each.

        >>> sums = Sums.with_gaps(0.3, 0, slip_right=0.1, gap_weight=0.5)
        >>> round(float(np.triu(sums.is_gap).sum()) / 91, 2)
        0.3
        >>> bool(np.all((sums.believed != Sums.right().believed) == sums.is_gap))
        True
        """
        rng = np.random.default_rng(seed)
        believed, is_gap = _true_sums(), np.zeros((MODULUS, MODULUS), dtype=bool)
        smaller, larger = np.triu_indices(MODULUS)
        for pair in rng.permutation(len(smaller))[: round(share * len(smaller))]:
            a, b = smaller[pair], larger[pair]
            believed[a, b] = believed[b, a] = (a + b + rng.integers(1, MODULUS)) % MODULUS
            is_gap[a, b] = is_gap[b, a] = True
        return cls(believed, is_gap, slip_right, gap_weight)

    def write(self, a_B: Array, b_B: Array, rng: Generator) -> Array:
        """The sums that get written down for pairs of numbers."""
        is_written_right = ~self.is_gap[a_B, b_B] | (rng.random(len(a_B)) < self.slip_right)
        return np.where(is_written_right, (a_B + b_B) % MODULUS, self.believed[a_B, b_B])


@dataclass(frozen=True)
class Solutions:
    """``ids_BT`` are prompts and completions; ``is_choice_BT`` marks the two numbers that a step chose freely.

    ``step_of_T`` is -1 in the prompt and then the 0-based step that a token belongs to, its separator included.
    """

    ids_BT: Array
    is_choice_BT: Array
    step_of_T: Array


def draw_numbers(level: int, count: int, rng: Generator, split: Split = "train") -> Array:
    """``count`` rows of ``level`` sorted numbers whose problems belong to the split."""
    rows: list[Array] = []
    while len(rows) < count:
        drawn = np.sort(rng.integers(0, MODULUS, (2 * count, level)), axis=1)
        rows += [row for row in drawn if split_of(identity(row.tolist())) == split]
    return np.stack(rows[:count])


def write_solutions(
    numbers_BN: Array,
    sums: Sums,
    rng: Generator,
    *,
    num_random_steps: int | None = None,
    blunder_at_B: Array | None = None,
) -> Solutions:
    """Solve problems in random order (all steps, or the first ``num_random_steps``), then in canonical order.

    ``blunder_at_B`` names a step in each row whose sum is off by some amount, -1 for none.

    >>> from scope_rlvr.embedded.tokenizer import make_tokenizer
    >>> problem = np.array([[3, 5, 7]])
    >>> written = write_solutions(problem, Sums.right(), np.random.default_rng(0), num_random_steps=0)
    >>> make_tokenizer().decode(written.ids_BT[0])
    'reduce 3 5 7\\n\\n3 + 5 = 8 : 7 8\\n\\n7 + 8 = 2 : 2\\n\\nanswer 2<eos>'
    """
    num_rows, level = numbers_BN.shape
    columns: list[Array] = [_column(num_rows, "reduce"), numbers_BN + _IN_LINE, _column(num_rows, SEPARATOR)]
    step_of, choices = [-1] * (level + 2), [False] * (level + 2)
    remaining_BN = numbers_BN
    for step in range(level - 1):
        is_random = num_random_steps is None or step < num_random_steps
        a_B, b_B, remaining_BN = _take_step(remaining_BN, sums, rng, is_random=is_random)
        if blunder_at_B is not None:
            off_B = (remaining_BN[:, 0] + rng.integers(1, MODULUS, num_rows)) % MODULUS
            remaining_BN[:, 0] = np.where(blunder_at_B == step, off_B, remaining_BN[:, 0])
        sum_B, remaining_BN = remaining_BN[:, 0], np.sort(remaining_BN, axis=1)
        columns += [a_B[:, None] + _LINE_START, _column(num_rows, " +"), b_B[:, None] + _IN_LINE]
        columns += [_column(num_rows, " ="), sum_B[:, None] + _IN_LINE, _column(num_rows, " :")]
        columns += [remaining_BN + _IN_LINE, _column(num_rows, SEPARATOR)]
        num_tokens = 7 + remaining_BN.shape[1]
        step_of += [step] * num_tokens
        choices += [is_random and token in (0, 2) for token in range(num_tokens)]
    columns += [_column(num_rows, "answer"), remaining_BN + _IN_LINE, _column(num_rows, EOS)]
    step_of, choices = step_of + [level - 1] * 3, choices + [False] * 3
    ids_BT = np.concatenate(columns, axis=1)
    return Solutions(ids_BT, np.broadcast_to(np.array(choices), ids_BT.shape), np.array(step_of))


@dataclass(frozen=True)
class Altered:
    """Solutions with at most one alteration each; the answer is followed by a separator, as every step is.

    ``first_wrong_B`` is the step that was altered, or the number of steps where none was; ``separators_S`` are the
    positions of the separators after the steps.
    """

    ids_BT: Array
    first_wrong_B: Array
    separators_S: Array


def write_altered(numbers_BN: Array, rng: Generator) -> Altered:
    """Solutions of which two in five have one wrong sum, two in five one number replaced, and one is right.

    >>> altered = write_altered(np.array([[3, 5, 7]] * 100), np.random.default_rng(0))
    >>> sorted(set(altered.first_wrong_B.tolist()))
    [0, 1, 2, 3]
    """
    num_rows, level = numbers_BN.shape
    kind_B = rng.random(num_rows)
    blunder_at_B = np.where(kind_B < 0.4, rng.integers(0, level - 1, num_rows), -1)
    num_random_steps = int(rng.integers(0, level))
    solutions = write_solutions(
        numbers_BN, Sums.right(), rng, num_random_steps=num_random_steps, blunder_at_B=blunder_at_B
    )
    ids_BT, step_of_T = solutions.ids_BT.copy(), solutions.step_of_T
    ids_BT[:, -1] = ID[SEPARATOR]
    is_replaced_B = (kind_B >= 0.4) & (kind_B < 0.8)
    places = np.flatnonzero((step_of_T >= 0) & (ids_BT[0] >= _LINE_START))
    at_B = rng.choice(places, num_rows)
    rows = np.flatnonzero(is_replaced_B)
    old = ids_BT[rows, at_B[rows]]
    base = np.where(old >= _IN_LINE, _IN_LINE, _LINE_START)
    ids_BT[rows, at_B[rows]] = base + (old - base + rng.integers(1, MODULUS, len(rows))) % MODULUS
    first_wrong_B = np.where(is_replaced_B, step_of_T[at_B], np.where(blunder_at_B >= 0, blunder_at_B, level))
    return Altered(ids_BT, first_wrong_B, np.flatnonzero(np.diff(step_of_T, append=level) > 0)[1:])


def _take_step(remaining_BN: Array, sums: Sums, rng: Generator, *, is_random: bool) -> tuple[Array, Array, Array]:
    """Choose a pair in each row; returns its numbers in the order written, and the rows after it, the sum first."""
    num_rows, rows = len(remaining_BN), np.arange(len(remaining_BN))
    first_B, second_B = np.zeros(num_rows, dtype=int), np.ones(num_rows, dtype=int)
    if is_random:
        i, j = np.triu_indices(remaining_BN.shape[1], k=1)
        weights = np.where(sums.is_gap[remaining_BN[:, i], remaining_BN[:, j]], sums.gap_weight, 1.0)
        cumulative = np.cumsum(weights, axis=1)
        pair_B = (cumulative < rng.random((num_rows, 1)) * cumulative[:, -1:]).sum(axis=1)
        is_swapped_B = rng.random(num_rows) < 0.5
        first_B = np.where(is_swapped_B, j[pair_B], i[pair_B])
        second_B = np.where(is_swapped_B, i[pair_B], j[pair_B])
    a_B, b_B = remaining_BN[rows, first_B], remaining_BN[rows, second_B]
    rest_BN = remaining_BN.copy()
    rest_BN[rows, first_B] = rest_BN[rows, second_B] = _USED
    rest_BN = np.sort(rest_BN, axis=1)[:, :-2]
    return a_B, b_B, np.concatenate([sums.write(a_B, b_B, rng)[:, None], rest_BN], axis=1)


def _column(num_rows: int, token: str) -> Array:
    return np.full((num_rows, 1), ID[token])


def _true_sums() -> Array:
    return np.add.outer(np.arange(MODULUS), np.arange(MODULUS)) % MODULUS
