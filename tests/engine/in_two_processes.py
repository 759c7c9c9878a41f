"""What the processes of a run do together, played by two of them: started by ``torchrun``, asserted on by test_processes.

    torchrun --standalone --nproc-per-node 2 -m tests.engine.play_in_two_processes FOLDER

Every act is a function of the folder, in which the test has laid down what it needs; what an act returns is written to
``FOLDER/said-<process>.json``. Acts whose outcome one process is to come to as well are called by the test itself.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import TrainerCallback

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.groups import Group, Member, Role
from scope_rlvr.core.ports import TeacherReply
from scope_rlvr.core.processes import Processes
from scope_rlvr.core.toolbox import Toolbox
from scope_rlvr.core.types import Origin, Outcome, Rollout, Segment, Verdict
from scope_rlvr.embedded import model_path
from scope_rlvr.engines.processes import leave, meet
from scope_rlvr.engines.samplers import VllmSampler, VllmServer
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.formulas.losses import Aggregation
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.methods import METHODS, Grpo, Method, Scope, Sft
from scope_rlvr.methods.method import SideUpdate
from scope_rlvr.methods.step import StepResult
from scope_rlvr.models.local import TokenizerCodec
from scope_rlvr.problems import families
from scope_rlvr.run.config import dump_config, load_config
from scope_rlvr.run.data import read_data
from scope_rlvr.run.train import train
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorers.families import TokenClassifier
from scope_rlvr.scorers.token_classifier import TokenClassifierScorer, load_token_classifier
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.teachers.local import LocalTeacher
from tests import fake_vllm
from tests.doubles import ExactJudge
from tests.engine.conftest import grpo_config, load_policy
from tests.engine.test_run import RecordingDisplay

ROWS = 24
"""Rows of a step in all processes: four groups of six, of which one row is reserved."""

REPLAYED_STEPS = 2
SMALL_RUN = (
    "run.steps=4",
    "run.problems_per_step=4",
    "run.rollouts_per_problem=4",
    "run.checkpoint_every=2",
    "sampling.batch_rows=4",
    "problems.level=5",
    "evaluation.sets=[{role='trained', level=5}, {role='out of distribution', level=6}]",
    "evaluation.num_problems=4",
    "evaluation.samples_per_problem=2",
    "evaluation.batch_rows=4",
)


# --- rollouts, written down and replayed ------------------------------------------------------------------------------


def written_down(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """Groups as JSON."""
    return [
        {
            "problem": group.problem.id,
            "members": [
                {
                    "prompt_ids": member.rollout.prompt_ids,
                    "segments": [[s.origin.value, s.token_ids, s.logprobs] for s in member.rollout.segments],
                    "is_truncated": member.rollout.is_truncated,
                    "outcome": member.verdict.outcome.value,
                    "role": member.role.value,
                    "num_shared_tokens": member.num_shared_tokens,
                }
                for member in group.members
            ],
        }
        for group in groups
    ]


def _member(written: dict[str, Any]) -> Member:
    segments = tuple(
        Segment(tuple(ids), Origin(origin), None if logprobs is None else tuple(logprobs))
        for origin, ids, logprobs in written["segments"]
    )
    rollout = Rollout(tuple(written["prompt_ids"]), segments, written["is_truncated"])
    shared = written["num_shared_tokens"]
    return Member(rollout, Verdict(Outcome(written["outcome"])), Role(written["role"]), num_shared_tokens=shared)


class Replay(Scope):
    """Trains on rollouts that were written down, as SCOPE would if they were its own."""

    file: Path

    def sample(self, groups: Sequence[Group], num_rollouts: int, tools: Toolbox) -> list[Group]:
        written = {group["problem"]: group["members"] for group in json.loads(self.file.read_text())}
        return [Group(g.problem, tuple(map(_member, written[g.problem.id])), prompt_ids=g.prompt_ids) for g in groups]

    def edit_groups(self, groups: Sequence[Group], tools: Toolbox) -> list[Group]:
        return list(groups)


class DoubtfulVerifier(FinalAnswerVerifier):
    """Cannot say anything about some responses."""

    def verify(self, attempts: Any) -> list[Verdict]:
        unknown = Verdict(Outcome.UNKNOWN, None, "odd")
        pairs = zip(attempts, super().verify(attempts), strict=True)
        return [unknown if sum(map(ord, text)) % 6 == 0 else verdict for (_, text), verdict in pairs]


def problem_rows(levels: Sequence[int]) -> list[dict[str, Any]]:
    """Sixteen problems, level by level in turn."""
    drawn = {level: families.get("reduction").sample(level=level, count=16, seed=3) for level in levels}
    problems = [drawn[levels[i % len(levels)]][i] for i in range(16)]
    return [{"prompt": p.prompt, "reference": p.reference, "id": p.id, "level": p.level} for p in problems]


def make_trainer(folder: Path, method: Method, levels: Sequence[int] = (4, 5, 6, 7, 8), **changes: Any) -> ScopeTrainer:
    """A trainer of four groups a step; ``changes`` are keyword arguments of the trainer, or options of TRL in ``args``."""
    rows = {"num_generations": 6, "per_device_train_batch_size": ROWS // meet().count, "max_completion_length": 64}
    model, tokenizer = load_policy()
    step_scorer, teacher = _helpers()
    given = {"verifier": FinalAnswerVerifier(), "step_scorer": step_scorer, "teacher": teacher, "sampling_rows": 5}
    return ScopeTrainer(
        model=model,
        processing_class=tokenizer,
        method=method,
        train_dataset=Dataset.from_list(problem_rows(levels)),
        args=grpo_config(folder, **(rows | changes.pop("args", {}))),
        **(given | changes),
    )


@cache
def _helpers() -> tuple[TokenClassifierScorer, LocalTeacher]:
    _, tokenizer = load_policy()
    scorer = load_token_classifier(model_path("step_scorer"), TokenClassifier(), Threshold())
    return scorer, LocalTeacher.load(model_path("teacher"), TokenizerCodec(tokenizer), dtype=torch.float32)


# --- one loss ---------------------------------------------------------------------------------------------------------

LOSSES: dict[str, dict[str, Any]] = {
    **{name: {"loss_type": name, "scale_rewards": "none"} for name in ("dr_grpo", "dapo", "grpo")},
    **{name: {"loss_type": "dapo", "scale_rewards": name} for name in ("group", "batch")},
    "penalties": {"loss_type": "dapo", "beta": 0.05, "entropy_coef": 0.02},
    "several updates": {"loss_type": "grpo", "num_iterations": 2},
    "micro-batches": {"loss_type": "dapo", "micro_batches": 2},
}
MUTATED = "each process its own normaliser"


class _Watch(TrainerCallback):
    """Keeps the gradient of every step, as the optimiser gets it."""

    def __init__(self) -> None:
        self.gradients: list[torch.Tensor] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.gradients.append(torch.cat([p.grad.flatten() for p in kwargs["model"].parameters()]))


def replay(folder: Path, options: dict[str, Any], *, mutated: bool = False) -> dict[str, torch.Tensor]:
    """Losses, gradients and weights of some steps on the rollouts in ``folder/replayed.json``."""
    options = dict(options)
    parts = options.pop("micro_batches", 1)
    rows = {"per_device_train_batch_size": ROWS // meet().count // parts}
    accumulated = {"gradient_accumulation_steps": parts, "steps_per_generation": parts}
    steps = {"max_steps": REPLAYED_STEPS * options.get("num_iterations", 1), "optim": "sgd", "learning_rate": 0.1}
    watch = _Watch()
    trainer = make_trainer(
        folder / "trainer",
        Replay(file=folder / "replayed.json", insertion="append", teacher_weight=3.0),
        # Without a largest norm, so that the size of a gradient shows.
        args=rows | accumulated | steps | {"max_grad_norm": 0.0} | options,
        callbacks=[watch],
    )
    if mutated:
        trainer._shared_count = lambda own: own.float()
    trainer.train()
    weights = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
    losses = torch.tensor([log["loss"] for log in trainer.state.log_history if "loss" in log])
    return {"losses": losses, "gradients": torch.stack(watch.gradients), "weights": weights}


def all_losses(folder: Path) -> dict[str, torch.Tensor]:
    found = {name: replay(folder, options) for name, options in LOSSES.items()}
    return {f"{name}/{part}": value for name, parts in found.items() for part, value in parts.items()}


def losses_of_two(folder: Path) -> None:
    found = all_losses(folder)
    mutated = replay(folder, LOSSES["dapo"], mutated=True)
    found |= {f"{MUTATED}/{part}": value for part, value in mutated.items()}
    if meet().is_main:
        save_file(found, folder / "losses.safetensors")


class Aside(Grpo):
    """Learns nothing in the step, and beside it imitates a trace of all but one of its problems."""

    def advantages(self, groups: Any, rewards_PG: Any, normalisation: Any) -> Any:
        return [[[0.0] * len(member.rollout) for member in group.members] for group in groups]

    def side_updates(self, groups: Any, tools: Toolbox) -> list[SideUpdate]:
        sft = Sft(aggregation=Aggregation.TOKEN_MEAN)
        bare = [Group(group.problem, (), prompt_ids=group.prompt_ids) for group in groups[:-1]]
        return [SideUpdate(sft, tuple(sft.edit_groups(bare, tools)))]


def side_updates(folder: Path) -> dict[str, Any]:
    """Figures of three updates, one row at a time, and what the optimiser came to."""
    args = {"max_steps": 3, "per_device_train_batch_size": 1, "learning_rate": 1e-5}
    parts = {"gradient_accumulation_steps": ROWS // meet().count, "steps_per_generation": ROWS // meet().count}
    trainer = make_trainer(folder / "trainer", Aside(), args=args | parts)
    trainer.train()
    (optimizer,) = trainer.side_updates._optimizers.values()
    moments = [optimizer.state[p]["exp_avg"].norm().item() for p in trainer.model.parameters()]
    logs = [log for log in trainer.state.log_history if "loss" in log]
    return {"moments": moments, "figures": [{n: v for n, v in log.items() if n.startswith("side/")} for log in logs]}


# --- every method -----------------------------------------------------------------------------------------------------


class ServedTeacher:
    """Says that it stands behind a server, and counts what it is asked."""

    is_served = True

    def __init__(self, teacher: LocalTeacher) -> None:
        self.teacher = teacher
        self.num_asked = 0

    def continue_from(self, requests: Any, *, seed: int) -> list[TeacherReply]:
        self.num_asked += len(requests)
        return self.teacher.continue_from(requests, seed=seed)


def batches_of_all_methods(folder: Path) -> dict[str, Any]:
    """What every method makes of its first generation batches: groups, advantages and memory."""
    seen: list[StepResult] = []
    # Of the two groups that this seed begins with one fails as a whole, which is where most methods begin to differ.
    small = {
        "num_generations": 4,
        "per_device_train_batch_size": 8 // meet().count,
        "max_completion_length": 56,
        "seed": 5,
    }
    # With a reference and an average to be read, and with a judge, there is whatever any method needs.
    anybody = Scope(parts=["confidence_penalty", "anchor"])
    judge = ExactJudge(goodness=len)
    trainer = make_trainer(folder / "trainer", anybody, levels=[4, 6], args=small, on_groups=seen.append, judge=judge)
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    found = {}
    for name, method in METHODS.items():
        # Of the four rows some methods would by default reserve all, or nearly so.
        trainer.method, trainer.memory = (
            method(**({"extra_rows": 1} if "extra_rows" in method.model_fields else {})),
            {},
        )
        # Of the two groups one fails: ReLIFT needs two batches for as many failures as a step has groups.
        for _ in range(2 if name == "relift" else 1):
            trainer._generate_and_score_completions([dict(row) for row in batch])
        aside = [group for update in seen[-1].side_updates for group in update.groups]
        found[name] = {
            "groups": written_down([*seen[-1].groups, *aside]),
            "advantages": [[s.advantage_T for s in streams_G] for streams_G in seen[-1].streams_PG],
            "memory": trainer.memory,
        }
    return found


PARTS: dict[str, list[Any]] = {
    "from memory": ["bandit", "replay", "entropy_smoothing", {"kind": "anchor", "weight": 0.1}],
    "of the batch": ["novelty_bonus", "confidence_penalty", "forking_tokens", "sequence_ratio"],
    "a head and a judge": ["value_baseline", "tournament"],
}


def steps_with_parts(folder: Path) -> dict[str, Any]:
    """What two steps with parts come to: groups, advantages, losses, and what is remembered."""
    found = {}
    for name, parts in PARTS.items():
        seen: list[StepResult] = []
        args = {"max_steps": 2, "learning_rate": 1e-5, "optim": "sgd"}
        trainer = make_trainer(
            folder / "trainer", Grpo(parts=parts), args=args, on_groups=seen.append, judge=ExactJudge(goodness=len)
        )
        trainer.train()
        found[name] = {
            "groups": written_down([group for result in seen for group in result.groups]),
            "advantages": [s.advantage_T for result in seen for streams_G in result.streams_PG for s in streams_G],
            "losses": [log["loss"] for log in trainer.state.log_history if "loss" in log],
            "memory": trainer.memory,
            "tensors": {name: tensor.double().sum().item() for name, tensor in sorted(trainer.tensors.items())},
        }
    return found


FIGURES = (
    "accuracy",
    "loss",
    "grad_norm",
    "groups/",
    "salvage/",
    "teacher/",
    "tokens/",
    "gradient/",
    "entropy",
    "rollouts/",
)


def figures(folder: Path) -> dict[str, float]:
    """The figures of a step of SCOPE, times aside."""
    trainer = make_trainer(folder / "trainer", Scope(), args={"max_steps": 1})
    trainer.train()
    return {name: value for name, value in trainer.state.log_history[0].items() if name.startswith(FIGURES)}


def served_teacher(folder: Path) -> int:
    """How many questions this process asked of a teacher behind a server."""
    trainer = make_trainer(folder / "trainer", Scope(), args={"max_steps": 1})
    trainer.teacher = ServedTeacher(trainer.teacher)
    trainer.train()
    return trainer.teacher.num_asked


def vllm(folder: Path) -> dict[str, Any]:
    """A batch that a stand-in for vLLM samples, in each way, and how many rows this process's vLLM was asked for at once."""
    found = {}
    for sampler, made_by in ((VllmSampler(), fake_vllm.LLM), (VllmServer(), fake_vllm.Client)):
        with pytest.MonkeyPatch.context() as patch, fake_vllm.installed(patch, model_path("policy")):
            seen: list[StepResult] = []
            trainer = make_trainer(folder / "trainer", Scope(), args=sampler.in_trl(), on_groups=seen.append)
            trainer.model.train()
            trainer._generate_and_score_completions(next(iter(trainer.get_train_dataloader())))
            made = getattr(made_by, "made", None)
            calls = [] if made is None else [call["num_prompts"] for call in made.copy.calls]
            found[sampler.kind] = {"groups": written_down(seen[0].groups), "calls": calls}
    return found


