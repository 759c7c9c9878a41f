"""From results to figures: what each arm reached, how arms differ, and at what price. Nothing here writes words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from scope_rlvr.formulas.diagnostics import collapse_step, entropy_fit, support_change
from scope_rlvr.study.plan import Cell, Study
from scope_rlvr.study.results import Curve, RunResult
from scope_rlvr.study.statistics import (
    Interval,
    PairedDifference,
    first_reached,
    holm,
    interpolate,
    mean_interval,
    paired_difference,
    relative_change,
    smoothed,
)

TABLE_SCHEMA = 1

_TOKEN_GRID_POINTS = 25
_SHARE = re.compile(r"accuracy|(pass|maj|avg)_at_\d+")

Extract = Callable[[RunResult], Mapping[str, float]]


@dataclass(frozen=True)
class MeanCurve:
    """The mean over seeds with its interval, point by point."""

    xs: tuple[float, ...]
    points: tuple[Interval, ...]


@dataclass(frozen=True)
class Comparison:
    """``reference − other`` in one measure."""

    reference: Cell
    other: Cell
    measure: str
    difference: PairedDifference
    relative: Interval | None
    tokens: float | None = None
    """Where it was read, if not after the last step."""
    holm_t: float | None = None
    holm_sign_flip: float | None = None


@dataclass
class Analysis:
    """All figures of a study. ``results`` holds every planned run that has finished, by cell."""

    study: Study
    results: dict[Cell, dict[int, RunResult]]
    failed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def cells(self) -> list[Cell]:
        """Cells with a finished run, in the order of the file."""
        return [cell for cell in self.study.cells if self.results.get(cell)]

    @property
    def all_results(self) -> list[RunResult]:
        return [result for cell in self.cells for result in self.results[cell].values()]

    # --- measures --------------------------------------------------------------------------------------------------

    @property
    def sets(self) -> dict[str, dict[str, Any]]:
        """Evaluation sets by name, in the order of their levels, trained ones first, with role and size."""
        found = {name: record for result in self.all_results for name, record in result.after.items()}
        order = sorted(found, key=lambda n: (found[n].get("role") != "trained", found[n].get("level") or 0, n))
        return {name: found[name] for name in order}

    def measures_of(self, set_name: str) -> list[str]:
        """Measures of an evaluation set that some run has: accuracy first, then pass@k, then diversity."""
        names = {n for result in self.all_results for n in measures_after(result) if n.startswith(f"{set_name}/")}
        return sorted(names, key=_measure_order)

    @property
    def headlines(self) -> list[str]:
        """Of every evaluation set the accuracy and the pass@k with the largest k: what is drawn and compared."""
        found = []
        for set_name in self.sets:
            names = self.measures_of(set_name)
            found += [name for name in names if name.endswith("/accuracy")]
            found += [name for name in names if "/pass_at_" in name][-1:]
        return found

    def table(self, extract: Extract) -> dict[Cell, dict[str, Interval]]:
        """Means over seeds of what ``extract`` takes from each result."""
        return {cell: _intervals(map(extract, self.results[cell].values())) for cell in self.cells}

    # --- comparisons -----------------------------------------------------------------------------------------------

    @property
    def pairs(self) -> list[tuple[Cell, Cell]]:
        """The reference beside each other arm, at equal values of the sweep where both have one."""
        references = [cell for cell in self.cells if cell.arm == self.study.reference]
        others = [cell for cell in self.cells if cell.arm != self.study.reference]
        return [(r, o) for o in others for r in references if r.value == o.value or None in (r.value, o.value)]

    def comparisons(self, measure: str, *, at_equal_tokens: bool = False) -> list[Comparison]:
        """Paired differences in one measure over common seeds; Holm's correction is over these comparisons.

        After the last step, or where both arms had sampled as many tokens.
        """
        found = []
        for reference, other in self.pairs:
            tokens = self.common_tokens([reference, other]) if at_equal_tokens else None
            if at_equal_tokens and tokens is None:
                continue
            extract = measures_after if tokens is None else at_tokens(tokens)
            one, two = self._paired(reference, other, measure, extract)
            if one:
                difference, relative = paired_difference(one, two), relative_change(one, two)
                found.append(Comparison(reference, other, measure, difference, relative, tokens))
        return _corrected(found)

    def _paired(self, one: Cell, other: Cell, measure: str, extract: Extract) -> tuple[list[float], list[float]]:
        """Values of two cells by the seeds in which both have one."""
        ours, theirs = (
            {seed: v for seed, result in self.results[cell].items() if (v := extract(result).get(measure)) is not None}
            for cell in (one, other)
        )
        common = sorted(ours.keys() & theirs.keys())
        return [ours[seed] for seed in common], [theirs[seed] for seed in common]

    # --- equal tokens ----------------------------------------------------------------------------------------------

    def common_tokens(self, cells: Sequence[Cell]) -> float | None:
        """The largest number of sampled tokens that every run of these cells had spent at an evaluation.

        ``None`` where a run has no evaluation, or sampled nothing at all.
        """
        spent = [policy_tokens(result.evaluations) for cell in cells for result in self.results[cell].values()]
        last = [tokens[-1] for tokens in spent if tokens and tokens[-1]]
        return min(last) if last and len(last) == len(spent) else None

    @property
    def sampling_cells(self) -> list[Cell]:
        """Cells that can be read at some number of sampled tokens."""
        return [cell for cell in self.cells if self.common_tokens([cell]) is not None]

    # --- curves ----------------------------------------------------------------------------------------------------

    def curve(self, cell: Cell, name: str, *, over_tokens: bool = False) -> MeanCurve | None:
        """A figure over steps, or over sampled tokens, averaged over the seeds of a cell."""
        lines = [_line(result, name, over_tokens) for result in self.results[cell].values()]
        lines = [line for line in lines if line]
        if not lines:
            return None
        if over_tokens:
            return _on_common_grid(lines)
        xs = sorted({x for line in lines for x in line})
        return MeanCurve(tuple(xs), tuple(mean_interval([line[x] for line in lines if x in line]) for x in xs))

    def steps_to_reach(self, measure: str) -> dict[Cell, dict[Cell, float | None]]:
        """By target and arm: the step at which the arm's smoothed mean curve first reaches where the target's ends."""
        curves = {cell: curve for cell in self.cells if (curve := self.curve(cell, measure)) is not None}
        smooth = {cell: smoothed([point.mean for point in curve.points]) for cell, curve in curves.items()}
        return {
            target: {cell: first_reached(curves[cell].xs, smooth[cell], smooth[target][-1]) for cell in curves}
            for target in curves
        }

    # --- everything ------------------------------------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """All figures as plain values, for ``table.json``."""
        tokens = self.common_tokens(self.sampling_cells)
        after, spent, reached = self.table(measures_after), self.table(budgets), self.table(reach)
        equal = self.table(at_tokens(tokens)) if tokens is not None else {}
        measures = [name for set_name in self.sets for name in self.measures_of(set_name)]
        return {
            "schema": TABLE_SCHEMA,
            "study": self.study.name,
            "reference": self.study.reference,
            "primary": self.study.primary,
            "arms": [
                {
                    "id": cell.id,
                    "arm": cell.arm,
                    "label": cell.label,
                    "value": cell.value,
                    "seeds": sorted(self.results[cell]),
                    "after": _interval_records(after[cell]),
                    "budgets": _interval_records(spent[cell]),
                    "reach": _interval_records(reached[cell]),
                    "at_common_tokens": _interval_records(equal.get(cell, {})),
                }
                for cell in self.cells
            ],
            "common_tokens": tokens,
            "differences": [_comparison_record(c) for name in measures for c in self.comparisons(name)],
            "differences_at_equal_tokens": [
                _comparison_record(c) | {"tokens": c.tokens}
                for name in measures
                for c in self.comparisons(name, at_equal_tokens=True)
            ],
            "steps_to_reach": {
                target.id: {cell.id: step for cell, step in steps.items()}
                for target, steps in self.steps_to_reach(self.study.primary).items()
            },
            "failed": [{"run": run, "reason": reason} for run, reason in self.failed],
        }


def measures_after(result: RunResult) -> dict[str, float]:
    """What was measured after the last step, as ``<set>/<measure>``; pass@1 is the accuracy."""
    found: dict[str, float] = {}
    for set_name, record in result.after.items():
        shares = {key: value for key, value in record.items() if _SHARE.fullmatch(key) and key != "pass_at_1"}
        diversity = {f"diversity/{key}": value for key, value in (record.get("diversity") or {}).items()}
        numbers = {k: v for k, v in (shares | diversity).items() if isinstance(v, int | float)}
        found |= {f"{set_name}/{key}": float(value) for key, value in numbers.items()}
    return found


def budgets(result: RunResult) -> dict[str, float]:
    """What a run has spent, in each currency, and what its salvages came to."""
    found = {
        "steps": float(result.steps),
        "tokens/policy": float(result.policy_tokens),
        "tokens/teacher": float(result.tokens.get("teacher", 0)),
        "seconds/training": result.seconds["training"],
    }
    if scored := result.tokens.get("scored"):
        found["tokens/scored"] = float(scored)
    if attempted := result.salvage.get("attempted"):
        found["salvage/rate"] = result.salvage["admitted"] / attempted
    return found


def reach(result: RunResult) -> dict[str, float]:
    """What training did to the policy's reach, see :mod:`scope_rlvr.formulas.diagnostics`: the fit of accuracy by entropy over the
    run, the share of seeds that collapsed, and the change of support where the policy was measured before the run, too."""
    entropy, accuracy = result.curves.get("policy/entropy", []), result.curves.get("accuracy", [])
    known = [(h, a) for h, a in zip(entropy, accuracy, strict=False) if h is not None and a is not None]
    found: dict[str, float] = {}
    if (fit := entropy_fit([h for h, _ in known], [a for _, a in known])) is not None:
        found |= {"entropy/slope": fit.a, "entropy/ceiling": fit.ceiling, "entropy/r_squared": fit.r_squared}
    if known:
        found["collapsed"] = float(collapse_step([a for _, a in known]) is not None)
    for name, after in result.after.items():
        before = (result.before or {}).get(name, {})
        if before.get("num_right") and after.get("num_right"):
            samples = after["samples_per_problem"]
            counts = [[(samples, right) for right in record["num_right"]] for record in (before, after)]
            change = support_change(*counts)
            rates = {"retention": change.retention, "discovery": change.discovery, "net": change.net}
            found |= {f"{name}/{kind}": rate for kind, rate in rates.items() if not math.isnan(rate)}
    return found


def at_tokens(tokens: float) -> Extract:
    """Reads a run's evaluations during training where it had sampled so many tokens, straight between two of them."""

    def extract(result: RunResult) -> dict[str, float]:
        spent = policy_tokens(result.evaluations)
        read = {name: _read(spent, result.evaluations[name], tokens) for name in _evaluated(result)}
        return {name: value for name, value in read.items() if value is not None}

    return extract


