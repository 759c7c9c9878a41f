"""Writes the tables of docs/reliability.md from the results of torture.

    python -m tools.reliability_tables [--count FOLDER]     count new results in FOLDER, then write the tables
    python -m tools.reliability_tables --check              exit with 1 where the page is not up to date

The counts are kept in benchmarks/results/torture.json: by kind and group, with what they ran on, and every outcome that is not as
it should be with its case.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
COUNTS = ROOT / "benchmarks" / "results" / "torture.json"
PAGE = ROOT / "docs" / "reliability.md"
_BLOCK = re.compile(r"(<!-- table: torture-(\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)
GOOD = ("equal", "refused", "began", "held", "done")
_KINDS = {
    "kills": "commands killed by SIGKILL and taken up again",
    "power_loss": "power cuts",
    "full_disk": "full and read-only disks",
    "bad_input": "bad input",
    "hostile_server": "hostile replies of a teacher server",
    "answers": "fuzzed answers",
}


def counted(folder: Path) -> dict[str, Any]:
    """What the result files of a folder come to."""
    found: dict[str, Any] = {}
    for kind in _KINDS:
        file = folder / f"{kind}.jsonl"
        if file.is_file():
            found[kind] = _counts([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()])
    return found


def _counts(records: list[dict[str, Any]]) -> dict[str, Any]:
    groups: dict[str, dict[str, Any]] = {}
    for record in records:
        group = groups.setdefault(_group_of(record["case"]), {"cases": 0, "kills": 0, "outcomes": Counter()})
        group["cases"] += 1
        group["kills"] += record.get("kills", 0)
        group["outcomes"][record["outcome"] if record["outcome"] in GOOD else "bad"] += 1
        group["outcomes"].update(record.get("counts", {}))
    return {
        "groups": groups,
        "bad": [{"case": r["case"], "outcome": r["outcome"]} for r in records if r["outcome"] not in GOOD],
        "ran_on": sorted({record["ran_on"] for record in records}),
    }


def _group_of(case: str) -> str:
    """Seeds of one scenario are a group, and so are the cases of one kind of input.

    >>> [_group_of(case) for case in ("method scope, seed 3", "set run.seed = -1", "token ids: body: empty", "graded: a pipe")]
    ['method scope', 'set run', 'token ids', 'graded']
    """
    if ", seed " in case:
        return case.rpartition(", seed ")[0]
    return re.split("[:,'\"=]", case)[0].split(".")[0].strip()


def tables(counts: dict[str, Any]) -> dict[str, str]:
    """Each table of the page by its name."""
    return {"all": "\n".join(_overview(counts)), "kills": "\n".join(_by_scenario(counts.get("kills", {"groups": {}})))}


def _overview(counts: dict[str, Any]) -> Iterator[str]:
    yield "| | cases | as it should be | not |"
    yield "|---|---|---|---|"
    for kind, title in _KINDS.items():
        if kind not in counts:
            continue
        groups = counts[kind]["groups"].values()
        if kind == "answers":
            outcomes: Counter[str] = sum((Counter(group["outcomes"]) for group in groups), Counter())
            cases, bad = sum(outcomes[word] for word in ("right", "wrong", "unknown")), outcomes["false right"]
        else:
            cases, bad = sum(group["cases"] for group in groups), len(counts[kind]["bad"])
        kills = sum(group["kills"] for group in groups)
        yield f"| {title}{f', {kills:,} kills' if kills else ''} | {cases:,} | {cases - bad:,} | {bad:,} |"


def _by_scenario(kills: dict[str, Any]) -> Iterator[str]:
    yield "| command | times | kills | the same in the end |"
    yield "|---|---|---|---|"
    for name, group in sorted(kills["groups"].items()):
        yield f"| {name} | {group['cases']} | {group['kills']} | {group['outcomes'].get('equal', 0)} |"


def renewed(counts: dict[str, Any]) -> str:
    """The page with the tables of these counts."""
    made = tables(counts)
    return _BLOCK.sub(lambda found: f"{found[1]}{made[found[2]]}\n{found[3]}", PAGE.read_text(encoding="utf-8"))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=Path, help="folder with new results")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    arguments = parser.parse_args()
    counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.is_file() else {}
    if arguments.count is not None:
        counts |= counted(arguments.count)
        COUNTS.write_text(json.dumps(counts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = renewed(counts)
    if arguments.check:
        return int(page != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
