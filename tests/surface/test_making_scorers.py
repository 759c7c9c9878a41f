"""``scope scorer train`` and ``scope scorer label`` as a user has them: killed, resumed, and given bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import model_path
from scope_rlvr.problems.labelled import read_labelled
from scope_rlvr.problems.reduction import Reduction
from scope_rlvr.store.rollouts import Rollouts
from tests.surface.conftest import run_scope
from tests.tiny_maths import make_model
from tests.waiting import PATIENCE_SECONDS, wait_until

Scope = Callable[..., Any]
TRAIN = ("--base", "embedded:teacher", "--batch-rows", "16", "--learning-rate", "1e-3", "--held-out", "0.3")


def write_rows(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return file


def reductions(num: int = 60) -> list[Problem]:
    return Reduction().sample(3, num, seed=0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    labelled = []
    for number, problem in enumerate(reductions()):
        steps = Reduction().canonical_solution(problem).split("\n\n")
        label = -1
        if number % 2:
            steps[-1], label = f"answer {(int(problem.reference) + 1) % 13}", len(steps) - 1
        labelled.append({"prompt": problem.prompt, "steps": steps, "label": label})
    write_rows(tmp_path / "labelled.jsonl", labelled)
    return tmp_path


def start(*arguments: str) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-m", "scope_rlvr", *arguments], stdout=pipe, stderr=pipe, text=True, env=dict(os.environ)
    )


def kill_when(process: subprocess.Popen[str], is_due: Callable[[], bool], number: signal.Signals) -> tuple[str, str]:
    try:
        wait_until(is_due, "it gets going", process)
        process.send_signal(number)
        return process.communicate(timeout=PATIENCE_SECONDS)
    finally:
        process.kill()


# --- train ------------------------------------------------------------------------------------------------------------


def test_a_killed_training_goes_on_by_the_same_command(here: Path, scope: Scope) -> None:
    command = ["scorer", "train", "labelled.jsonl", *TRAIN, "--steps", "40", "--checkpoint-every", "5"]
    ended = scope(*command, "--out", "whole")
    assert ended.code == 0, ended.err
    assert "60 solutions" in ended.out
    assert "F1 (ProcessBench)" in ended.out
    out = here / "scorer"
    process = start(*command, "--out", "scorer")
    kill_when(process, lambda: any(out.glob("checkpoints/checkpoint-*/COMPLETE")), signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (out / "training.json").exists()
    refused = scope(*command, "--out", "scorer")
    assert (refused.code, "--resume" in refused.err) == (2, True)
    ended = scope(*command, "--out", "scorer", "--resume")
    assert ended.code == 0, ended.err
    assert "resume    from step " in ended.out
    assert "resume    from step 0;" not in ended.out
    for name in ("model.safetensors", "scorer.json", "metrics.jsonl"):
        assert (out / name).read_bytes() == (here / "whole" / name).read_bytes(), name
    records = [json.loads((folder / "training.json").read_text()) for folder in (out, here / "whole")]
    assert [record.pop("environment")["python"] for record in records] == [sys.version.split()[0]] * 2
    assert records[0] == records[1]
    again = scope(*command, "--out", "scorer", "--resume")
    assert again.code == 2
    assert "nothing left to resume" in again.err


BAD_ROWS = [
    {"prompt": "2?", "completions": ["2"], "labels": [0.5]},
    {"problem": "2?", "steps": ["2"], "label": 4},
    {"problem": "2?", "steps": ["2", ""], "label": 0},
    {"input": "2? Step 1: 2 ки", "label": "2? Step 1: 2 *"},
    {"text": "2"},
]


def test_bad_rows_are_found_before_any_training_or_left_out_and_counted(here: Path, scope: Scope) -> None:
    with (here / "labelled.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in BAD_ROWS)
    refused = scope("scorer", "train", "labelled.jsonl", *TRAIN, "--out", "out")
    assert refused.code == 2
    for part in ("5 row(s)", "row 61", "row 62", "row 63", "row 64", "row 65", "--skip-bad-rows"):
        assert part in refused.err
    assert not (here / "out").exists()
    ended = scope("scorer", "train", "labelled.jsonl", *TRAIN, "--out", "out", "--steps", "1", "--skip-bad-rows")
    assert ended.code == 0, ended.err
    assert "60 solutions; 5 bad row(s) left out" in ended.out
    [source] = json.loads((here / "out" / "training.json").read_text())["sources"]
    assert source["num_solutions"] == 60
    assert [mistake.split(":")[0] for mistake in source["bad_rows"]] == [f"row {k}" for k in range(61, 66)]
    assert "| labelled.jsonl | 60 | 5 |" in (here / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["labelled.jsonl", "--base", "nowhere"], ["--base", "nowhere"]),
        (["missing.jsonl", "--base", "embedded:teacher"], ["missing.jsonl cannot be read"]),
        (["labelled.jsonl", "--base", "embedded:teacher", "--learning-rate", "0"], ["--learning-rate", "0"]),
        (["labelled.jsonl", "--base", "embedded:teacher", "--held-out", "1"], ["--held-out", "1"]),
        (["labelled.jsonl", "--base", "embedded:teacher", "--micro-batch-rows", "5"], ["micro_batch_rows = 5"]),
        (["labelled.jsonl", "--base", "embedded:teacher", "--epochs", "1", "--steps", "2"], ["--epochs", "--steps"]),
        (["labelled.jsonl", "--base", "embedded:teacher", "--held-out", "0.001"], ["held out", "both kinds"]),
    ],
)
def test_mistakes_leave_no_folder(arguments: list[str], parts: list[str], here: Path, scope: Scope) -> None:
    ended = scope("scorer", "train", *arguments, "--out", "out")
    assert ended.code == 2, ended
    assert ended.err.startswith("scope: ")
    for part in parts:
        assert part in ended.err
    assert not (here / "out").exists()


def test_only_the_upper_layers_and_the_head_are_trained(here: Path, scope: Scope) -> None:
    command = ("scorer", "train", "labelled.jsonl", *TRAIN, "--steps", "2", "--train-layers", "1", "--out", "out")
    ended = scope(*command)
    assert ended.code == 0, ended.err
    trained, base = (load_file(folder / "model.safetensors") for folder in (here / "out", model_path("teacher")))
    moved = {name for name, weight in base.items() if name in trained and not torch.equal(weight, trained[name])}
    assert moved
    assert all(name.startswith("model.layers.1.") or name == "model.norm.weight" for name in moved)
    refused = scope(*command[:-1], "other", "--train-layers", "3")
    assert "--train-layers 3: the model has 2 layers" in refused.err
    assert "name float32 or bfloat16" in scope(*command[:-1], "other", "--dtype", "auto").err


# --- label ------------------------------------------------------------------------------------------------------------

LABEL = ("--policy", "embedded:teacher", "--set", "sampling.max_response_tokens=40")


def responses(num: int) -> list[dict[str, Any]]:
    """Right solutions, and solutions with a wrong sum in their first step that all else follows from."""
    rows = []
    for number, problem in enumerate(reductions(num)):
        steps = Reduction().canonical_solution(problem).split("\n\n")
        if number % 2:
            a, b, _ = problem.prompt.split()[1:4]
            wrong = (int(a) + int(b) + 1) % 13
            rest = int(problem.prompt.split()[3])
            kept = " ".join(map(str, sorted([wrong, rest])))
            last = (wrong + rest) % 13
            steps = [
                f"{a} + {b} = {wrong} : {kept}",
                f"{min(wrong, rest)} + {max(wrong, rest)} = {last} : {last}",
                f"answer {last}",
            ]
        rows.append({"problem": problem.prompt, "response": "\n\n".join(steps), "reference": problem.reference})
    return rows


@pytest.mark.parametrize("how", [(), ("--first-error-only",)])
def test_labels_say_where_the_answer_is_out_of_reach(how: tuple[str, ...], here: Path, scope: Scope) -> None:
    write_rows(here / "responses.jsonl", responses(12))
    ended = scope("scorer", "label", "responses.jsonl", *LABEL, "--samples", "3", "--out", "labels.jsonl", *how)
    assert ended.code == 0, ended.err
    solutions = read_labelled(here / "labels.jsonl").solutions
    assert [s.problem.prompt for s in solutions] == [p.prompt for p in reductions(12)]
    # The teacher knows every sum: it goes on rightly after right steps, and cannot undo a wrong one.
    assert [s.first_wrong for s in solutions] == [None, 0] * 6
    # A pipe hears of every group of responses that is written.
    assert [line for line in ended.out.splitlines() if line.endswith("labelled")] == [
        f"{num} of 12 responses labelled" for num in (4, 8, 12)
    ]


SHORT = ("sampling.max_response_tokens=16", "evaluation.max_response_tokens=8", "evaluation.before=false")


@pytest.fixture(scope="module")
def templated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose policy has a chat template, and is shown more than the problem."""
    folder = tmp_path_factory.mktemp("templated")
    reader = make_model(folder / "reader")
    chosen = (
        *("problems.source=stories:2", f"model.policy={reader}", "method.name=grpo", "run.steps=1", *SHORT),
        *("run.problems_per_step=2", "run.rollouts_per_problem=2", "evaluation.num_problems=1"),
        *("evaluation.samples_per_problem=1", "evaluation.sets=[{role='trained', source='stories:2'}]"),
        *("prompt.template={problem}One step a line.", "prompt.system=Think."),
    )
    ended = run_scope("train", "--out", folder / "run", *(part for value in chosen for part in ("--set", value)))
    assert ended.code == 0, ended.err
    return folder


