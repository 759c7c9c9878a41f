"""From the rows of a data set to problems: which columns are read, and which rows are no problems."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

from pydantic import Field

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.settings import Settings
from scope_rlvr.core.types import Problem
from scope_rlvr.grading.boxes import last_box
from scope_rlvr.problems.solutions import SolutionForm

MAX_CHARS = 100_000
"""No problem and no answer is longer; what is, is another column or a broken file."""

_MAX_SHOWN = 5
_LEVEL = re.compile(r"(?:level\s*)?(\d{1,9})", re.IGNORECASE)
_HASHES = "####"

_PROBLEM = ("prompt", "problem", "question")
_ANSWER = ("reference", "answer", "final_answer")
_SOLUTION = ("solution",)
_ID = ("id", "unique_id")
_LEVEL_COLUMN = ("level",)


class Columns(Settings):
    """Which columns are read; a full stop leads into a nested one. Without a name, the first usual one that is there."""

    problem: str | None = Field(None, description="text, or a conversation whose last message counts")
    answer: str | None = Field(None, description="the right answer; of a list with one entry, that entry")
    solution: str | None = Field(None, description="a worked solution, or a conversation that ends in one")
    id: str | None = Field(None, description="what a problem is called; its place in the source otherwise")
    level: str | None = Field(None, description="difficulty: a whole number, or text such as `Level 3`")


class AnswerForm(StrEnum):
    """Where in its column the answer stands."""

    WHOLE = "whole"
    AFTER_HASHES = "after_hashes"
    LAST_BOX = "last_box"


class BadRows(StrEnum):
    """What becomes of rows that are no problems."""

    REFUSE = "refuse"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Row:
    """One row with its place, such as ``line 3``; ``values`` is text where the row could not be read, and says why."""

    place: str
    values: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class ProblemTable:
    """The problems of a source, and the complaints about the rows that were left out, each with its place.

    ``num_available`` is how many problems the source has, where these are some of them.
    """

    problems: tuple[Problem, ...]
    left_out: tuple[str, ...] = ()
    num_available: int | None = None


def read_table(
    rows: Iterable[Row],
    name: str,
    *,
    columns: Columns | None = None,
    answer_form: AnswerForm = AnswerForm.WHOLE,
    solution_form: SolutionForm | None = None,
    bad_rows: BadRows = BadRows.REFUSE,
    where: str | None = None,
) -> ProblemTable:
    """The problems in some rows; ``name`` begins the ids of rows without one, ``where`` says in messages whose they are.

    A row is no problem where it lacks a problem or an answer, where one of them holds null bytes or half characters or
    is longer than ``MAX_CHARS``, where its level is no number, and where its id or its problem (in
    :func:`normalised`) stood in an earlier row. Raises :class:`UserError` for such rows unless they are to be skipped,
    and where no problem is left.

    >>> rows = [Row("line 1", {"question": "1+1?", "answer": 2}), Row("line 2", {"question": "1 + 1?", "answer": 3})]
    >>> table = read_table(rows, "sums", bad_rows=BadRows.SKIP)
    >>> table.problems[0].id, table.problems[0].reference, table.left_out
    ('sums-1', '2', ("line 2: the same problem as line 1, and another answer: '3' here, '2' there",))
    """
    reader = _RowReader(name, columns or Columns(), answer_form, solution_form or SolutionForm())
    complaints: list[str] = []
    where, num_rows = where or name, 0
    for row in rows:
        num_rows += 1
        complaint = reader.add(row)
        if complaint is not None:
            complaints.append(f"{row.place}: {complaint}")
    if complaints and bad_rows is BadRows.REFUSE:
        raise UserError(
            f"{where} has {len(complaints)} row(s) of {num_rows} that are no problems:\n{shown_complaints(complaints)}\n"
            "mend or remove them, or leave them out by bad_rows = 'skip'"
        )
    if not reader.problems:
        why = f"; of its {num_rows} row(s) none is one:\n{shown_complaints(complaints)}" if complaints else ""
        raise UserError(f"{where} holds no problem{why}; give it rows with a problem and its answer, one a line or row")
    return ProblemTable(tuple(reader.problems), tuple(complaints))


def shown_complaints(complaints: Sequence[str]) -> str:
    """The first complaints, indented, and how many more there are."""
    lines = [f"  {complaint}" for complaint in complaints[:_MAX_SHOWN]]
    more = len(complaints) - _MAX_SHOWN
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)


_INVISIBLE = re.compile(r"\\(?:left|right|displaystyle|,|;|!|:|\s)|[\s$~]|[.,;:!?]+$")


def normalised(text: str) -> str:
    r"""What two writings of one problem have in common: no spacing, no case, no formula signs, no full stop at the end.

    >>> normalised("Find $\\dfrac{1}{2} +  X$.") == normalised("find \\(\\frac{1}{2}+x\\)")
    True
    >>> normalised("What is 2+3?") == normalised("What is 2-3?")
    False
    """
    text = unicodedata.normalize("NFKC", text).casefold()
    for alias, name in (
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\(", ""),
        ("\\)", ""),
        ("\\[", ""),
        ("\\]", ""),
    ):
        text = text.replace(alias, name)
    return _INVISIBLE.sub("", _INVISIBLE.sub("", text))


class _RowReader:
    """Takes rows one by one and remembers what earlier ones said."""

    def __init__(self, name: str, columns: Columns, answer_form: AnswerForm, solution_form: SolutionForm) -> None:
        self.name = name
        self.columns = columns
        self.answer_form = answer_form
        self.solution_form = solution_form
        self.problems: list[Problem] = []
        self._ids: set[str] = set()
        self._seen: dict[str, tuple[str, str]] = {}

    def add(self, row: Row) -> str | None:
        """Keep the row's problem, or say why it is none."""
        if isinstance(row.values, str):
            return row.values
        problem = self._problem(row.place, row.values)
        if isinstance(problem, str):
            return problem
        if problem.id in self._ids:
            return f"the id {problem.id!r} was already used"
        place, answer = self._seen.setdefault(normalised(problem.prompt), (row.place, problem.reference))
        if place != row.place:
            other = problem.reference != answer
            return f"the same problem as {place}" + (
                f", and another answer: {problem.reference[:40]!r} here, {answer[:40]!r} there" if other else ""
            )
        self._ids.add(problem.id)
        self.problems.append(problem)
        return None

    def _problem(self, place: str, values: Mapping[str, Any]) -> Problem | str:
        columns = self.columns
        asked, answered = _cell(values, columns.problem, _PROBLEM), _cell(values, columns.answer, _ANSWER)
        prompt = _text(asked)
        if prompt is None:
            return (
                f"no problem text{_looked_for(columns.problem, _PROBLEM)}{_found(asked)}; the row has {_names(values)}"
            )
        answer = _answer(answered, self.answer_form)
        if not answer:
            return f"no answer{self._where_answers_are()}{_found(answered)}; the row has {_names(values)}"
        solution = _text(_cell(values, columns.solution, _SOLUTION))
        for what, text in (("problem", prompt), ("answer", answer), ("solution", solution or "")):
            fault = _fault(text)
            if fault:
                return f"the {what} {fault}"
        level = _cell(values, columns.level, _LEVEL_COLUMN)
        number = _level(level)
        if level is not None and number is None:
            return f"level must be a whole number, got {level!r}"
        own_id = _cell(values, columns.id, _ID)
        default_id = f"{self.name}-{place.split()[-1]}"
        source = values.get("source")
        return Problem(
            default_id if own_id in (None, "") else str(own_id),
            prompt,
            answer,
            source if isinstance(source, str) and source else self.name,
            number,
            None if solution is None else self.solution_form.apply(solution, answer),
        )

    def _where_answers_are(self) -> str:
        where = _looked_for(self.columns.answer, _ANSWER)
        if self.answer_form is AnswerForm.WHOLE:
            return where
        return f"{where}, read by answer_form = {self.answer_form.value!r}"