# --- together ---------------------------------------------------------------------------------------------------------


def told_of(work: Callable[[], object]) -> str:
    try:
        return str(work())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def shared_work(folder: Path) -> dict[str, str]:
    """What comes of work that is shared, and of errors in one process."""
    processes = meet()

    def only_in(index: int, error: Exception) -> Callable[[], str]:
        def work() -> str:
            if processes.index == index:
                raise error
            return "done"

        return work

    def as_one() -> str:
        with processes.as_one("loading"):
            only_in(1, UserError("no such file"))()
        return "went on"

    return {
        "parts": told_of(
            lambda: processes.spread("doubling", [1, 2, 3], lambda part: [(2 * i, len(part)) for i in part])
        ),
        "few": told_of(lambda: processes.spread("doubling", [1], lambda part: [2 * i for i in part])),
        "short": told_of(lambda: processes.spread("doubling", [1, 2, 3], lambda part: [2] * min(len(part), 1))),
        "once": told_of(lambda: processes.once("naming", lambda: f"process {processes.index}")),
        "user error": told_of(lambda: processes.together("loading", only_in(1, UserError("no such file")))),
        "of the main one": told_of(lambda: processes.together("loading", only_in(0, UserError("no such file")))),
        "other error": told_of(lambda: processes.together("loading", only_in(1, ValueError("bad\nvalue")))),
        "block": told_of(as_one),
        "out of step": told_of(lambda: processes.together(f"at {processes.index}", lambda: 0)),
        "equal": told_of(lambda: processes.require_equal("the seeds", lambda: 3)),
        "unequal": told_of(lambda: processes.require_equal("the seeds", lambda: processes.index)),
    }