def is_share(measure: str) -> bool:
    """Whether a measure is read in percent."""
    return bool(_SHARE.fullmatch(measure.rpartition("/")[2]))


def policy_tokens(curves: Mapping[str, Curve]) -> Curve:
    """Tokens that the policy had sampled by each point, continuations included."""
    sampled, continued = curves.get("tokens/sampled", []), curves.get("tokens/continuation", [])
    continued = continued or [0.0] * len(sampled)
    return [None if a is None else a + (b or 0.0) for a, b in zip(sampled, continued, strict=True)]


def _evaluated(result: RunResult) -> list[str]:
    return [name for name in result.evaluations if name != "step" and not name.startswith("tokens/")]


def _read(xs: Curve, ys: Curve, at: float) -> float | None:
    points = [(x, y) for x, y in zip(xs, ys, strict=True) if x is not None and y is not None]
    return interpolate([x for x, _ in points], [y for _, y in points], at)


def _line(result: RunResult, name: str, over_tokens: bool) -> dict[float, float]:
    """The known points of one run's curve; evaluations come before what was measured at every step."""
    curves = result.evaluations if name in result.evaluations else result.curves
    if name not in curves:
        return {}
    xs = policy_tokens(curves) if over_tokens else curves["step"]
    return {x: y for x, y in zip(xs, curves[name], strict=True) if x is not None and y is not None}


