"""Runs that train some layers, in bfloat16: what trains, in which numbers, and that they go on bit for bit."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from scope_rlvr.check.longest_step import run_longest_step
from scope_rlvr.check.start import ConfigRequest, resumed_run
from scope_rlvr.core.errors import ExitCode, UserError
from scope_rlvr.core.processes import ONE_PROCESS
from scope_rlvr.embedded import model_path
from scope_rlvr.engines.trl import trainer as trainer_module
from scope_rlvr.models.precision import has_bfloat16
from scope_rlvr.run.components import load_policy
from scope_rlvr.run.config import dump_config, load_config
from scope_rlvr.run.data import read_data
from scope_rlvr.run.resume import write_start
from scope_rlvr.run.train import train
from scope_rlvr.store.folder import RunFolder
from tests.engine.test_run import Killed, Killer, RecordingDisplay, resumed, weights
from tests.journals import rollout_bytes

SMALL = (
    "run.steps=3",
    "run.problems_per_step=2",
    "run.rollouts_per_problem=4",
    "run.checkpoint_every=2",
    "problems.level=4",
    "sampling.max_response_tokens=64",
    "optimizer.learning_rate=0.005",
    "evaluation.before=false",
    "evaluation.num_problems=2",
    "evaluation.samples_per_problem=2",
    "evaluation.sets=[{role='trained', level=4}]",
    "model.train_layers=1",
    f"model.dtype={'bfloat16' if has_bfloat16() else 'float32'}",
)


def run(path: Path, *overrides: str, display: RecordingDisplay | None = None) -> RunFolder:
    config = load_config(None, [*SMALL, *overrides])
    folder = RunFolder.create(path, dump_config(config))
    outcome = train(config, read_data(config), folder, display or RecordingDisplay())
    assert outcome.exit_code is ExitCode.OK
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(tmp_path_factory.mktemp("upper") / "run")


def test_the_upper_layer_and_the_norm_are_changed_and_nothing_else(whole: RunFolder) -> None:
    base, trained = load_file(model_path("policy") / "model.safetensors"), load_file(whole.model / "model.safetensors")
    changed = {name for name, weight in trained.items() if not torch.equal(weight, base[name])}
    assert changed == {name for name in base if name.startswith(("model.layers.1.", "model.norm."))}
    assert {weight.dtype for weight in trained.values()} == {torch.float32}


def test_changes_are_smaller_than_bfloat16_could_hold(whole: RunFolder) -> None:
    trained = load_file(whole.model / "model.safetensors")["model.layers.1.mlp.up_proj.weight"]
    assert not torch.equal(trained, trained.bfloat16().float()), "the weights that train are kept in float32"


def test_a_killed_run_goes_on_as_if_nothing_had_happened(whole: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "killed", display=Killer())
    folder = RunFolder.open(tmp_path / "killed")
    folder.forget_after(2)
    assert resumed(folder).exit_code is ExitCode.OK
    assert weights(folder) == weights(whole)
    assert rollout_bytes(folder.path) == rollout_bytes(whole.path)


@pytest.mark.parametrize(
    ("layers", "said"),
    [("9", "the model has 2 layers, and 9 cannot be trained"), ("['lm_head']", "fits the name of no parameter")],
)
def test_layers_that_there_are_not_are_told(layers: str, said: str) -> None:
    config = load_config(overrides=[f"model.train_layers={layers}"])
    with pytest.raises(UserError, match=rf"model\.train_layers: .*{said}"):
        load_policy(config, [])


def test_layers_and_adapters_exclude_each_other() -> None:
    with pytest.raises(UserError, match="train_layers and lora both say what trains; leave one out"):
        load_config(overrides=["model.train_layers=1", "model.lora.rank=4"])


def test_the_longest_step_reads_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(overrides=SMALL)
    problems, num_read = read_data(config).training.problems, list[int]()
    policy = load_policy(config, problems)
    read_last = trainer_module.read_last

    def counted(model: Any, input_ids: torch.Tensor, *others: Any) -> dict[str, torch.Tensor]:
        num_read.append(len(input_ids))
        return read_last(model, input_ids, *others)

    monkeypatch.setattr(trainer_module, "read_last", counted)
    step = run_longest_step(config, policy, problems[:2])
    assert num_read == [8], "no response ends, so none is right, and all of them are read"
    assert 0 < step.sampling_seconds < step.seconds


def test_checkpoints_without_the_optimiser_are_models_and_cannot_be_gone_on_from(tmp_path: Path) -> None:
    path = tmp_path / "killed"
    config = load_config(None, [*SMALL, "run.checkpoint_optimizer=false"])
    folder, data = RunFolder.create(path, dump_config(config)), read_data(config)
    write_start(folder, config, data)
    with pytest.raises(Killed):
        train(config, data, folder, Killer())
    checkpoint = folder.last_checkpoint()
    assert checkpoint is not None
    assert not {"optimizer.pt", "scheduler.pt", "rng_state.pth"} & {file.name for file in checkpoint.iterdir()}
    with (
        pytest.raises(UserError, match=r"cannot be resumed: .*--set model\.policy=.*checkpoint-2"),
        ExitStack() as held,
    ):
        resumed_run(path, ConfigRequest(), None, ONE_PROCESS, held)
    assert load_policy(
        load_config(overrides=[f"model.policy={checkpoint}"]), data.training.problems
    ).model.num_parameters()
