"""Every command and every snippet of the README runs as it stands there (with fewer steps)."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.teachers.local import LocalTeacher
from tests.engine.conftest import grpo_config, load_policy
from tests.surface.conftest import run_scope

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, block in BLOCKS
    if kind == "bash"
    for line in block.splitlines()
    if line.strip()
]
FEWER = [
    "--steps",
    "2",
    "--set",
    "run.problems_per_step=2",
    "--set",
    "evaluation.num_problems=2",
    "--set",
    "evaluation.samples_per_problem=2",
]
INSTALLING = ("pip install", "make ")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "NAME"
    ended = run_scope("train", *FEWER, "--out", folder)
    assert ended.code == 0, ended.err
    return folder


def test_the_readme_has_commands() -> None:
    assert len([c for c in COMMANDS if c.startswith("scope ")]) >= 7
    assert [c for c in COMMANDS if not c.startswith(("scope ", *INSTALLING))] == []


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.startswith("scope ")}))
def test_a_command_runs(command: str, finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    arguments = [word.replace("runs/NAME", str(finished_run)) for word in shlex.split(command)[1:]]
    if "--resume" in arguments:
        # As if the run had been killed before its report.
        (finished_run / "report.html").unlink()
    elif arguments[0] == "train":
        arguments += FEWER
    ended = run_scope(*arguments, draws=arguments[0] == "report")
    assert ended.code == 0, ended.err
    assert ended.out.strip()


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.startswith("make ")}))
def test_a_make_target_exists(command: str) -> None:
    planned = subprocess.run(
        [*shlex.split(command), "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert planned.returncode == 0, planned.stderr


def test_the_python_snippet_trains(tmp_path: Path) -> None:
    (snippet,) = [block for kind, block in BLOCKS if kind == "python"]
    model, tokenizer = load_policy()
    teacher, _ = load_policy()
    codec = TokenizerCodec(tokenizer)
    rows = [{"prompt": f"reduce {i} {i + 1} 5\n\n", "reference": str((2 * i + 6) % 13)} for i in range(8)]
    world: dict[str, Any] = {
        "model": model,
        "tokenizer": tokenizer,
        "grpo_config": grpo_config(tmp_path, max_steps=1),
        "dataset": Dataset.from_list(rows),
        "verifier": FinalAnswerVerifier(),
        "step_scorer": load_scorer(ScorerSection()),
        "teacher": LocalTeacher(LocalModel(teacher, codec), codec),
    }
    exec(compile(snippet, "README.md", "exec"), world)
    assert world["trainer"].state.global_step == 1


def test_the_example_script_runs(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["trl_script.py", "2"])
    runpy.run_path(str(ROOT / "examples" / "trl_script.py"), run_name="__main__")
    assert "accuracy of plain rollouts" in capsys.readouterr().out


def test_files_named_in_the_readme_exist() -> None:
    named = re.findall(r"\]\(((?!http)[^)]+)\)", README)
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
