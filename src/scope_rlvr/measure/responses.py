"""``scope grade``: responses in a file, judged by a verifier and, as a second opinion, by plain comparison."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.grading.boxes import last_box
from scope_rlvr.grading.plain import plainly_equal
from scope_rlvr.problems.rows import shown_complaints
from scope_rlvr.problems.saved import BadRow, RowReader, SavedRollout, rollout_files
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.verifier import make_verifier
from scope_rlvr.store.folder import environment

GRADES_SCHEMA = 1
_BATCH = 256


@dataclass(frozen=True)
class GradingPlan:
    """What is to be graded, and by what."""

    file: Path
    config: RunConfig
    places: tuple[str, ...]
    attempts: tuple[tuple[Problem, str], ...]


@dataclass(frozen=True)
class GradedResponse:
    """One response with its verdict, and whether a grader without any algebra calls its answer equal to the gold."""

    place: str
    problem: Problem
    verdict: Verdict
    second_says_right: bool

    @property
    def is_disputed(self) -> bool:
        """Whether the verdict is known and the second grader says otherwise."""
        return self.verdict.is_known and self.verdict.is_right != self.second_says_right


def plan_grading(file: Path, kind: str, overrides: Sequence[str] = ()) -> GradingPlan:
    """Read every row and check the verifier; raises :class:`UserError` with the rows that cannot be graded."""
    config = load_config(None, [f"verifier.kind={kind}", *overrides])
    places, attempts, complaints = [], [], []
    for row in RowReader(needs_prompt=False, check=_fault).rows(rollout_files(file)):
        if isinstance(row, BadRow):
            complaints.append(f"{row.place}: {row.why}")
            continue
        places += [rollout.place for rollout in row]
        attempts += [(rollout.problem, rollout.text or "") for rollout in row]
    if complaints:
        raise UserError(
            f"{file} has {len(complaints)} row(s) that cannot be graded:\n{shown_complaints(complaints)}\nmend or remove them"
        )
    if not attempts:
        raise UserError(f"{file} holds no row; give one response a row, with its reference")
    return GradingPlan(file, config, tuple(places), tuple(attempts))


def _fault(rollout: SavedRollout) -> str | None:
    return "no response as text, and token ids alone cannot be judged" if rollout.text is None else None


def grade(
    plan: GradingPlan, on_progress: Callable[[int], None] = lambda num_rows: None
) -> tuple[list[GradedResponse], float]:
    """Every row with its verdicts, in order, and the seconds that the verifier took."""
    verifier = make_verifier(plan.config)
    found: list[GradedResponse] = []
    seconds = 0.0
    for start in range(0, len(plan.attempts), _BATCH):
        attempts = plan.attempts[start : start + _BATCH]
        started = time.monotonic()
        verdicts = verifier.verify(attempts)
        seconds += time.monotonic() - started
        for place, (problem, response), verdict in zip(plan.places[start:], attempts, verdicts, strict=False):
            found.append(GradedResponse(place, problem, verdict, _second(problem, response, verdict)))
        on_progress(len(attempts))
    return found, seconds


def _second(problem: Problem, response: str, verdict: Verdict) -> bool:
    answer = last_box(response).answer if verdict.answer is None else verdict.answer
    return answer is not None and bool(problem.reference.strip()) and plainly_equal(problem.reference, answer)


def reason_code(verdict: Verdict) -> str:
    """The part of a reason that is the same for all responses of a kind.

    >>> reason_code(Verdict(Outcome.UNKNOWN, "9!", "time_out: no verdict within 5 s"))
    'time_out'
    """
    return verdict.reason.partition(":")[0]


def counts(graded: Sequence[GradedResponse]) -> dict[str, Counter[str]]:
    """By outcome, how often each reason was given."""
    found: dict[str, Counter[str]] = {outcome.value: Counter() for outcome in Outcome}
    for row in graded:
        found[row.verdict.outcome.value][reason_code(row.verdict)] += 1
    return found


def record(plan: GradingPlan, graded: Sequence[GradedResponse]) -> dict[str, Any]:
    """The results as docs/formats.md describes them."""
    return {
        "schema": GRADES_SCHEMA,
        "file": str(plan.file),
        "verifier": plan.config.verifier.model_dump(mode="json"),
        "environment": environment(),
        "outcomes": {outcome: dict(sorted(reasons.items())) for outcome, reasons in counts(graded).items()},
        "num_disputed": sum(row.is_disputed for row in graded),
        "rows": [
            {
                "place": row.place,
                "id": row.problem.id,
                "gold": row.problem.reference,
                "answer": row.verdict.answer,
                "outcome": row.verdict.outcome.value,
                "reason": row.verdict.reason,
                "second": "right" if row.second_says_right else "wrong",
            }
            for row in graded
        ],
    }
