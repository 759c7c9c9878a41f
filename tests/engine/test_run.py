"""Whole runs in this process: equal bits where bits must be equal, and every way a run can end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.groups import Group, Member
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.methods import Grpo, Method
from scope_rlvr.run.config import dump_config, load_config
from scope_rlvr.run.data import read_data
from scope_rlvr.run.train import RunOutcome, train
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.journal import read_records
from tests.journals import rollout_bytes

SMALL = (
    "run.steps=4",
    "run.problems_per_step=2",
    "run.rollouts_per_problem=4",
    "run.checkpoint_every=2",
    "problems.level=5",
    "evaluation.sets=[{role='trained', level=6}]",
    "evaluation.num_problems=4",
    "evaluation.samples_per_problem=2",
)


class RecordingDisplay:
    """Keeps what it is told to show."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.notes: list[str] = []

    def update(self, metrics: dict[str, float]) -> None:
        self.steps.append(metrics)

    def note(self, text: str) -> None:
        self.notes.append(text)


def run(path: Path, *overrides: str, display: Any = None) -> tuple[RunFolder, RunOutcome]:
    config = load_config(None, [*SMALL, *overrides])
    folder = RunFolder.create(path, dump_config(config))
    return folder, train(config, read_data(config), folder, display or RecordingDisplay())


def resumed(folder: RunFolder) -> RunOutcome:
    """What comes of the run from its last checkpoint on."""
    config = load_config(folder.path / "config.toml")
    return train(config, read_data(config), folder, RecordingDisplay(), folder.last_checkpoint())


def weights(folder: RunFolder) -> bytes:
    return (folder.model / "model.safetensors").read_bytes()


def without(records: Sequence[dict[str, Any]], *prefixes: str) -> list[dict[str, Any]]:
    return [{k: v for k, v in record.items() if not k.startswith(prefixes)} for record in records]


def test_a_run_leaves_a_model_a_summary_and_every_rollout(tmp_path: Path) -> None:
    display = RecordingDisplay()
    sets = "evaluation.sets=[{role='trained', level=6}, {role='out of distribution', level=9}]"
    folder, outcome = run(tmp_path / "run", "evaluation.every=2", sets, display=display)
    assert outcome.exit_code is ExitCode.OK
    assert outcome.summary["steps"] == 4
    assert outcome.summary["stopped_because"] == "finished"
    assert set(outcome.summary["before"]) == {"reduction-6", "reduction-9"}
    records = list(folder.rollouts)
    replaced = [record for record in records if record["role"] == "replaced"]
    salvaged = [record for record in records if record["role"] == "salvaged"]
    assert len(records) - len(replaced) == 4 * 2 * 4
    assert len(replaced) == len(salvaged) == outcome.summary["salvage"]["admitted"] > 0
    metrics = list(read_records(folder.metrics))
    assert [record["step"] for record in metrics] == [1, 2, 3, 4]
    assert ["eval/reduction-6/accuracy" in record for record in metrics] == [False, True, False, True]
    assert [m["step"] for m in display.steps] == [1, 2, 3, 4]
    model = AutoModelForCausalLM.from_pretrained(folder.model)
    tokenizer = AutoTokenizer.from_pretrained(folder.model)
    text = "reduce 1 2 3\n\n"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert model.config.model_type == "llama"


def test_what_is_measured_changes_no_weight(tmp_path: Path) -> None:
    plain, _ = run(tmp_path / "plain")
    during = ("evaluation.every=3", "evaluation.num_problems_during=3")
    watched, outcome = run(tmp_path / "watched", "evaluation.before=false", *during)
    assert weights(watched) == weights(plain)
    assert outcome.summary["before"] is None
    metrics = list(read_records(watched.metrics))
    keys = [f"eval/reduction-6/{name}" for name in ("accuracy", "pass_at_2", "diversity/text_bleu")]
    # Every third step, and the last.
    assert [[key in record for key in keys] for record in metrics] == [[False] * 3] * 2 + [[True] * 3] * 2
    assert metrics[-1][keys[0]] in {i / 6 for i in range(7)}


