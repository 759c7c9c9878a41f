"""A finished run as one small JSON file: all that tables and plots need, so that run folders may be thrown away.

The format is described in docs/formats.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.run.config import RunConfig
from scope_rlvr.run.outcome import is_done
from scope_rlvr.store.digests import bytes_digest
from scope_rlvr.store.files import write_text
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.journal import read_records
from scope_rlvr.study.plan import PlannedRun, Value

RESULT_SCHEMA = 1
MAX_POINTS = 50
"""Points of a curve that are kept."""

Curve = list[float | None]

_MEANS = (
    "accuracy",
    "pass_at_group",
    "diversity/distinct_right",
    "policy/entropy",
    "rollouts/tokens",
    "groups/zero_advantage",
    "groups/salvaged",
    "gradient/teacher_token_share",
    "gradient/teacher_share",
)
"""Curves of noisy figures: a point is the mean over its steps."""

_TOTALS = ("tokens/sampled", "tokens/teacher", "tokens/continuation", "tokens/scored")
"""Curves of sums so far: a point is the value at the last of its steps."""

_SIGNIFICANT = 5


@dataclass(frozen=True)
class RunResult:
    """What is kept of a run. ``curves`` and ``evaluations`` hold one list a name, all as long as their ``step``."""

    study: str
    arm: str
    value: Value | None
    seed: int
    config: dict[str, Any]
    config_digest: str
    versions: dict[str, str]
    runs_at_once: int | None
    steps: int
    stopped_because: str
    seconds: dict[str, float]
    tokens: dict[str, int]
    salvage: dict[str, int]
    before: dict[str, Any] | None
    after: dict[str, Any]
    curves: dict[str, Curve] = field(default_factory=dict)
    evaluations: dict[str, Curve] = field(default_factory=dict)

    @property
    def policy_tokens(self) -> int:
        """Tokens that the policy sampled while it trained, continuations after corrections included."""
        return self.tokens.get("sampled", 0) + self.tokens.get("continuation", 0)


def condense(run: PlannedRun, folder: RunFolder, study: str, runs_at_once: int | None) -> RunResult:
    """A finished run folder as a :class:`RunResult`; raises :class:`UserError` where the run has not finished."""
    summary = folder.read_json("summary.json")
    if not is_finished(folder, run.config):
        raise UserError(f"{folder.path} has not finished: {(summary or {}).get('stopped_because', 'no summary')}")
    assert summary is not None, "a finished run has a summary"
    records = list(read_records(folder.metrics))
    training = math.fsum(record.get("seconds/step", 0.0) for record in records)
    return RunResult(
        study=study,
        arm=run.cell.arm,
        value=run.cell.value,
        seed=run.seed,
        config=run.config.model_dump(mode="json"),
        config_digest=config_digest(run.config),
        versions=folder.read_json("environment.json") or {},
        runs_at_once=runs_at_once,
        steps=summary["steps"],
        stopped_because=summary["stopped_because"],
        seconds={"training": round(training, 1), "total": round(summary["seconds"], 1)},
        tokens=summary["tokens"],
        salvage=summary["salvage"],
        before=_rounded(summary["before"]),
        after=_rounded(summary["after"]),
        curves=_curves(records),
        evaluations=_evaluations(records),
    )


def is_finished(folder: RunFolder, config: RunConfig) -> bool:
    """Whether a run has come to its end and was measured there."""
    summary = folder.read_json("summary.json")
    return summary is not None and is_done(summary, config.run.steps)


def config_digest(config: RunConfig) -> str:
    """Sixteen hex digits that are equal for runs that differ in nothing but their seed."""
    values = config.model_dump(mode="json")
    del values["run"]["seed"]
    return bytes_digest([json.dumps(values, sort_keys=True).encode()])[:16]


def _curves(records: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    """Per-step figures on a common grid of at most :data:`MAX_POINTS` stretches, each named by its last step."""
    stretches = _stretches(records)
    curves: dict[str, Curve] = {"step": [stretch[-1]["step"] for stretch in stretches]}
    for name in _MEANS:
        curves[name] = [_mean(stretch, name) for stretch in stretches]
    for name in _TOTALS:
        curves[name] = [stretch[-1].get(name) for stretch in stretches]
    curves["salvage/rate"] = [_ratio(stretch, "salvage/admitted", "salvage/attempted") for stretch in stretches]
    curves["seconds"] = _running_sum([math.fsum(r.get("seconds/step", 0.0) for r in s) for s in stretches])
    return _known(curves)


def _stretches(records: Sequence[dict[str, Any]]) -> list[Sequence[dict[str, Any]]]:
    """Neighbouring steps together, as evenly as can be.

    >>> [len(stretch) for stretch in _stretches([{}] * 120)][:4]
    [2, 2, 3, 2]
    """
    num_points = min(len(records), MAX_POINTS)
    bounds = [i * len(records) // num_points for i in range(num_points + 1)] if num_points else [0]
    return [records[start:end] for start, end in pairwise(bounds)]


def _mean(stretch: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [record[name] for record in stretch if name in record]
    return fmean(values) if values else None


def _ratio(stretch: Sequence[dict[str, Any]], part: str, whole: str) -> float | None:
    wholes = math.fsum(record.get(whole, 0.0) for record in stretch)
    return math.fsum(record.get(part, 0.0) for record in stretch) / wholes if wholes else None


def _running_sum(values: Sequence[float]) -> Curve:
    return [math.fsum(values[: i + 1]) for i in range(len(values))]


def _evaluations(records: Sequence[dict[str, Any]]) -> dict[str, Curve]:
    """Evaluations during the run, with the tokens spent until then; every other one where there are too many."""
    measured = [record for record in records if any(key.startswith("eval/") for key in record)]
    while len(measured) > MAX_POINTS:
        measured = measured[::-2][::-1]  # the last one stays
    names = sorted({key for record in measured for key in record if key.startswith("eval/")})
    curves: dict[str, Curve] = {"step": [record["step"] for record in measured]}
    curves |= {name: [record.get(name) for record in measured] for name in _TOTALS}
    curves |= {name.removeprefix("eval/"): [record.get(name) for record in measured] for name in names}
    return _known(curves) if measured else {}


def _known(curves: dict[str, Curve]) -> dict[str, Curve]:
    """Without curves that were never measured."""
    return {name: _rounded(values) for name, values in curves.items() if any(v is not None for v in values)}


def _rounded(value: Any) -> Any:
    """Numbers with as many digits as anybody reads."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    if not isinstance(value, float):
        return value
    if value.is_integer():
        return int(value)
    return float(f"{value:.{_SIGNIFICANT}g}") if abs(value) < 10**_SIGNIFICANT else round(value)


def write_result(result: RunResult, file: Path) -> None:
    """Write a result whole or not at all, one key or curve a line, so that a changed one is a short difference."""
    lines = [f'"schema": {RESULT_SCHEMA}']
    for name, value in vars(result).items():
        if name in ("curves", "evaluations"):
            inner = ",\n".join(f"  {json.dumps(key)}: {_compact(curve)}" for key, curve in value.items())
            lines.append(f'"{name}": {{\n{inner}\n}}' if inner else f'"{name}": {{}}')
        else:
            lines.append(f'"{name}": {_compact(value)}')
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, "{\n" + ",\n".join(lines) + "\n}\n")


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def read_result(file: Path) -> RunResult:
    """Read a result; fields of later versions are left out, another schema is refused."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if values.get("schema") != RESULT_SCHEMA:
            raise UserError(
                f"{file} has schema {values.get('schema')!r} and this version reads {RESULT_SCHEMA}; "
                "remove it to have the run done again"
            )
        return RunResult(**{name: values[name] for name in RunResult.__dataclass_fields__ if name in values})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is no result of a run: {error}; remove it to have the run done again") from error
