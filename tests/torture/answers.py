"""Answers that nobody would write, by the hundred thousand: no grader may crash, hang, or call one of them right.

    python -m tests.torture.answers [--answers 100000] [--seconds 3600]

Each reference is met by answers made from it and from noise. What the answer says is known from how it was made: another number,
another sign, a reference with a part gone, a formula that costs the earth. Nothing of that is right.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from scope_rlvr.core.types import Problem
from scope_rlvr.grading.math_answer import MathVerifier
from tests.torture.results import FOLDER, Results

_IN_A_CASE = 5000
_AT_A_TIME = 500

GOLDS = (
    *("42", "-7", "0.25", r"\frac{3}{4}", r"2\sqrt{3}", r"\frac{\pi}{6}", "1e-5", r"12\%", "1,234", r"3^{10}", "6+2i"),
    *(
        "(1, 2)",
        "[0, 5)",
        r"\{1, 2, 3\}",
        "x^2+1",
        r"\frac{x+1}{x-1}",
        "x = 4",
        r"y \ge 3",
        r"10\text{ cm}",
        "n=5 \\pmod 7",
    ),
    *(
        r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
        r"\text{Evelyn}",
        "C",
        r"\infty",
        r"\emptyset",
        r"90^\circ",
        "3:4",
    ),
)
_PIECES = (
    *(
        "\\",
        "{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "$",
        "^",
        "_",
        "&",
        "%",
        "#",
        "~",
        "|",
        "!",
        "=",
        "<",
        ">",
        ",",
        ";",
        ":",
        ".",
        "'",
        '"',
        "`",
    ),
    *(
        r"\frac",
        r"\sqrt",
        r"\left",
        r"\right",
        r"\text{",
        r"\begin{matrix}",
        r"\end{matrix}",
        r"\int",
        r"\sum_{k=1}^{n}",
        r"\lim",
    ),
    *(
        r"\boxed{",
        r"\log",
        r"\pm",
        r"\cup",
        r"\cdot",
        r"\times",
        r"\ldots",
        r"\infty",
        r"\pi",
        r"\theta",
        r"\binom",
        r"\overline{",
    ),
    *(
        "0",
        "1",
        "9",
        "17",
        "1e9",
        "99999999999",
        "x",
        "y",
        "n",
        "e",
        "i",
        " ",
        "\n",
        "\t",
        "\x00",
        "\u202e",
        "½",
        "∞",
        "𝟙",
        "，",
        "\ud800",
    ),
)
_COSTLY = (
    *(
        "9^{9^{9^{9}}}",
        "10^{10^{10}}!",
        r"\binom{10^9}{10^8}",
        "(x+y+z)^{500}",
        r"\prod_{k=1}^{10^9} k",
        "((((((((((1+x)^9)^9)^9)^9)^9)^9)^9)^9)",
    ),
    *(
        r"\sum_{k=1}^{10^{12}} \frac{1}{k}",
        r"\int_0^1 \int_0^1 \int_0^1 \sin(xyz)",
        r"\sqrt{" * 200 + "2" + "}" * 200,
        "1" * 500 + "!",
    ),
    *(
        "(" * 250,
        "{" * 500,
        r"\frac{1}{" * 100 + "x" + "}" * 100,
        "x^" * 200 + "2",
        "+".join("x" * 250),
        ",".join("1" * 250),
    ),
)


def _noise(gold: str, rng: Random) -> str:
    return "".join(rng.choice(_PIECES) for _ in range(rng.randint(1, 40)))


def _with_noise(gold: str, rng: Random) -> str:
    """The reference with noise in the middle of it, between digits or commands that it parts."""
    at = rng.randrange(len(gold) + 1)
    return f"{gold[:at]}{rng.choice('37')}{gold[at:]}{rng.choice('589')}"


def _another_number(gold: str, rng: Random) -> str:
    return str(rng.choice((rng.randint(100_000, 999_999), -rng.randint(1000, 9999), rng.randint(1000, 9999) + 0.5)))


def _a_costly_one(gold: str, rng: Random) -> str:
    return rng.choice(_COSTLY)


def _a_chain_that_breaks(gold: str, rng: Random) -> str:
    return f"{rng.randint(50_000, 60_000)} = {rng.randint(70_000, 80_000)}"


def _many_answers(gold: str, rng: Random) -> str:
    return ", ".join(str(rng.randint(100_000, 999_999)) for _ in range(rng.randint(2, 12)))


WRONG: dict[str, Callable[[str, Random], str]] = {
    "noise": _noise,
    "digits put in": _with_noise,
    "another number": _another_number,
    "a formula that costs the earth": _a_costly_one,
    "a chain that breaks": _a_chain_that_breaks,
    "many answers": _many_answers,
}
"""How answers are made that are not right. Noise can come to the reference by chance where that is one letter or digit."""

_BOXES = (
    r"\boxed{%s}",
    r"So the answer is \boxed{%s}.",
    r"\boxed{%s",
    r"$\boxed{%s}$ \boxed{}",
    "<think>%s",
    "\\boxed{%s}" * 3,
)


def made_answers(count: int, seed: int) -> Iterator[tuple[str, str, str]]:
    """How it was made, the reference and the response."""
    rng = Random(seed)
    kinds = sorted(WRONG)
    for number in range(count):
        # The costly ones run into a deadline each.
        kind = kinds[number % len(kinds)] if number % 50 == 0 else rng.choice([k for k in kinds if "costs" not in k])
        gold = rng.choice(GOLDS)
        yield kind, gold, rng.choice(_BOXES).replace("%s", WRONG[kind](gold, rng))


def is_the_gold(gold: str, response: str) -> bool:
    """Whether noise came to the reference by chance: all of it, but for signs around it, is there."""
    said = response.replace(" ", "")
    return len(gold) <= 2 and gold in said


def run(count: int, seed: int) -> Counter[str]:
    """Judge so many answers: counts of verdicts, and of ``false right``."""
    counts = Counter[str]()
    with MathVerifier(workers=1, deadline=2.0) as verifier:
        answers = list(made_answers(count, seed))
        for start in range(0, count, _AT_A_TIME):
            counts.update(_judged(verifier, answers[start : start + _AT_A_TIME]))
    return counts


def _judged(verifier: MathVerifier, batch: list[tuple[str, str, str]]) -> Iterator[str]:
    problems = [(Problem(f"p{i}", "?", gold), response) for i, (_, gold, response) in enumerate(batch)]
    verdicts = verifier.verify(problems)
    assert len(verdicts) == len(batch)
    for (kind, gold, response), verdict in zip(batch, verdicts, strict=True):
        yield verdict.outcome.value
        if verdict.is_right and not is_the_gold(gold, response):
            print(f"FALSE RIGHT ({kind}): {gold!r} and {response!r}: {verdict.reason}", flush=True)
            yield "false right"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=3600, help="when to stop; the next call goes on")
    parser.add_argument("--results", type=Path, default=FOLDER, help="folder of the results")
    arguments = parser.parse_args()
    results, until, total = (
        Results.of("answers", arguments.results),
        time.monotonic() + arguments.seconds,
        Counter[str](),
    )
    known = results.known()
    for seed in range(-(-arguments.answers // _IN_A_CASE)):
        if f"answers, seed {seed}" in known or time.monotonic() > until:
            continue
        counts = run(_IN_A_CASE, seed)
        total += counts
        results.add(f"answers, seed {seed}", "false right" if counts["false right"] else "done", counts=dict(counts))
    print(dict(total))


if __name__ == "__main__":
    main()
