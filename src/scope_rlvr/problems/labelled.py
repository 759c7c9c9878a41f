"""Solutions whose first wrong step is known: what a step scorer learns from, and what it is judged on.

Four kinds of rows are read, each told by its own fields, one JSON object a line (or one JSON list of them, in a file
that ends in ``.json``, or rows of a file that ends in ``.parquet``):

* ProcessBench and its like: ``problem`` (or ``prompt``), ``steps``, ``label`` (index of the first wrong step, -1 for none);
* PRM800K as it was published: ``question`` and ``label`` with a rating for each completion of each step;
* stepwise supervision as TRL has it: ``prompt``, ``completions``, ``labels`` (one a step, true for right);
* Math-Shepherd: ``input`` with a marker after each step, ``label`` the same text with ``+`` or ``-`` in its place.

Of labels that go on after the first wrong step nothing is kept: what "right" means after a mistake, no two sources agree on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from scope_rlvr.core.encodable import is_encodable
from scope_rlvr.core.errors import UserError
from scope_rlvr.core.types import Problem
from scope_rlvr.problems.files import read_parquet
from scope_rlvr.problems.rows import shown_complaints
from scope_rlvr.store.files import read_json
from scope_rlvr.store.journal import Line, read_lines

SHEPHERD_MARKER = "ки"
_SHEPHERD_FIRST_STEP = "Step 1:"
_MAX_SHOWN = 60


@dataclass(frozen=True, slots=True)
class LabelledSolution:
    """A solution and its first wrong step: a 0-based index into ``steps``, or ``None`` where every step is right.

    ``is_answer_right`` is ``None`` where the source does not say; a right answer may follow from a wrong step.

    >>> LabelledSolution(Problem("p", "2+2+2?", "6"), ("2+2 = 4", "4+2 = 7", "7"), first_wrong=1).step_labels
    (True, False)
    """

    problem: Problem
    steps: tuple[str, ...]
    first_wrong: int | None
    is_answer_right: bool | None = None

    @property
    def step_labels(self) -> tuple[bool, ...]:
        """Whether each step is right, up to and including the first wrong one: after it, nothing is known."""
        if self.first_wrong is None:
            return (True,) * len(self.steps)
        return (*[True] * self.first_wrong, False)


@dataclass(frozen=True)
class LabelledFile:
    """The solutions of a file. ``bad_rows`` says what was wrong with rows that could not be read, row by row;
    ``left_out`` counts rows that are as they should be and yet no solution to judge by, by reason."""

    path: Path
    solutions: tuple[LabelledSolution, ...]
    bad_rows: tuple[str, ...]
    left_out: dict[str, int]

    @property
    def name(self) -> str:
        return self.path.stem


class _BadRow(ValueError):
    """What is wrong with a row, and the remedy."""


class _LeftOut(Exception):
    """Why a sound row is no solution to judge by."""


def read_labelled(path: Path, *, skip_bad_rows: bool = False) -> LabelledFile:
    """Read every labelled solution of a file; see :func:`labelled_from_rows` for the errors."""
    return labelled_from_rows(_rows(path), path, skip_bad_rows=skip_bad_rows)


def labelled_from_rows(rows: Iterable[tuple[int, Any]], path: Path, *, skip_bad_rows: bool = False) -> LabelledFile:
    """Every labelled solution in rows, which come with their numbers, from what ``path`` names.

    Raises :class:`UserError` for rows that cannot be read or hold no solution, and for single rows that are none, with their
    numbers and what is wrong with each; with ``skip_bad_rows`` those are left out and told in ``bad_rows``.
    """
    solutions: list[LabelledSolution] = []
    mistakes: list[str] = []
    left_out: Counter[str] = Counter()
    try:
        for number, row in rows:
            try:
                solutions += _solutions(_parsed(row), f"{path.stem}-{number}", path.stem)
            except _BadRow as mistake:
                mistakes.append(f"row {number}: {mistake}")
            except _LeftOut as reason:
                left_out[str(reason)] += 1
    # Broken JSON and broken UTF-8 are a ValueError.
    except UserError:
        raise
    except (OSError, ValueError) as error:
        raise UserError(f"the labelled file {path} cannot be read: {error}") from error
    if mistakes and not skip_bad_rows:
        raise UserError(
            f"the labelled file {path} has {len(mistakes)} row(s) that cannot be used:\n{shown_complaints(mistakes)}\n"
            "mend them, or leave them out with --skip-bad-rows"
        )
    if not solutions:
        raise UserError(
            f"the labelled file {path} holds no labelled solution; docs/formats.md shows what a row looks like"
        )
    return LabelledFile(path, tuple(solutions), tuple(mistakes), dict(left_out))


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Rows with their numbers from 1: lines of JSON, the items of a JSON list, or the rows of a Parquet file."""
    if path.suffix == ".parquet":
        for number, values in read_parquet(path):
            # A column that a row does not have is there all the same, without a value.
            yield number, {name: value for name, value in values.items() if value is not None}
    elif path.suffix == ".json":
        rows = read_json(path, "the labelled file")
        if not isinstance(rows, list):
            raise UserError(f"the labelled file {path} holds one {type(rows).__name__}; give a list, or a .jsonl file")
        yield from enumerate(rows, start=1)
    else:
        for line in read_lines(path):
            yield line.number, line


