"""How often graders agree: with the tests of other projects, and with the meaning of rewritten references.

    python benchmarks/grader_agreement.py [--golds FILE ...] [--most N] [--cases FILE ...] [--only-ours] [--out FILE] [--check]

First the cases of others (benchmarks/data), then every reference of them and of ``--golds``, written in ways that keep its meaning
and in ways that change it (benchmarks/rewritings.py). Graders are this project's, ``math-verify`` by itself, and the one of PRM800K
where the package ``mathruler`` is installed; each works in processes with a deadline. Results go to ``--out``, and the tables
of docs/grading.md are written from there; ``--check`` only says whether they are up to date.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.rewritings import CHANGING, PRESERVING
from scope_rlvr.grading.gold import spread
from scope_rlvr.grading.pool import Answer, WorkerPool

ROOT = Path(__file__).parent.parent
CASES = ROOT / "benchmarks" / "data" / "grader_cases.jsonl"
OWN_CASES = ROOT / "tests" / "data" / "grading_cases.jsonl"
OWN = "this project's own tests"
RESULTS = ROOT / "benchmarks" / "results" / "grader_agreement.json"
PAGE = ROOT / "docs" / "grading.md"
DATA_SETS = ("math500", "minerva", "gsm8k", "aime24", "amc23")
DEADLINE = 10.0
GRADERS = {
    "scope-rlvr": "scope_rlvr.grading.math_judge:make_judge",
    "math-verify": "benchmarks.grader_agreement:make_math_verify",
    "PRM800K": "benchmarks.grader_agreement:make_prm800k",
}
"""By name, what makes the judge; the first is this project's."""
OURS = next(iter(GRADERS))
_BLOCK = re.compile(r"(<!-- table: (agreement-\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)

Judge = Callable[[str, str], tuple[str, str]]


@dataclass(frozen=True)
class Case:
    """A reference, an answer, and the verdict that it deserves: of a test of the project ``origin``, or by a rewriting."""

    origin: str
    gold: str
    answer: str
    expected: str
    ruling: str = ""


def read_cases(files: Iterable[Path]) -> list[Case]:
    """The cases of JSONL files with the fields of :class:`Case`."""
    return [Case(**json.loads(line)) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def own_cases() -> list[Case]:
    """The cases that this project's tests hold, so that its grader agrees with all of them."""
    rows = [json.loads(line) for line in OWN_CASES.read_text(encoding="utf-8").splitlines()]
    return [Case(OWN, row["gold"], row["answer"], row["expected"]) for row in rows]


def read_golds(files: Iterable[Path], most: int) -> Iterator[str]:
    """At most so many references of each JSONL file, evenly spread, from its column ``answer``; a file that is not there is
    named and left out."""
    for file in files:
        if not file.is_file():
            print(f"left out: {file} is not there", file=sys.stderr)
            continue
        for line in spread(file.read_text(encoding="utf-8").splitlines(), most):
            yield str(json.loads(line)["answer"]).rpartition("#### ")[2].strip()


def readable(golds: Iterable[str]) -> list[str]:
    """The references that this project's grader can read, each once."""
    cases = [Case("", gold, "987654321.5", "wrong") for gold in dict.fromkeys(golds)]
    answers = graded(OURS, cases)
    return [case.gold for case, answer in zip(cases, answers, strict=True) if answer.outcome.value == "wrong"]


def rewritten(golds: Iterable[str]) -> list[Case]:
    """Every reference in every way that applies to it; ``origin`` is the group of the rewriting and its name."""
    ways = [
        (f"{group}: {name}", write, "right") for group, named in PRESERVING.items() for name, write in named.items()
    ]
    ways += [(f"changed: {name}", write, "wrong") for name, write in CHANGING.items()]
    cases = [
        Case(name, gold, answer, verdict) for gold in golds for name, write, verdict in ways if (answer := write(gold))
    ]
    return [case for case in dict.fromkeys(cases) if case.answer != case.gold]


def make_math_verify() -> Judge:
    """``math-verify`` by itself: the reference between dollar signs, the answer in a box, defaults, no timers."""
    from math_verify import parse, verify

    def judge(gold: str, answer: str) -> tuple[str, str]:
        parsed_gold = parse(f"${gold}$", parsing_timeout=None)
        parsed_answer = parse(rf"$\boxed{{{answer}}}$", parsing_timeout=None)
        is_right = verify(parsed_gold, parsed_answer, timeout_seconds=None)
        return ("right", "equal") if is_right else ("wrong", "unequal")

    return judge


def make_prm800k() -> Judge:
    """The grader of PRM800K, as the package ``mathruler`` has it."""
    from mathruler.grader import grade_answer

    return lambda gold, answer: ("right", "equal") if grade_answer(answer, gold) else ("wrong", "unequal")


def graded(name: str, cases: Sequence[Case]) -> list[Answer]:
    """What the grader of this name says to every case."""
    questions = [{"gold": case.gold, "answer": case.answer} for case in cases]
    with WorkerPool(GRADERS[name], {}, num_workers=2, deadline=DEADLINE) as pool:
        return pool.ask(questions)


def measure(cases: Sequence[Case], written: Sequence[Case], graders: Sequence[str]) -> dict[str, Any]:
    """Who agrees how often, by origin and by rewriting, and where this project's grader does not."""
    found = {name: graded(name, [*cases, *written]) for name in graders}
    ours = found[OURS]
    disputes = [
        asdict(case) | {"said": answer.outcome.value, "reason": answer.reason}
        for case, answer in zip([*cases, *written], ours, strict=True)
        if answer.outcome.value != case.expected
    ]
    return {
        "graders": {name: _version(name) for name in graders},
        "num_golds": len({case.gold for case in written}),
        "cases": _by_origin(cases, {name: answers[: len(cases)] for name, answers in found.items()}),
        "rewritings": _by_origin(written, {name: answers[len(cases) :] for name, answers in found.items()}),
        "disputes": disputes,
    }


def _by_origin(cases: Sequence[Case], found: dict[str, list[Answer]]) -> dict[str, dict[str, int]]:
    """By origin: the number of cases, and for each grader those in which it gives the expected verdict."""
    counts: dict[str, Counter[str]] = {case.origin: Counter() for case in cases}
    for place, case in enumerate(cases):
        counts[case.origin]["cases"] += 1
        for name, answers in found.items():
            counts[case.origin][name] += answers[place].outcome.value == case.expected
    return {origin: dict(count) for origin, count in counts.items()}


def _version(name: str) -> str:
    package = {"PRM800K": "mathruler"}.get(name, name)
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def table_of_cases(results: dict[str, Any]) -> str:
    """The cases of others: agreements by origin, and what this project's own rulings explain."""
    ruled = Counter(dispute["origin"] for dispute in results["disputes"] if dispute["ruling"])
    rows = [[origin, counts, ruled[origin]] for origin, counts in results["cases"].items()]
    total = sum((Counter(counts) for origin, counts, _ in rows if origin != OWN), Counter())
    rows.insert(len(results["cases"]) - 1, ["all of these", total, sum(ruled.values())])
    names = list(results["graders"])
    lines = [
        f"| origin | cases | {' agrees | '.join(names)} agrees | {OURS} disagrees by a rule |",
        "|---" * (len(names) + 3) + "|",
    ]
    lines += [f"| {o} | {c['cases']} | {' | '.join(_share(c, n) for n in names)} | {r} |" for o, c, r in rows]
    return "\n".join([*lines, "", *_rulings(results)]) + "\n"


def _rulings(results: dict[str, Any]) -> list[str]:
    by_ruling: dict[str, list[str]] = {}
    for dispute in results["disputes"]:
        if dispute["ruling"]:
            shown = f"`{dispute['gold']}` with `{dispute['answer']}`"
            by_ruling.setdefault(dispute["ruling"], []).append(shown)
    return [f"* {ruling}: {', '.join(shown)}" for ruling, shown in by_ruling.items()]


def table_of_rewritings(results: dict[str, Any]) -> str:
    """The rewritings by group: how often the verdict is the one that the meaning asks for."""
    groups: dict[str, Counter[str]] = {}
    for name, counts in results["rewritings"].items():
        groups.setdefault(name.partition(": ")[0], Counter()).update(counts)
    names = list(results["graders"])
    kept = {group: counts for group, counts in groups.items() if group != "changed"}
    rows = {**kept, "all of these": sum(kept.values(), Counter()), "another meaning": groups.get("changed", Counter())}
    lines = [f"| the reference, rewritten | answers | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    lines += [
        f"| {group} | {counts['cases']:,} | {' | '.join(_share(counts, n) for n in names)} |"
        for group, counts in rows.items()
    ]
    return "\n".join(lines) + "\n"


def _share(counts: dict[str, int] | Counter[str], name: str) -> str:
    """In per cent, rounded down, so that 100 is all of them."""
    return f"{counts[name] * 1000 // max(counts['cases'], 1) / 10:.1f} %"


TABLES = {"agreement-cases": table_of_cases, "agreement-rewritings": table_of_rewritings}


def renewed(page: Path = PAGE, results: Path = RESULTS) -> str:
    """The text of the page with its tables made anew from the results."""
    found = json.loads(results.read_text(encoding="utf-8"))
    return _BLOCK.sub(lambda block: block[1] + TABLES[block[2]](found) + block[3], page.read_text(encoding="utf-8"))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=Path, action="append", help="JSONL: origin, gold, answer, expected")
    parser.add_argument("--golds", type=Path, action="append", help="JSONL with references in a column answer")
    parser.add_argument("--most", type=int, default=60, help="references taken from each file")
    parser.add_argument("--only-ours", action="store_true", help="leave the other graders out")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 where the tables of the page are not up to date"
    )
    arguments = parser.parse_args()
    if arguments.check:
        return int(renewed() != PAGE.read_text(encoding="utf-8"))
    folder = Path(os.environ.get("SCOPE_DATA", "nowhere"))
    files = arguments.golds or [folder / f"{name}.jsonl" for name in DATA_SETS]
    cases = read_cases(arguments.cases or [CASES])
    golds = readable([*(case.gold for case in cases), *read_golds(files, arguments.most)])
    graders = [name for name in GRADERS if name != "PRM800K" or find_spec("mathruler")]
    results = measure([*cases, *own_cases()], rewritten(golds), [OURS] if arguments.only_ours else graders)
    for dispute in results["disputes"]:
        print(json.dumps(dispute, ensure_ascii=False))
    if arguments.only_ours:
        print(table_of_cases(results), table_of_rewritings(results), sep="\n")
        return 0
    arguments.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.out == RESULTS:
        PAGE.write_text(renewed(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
