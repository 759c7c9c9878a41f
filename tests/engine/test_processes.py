"""Two processes under ``torchrun`` come to what one comes to, and an end when one of them is gone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from scope_rlvr.cli import train as cli_train
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.groups import Group, Role
from scope_rlvr.core.types import Outcome
from scope_rlvr.methods import METHODS, Scope
from scope_rlvr.run.config import load_config
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.journal import read_records
from scope_rlvr.store.lock import locked
from tests.engine import in_two_processes as acts
from tests.engine.in_two_processes import LOSSES, MUTATED, make_trainer
from tests.engine.test_run import resumed
from tests.journals import rollout_bytes
from tests.waiting import PATIENCE_SECONDS, wait_until

ROOT = Path(__file__).parents[2]


def launched(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``torchrun`` with two processes and a free port; what they print comes together."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes play all acts; what they replay is recorded by one."""
    path = tmp_path_factory.mktemp("two")
    groups: list[Group] = []
    trainer = make_trainer(
        path / "trainer",
        Scope(insertion="append"),
        args={"max_steps": acts.REPLAYED_STEPS},
        verifier=acts.DoubtfulVerifier(),
        on_groups=lambda result: groups.extend(result.groups),
    )
    trainer.train()
    (path / "replayed.json").write_text(json.dumps(acts.written_down(groups)))
    done = launched("-m", "tests.engine.play_in_two_processes", str(path))
    assert done.returncode == 0, done.stdout
    return path


@pytest.fixture(scope="module")
def said(folder: Path) -> list[dict[str, Any]]:
    """What each process said of each act."""
    return [json.loads((folder / f"said-{index}.json").read_text()) for index in range(2)]


# --- one loss, one gradient, the same weights ---------------------------------------------------------------------------


def test_what_is_replayed_is_ragged(folder: Path) -> None:
    groups = json.loads((folder / "replayed.json").read_text())
    assert len(groups) == 4 * acts.REPLAYED_STEPS
    sizes = [len(group["members"]) for group in groups]
    assert set(sizes) == {5, 6}, "some reserved rows are empty, some are not"
    members = [member for group in groups for member in group["members"]]
    assert {member["outcome"] for member in members} == {outcome.value for outcome in Outcome}
    assert {member["role"] for member in members} == {Role.SAMPLED.value, Role.SALVAGED.value}
    assert any(origin == "teacher" for member in members for origin, *_ in member["segments"])
    for step in range(acts.REPLAYED_STEPS):
        halves = [groups[4 * step : 4 * step + 2], groups[4 * step + 2 : 4 * step + 4]]
        num_tokens = [
            sum(
                len(ids) for g in half for m in g["members"] if m["outcome"] != "unknown" for _, ids, _ in m["segments"]
            )
            for half in halves
        ]
        assert abs(num_tokens[0] - num_tokens[1]) > 20, "each process has as much to do"


@pytest.fixture(scope="module")
def losses_of_one(folder: Path) -> dict[str, torch.Tensor]:
    return acts.all_losses(folder)


@pytest.mark.parametrize("name", LOSSES)
def test_two_processes_have_the_loss_gradient_and_weights_of_one(
    folder: Path, losses_of_one: dict[str, torch.Tensor], name: str
) -> None:
    of_two = load_file(folder / "losses.safetensors")
    assert losses_of_one[f"{name}/gradients"].abs().amax(1).min() > 1e-3
    for part, tolerance in (("losses", 1e-6), ("gradients", 1e-5), ("weights", 2e-6)):
        one, two = losses_of_one[f"{name}/{part}"], of_two[f"{name}/{part}"]
        torch.testing.assert_close(two, one, rtol=1e-4, atol=tolerance)


def test_a_normaliser_of_each_process_would_be_noticed(folder: Path, losses_of_one: dict[str, torch.Tensor]) -> None:
    mutated = load_file(folder / "losses.safetensors")
    for part, tolerance in (("losses", 1e-6), ("gradients", 1e-5), ("weights", 2e-6)):
        gap = (mutated[f"{MUTATED}/{part}"] - losses_of_one[f"dapo/{part}"]).abs().max()
        assert gap > 20 * tolerance


