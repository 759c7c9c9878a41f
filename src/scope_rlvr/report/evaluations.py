"""Before and after: what a run's summary says about each evaluation set, as text for a table."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scope_rlvr.report.wording import number, percent, plain, signed


@dataclass(frozen=True, slots=True)
class EvaluationMeasure:
    """One measure of one evaluation set, as text; empty where it was not taken. ``trend`` is up, down or even."""

    name: str
    before: str
    after: str
    difference: str
    trend: str
    intervals: tuple[tuple[float, float, float] | None, tuple[float, float, float] | None] = (None, None)
    """For accuracy: value, low and high end of its interval, before and after."""


@dataclass(frozen=True, slots=True)
class EvaluationTable:
    name: str
    role: str
    size: str
    measures: tuple[EvaluationMeasure, ...]


def evaluation_tables(summary: dict[str, Any]) -> list[EvaluationTable]:
    """The evaluation sets of a summary, trained ones first, with what was measured before and after training."""
    before, after = summary.get("before") or {}, summary.get("after") or {}
    known = {**before, **after}
    names = sorted(known, key=lambda name: (known[name].get("role") != "trained", known[name].get("level") or 0, name))
    return [_evaluation_table(name, before.get(name) or {}, after.get(name) or {}) for name in names]


def _evaluation_table(name: str, before: dict[str, Any], after: dict[str, Any]) -> EvaluationTable:
    known = after or before
    size = f"{known.get('num_problems', '?')} problems × {known.get('samples_per_problem', '?')} samples"
    if known.get("level") is not None:
        size = f"level {known['level']}, {size}"
    measures = [_share("accuracy", before, after)]
    # pass@1 is the accuracy.
    passes = {key for key in (*before, *after) if key.startswith("pass_at_") and key != "pass_at_1"}
    measures += [_share(key, before, after) for key in sorted(passes, key=lambda key: (len(key), key))]
    measures += [_share(key, before, after) for key in ("effective_groups", "right_prefix")]
    varied = [before.get("diversity") or {}, after.get("diversity") or {}]
    measures += [_amount(key, *varied) for key in dict.fromkeys([*varied[0], *varied[1]])]
    shown = tuple(measure for measure in measures if measure.before or measure.after)
    return EvaluationTable(name, str(known.get("role", "")), size, shown)


_NAMES = {"effective_groups": "mixed groups", "right_prefix": "failures that begin right"}


def _share(key: str, before: dict[str, Any], after: dict[str, Any]) -> EvaluationMeasure:
    old, new = before.get(key), after.get(key)
    name = _NAMES.get(key) or re.sub(r"^pass_at_(\d+)$", r"pass@\1", key)
    intervals = (_interval(before), _interval(after)) if key == "accuracy" else (None, None)
    if old is None or new is None:
        return EvaluationMeasure(name, _text(old, percent), _text(new, percent), "", "even", intervals)
    points = round((new - old) * 100, 1)
    trend = "up" if points > 0 else "down" if points < 0 else "even"
    return EvaluationMeasure(name, percent(old), percent(new), signed(points, " points"), trend, intervals)


def _amount(key: str, before: dict[str, Any], after: dict[str, Any]) -> EvaluationMeasure:
    """A measure that is not always better when it is higher: its difference has no trend."""
    old, new = before.get(key), after.get(key)
    difference = "" if old is None or new is None else signed(round(new - old, 4))
    return EvaluationMeasure(plain(key), _text(old, number), _text(new, number), difference, "even")


def _text(value: float | None, write: Callable[[float], str]) -> str:
    return "" if value is None else write(value)


def _interval(evaluation: dict[str, Any]) -> tuple[float, float, float] | None:
    accuracy, interval = evaluation.get("accuracy"), evaluation.get("accuracy_interval")
    return None if accuracy is None or not interval else (accuracy, interval[0], interval[1])