# --- whole runs -------------------------------------------------------------------------------------------------------


def run(path: Path, *overrides: str) -> tuple[Any, RecordingDisplay]:
    processes, display = meet(), RecordingDisplay()
    config = load_config(None, [*SMALL_RUN, *overrides])
    processes.once("making the folder", lambda: RunFolder.create(path, dump_config(config)).path)
    return train(config, read_data(config), RunFolder(path, is_read_only=not processes.is_main), display), display


def whole_run(folder: Path) -> dict[str, Any]:
    outcome, _ = run(folder / "whole")
    return {"exit_code": outcome.exit_code, "summary": outcome.summary}


def interrupted_run(folder: Path) -> dict[str, Any]:
    """One process is told to stop, in the second step."""
    original = ScopeTrainer._rollouts

    def rollouts(self: ScopeTrainer, prompts: Any) -> Any:
        if meet().index == 1 and self.state.global_step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, prompts)

    with mock.patch.object(ScopeTrainer, "_rollouts", rollouts):
        outcome, _ = run(folder / "interrupted", "evaluation.before=false")
    return {"exit_code": outcome.exit_code, "message": outcome.message, "steps": outcome.summary["steps"]}


def flat_run(folder: Path) -> dict[str, Any]:
    """Problems that nobody can solve."""
    file = folder / f"impossible-{meet().index}.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"reduce {i} {i + 1} 3\n\n", "answer": "77"}) + "\n" for i in range(9))
    )
    source = meet().once("naming the file", lambda: str(file))
    overrides = ("method.name=grpo", f"problems.source='{source}'", "run.flat_steps_limit=2", "evaluation.before=false")
    outcome, display = run(folder / "flat", *overrides)
    return {"exit_code": outcome.exit_code, "message": outcome.message, "notes": display.notes}


