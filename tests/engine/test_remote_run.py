"""A whole run on a server: what it writes, that it goes on from where it stopped, and what it does when the server fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.engines.tinker.service import Connection, Service, ServiceFailed
from scope_rlvr.models.local import LocalModel, TokenizerCodec
from scope_rlvr.run.config import RunConfig, dump_config, load_config
from scope_rlvr.run.data import read_data
from scope_rlvr.run.remote import learning_rates, train_on_server
from scope_rlvr.store.folder import RunFolder
from tests.engine.conftest import load_policy
from tests.local_service import LocalService

SMALL = (
    "engine=tinker",
    "run.steps=4",
    "run.problems_per_step=4",
    "run.rollouts_per_problem=4",
    "run.checkpoint_every=2",
    "optimizer.learning_rate=1e-3",
    "evaluation.num_problems=4",
    "evaluation.samples_per_problem=2",
)


class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []

    def update(self, metrics: dict[str, float]) -> None: ...

    def note(self, text: str) -> None:
        self.notes.append(text)


class Host:
    """Begins sessions, keeps what they save, and fails at a question that is named."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.saved: dict[str, Any] = {}
        self.states: list[str | None] = []
        self.fail_at, self.num_steps = fail_at, 0
        self.connection: Connection | None = None

    def start(self, connection: Connection, state: str | None) -> Service:
        self.connection = connection
        self.states.append(state)
        model, tokenizer = load_policy()
        service = LocalService(
            LocalModel(model, TokenizerCodec.of(tokenizer, model)), connection.max_grad_norm, self.saved, state
        )
        step = service.step

        def failing(learning_rate: float) -> dict[str, float]:
            self.num_steps += 1
            if self.num_steps == self.fail_at:
                raise ServiceFailed("the optimiser step: no answer within engine.deadline = 600 s")
            return step(learning_rate)

        service.step = failing  # type: ignore[method-assign]
        return service


def config_of(*overrides: str) -> RunConfig:
    return load_config(None, (*SMALL, *overrides))


def run(folder: Path, host: Host, config: RunConfig, resume: bool = False) -> Any:
    path = RunFolder(folder) if resume else RunFolder.create(folder, dump_config(config))
    checkpoint = path.last_checkpoint() if resume else None
    if resume:
        path.forget_after(0 if checkpoint is None else int(checkpoint.name.rsplit("-", 1)[1]))
    return train_on_server(config, read_data(config), path, Notes(), checkpoint, host.start)


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_run_writes_what_any_run_writes_and_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    config = config_of("method.parts=['correction_buffer']")
    whole = run(tmp_path / "whole", Host(), config)
    assert whole.exit_code is ExitCode.OK
    assert whole.summary["steps"] == 4
    assert whole.summary["salvage"]["admitted"] > 0
    assert set(whole.summary["after"]) == {"reduction-6", "reduction-9", "reduction-10"}
    metrics = lines(tmp_path / "whole" / "metrics.jsonl")
    assert [m["step"] for m in metrics] == [1, 2, 3, 4]
    assert {"policy/loss", "policy/grad_norm", "seconds/step", "sampler/gap", "method/corrections"} <= set(metrics[-1])

    host = Host(fail_at=4)
    stopped = run(tmp_path / "stopped", host, config)
    assert stopped.exit_code is ExitCode.TRAINING_STOPPED
    assert "no answer within engine.deadline" in stopped.message
    host.fail_at = None
    resumed = run(tmp_path / "stopped", host, config, resume=True)
    assert host.states[1] == "local://stopped-step-2"
    assert resumed.exit_code is ExitCode.OK
    assert resumed.summary["after"] == whole.summary["after"]
    assert resumed.summary["tokens"] == whole.summary["tokens"]
    rollouts = [list(RunFolder(tmp_path / name).rollouts) for name in ("whole", "stopped")]
    assert rollouts[0] == rollouts[1] != []


def test_the_server_is_told_what_the_configuration_says(tmp_path: Path) -> None:
    host = Host()
    config = config_of(
        "run.steps=1",
        'engine={kind="tinker", url="http://localhost:8000", base_model="tiny", rank=4, deadline=30}',
        "optimizer.weight_decay=0.1",
    )
    run(tmp_path / "run", host, config)
    assert host.connection == Connection("http://localhost:8000", "tiny", 4, 0, 30.0, 0.1, 1.0)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("objective.kl=0.1", "objective.kl: there is no reference model"),
        ("method.parts=['forking_tokens']", "reads entropy of the policy"),
        ("teacher.model='policy'", "teacher.model = 'policy': the policy is on a server"),
    ],
)
def test_what_cannot_be_done_there_is_refused_before_a_session_begins(tmp_path: Path, override: str, said: str) -> None:
    host = Host()
    with pytest.raises(UserError, match=said):
        run(tmp_path / "run", host, config_of(override))
    assert host.states == []


def test_learning_rates_are_those_of_the_schedule() -> None:
    rate = learning_rates(
        config_of("run.steps=8", "optimizer.schedule=constant_with_warmup", "optimizer.warmup_steps=4")
    )
    assert [rate(step) for step in range(1, 7)] == pytest.approx([0, 0.25e-3, 0.5e-3, 0.75e-3, 1e-3, 1e-3])
