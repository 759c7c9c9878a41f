"""What hostile answers cost the mathematical verifier, and what its processes cost beside math-verify in this one.

    python benchmarks/grader.py [--deadline 2] [--answers 2000] [--json FILE]

First, answers that keep a computer algebra system busy for ever stand between answers that do not: every healthy one must
be right, no hostile one may be, and no worker may be lost or late. Then ordinary answers, each of them new, are graded in
turns by math-verify in this process without any time limit, by the same judge in this process, and by one and by two
workers; ratios compare blocks that stood side by side.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from scope_rlvr.core.types import Outcome, Problem
from scope_rlvr.grading.math_answer import MathVerifier

HOSTILE = {
    "power tower": r"9^{9^{9^{9}}}",
    "power tower of twos": r"2^{2^{2^{2^{2^{2}}}}}",
    "power tower in brackets": r"((10^{10})^{10})^{10^{10}}",
    "power tower under a root": r"\sqrt[3]{7^{7^{7^{7}}}}",
    "power tower modulo": r"3^{3^{3^{3}}} \mod 7",
    "googolplex": r"10^{10^{10}}",
    "huge powers that cancel": r"7^{10^{9}} - 7^{10^{9}} + 5",
    "factorial": r"1000000!",
    "factorial of a billion": r"(10^9)!",
    "binomial": r"\binom{10^7}{5\cdot 10^6}",
    "expansion": r"(x+y+z)^{3000}-(x+y+z)^{2999}",
    "nested fractions": "".join(rf"\frac{{1}}{{x^{i}+" for i in range(2, 32)) + "1" + "}" * 30,
    "nested brackets": "(" * 600 + "5" + ")" * 600,
    "set of 3,000": r"\{" + ", ".join(map(str, range(3000))) + r"\}",
    "300 intervals": r" \cup ".join(f"({2 * i}, {2 * i + 1})" for i in range(300)),
    "integral": r"\int_0^1 \sin(x^x) e^{x^2} \log(x+2) dx",
    "improper integral": r"\int_{0}^{\infty} \frac{x^{17}}{e^{x^3}+\sin x}\,dx",
    "long sum": r"\sum_{n=1}^{10^9} \frac{1}{n^3}",
    "long product": r"\prod_{n=1}^{10^7} n",
    "sum of sums": r"\sum_{n=1}^{10^5} \sum_{k=1}^{n} \frac{1}{k^2 n}",
}
"""None is equal to 8. Some are longer than the verifier lets through; here they reach the workers all the same."""

HEALTHY = [
    (r"\frac{1}{2}", "2/4"),
    (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}"),
    ("4.5e33", r"4.5 \times 10^{33}"),
    ("2k+2", "2(k+1)"),
    ("1,-2", "-2, 1"),
    (r"(3,4]", r"\left(3, 4\right]"),
    (r"90^\circ", "90"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{bmatrix} 1 \\ 2 \end{bmatrix}"),
    ("x=5", "5"),
    ("6 - 5i", "-5i + 6"),
    (r"\text{east}", "East"),
    (r"\$36", "36.00"),
    (r"1 \pm \sqrt{19}", r"1+\sqrt{19}, 1-\sqrt{19}"),
    (r"x^2-1", "(x-1)(x+1)"),
    (r"11\sqrt2", r"\sqrt{242}"),
    (r"50\%", r"\frac{1}{2}"),
    ("y = 2x + 3", "y=3+2x"),
    (r"(-\infty, 2) \cup (3, \infty)", r"(3,\infty) \cup (-\infty,2)"),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)"),
    ("1000000", "10^6"),
]
HOSTILE_GOLD = "8"


@dataclass(frozen=True)
class Endured:
    """What became of hostile and healthy answers in turn."""

    workers: int
    deadline: float
    num_hostile: int
    num_hostile_right: int
    num_hostile_unknown: int
    num_healthy: int
    num_healthy_right: int
    slowest_hostile: float
    slowest_healthy: float
    seconds: float
    num_answered_afterwards: int
    """Healthy answers, asked once more, that were right when all was over: no worker is lost."""


def endure(workers: int, deadline: float, hostile: list[str] | None = None) -> Endured:
    """Give hostile and healthy answers in turn to the workers of a new verifier."""
    names = list(HOSTILE) if hostile is None else hostile
    healthy = HEALTHY[: len(names)]
    questions = []
    for name, (gold, answer) in zip(names, healthy, strict=True):
        questions += [{"gold": HOSTILE_GOLD, "answer": HOSTILE[name]}, {"gold": gold, "answer": answer}]
    with MathVerifier(workers=workers, deadline=deadline) as verifier:
        verifier.pool.wait_until_ready()
        started = time.monotonic()
        answers = verifier.pool.ask(questions)
        seconds = time.monotonic() - started
        again = verifier.pool.ask(questions[1::2])
    bad, good = answers[::2], answers[1::2]
    return Endured(
        workers=workers,
        deadline=deadline,
        num_hostile=len(bad),
        num_hostile_right=sum(answer.outcome is Outcome.RIGHT for answer in bad),
        num_hostile_unknown=sum(answer.outcome is Outcome.UNKNOWN for answer in bad),
        num_healthy=len(good),
        num_healthy_right=sum(answer.outcome is Outcome.RIGHT for answer in good),
        slowest_hostile=max(answer.seconds for answer in bad),
        slowest_healthy=max(answer.seconds for answer in good),
        seconds=seconds,
        num_answered_afterwards=sum(answer.outcome is Outcome.RIGHT for answer in again),
    )


def ordinary_pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Golds and answers of everyday kinds, no two pairs alike; about half of them are equal."""
    rng = Random(seed)
    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < count:
        a, b, c = (rng.randint(2, 997) for _ in range(3))
        off = rng.choice([0, 1])
        kinds = [
            (rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{2 * a + off}}}{{{2 * b}}}"),
            (rf"\frac{{{a}}}{{{b}}}", rf"{a + off}/{b}"),
            (rf"{a}\sqrt{{{b}}}", rf"\sqrt{{{a * a * b + off}}}"),
            (rf"{a}x+{b}", rf"{b + off}+{a}x"),
            (rf"(x+{a})(x-{b})", rf"x^2 + {a - b}x - {a * b + off}"),
            (f"({a},{b})", f"({a}, {b + off})"),
            (f"{a}, {b}, {c}", f"{c + off}, {a}, {b}"),
            (f"{a / 100}", rf"\frac{{{a + off}}}{{100}}"),
            (f"[{a},{a + b})", f"[{a},{a + b + off})"),
            (rf"{a}\pi", rf"\frac{{{2 * a + off}\pi}}{{2}}"),
            (rf"{a}+{b}i", rf"{b + off}i+{a}"),
            (f"{a}.{b}e{c % 40}", rf"{a}.{b + off} \times 10^{{{c % 40}}}"),
        ]
        pairs[rng.choice(kinds)] = None
    return list(pairs)


