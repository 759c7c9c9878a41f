"""Writes the examples and the counts of docs/stories.md.

    python tools/story_page.py            write them
    python tools/story_page.py --check    exit with 1 where something is not up to date

What is written stands between ``<!-- made: NAME -->`` and ``<!-- end -->``; the words around it are written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from scope_rlvr.problems.stories.family import MAX_LEVEL, MIN_LEVEL, VARIANTS, Stories
from scope_rlvr.problems.stories.plan import Plan
from scope_rlvr.problems.stories.tables import tables
from tools.story_diversity import SPLITS, measured

PAGE = Path(__file__).parent.parent / "docs" / "stories.md"
_BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SHOWN = (
    *(("stories", level, "train") for level in (2, 3, 4, 6, 8)),
    ("stories", 4, "test"),
    *((name, 4, "test") for name in VARIANTS if name != "stories"),
)
_COUNTED = 1000
_ORDERED = 200


def examples() -> str:
    """One story of each of some levels, splits and sets, with its solution."""
    shown = []
    for name, level, split in _SHOWN:
        problem = Stories(name).sample(level, 1, seed=1, split=split)[0]
        solution = str(problem.solution).replace("\n\n", "\n")
        shown.append(f"**`{name}:{level}`**, {split}\n\n> {problem.prompt.strip()}\n\n```text\n{solution}\n```\n")
    return "\n".join(shown)


def counts() -> str:
    """Forms of sentences in the tables, and skeletons in a thousand stories, for each split."""
    found = measured("stories", _COUNTED)
    rows = [f"| {s} | {len(set(tables(s).sentences()))} | {len(found[s])} |\n" for s in SPLITS]
    return f"| split | forms of sentences | skeletons in {_COUNTED} stories |\n|---|---|---|\n{''.join(rows)}"


def orders() -> str:
    """How many stories of each level have several orders of the plan's steps."""
    family = Stories("stories")
    rows = []
    for level in range(MIN_LEVEL, MAX_LEVEL + 1):
        found = sorted(num_orders(family.story_of(problem).plan) for problem in family.sample(level, _ORDERED, seed=1))
        several = sum(number > 1 for number in found)
        rows.append(f"| {level} | {several / _ORDERED:.0%} | {found[_ORDERED // 2]} | {found[-1]} |\n")
    return f"| level | several orders | median | most |\n|---|---|---|---|\n{''.join(rows)}"


def num_orders(plan: Plan) -> int:
    """In how many orders the operations of a plan can be done."""
    operations = frozenset(plan.operations)
    before = {index: plan.needed(index) & operations - {index} for index in operations}

    @cache
    def counted(done: frozenset[int]) -> int:
        ready = [index for index in operations - done if before[index] <= done]
        return sum(counted(done | {index}) for index in ready) if ready else 1

    return counted(frozenset())


BLOCKS: Mapping[str, Callable[[], str]] = {"examples": examples, "counts": counts, "orders": orders}


def renewed(names: tuple[str, ...] = tuple(BLOCKS)) -> str:
    """The page with these of its blocks made anew."""

    def made(block: re.Match[str]) -> str:
        return block[1] + BLOCKS[block[2]]() + block[3] if block[2] in names else block[0]

    return _BLOCK.sub(made, PAGE.read_text(encoding="utf-8"))


def main() -> int:
    text = renewed()
    if "--check" in sys.argv:
        return int(text != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
