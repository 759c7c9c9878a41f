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


def bare_math_verify(gold: str, answer: str) -> str:
    """What math-verify says by itself: gold between dollar signs, answer in a box, default extraction, no timers."""
    from math_verify import parse, verify

    parsed_gold = parse(f"${gold}$", parsing_timeout=None)
    parsed_answer = parse(rf"$\boxed{{{answer}}}$", parsing_timeout=None)
    return "right" if verify(parsed_gold, parsed_answer, timeout_seconds=None) else "wrong"
