"""The commands and the example of CONTRIBUTING.md work, and the hooks before a commit are there."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scope_rlvr import METHODS, Group, Member, Origin, Outcome, Problem, Rollout, Segment, Verdict
from scope_rlvr.formulas.advantages import Normalisation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True) for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line
]
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]


def commands(first: str) -> list[list[str]]:
    """The rest of every command that begins with this word."""
    return [command[1:] for command in COMMANDS if Path(command[0]).name == first]


def test_every_command_is_of_a_kind_that_is_tested() -> None:
    assert {Path(command[0]).name for command in COMMANDS} == {"make", "scope", "pytest", "python"}


@pytest.mark.parametrize("arguments", commands("make"), ids=" ".join)
def test_a_make_target_exists(arguments: list[str]) -> None:
    planned = subprocess.run(["make", *arguments, "--dry-run"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert planned.returncode == 0, planned.stderr


@pytest.mark.parametrize("arguments", commands("scope"), ids=" ".join)
def test_a_command_runs(
    arguments: list[str], scope: Callable[..., Any], small: Callable[..., list[str]], tmp_path: Path
) -> None:
    fewer = [*small(), "--out", str(tmp_path / "run")] if arguments[0] == "train" else []
    ended = scope(*arguments, *fewer)
    assert ended.code == 0, ended.err


@pytest.mark.parametrize("arguments", commands("pytest"), ids=" ".join)
def test_tests_are_found(arguments: list[str]) -> None:
    assert all((ROOT / path).exists() for path in arguments)


@pytest.mark.parametrize("arguments", commands("python"), ids=" ".join)
def test_a_tool_can_be_run(arguments: list[str]) -> None:
    module = arguments[1] if arguments[0] == "-m" else arguments[0].removesuffix(".py").replace("/", ".")
    source = inspect.getsource(importlib.import_module(module))
    assert 'if __name__ == "__main__":' in source


def test_the_example_of_a_part_can_be_added_to_a_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = [block for kind, block in BLOCKS if kind == "python"]
    (tmp_path / "my_parts.py").write_text(example)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    place = re.search(r'method\.parts=\["([\w.:]+)"\]', PAGE)
    assert place is not None
    method = METHODS["grpo"](parts=(place[1],))

    def member(outcome: Outcome) -> Member:
        return Member(Rollout((1,), (Segment((7, 2), Origin.POLICY),)), Verdict(outcome))

    group = Group(Problem("p", "?", "1"), (member(Outcome.RIGHT), member(Outcome.WRONG)))
    (streams_G,) = method.credit([group], [[1.0, 0.0]], Normalisation.NONE)
    assert [streams.advantage_T for streams in streams_G] == [(0.5, 0.5), (-0.25, -0.25)]


def test_hooks_are_our_own_and_check_what_make_lint_checks() -> None:
    (repository,) = HOOKS
    assert repository["repo"] == "local"
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").split("\nlint:")[1].split("\n\n")[0]
    linted = {command.split()[0] for command in re.findall(r"\$\(BIN\)/(.*)", lint)}
    assert {hook["entry"].split()[0] for hook in repository["hooks"]} == {f".venv/bin/{name}" for name in linted}
