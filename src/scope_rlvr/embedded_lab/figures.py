"""Measure the embedded models and write the model cards: ``python -m scope_rlvr.embedded_lab.figures``.

All problems are of the test split, which no model has seen, except at level 2, where there are only 91 problems and
all of them are used. Every number in the cards comes from here.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
import transformers
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import MODELS
from scope_rlvr.embedded.corpus import write_altered
from scope_rlvr.embedded.labelled import ROLLOUT_LEVELS, LabelledRollout, label, right_chances, sample_texts
from scope_rlvr.embedded.tokenizer import ID, make_tokenizer
from scope_rlvr.embedded_lab.build import Recipe, policy_sums
from scope_rlvr.embedded_lab.cards import write_cards
from scope_rlvr.embedded_lab.training import one_thread
from scope_rlvr.grading.final_answer import FinalAnswerVerifier
from scope_rlvr.problems.reduction import MODULUS, SEPARATOR, Reduction, add, make_problem, numbers_of
from scope_rlvr.store.files import write_json

LEVELS = (2, 3, 4, 6, 8, 10)
TEACHER_LEVELS = (2, 6, 8, 10)
NUM_PROBLEMS = 500
NUM_ORDER_PROBLEMS = 60
NUM_ORDER_SAMPLES = 8
SEED = 11

Figures = dict[str, Any]

_FAMILY = Reduction()
_VERIFIER = FinalAnswerVerifier(_FAMILY.answer_pattern)
_SUM = re.compile(r"(\d+) \+ (\d+) = (\d+) : ")


@dataclass(frozen=True)
class GradedSolution:
    """A completion, whether its answer is right, and the exact index of its first wrong step."""

    problem: Problem
    completion: str
    is_right: bool
    first_wrong: int | None

    @property
    def steps(self) -> list[str]:
        return self.completion.split(SEPARATOR)

    @property
    def num_kept(self) -> int:
        """How many steps come before the first wrong one."""
        return len(self.steps) if self.first_wrong is None else self.first_wrong

    @property
    def kept_text(self) -> str:
        """The right steps before the first wrong one, each with its separator."""
        return "".join(step + SEPARATOR for step in self.steps[: self.num_kept])


def measure(models: Path, report: Callable[[str], None] = print) -> Figures:
    """All figures of the models in a folder; takes a few minutes."""
    with one_thread():
        return _measure(models, report)


def _measure(models: Path, report: Callable[[str], None]) -> Figures:
    policy = LlamaForCausalLM.from_pretrained(models / "policy")
    teacher = LlamaForCausalLM.from_pretrained(models / "teacher")
    scorer = LlamaForTokenClassification.from_pretrained(models / "step_scorer")
    threshold = json.loads((models / "step_scorer" / "scorer.json").read_text())["rule"]["threshold"]
    graded = {level: rollouts(policy, level) for level in sorted({*LEVELS, *ROLLOUT_LEVELS})}
    report("sampled the policy")
    figures: Figures = {
        "settings": {
            "problems_per_level": NUM_PROBLEMS,
            "problems_for_pass_at_8": NUM_ORDER_PROBLEMS,
            "seed": SEED,
            "temperature": 1.0,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "policy": {str(level): policy_figures(graded[level]) for level in LEVELS},
    }
    for level in (6, 8, 10):
        figures["policy"][str(level)] |= order_figures(policy, level)
    report(f"policy: {figures['policy']}")
    figures["teacher"] = {str(level): teacher_figures(teacher, level) for level in TEACHER_LEVELS}
    for level in (6, 8, 10):
        figures["teacher"][str(level)] |= continuation_figures(teacher, _failures(graded[level]))
    report(f"teacher: {figures['teacher']}")
    figures["step_scorer"] = {
        str(level): scorer_figures(scorer, threshold, graded[level]) | stranger_figures(scorer, threshold, level)
        for level in ROLLOUT_LEVELS
    } | {"threshold": threshold}
    report(f"step scorer: {figures['step_scorer']}")
    figures["salvage"] = {
        str(level): salvage_figures(policy, teacher, scorer, threshold, _failures(graded[level]))
        for level in (6, 8, 10)
    }
    report(f"salvage: {figures['salvage']}")
    return figures


def rollouts(policy: LlamaForCausalLM, level: int, count: int = NUM_PROBLEMS) -> list[GradedSolution]:
    """One rollout of the policy at temperature 1 on each of ``count`` problems."""
    problems = unseen_problems(level, count)
    return grade(problems, sample_texts(policy, [problem.prompt for problem in problems], seed=SEED))


def unseen_problems(level: int, count: int = NUM_PROBLEMS) -> list[Problem]:
    """Problems of the test split; at level 2 all problems there are, each about equally often."""
    if level > 2:
        return _FAMILY.sample(level, count, SEED, split="test")
    pairs = [make_problem((a, b)) for a in range(MODULUS) for b in range(a, MODULUS)]
    return [pairs[k % len(pairs)] for k in range(count)]


def grade(problems: Sequence[Problem], completions: Sequence[str]) -> list[GradedSolution]:
    """What the verifier and the exact checker say about completions."""
    verdicts = _VERIFIER.verify(list(zip(problems, completions, strict=True)))
    return [
        GradedSolution(p, text, verdict.is_right, _FAMILY.first_wrong_step(p, text.split(SEPARATOR)))
        for p, text, verdict in zip(problems, completions, verdicts, strict=True)
    ]


def policy_figures(graded: Sequence[GradedSolution]) -> Figures:
    """How often right, how often for the right reasons, and how the failures fail."""
    failures = _failures(graded)
    kept = [g.num_kept / len(g.steps) for g in failures]
    kinds = Counter(kind_of_error(g.steps[g.num_kept]) for g in failures)
    return {
        "pass_at_1": _share(g.is_right for g in graded),
        "every_step_right": _share(g.first_wrong is None for g in graded),
        "median_kept_share_of_failures": round(median(kept), 3),
        "mean_kept_share_of_failures": round(fmean(kept), 3),
        "first_errors": {kind: round(count / len(failures), 3) for kind, count in sorted(kinds.items())},
    }


def kind_of_error(step: str) -> str:
    """Why a wrong step is wrong: a gap that was taught, another wrong sum, or a slip of the pen."""
    match = _SUM.match(step)
    if match is None:
        return "slip"
    a, b, total = (int(number) for number in match.groups())
    if total == add(a, b) or max(a, b, total) >= MODULUS:
        return "slip"
    return "gap" if policy_sums(Recipe()).believed[a, b] == total else "other sum"


def order_figures(policy: LlamaForCausalLM, level: int) -> Figures:
    """How many different orders of steps the policy tries on one problem, and pass@8."""
    problems = [p for p in unseen_problems(level, NUM_ORDER_PROBLEMS) for _ in range(NUM_ORDER_SAMPLES)]
    graded = grade(problems, sample_texts(policy, [problem.prompt for problem in problems], seed=SEED + 1))
    tries = [graded[k : k + NUM_ORDER_SAMPLES] for k in range(0, len(graded), NUM_ORDER_SAMPLES)]
    return {
        "pass_at_8": _share(any(g.is_right for g in group) for group in tries),
        "distinct_of_8": round(fmean(len({g.completion for g in group}) for group in tries), 2),
    }


def teacher_figures(teacher: LlamaForCausalLM, level: int) -> Figures:
    """How often the teacher is right from the prompt on."""
    problems = unseen_problems(level)
    prompts = [problem.prompt for problem in problems]
    greedy = grade(problems, sample_texts(teacher, prompts, seed=SEED, temperature=0))
    sampled = grade(problems, sample_texts(teacher, prompts, seed=SEED))
    return {
        "pass_at_1": _share(g.is_right for g in sampled),
        "pass_greedy": _share(g.is_right for g in greedy),
        "is_canonical_greedy": _share(g.completion == _FAMILY.canonical_solution(g.problem) for g in greedy),
    }


def continuation_figures(teacher: LlamaForCausalLM, failures: Sequence[GradedSolution]) -> Figures:
    """The teacher's one step, and its whole suffix, after the right steps that the policy wrote before it failed."""
    sampled = one_step(teacher, failures, temperature=1.0)
    greedy = one_step(teacher, failures, temperature=0)
    prefixes = [g.problem.prompt + g.kept_text for g in failures]
    suffixes = sample_texts(teacher, prefixes, seed=SEED)
    whole = grade([g.problem for g in failures], [g.kept_text + s for g, s in zip(failures, suffixes, strict=True)])
    return {
        "one_step_right_after_policy_prefix": _share(map(_is_right_so_far, failures, sampled)),
        "one_step_right_after_policy_prefix_greedy": _share(map(_is_right_so_far, failures, greedy)),
        "suffix_right_after_policy_prefix": _share(g.first_wrong is None for g in whole),
    }