def test_an_update_beside_the_step_is_that_of_one_process(said: list[dict[str, Any]], tmp_path: Path) -> None:
    one = acts.side_updates(tmp_path)
    # Of three problems those that the teacher solves: once there is one, and the other process has an empty row.
    assert {figures["side/sft/rollouts"] for figures in one["figures"]} == {1, 2}
    for process in said:
        assert process["side_updates"]["moments"] == pytest.approx(one["moments"], rel=1e-3, abs=1e-6)
        for own, expected in zip(process["side_updates"]["figures"], one["figures"], strict=True):
            assert own == pytest.approx(expected, rel=1e-3)


# --- one batch for every method ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def batches_of_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(json.dumps(acts.batches_of_all_methods(tmp_path_factory.mktemp("one"))))


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_makes_of_a_batch_what_it_makes_in_one_process(
    said: list[dict[str, Any]], batches_of_one: dict[str, Any], name: str
) -> None:
    one = batches_of_one[name]
    for two in (process["batches_of_all_methods"][name] for process in said):
        assert _ids(two["groups"]) == _ids(one["groups"])
        assert_close(two["memory"], one["memory"])
        for own_G, expected_G in zip(two["advantages"], one["advantages"], strict=True):
            for own_T, expected_T in zip(own_G, expected_G, strict=True):
                assert own_T == pytest.approx(expected_T, abs=1e-4)


def assert_close(own: Any, expected: Any) -> None:
    """Equal but for the last digits of numbers, which another size of the batches of a reading changes."""
    if isinstance(expected, dict):
        assert own.keys() == expected.keys()
        own, expected = list(own.values()), list(expected.values())
    if isinstance(expected, list):
        for one, other in zip(own, expected, strict=True):
            assert_close(one, other)
    else:
        assert own == (pytest.approx(expected, rel=1e-5) if isinstance(expected, float) else expected)


def _ids(groups: Sequence[dict[str, Any]]) -> list[Any]:
    return [
        (g["problem"], [(m["outcome"], m["role"], [ids for _, ids, _ in m["segments"]]) for m in g["members"]])
        for g in groups
    ]


def test_the_batches_show_what_methods_do(batches_of_one: dict[str, Any]) -> None:
    def roles(name: str) -> set[str]:
        return {m["role"] for group in batches_of_one[name]["groups"] for m in group["members"]}

    assert Role.SALVAGED in roles("scope")
    assert roles("relift") == {Role.SAMPLED, Role.GUIDED}
    assert Role.BRANCHED in roles("cure")
    problems = {name: {g["problem"] for g in batch["groups"]} for name, batch in batches_of_one.items()}
    assert problems["dapo"] != problems["grpo"] == problems["scope"]


@pytest.fixture(scope="module")
def parts_in_one(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return json.loads(json.dumps(acts.steps_with_parts(tmp_path_factory.mktemp("parts"))))


@pytest.mark.parametrize("name", acts.PARTS)
def test_parts_do_the_same_in_all_processes_and_what_they_do_in_one(
    said: list[dict[str, Any]], parts_in_one: dict[str, Any], name: str
) -> None:
    one, (two, other) = parts_in_one[name], (process["steps_with_parts"][name] for process in said)
    assert two == other, "what is remembered, too, to the last bit"
    assert _ids(two["groups"]) == _ids(one["groups"])
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-3, abs=1e-5)
    assert two["tensors"] == pytest.approx(one["tensors"], rel=1e-3, abs=1e-3)
    assert two["memory"].keys() == one["memory"].keys()
    for own_T, expected_T in zip(two["advantages"], one["advantages"], strict=True):
        assert own_T == pytest.approx(expected_T, abs=1e-3)


def test_figures_are_those_of_the_whole_batch(said: list[dict[str, Any]], tmp_path: Path) -> None:
    one = acts.figures(tmp_path)
    assert one["salvage/attempted"] > 0
    for process in said:
        assert process["figures"] == pytest.approx(one, rel=1e-3, abs=1e-5)


def test_one_process_asks_a_server(said: list[dict[str, Any]]) -> None:
    main, other = (process["served_teacher"] for process in said)
    assert main > 0
    assert other == 0


def test_vllm_is_asked_for_a_part_by_each_process(said: list[dict[str, Any]]) -> None:
    main, other = (process["vllm"] for process in said)
    for kind in ("vllm", "vllm_server"):
        assert main[kind]["groups"] == other[kind]["groups"]
        assert any(m["role"] == Role.SALVAGED for group in main[kind]["groups"] for m in group["members"])
    beside, server = main["vllm"]["calls"], main["vllm_server"]["calls"]
    assert beside[0] == other["vllm"]["calls"][0] == acts.ROWS / 2
    assert (server[0], other["vllm_server"]["calls"]) == (acts.ROWS, [])
    # Continuations after a teacher's step: the last part is filled up.
    assert len(beside) > 1
    assert all(num_rows % 2 == 0 for num_rows in server)


