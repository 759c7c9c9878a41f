"""When an evaluation during a run has found what the run is to stop at."""

from __future__ import annotations

import pytest

from scope_rlvr.evaluation.evaluate import EvaluationResult, EvaluationSet
from scope_rlvr.evaluation.measures import Figure
from scope_rlvr.run.monitor import targets_reached


def result(name: str, role: str, accuracy: float, effective: float | None = 0.5) -> EvaluationResult:
    figures = {"avg@8": Figure(accuracy, (0.0, 1.0), 4), "pass@1": Figure(accuracy, (0.0, 1.0), 4)}
    if effective is not None:
        figures["effective_groups"] = Figure(effective, (0.0, 1.0), 4)
    return EvaluationResult(EvaluationSet(name, role, 4, ()), 8, (), figures)


@pytest.mark.parametrize(
    ("stop_at", "results", "expected"),
    [
        ({}, [result("a", "trained", 0.9)], ""),
        ({"pass_at_1": 0.2}, [result("a", "trained", 0.2)], "pass_at_1 0.2 on a"),
        ({"pass_at_1": 0.2}, [result("a", "trained", 0.19)], ""),
        ({"accuracy": 0.2, "effective_groups": 0.6}, [result("a", "trained", 0.3)], ""),
        ({"effective_groups": 0.1}, [result("a", "trained", 0.3, effective=None)], ""),
        # Every trained set has to reach it, and no other has a say.
        ({"accuracy": 0.2}, [result("a", "trained", 0.3), result("b", "trained", 0.1)], ""),
        (
            {"accuracy": 0.2},
            [result("a", "trained", 0.3), result("c", "out of distribution", 0.1)],
            "accuracy 0.3 on a",
        ),
        ({"accuracy": 0.2}, [result("c", "out of distribution", 0.9)], ""),
    ],
)
def test_targets(stop_at: dict[str, float], results: list[EvaluationResult], expected: str) -> None:
    assert targets_reached(stop_at, results) == expected
