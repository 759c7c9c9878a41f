"""Problems from a JSONL file: one object a line with ``prompt`` (or ``problem``) and ``reference`` (or ``answer``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from scope_rlvr.errors import UserError
from scope_rlvr.types import Problem

_MAX_MISTAKES_SHOWN = 5


def read_problems(path: Path) -> list[Problem]:
    """Read every problem of a file; :class:`UserError` names the rows that are not problems.

    Ids must be unique; a row without one is called after its line number.
    """
    try:
        # Not splitlines: JSON strings may hold other line separators (U+2028) as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the problem file {path} cannot be read: {error}") from error
    problems: dict[str, Problem] = {}
    mistakes: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        problem = _problem(line, f"{path.stem}-{number}", path.stem)
        if isinstance(problem, str):
            mistakes.append(f"line {number}: {problem}")
        elif problem.id in problems:
            mistakes.append(f"line {number}: the id {problem.id!r} was already used")
        else:
            problems[problem.id] = problem
    if mistakes:
        shown = "\n".join(f"  {mistake}" for mistake in mistakes[:_MAX_MISTAKES_SHOWN])
        more = f"\n  and {len(mistakes) - _MAX_MISTAKES_SHOWN} more" if len(mistakes) > _MAX_MISTAKES_SHOWN else ""
        raise UserError(f"the problem file {path} has {len(mistakes)} row(s) that are no problems:\n{shown}{more}")
    if not problems:
        raise UserError(f"the problem file {path} holds no problem; give one JSON object a line")
    return list(problems.values())


def _problem(line: str, default_id: str, source: str) -> Problem | str:
    """The problem in a line, or what is wrong with it."""
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg}"
    if not isinstance(row, dict):
        return f"expected an object, got {type(row).__name__}"
    prompt = row.get("prompt") or row.get("problem")
    reference = row.get("reference") if row.get("reference") is not None else row.get("answer")
    if not isinstance(prompt, str) or not prompt.strip():
        return f"no prompt (or problem) text; the row has {sorted(row)}"
    if reference is None or not str(reference).strip():
        return f"no reference (or answer); the row has {sorted(row)}"
    level = row.get("level")
    if level is not None and not isinstance(level, int):
        return f"level must be a whole number, got {level!r}"
    own_id = default_id if row.get("id") in (None, "") else str(row["id"])
    return Problem(own_id, prompt, str(reference), str(row.get("source") or source), level)
