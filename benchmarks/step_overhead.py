"""What a SCOPE step costs beside a GRPO step of plain TRL, on the same model, problems and rollout counts.

    python benchmarks/step_overhead.py [--blocks 6] [--steps 8] [--json FILE]

Three trainers take turns in one process, block by block, each block from the same starting weights: TRL's own
``GRPOTrainer``, GRPO on our trainer, and SCOPE. Ratios compare the blocks that stood side by side, so that a machine
that slows down for a while slows all three.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean, median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import torch
import transformers
import trl
from datasets import Dataset
from rich.console import Console
from rich.table import Table
from transformers import PrinterCallback, TrainerCallback
from trl import GRPOTrainer

from scope_rlvr.core.types import Problem
from scope_rlvr.engines.trl.trainer import ScopeTrainer
from scope_rlvr.methods import Grpo, Scope
from scope_rlvr.models.quiet import quiet_libraries
from scope_rlvr.run.components import Components, load_components
from scope_rlvr.run.config import RunConfig, load_config
from scope_rlvr.run.data import training_problems
from scope_rlvr.run.trainer import trl_config
from scope_rlvr.store.folder import RunFolder

ARMS = ("TRL GRPO", "GRPO here", "SCOPE here")
PHASES = ("sampling", "scoring", "teacher", "continuation", "verifying")


class StepClock(TrainerCallback):
    """Seconds of each step, the first of a block left out (it warms caches), and the split of our own trainer."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.split: dict[str, list[float]] = defaultdict(list)
        self.started = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step > 1:
            self.seconds.append(time.perf_counter() - self.started)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
        if state.global_step > 1:
            for phase in PHASES:
                if f"seconds/{phase}" in logs:
                    self.split[phase].append(logs[f"seconds/{phase}"])


def block(arm: str, config: RunConfig, parts: Components, problems: list[Problem], clock: StepClock) -> float:
    """One block of steps of one arm from the starting weights; its median seconds a step."""
    rows = [{"prompt": p.prompt, "reference": p.reference, "id": p.id} for p in problems]
    by_prompt = {problem.prompt: problem for problem in problems}

    def verifier(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        verdicts = parts.verifier.verify([(by_prompt[p], c) for p, c in zip(prompts, completions, strict=True)])
        return [float(verdict.is_right) for verdict in verdicts]

    with tempfile.TemporaryDirectory() as folder:
        shared: dict[str, Any] = {
            "model": copy.deepcopy(parts.policy),
            "args": trl_config(config, RunFolder(Path(folder))),
            "train_dataset": Dataset.from_list(rows),
            "processing_class": parts.codec.tokenizer,
            "callbacks": [clock],
        }
        shared["args"].save_strategy = "no"
        if arm == "TRL GRPO":
            trainer = GRPOTrainer(reward_funcs=[verifier], **shared)
        else:
            method = Grpo() if arm == "GRPO here" else Scope()
            helpers = {"step_scorer": parts.step_scorer, "teacher": parts.teacher}
            trainer = ScopeTrainer(method=method, verifier=parts.verifier, **helpers, **shared)
        trainer.remove_callback(PrinterCallback)
        before = len(clock.seconds)
        trainer.train()
    return median(clock.seconds[before:])


def measure(num_blocks: int, num_steps: int) -> dict[str, Any]:
    config = load_config(None, [f"run.steps={num_steps}"])
    torch.set_num_threads(config.run.threads)
    quiet_libraries(config.model_names)
    problems = training_problems(config).problems
    parts = load_components(config, problems)
    clocks = {arm: StepClock() for arm in ARMS}
    medians: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for number in range(num_blocks):
        # The order turns, so that no arm always follows the same other.
        for offset in range(len(ARMS)):
            arm = ARMS[(number + offset) % len(ARMS)]
            medians[arm].append(block(arm, config, parts, problems, clocks[arm]))
    ratios = {arm: [own / base for own, base in zip(medians[arm], medians[ARMS[0]], strict=True)] for arm in ARMS}
    num_parameters = sum(p.numel() for p in parts.policy.parameters())
    return {
        "batch": f"{config.run.problems_per_step} problems x {config.run.rollouts_per_problem} rollouts",
        "model": f"embedded policy, {num_parameters / 1e6:.2f} M parameters, float32, {config.run.num_threads} thread",
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "blocks": num_blocks,
        "steps_per_block": num_steps,
        "seconds_per_step": {arm: _spread(medians[arm]) for arm in ARMS},
        "ratio_to_trl": {arm: _spread(ratios[arm]) for arm in ARMS},
        "split": {arm: _split(clocks[arm]) for arm in ARMS[1:]},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def _split(clock: StepClock) -> dict[str, float]:
    """Mean seconds of each phase; what is left is credit, loss, gradient and the update."""
    split = {phase: fmean(clock.split[phase]) for phase in PHASES if clock.split[phase]}
    return split | {"loss and the rest": fmean(clock.seconds) - sum(split.values())}


def show(result: dict[str, Any], console: Console) -> None:
    console.print(f"{result['model']}; {result['batch']}; {result['machine']}; {result['versions']}")
    table = Table("trainer", "ms a step (median)", "min to max", "ratio to TRL's GRPO (median)", "min to max")
    for arm in ARMS:
        seconds, ratio = result["seconds_per_step"][arm], result["ratio_to_trl"][arm]
        table.add_row(
            arm,
            f"{seconds['median'] * 1e3:.0f}",
            f"{seconds['min'] * 1e3:.0f} to {seconds['max'] * 1e3:.0f}",
            f"{ratio['median']:.2f}",
            f"{ratio['min']:.2f} to {ratio['max']:.2f}",
        )
    console.print(table)
    split = Table("trainer", *PHASES, "loss and the rest", title="mean ms a step by phase")
    for arm, phases in result["split"].items():
        split.add_row(arm, *(f"{phases.get(p, 0.0) * 1e3:.1f}" for p in (*PHASES, "loss and the rest")))
    console.print(split)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=6)
    parser.add_argument("--steps", type=int, default=8, help="steps in a block, the first of which is not counted")
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    result = measure(arguments.blocks, arguments.steps)
    show(result, Console(highlight=False))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
