"""The command line as a user has it: arguments in, exit code, stdout, stderr and files out."""

from __future__ import annotations

import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from markupsafe import Markup

from scope_rlvr.cli.main import main
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.report.charts import Chart
from tests.faulty_server import MODEL, FaultyServer

SMALL = (
    "run.problems_per_step=2",
    "run.rollouts_per_problem=4",
    "problems.level=5",
    "evaluation.sets=[{role='trained', level=6}]",
    "evaluation.num_problems=4",
    "evaluation.samples_per_problem=2",
)
"""Overrides that make a step a matter of a quarter of a second."""


@dataclass(frozen=True)
class Ended:
    """What a command came to."""

    code: int
    out: str
    err: str


Scope = Callable[..., Ended]


def run_scope(*arguments: str | Path, draws: bool = False) -> Ended:
    """``scope ARGUMENTS`` in this process.

    Reports are written without their charts, which would take longer than a small run, unless ``draws``.
    """
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.object(sys, "argv", ["scope", *map(str, arguments)]),
        nullcontext() if draws else patch.object(Chart, "for_page", lambda chart: Markup("<svg></svg>")),
        redirect_stdout(out),
        redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        main()
    return Ended(int(end.value.code or 0), out.getvalue(), err.getvalue())


def settings(*overrides: str) -> list[str]:
    """The small settings and more as arguments."""
    return [part for override in (*SMALL, *overrides) for part in ("--set", override)]


@pytest.fixture
def own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder for modules of a user's own; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    importlib.invalidate_caches()
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(f"{tmp_path}{os.sep}"):
            del sys.modules[name]


@pytest.fixture
def scope() -> Scope:
    return run_scope


@pytest.fixture
def small() -> Callable[..., list[str]]:
    return settings


@pytest.fixture(scope="session")
def rich_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that uses everything that can leave figures: SCOPE, a KL penalty, evaluation on the way."""
    folder = tmp_path_factory.mktemp("runs") / "rich"
    overrides = ("run.checkpoint_every=2", "objective.kl=0.001")
    arguments = ("--out", folder, "--steps", "4", "--eval-every", "2", *settings(*overrides))
    ended = run_scope("train", *arguments, draws=True)
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="session")
def plain_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the recipe as it is, but small."""
    folder = tmp_path_factory.mktemp("runs") / "plain"
    ended = run_scope("train", "--out", folder, "--steps", "4", *settings())
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="session")
def imitating_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that makes updates beside the step's."""
    folder = tmp_path_factory.mktemp("runs") / "imitating"
    overrides = ("method.name=relift", "problems.level=8")
    ended = run_scope("train", "--out", folder, "--steps", "4", *settings(*overrides))
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="session")
def reciting_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose teacher is the worked solutions of its problems."""
    folder = tmp_path_factory.mktemp("runs") / "reciting"
    family = Reduction()
    with (folder.parent / "solved.jsonl").open("w") as file:
        for problem in family.sample(7, 40, 0):
            row = {
                "prompt": problem.prompt,
                "answer": problem.reference,
                "solution": family.canonical_solution(problem),
            }
            print(json.dumps(row), file=file)
    overrides = ("teacher.model=solutions", f"problems.source={folder.parent / 'solved.jsonl'}", "evaluation.sets=[]")
    ended = run_scope("train", "--out", folder, "--steps", "4", *settings(*overrides))
    assert ended.code == 0, ended.err
    return folder


def served_by(server: FaultyServer, *overrides: str) -> list[str]:
    """Overrides that make a server the teacher: patience for a busy machine, nothing kept, no repetitions."""
    return [
        f"teacher.model={server.url}",
        f"teacher.name={MODEL}",
        "teacher.server.cache=none",
        "teacher.server.retries=0",
        "teacher.server.backoff_seconds=0.01",
        *overrides,
    ]


SCORES = 'method={name="grpo", parts=["tests.helper_parts:TeacherLikelihood"]}'
"""GRPO with a part of a user's own that has the teacher score the policy's tokens."""


@pytest.fixture(scope="session")
def scored_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose teacher is a server that scores the policy's tokens and sometimes fails."""
    folder = tmp_path_factory.mktemp("runs") / "scored"
    with FaultyServer("500", rate=0.3, num_spared=1) as server:
        own = served_by(server, SCORES, "teacher.interface=completions", "teacher.interface.token_ids=true")
        ended = run_scope("train", "--out", folder, "--steps", "2", *settings(*own))
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose teacher is a server that sometimes fails."""
    folder = tmp_path_factory.mktemp("runs") / "served"
    with FaultyServer("500", rate=0.5, num_spared=1) as server:
        ended = run_scope("train", "--out", folder, "--steps", "4", *settings(*served_by(server)))
    assert ended.code == 0, ended.err
    assert server.num_faults
    return folder