def test_scope_without_salvages_is_grpo_to_the_byte(tmp_path: Path) -> None:
    grpo, _ = run(tmp_path / "grpo", "method.name=grpo")
    scope, _ = run(tmp_path / "scope", "method.name=scope", "method.max_salvages=0")
    assert weights(grpo) == weights(scope)
    assert without(list(grpo.rollouts), "salvage") == without(list(scope.rollouts), "salvage")
    salvaging, _ = run(tmp_path / "salvaging", "method.name=scope", "evaluation.before=false")
    assert weights(salvaging) != weights(grpo)


@pytest.mark.trl_seam
def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    one, _ = run(tmp_path / "one")
    other, _ = run(tmp_path / "other")
    assert weights(one) == weights(other)
    assert rollout_bytes(one.path) == rollout_bytes(other.path)
    third, _ = run(tmp_path / "third", "run.seed=1", "evaluation.before=false")
    assert weights(third) != weights(one)


class Killed(BaseException):
    """Stands for a process that is gone."""


class Stopper(RecordingDisplay):
    """Asks for an end in the third step."""

    def update(self, metrics: dict[str, float]) -> None:
        if metrics["step"] == 3:
            os.kill(os.getpid(), signal.SIGINT)


class Killer(RecordingDisplay):
    """Ends the process in the third step, after its rollouts were written and before any checkpoint of it."""

    def update(self, metrics: dict[str, float]) -> None:
        if metrics["step"] == 3:
            raise Killed


@pytest.mark.trl_seam
def test_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, _ = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", display=Killer())
    folder = RunFolder.open(tmp_path / "killed")
    with folder.rollouts.files[-1].open("ab") as file:
        file.write(b"torn")
    checkpoint = folder.last_checkpoint()
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-2"
    folder.forget_after(2)
    outcome = resumed(folder)
    assert outcome.exit_code is ExitCode.OK
    assert weights(folder) == weights(whole)
    assert rollout_bytes(folder.path) == rollout_bytes(whole.path)
    ours, theirs = (without(list(read_records(f.metrics)), "seconds") for f in (folder, whole))
    assert ours == theirs
    ours, theirs = (json.loads((f.path / "summary.json").read_text()) for f in (folder, whole))
    for key in ("before", "after", "salvage", "tokens"):
        assert ours[key] == theirs[key]


class RunningScale(Method):
    """Pays by what rollouts of the steps before were paid: remembers a tensor, and counts in JSON."""

    title = "Running scale"

    def prepare(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        mean = tools.tensors.setdefault("mean_reward", torch.full((1,), 0.5))
        pays = torch.tensor([m.verdict.pay for g in groups for m in g.members if m.verdict.pay is not None])
        tools.tensors["mean_reward"] = mean.lerp(pays.mean(), 0.3)
        tools.memory["steps"] = tools.memory.get("steps", 0) + 1
        scale = 1 + mean.item() * tools.memory["steps"]
        return [replace(g, members=tuple(_paid(m, scale) for m in g.members)) for g in groups]


def _paid(member: Member, scale: float) -> Member:
    pay = member.verdict.pay
    return member if pay is None else replace(member, verdict=replace(member.verdict, reward=pay * scale))


HARD = ("problems.level=8", "run.steps=6", "evaluation.before=false")
"""Problems that the policy fails at often enough for ReLIFT to imitate."""


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunFolder]:
    """A method's run from its beginning to its end; one for all tests."""

    @cache
    def finished(method: str) -> RunFolder:
        return run(tmp_path_factory.mktemp("runs") / "whole", *HARD, f"method.name={method}")[0]

    return finished


@pytest.mark.parametrize(
    ("method", "files"),
    [
        ("relift", ["method.json", "side_optimizers.safetensors"]),
        ("tests.engine.test_run:RunningScale", ["method.json", "method.safetensors"]),
    ],
)
@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_method_with_a_memory_goes_on_with_it(
    tmp_path: Path, whole_run: Callable[[str], RunFolder], method: str, files: list[str], how: str
) -> None:
    overrides = (*HARD, f"method.name={method}")
    whole = whole_run(method)
    if how == "killed":
        with pytest.raises(Killed):
            run(tmp_path / "again", *overrides, display=Killer())
    else:
        run(tmp_path / "again", *overrides, display=Stopper())
    folder = RunFolder.open(tmp_path / "again")
    checkpoint = folder.last_checkpoint()
    assert checkpoint is not None
    assert all((checkpoint / file).is_file() for file in files)
    folder.forget_after(int(checkpoint.name.removeprefix("checkpoint-")))
    assert resumed(folder).exit_code is ExitCode.OK
    assert weights(folder) == weights(whole)
    assert rollout_bytes(folder.path) == rollout_bytes(whole.path)
    ours, theirs = (without(list(read_records(f.metrics)), "seconds") for f in (folder, whole))
    assert ours == theirs
    if method == "relift":
        imitated = {record["step"] for record in whole.rollouts if record["role"] == "guided"}
        assert min(imitated) <= 2 < max(imitated), "it imitates before the end and after it"


