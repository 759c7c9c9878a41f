"""Hand-made pairs of gold and answer with the verdict they deserve."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    group: str
    gold: str
    answer: str
    expected: str


def cases() -> list[Case]:
    file = Path(__file__).parent / "data" / "grading_cases.jsonl"
    return [Case(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
