"""What a study file asks for: every arm's runs with their resolved configurations, checked before anything runs."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError

from scope_rlvr.check.inputs import check_inputs
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.settings import Settings
from scope_rlvr.run.config import RunConfig, apply_override, validate_config
from scope_rlvr.run.data import evaluation_sets
from scope_rlvr.store.toml import read_toml

Value = bool | int | float | str
"""A value of the swept option."""

_MEASURE = re.compile(r"accuracy|[a-z]+_at_\d+|diversity/\w+")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.]*$"


class Sweep(Settings):
    """One option varied in every arm, or in the named ones; an arm that is not named runs once, without a value."""

    key: str
    values: tuple[Value, ...] = Field(min_length=1)
    arms: tuple[str, ...] | None = None
    label: str | None = None


class _ArmHead(Settings):
    """What an arm says besides its overrides of the run's configuration."""

    label: str | None = None
    seeds: tuple[int, ...] | None = Field(None, min_length=1)


class _StudyFile(Settings):
    name: str = Field(pattern=_NAME)
    title: str = ""
    reference: str | None = None
    primary: str | None = None
    seeds: tuple[int, ...] = Field(min_length=1)
    base: dict[str, Any] = Field(default_factory=dict)
    arms: dict[str, dict[str, Any]] = Field(min_length=1)
    sweep: Sweep | None = None


Head = TypeVar("Head", _ArmHead, _StudyFile)


@dataclass(frozen=True)
class Cell:
    """An arm at one value of the sweep: the runs that differ in nothing but their seed."""

    arm: str
    label: str
    value: Value | None

    @property
    def id(self) -> str:
        """The cell in file names.

        >>> Cell("scope", "SCOPE", 0.2).id, Cell("grpo", "GRPO", None).id
        ('scope-0.2', 'grpo')
        """
        return self.arm if self.value is None else f"{self.arm}-{_slug(self.value)}"

    @property
    def title(self) -> str:
        """As a person reads it."""
        return self.label if self.value is None else f"{self.label}, {_written(self.value)}"


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study."""

    cell: Cell
    seed: int
    config: RunConfig

    @property
    def id(self) -> str:
        return f"{self.cell.id}-seed{self.seed}"


@dataclass(frozen=True)
class Study:
    """A study file, resolved."""

    name: str
    title: str
    reference: str
    primary: str
    sweep: Sweep | None
    cells: tuple[Cell, ...]
    runs: tuple[PlannedRun, ...]
    text: str

    def runs_of(self, cell: Cell) -> list[PlannedRun]:
        return [run for run in self.runs if run.cell == cell]


def load_study(file: Path) -> Study:
    """Read and resolve a study file; raises :class:`UserError` with every mistake in it, whichever arm it is in."""
    values = read_toml(file, "the study")
    head, arms = _read_head(values, file)
    base = _base_values(head.base, file)
    cells = [
        Cell(name, arm.label or name, value)
        for name, (arm, _) in arms.items()
        for value in _values_of(head.sweep, name)
    ]
    runs, mistakes = [], []
    checked: set[str] = set()
    for cell in cells:
        arm, overrides = arms[cell.arm]
        try:
            configs = _resolve(base, overrides, head.sweep, cell, arm.seeds or head.seeds, checked)
        except UserError as error:
            mistakes.append(str(error))
            continue
        runs += [PlannedRun(cell, config.run.seed, config) for config in configs]
    if mistakes:
        raise UserError(f"{file}: " + "\n".join(dict.fromkeys(mistakes)))
    # Seed by seed, so that what is there after half of the time can already be compared.
    order = {seed: i for i, seed in enumerate(dict.fromkeys(run.seed for run in runs))}
    runs.sort(key=lambda run: order[run.seed])
    _require_distinct(runs, file)
    return Study(
        head.name,
        head.title or head.name,
        head.reference or next(iter(arms)),
        _primary(head, runs, file),
        head.sweep,
        tuple(cells),
        tuple(runs),
        file.read_text(encoding="utf-8"),
    )


def _read_head(values: dict[str, Any], file: Path) -> tuple[_StudyFile, dict[str, tuple[_ArmHead, dict[str, Any]]]]:
    """The file's own keys, and for each arm its own keys and its overrides."""
    mistakes: list[str] = []
    arms = {}
    head = _checked(_StudyFile, values, "", mistakes)
    for name, table in (head.arms if head else {}).items():
        own = {key: table[key] for key in _ArmHead.model_fields if key in table}
        arm = _checked(_ArmHead, own, f"arms.{name}.", mistakes)
        arms[name] = (arm or _ArmHead(), {key: value for key, value in table.items() if key not in own})
    if head is not None:
        mistakes += _name_mistakes(head)
    if mistakes or head is None:
        raise UserError(f"{file} has {len(mistakes)} mistake(s):\n" + "\n".join(f"  {line}" for line in mistakes))
    return head, arms


def _checked(kind: type[Head], values: dict[str, Any], where: str, mistakes: list[str]) -> Head | None:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        mistakes += [f"{where}{_described(dict(mistake))}" for mistake in error.errors()]
        return None


def _described(mistake: dict[str, Any]) -> str:
    """One mistake in one line."""
    path = ".".join(map(str, mistake["loc"]))
    if mistake["type"] == "extra_forbidden":
        known = Sweep.model_fields if mistake["loc"][0] == "sweep" else _StudyFile.model_fields
        return f"{path}: unknown key{_did_you_mean(str(mistake['loc'][-1]), list(known))}"
    received = "" if mistake["type"] == "missing" else f", got {mistake['input']!r}"
    return f"{path}: {mistake['msg']}{received}"


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}"


