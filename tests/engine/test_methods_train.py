"""Every method trains the embedded policy for two steps on the real trainer, and keeps what all methods promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from scope_rlvr.core.groups import Group, Member, Role, Streams
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.methods import METHODS
from scope_rlvr.methods.step import StepResult
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.problems import families
from tests.engine.conftest import EqualJudge, grpo_config, load_policy

OTHER_SEAMS = {"cure", "dapo", "grpo", "relift", "scope", "sft_then_grpo"}
"""Methods that lean on TRL differently: stages, other problems, nothing, updates beside the step, rows of a teacher's."""

NUMBERS = {"choices": [*"13579"], "tag": "answer {choice}"}
OPTIONS: dict[str, dict[str, Any]] = {"rm_r1": NUMBERS, "ssb": {"template": "{right}\n\n{prompt}"}}
"""Options without which a method asks the embedded policy for something in English, which it does not read."""

NAMES = [pytest.param(name, marks=[pytest.mark.trl_seam] * (name in OTHER_SEAMS)) for name in sorted(METHODS)]


@pytest.mark.parametrize("name", NAMES)
def test_two_steps(name: str, tmp_path: Path, rows: list[dict[str, Any]], scorer: Any, teacher: Any) -> None:
    model, tokenizer = load_policy()
    method = METHODS[name](**OPTIONS.get(name, {}))
    rows_per_group = 4 + method.num_reserved_rows
    before = [parameter.clone() for parameter in model.parameters()]
    seen: list[StepResult] = []
    trainer = ScopeTrainer(
        model=model,
        method=method,
        verifier=FinalAnswerVerifier(families.get("reduction").answer_pattern),
        step_scorer=scorer,
        teacher=teacher,
        judge=EqualJudge(),
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
        for streams_G, rewards_G, group in zip(result.streams_PG, result.rewards_PG, result.groups, strict=True):
            for streams, reward, member in zip(streams_G, rewards_G, group.members, strict=True):
                require_kept_promises(streams, reward, member, trainer.codec)
            require_untouched_prefixes(group)


def require_kept_promises(streams: Streams, reward: float | None, member: Member, codec: TokenizerCodec) -> None:
    """Segments partition the response and end once, the verifier alone says what is right, and unknown trains nothing."""
    rollout = member.rollout
    ids = [token for segment in rollout.segments for token in segment.token_ids]
    assert (*ids,) == rollout.token_ids
    assert len(ids) == len(streams.weight_T) == len(streams.advantage_T) <= grpo_config(Path()).max_completion_length
    assert streams.origin_T == rollout.origin_T
    assert streams.behaviour_logprob_T == rollout.logprob_T
    assert not any(token in codec.end_ids for token in ids[:-1])
    assert rollout.is_truncated is not (ids[-1] in codec.end_ids)
    assert reward is None or member.verdict.is_known
    assert member.role is not Role.SALVAGED or member.verdict.is_right
    assert not any(streams.advantage_T[: member.num_shared_tokens])
    assert not any(streams.weight_T[: member.num_shared_tokens])
    if reward is None:
        assert not any(streams.advantage_T)
        assert not any(streams.weight_T)


def require_untouched_prefixes(group: Group) -> None:
    """What a salvaged rollout keeps of its failure are the very tokens that were sampled, with their log-probabilities."""
    failures = [member.rollout for member in (*group.replaced, *group.members) if member.role is Role.SAMPLED]
    for member in group.members:
        if member.role is Role.SALVAGED:
            assert member.salvage is not None
            kept = member.salvage.num_kept_tokens
            assert any(member.rollout.cut(kept).segments == failure.cut(kept).segments for failure in failures)