def _bare(pairs: list[tuple[str, str]]) -> None:
    from math_verify import parse, verify

    for gold, answer in pairs:
        parsed_gold = parse(f"${gold}$", parsing_timeout=None)
        verify(parsed_gold, parse(rf"$\boxed{{{answer}}}$", parsing_timeout=None), timeout_seconds=None)


def _judge(pairs: list[tuple[str, str]]) -> None:
    from scope_rlvr.grading.math_judge import judge

    for gold, answer in pairs:
        judge(gold, answer)


def _by(verifier: MathVerifier) -> Callable[[list[tuple[str, str]]], None]:
    def grade(pairs: list[tuple[str, str]]) -> None:
        verifier.verify([(Problem("p", "?", gold), rf"\boxed{{{answer}}}") for gold, answer in pairs])

    return grade


def throughput(num_answers: int, num_blocks: int) -> dict[str, Any]:
    """Answers a second of each way, and of each the ratio to math-verify in this process, block by block."""
    pairs = ordinary_pairs(num_answers)
    size = -(-len(pairs) // num_blocks)
    rates: dict[str, list[float]] = {}
    with MathVerifier(workers=1) as one, MathVerifier(workers=2) as two:
        ways = {"math-verify here": _bare, "judge here": _judge, "one worker": _by(one), "two workers": _by(two)}
        for way in ways.values():  # What is done for the first time is slow.
            way(ordinary_pairs(60, seed=1))
        for number, start in enumerate(range(0, len(pairs), size)):
            block = pairs[start : start + size]
            for name in _turned(list(ways), number):
                started = time.perf_counter()
                ways[name](block)
                rates.setdefault(name, []).append(len(block) / (time.perf_counter() - started))
    bare = rates["math-verify here"]
    ratios = {name: [rate / other for rate, other in zip(rates[name], bare, strict=True)] for name in ways}
    return {
        "num_answers": len(pairs),
        "num_blocks": len(bare),
        "per_second": {name: median(rates[name]) for name in ways},
        "ratio_to_math_verify": {
            name: {"median": median(found), "lowest": min(found), "highest": max(found)}
            for name, found in ratios.items()
        },
    }


def _turned(names: list[str], by: int) -> list[str]:
    """Each block begins with another way, so that none always comes when the machine is warm."""
    first = by % len(names)
    return names[first:] + names[:first]


def _show(found: list[Endured], speed: dict[str, Any], console: Console) -> None:
    table = Table(title="hostile and healthy answers in turn; times in seconds", title_justify="left", box=None)
    columns = (
        "workers",
        "deadline",
        "healthy: right",
        "again",
        "slowest",
        "hostile: right",
        "unknown",
        "slowest",
        "all",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(
            str(one.workers),
            f"{one.deadline:g}",
            f"{one.num_healthy_right}/{one.num_healthy}",
            f"{one.num_answered_afterwards}/{one.num_healthy}",
            f"{one.slowest_healthy:.2f}",
            f"{one.num_hostile_right}/{one.num_hostile}",
            f"{one.num_hostile_unknown}/{one.num_hostile}",
            f"{one.slowest_hostile:.2f}",
            f"{one.seconds:.1f}",
        )
    console.print(table)
    table = Table(title=f"\n{speed['num_answers']} ordinary answers", title_justify="left", box=None)
    for column in ("way", "a second", "against math-verify here", "lowest and highest block"):
        table.add_column(column, justify="left" if column == "way" else "right")
    for name, rate in speed["per_second"].items():
        ratio = speed["ratio_to_math_verify"][name]
        spread = f"{ratio['lowest']:.2f} to {ratio['highest']:.2f}"
        table.add_row(name, f"{rate:.0f}", f"{ratio['median']:.2f}", spread)
    console.print(table)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="The mathematical verifier under hostile answers, and its throughput.")
    parser.add_argument("--deadline", type=float, default=2.0)
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    found = [endure(workers, arguments.deadline) for workers in (1, 2)]
    speed = throughput(arguments.answers, arguments.blocks)
    _show(found, speed, Console())
    if arguments.json is not None:
        record = {
            "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": sys.version.split()[0]},
            "load": os.getloadavg(),
            "endured": [asdict(one) for one in found],
            "throughput": speed,
        }
        arguments.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