def _parsed(row: Any) -> dict[str, Any]:
    if isinstance(row, Line):
        if row.value is None:
            raise _BadRow(row.fault)
        row = row.value
    if not isinstance(row, dict):
        raise _BadRow(f"expected an object, got {_shown(row)}")
    return row


def _solutions(row: dict[str, Any], default_id: str, source: str) -> list[LabelledSolution]:
    """The solutions in a row, whichever of the four kinds it is."""
    if "completions" in row:
        return [_stepwise(row, default_id, source)]
    if isinstance(row.get("label"), dict):
        return _prm800k(row, default_id, source)
    if "input" in row:
        return [_shepherd(row, default_id, source)]
    if "steps" in row:
        return [_first_error(row, default_id, source)]
    raise _BadRow(
        f"the fields {sorted(row)} are of no known kind; give problem, steps and label, or prompt, completions and labels"
    )


def _first_error(row: dict[str, Any], default_id: str, source: str) -> LabelledSolution:
    """ProcessBench: the label is an index."""
    steps, label = _texts(row, "steps"), row.get("label")
    if not _is_whole(label) or not -1 <= label < len(steps):
        raise _BadRow(
            f"label must be the index of the first wrong of {len(steps)} steps, counted from 0, or -1; got {_shown(label)}"
        )
    is_answer_right = row.get("final_answer_correct")
    if is_answer_right is not None and not isinstance(is_answer_right, bool):
        raise _BadRow(f"final_answer_correct must be true or false, got {_shown(is_answer_right)}")
    return LabelledSolution(_problem(row, default_id, source), steps, None if label == -1 else label, is_answer_right)


def _stepwise(row: dict[str, Any], default_id: str, source: str) -> LabelledSolution:
    """TRL: one label a step; a number stands for true or false if it is 1 or 0."""
    steps, labels = _texts(row, "completions"), row.get("labels")
    if not isinstance(labels, list) or len(labels) != len(steps):
        got = f"{len(labels)}" if isinstance(labels, list) else _shown(labels)
        raise _BadRow(f"labels must be a list with one label for each of {len(steps)} completions, got {got}")
    if unclear := [label for label in labels if label not in (0, 1)]:
        raise _BadRow(
            f"a label is true or false (or 1 or 0), got {_shown(unclear[0])}; cut soft labels at a threshold first"
        )
    first_wrong = next((k for k, label in enumerate(labels) if not label), None)
    return LabelledSolution(_problem(row, default_id, source), steps, first_wrong)


def _shepherd(row: dict[str, Any], default_id: str, source: str) -> LabelledSolution:
    """Math-Shepherd: the problem ends where "Step 1:" begins; a marker or its label stands at the end of each step."""
    text, labelled = row["input"], row.get("label")
    if not isinstance(text, str) or not isinstance(labelled, str):
        raise _BadRow(f"input and label must be text, got {_shown(text)} and {_shown(labelled)}")
    *pieces, _ = text.split(SHEPHERD_MARKER)
    signs, at = [], 0
    for piece in pieces:
        at += len(piece) + 1
        signs.append(labelled[at - 1 : at])
        if labelled[at - 1 - len(piece) : at - 1] != piece or signs[-1] not in ("+", "-"):
            raise _BadRow(
                f"label must be the input with + or - for each {SHEPHERD_MARKER!r}; it differs at step {len(signs)}"
            )
    prompt, found, first = text.partition(SHEPHERD_MARKER)[0].partition(_SHEPHERD_FIRST_STEP)
    if not signs or not found:
        raise _BadRow(
            f"input must be a problem, then {_SHEPHERD_FIRST_STEP!r} and steps that end in {SHEPHERD_MARKER!r}"
        )
    steps = tuple(piece.strip() for piece in (found + first, *pieces[1:]))
    _require_sound_steps(steps)
    first_wrong = next((k for k, sign in enumerate(signs) if sign == "-"), None)
    return LabelledSolution(_problem({**row, "prompt": prompt.strip()}, default_id, source), steps, first_wrong)


