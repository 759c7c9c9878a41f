"""The run folder: what a run writes, made so that nothing finished is ever lost or overwritten.

Journals are appended line by line and may end in a torn line after a kill; readers drop it. A checkpoint counts only
once its marker is there, and the marker is written last.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.digests import code_digest

CHECKPOINT_MARKER = "COMPLETE"
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
    """Paths and files of one run. A read-only one leaves the writing to another process."""

    path: Path
    is_read_only: bool = False

    @classmethod
    def create(cls, path: Path, config_toml: str) -> RunFolder:
        """Make a new run folder; refuses one that holds anything."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
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

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """An existing run; :class:`UserError` where there is none."""
        if not (path / "config.toml").is_file():
            raise UserError(f"{path} is not a run folder: it has no config.toml")
        return cls(path)

    def discard_unused(self) -> None:
        """Take back what :meth:`create` wrote, as long as nothing else has been written."""
        own = {self.path / "config.toml", self.path / "environment.json"}
        if set(self.path.iterdir()) <= own:
            for file in own:
                file.unlink(missing_ok=True)
            self.path.rmdir()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def rollouts(self) -> Path:
        return self.path / "rollouts.jsonl"

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        if self.is_read_only:
            return
        beside = self.path / f".{name}.tmp"
        with beside.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / name)

    def write_json(self, name: str, value: Any) -> None:
        self.write(name, json.dumps(value, indent=2, sort_keys=True) + "\n")

    def read_json(self, name: str) -> dict[str, Any] | None:
        file = self.path / name
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def append(self, journal: Path, records: Iterable[dict[str, Any]]) -> None:
        """Append one line a record, flushed together."""
        if self.is_read_only:
            return
        # A lone surrogate in a model's text becomes a JSON escape instead of an error.
        with journal.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written to its end."""
        complete = [marker.parent for marker in self.checkpoints.glob(f"checkpoint-*/{CHECKPOINT_MARKER}")]
        return max(complete, key=step_of, default=None)

    def forget_after(self, step: int) -> None:
        """Drop journal lines of steps after ``step``, which will be done again, and a torn last line."""
        if self.is_read_only:
            return
        for journal in (self.metrics, self.rollouts):
            if not journal.is_file():
                continue
            beside = journal.with_suffix(".tmp")
            with beside.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.writelines(
                    json.dumps(record, ensure_ascii=False) + "\n"
                    for record in read_journal(journal)
                    if record["step"] <= step
                )
            beside.replace(journal)


def step_of(checkpoint: Path | None) -> int:
    """The step that a checkpoint was saved after, 0 for none.

    >>> step_of(Path("checkpoints/checkpoint-250"))
    250
    """
    return 0 if checkpoint is None else int(checkpoint.name.rsplit("-", 1)[1])


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal, one at a time; a torn last line is left out.

    Raises :class:`UserError` for a line that is broken in the middle: no interruption of ours leaves that.
    """
    torn_at = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            if torn_at:
                raise UserError(f"line {torn_at} of {path} is not JSON, and lines follow it; mend or remove that line")
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                torn_at = number


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
