"""Result files of a study without a training run: learning curves by formula, seeds by noise."""

from __future__ import annotations

import math
from pathlib import Path
from random import Random
from typing import Any

from scope_rlvr.study.folder import StudyFolder
from scope_rlvr.study.plan import PlannedRun, Study, load_study
from scope_rlvr.study.results import RunResult, config_digest, write_result

STUDY = """
name = "example"
title = "SCOPE, LUFFY and GRPO by formula"
reference = "scope"
seeds = [1, 2, 3, 4, 5]
[base]
run.steps = 200
evaluation.every = 20
evaluation.num_problems = 100
[arms.scope]
label = "SCOPE"
method = "scope"
[arms.luffy]
label = "LUFFY"
method = "luffy"
[arms.grpo]
label = "GRPO"
method = "grpo"
"""
_GAIN = {"scope": 0.55, "luffy": 0.48, "grpo": 0.3}
_TEACHER_TOKENS = {"scope": 60, "luffy": 400, "grpo": 0}


def make_study(folder: Path, text: str = STUDY, *, num_missing: int = 0) -> tuple[Study, StudyFolder]:
    """Write a study file and the results of all its runs but the last ``num_missing``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "example.toml"
    file.write_text(text, encoding="utf-8")
    study, out = load_study(file), StudyFolder.at(folder / "study")
    for run in study.runs[: len(study.runs) - num_missing]:
        write_result(make_result(run), out.result_file(run))
    return study, out


def make_result(run: PlannedRun) -> RunResult:
    """A result as a run of this arm might have left it; the same run gives the same result."""
    rng, steps = Random(run.id), run.config.run.steps
    gain = _GAIN[run.cell.arm] * (1 - 0.6 * run.cell.value if isinstance(run.cell.value, float) else 1)
    gain += rng.gauss(0, 0.02)
    every = list(range(4, steps + 1, 4))
    evaluated = list(range(20, steps + 1, 20))
    sampled = {step: 3400 * step + rng.randrange(900) for step in every}
    teacher = _TEACHER_TOKENS[run.cell.arm]
    admitted = 6 * steps if run.cell.arm == "scope" else 0
    return RunResult(
        study="example",
        arm=run.cell.arm,
        value=run.cell.value,
        seed=run.seed,
        config=run.config.model_dump(mode="json"),
        config_digest=config_digest(run.config),
        versions={"torch": "2.13.0", "code": "0123456789ab"},
        runs_at_once=2,
        steps=steps,
        stopped_because="finished",
        seconds={"training": 100 + rng.uniform(0, 9), "total": 160.0},
        tokens={"sampled": sampled[steps], "teacher": teacher * steps, "continuation": admitted * 8},
        salvage={"failures": 20 * steps, "attempted": 8 * steps if admitted else 0, "admitted": admitted},
        before=None,
        after={name: _evaluation(level, role, _reached(gain, level, steps), rng) for name, level, role in _SETS},
        curves={
            "step": [*every],
            "accuracy": [_reached(gain, 6, step) + rng.gauss(0, 0.03) for step in every],
            "policy/entropy": [0.1 + 0.2 * math.exp(-step / 90) + rng.gauss(0, 0.005) for step in every],
            "tokens/sampled": [sampled[step] for step in every],
            "tokens/continuation": [48 * step if admitted else 0 for step in every],
            **({"salvage/rate": [0.7 + rng.gauss(0, 0.05) for _ in every]} if admitted else {}),
            **({"gradient/teacher_token_share": [0.02 for _ in every]} if teacher else {}),
        },
        evaluations=_evaluations(gain, evaluated, sampled, bool(admitted), rng),
    )


_SETS = (
    ("reduction-6", 6, "trained"),
    ("reduction-9", 9, "out of distribution"),
    ("reduction-10", 10, "out of distribution"),
)


def _reached(gain: float, level: int, step: int) -> float:
    return 0.3 * 6 / level + gain * (6 / level) ** 2 * (1 - math.exp(-step / 70))


def _evaluation(level: int, role: str, accuracy: float, rng: Random) -> dict[str, Any]:
    accuracy += rng.gauss(0, 0.01)
    return {
        "role": role,
        "level": level,
        "num_problems": 100,
        "samples_per_problem": 8,
        "accuracy": accuracy,
        "accuracy_interval": [accuracy - 0.04, accuracy + 0.04],
        "pass_at_1": accuracy,
        "pass_at_8": min(1.0, accuracy + 0.2),
        "diversity": {"text_bleu": 0.8 - 0.2 * accuracy, "distinct_right_solutions": 5 * accuracy},
        "num_unknown": 0,
        "num_truncated": 0,
    }


def _evaluations(
    gain: float, steps: list[int], sampled: dict[int, int], has_continuations: bool, rng: Random
) -> dict[str, list[float | None]]:
    curves: dict[str, list[float | None]] = {"step": [*steps], "tokens/sampled": [sampled[step] for step in steps]}
    curves["tokens/continuation"] = [48 * step if has_continuations else 0 for step in steps]
    for name, level, role in _SETS:
        points = [_evaluation(level, role, _reached(gain, level, step), rng) for step in steps]
        for key in ("accuracy", "pass_at_8"):
            curves[f"{name}/{key}"] = [point[key] for point in points]
        curves[f"{name}/diversity/text_bleu"] = [point["diversity"]["text_bleu"] for point in points]
    return curves