@pytest.mark.parametrize(("changed", "is_own"), [((), True), (("--set", "prompt.template={problem}Think."), False)])
def test_a_run_with_a_template_is_labelled_on_policy_or_told_otherwise(
    changed: tuple[str, ...], is_own: bool, here: Path, scope: Scope, templated_run: Path
) -> None:
    run, reader = templated_run / "run", templated_run / "reader"
    command = ("scorer", "label", run, "--policy", reader, "--samples", "1", "--out", "labels.jsonl")
    ended = scope(*command, *changed)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (here / "labels.jsonl").read_text().splitlines()]
    assert [row["has_sampled_ids"] for row in rows] == [is_own] * 4
    assert ("4 of 4 responses were sampled with other tokens" in ended.out) == (not is_own)
    if is_own:
        refused = scope(*command, "--resume", "--set", "prompt.system=Think twice.")
        assert "begun differently: prompt was" in refused.err


def test_labels_of_a_run_follow_its_configuration_and_its_tokens(here: Path, scope: Scope, plain_run: Path) -> None:
    command = ["scorer", "label", str(plain_run), "--policy", "embedded:policy", "--samples", "2", "--limit", "6"]
    ended = scope(*command, "--out", "labels.jsonl")
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in (here / "labels.jsonl").read_text().splitlines()]
    rollouts = list(Rollouts.of(plain_run))[:6]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, rollout in zip(rows, rollouts, strict=True):
        text = "".join(segment["text"] for segment in rollout["segments"])
        assert "\n\n".join(row["completions"]) == text.strip()
        assert len(row["labels"]) == len(row["soft_labels"]) == len(row["completions"])
        assert row["soft_labels"][-1] == float(rollout["verdict"]["outcome"] == "right")


