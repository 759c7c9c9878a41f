"""Problems of reasoning-gym, an optional package of generated tasks (``pip install reasoning-gym``).

An answer is right where the verifier says that it is the task's own answer. The package's scoring functions are not
called: some of them parse a model's text as an expression. Tasks with several right answers therefore do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.family import Split, split_of
from scope_rlvr.problems.rows import normalised

_TRIES_PER_PROBLEM = 200
"""Problems generated for each one that is wanted, before a task is taken for used up."""


def gym_problems(task: str, count: int, seed: int, split: Split) -> list[Problem]:
    """``count`` different problems of a split, the same for the same arguments.

    The split of a problem is decided by its normalised text, so that no two splits share one. Raises
    :class:`UserError` where the package or the task is missing, or where the task has too few problems.
    """
    found: dict[str, Problem] = {}
    for number, entry in enumerate(_entries(task, count * _TRIES_PER_PROBLEM, seed)):
        question, answer = str(entry["question"]), entry["answer"]
        text = normalised(question)
        if answer is None or text in found or split_of(text) != split:
            continue
        found[text] = Problem(f"{task}-{seed}-{number}", question, str(answer), f"reasoning-gym/{task}")
        if len(found) == count:
            return list(found.values())
    raise UserError(
        f"gym:{task} has only {len(found)} different problems for the split {split}, and {count} are wanted; ask for fewer"
    )


def _entries(task: str, size: int, seed: int) -> Iterator[dict[str, Any]]:
    try:
        import reasoning_gym
    except ImportError as error:
        raise UserError(
            f"gym:{task} needs the package reasoning-gym, which cannot be imported ({error}); install it by "
            "pip install 'scope-rlvr[gym]'"
        ) from error
    try:
        data = reasoning_gym.create_dataset(task, size=size, seed=seed)
    except ValueError as error:
        raise UserError(f"gym:{task}: {error}; see the list of tasks in reasoning-gym's documentation") from error
    return (data[i] for i in range(size))