def _name_mistakes(head: _StudyFile) -> list[str]:
    """Arms that are named and not there, and names that would make no file name."""
    named = [("reference", head.reference)] if head.reference is not None else []
    named += [("sweep.arms", name) for name in (head.sweep.arms if head.sweep and head.sweep.arms else ())]
    mistakes = [
        f"{where}: there is no arm {name!r}{_did_you_mean(str(name), list(head.arms))}"
        for where, name in named
        if name not in head.arms
    ]
    mistakes += [
        f"arms.{name}: an arm's name is made of letters, digits and _, since files are named after it"
        for name in head.arms
        if not name.isascii() or not name.replace("_", "a").isalnum()
    ]
    for where, seeds in [("seeds", head.seeds)]:
        twice = [seed for seed, count in Counter(seeds).items() if count > 1]
        mistakes += [f"{where}: seed {seed} stands there twice" for seed in twice]
    if head.sweep is not None and head.sweep.key == "run.seed":
        mistakes.append("sweep.key: run.seed is what `seeds` is for")
    return mistakes


def _base_values(base: dict[str, Any], file: Path) -> dict[str, Any]:
    """What all arms share: the keys of ``[base]`` over those of the file that its ``config`` names."""
    own = {key: value for key, value in base.items() if key != "config"}
    if "config" not in base:
        return _with_method_table(own)
    # Beside the study that names it, so that a study can be started from anywhere.
    shared = file.parent / str(base["config"])
    values = read_toml(shared, f"{file}: base.config:")
    # The seeds are the study's.
    if isinstance(values.get("run"), dict):
        values["run"].pop("seed", None)
    return merged(_with_method_table(values), own)


def _with_method_table(values: dict[str, Any]) -> dict[str, Any]:
    method = values.get("method", {})
    method = {"name": method} if isinstance(method, str) else method
    return values | {"method": {"name": "scope"} | method} if isinstance(method, dict) else values


def merged(under: Any, over: Any) -> Any:
    """``over`` on top of ``under``, table by table; a table that names another method or rule replaces the old one.

    >>> merged({"run": {"steps": 9, "seed": 1}}, {"run": {"steps": 5}})
    {'run': {'steps': 5, 'seed': 1}}
    >>> merged({"name": "scope", "max_salvages": 2}, {"name": "grpo"})
    {'name': 'grpo'}
    """
    if not isinstance(under, dict) or not isinstance(over, dict):
        return over
    if any(key in over and key in under and over[key] != under[key] for key in ("name", "kind")):
        return over
    return under | {key: merged(under[key], value) if key in under else value for key, value in over.items()}


def _values_of(sweep: Sweep | None, arm: str) -> tuple[Value | None, ...]:
    is_swept = sweep is not None and (sweep.arms is None or arm in sweep.arms)
    return sweep.values if sweep is not None and is_swept else (None,)


def _resolve(
    base: dict[str, Any],
    overrides: dict[str, Any],
    sweep: Sweep | None,
    cell: Cell,
    seeds: tuple[int, ...],
    checked: set[str],
) -> list[RunConfig]:
    """The configuration of each seed of a cell. ``checked`` are the sources that need no second look."""
    where = f"arm {cell.arm!r}"
    if isinstance(overrides.get("method"), str):
        overrides = overrides | {"method": {"name": overrides["method"]}}
    # A copy: applying a value writes into the tables.
    values = copy.deepcopy(merged(base, overrides))
    if isinstance(values.get("run"), dict) and "seed" in values["run"]:
        raise UserError(f"{where} sets run.seed; seeds are given by `seeds`, of the study or of an arm")
    if sweep is not None and cell.value is not None:
        where += f" at {sweep.key} = {cell.value!r}"
        apply_override(values, f"{sweep.key}={json.dumps(cell.value)}")
    config = validate_config(values, where)
    sources = config.model_dump_json(exclude={"method", "objective", "optimizer", "sampling"})
    sources += f"{config.method.needs_teacher} {config.method.needs_step_scorer}"
    if sources not in checked:
        try:
            check_inputs(config)
        except UserError as error:
            raise UserError(f"{where}: {error}") from error
        checked.add(sources)
    return [config.model_copy(update={"run": config.run.model_copy(update={"seed": seed})}) for seed in seeds]


def _require_distinct(runs: list[PlannedRun], file: Path) -> None:
    twice = [name for name, count in Counter(run.id for run in runs).items() if count > 1]
    if twice:
        raise UserError(f"{file}: more than one run would be called {twice[0]}; give each seed and each value once")


def _primary(head: _StudyFile, runs: list[PlannedRun], file: Path) -> str:
    """The measure that decides, as ``<set>/<measure>``: by default the accuracy on the first trained set."""
    sets = evaluation_sets(runs[0].config)
    names = [s.name for s in sets]
    if head.primary is None:
        return f"{next((s.name for s in sets if s.role == 'trained'), names[0])}/accuracy"
    set_name, _, measure = head.primary.partition("/")
    if set_name not in names or not _MEASURE.fullmatch(measure):
        raise UserError(
            f"{file}: primary = {head.primary!r} is not of the form <set>/<measure>: sets are {', '.join(names)}, measures "
            f"accuracy, pass_at_<n>, diversity/<name>; e.g. {names[0]}/accuracy"
        )
    return head.primary


def _written(value: Value) -> str:
    """A value as TOML writes it, but text without quotes.

    >>> _written(True), _written(0.2), _written("nll")
    ('true', '0.2', 'nll')
    """
    return value if isinstance(value, str) else json.dumps(value)


def _slug(value: Value) -> str:
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in _written(value))
