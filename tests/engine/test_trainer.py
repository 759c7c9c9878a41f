"""The TRL engine: what it trains on is what the method said, and plain GRPO is TRL's GRPO."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from accelerate.state import AcceleratorState
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainerCallback
from trl import GRPOTrainer

from scope_rlvr.core.groups import GroupClass, Role, SalvageOutcome
from scope_rlvr.core.ports import TeacherReply
from scope_rlvr.core.types import Origin, Outcome, Verdict
from scope_rlvr.engines.trl import trainer as trainer_module
from scope_rlvr.engines.trl.options import UnsupportedOption, refuse_unsupported_model
from scope_rlvr.engines.trl.problems import problem_of_row
from scope_rlvr.engines.trl.trainer import NonFiniteLoss
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.grading.reward import RewardVerifier
from scope_rlvr.methods import METHODS, Cure, Dapo, Grpo, Method, ReLift, Scope, SftThenGrpo
from scope_rlvr.methods.parts.base import Need
from scope_rlvr.methods.step import StepResult
from tests.engine.conftest import MakeTrainer, first_batch

pytestmark = pytest.mark.trl_seam

TRLS_OWN = GRPOTrainer._get_per_token_logps_and_entropies


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def loss_and_gradient(trainer: Any, compute: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    trainer.model.zero_grad()
    loss = compute(trainer.model, batch)
    loss.backward()
    return loss.detach(), gradients(trainer.model)


@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo", "grpo"])
@pytest.mark.parametrize("extras", [{}, {"beta": 0.05}, {"entropy_coef": 0.01, "epsilon": 0.1, "epsilon_high": 0.3}])
def test_grpo_is_trls_own_grpo(make_trainer: MakeTrainer, loss_type: str, extras: dict[str, Any]) -> None:
    trainer = make_trainer(Grpo(), args={"loss_type": loss_type, **extras})
    trainer.current_gradient_accumulation_steps = 1
    batch = first_batch(trainer)
    # An old policy that differs from the present one, so that ratios and clipping matter.
    noise = torch.randn(batch["completion_ids"].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logps = trainer._policy_reading(trainer.model, batch, trainer.method, trainer.objective)["logprob"]
    batch["old_per_token_logps"] = logps + 0.2 * noise
    if "beta" in extras:
        batch["ref_per_token_logps"] = logps + 0.3 * noise.flip(0)

    own = loss_and_gradient(trainer, trainer._compute_loss, batch)
    trls = loss_and_gradient(trainer, lambda m, b: GRPOTrainer._compute_loss(trainer, m, b), batch)

    torch.testing.assert_close(own[0], trls[0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(own[1], trls[1], rtol=1e-4, atol=1e-7)
    assert own[1].abs().max() > 0


def test_log_probabilities_and_entropies_are_trls_own(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Grpo(), args={"temperature": 0.7, "entropy_coef": 0.01})
    batch = first_batch(trainer)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    given = (trainer.model, ids, mask, batch["completion_ids"].size(1))
    is_response = batch["completion_mask"].bool()
    found = []
    for read in (trainer._get_per_token_logps_and_entropies, partial(TRLS_OWN, trainer)):
        logps, entropies, *_ = read(*given, compute_entropy=True)
        trainer.model.zero_grad()
        (logps + 0.5 * entropies)[is_response].mean().backward()
        found.append((logps[is_response].detach(), entropies[is_response].detach(), gradients(trainer.model)))
    for ours, trls in zip(*found, strict=True):
        torch.testing.assert_close(ours, trls, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", ["none", "group", "batch"])
def test_advantages_are_trls_own(make_trainer: MakeTrainer, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(Grpo(), args={"scale_rewards": scale})
    trls: dict[str, torch.Tensor] = {}
    original = GRPOTrainer._generate_and_score_completions

    def spy(self: Any, inputs: Any) -> dict[str, Any]:
        output = original(self, inputs)
        trls["advantages"] = output["advantages"]
        return output

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", spy)
    batch = first_batch(trainer)
    torch.testing.assert_close(batch["advantages"][:, 0], trls["advantages"], rtol=1e-4, atol=1e-5)
    assert trls["advantages"].abs().max() > 0


def test_training_moves_the_policy_towards_right_answers(make_trainer: MakeTrainer, rows: list[dict[str, Any]]) -> None:
    results: list[StepResult] = []
    args = {"max_steps": 28, "num_generations": 8, "per_device_train_batch_size": 32, "learning_rate": 3e-4}
    trainer = make_trainer(Scope(), args=args, train_dataset=Dataset.from_list(rows[:4]), on_groups=results.append)
    trainer.train()
    accuracies = [entry["accuracy"] for entry in trainer.state.log_history if "accuracy" in entry]
    assert len(results) == len(accuracies) == 28
    assert sum(accuracies[-8:]) / 8 > sum(accuracies[:8]) / 8 + 0.1


def test_salvaged_groups_reach_the_loss(make_trainer: MakeTrainer) -> None:
    results: list[StepResult] = []
    trainer = make_trainer(Scope(teacher_term="shaped"), on_groups=results.append)
    trainer.current_gradient_accumulation_steps = 1
    batch = first_batch(trainer)
    members = [member for group in results[0].groups for member in group.members]
    salvaged = [i for i, member in enumerate(members) if member.role is Role.SALVAGED]
    assert salvaged, "nothing was salvaged, so this test proves nothing"
    for i, member in enumerate(members):
        ids = member.rollout.token_ids
        assert tuple(batch["completion_ids"][i, : len(ids)].tolist()) == ids
        teacher = [origin is Origin.TEACHER for origin in member.rollout.origin_T]
        assert batch["is_teacher"][i, : len(ids)].tolist() == teacher
        assert bool(batch["token_weights"][i, len(ids) :].any()) is False
    # A group that the salvage made all right has nothing left to compare.
    assert all(batch["advantages"][i, 0] >= 0 for i in salvaged)
    assert any(batch["advantages"][i, 0] > 0 for i in salvaged)
    trainer._compute_loss(trainer.model, batch)
    figures = trainer._tally.flush()
    assert figures["salvage/admitted"] == len(salvaged)
    assert 0 < figures["gradient/teacher_share"] < figures["gradient/teacher_token_share"] < 0.5


def test_the_sampler_and_the_trainer_agree_on_log_probabilities(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Scope(), args={"temperature": 0.7})
    trainer.current_gradient_accumulation_steps = 1
    trainer._compute_loss(trainer.model, first_batch(trainer))
    assert trainer._tally.flush()["sampler/logp_gap"] < 1e-3


@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo", "grpo"])
def test_micro_batches_change_nothing_but_rounding(make_trainer: MakeTrainer, loss_type: str) -> None:
    weights = []
    for rows, parts in ((16, 1), (4, 4)):
        args = {
            "loss_type": loss_type,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": parts,
            "steps_per_generation": parts,
            "entropy_coef": 0.01,
            "optim": "sgd",
            "learning_rate": 0.1,
            "max_steps": 1,
        }
        trainer = make_trainer(Scope(insertion="append"), args=args | {"num_generations": 4})
        trainer.train()
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("method", [Grpo(), Scope(), Grpo(parts=["entropy_smoothing"])], ids=["grpo", "scope", "term"])
def test_rows_without_advantage_are_not_read_and_change_nothing(
    make_trainer: MakeTrainer, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, num_read = make_trainer(method, args={"num_generations": 8}), list[int]()
    trainer.current_gradient_accumulation_steps, batch = 1, first_batch(trainer)
    # As if every answer of the second group were right.
    batch["advantages"][8:] = 0.0
    trainer.model.double()
    trainer.model.register_forward_pre_hook(
        lambda module, args, kwargs: num_read.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    loss, gradient = loss_and_gradient(trainer, trainer._compute_loss, batch)
    monkeypatch.setattr(trainer_module, "rows_to_read", lambda inputs, needs_advantage: inputs)
    whole_loss, whole_gradient = loss_and_gradient(trainer, trainer._compute_loss, batch)
    expected = 16 if method.parts else int(batch["advantages"].any(1).sum())
    assert (num_read[0], num_read[-1]) == (expected, 16), "a term learns from every row"
    torch.testing.assert_close(loss, whole_loss, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(gradient, whole_gradient, rtol=1e-9, atol=1e-12)
    assert gradient.any()


def test_a_batch_without_any_advantage_still_has_a_gradient_of_zero(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Grpo())
    trainer.current_gradient_accumulation_steps, batch = 1, first_batch(trainer)
    batch["advantages"][:] = 0.0
    loss, gradient = loss_and_gradient(trainer, trainer._compute_loss, batch)
    assert loss == 0
    assert len(gradient) == trainer.model.num_parameters()
    assert not gradient.any()


def test_several_updates_on_the_same_rollouts_use_old_log_probabilities(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Scope(), args={"num_iterations": 2, "max_steps": 4, "learning_rate": 5e-3})
    trainer.train()
    shares = [entry["clip_ratio/region_mean"] for entry in trainer.state.log_history if "accuracy" in entry]
    logged = [
        entry["clip_ratio/region_mean"] for entry in trainer.state.log_history if "clip_ratio/region_mean" in entry
    ]
    assert len(shares) == 2
    assert len(logged) == 4
    assert logged[0] == 0.0
    assert logged[1] > 0.0


def test_a_step_without_gradient_is_told_where_nobody_listens(
    make_trainer: MakeTrainer, rows: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    impossible = Dataset.from_list([row | {"reference": "99"} for row in rows])
    first_batch(make_trainer(Grpo(), train_dataset=impossible))
    assert "no gradient in step 1: every rollout is wrong" in caplog.text


class SilentTeacher:
    """Is never there."""

    def continue_from(self, requests: Any, *, seed: int) -> list[TeacherReply]:
        return [TeacherReply(error="down") for _ in requests]


@pytest.mark.parametrize("insertion", ["append", "pair"])
@pytest.mark.parametrize("loss_type", ["dr_grpo", "dapo", "grpo"])
def test_an_empty_slot_changes_no_baseline_and_no_normaliser(
    make_trainer: MakeTrainer, insertion: str, loss_type: str
) -> None:
    plain = make_trainer(Grpo(), args={"loss_type": loss_type, "entropy_coef": 0.01})
    slotted = make_trainer(
        Scope(insertion=insertion),
        args={
            "loss_type": loss_type,
            "entropy_coef": 0.01,
            "num_generations": 5,
            "per_device_train_batch_size": 20,
        },
        teacher=SilentTeacher(),
    )
    outcomes = []
    for trainer in (plain, slotted):
        trainer.current_gradient_accumulation_steps = 1
        outcomes.append(loss_and_gradient(trainer, trainer._compute_loss, first_batch(trainer)))
    torch.testing.assert_close(outcomes[0][0], outcomes[1][0], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(outcomes[0][1], outcomes[1][1], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("insertion", ["append", "pair"])
def test_reserved_rows_hold_what_was_salvaged(make_trainer: MakeTrainer, insertion: str) -> None:
    results: list[StepResult] = []
    args = {"num_generations": 5, "per_device_train_batch_size": 20}
    trainer = make_trainer(Scope(insertion=insertion), args=args, on_groups=results.append)
    trainer.current_gradient_accumulation_steps = 1
    batch = first_batch(trainer)
    groups = results[0].groups
    assert {group.num_sampled for group in groups} == {4}
    grown = [group for group in groups if len(group.members) == 5]
    assert grown
    shared = grown[0].members[-1].num_shared_tokens
    assert (shared > 0) is (insertion == "pair")
    row = 5 * groups.index(grown[0]) + 4
    assert batch["token_weights"][row, :shared].sum() == 0
    assert batch["token_weights"][row].sum() == len(grown[0].members[-1].rollout) - shared
    assert torch.isfinite(trainer._compute_loss(trainer.model, batch))


class DoubtfulVerifier(FinalAnswerVerifier):
    """Cannot say anything about every third response."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def verify(self, attempts: Any) -> list[Verdict]:
        self.calls.append(len(attempts))
        verdicts = super().verify(attempts)
        return [Verdict(Outcome.UNKNOWN, v.answer, "time-out") if i % 3 == 0 else v for i, v in enumerate(verdicts)]