_NOT_FOR_JUDGING = {
    "is_quality_control_question": "quality control of the labellers",
    "is_initial_screening_question": "screening of the labellers",
}


def _prm800k(row: dict[str, Any], default_id: str, source: str) -> list[LabelledSolution]:
    """PRM800K: the solution that was followed, and one more for each completion beside it that was rated -1.

    Ratings 1 and 0 count as right. Where the published solution goes on after its first wrong step, so does this one.
    """
    for field, reason in _NOT_FOR_JUDGING.items():
        if row.get(field):
            raise _LeftOut(reason)
    try:
        question, label = row["question"], row["label"]
        if label["finish_reason"] in ("bad_problem", "give_up"):
            raise _LeftOut(f"finish_reason {label['finish_reason']}")
        problem = _problem(
            {"id": row.get("id"), "answer": question.get("ground_truth_answer"), **question}, default_id, source
        )
        followed, first_wrong, others = _followed(label["steps"])
        written = tuple(question.get("pre_generated_steps") or ())
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise _BadRow(f"a PRM800K row lacks or misuses {error}; give it as it was published") from error
    if not followed:
        raise _LeftOut("no step was rated")
    if strange := [text for steps in (followed, written, *others) for text in steps if not isinstance(text, str)]:
        raise _BadRow(f"a step must be text, got {_shown(strange[0])}")
    for steps in (followed, written, *others):
        _require_sound_steps(steps)
    goes_on = first_wrong is not None and written[: len(followed)] == followed
    whole = LabelledSolution(problem, written if goes_on else followed, first_wrong)
    return [whole, *(LabelledSolution(problem, steps, len(steps) - 1) for steps in others)]


def _followed(steps: list[dict[str, Any]]) -> tuple[tuple[str, ...], int | None, list[tuple[str, ...]]]:
    """The steps that the labeller went along, the first wrong one among them, and prefixes that end in another wrong step."""
    followed: list[str] = []
    others: list[tuple[str, ...]] = []
    for step in steps:
        if strange := [c["rating"] for c in step["completions"] if c["rating"] not in (-1, 0, 1, None)]:
            raise _BadRow(f"a rating is -1, 0 or 1, got {_shown(strange[0])}")
        wrong = [c["text"] for c in step["completions"] if c["rating"] == -1]
        if step["chosen_completion"] is not None:
            chosen = step["completions"][step["chosen_completion"]]
            if chosen["rating"] is None:
                raise _LeftOut("a step that was followed has no rating")
            text, is_wrong = chosen["text"], chosen["rating"] == -1
        elif step["human_completion"] is not None:
            human = step["human_completion"]
            text, is_wrong = human["text"] if isinstance(human, dict) else human, False
        elif wrong:
            text, is_wrong = wrong[0], True
        else:
            break
        others += [(*followed, other) for other in wrong if other != text]
        followed.append(text)
        if is_wrong:
            return tuple(followed), len(followed) - 1, others
    return tuple(followed), None, others


def _problem(row: dict[str, Any], default_id: str, source: str) -> Problem:
    prompt = row.get("prompt") or row.get("problem")
    if not isinstance(prompt, str) or not prompt.strip():
        raise _BadRow(f"no problem (or prompt) text; the row has {sorted(row)}")
    reference = row.get("reference") if row.get("reference") is not None else row.get("answer")
    if not is_encodable(prompt, str(reference)):
        raise _BadRow(f"the problem or its answer holds half of a character (a lone surrogate), got {_shown(prompt)}")
    level = row.get("level")
    if level is not None and not _is_whole(level):
        raise _BadRow(f"level must be a whole number, got {_shown(level)}")
    own_id = default_id if row.get("id") in (None, "") else str(row["id"])
    solution = row.get("solution")
    return Problem(
        own_id,
        prompt,
        "" if reference is None else str(reference),
        str(row.get("source") or source),
        level,
        solution if isinstance(solution, str) and solution.strip() else None,
    )


def _texts(row: dict[str, Any], field: str) -> tuple[str, ...]:
    texts = row[field]
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise _BadRow(f"{field} must be a list of one or more texts, got {_shown(texts)}")
    _require_sound_steps(texts)
    return tuple(texts)


def _require_sound_steps(steps: Sequence[str]) -> None:
    if blank := [k for k, step in enumerate(steps) if not step.strip()]:
        raise _BadRow(
            f"step {blank[0]} (counted from 0) is empty, got {_shown(steps[blank[0]])}; join it to its neighbour"
        )
    if broken := [k for k, step in enumerate(steps) if not is_encodable(step)]:
        raise _BadRow(
            f"step {broken[0]} (counted from 0) holds half of a character (a lone surrogate), got "
            f"{_shown(steps[broken[0]])}; take it from where it was not cut"
        )


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."
