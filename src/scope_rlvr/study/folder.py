"""The study folder: a run folder for each run, and one small result file for each finished one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.methods.method import FIXABLE
from scope_rlvr.run.config import RunConfig
from scope_rlvr.store.files import write_text
from scope_rlvr.store.folder import RunFolder
from scope_rlvr.store.toml import read_toml
from scope_rlvr.study.plan import Cell, PlannedRun, Study
from scope_rlvr.study.results import RunResult, read_result

if sys.platform != "win32":
    import fcntl

_OWN_NAMES = {"results", "plots", "report.html", "report.md", "table.json"}
"""What a report alone leaves in a folder."""


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study; results may lie elsewhere, for instance in a repository."""

    path: Path
    results: Path

    @classmethod
    def at(cls, path: Path, results: Path | None = None) -> StudyFolder:
        return cls(path, results or path / "results")

    @property
    def copy(self) -> Path:
        return self.path / "study.toml"

    @property
    def lock(self) -> Path:
        return self.path / ".lock"

    def run(self, run: PlannedRun) -> RunFolder:
        return RunFolder(self.path / "runs" / run.id)

    def config(self, run: PlannedRun) -> Path:
        return self.path / "configs" / f"{run.id}.toml"

    def log(self, run: PlannedRun, stream: str) -> Path:
        return self.path / "logs" / f"{run.id}.{stream}"

    def result_file(self, run: PlannedRun) -> Path:
        return self.results / f"{run.id}.json"

    def results_of(self, study: Study) -> dict[Cell, dict[int, RunResult]]:
        """Every planned run of a study that has finished, by cell and seed."""
        found = {cell: {run.seed: self.result(run) for run in study.runs_of(cell)} for cell in study.cells}
        return {cell: {seed: r for seed, r in by_seed.items() if r is not None} for cell, by_seed in found.items()}

    def result(self, run: PlannedRun) -> RunResult | None:
        file = self.result_file(run)
        return read_result(file) if file.is_file() else None

    def open_for(self, study: Study) -> None:
        """Make the folder, or go on in one that belongs to this study; :class:`UserError` where it does not."""
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"the study folder {self.path} is a file; name a folder with --out")
        found = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if "study.toml" not in found and found - _OWN_NAMES:
            raise UserError(f"the folder {self.path} is not empty and holds no study; name another with --out")
        self.require_same(study)
        try:
            for folder in ("runs", "configs", "logs"):
                (self.path / folder).mkdir(parents=True, exist_ok=True)
            self.results.mkdir(parents=True, exist_ok=True)
            write_text(self.copy, study.text)
        except OSError as error:
            raise UserError(f"the study folder {self.path} cannot be written: {error.strerror or error}") from error

    def require_same(self, study: Study) -> None:
        """Refuse runs and results whose configuration is not the one that the study asks for."""
        differing: dict[str, str] = {}
        for run in study.runs:
            kept = self._kept_config(run)
            if kept is not None and (keys := differences(kept[1], run.config)):
                differing.setdefault(run.cell.arm, f"{kept[0]}: {', '.join(keys)}")
        if differing:
            lines = [f"  arm {arm!r} differs from {what}" for arm, what in differing.items()]
            raise UserError(
                f"{self.path} holds runs of another study, and nothing was changed there:\n"
                + "\n".join(lines)
                + "\nname another folder with --out; or remove the runs and results of these arms to have them done again"
            )

    def _kept_config(self, run: PlannedRun) -> tuple[Path, dict[str, Any]] | None:
        """The configuration that a run was made with, and where it says so."""
        result = self.result(run)
        if result is not None:
            return self.result_file(run), result.config
        file = self.run(run).path / "config.toml"
        if not file.is_file():
            return None
        return file, read_toml(file, "the configuration of an earlier run,")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second ``scope study`` out; the lock ends with this process, however that ends."""
        with self.lock.open("w") as file:
            if sys.platform != "win32":
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    raise UserError(
                        f"another scope study is at work in {self.path}; wait for its end, or stop it"
                    ) from error
            file.write(f"{os.getpid()}\n")
            file.flush()
            yield


def differences(kept: dict[str, Any], config: RunConfig) -> list[str]:
    """The keys in which a kept configuration differs from a planned one, the seed aside.

    A key that the kept one does not know was added since: it then had today's default. What the method fixes is compared by
    what holds, whether the method says so or the objective.
    """
    now, before = _as_it_holds(config.model_dump(mode="json")), _as_it_holds(kept)
    unset = type(config.method).model_construct().model_dump(mode="json")
    default = _as_it_holds(RunConfig().model_dump(mode="json") | {"method": unset})
    keys = sorted({*now, *(key for key in before if before[key] is not None)} - {"run.seed"})
    return [
        f"{key} (there {_short(before.get(key))}, now {_short(now.get(key))})"
        for key in keys
        if key in now and before.get(key, None if _is_listed(key, before) else default.get(key)) != now[key]
    ]


def _is_listed(key: str, kept: Mapping[str, Any]) -> bool:
    """Whether the kept configuration has the list that a key is in: what an entry of it lacks is absent, and no default.

    >>> _is_listed("evaluation.sets.0.level", {"evaluation.sets.0.source": "stories:5"})
    True
    """
    parts = key.split(".")
    place = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
    return place is not None and any(known.startswith(".".join(parts[:place]) + ".") for known in kept)


def _as_it_holds(values: dict[str, Any]) -> dict[str, Any]:
    """The keys of a configuration, with what the method fixes in the place of what the objective says."""
    method, objective = dict(values.get("method", {})), dict(values.get("objective", {}))
    fixed = {name: method.pop(name, None) for name in FIXABLE}
    objective |= {name: value for name, value in fixed.items() if value is not None}
    return flat(values | {"method": method, "objective": objective})


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Nested tables and lists as dotted keys; a list also has its length, so that a shorter one differs.

    >>> flat({"run": {"steps": 3}, "sets": [{"level": 6}]})
    {'run.steps': 3, 'sets.length': 1, 'sets.0.level': 6}
    """
    if isinstance(value, dict):
        parts = {str(key): item for key, item in value.items()}
    elif isinstance(value, list):
        parts = {"length": len(value)} | {str(i): item for i, item in enumerate(value)}
    else:
        return {path: value}
    return {k: v for key, item in parts.items() for k, v in flat(item, f"{path}.{key}" if path else key).items()}