def one_step(teacher: LlamaForCausalLM, failures: Sequence[GradedSolution], *, temperature: float) -> list[str]:
    """The teacher's next step after each failure's right steps, with its separator if it wrote one."""
    prefixes = [g.problem.prompt + g.kept_text for g in failures]
    stops = (ID["<eos>"], ID[SEPARATOR])
    return sample_texts(teacher, prefixes, seed=SEED, temperature=temperature, max_tokens=30, stop_ids=stops)


def scorer_figures(scorer: LlamaForTokenClassification, threshold: float, graded: Sequence[GradedSolution]) -> Figures:
    """How often the first step below the threshold is exactly the first wrong one, and right solutions pass."""
    return _located(scorer, threshold, [label(g.problem, g.completion) for g in graded])


def stranger_figures(scorer: LlamaForTokenClassification, threshold: float, level: int) -> Figures:
    """The same for solutions that the policy would not write: right at every gap, or altered at random."""
    problems, rng = unseen_problems(level), Random(SEED)
    right = [label(problem, _FAMILY.random_solution(problem, rng)) for problem in problems]
    numbers_BN = np.array([numbers_of(problem) for problem in problems])
    altered_BT = write_altered(numbers_BN, np.random.default_rng(SEED)).ids_BT
    texts = make_tokenizer().batch_decode(altered_BT)
    altered = [
        label(problem, text.removeprefix(problem.prompt).removesuffix(SEPARATOR))
        for problem, text in zip(problems, texts, strict=True)
    ]
    return {
        "right_at_every_gap_called_right": _located(scorer, threshold, right)["right_solutions_called_right"],
        "exact_first_wrong_step_altered": _located(scorer, threshold, altered)["exact_first_wrong_step"],
    }