def test_shared_work_and_shared_errors(said: list[dict[str, Any]]) -> None:
    main, other = (process["shared_work"] for process in said)
    assert main == other | {
        # Of three items the main process has one, and the other two.
        "short": "ProcessFailed: process 1 of 2 failed in doubling (3 in all): ValueError: doubling gave 1 results for 2 items",
        "user error": "UserError: process 1: no such file",
        "other error": "ProcessFailed: process 1 of 2 failed in loading: ValueError: bad",
        "block": "UserError: process 1: no such file",
        "out of step": "ProcessFailed: the processes have lost step: process 0 is at 'at 0', process 1 at 'at 1'",
    }
    assert other == {
        "parts": "[(2, 1), (4, 2), (6, 2)]",
        "few": "[2]",
        "short": "ValueError: doubling gave 1 results for 2 items",
        "once": "process 0",
        "user error": "UserError: no such file",
        "of the main one": "UserError: no such file",
        "other error": "ValueError: bad\nvalue",
        "block": "UserError: no such file",
        "out of step": "ProcessFailed: the processes have lost step: process 1 is at 'at 1', process 0 at 'at 0'",
        "equal": "None",
        "unequal": "ProcessFailed: the seeds of process 0 and of process 1 differ, and must not",
    }


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_a_run_of_two_is_kept_whole(said: list[dict[str, Any]], folder: Path, tmp_path: Path) -> None:
    whole = RunFolder.open(folder / "whole")
    assert [process["whole_run"]["exit_code"] for process in said] == [ExitCode.OK] * 2
    records = list(whole.rollouts)
    assert [record["step"] for record in read_records(whole.metrics)] == [1, 2, 3, 4]
    trained = [record for record in records if record["role"] != "replaced"]
    assert len(trained) == 4 * 4 * 4
    assert [record["group"] for record in trained] == [g for _ in range(4) for g in range(4) for _ in range(4)]
    # Which process samples and measures a batch makes no difference.
    one = RunFolder(tmp_path / "one")
    outcome, _ = acts.run(one.path, "run.steps=4")
    first = [r for r in one.rollouts if r["step"] == 1]
    assert [r for r in records if r["step"] == 1] == first
    assert whole.read_json("summary.json")["before"] == outcome.summary["before"]


def test_a_signal_to_one_process_stops_both(said: list[dict[str, Any]], folder: Path) -> None:
    ended = {"exit_code": ExitCode.INTERRUPTED, "message": "interrupted by SIGTERM", "steps": 2}
    assert [process["interrupted_run"] for process in said] == [ended] * 2
    assert RunFolder.open(folder / "interrupted").last_checkpoint().name == "checkpoint-2"


def test_a_run_that_learns_nothing_stops_in_both(said: list[dict[str, Any]]) -> None:
    for process in said:
        assert process["flat_run"]["exit_code"] == ExitCode.TRAINING_STOPPED
        assert "for 2 steps in a row; every rollout is wrong" in process["flat_run"]["message"]
        assert "(0 right, 16 wrong" in process["flat_run"]["message"]


def test_processes_with_other_problems_are_refused(said: list[dict[str, Any]]) -> None:
    for process in said:
        assert process["run_on_other_problems"].endswith(
            "the problems of process 0 and of process 1 differ, and must not"
        )


def test_a_loss_that_is_not_a_number_in_one_process_stops_both(said: list[dict[str, Any]], folder: Path) -> None:
    for index, process in enumerate(said):
        assert process["not_a_number"].startswith("NonFiniteLoss: the loss is nan in process 1 at step 1")
        assert process["not_a_number"].endswith("(nothing was updated)")
        assert list((folder / "not a number").glob(f"refused-batch-step-000001-process-{index}.safetensors"))


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, str]:
    """A run of two processes, of which one is killed in the third step, and what was printed."""
    path = tmp_path_factory.mktemp("killed") / "run"
    options = [option for override in acts.SMALL_RUN for option in ("--set", override)]
    done = launched("-m", "tests.engine.killed_in_training", "train", *options, "--out", str(path))
    assert done.returncode != 0
    return RunFolder.open(path), done.stdout


