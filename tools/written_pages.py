"""Files that are written from the program itself: bring them up to date, or say that they are not."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent


def stale(pages: Mapping[Path, Callable[[], str]]) -> dict[Path, str]:
    """The files that are not what they should be, with the text that they should have."""
    texts = {path: written() for path, written in pages.items()}
    return {p: text for p, text in texts.items() if not p.is_file() or p.read_text(encoding="utf-8") != text}


def keep_up_to_date(pages: Mapping[Path, Callable[[], str]]) -> None:
    """The command line: write what is stale; with ``--check`` write nothing and exit with 1 where anything is."""
    parser = argparse.ArgumentParser(description=f"Write {', '.join(path.name for path in pages)}.")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 where a file is not up to date"
    )
    is_check = parser.parse_args().check
    changed = stale(pages)
    for path, text in changed.items():
        if not is_check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(ROOT)} {'is not up to date' if is_check else 'written'}")
    sys.exit(1 if is_check and changed else 0)