def test_unknown_verdicts_take_no_part(make_trainer: MakeTrainer) -> None:
    results: list[StepResult] = []
    verifier = DoubtfulVerifier()
    trainer = make_trainer(Grpo(), verifier=verifier, on_groups=results.append)
    batch = first_batch(trainer)
    assert verifier.calls == [16]
    rewards = [reward for rewards_G in results[0].rewards_PG for reward in rewards_G]
    assert [reward is None for reward in rewards] == [i % 3 == 0 for i in range(16)]
    for i, reward in enumerate(rewards):
        assert bool(batch["token_weights"][i].any()) is (reward is not None)
    assert batch["num_weighted_rows"] == sum(reward is not None for reward in rewards)
    for rewards_G, start in zip(results[0].rewards_PG, range(0, 16, 4), strict=True):
        known = [reward for reward in rewards_G if reward is not None]
        for offset, reward in enumerate(rewards_G):
            expected = 0.0 if reward is None else reward - sum(known) / len(known)
            assert batch["advantages"][start + offset, 0].item() == pytest.approx(expected)


def test_other_rewards_add_and_never_admit(make_trainer: MakeTrainer) -> None:
    def generous(completions: list[str], **_: Any) -> list[float]:
        return [10.0 for _ in completions]

    results: list[StepResult] = []
    trainer = make_trainer(Scope(), reward_funcs=[generous], on_groups=results.append)
    first_batch(trainer)
    for group, rewards_G in zip(results[0].groups, results[0].rewards_PG, strict=True):
        for member, reward in zip(group.members, rewards_G, strict=True):
            assert reward == 10.0 + member.verdict.is_right
            assert member.role is Role.SAMPLED or member.verdict.is_right


