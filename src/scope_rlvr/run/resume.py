"""What a run began with, and what may be different when it goes on."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.methods import Method
from scope_rlvr.run.config import RunConfig, load_config, validate_config
from scope_rlvr.run.data import RunData
from scope_rlvr.store.digests import file_digest
from scope_rlvr.store.folder import RunFolder, environment

START_SCHEMA = 1
START_FILE = "start.json"

CHANGEABLE = (
    "judge.server.",
    "logging.report_to",
    "problems.folder",
    "run.checkpoint_every",
    "run.flat_steps_limit",
    "run.gradient_checkpointing",
    "run.micro_batch_rows",
    "sampling.sampler.url",
    "teacher.failure_window",
    "teacher.max_failure_share",
    "teacher.server.",
)
"""Keys that say where and how the work is done, not what is done: a run may go on with other values of them.

The address of a served teacher is one more, and so is that of a judge. ``run.steps`` is none: the schedule of the learning rate, and how many problems are
drawn and so their order, depend on it. Nor is ``run.num_threads``: another number rounds differently.
"""


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """A key whose value is not the one that the run began with.

    >>> print(ConfigChange("run.steps", 100, 200))
    run.steps was 100 when the run began and is 200 now
    """

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key} was {_shown(self.before)} when the run began and is {_shown(self.after)} now"


@dataclass(frozen=True)
class ResumedConfig:
    """The configuration that a run goes on with, and what is different from when it began."""

    config: RunConfig
    changes: tuple[ConfigChange, ...]


def write_start(folder: RunFolder, config: RunConfig, data: RunData) -> None:
    """Write down what a run begins with."""
    start = {
        "schema": START_SCHEMA,
        "config": config.model_dump(mode="json"),
        "problems": data.digest,
        "own_code": own_code(config.method),
    }
    folder.write_json(START_FILE, start)


def own_code(method: Method) -> dict[str, str]:
    """12 digits of the source file of each class of a method that is not of this package, by its place."""
    named = {method.name: method, **{part.kind: part for part in method.parts}}
    own = {place: type(made) for place, made in named.items() if not type(made).__module__.startswith("scope_rlvr.")}
    return {place: file_digest(Path(inspect.getfile(kind)))[:12] for place, kind in own.items()}


def resumed_config(
    folder: RunFolder, file: Path | None = None, overrides: Sequence[str] = (), method: str | None = None
) -> ResumedConfig:
    """The configuration to go on with: that of the run folder, or of ``file`` where one is given, with the overrides.

    Raises :class:`UserError` that lists every key that differs from when the run began and is not :data:`CHANGEABLE`.
    """
    own = folder.path / "config.toml"
    start = folder.read_json(START_FILE)
    begun = load_config(own) if start is None else _begun(start, folder.path / START_FILE)
    now = load_config(file or own, overrides, method)
    changes = tuple(_changes(begun, now))
    refused = [change for change in changes if not _may_change(change.key, begun, now)]
    if refused:
        listed = "\n".join(f"  {change}" for change in refused)
        raise UserError(
            f"a run goes on with the configuration that it began with:\n{listed}\nTake back what was changed in {own}, or on "
            f"the command line, or train a new run. Only these keys may change: {', '.join(map(_pattern, CHANGEABLE))}, and "
            "teacher.model from one server to another"
        )
    return ResumedConfig(now, changes)


def _begun(start: Mapping[str, Any], file: Path) -> RunConfig:
    if not isinstance(start.get("config"), dict) or "problems" not in start:
        raise UserError(f"{file} does not say what the run began with; put it back from a copy, or train a new run")
    return validate_config(start["config"], str(file))


def require_same_problems(folder: RunFolder, data: RunData) -> None:
    """Refuse to go on with other problems than the run began with."""
    start = folder.read_json(START_FILE)
    if start is not None and start["problems"] != data.digest:
        raise UserError(
            f"the problems that {folder.path} trains on or is measured on are not those that it began with; put back the "
            "files that were changed, or train a new run"
        )


_NAMES = {"code": "the digest of this package's source files"}


def environment_changes(folder: RunFolder, config: RunConfig) -> list[str]:
    """What of versions, machine and code is not as it was when the run began; on other versions, bits may differ."""
    before, now = folder.read_json("environment.json") or {}, environment()
    start = folder.read_json(START_FILE) or {}
    began = {f"the digest of the source file of {place}": code for place, code in start.get("own_code", {}).items()}
    found = {f"the digest of the source file of {place}": code for place, code in own_code(config.method).items()}
    before, now = {**before, **began}, {**now, **found}
    return [
        f"{_NAMES.get(name, name)} was {before[name]} when the run began and is {now[name]} now"
        for name in sorted(before.keys() & now.keys())
        if before[name] != now[name]
    ]


def _changes(begun: RunConfig, now: RunConfig) -> Iterator[ConfigChange]:
    before, after = (dict(_flat(config.model_dump(mode="json"))) for config in (begun, now))
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield ConfigChange(key, before.get(key), after.get(key))


def _flat(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its dotted key.

    >>> list(_flat({"run": {"steps": 3}, "model": {"lora": None}}))
    [('run.steps', 3), ('model.lora', None)]
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _may_change(key: str, begun: RunConfig, now: RunConfig) -> bool:
    if key == "teacher.model":
        return begun.teacher.is_served and now.teacher.is_served
    if key == "judge.model":
        return begun.judge.is_served and now.judge.is_served
    return any(key == known or (known.endswith(".") and key.startswith(known)) for known in CHANGEABLE)


def _pattern(key: str) -> str:
    return f"{key}*" if key.endswith(".") else key


def _shown(value: Any) -> str:
    return "not set" if value is None else repr(value)