def test_a_run_that_learns_nothing_stops_and_says_why(tmp_path: Path) -> None:
    problems = tmp_path / "impossible.jsonl"
    problems.write_text(
        "".join(json.dumps({"prompt": f"reduce {i} {i + 1} 3\n\n", "answer": "77"}) + "\n" for i in range(9))
    )
    display = RecordingDisplay()
    overrides = ("method.name=grpo", f"problems.source='{problems}'", "run.flat_steps_limit=2")
    folder, outcome = run(tmp_path / "run", *overrides, display=display)
    assert outcome.exit_code is ExitCode.TRAINING_STOPPED
    assert "every rollout is wrong" in outcome.message
    assert outcome.summary["steps"] == 2
    assert outcome.summary["stopped_because"] == outcome.message
    assert any("no gradient in this step" in note for note in display.notes)
    assert folder.last_checkpoint() is not None


def test_a_loss_that_is_not_a_number_ends_the_run_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Grpo, "token_loss", lambda self, tokens, clip: tokens.logp_BT * float("inf"))
    folder, outcome = run(tmp_path / "run", "method.name=grpo")
    assert outcome.exit_code is ExitCode.TRAINING_STOPPED
    assert "not made" in outcome.message
    assert list(folder.checkpoints.glob("refused-batch-*.safetensors"))
    assert outcome.summary["steps"] == 0


def test_a_model_with_another_vocabulary_is_refused(tmp_path: Path) -> None:
    problems = tmp_path / "words.jsonl"
    problems.write_text("".join(json.dumps({"prompt": f"What is {i}?", "answer": str(i)}) + "\n" for i in range(9)))
    with pytest.raises(UserError, match="another vocabulary"):
        run(tmp_path / "run", f"problems.source='{problems}'")


def test_a_policy_folder_that_holds_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"not a model")
    with pytest.raises(UserError, match="no safetensors weights"):
        run(tmp_path / "run", f"model.policy='{folder}'")


def test_a_run_killed_in_its_last_evaluation_is_completed_without_another_step(tmp_path: Path) -> None:
    problems = tmp_path / "five.jsonl"
    rows = [{"prompt": f"reduce {i} {i + 1} 3 4\n\n", "answer": str((2 * i + 8) % 13)} for i in range(5)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = (f"problems.source='{problems}'", "run.steps=3", "run.checkpoint_every=3", "method.name=grpo")
    whole, outcome = run(tmp_path / "whole", *overrides)
    (whole.path / "summary.json").unlink()
    expected = weights(whole)
    again = resumed(whole)
    assert again.summary["steps"] == 3
    assert [record["step"] for record in read_records(whole.metrics)] == [1, 2, 3]
    assert weights(whole) == expected
    assert again.summary["after"] == outcome.summary["after"]


def test_stops_and_checkpoints_wait_for_the_last_pass_over_the_same_rollouts(tmp_path: Path) -> None:
    class Impatient(RecordingDisplay):
        def update(self, metrics: dict[str, float]) -> None:
            if metrics["step"] == 3:
                os.kill(os.getpid(), signal.SIGINT)

    folder, outcome = run(
        tmp_path / "run", "run.steps=8", "run.checkpoint_every=4", "objective.updates_per_batch=2", display=Impatient()
    )
    assert outcome.exit_code is ExitCode.INTERRUPTED
    assert outcome.summary["steps"] == 4
    assert [path.name for path in folder.checkpoints.glob("checkpoint-*")] == ["checkpoint-4"]
    with pytest.raises(UserError, match="no multiple of objective"):
        load_config(None, ["run.checkpoint_every=5", "objective.updates_per_batch=2"])