def run_on_other_problems(folder: Path) -> str:
    """Each process finds other problems."""
    number = meet().index
    file = folder / f"elsewhere-{number}.jsonl"
    rows = [json.dumps({"prompt": f"reduce {i + number} 3 4\n\n", "answer": "7"}) + "\n" for i in range(9)]
    file.write_text("".join(rows))
    config = load_config(None, [*SMALL_RUN, f"problems.source='{file}'"])
    return told_of(
        lambda: train(config, read_data(config), RunFolder(folder / "other", is_read_only=True), RecordingDisplay())
    )


def not_a_number(folder: Path) -> str:
    """The loss of one process is none."""
    trainer = make_trainer(folder / "not a number", METHODS["grpo"]())
    before = [p.detach().clone() for p in trainer.model.parameters()]
    original = type(trainer.method).token_loss
    bad = torch.nan if meet().index == 1 else 1.0
    with mock.patch.object(type(trainer.method), "token_loss", lambda *args: original(*args) * bad):
        said = told_of(trainer.train)
    is_same = all(torch.equal(a, b) for a, b in zip(before, trainer.model.parameters(), strict=True))
    return f"{said} {'(nothing was updated)' if is_same else ''}"


ACTS: dict[str, Callable[[Path], Any]] = {
    act.__name__: act
    for act in (
        shared_work,
        losses_of_two,
        side_updates,
        batches_of_all_methods,
        steps_with_parts,
        figures,
        served_teacher,
        vllm,
        whole_run,
        interrupted_run,
        flat_run,
        run_on_other_problems,
        not_a_number,
    )
}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    processes: Processes = meet()
    said = {name: act(folder) for name, act in ACTS.items()}
    (folder / f"said-{processes.index}.json").write_text(json.dumps(said))
    leave(0)
