"""The run folder: what a run writes. Nothing that is finished is ever lost or overwritten.

Journals grow at their end and are only ever cut there. What a checkpoint needs to count is in :mod:`scope_rlvr.store.checkpoints`.
"""

from __future__ import annotations

import logging
import platform
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.checkpoints import last_sound_checkpoint, set_aside_after
from scope_rlvr.store.digests import code_digest
from scope_rlvr.store.files import is_leftover, read_json, write_json, write_text
from scope_rlvr.store.journal import append_records, truncate_after
from scope_rlvr.store.lock import LOCK_FILE
from scope_rlvr.store.rollouts import Rollouts, append_rollouts, cut_rollouts_after

_logger = logging.getLogger(__name__)
_BEGINNING = ("config.toml", "environment.json", "start.json")
"""What is written before a run begins."""
_SPENDING = "{}-spending.json"
_PACKAGES = (
    "scope-rlvr",
    "torch",
    "transformers",
    "trl",
    "accelerate",
    "peft",
    "vllm",
    "datasets",
    "safetensors",
    "tokenizers",
    "math-verify",
    "sympy",
)


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run. One that is read-only leaves the writing to another process."""

    path: Path
    is_read_only: bool = False

    @classmethod
    def create(cls, path: Path, config_toml: str) -> RunFolder:
        """Make a new run folder; refuses one that holds anything."""
        if not cls.is_free(path):
            raise UserError(
                f"the output folder {path} exists and is not empty; name another with --out, or go on with that run by "
                f"'scope train --resume {path}'"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
            folder = cls(path)
            folder.write("config.toml", config_toml)
            folder.write_json("environment.json", environment())
        except OSError as error:
            raise UserError(f"the output folder {path} cannot be written: {error.strerror or error}") from error
        return folder

    @staticmethod
    def is_free(path: Path) -> bool:
        """Whether a run can be made there: nothing is there but what a process leaves that is killed before it begins."""
        if not path.exists():
            return True
        return path.is_dir() and all(is_leftover(file) or file.name == LOCK_FILE for file in path.iterdir())

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run; :class:`UserError` where there is none."""
        if not (path / "config.toml").is_file():
            raise UserError(f"{path} is not a run folder: it has no config.toml")
        return cls(path)

    def discard_unused(self) -> None:
        """Take back what :meth:`create` wrote, as long as nothing else has been written."""
        own = {self.path / name for name in (*_BEGINNING, LOCK_FILE)} | set(self.path.glob(_SPENDING.format("*")))
        if set(self.path.iterdir()) <= own:
            for file in own:
                file.unlink(missing_ok=True)
            self.path.rmdir()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def spending(self, helper: str) -> Path | None:
        """The file that says what a served teacher or judge has cost; ``None`` for who does not write here."""
        return None if self.is_read_only else self.path / _SPENDING.format(helper)

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def rollouts(self) -> Rollouts:
        """The rollouts that are there now."""
        return Rollouts.of(self.path)

    @property
    def has_report(self) -> bool:
        """Whether there is a report, and of what the summary says now: it is written after each summary."""
        report, summary = self.path / "report.html", self.path / "summary.json"
        return report.is_file() and report.stat().st_mtime_ns >= summary.stat().st_mtime_ns

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        if self.is_read_only:
            return
        write_text(self.path / name, text)

    def write_json(self, name: str, value: Any) -> None:
        """Write a value as JSON with sorted keys, whole or not at all."""
        if self.is_read_only:
            return
        write_json(self.path / name, value, sort_keys=True)

    def read_json(self, name: str) -> dict[str, Any] | None:
        """What a file holds; ``None`` where there is none. :class:`UserError` where it is not what was written there."""
        file = self.path / name
        if not file.exists():
            return None
        value = read_json(file, "the file")
        if not isinstance(value, dict):
            raise UserError(
                f"the file {file} holds {type(value).__name__} in the place of an object; put it back from a copy"
            )
        return value

    def append(self, journal: Path, records: Iterable[dict[str, Any]]) -> None:
        """Append one line a record to a journal, and wait until they are on the disk.

        So a checkpoint, which is written later, never knows of steps that the journals lack.
        """
        if not self.is_read_only:
            append_records(journal, records, sync=True)

    def append_rollouts(self, step: int, records: Iterable[Mapping[str, Any]]) -> None:
        """Append the rollouts of a step, and wait until they are on the disk."""
        if not self.is_read_only:
            append_rollouts(self.path, step, records)

    def last_checkpoint(self, on_damage: Callable[[str], None] = _logger.warning) -> Path | None:
        """The newest checkpoint that is complete and sound; ``on_damage`` is told of each newer one that is not."""
        return last_sound_checkpoint(self.checkpoints, on_damage)

    def forget_after(self, step: int) -> None:
        """Drop journal lines and checkpoints of steps after ``step``, which will be done again, and torn last lines."""
        if self.is_read_only:
            return
        set_aside_after(self.checkpoints, step)
        truncate_after(self.metrics, step)
        cut_rollouts_after(self.path, step)


def environment() -> dict[str, str]:
    """What a run depends on besides its configuration."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    versions["code"] = code_digest()
    return versions | {"python": sys.version.split()[0], "platform": platform.platform(), "machine": platform.machine()}