def test_a_run_ends_with_a_message_when_a_process_is_killed(killed: tuple[RunFolder, str]) -> None:
    folder, printed = killed
    assert "stopped   process 0 of 2 has lost the others" in printed
    assert "go on with --resume" in printed
    assert printed.count("step 1/4") == 1, "one process alone prints"
    assert (folder.path / "report.html").is_file()
    assert "has lost the others" in folder.read_json("summary.json")["stopped_because"]
    assert folder.last_checkpoint().name == "checkpoint-2"


def test_a_killed_run_goes_on_in_as_many_processes_or_in_fewer(
    killed: tuple[RunFolder, str], folder: Path, said: list[dict[str, Any]], tmp_path: Path
) -> None:
    started, _ = killed
    shutil.copytree(started.path, tmp_path / "alone")
    done = launched("-m", "scope_rlvr", "train", "--resume", str(started.path))
    assert done.returncode == 0, done.stdout
    assert "resume    from step 2" in done.stdout
    whole = RunFolder.open(folder / "whole")
    assert (started.model / "model.safetensors").read_bytes() == (whole.model / "model.safetensors").read_bytes()
    assert rollout_bytes(started.path) == rollout_bytes(whole.path)
    assert started.read_json("summary.json")["after"] == whole.read_json("summary.json")["after"]
    assert (started.path / "report.html").is_file()

    alone = RunFolder.open(tmp_path / "alone")
    alone.forget_after(2)
    outcome = resumed(alone)
    assert outcome.summary["steps"] == 4
    assert [record["step"] for record in read_records(alone.metrics)] == [1, 2, 3, 4]


WAITING = """
import os, pathlib, sys, time
from scope_rlvr.core.processes import end_with_launcher
from scope_rlvr.store.lock import locked
end_with_launcher()
folder = pathlib.Path(sys.argv[1]) / os.environ["RANK"]
with locked(folder):
    (folder / "waits").touch()
    time.sleep(600)
"""


def test_processes_end_when_their_launcher_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "waiting.py"
    script.write_text(WAITING)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    folders = [tmp_path / "0", tmp_path / "1"]
    with (tmp_path / "printed").open("wb") as printed:
        launcher = subprocess.Popen([*command, str(tmp_path)], cwd=ROOT, stdout=printed, stderr=printed)
    workers: list[psutil.Process] = []
    try:
        wait_until(lambda: all((folder / "waits").exists() for folder in folders), "both processes wait", launcher)
        workers = psutil.Process(launcher.pid).children(recursive=True)
        assert len(workers) >= 2
        launcher.kill()
        launcher.wait()
        _, left = psutil.wait_procs(workers, timeout=PATIENCE_SECONDS)
        assert left == []
    finally:
        for process in (launcher, *(worker for worker in workers if worker.is_running())):
            process.kill()
    assert "the launcher of this process is gone; go on with --resume" in (tmp_path / "printed").read_text()
    for folder in folders:
        with locked(folder):
            assert (folder / "waits").exists()


def test_a_run_watches_its_launcher_before_it_meets_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []

    def nobody_comes(seconds: float) -> None:
        begun.append(f"meet within {seconds:g} s")
        raise UserError("nobody came")

    monkeypatch.setattr("scope_rlvr.cli.train.end_with_launcher", lambda: begun.append("watch the launcher"))
    monkeypatch.setattr("scope_rlvr.cli.train.meet", nobody_comes)
    with pytest.raises(UserError, match="nobody came"):
        cli_train.train(wait_minutes=2)
    assert begun == ["watch the launcher", "meet within 120 s"]


# --- refused before any work ------------------------------------------------------------------------------------------


def test_a_step_that_cannot_be_shared_is_refused() -> None:
    config = load_config(None, ["run.problems_per_step=6", "run.rollouts_per_problem=4", "run.micro_batch_rows=12"])
    assert (config.share(2).rows, config.share(2).num_micro_batches) == (12, 1)
    with pytest.raises(UserError, match=r"problems_per_step = 6 cannot be shared by 4 processes.* whole groups"):
        config.share(4)
    with pytest.raises(
        UserError, match="micro_batch_rows = 12 does not divide the 8 rows of a step that each of 3 processes"
    ):
        config.share(3)


def test_other_commands_are_refused_under_a_launcher() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scope_rlvr", "show", "nowhere"],
        env=os.environ | {"WORLD_SIZE": "2"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == ExitCode.BAD_INPUT
    assert "scope show runs in one process, and WORLD_SIZE says that 2 were started" in done.stderr
