"""Rollouts of a policy on stories, each with its first wrong step by the family's checker: what a step scorer learns from.

    python -m scope_rlvr.embedded_lab.story_rollouts --policy FOLDER --source stories:2-4 --problems 500 --out rollouts.jsonl

Rows have ``prompt``, ``steps`` and ``label`` as ProcessBench has them; ``scope scorer train`` and ``scope scorer bench`` read
them. The same command goes on where it was stopped: every batch has a seed of its own and is written as a whole.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import torch

from scope_rlvr.core.ports import Continuation, Sampling
from scope_rlvr.core.prompts import PromptSection
from scope_rlvr.core.seeds import derive_seed
from scope_rlvr.core.types import Problem
from scope_rlvr.models.local import LocalModel
from scope_rlvr.models.resolve import resolve_model
from scope_rlvr.problems import families
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.sources import SourceSettings, Wanted, family_name, load_problems
from scope_rlvr.problems.stories.checker import StepTruth
from scope_rlvr.problems.stories.family import Stories
from scope_rlvr.store.journal import append_records, read_lines

PROBLEMS_PER_BATCH = 16
SAMPLES_PER_PROBLEM = 4
MAX_TOKENS = 128


def labelled(family: Stories, problem: Problem, text: str, *, is_whole: bool) -> dict[str, Any] | None:
    """A response as a labelled solution; ``None`` where it has no whole step, or one that the checker cannot read.

    The last step of a response that was cut off is left out: nobody knows what it would have said.

    >>> family = Stories("stories")
    >>> problem = family.sample(2, 1, 0)[0]
    >>> labelled(family, problem, "2 + 2 = 5.\\n\\nAns", is_whole=False)["label"]
    0
    """
    steps = [step for step in text.split(family.separator) if step.strip()]
    steps = steps if is_whole else steps[:-1]
    truths = family.step_truths(problem, steps)
    first_wrong = truths.index(StepTruth.WRONG) if StepTruth.WRONG in truths else -1
    read = truths if first_wrong < 0 else truths[:first_wrong]
    if not steps or StepTruth.UNREADABLE in read:
        return None
    return {
        "id": problem.id,
        "prompt": problem.prompt,
        "reference": problem.reference,
        "steps": [step.strip() for step in steps],
        "label": first_wrong,
    }


def batches(
    policy: LocalModel, problems: Sequence[Problem], family: Stories, first: int, seed: int
) -> Iterator[list[Any]]:
    """The rows of each batch of problems from number ``first`` on."""
    for number in range(first, -(-len(problems) // PROBLEMS_PER_BATCH)):
        some = problems[number * PROBLEMS_PER_BATCH : (number + 1) * PROBLEMS_PER_BATCH]
        asked = [problem for problem in some for _ in range(SAMPLES_PER_PROBLEM)]
        written: list[Continuation] = policy.extend(
            [policy.codec.encode_prompt(problem.prompt) for problem in asked],
            Sampling(temperature=1.0),
            max_tokens=[MAX_TOKENS] * len(asked),
            seed=derive_seed(seed, "story rollouts", number),
        )
        texts = ["".join(policy.codec.pieces(w.token_ids)) for w in written]
        yield [labelled(family, p, t, is_whole=w.finished) for p, t, w in zip(asked, texts, written, strict=True)]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Rollouts of a policy on stories, labelled by the checker.")
    parser.add_argument("--policy", required=True, help="a model folder, or smollm2")
    parser.add_argument("--source", required=True, help="stories:2-4, or another set of stories")
    parser.add_argument(
        "--problems", type=int, required=True, help=f"problems, with {SAMPLES_PER_PROBLEM} rollouts each"
    )
    parser.add_argument("--split", choices=get_args(Split), default="train")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    wanted = Wanted(arguments.split, arguments.problems, seed=arguments.seed)
    problems = load_problems(SourceSettings(source=arguments.source), wanted).problems
    family = families.get(family_name(arguments.source))
    assert isinstance(family, Stories), "only stories can be checked step by step"
    policy = LocalModel.load(resolve_model(arguments.policy, "--policy"), PromptSection(), dtype=torch.bfloat16)
    journal = arguments.out.with_suffix(".batches.jsonl")
    done = [line.value for line in read_lines(journal) if line.value is not None] if journal.exists() else []
    num_rows = sum(len(batch["rows"]) for batch in done)
    for rows in batches(policy, problems, family, len(done), arguments.seed):
        append_records(journal, [{"rows": rows}])
        num_rows += len(rows)
        print(f"{num_rows} of {len(problems) * SAMPLES_PER_PROBLEM} rollouts", flush=True)
    known = [row for line in read_lines(journal) for row in line.value["rows"] if row is not None]
    arguments.out.unlink(missing_ok=True)
    append_records(arguments.out, known)
    print(f"{len(known)} labelled solutions in {arguments.out}")


if __name__ == "__main__":
    main()
