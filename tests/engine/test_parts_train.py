"""Every part trains the embedded policy for two steps inside GRPO on the real trainer, and so do several together in SCOPE."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scope_rlvr.core.ports import JudgeReply, JudgeRequest
from scope_rlvr.methods import Grpo, Method, Rft, Scope
from scope_rlvr.methods.registry import PARTS
from tests.engine.conftest import MakeTrainer

FREE = sorted(set(PARTS))
BASES = {"reverse_kl": Grpo(drop_flat_groups=False)}


class EqualJudge:
    def judge(self, requests: list[JudgeRequest], *, seed: int) -> list[JudgeReply]:
        return [JudgeReply(tuple(1 / len(r.responses) for _ in r.responses)) for r in requests]


def trained(make_trainer: MakeTrainer, method: Method, **args: Any) -> Any:
    trainer = make_trainer(method, judge=EqualJudge(), args=args)
    before = [parameter.clone() for parameter in trainer.model.parameters()]
    trainer.train()
    after = list(trainer.model.parameters())
    assert all(torch.isfinite(parameter).all() for parameter in after)
    assert any((a != b).any() for a, b in zip(before, after, strict=True)), "nothing was learned"
    return trainer


@pytest.mark.parametrize("kind", FREE)
def test_two_steps(make_trainer: MakeTrainer, kind: str) -> None:
    trained(make_trainer, Grpo(parts=[kind]))


def test_many_parts_in_scope(make_trainer: MakeTrainer) -> None:
    parts = ["bandit", "annealed_decoding", "replay", "novelty_bonus", "step_rewards", "confidence_penalty"]
    parts += ["forking_tokens", "entropy_smoothing", {"kind": "anchor", "weight": 0.1}]
    trainer = trained(make_trainer, Scope(parts=parts), num_generations=4, per_device_train_batch_size=16)
    assert {"bandit", "replay", "entropy_smoothing"} <= set(trainer.memory)


@pytest.mark.parametrize("kind", ["anchor", "value_baseline", "replay", "entropy_smoothing"])
def test_a_method_with_memory_goes_on_from_the_checkpoint_that_it_is_given(
    make_trainer: MakeTrainer, tmp_path: Path, kind: str
) -> None:
    part = {"kind": kind, "weight": 1.0} if kind in ("anchor", "entropy_smoothing") else kind
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


def test_a_checkpoint_of_another_method_is_refused(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    saving = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1, "output_dir": str(tmp_path / "run")}
    trained(make_trainer, Grpo(), **saving)
    other = make_trainer(Rft(), args=saving | {"output_dir": str(tmp_path / "other")})
    before = [parameter.clone() for parameter in other.model.parameters()]
    with pytest.raises(ValueError, match="is a checkpoint of method 'grpo', and training goes on with 'rft'"):
        other.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-1"))
    assert all(torch.equal(a, b) for a, b in zip(before, other.model.parameters(), strict=True))
