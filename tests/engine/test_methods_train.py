"""Every method trains the embedded policy for two steps on the real trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.methods import METHODS
from scope_rlvr.methods.step import StepResult
from scope_rlvr.problems import families
from tests.engine.conftest import grpo_config, load_policy


@pytest.mark.parametrize("name", sorted(METHODS))
def test_two_steps(name: str, tmp_path: Path, rows: list[dict[str, Any]], scorer: Any, teacher: Any) -> None:
    model, tokenizer = load_policy()
    method = METHODS[name]()
    rows_per_group = 4 + method.num_reserved_rows
    before = [parameter.clone() for parameter in model.parameters()]
    seen: list[StepResult] = []
    trainer = ScopeTrainer(
        model=model,
        method=method,
        verifier=FinalAnswerVerifier(families.get("reduction").answer_pattern),
        step_scorer=scorer,
        teacher=teacher,
        args=grpo_config(tmp_path, num_generations=rows_per_group, per_device_train_batch_size=4 * rows_per_group),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        on_groups=seen.append,
    )
    trainer.train()
    logs = [log for log in trainer.state.log_history if "loss" in log]
    assert len(logs) == 2
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())
    assert any((a != b).any() for a, b in zip(before, model.parameters(), strict=True)), "nothing was learned"
    for result in seen:
        for streams_G, group in zip(result.streams_PG, result.groups, strict=True):
            assert [len(s.weight_T) for s in streams_G] == [len(member.rollout) for member in group.members]
