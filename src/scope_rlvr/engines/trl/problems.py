"""Between TRL's data sets and problems: each row becomes a problem once, when the trainer is made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset

from scope_rlvr.core.types import Problem

INDEX = "problem_index"
"""The column that says which of the trainer's problems a row is."""


def data_of(problems: Sequence[Problem]) -> Dataset:
    """Problems as a data set for TRL, which wants to see prompts and hands rows back."""
    return Dataset.from_dict({"prompt": [p.prompt for p in problems], INDEX: list(range(len(problems)))})


def problems_of_data(dataset: Any, name: str) -> list[Problem] | None:
    """The problem of every row of a data set of known length, ``None`` for one of unknown length.

    Raises ``ValueError`` for the first row that is no problem; ``name`` says of which data.
    """
    if not hasattr(dataset, "__len__"):
        return None
    problems = []
    for number, row in enumerate(dataset):
        try:
            problems.append(problem_of_row(row))
        except ValueError as error:
            raise ValueError(f"row {number} of the {name} data: {error}") from error
    return problems


def with_index(dataset: Any, problems: Sequence[Problem] | None) -> Any:
    """The data set with a column that says which problem a row is, where it can have one."""
    if problems is None or not isinstance(dataset, Dataset):
        return dataset
    return dataset.add_column(INDEX, list(range(len(problems))))


def require_eval_problems(dataset: Any) -> None:
    """Refuse evaluation data, one set or several by name, with a row that is no problem."""
    if dataset is not None:
        for name, one in dataset.items() if isinstance(dataset, dict) else [("evaluation", dataset)]:
            problems_of_data(one, name)


def problem_of_row(row: Mapping[str, Any]) -> Problem:
    """The problem in a data set row; raises ``ValueError`` for a row without prompt or reference.

    >>> problem_of_row({"prompt": [{"role": "user", "content": "1 + 1?"}], "answer": 2}).reference
    '2'
    """
    prompt = row.get("prompt")
    text, context = prompt or "", tuple[tuple[str, str], ...]()
    if prompt and not isinstance(prompt, str):
        messages = [(str(message["role"]), message["content"]) for message in prompt]
        text, context = messages[-1][1], (*messages[:-1], (messages[-1][0], ""))
    column = next((k for k in ("reference", "answer", "solution") if row.get(k) not in (None, "")), None)
    reference = "" if column is None else str(row[column])
    solution = row.get("solution") if column != "solution" else None
    if not isinstance(text, str) or not text or not reference:
        raise ValueError(
            f"a dataset row needs a prompt and a reference (or answer, or solution); this one has {sorted(row)} with "
            f"prompt {str(text)[:60]!r} and reference {reference[:60]!r}"
        )
    shown = "\x1f".join((*(f"{role}\x1e{said}" for role, said in context[:-1]), text, reference))
    digest = hashlib.blake2b(shown.encode(), digest_size=8).hexdigest()
    own_id, source = str(row.get("id") or digest), str(row.get("source") or "")
    return Problem(own_id, text, reference, source, row.get("level"), solution, context)


def problems_of_rows(rows: Sequence[dict[str, Any]], num_rows: int, known: Sequence[Problem] | None) -> list[Problem]:
    """The problem of each whole group of ``num_rows`` equal rows."""
    problems = []
    for start in range(0, len(rows), num_rows):
        group = [_problem(row, known) for row in rows[start : start + num_rows]]
        if len(group) != num_rows or any(problem != group[0] for problem in group):
            raise RuntimeError(
                f"rows {start} to {start + len(group) - 1} do not hold one whole group of {num_rows} equal prompts; "
                "make per_device_train_batch_size x steps_per_generation a multiple of num_generations"
            )
        problems.append(group[0])
    return problems


def _problem(row: Mapping[str, Any], known: Sequence[Problem] | None) -> Problem:
    return known[row[INDEX]] if known is not None and row.get(INDEX) is not None else problem_of_row(row)


def messages_of(problem: Problem, text: str | None = None) -> list[dict[str, str]] | None:
    """The conversation that a problem is the last message of, that one with another ``text`` if given; ``None`` for a plain
    prompt."""
    if not problem.context:
        return None
    *before, (role, _) = problem.context
    said = problem.prompt if text is None else text
    return [{"role": r, "content": c} for r, c in before] + [{"role": role, "content": said}]