def _on_common_grid(lines: Sequence[dict[float, float]]) -> MeanCurve | None:
    """Runs that spent different numbers of tokens, read at the same ones, as far as all of them went."""
    start, end = max(min(line) for line in lines), min(max(line) for line in lines)
    if start > end:
        return None
    grid = np.linspace(start, end, _TOKEN_GRID_POINTS)
    heights = [np.interp(grid, list(line), list(line.values())) for line in lines]
    points = [mean_interval([float(height[i]) for height in heights]) for i in range(len(grid))]
    return MeanCurve(tuple(map(float, grid)), tuple(points))


def _intervals(rows: Iterable[Mapping[str, float]]) -> dict[str, Interval]:
    rows = list(rows)
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: mean_interval([row[name] for row in rows if name in row]) for name in names}


def _corrected(comparisons: list[Comparison]) -> list[Comparison]:
    """With Holm's correction over all comparisons that could be tested."""
    tested = [c for c in comparisons if c.difference.p_t is not None]
    by_t = iter(holm([c.difference.p_t or 0.0 for c in tested]))
    by_flip = iter(holm([c.difference.p_sign_flip or 0.0 for c in tested]))
    return [replace(c, holm_t=next(by_t), holm_sign_flip=next(by_flip)) if c in tested else c for c in comparisons]


def _measure_order(name: str) -> tuple[int, int, str]:
    """Accuracy, pass@k by k, other shares, diversity."""
    last = name.rpartition("/")[2]
    k = re.search(r"\d+$", last)
    kind = 0 if last == "accuracy" else 1 if last.startswith("pass_at_") else 2 if is_share(name) else 3
    return kind, int(k.group()) if k else 0, last


def _interval_records(intervals: Mapping[str, Interval]) -> dict[str, Any]:
    return {name: _interval_record(interval) for name, interval in intervals.items()}


def _interval_record(interval: Interval) -> dict[str, Any]:
    return {"mean": interval.mean, "low": interval.low, "high": interval.high, "num_seeds": interval.num_seeds}


def _comparison_record(comparison: Comparison) -> dict[str, Any]:
    found = comparison.difference
    relative = comparison.relative
    return {
        "reference": comparison.reference.id,
        "other": comparison.other.id,
        "measure": comparison.measure,
        **_interval_record(found.interval),
        "p_t": found.p_t,
        "p_sign_flip": found.p_sign_flip,
        "holm_t": comparison.holm_t,
        "holm_sign_flip": comparison.holm_sign_flip,
        "relative": None if relative is None else _interval_record(relative),
    }
