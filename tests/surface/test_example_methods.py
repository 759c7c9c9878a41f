"""The methods in examples/methods run from their TOML files as a user would run them, and do what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from scope_rlvr.core.errors import ExitCode
from scope_rlvr.store.rollouts import Rollouts
from tests.surface.conftest import Scope

FOLDER = Path(__file__).parent.parent.parent / "examples" / "methods"
NAMES = sorted(file.stem for file in FOLDER.glob("*.py"))
SMALL = [
    "run.steps=3", "run.problems_per_step=4", "run.rollouts_per_problem=4", "run.checkpoint_every=3", "problems.level=3",
    "evaluation.before=false", "evaluation.num_problems=2", "evaluation.samples_per_problem=2", "scorer.model=none",
    "teacher.model=none",
]  # fmt: skip


def test_there_are_six_and_each_is_short() -> None:
    assert len(NAMES) == 6
    for name in NAMES:
        assert len((FOLDER / f"{name}.py").read_text().splitlines()) <= 60
        assert (FOLDER / f"{name}.toml").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_from_its_file(scope: Scope, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(FOLDER)
    out = tmp_path / "run"
    sets = [part for key in SMALL for part in ("--set", key)]
    done = scope("train", f"{name}.toml", "--out", str(out), *sets)
    assert done.code == ExitCode.OK, done.err
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in metrics] == [1, 2, 3]
    checkpoint = out / "checkpoints" / "checkpoint-3"
    memory = json.loads((checkpoint / "method.json").read_text())
    rollouts = list(Rollouts.of(out))
    if name in ("hall_of_fame", "half_solved"):
        assert memory[name]
    if name == "half_solved":
        last = {record["problem"] for record in rollouts if record["step"] == 3}
        assert last & {record["problem"] for record in rollouts if record["step"] < 3}, "nothing came back"
    if name == "step_tree":
        assert {record["role"] for record in rollouts} == {"branched"}
    if name == "success_head":
        for file in (out / "model" / "heads.safetensors", checkpoint / "method.safetensors"):
            assert any("success/" in name for name in load_file(file))
