"""The file that an offline salvage writes, and how far it is: an interrupted salvage goes on where it was."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from scope_rlvr import __version__
from scope_rlvr.core.errors import UserError
from scope_rlvr.offline.plan import SalvagePlan
from scope_rlvr.run.components import Spending
from scope_rlvr.store.files import write_json
from scope_rlvr.store.journal import append_records

ABOUT_SCHEMA = 1


class SalvageJournal:
    """The output file, which grows block by block, and a file beside it: what it was made with, and where the last block ends."""

    def __init__(self, plan: SalvagePlan) -> None:
        self.out = plan.request.out
        self.about = self.out.with_name(f"{self.out.name}.about.json")
        self.record: dict[str, Any] = {
            "schema": ABOUT_SCHEMA,
            "version": __version__,
            "made_with": plan.fingerprint,
            "left_out": list(plan.left_out),
            "blocks": 0,
            "bytes": 0,
            "verdicts": {},
            "is_finished": False,
        }
        self._spent = self.out.with_name(f"{self.out.name}.spending.json")
        if plan.request.resume:
            self._resume()
        else:
            self._spent.unlink(missing_ok=True)

    def begin(self) -> None:
        """Cut off what an interruption left of an unfinished block."""
        # The record comes first: a data set without one could neither be gone on with nor begun.
        self._save()
        self.out.touch()
        os.truncate(self.out, self.record["bytes"])

    def spending(self) -> Spending:
        """What the teacher has cost, in a file beside the output that outlives a kill."""
        return Spending(record_of=lambda helper: self._spent)

    def _resume(self) -> None:
        """Go on from what is there; :class:`UserError` if it was made with anything else."""
        before = self._read_record()
        wanted = json.loads(json.dumps(self.record["made_with"]))
        other = sorted(key for key in wanted if before.get("made_with", {}).get(key) != wanted[key])
        if other:
            raise UserError(
                f"{self.out} was begun with other {', '.join(other)}: a data set has one; go on with the same, or name "
                "another file by --out"
            )
        if (self.out.stat().st_size if self.out.is_file() else 0) < before["bytes"]:
            raise UserError(f"{self.out} holds less than {self.about.name} says; remove both and begin again")
        self.record = before

    def _read_record(self) -> dict[str, Any]:
        try:
            before = json.loads(self.about.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"there is nothing to go on with: {self.about} cannot be read: {error}") from error
        if not isinstance(before, dict) or before.get("schema") != ABOUT_SCHEMA:
            raise UserError(f"{self.about} is of another version; begin again with another --out")
        return before

    def add(self, lines: Sequence[dict[str, Any]], verdicts: Counter[str]) -> None:
        """Write a finished block, then that it is there."""
        self.record["bytes"] = append_records(self.out, lines, sync=True)
        self.record["blocks"] += 1
        self.record["verdicts"] = dict(Counter(self.record["verdicts"]) + verdicts)
        self._save()

    def finish(self) -> None:
        self.record["is_finished"] = True
        self._save()

    def _save(self) -> None:
        write_json(self.about, self.record)