def test_other_rewards_are_refused_where_problems_are_not_the_rows(make_trainer: MakeTrainer) -> None:
    def generous(completions: list[str], **_: Any) -> list[float]:
        return [10.0 for _ in completions]

    with pytest.raises(UnsupportedOption, match=r"DAPO trains on other problems .* RewardVerifier"):
        make_trainer(Dapo(), reward_funcs=[generous])


def test_methods_that_draw_problems_say_so() -> None:
    for name, method in METHODS.items():
        redraws = any(part.kind == "redraw_flat_groups" for part in method().own_parts)
        assert method().draws_problems is (redraws or Need.PROBLEM_POOL in method().needs), name
    assert Dapo().draws_problems
    assert not Grpo().draws_problems


def test_a_teacher_that_is_down_costs_nothing_but_the_salvage(make_trainer: MakeTrainer) -> None:
    results: list[StepResult] = []
    trainer = make_trainer(Scope(), teacher=SilentTeacher(), on_groups=results.append)
    trainer.train()
    records = [m.salvage for r in results for g in r.groups for m in g.members if m.salvage is not None]
    assert SalvageOutcome.TEACHER_FAILED in {record.outcome for record in records}
    assert all(group.group_class is not GroupClass.SALVAGED for result in results for group in result.groups)