def _cell(values: Mapping[str, Any], name: str | None, usual: Sequence[str]) -> Any:
    """What stands in a column, ``None`` for nothing; without a name, in the first usual one that holds something."""
    if name is None:
        return next((values[key] for key in usual if values.get(key) not in (None, "")), None)
    found: Any = values
    for key in [name] if name in values else name.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _looked_for(name: str | None, usual: Sequence[str]) -> str:
    return f" in {name!r}" if name is not None else f" in {', '.join(usual)}"


def _found(value: Any) -> str:
    """What stands where something else was looked for."""
    return "" if value in (None, "") else f", found {repr(value)[:40]}"


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, values))[:12]) or "nothing"


def _text(value: Any) -> str | None:
    """A text that says something; of a conversation, its last message."""
    if isinstance(value, list) and value and isinstance(value[-1], Mapping):
        value = value[-1].get("content")
    return value if isinstance(value, str) and value.strip() else None


def answer_text(value: Any) -> str | None:
    """The text of an answer that is text, a number, or a list of one such; ``None`` for anything else.

    >>> [answer_text(value) for value in (" 7 ", 7, 7.0, 0.5, ["7"], ["7", "8"], True, float("nan"), b"7")]
    ['7', '7', '7', '0.5', '7', None, None, None, None]
    """
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        return None
    # What is missing in a table is often written as a number that is none.
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _answer(value: Any, form: AnswerForm) -> str | None:
    text = answer_text(value)
    if text is None:
        return None
    if form is AnswerForm.AFTER_HASHES:
        # As in GSM8K, whose answers also have commas between thousands.
        _, hashes, text = text.rpartition(_HASHES)
        text = text.replace(",", "") if hashes else ""
    elif form is AnswerForm.LAST_BOX:
        text = last_box(text).answer or ""
    return text.strip()


def _fault(text: str) -> str | None:
    """What makes a text unusable."""
    if len(text) > MAX_CHARS:
        return f"has {len(text):,} characters, more than {MAX_CHARS:,}"
    if "\x00" in text:
        return f"holds a null byte at character {text.index(chr(0)) + 1}"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half of a character (a lone surrogate)"
    return None


def _level(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    found = _LEVEL.fullmatch(str(value).strip())
    return int(found[1]) if found else None
