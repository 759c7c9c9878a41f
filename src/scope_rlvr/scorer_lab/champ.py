"""CHAMP: solutions of competition problems by chat models, in which people marked where the first mistake is.

Source: Mao, Kim and Zhou 2024, arXiv 2401.06961; the Python package ``champ-dataset`` (MIT). Its file is read, its code is not
imported. A step is what stands between blank lines, as everywhere; the first wrong step is the one in which the marked
span begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.labelled import LabelledFile, LabelledSolution
from scope_rlvr.store.files import read_json

CHAMP = "champ"
"""The name of these data."""

_PACKAGE = "champ-dataset"
_SEPARATOR = "\n\n"


def read_champ() -> LabelledFile:
    """All annotated solutions; :class:`UserError` where the package is not installed."""
    file = _data_file()
    solutions = [
        solution for problem in read_json(file, "data")["problems"].values() for solution in _annotated(problem)
    ]
    return LabelledFile(Path(CHAMP), tuple(solutions), (), {})


def _data_file() -> Path:
    try:
        found = [file for file in files(_PACKAGE) or () if file.suffix == ".json"]
    except PackageNotFoundError as error:
        raise UserError(
            f"the data {CHAMP!r} are a file in the Python package {_PACKAGE}, which is not installed: pip install --no-deps "
            f"{_PACKAGE}"
        ) from error
    if not found:
        raise UserError(f"the package {_PACKAGE} holds no data; install it again: pip install --no-deps {_PACKAGE}")
    return Path(str(found[0].locate()))


def _annotated(row: dict[str, Any]) -> Iterator[LabelledSolution]:
    """The solutions of a problem, each with the place of its first mistake."""
    problem = Problem(row["identifier"], row["_text"], row["_answer"], CHAMP, None)
    for annotation in row["fws_annotations"].values():
        yield marked_solution(problem, annotation["text"], annotation["start_idx"])


def marked_solution(problem: Problem, text: str, start: int | None) -> LabelledSolution:
    r"""A solution whose first mistake begins at character ``start``, ``None`` for no mistake.

    >>> marked_solution(Problem("p", "2 + 2 + 2?", "6"), "2 + 2 = 4.\n\nSo it is 7.", start=18).first_wrong
    1
    """
    pieces = text.split(_SEPARATOR)
    kept = [number for number, piece in enumerate(pieces) if piece.strip()]
    first_wrong = None
    if start is not None:
        marked = text[: start + 1].count(_SEPARATOR)
        first_wrong = next(index for index, number in enumerate(kept) if number >= marked)
    return LabelledSolution(problem, tuple(pieces[number].strip() for number in kept), first_wrong)
