"""``scope study`` as a user has it: real runs in real processes, a kill, Ctrl-C, a failing arm, and mistakes."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import UserError
from scope_rlvr.embedded import model_path
from scope_rlvr.store.lock import locked
from tests.waiting import PATIENCE_SECONDS, wait_until

Scope = Callable[..., Any]

STUDY = """
name = "tiny"
title = "Two arms, three runs"
reference = "scope"
seeds = [1, 2]
[base]
run.steps = STEPS
run.problems_per_step = 2
run.rollouts_per_problem = 4
run.checkpoint_every = 2
problems.level = 5
[base.evaluation]
sets = [{role = "trained", level = 5}]
num_problems = 4
num_problems_during = 3
samples_per_problem = 2
before = false
every = 2
[arms.scope]
label = "SCOPE"
method = "scope"
[arms.grpo]
method = "grpo"
seeds = [1]
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def study_file(folder: Path, steps: int = 4, more: str = "") -> Path:
    file = folder / "tiny.toml"
    file.write_text(STUDY.replace("STEPS", str(steps)) + more)
    return file


def contents(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(folder): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def garbage(folder: Path) -> None:
    """A policy that passes every check but being loaded."""
    shutil.copytree(model_path("policy"), folder)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"intermediate_size": settings["intermediate_size"] * 2}))


