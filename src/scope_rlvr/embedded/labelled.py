"""Rollouts of the embedded policy, with the exact truth about each step: what the step scorer learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import LlamaForCausalLM, LlamaForTokenClassification

from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem
from scope_rlvr.embedded import model_path
from scope_rlvr.embedded.corpus import draw_numbers, write_altered
from scope_rlvr.embedded.tokenizer import EOS, ID, PAD, make_tokenizer
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.labelled import LabelledSolution
from scope_rlvr.problems.reduction import SEPARATOR, Reduction, make_problem

LEVELS = range(2, 11)
ROLLOUT_LEVELS = range(4, 11)

IGNORED = -100
_BATCH = 500
_ALTERED_TOGETHER = 20
_FAMILY = Reduction()
_TOKENIZER = make_tokenizer()


@dataclass(frozen=True)
class LabelledRollout:
    """Token ids in which every step is followed by the separator, where its label is.

    ``separators`` are the positions of the separators, one for each step; ``labels`` has 1 (right) or 0 (wrong) there
    up to the first wrong step, and ``IGNORED`` everywhere else. ``first_wrong`` is ``None`` if every step is right.
    """

    ids: tuple[int, ...]
    separators: tuple[int, ...]
    labels: tuple[int, ...]
    first_wrong: int | None


def sample_texts(
    model: LlamaForCausalLM,
    prefixes: Sequence[str],
    *,
    seed: int,
    temperature: float = 1.0,
    max_tokens: int = 150,
    stop_ids: Sequence[int] = (ID[EOS],),
) -> list[str]:
    """Continue each prefix until a stop id, which is not part of the answer if it is the end-of-sequence token.

    ``temperature`` 0 is greedy.
    """
    texts: list[str] = []
    how = {"do_sample": False} if temperature == 0 else {"do_sample": True, "temperature": temperature, "top_k": 0}
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        for start in range(0, len(prefixes), _BATCH):
            encoded = _TOKENIZER(list(prefixes[start : start + _BATCH]), padding=True, return_tensors="pt")
            ids_BT = model.generate(  # pyright: ignore[reportAttributeAccessIssue] (typed for a protocol no class meets)
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                max_new_tokens=max_tokens,
                eos_token_id=list(stop_ids),
                pad_token_id=ID[PAD],
                **how,
            )
            texts += _TOKENIZER.batch_decode(ids_BT[:, encoded["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def label(problem: Problem, completion: str) -> LabelledRollout:
    """A completion as the scorer reads it, with the exact checker's labels.

    >>> from scope_rlvr.problems.reduction import make_problem
    >>> rollout = label(make_problem([3, 7]), "3 + 7 = 11 : 11\\n\\nanswer 11")
    >>> rollout.first_wrong, [rollout.labels[at] for at in rollout.separators]
    (0, [0, -100])
    """
    steps = completion.split(SEPARATOR)
    first_wrong = _FAMILY.first_wrong_step(problem, steps)
    ids = _TOKENIZER.encode(problem.prompt)
    labels = [IGNORED] * len(ids)
    separators = []
    for index, step in enumerate(steps):
        step_ids = _TOKENIZER.encode(step)
        ids += [*step_ids, ID[SEPARATOR]]
        separators.append(len(ids) - 1)
        is_labelled = first_wrong is None or index <= first_wrong
        labels += [IGNORED] * len(step_ids) + [int(index != first_wrong) if is_labelled else IGNORED]
    return LabelledRollout(tuple(ids), tuple(separators), tuple(labels), first_wrong)


def policy_solutions(
    num_per_level: int, seed: int = 0, *, policy: LlamaForCausalLM | None = None, split: Split = "train"
) -> list[LabelledSolution]:
    """A policy's own rollouts at temperature 1, levels 4 to 10, labelled by the exact checker; the embedded policy's."""
    model = LlamaForCausalLM.from_pretrained(model_path("policy")) if policy is None else policy
    solutions = []
    for level in ROLLOUT_LEVELS:
        problems = _FAMILY.sample(level, num_per_level, seed, split=split)
        completions = sample_texts(model, [problem.prompt for problem in problems], seed=seed)
        solutions += [_solution(p, completion) for p, completion in zip(problems, completions, strict=True)]
    return solutions


def altered_solutions(num_per_level: int, seed: int = 0) -> list[LabelledSolution]:
    """Right solutions, levels 2 to 10, four in five of them with one sum or one number altered; labelled by the checker.

    They show the right sum where the embedded policy has gaps: a scorer that only sees the policy's rollouts learns that
    certain pairs are wrong, whatever is written.

    >>> [solution.problem.level for solution in altered_solutions(1)]
    [2, 3, 4, 5, 6, 7, 8, 9, 10]
    """
    solutions = []
    for level in LEVELS:
        rng = np.random.default_rng(derive_seed(seed, "altered", level))
        # Solutions that are written together have equally many steps in random order.
        for start in range(0, num_per_level, _ALTERED_TOGETHER):
            numbers_BN = draw_numbers(level, min(_ALTERED_TOGETHER, num_per_level - start), rng)
            texts = _TOKENIZER.batch_decode(write_altered(numbers_BN, rng).ids_BT)
            for numbers, text in zip(numbers_BN.tolist(), texts, strict=True):
                problem = make_problem(numbers)
                solutions.append(_solution(problem, text.removeprefix(problem.prompt).removesuffix(SEPARATOR)))
    return solutions


def _solution(problem: Problem, completion: str) -> LabelledSolution:
    # A blank line too many makes no step.
    steps = tuple(step for step in completion.split(SEPARATOR) if step.strip())
    return LabelledSolution(problem, steps, _FAMILY.first_wrong_step(problem, steps))


def right_chances(scorer: LlamaForTokenClassification, rollouts: Sequence[LabelledRollout]) -> list[tuple[float, ...]]:
    """The scorer's probability that a step is right, for each step of each rollout."""
    chances: list[tuple[float, ...]] = []
    for start in range(0, len(rollouts), _BATCH):
        chunk = rollouts[start : start + _BATCH]
        longest = max(len(rollout.ids) for rollout in chunk)
        padded = [[*rollout.ids, *[ID[PAD]] * (longest - len(rollout.ids))] for rollout in chunk]
        with torch.inference_mode():
            right_BT = scorer(input_ids=torch.tensor(padded)).logits.softmax(-1)[..., 1]
        chances += [tuple(row[list(r.separators)].tolist()) for row, r in zip(right_BT, chunk, strict=True)]
    return chances