def test_what_a_method_remembers_is_saved_before_anybody_hears_of_a_checkpoint(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    class Listener(TrainerCallback):
        heard: ClassVar[list[str]] = []

        def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.heard.append((tmp_path / "checkpoint-1" / "method.json").read_text())

    args = {"max_steps": 1, "save_strategy": "steps", "save_steps": 1}
    make_trainer(ReLift(), args=args, callbacks=[Listener()]).train()
    (memory,) = map(json.loads, Listener.heard)
    assert list(memory) == ["hardest"]


def test_a_penalty_that_the_method_fixes_brings_its_reference_model(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Grpo(kl=0.5), args={"beta": 0.0})
    trainer.train()
    first, second, *_ = trainer.state.log_history
    assert first["kl"] == pytest.approx(0, abs=1e-6)
    assert second["kl"] > 1e-6
    assert make_trainer(Grpo(kl=0.0), args={"beta": 0.5}).ref_model is None


def test_figures_reach_trls_log(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(Scope())
    trainer.train()
    names = set(trainer.state.log_history[0])
    assert {
        "accuracy",
        "groups/all_wrong",
        "groups/salvaged",
        "salvage/attempted",
        "salvage/admitted",
        "salvage/prefix_ratio",
        "gradient/token_share",
        "gradient/teacher_share",
        "teacher/prob",
        "seconds/sampling",
        "seconds/teacher",
        "entropy",
        "reward",
        "rewards/verifier/mean",
    } <= names


def test_a_reward_function_is_handed_what_trl_hands_out(make_trainer: MakeTrainer) -> None:
    steps: list[int] = []

    def reward(
        completions: list[str],
        reference: list[str],
        trainer_state: Any,
        log_metric: Callable[[str, float], None],
        log_extra: Callable[[str, list[int]], None],
        **_: Any,
    ) -> list[float]:
        steps.append(trainer_state.global_step)
        log_metric("my/characters", len(completions[0]))
        log_extra("characters", [len(text) for text in completions])
        return [float(f"answer {r}" in text) for text, r in zip(completions, reference, strict=True)]

    trainer = make_trainer(verifier=RewardVerifier(reward), args={"max_steps": 2})
    trainer.train()
    assert set(steps) == {0, 1}
    assert all("my/characters" in logs for logs in trainer.state.log_history if "loss" in logs)
    rows = list(trainer._logs["completion"])
    assert list(trainer._logs["extra"]["characters"]) == [len(text) for text in rows]


def test_a_loss_that_is_not_a_number_stops_before_the_update(
    make_trainer: MakeTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(Grpo())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    monkeypatch.setattr(Grpo, "token_loss", lambda self, tokens, clip: tokens.logp_BT * float("nan"))
    with pytest.raises(NonFiniteLoss, match="kept in") as stopped:
        trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    kept = next(tmp_path.glob("refused-batch-*.safetensors"))
    assert str(kept) in str(stopped.value)
    assert load_file(kept)["completion_ids"].shape[0] == 16


def test_a_gradient_that_is_not_a_number_stops_before_the_update(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    trainer = make_trainer(Grpo())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    next(trainer.model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteLoss, match="a gradient is not a number at step 1"):
        trainer.train()
    assert all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    assert list(tmp_path.glob("refused-batch-step-000001.safetensors"))


def test_generation_batches_of_one_step_are_drawn_apart(make_trainer: MakeTrainer, rows: list[dict[str, Any]]) -> None:
    results: list[StepResult] = []
    args = {"gradient_accumulation_steps": 3, "steps_per_generation": 1, "max_steps": 1}
    one_problem = Dataset.from_list([rows[0] | {"id": str(i)} for i in range(16)])
    make_trainer(Grpo(), args=args, train_dataset=one_problem, on_groups=results.append).train()
    written = {tuple(m.rollout.token_ids for g in result.groups for m in g.members) for result in results}
    assert len(results) == len(written) == 3
    assert len({(result.step, result.batch) for result in results}) == 3


def test_an_evaluation_between_two_logs_leaves_the_training_figures_whole(
    make_trainer: MakeTrainer, rows: list[dict[str, Any]]
) -> None:
    totals = []
    for extra in ({}, {"eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 16}):
        trainer = make_trainer(
            Grpo(), args={"logging_steps": 2} | extra, eval_dataset=Dataset.from_list(rows[:4]) if extra else None
        )
        trainer.train()
        totals.append([log["tokens/sampled"] for log in trainer.state.log_history if "tokens/sampled" in log])
    assert totals[0] == totals[1]


def test_an_evaluation_does_not_change_what_is_trained(make_trainer: MakeTrainer, rows: list[dict[str, Any]]) -> None:
    def weights(**more: Any) -> dict[str, torch.Tensor]:
        args = {"max_steps": 3, "steps_per_generation": 2, "per_device_train_batch_size": 4} | more.pop("args", {})
        trainer = make_trainer(args=args, **more)
        trainer.train()
        return dict(trainer.model.state_dict())

    alone = weights()
    watched = weights(eval_dataset=Dataset.from_list(rows), args={"eval_strategy": "steps", "eval_steps": 1})
    assert all(torch.equal(alone[name], watched[name]) for name in alone)


def test_rows_for_evaluation_are_checked_at_construction(make_trainer: MakeTrainer) -> None:
    broken = Dataset.from_list([{"prompt": "reduce 1 2\n\n"}] * 4)
    with pytest.raises(ValueError, match="row 0 of the held out data"):
        make_trainer(Grpo(), eval_dataset={"held out": broken})


@pytest.mark.parametrize(
    "args",
    [
        {"loss_type": "bnpo"},
        {"importance_sampling_level": "sequence"},
        {"top_entropy_quantile": 0.2},
        {"mask_truncated_completions": True},
        {"repetition_penalty": 1.1},
        {"delta": 4.0},
        {"off_policy_mask_threshold": 0.0},
    ],
)
def test_options_that_would_be_ignored_are_refused(make_trainer: MakeTrainer, args: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedOption, match=next(iter(args))):
        make_trainer(Grpo(), args=args)


@pytest.mark.parametrize("name", ["tools", "environment_factory", "rollout_func"])
def test_what_would_make_the_rollouts_elsewhere_is_refused(make_trainer: MakeTrainer, name: str) -> None:
    with pytest.raises(UnsupportedOption, match=name):
        make_trainer(Grpo(), **{name: [lambda: None]})


def test_a_method_without_its_helpers_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="needs a teacher"):
        make_trainer(Scope(), teacher=None)
    with pytest.raises(ValueError, match="needs a step scorer"):
        make_trainer(Scope(), step_scorer=None)
    make_trainer(Scope(max_salvages=0), teacher=None, step_scorer=None)


def test_groups_that_would_be_split_are_refused(make_trainer: MakeTrainer) -> None:
    args = {"per_device_train_batch_size": 6, "steps_per_generation": 2, "gradient_accumulation_steps": 2}
    make_trainer(Grpo(), args=args)
    with pytest.raises(ValueError, match="reserved"):
        make_trainer(Scope(insertion="append", max_salvages=3))


@pytest.mark.parametrize(
    ("method", "stage", "match"),
    [
        (SftThenGrpo(), 2, "before method SFT, then GRPO could set its learning rate"),
        (Cure(), 1, "before method CURE could"),
        (ReLift(), 1, "ReLIFT makes beside the step's can be made neither with DeepSpeed"),
        (Grpo(), 3, "cannot sample rollouts"),
        (Grpo(), 2, None),
    ],
)
def test_what_deepspeed_would_get_in_the_way_of_is_refused(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch, method: Method, stage: int, match: str | None
) -> None:
    trainer, plugin = make_trainer(method), SimpleNamespace(zero_stage=stage)
    monkeypatch.setattr(AcceleratorState, "deepspeed_plugin", property(lambda self: plugin))
    with nullcontext() if match is None else pytest.raises(UnsupportedOption, match=match):
        refuse_unsupported_model(trainer)


def test_a_row_without_reference_is_refused(make_trainer: MakeTrainer) -> None:
    with pytest.raises(ValueError, match="needs a prompt and a reference"):
        problem_of_row({"prompt": "reduce 1 2\n\n", "answer": ""})
    with pytest.raises(ValueError, match="reference"):
        make_trainer(Grpo(), train_dataset=Dataset.from_list([{"prompt": "reduce 1 2\n\n"}] * 16))


def test_conversational_prompts_use_the_chat_template(make_trainer: MakeTrainer, rows: list[dict[str, Any]]) -> None:
    results: list[StepResult] = []
    chats = [row | {"prompt": [{"role": "user", "content": row["prompt"]}]} for row in rows]
    trainer = make_trainer(Grpo(), train_dataset=Dataset.from_list(chats), on_groups=results.append)
    trainer.processing_class.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    first_batch(trainer)
    group = results[0].groups[0]
    assert group.problem.prompt.startswith("reduce ")
    assert trainer.codec.encode(group.problem.prompt) == group.members[0].rollout.prompt_ids
