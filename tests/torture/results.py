"""Results of torture, one JSON object a line, so that a long series can be stopped and taken up again."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from scope_rlvr.store.digests import code_digest
from scope_rlvr.store.journal import append_records, read_records

FOLDER = Path(__file__).parents[2] / ".torture"
"""Where results are kept; ``tools/reliability_tables.py`` counts them for docs/reliability.md."""

_PACKAGES = ("torch", "transformers", "trl")


@dataclass(frozen=True)
class Results:
    """The results of one kind of torture, by case."""

    file: Path

    @classmethod
    def of(cls, kind: str, folder: Path = FOLDER) -> Results:
        return cls(folder / f"{kind}.jsonl")

    def known(self) -> set[str]:
        """The cases that have been tried."""
        return {record["case"] for record in self.records()}

    def records(self) -> Iterable[dict[str, Any]]:
        return read_records(self.file) if self.file.is_file() else ()

    def add(self, case: str, outcome: str, **more: Any) -> None:
        """Write down how one case ended, with what it ran on."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        append_records(self.file, [{"case": case, "outcome": outcome, **more, "ran_on": ran_on()}], sync=True)


@cache
def ran_on() -> str:
    """Versions and machine, in one line."""
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return f"code {code_digest()}, Python {platform.python_version()}, {packages}, {platform.machine()}"
