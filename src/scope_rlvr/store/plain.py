"""Rollouts as older versions wrote them, one JSON object a line, in blocks of one step each as a reader sees them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from scope_rlvr.store.journal import read_lines

_MAX_BYTES = 1 << 24
_BEGINNING = re.compile(
    rb'\{"schema": 1, "step": (\d+), "group": \d+, "group_class": "[a-z ]*", "problem": ("(?:[^"\\]|\\.)*")'
)
"""How a line of ours begins; the rest of it need not be read to know its step and its problem."""


@dataclass(frozen=True, slots=True)
class PlainRecords:
    """The lines of a block: each a record, or what is wrong with it."""

    heads: list[dict[str, Any] | str]

    def record(self, number: int) -> dict[str, Any]:
        head = self.heads[number]
        if isinstance(head, str):
            raise ValueError(head)
        return head


@dataclass(slots=True)
class PlainBlock:
    """Neighbouring lines of one step."""

    file: Path
    offset: int
    first_line: int
    step: int
    num_bytes: int = 0
    num_rollouts: int = 0
    problems: list[tuple[str, int]] = field(default_factory=list)

    def place_of(self, number: int) -> str:
        """Where a rollout of the block is, for a message."""
        return f"line {self.first_line + number} of {self.file.name}"

    def read(self) -> PlainRecords:
        lines = islice(read_lines(self.file, self.offset), self.num_rollouts)
        return PlainRecords([line.fault or line.value for line in lines])

    def add(self, problem: str, num_bytes: int) -> None:
        """Take in one more line."""
        self.num_bytes += num_bytes
        self.num_rollouts += 1
        if self.problems and self.problems[-1][0] == problem:
            self.problems[-1] = (problem, self.problems[-1][1] + 1)
        else:
            self.problems.append((problem, 1))


def plain_blocks(path: Path) -> Iterator[PlainBlock]:
    """The blocks of a file, after a look at the beginning of each line; a torn last line is in none.

    Rows of another origin, without a step, are of step 0.
    """
    block: PlainBlock | None = None
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            known = _step_and_problem(line)
            if line.strip() and (known or line.endswith(b"\n")):
                # A broken line belongs to the block that it is found in.
                step, problem = known or (block.step if block else 0, "")
                if block is None or block.step != step or block.num_bytes >= _MAX_BYTES:
                    if block is not None:
                        yield block
                    block = PlainBlock(path, offset, number, step)
                block.add(problem, len(line))
            offset += len(line)
    if block is not None:
        yield block


def _step_and_problem(line: bytes) -> tuple[int, str] | None:
    found = _BEGINNING.match(line)
    if found is not None and line.endswith(b"\n"):
        return int(found[1]), json.loads(found[2])
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return 0, ""
    step = record.get("step")
    return step if isinstance(step, int) else 0, str(record.get("problem", ""))
