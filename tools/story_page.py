"""Writes the examples and the counts of docs/stories.md.

    python tools/story_page.py            write them
    python tools/story_page.py --check    exit with 1 where something is not up to date

What is written stands between ``<!-- made: NAME -->`` and ``<!-- end -->``; the words around it are written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from scope_rlvr.problems.stories.family import VARIANTS, Stories
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


BLOCKS: Mapping[str, Callable[[], str]] = {"examples": examples, "counts": counts}


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
