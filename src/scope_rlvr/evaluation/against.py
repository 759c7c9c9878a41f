"""One measured policy against another on the same problems, as ``scope eval --against`` does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.evaluation.evaluate import EvaluationResult
from scope_rlvr.formulas.diagnostics import Counts, Shift, SupportChange, crossing, shifts_by_start, support_change


@dataclass(frozen=True)
class Earlier:
    """An evaluation that was written by ``scope eval --out``: of each set, the samples and the right ones by problem."""

    path: Path
    counts: dict[str, dict[str, tuple[int, int]]]

    @classmethod
    def read(cls, path: Path) -> Earlier:
        """Raises :class:`UserError` for a file that is no evaluation."""
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            counts = {
                found["name"]: {
                    problem["id"]: (int(found["samples_per_problem"]), int(problem["num_right"]))
                    for problem in found["problems"]
                }
                for found in record["sets"]
            }
        except OSError as error:
            raise UserError(f"--against {path} cannot be read: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UserError(
                f"--against {path} is no file of scope eval --out: {type(error).__name__}: {error}"
            ) from error
        return cls(path, counts)

    def require(self, name: str, samples: int, problem_ids: Sequence[str]) -> None:
        """Raise :class:`UserError` where a set cannot be compared: other problems, or another number of samples."""
        known = self.counts.get(name)
        if known is None:
            raise UserError(f"--against {self.path} has no set {name!r}; it has {', '.join(self.counts) or 'none'}")
        if set(known) != set(problem_ids):
            raise UserError(
                f"--against {self.path}: the set {name!r} has other problems there ({len(known)}, {len(problem_ids)} here); "
                "measure both models with equal --problems, --num-problems, --split and --problems-block"
            )
        if {n for n, _ in known.values()} != {samples}:
            there = min(n for n, _ in known.values())
            raise UserError(
                f"--against {self.path}: {name!r} has {there} samples a problem there and {samples} here; give --samples {there}"
            )


@dataclass(frozen=True)
class SetComparison:
    """What changed on one set. ``crossing`` is the smallest k at which the earlier policy's pass@k is higher."""

    name: str
    support: SupportChange
    crossing: int | None
    shifts: tuple[Shift, ...]

    def record(self) -> dict[str, Any]:
        """As ``scope eval --out`` writes it."""
        rates = {name: getattr(self.support, name) for name in ("retention", "discovery", "score", "net")}
        return {
            "name": self.name,
            "support": asdict(self.support) | {name: None if rate != rate else rate for name, rate in rates.items()},
            "pass_at_k_crossing": self.crossing,
            "shifts": [asdict(shift) for shift in self.shifts],
        }


def compare(earlier: Earlier, results: Sequence[EvaluationResult]) -> list[SetComparison]:
    """The comparison of each set that was measured."""
    return [_compared(result.name, *_counts(earlier, result)) for result in results]


def _counts(earlier: Earlier, result: EvaluationResult) -> tuple[Counts, Counts]:
    known = earlier.counts[result.name]
    now = [(result.samples_per_problem, measured.num_right) for measured in result.measured]
    return [known[measured.problem.id] for measured in result.measured], now


def _compared(name: str, start: Counts, now: Counts) -> SetComparison:
    return SetComparison(name, support_change(start, now), crossing(start, now), tuple(shifts_by_start(start, now)))
