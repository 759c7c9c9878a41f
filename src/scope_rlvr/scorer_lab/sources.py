"""Where labelled solutions come from: files, data sets on the Hub, worked solutions with mistakes, and the embedded family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.problems import families
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.labelled import LabelledFile, LabelledSolution, labelled_from_rows, read_labelled
from scope_rlvr.problems.sources import SourceSettings, Wanted, family_name, is_family, load_problems, name_of
from scope_rlvr.scorer_lab.altered import altered_solutions
from scope_rlvr.scorer_lab.champ import CHAMP, read_champ

_EMBEDDED = "embedded:"
_EMBEDDED_PER_LEVEL = 500
_ALTERED = "altered:"
_NUM_ALTERED = 500
_SEED = 0


def read_source(name: str, *, skip_bad_rows: bool = False, embedded_split: Split = "train") -> LabelledFile:
    """The labelled solutions of a name; raises :class:`UserError` where there are none.

    ``name`` is a JSONL, JSON or Parquet file; a data set on the Hub, ``owner/name`` or ``owner/name:split`` (``train``
    without a split); or ``embedded:rollouts``, of problems of ``embedded_split``, or ``embedded:altered``, which is of no
    split and there for training alone. Both may have ``:N`` behind them for N solutions of each level. ``altered:SOURCE`` are 500
    worked solutions of a source of problems, three in four with a mistake. ``champ`` are the solutions of the package
    ``champ-dataset``, for measuring alone.
    """
    if name == CHAMP:
        return read_champ()
    if name.startswith(_ALTERED):
        return _altered(name, embedded_split)
    if name.startswith(_EMBEDDED):
        return _embedded(name, embedded_split)
    path = Path(name).expanduser()
    if path.exists() or path.suffix in (".jsonl", ".json", ".parquet"):
        return read_labelled(path, skip_bad_rows=skip_bad_rows)
    repository, _, split = name.partition(":")
    if repository.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"the data {name!r} is neither a file (.jsonl, .json, .parquet), nor {_known(embedded_split)}, nor {CHAMP}, nor {_ALTERED} with a "
            "source of problems behind it, nor a data set on the Hub, owner/name or owner/name:split"
        )
    return labelled_from_rows(_hub_rows(repository, split or "train"), Path(name), skip_bad_rows=skip_bad_rows)


def _hub_rows(repository: str, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
    from datasets import load_dataset

    try:
        rows = load_dataset(repository, split=split)
    except Exception as error:  # the client raises errors of many kinds
        reason = first_line(error)
        raise UserError(f"the data set {repository!r}, split {split!r}, cannot be fetched: {reason}") from error
    for number, row in enumerate(rows, start=1):
        yield number, {name: value for name, value in row.items() if value is not None}


def _altered(name: str, split: Split) -> LabelledFile:
    source = name.removeprefix(_ALTERED)
    problems = load_problems(SourceSettings(source=source), Wanted(split, _NUM_ALTERED)).problems
    family = families.get(family_name(source)) if is_family(source) else None
    solutions = altered_solutions(problems, family.separator if family is not None else "\n\n", _SEED, family)
    if not solutions:
        raise UserError(f"the data {name!r}: no problem of {source} has a worked solution; name a source that has some")
    return LabelledFile(Path(f"{name_of(source)}-altered"), tuple(solutions), (), {})


def _embedded(name: str, split: Split) -> LabelledFile:
    kind, _, count = name.removeprefix(_EMBEDDED).partition(":")
    makers = _embedded_makers(split)
    if kind not in makers or (count and not (count.isdecimal() and int(count) > 0)):
        raise UserError(
            f"the data {name!r} is not known here; there is {_known(split)}, with :N for N solutions of each level "
            f"({_EMBEDDED_PER_LEVEL} without it)"
        )
    return LabelledFile(Path(name), tuple(makers[kind](int(count) if count else _EMBEDDED_PER_LEVEL)), (), {})


def _embedded_makers(split: Split) -> dict[str, Callable[[int], list[LabelledSolution]]]:
    from scope_rlvr.embedded.labelled import altered_solutions, policy_solutions

    rollouts = {"rollouts": lambda count: policy_solutions(count, split=split)}
    return rollouts | ({"altered": altered_solutions} if split == "train" else {})


def _known(split: Split) -> str:
    return " or ".join(f"{_EMBEDDED}{kind}" for kind in sorted(_embedded_makers(split)))
