"""How fast the failing rollouts of a step are scored here, and how fast one at a time, by the same model.

    python benchmarks/scorer_throughput.py [--repeats 15] [--large-repeats 3] [--threads 2] [--json FILE]

64 failing rollouts of the embedded policy, 8 of each of 8 problems of 4 to 10 numbers, are scored in three ways that take
turns: a pass for every step, as TRL's documentation reads a token classifier; a pass for every rollout, as the cards of
most process reward models do; and as a run does it. All three tokenise. Ratios compare runs that stood side by side; the
scores have to agree.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from rich.console import Console
from rich.table import Table
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForTokenClassification

from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import model_path
from scope_rlvr.embedded.labelled import sample_texts
from scope_rlvr.problems.reduction import SEPARATOR, Reduction
from scope_rlvr.salvage.rules import Threshold
from scope_rlvr.scorers.loading import load_scorer
from scope_rlvr.scorers.settings import ScorerSection
from scope_rlvr.scorers.token_classifier import RIGHT_LABEL, TokenClassifierScorer

LEVELS = (4, 5, 6, 7, 8, 9, 10, 10)
ROLLOUTS_OF_A_PROBLEM = 8
TOLERANCE = 1e-5
LARGE = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
"""Sizes of the larger model: 25.7 M parameters."""

Solutions = Sequence[tuple[Problem, Sequence[str]]]
Scores = list[tuple[float, ...]]


def failing_rollouts() -> Solutions:
    """The first so many failures of the embedded policy on one problem of each level that has them."""
    family, policy = Reduction(), LlamaForCausalLM.from_pretrained(model_path("policy"))
    found: list[tuple[Problem, list[str]]] = []
    for number, level in enumerate(LEVELS):
        for problem in family.sample(level, 20, seed=number):
            texts = sample_texts(policy, [problem.prompt] * 3 * ROLLOUTS_OF_A_PROBLEM, seed=number)
            tried = [(problem, text.split(SEPARATOR)) for text in texts]
            failed = [(p, steps) for p, steps in tried if family.first_wrong_step(p, steps) is not None]
            if len(failed) >= ROLLOUTS_OF_A_PROBLEM:
                found += failed[:ROLLOUTS_OF_A_PROBLEM]
                break
    return found


def embedded_scorer() -> TokenClassifierScorer:
    scorer = load_scorer(ScorerSection(model="embedded:step_scorer"))
    assert isinstance(scorer, TokenClassifierScorer)
    return scorer


def large_scorer(like: TokenClassifierScorer) -> TokenClassifierScorer:
    """A scorer of the same class with random weights, which cost as much as any others."""
    torch.manual_seed(0)
    sizes = LARGE | {"vocab_size": like.model.config.vocab_size, "max_position_embeddings": 256, "num_labels": 2}
    return TokenClassifierScorer(LlamaForTokenClassification(LlamaConfig(**sizes)), like.tokenizer, Threshold())


@torch.no_grad()
def a_step_a_pass(scorer: TokenClassifierScorer, solutions: Solutions) -> Scores:
    return [
        tuple(_chances(scorer, problem, steps[: end + 1])[-1] for end in range(len(steps)))
        for problem, steps in solutions
    ]


@torch.no_grad()
def a_rollout_a_pass(scorer: TokenClassifierScorer, solutions: Solutions) -> Scores:
    return [tuple(_chances(scorer, problem, steps)) for problem, steps in solutions]


def _chances(scorer: TokenClassifierScorer, problem: Problem, steps: Sequence[str]) -> list[float]:
    (written,) = scorer.writer.write(problem, steps)
    chances_TC = scorer.model(input_ids=torch.tensor([written.token_ids])).logits[0].softmax(-1)
    return chances_TC[written.positions, RIGHT_LABEL].tolist()


def as_a_run_does(scorer: TokenClassifierScorer, solutions: Solutions) -> Scores:
    return [scores for scores in scorer.score(solutions) if scores is not None]


WAYS: dict[str, Callable[[TokenClassifierScorer, Solutions], Scores]] = {
    "a step a pass": a_step_a_pass,
    "a rollout a pass": a_rollout_a_pass,
    "here": as_a_run_does,
}


def measure(scorer: TokenClassifierScorer, solutions: Solutions, repeats: int) -> dict[str, Any]:
    """Seconds of each way, and how many times those of "here" the others take; the first turn only warms up."""
    clocks: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
    seconds: dict[str, dict[str, list[float]]] = {clock: {way: [] for way in WAYS} for clock in clocks}
    ways, difference = list(WAYS), 0.0
    for repeat in range(repeats + 1):
        scores = {}
        # The order turns, so that no way always follows the same other.
        for way in ways[repeat % len(ways) :] + ways[: repeat % len(ways)]:
            before = {name: clock() for name, clock in clocks.items()}
            scores[way] = WAYS[way](scorer, solutions)
            if repeat:
                for name, clock in clocks.items():
                    seconds[name][way].append(clock() - before[name])
        difference = max(difference, *(largest_difference(scores["here"], scores[way]) for way in ways))
    if difference > TOLERANCE:
        raise SystemExit(f"the ways do not agree: scores differ by up to {difference:.2g}, above {TOLERANCE:g}")
    return {
        "parameters": sum(p.numel() for p in scorer.model.parameters()),
        "repeats": repeats,
        "largest_difference_of_scores": difference,
        "seconds": {clock: {way: _spread(taken) for way, taken in of.items()} for clock, of in seconds.items()},
        "times_those_of_here": {
            clock: {way: _spread([a / b for a, b in zip(of[way], of["here"], strict=True)]) for way in ways}
            for clock, of in seconds.items()
        },
    }


def largest_difference(one: Scores, other: Scores) -> float:
    """Over all steps of all rollouts, which have to be the same in number."""
    pairs = [pair for a, b in zip(one, other, strict=True) for pair in zip(a, b, strict=True)]
    return max(abs(x - y) for x, y in pairs)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": median(values), "min": min(values), "max": max(values)}


def show(title: str, result: dict[str, Any], console: Console) -> None:
    seconds, times = result["seconds"], result["times_those_of_here"]
    console.print(
        f"{title}, {result['parameters'] / 1e6:.2f} M parameters; {result['repeats']} repeats; scores differ by at most "
        f"{result['largest_difference_of_scores']:.1g}",
        soft_wrap=True,
    )
    table = Table("way", "ms, median", "min to max", "times here", "min to max", "CPU time, times here", "min to max")
    for way in WAYS:
        wall, cpu = times["wall"][way], times["cpu"][way]
        table.add_row(
            way,
            f"{seconds['wall'][way]['median'] * 1e3:.0f}",
            f"{seconds['wall'][way]['min'] * 1e3:.0f} to {seconds['wall'][way]['max'] * 1e3:.0f}",
            f"{wall['median']:.2f}",
            f"{wall['min']:.2f} to {wall['max']:.2f}",
            f"{cpu['median']:.2f}",
            f"{cpu['min']:.2f} to {cpu['max']:.2f}",
        )
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="turns of the embedded scorer")
    parser.add_argument("--large-repeats", type=int, default=3, help="turns of the larger model; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    transformers.logging.disable_progress_bar()
    solutions, embedded = failing_rollouts(), embedded_scorer()
    lengths = [len(embedded.writer.write(problem, steps)[0].token_ids) for problem, steps in solutions]
    result: dict[str, Any] = {
        "rollouts": {"number": len(lengths), "steps": sum(len(steps) for _, steps in solutions)}
        | {"tokens": sum(lengths), "shortest": min(lengths), "longest": max(lengths)},
        "threads": arguments.threads,
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    console = Console(highlight=False)
    for key in ("rollouts", "threads", "versions", "machine"):
        console.print(f"{key}: {result[key]}", soft_wrap=True)
    result["embedded scorer"] = measure(embedded, solutions, arguments.repeats)
    show("embedded scorer", result["embedded scorer"], console)
    if arguments.large_repeats:
        result["random weights"] = measure(large_scorer(embedded), solutions, arguments.large_repeats)
        show("random weights", result["random weights"], console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
