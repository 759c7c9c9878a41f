"""Where labelled solutions come from: files, data sets on the Hub, and the embedded family."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError, first_line
from scope_rlvr.problems.family import Split
from scope_rlvr.problems.labelled import LabelledFile, LabelledSolution, labelled_from_rows, read_labelled

_EMBEDDED = "embedded:"
_EMBEDDED_PER_LEVEL = 500


def read_source(name: str, *, skip_bad_rows: bool = False, embedded_split: Split = "train") -> LabelledFile:
    """The labelled solutions of a name; raises :class:`UserError` where there are none.

    ``name`` is a JSONL, JSON or Parquet file; a data set on the Hub, ``owner/name`` or ``owner/name:split`` (``train``
    without a split); or ``embedded:rollouts``, of problems of ``embedded_split``, or ``embedded:altered``, which is of no
    split and there for training alone. Both may have ``:N`` behind them for N solutions of each level.
    """
    if name.startswith(_EMBEDDED):
        return _embedded(name, embedded_split)
    path = Path(name).expanduser()
    if path.exists() or path.suffix in (".jsonl", ".json", ".parquet"):
        return read_labelled(path, skip_bad_rows=skip_bad_rows)
    repository, _, split = name.partition(":")
    if repository.count("/") != 1 or name.startswith((".", "/", "~")):
        raise UserError(
            f"the data {name!r} is neither a file (.jsonl, .json, .parquet), nor {_known(embedded_split)}, nor a data set "
            "on the Hub, owner/name or owner/name:split"
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
