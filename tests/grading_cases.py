"""Hand-made pairs of gold and answer with the verdict they deserve, and answers that hang a computer algebra system."""

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
    "factorials that cancel": r"\frac{(10^8)!}{(10^8-1)!}",
    "binomial": r"\binom{10^7}{5\cdot 10^6}",
    "expansion": r"(x+y+z)^{3000}-(x+y+z)^{2999}",
    "nested brackets": "(" * 240 + "5" + ")" * 240,
    "nested fractions": r"\frac{1}{" * 50 + "1+" + "}" * 50,
    "nested roots": r"\sqrt{1+" * 60 + "5" + "}" * 60,
    "integral": r"\int_0^1 \sin(x^x) e^{x^2} \log(x+2) dx",
    "improper integral": r"\int_{0}^{\infty} \frac{x^{17}}{e^{x^3}+\sin x}\,dx",
    "long sum": r"\sum_{n=1}^{10^9} \frac{1}{n^3}",
    "long product": r"\prod_{n=1}^{10^7} n",
    "limit": r"\lim_{x\to 0} \frac{\sin(\sin(\sin(x^5)))-x^5}{x^{25}}",
}
"""Short enough to be graded at all. No gold of the tests is equal to one of them."""

OVERLONG = {
    "600 nested brackets": "(" * 600 + "5" + ")" * 600,
    "a set of 3,000": r"\{" + ", ".join(map(str, range(3000))) + r"\}",
    "300 intervals": r" \cup ".join(f"({2 * i}, {2 * i + 1})" for i in range(300)),
}
"""Refused for their length. Given to a worker directly, they hang it as well."""