def _located(
    scorer: LlamaForTokenClassification, threshold: float, labelled: Sequence[LabelledRollout]
) -> dict[str, float]:
    found = [
        next((k for k, chance in enumerate(chances) if chance < threshold), None)
        for chances in right_chances(scorer, labelled)
    ]
    wrong = [at == r.first_wrong for at, r in zip(found, labelled, strict=True) if r.first_wrong is not None]
    right = [at is None for at, r in zip(found, labelled, strict=True) if r.first_wrong is None]
    return {"exact_first_wrong_step": _share(wrong), "right_solutions_called_right": _share(right)}


def salvage_figures(
    policy: LlamaForCausalLM,
    teacher: LlamaForCausalLM,
    scorer: LlamaForTokenClassification,
    threshold: float,
    failures: Sequence[GradedSolution],
) -> Figures:
    """How often a failure becomes right: cut where the scorer says, one teacher step (greedy), the policy goes on."""
    chances = right_chances(scorer, [label(g.problem, g.completion) for g in failures])
    found = [next((k for k, p in enumerate(row) if p < threshold), None) for row in chances]
    cut = [
        GradedSolution(g.problem, g.completion, False, at)
        for g, at in zip(failures, found, strict=True)
        if at is not None
    ]
    begun = [g.kept_text + step for g, step in zip(cut, one_step(teacher, cut, temperature=0), strict=True)]
    suffixes = sample_texts(policy, [g.problem.prompt + text for g, text in zip(cut, begun, strict=True)], seed=SEED)
    salvaged = grade([g.problem for g in cut], [text + s for text, s in zip(begun, suffixes, strict=True)])
    scratch = grade(
        [g.problem for g in failures], sample_texts(policy, [g.problem.prompt for g in failures], seed=SEED + 2)
    )
    return {
        "salvaged_of_failures": round(sum(g.is_right for g in salvaged) / len(failures), 3),
        "right_when_sampled_again": _share(g.is_right for g in scratch),
    }


def _is_right_so_far(failure: GradedSolution, step: str) -> bool:
    steps = (failure.kept_text + step).removesuffix(SEPARATOR).split(SEPARATOR)
    return len(steps) == failure.num_kept + 1 and _FAMILY.first_wrong_step(failure.problem, steps) is None


def _failures(graded: Sequence[GradedSolution]) -> list[GradedSolution]:
    """Wrong answers that have a wrong step; what was cut off before it went wrong has none."""
    return [g for g in graded if not g.is_right and g.first_wrong is not None]


def _share(are: Iterable[bool]) -> float:
    values = list(are)
    return round(sum(values) / len(values), 3) if values else float("nan")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure the embedded models and write their cards.")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder of the three model folders")
    folder = parser.parse_args().models
    figures = measure(folder, report=lambda line: print(line, flush=True))
    write_json(folder / "figures.json", figures)
    write_cards(folder, figures)


if __name__ == "__main__":
    main()
