"""Every part trains the embedded policy for two steps inside GRPO on the real trainer, and so do several together in SCOPE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import TrainerState

from scope_rlvr.methods import Grpo, Method, Rft, Scope
from scope_rlvr.methods.registry import PARTS
from tests.engine.conftest import EqualJudge, MakeTrainer

FREE = sorted(set(PARTS))
OPTIONS = {
    "reasoning_phrases": {"phrases": ["one", "2", "3", "7"], "enough": 4},
    "verdict_tag": {"choices": [*"13579"], "tag": "answer {choice}"},
}
"""Options without which a part has nothing to say about the embedded problems."""
TEACHES_NOTHING = {"format_reward"}
"""A control: the embedded policy always answers, so that all rollouts are paid the same."""


def trained(make_trainer: MakeTrainer, method: Method, learns: bool = True, **args: Any) -> Any:
    trainer = make_trainer(method, judge=EqualJudge(), args=args)
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert learns is any((a != b).any().item() for a, b in zip(before, after, strict=True))
    return trainer


@pytest.mark.parametrize("kind", FREE)
def test_two_steps(make_trainer: MakeTrainer, kind: str) -> None:
    part = {"kind": kind, **OPTIONS.get(kind, {})}
    trained(make_trainer, Grpo(parts=[part]), learns=kind not in TEACHES_NOTHING)


def test_many_parts_in_scope(make_trainer: MakeTrainer) -> None:
    parts = ["bandit", "annealed_decoding", "replay", "novelty_bonus", "step_rewards", "confidence_penalty"]
    parts += ["forking_tokens", "entropy_smoothing", {"kind": "anchor", "weight": 0.1}]
    trainer = trained(make_trainer, Scope(parts=parts), num_generations=4, per_device_train_batch_size=16)
    assert {"bandit", "replay", "entropy_smoothing"} <= set(trainer.memory)


REMEMBERING = [
    "anchor",
    "value_baseline",
    "replay",
    "entropy_smoothing",
    "bandit",
    "anchored_entropy",
    "refined_labels",
]


@pytest.mark.parametrize("kind", [*REMEMBERING, "most_varied"])
def test_a_method_with_memory_goes_on_from_the_checkpoint_that_it_is_given(
    make_trainer: MakeTrainer, tmp_path: Path, kind: str
) -> None:
    part = {"kind": kind, "weight": 1.0} if kind in ("anchor", "entropy_smoothing", "anchored_entropy") else kind
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "save_only_model": False}
    whole = trained(make_trainer, Grpo(parts=[part]), output_dir=str(tmp_path / "whole"), **saving)
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "whole" / "checkpoint-2").rename(elsewhere)
    resumed = make_trainer(
        Grpo(parts=[part]), judge=EqualJudge(), args=saving | {"output_dir": str(tmp_path / "resumed")}
    )
    resumed.train(resume_from_checkpoint=str(elsewhere))
    assert resumed.memory == whole.memory
    assert sorted(resumed.tensors) == sorted(whole.tensors)
    for name, tensor in whole.tensors.items():
        assert torch.equal(tensor, resumed.tensors[name]), name
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_practised_corrections_go_on_from_a_checkpoint(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    method = Scope(insertion="pair", parts=[{"kind": "correction_buffer", "learned_at": 0.5}])
    saving = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "save_only_model": False, "logging_steps": 1}
    whole = trained(make_trainer, method, output_dir=str(tmp_path / "whole"), **saving)
    figures = [log for log in whole.state.log_history if "method/corrections" in log]
    assert [log["step"] for log in figures] == [1, 2, 3, 4]
    assert figures[-1]["method/corrections"] == len(whole.memory["correction_buffer"]["corrections"]) > 0
    assert 0 < figures[-1]["method/correction_probability"] < 1
    resumed = make_trainer(method, args=saving | {"output_dir": str(tmp_path / "resumed")})
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert resumed.memory == whole.memory
    for ours, theirs in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_checkpoint_of_another_method_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    saving = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "output_dir": str(tmp_path / "run")}
    trained(make_trainer, Grpo(), **saving)
    other = make_trainer(Rft(), args=saving | {"output_dir": str(tmp_path / "other")})
    before = [parameter.clone() for parameter in other.model.parameters()]
    with pytest.raises(ValueError, match="is a checkpoint of method 'grpo', and training goes on with 'rft'"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    assert all(torch.equal(a, b) for a, b in zip(before, other.model.parameters(), strict=True))


BATCH_WIDE = ["overlong_penalty", "confidence_penalty", "forking_tokens", "entropy_smoothing", "sequence_ratio"]
BATCH_WIDE += ["entropy_change", "covariance_mask", "uncertainty"]


@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo", "grpo"])
def test_micro_batches_change_nothing_but_rounding_whatever_the_parts(
    make_trainer: MakeTrainer, loss_type: str
) -> None:
    parts = [*BATCH_WIDE, {"kind": "anchor", "weight": 0.5, "to": "reference"}]
    weights = []
    for rows, num_parts in ((16, 1), (4, 4)):
        size = {"per_device_train_batch_size": rows, "gradient_accumulation_steps": num_parts}
        args = {"loss_type": loss_type, "steps_per_generation": num_parts, "optim": "sgd", "learning_rate": 0.1}
        trainer = trained(make_trainer, Grpo(parts=parts), **size, **args)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=5e-6)


def test_what_is_remembered_comes_back_in_its_order(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(Grpo(), args={"output_dir": str(tmp_path)})
    trainer.memory = {"buffer": {"z": 1, "a": [2.5, None]}}
    (folder := tmp_path / "checkpoint-1").mkdir()
    trainer.method_state.on_save(trainer.args, TrainerState(global_step=1), trainer.control)
    other = make_trainer(Grpo())
    other.method_state.begins_from = folder
    other.method_state.on_train_begin(other.args, other.state, other.control)
    assert other.memory == trainer.memory
    assert list(other.memory["buffer"]) == ["z", "a"]


@pytest.mark.parametrize("memory", [{7: 1}, {"rates": {3: 0.5}}, {"queue": [{"of": {2: "x"}}]}])
def test_keys_that_a_checkpoint_would_change_are_refused(
    make_trainer: MakeTrainer, tmp_path: Path, memory: dict[Any, Any]
) -> None:
    trainer = make_trainer(Grpo(), args={"output_dir": str(tmp_path)})
    trainer.memory = memory
    (tmp_path / "checkpoint-1").mkdir()
    with pytest.raises(TypeError, match=r"has the key \d, which a checkpoint would give back as '\d'"):
        trainer.method_state.on_save(trainer.args, TrainerState(global_step=1), trainer.control)


EVALUATED = ["forking_tokens", {"kind": "anchor", "weight": 1.0}, "entropy_smoothing", "value_baseline"]


def test_an_evaluation_is_grpos_and_teaches_no_part_anything(
    make_trainer: MakeTrainer, rows: list[dict[str, Any]]
) -> None:
    losses = []
    for parts in ([], EVALUATED):
        args = {"per_device_eval_batch_size": 16, "entropy_coef": 0.01}
        trainer = make_trainer(Grpo(parts=parts), args=args, eval_dataset=Dataset.from_list(rows[:8]))
        losses.append(trainer.evaluate()["eval_loss"])
        assert (trainer.memory, trainer.tensors) == ({}, {})
    assert losses[0] == losses[1] != 0