def without_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes seconds; once is enough."""
    monkeypatch.setattr("scope_rlvr.study.report.charts_of", lambda analysis: [])


def test_a_study_with_a_failing_arm_from_its_file_to_its_report_and_on(
    here: Path, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage(here / "broken")
    file = study_file(here, more='[arms.broken]\nmethod = "grpo"\nmodel.policy = "./broken"\nseeds = [1]\n')
    ended = scope("study", file, "--out", "out", "--at-once", "2")
    assert ended.code == 6, ended
    assert "failed    broken-seed1: exit code 2: scope: model.policy = './broken' cannot be loaded" in ended.out
    assert "left      1 failed, 0 unfinished" in ended.out
    out = here / "out"
    finished = ("scope-seed1", "scope-seed2", "grpo-seed1")
    assert {f.name for f in (out / "results").iterdir()} == {f"{name}.json" for name in finished}
    assert "broken-seed1 failed and is missing from every figure" in (out / "report.md").read_text()
    result = json.loads((out / "results" / "scope-seed2.json").read_text())
    assert (result["arm"], result["seed"], result["steps"], result["before"]) == ("scope", 2, 4, None)
    assert result["evaluations"]["step"] == [2, 4]

    assert (out / "plots" / "reduction-5-accuracy-by-steps.svg").is_file()

    # Mended, the failed run is done and no other; a seed may be added.
    without_plots(monkeypatch)
    shutil.rmtree(here / "broken")
    shutil.copytree(model_path("policy"), here / "broken")
    kept = contents(out / "results")
    ended = scope("study", file, "--out", "out")
    assert ended.code == 0, ended
    assert "broken-seed1 finished" in ended.out
    assert "scope-seed1" not in ended.out
    now = contents(out / "results")
    assert len(now) == 4
    assert kept == {name: now[name] for name in kept}

    # The same policy, method, seed: the broken arm's mended run is the baseline's, whatever its name.
    ours, theirs = (json.loads((out / "results" / f"{name}-seed1.json").read_text()) for name in ("broken", "grpo"))
    assert ours["after"] == theirs["after"]
    assert ours["tokens"] == theirs["tokens"]

    # Results alone rebuild the report, elsewhere and without any run folder.
    (out / "results").rename(here / "kept")
    shutil.rmtree(out)
    ended = scope("study", file, "--report-only", "--results", "kept", "--out", "again")
    assert ended.code == 0, ended
    assert {f.name for f in (here / "again").iterdir()} == {"report.html", "report.md", "table.json"}
    assert "4 of 4 finished" in (here / "again" / "report.md").read_text()
    # And nothing is run again where they are.
    ended = scope("study", file, "--results", "kept", "--out", "again")
    assert ended.code == 0, ended
    assert list((here / "again" / "runs").iterdir()) == []

    # Another configuration is refused, by arm, and nothing is changed.
    before = contents(here)
    file.write_text(
        file.read_text().replace("seeds = [1]\n[arms.broken]", "seeds = [1]\nobjective.kl = 0.1\n[arms.broken]")
    )
    before |= {file.relative_to(here): contents(here)[file.relative_to(here)]}
    for options in ((), ("--report-only",), ("--dry-run",)):
        ended = scope("study", file, "--results", "kept", "--out", "again", *options)
        assert ended.code == 2
        assert "arm 'grpo' differs from kept/grpo-seed1.json: objective.kl (there 0.0, now 0.1)" in ended.err
        assert "arm 'scope'" not in ended.err
    assert contents(here) == before


def start(file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "scope_rlvr", "study", str(file), "--out", "out", "--at-once", "2"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def steps_done(run: Path) -> int:
    file = run / "metrics.jsonl"
    return len(file.read_text().splitlines()) if file.is_file() else 0


def is_free(run: Path) -> bool:
    """Whether no process writes the run."""
    try:
        with locked(run):
            return True
    except UserError:
        return False


# Its pieces are in the ordinary run: a worker ends with the study, interruptions are handed on, runs are resumed where they
# stand (tests/unit/test_study_runner.py), and a real run goes on after Ctrl-C (tests/surface/test_cli.py).
@pytest.mark.slow
def test_a_study_that_is_killed_then_interrupted_goes_on_to_its_end(
    here: Path, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_plots(monkeypatch)
    file = study_file(here, steps=40)
    runs = [here / "out" / "runs" / f"{arm}-seed1" for arm in ("scope", "grpo")]
    process = start(file)
    try:
        wait_until(lambda: all(steps_done(run) > 4 for run in runs), "the study gets going", process)
    finally:
        process.kill()
    process.communicate(timeout=PATIENCE_SECONDS)

    # Its runs end with it, long before they are done.
    wait_until(lambda: all(map(is_free, runs)), "the runs of the study end")
    done = [steps_done(run) for run in runs]
    assert all(count < 40 for count in done)

    process = start(file)
    try:
        wait_until(lambda: all(steps_done(r) > 4 + n for r, n in zip(runs, done, strict=True)), "it goes on", process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()
    assert process.returncode == 130, (out, err)
    assert "scope-seed1 started (resumed)" in out
    assert "left      0 failed, 3 unfinished; the same command goes on with them" in out
    summary = json.loads((runs[0] / "summary.json").read_text())
    assert summary["stopped_because"] == "interrupted by SIGINT"

    # One seed is enough to see that it goes on.
    file.write_text(file.read_text().replace("seeds = [1, 2]", "seeds = [1]"))
    ended = scope("study", file, "--out", "out", "--at-once", "2")
    assert ended.code == 0, ended
    for run in runs:
        assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == list(
            range(1, 41)
        )
    assert (here / "out" / "report.html").is_file()


MISTAKES = {
    "no file": ([], "cannot be read"),
    "unknown method": (['method = "grpo"', 'method = "grop"'], "'grop'"),
    "unknown option": (['method = "grpo"', 'method = {name = "grpo", baselin = 1}'], "did you mean 'baseline'?"),
    "unknown key": (["run.steps", "run.step"], "did you mean 'steps'?"),
    "unknown arm": (['reference = "scope"', 'reference = "scop"'], "did you mean 'scope'?"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_before_anything_is_written(name: str, here: Path, scope: Scope) -> None:
    change, part = MISTAKES[name]
    if change:
        file = study_file(here)
        file.write_text(file.read_text().replace(*change))
    before = contents(here)
    ended = scope("study", "tiny.toml")
    assert ended.code == 2
    assert ended.err.startswith("scope: ")
    assert part in ended.err
    assert ended.out == ""
    assert contents(here) == before


def test_a_dry_run_writes_nothing(here: Path, scope: Scope) -> None:
    before = contents(here) | contents(study_file(here).parent)
    ended = scope("study", "tiny.toml", "--dry-run")
    assert ended.code == 0
    assert "runs      3, 0 finished before" in ended.out
    assert "arm       SCOPE: 4 steps, seeds 1 2" in ended.out
    assert contents(here) == before


def test_a_report_needs_a_result(here: Path, scope: Scope) -> None:
    study_file(here)
    ended = scope("study", "tiny.toml", "--report-only")
    assert ended.code == 2
    assert "there is no result of the study in runs/studies/tiny/results" in ended.err
    assert not (here / "runs").exists()