def test_interrupted_labelling_keeps_what_is_finished(here: Path, scope: Scope) -> None:
    write_rows(here / "responses.jsonl", responses(24))
    command = ["scorer", "label", "responses.jsonl", *LABEL, "--samples", "3", "--rows-at-once", "2"]
    assert scope(*command, "--out", "whole.jsonl").code == 0
    out = here / "labels.jsonl"
    process = start(*command, "--out", "labels.jsonl")
    kill_when(process, lambda: out.exists() and out.stat().st_size > 0, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    before = out.read_bytes()
    assert 0 < before.count(b"\n") < 24
    with out.open("ab") as file:
        file.write(b'{"torn": ')
    refused = scope(*command, "--out", "labels.jsonl")
    assert (refused.code, "--resume" in refused.err) == (2, True)
    other = scope(*command, "--out", "labels.jsonl", "--resume", "--set", "run.seed=5")
    assert (other.code, "begun differently: seed was 0 and is 5" in other.err) == (2, True)
    ended = scope(*command, "--out", "labels.jsonl", "--resume")
    assert ended.code == 0, ended.err
    assert out.read_bytes() == (here / "whole.jsonl").read_bytes()
    assert "nothing left to resume" in scope(*command, "--out", "labels.jsonl", "--resume").err


def test_responses_that_cannot_be_labelled_are_told(here: Path, scope: Scope) -> None:
    good = responses(2)
    bad = [
        {"problem": "reduce 1 2\n\n", "response": "answer 3"},
        {"problem": "x", "reference": "3", "response": " "},
        [1],
    ]
    write_rows(here / "responses.jsonl", [*good, *bad])
    command = ["scorer", "label", "responses.jsonl", *LABEL, "--samples", "1", "--out", "labels.jsonl"]
    refused = scope(*command)
    assert refused.code == 2
    for part in (
        "3 row(s)",
        "line 3: no reference",
        "line 4: no response",
        "line 5: expected an object, got list",
    ):
        assert part in refused.err
    assert not (here / "labels.jsonl").exists()
    ended = scope(*command, "--skip-bad-rows")
    assert ended.code == 0, ended.err
    assert "2 responses; 3 bad row(s) left out" in ended.out
    assert len((here / "labels.jsonl").read_text().splitlines()) == 2
