"""What a SCOPE step of a real language model costs on a CPU, by phase, with and without what makes it cheaper.

    python benchmarks/real_step.py [--policy smollm2] [--repeats 2] [--problems 8] [--layers 10] [--json FILE]

Two sides take turns on the same work. *Plain*: float32, all layers train, every row is read in the update, and the sampler reads
the prompt of every rollout. *Tuned*: bfloat16, the upper layers train, rows without advantage are not read, and the prompt of a
group is read once. So that the work is the same whatever is sampled, every response has 75 tokens, a scripted scorer cuts it
in the middle, a scripted teacher writes a sentence there, and scripted verdicts leave three of eight groups mixed and
accept every second salvage. Only how many failures can be salvaged depends on what was sampled. Seconds are of processor
time, which other programs on the machine make longer by little.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
from rich.console import Console
from rich.table import Table
from transformers import DynamicCache, PrinterCallback, TrainerCallback

from scope_rlvr.core import accounting
from scope_rlvr.core.ports import TeacherReply, TeacherRequest
from scope_rlvr.core.types import Outcome, Problem, Verdict
from scope_rlvr.engines.trl import trainer as trainer_module
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.models.decoding import Running
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.quiet import quiet_libraries
from scope_rlvr.run.components import load_policy
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.data import training_problems
from scope_rlvr.run.trainer import trl_config
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.store.folder import RunFolder

RESPONSE = 75
SENTENCE = " Then everything was counted once more."
PHASES = ("sampling", "scoring", "teacher", "continuation", "verifying")
REST = "loss and update"


class HalfwayScorer:
    """Finds the middle step wrong."""

    rule = Threshold(threshold=0.5)

    def score(self, solutions: Sequence[tuple[Problem, Sequence[str]]]) -> list[tuple[float, ...] | None]:
        return [tuple(0.1 if i == len(steps) // 2 else 0.9 for i in range(len(steps))) for _, steps in solutions]


class OneSentence:
    """A teacher that always writes the same."""

    def continue_from(self, requests: Sequence[TeacherRequest], *, seed: int) -> list[TeacherReply]:
        return [TeacherReply(text=SENTENCE) for _ in requests]


@dataclass
class Verdicts:
    """Right is one rollout in three of eight groups, and every second salvage."""

    rows: int
    group: int
    num_salvages: int = field(default=0)

    def verify(self, attempts: Sequence[tuple[Problem, str]]) -> list[Verdict]:
        if len(attempts) == self.rows:
            right = [i % self.group == 0 and (i // self.group) % 8 in (0, 3, 6) for i in range(self.rows)]
        else:
            first, self.num_salvages = self.num_salvages, self.num_salvages + len(attempts)
            right = [i % 2 == 0 for i in range(first, self.num_salvages)]
        return [Verdict(Outcome.RIGHT if is_right else Outcome.WRONG) for is_right in right]


class StepClock(TrainerCallback):
    """Processor seconds of each step by phase."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self.started = self.seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started = time.process_time()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.seconds = time.process_time() - self.started

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if "seconds/sampling" in logs:
            split = {phase: logs.get(f"seconds/{phase}", 0.0) for phase in PHASES}
            self.steps.append(split | {REST: self.seconds - sum(split.values()), "step": self.seconds})


def read_each(self: LocalModel, prefixes: Sequence[Sequence[int]]) -> tuple[Running, torch.Tensor]:
    """The sampler's first pass as it was: every row reads its prompt."""
    input_ids, mask = self._left_padded(prefixes)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    running = Running(list(range(len(prefixes))), mask, positions[:, -1:], DynamicCache(config=self.model.config))
    return running, self._next_logits(input_ids, running, positions)


def full_length(self: LocalModel, ids: list[int], sampling: Any, budget: int) -> str:
    """Every response ends at its budget, and is finished there."""
    return "finished" if len(ids) >= budget else ""


def block(config: RunConfig, is_plain: bool) -> list[dict[str, float]]:
    """The steps of one side, from the starting weights."""
    problems, clock = training_problems(config).problems, StepClock()
    policy = load_policy(config, problems)
    with ExitStack() as held:
        folder = held.enter_context(tempfile.TemporaryDirectory())
        held.enter_context(patch.object(LocalModel, "_end_of", full_length))
        held.enter_context(patch.object(accounting, "time", SimpleNamespace(perf_counter=time.process_time)))
        if is_plain:
            held.enter_context(patch.object(LocalModel, "_read_prefixes", read_each))
            held.enter_context(patch.object(trainer_module, "rows_to_read", lambda inputs, needs_advantage: inputs))
        args = trl_config(config, RunFolder(Path(folder)))
        args.save_strategy = "no"
        trainer = ScopeTrainer(
            model=policy.model,
            method=config.method,
            verifier=Verdicts(config.rows_per_step, config.run.rollouts_per_problem),
            step_scorer=HalfwayScorer(),
            teacher=OneSentence(),
            step_rule=config.steps,
            prompt=config.prompt,
            args=args,
            problems=problems,
            processing_class=policy.codec.tokenizer,
            callbacks=[clock],
            on_groups=lambda result: None,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return clock.steps


def sides(arguments: argparse.Namespace) -> dict[str, RunConfig]:
    """The two configurations; both do the same work."""
    shared = [
        f"run.steps={arguments.steps}",
        f"run.problems_per_step={arguments.problems}",
        "run.rollouts_per_problem=8",
        "run.micro_batch_rows=8",
        f"model.policy={arguments.policy}",
        "problems.family=stories",
        "problems.level=4",
        "evaluation.sets=[]",
        "scorer.model=exact",
        "teacher.model=exact",
        "steps.separator='.'",
        f"sampling.max_response_tokens={RESPONSE}",
    ]
    return {
        "plain": load_config(None, [*shared, "model.dtype=float32"]),
        "tuned": load_config(None, [*shared, "model.dtype=bfloat16", f"model.train_layers={arguments.layers}"]),
    }


def measure(arguments: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    torch.set_num_threads(1)
    configs = sides(arguments)
    quiet_libraries(configs["plain"].model_names)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in configs}
    for _ in range(arguments.repeats):
        for name, config in configs.items():
            found[name] += block(config, is_plain=name == "plain")
            print(json.dumps({name: found[name][-1]}), flush=True)
    return found


def table(found: dict[str, list[dict[str, float]]]) -> Table:
    """Medians with the least and the largest, and the share of the one in the other."""
    drawn = Table("processor seconds", "plain", "tuned", "share")
    for phase in (*PHASES, REST, "step"):
        plain, tuned = ([step[phase] for step in found[name]] for name in ("plain", "tuned"))
        share = f"{median(tuned) / median(plain):.2f}" if median(plain) > 0.05 else ""
        drawn.add_row(phase, *(f"{median(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in (plain, tuned)), share)
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--problems", type=int, default=8, help="problems a step, 8 rollouts each")
    parser.add_argument("--layers", type=int, default=10, help="upper layers that the tuned side trains")
    parser.add_argument("--steps", type=int, default=1, help="steps of a block")
    parser.add_argument("--repeats", type=int, default=2, help="blocks of each side")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments)
    Console().print(table(found))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
