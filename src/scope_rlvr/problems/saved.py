"""Responses as they were saved: run folders, JSON lines, completions that TRL logs, generations that verl dumps.

The columns of a row tell its format. Whatever reads responses (to judge, to label or to salvage them) reads them here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.ports import TextCodec
from scope_rlvr.core.types import Origin, Problem, Rollout, Segment
from scope_rlvr.problems.files import SUFFIXES, read_file
from scope_rlvr.problems.rows import MAX_CHARS, Row, answer_text, normalised
from scope_rlvr.store.records import SCHEMA_VERSION
from scope_rlvr.store.rollouts import SUFFIX as COMPRESSED
from scope_rlvr.store.rollouts import Rollouts
from scope_rlvr.store.rollouts import rollout_files as files_of_run

PROMPT = ("prompt", "problem", "question", "input")
RESPONSE = ("response", "responses", "completion", "completions", "output", "outputs", "generation", "generations")
REFERENCE = ("gold", "reference", "answer", "final_answer", "ground_truth", "gts")
PROMPT_IDS = ("prompt_ids", "prompt_token_ids")
RESPONSE_IDS = ("response_ids", "completion_ids", "output_ids", "token_ids")
UNAIDED = ("sampled", "replaced")
"""Roles in a run's rollouts of what the policy wrote by itself."""


@dataclass(frozen=True, slots=True)
class SavedRollout:
    """One response as it was saved, and its place: the ``number``-th response of the row at ``place``.

    ``token_ids`` is ``None`` where only its text was saved, ``is_truncated`` where the row does not say whether it was cut off.
    """

    file: Path
    place: str
    number: int
    problem: Problem
    text: str | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_ids: tuple[int, ...] | None = None
    is_truncated: bool | None = None
    step: int | None = None
    group: int | None = None

    def as_rollout(self, codec: TextCodec) -> Rollout:
        """The rollout. Saved ids stay as they are; what was saved as text alone is encoded here, once.

        A text counts as ended by the policy unless the row says that it was cut off; ids do if an end token is the last.
        """
        prompt_ids = codec.encode_prompt(self.problem.prompt) if self.prompt_ids is None else self.prompt_ids
        if self.token_ids is not None:
            ids = self.token_ids
            is_truncated = self.is_truncated if self.is_truncated is not None else ids[-1] not in codec.end_ids
        else:
            is_truncated = bool(self.is_truncated)
            ids = codec.encode(self.text or "") + (() if is_truncated else (codec.end_id,))
        return Rollout(prompt_ids, (Segment(ids, Origin.POLICY),), is_truncated)


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that holds no rollout, its place, and the reason."""

    file: Path
    place: str
    why: str

    def __str__(self) -> str:
        return f"{self.file.name}, {self.place}: {self.why}"


Check = Callable[[SavedRollout], str | None]
"""Says what is wrong with a rollout, ``None`` where nothing is."""


class References:
    """The problems whose right answers and worked solutions are known, for rows that hold none.

    A row's prompt is looked up by its :func:`~scope_rlvr.problems.rows.normalised` text, then by the problem whose text
    it contains, as in a prompt inside a chat template.
    """

    def __init__(self, problems: Iterable[Problem] = ()) -> None:
        self._problems = {normalised(problem.prompt): problem for problem in problems}
        self._found: dict[str, Problem | None] = {}

    def __bool__(self) -> bool:
        return bool(self._problems)

    def find(self, prompt: str) -> Problem | None:
        """The problem of a prompt.

        >>> references = References([Problem("a", "1 + 1?", "2")])
        >>> references.find("user\\n1+1?\\nassistant\\n").reference
        '2'
        """
        if prompt not in self._found:
            text = normalised(prompt)
            within = (key for key in self._problems if key in text)
            self._found[prompt] = self._problems.get(text) or self._problems.get(max(within, key=len, default=""))
        return self._found[prompt]


def rollout_files(path: Path) -> list[Path]:
    """The files of a path: itself, those of a run folder's rollouts, or all tables in a folder by name."""
    if not path.exists():
        raise UserError(f"there are no rollouts at {path}; give a file ({', '.join(SUFFIXES)}) or a folder")
    if path.is_file():
        if path.suffix not in (*SUFFIXES, COMPRESSED):
            raise UserError(f"{path} is no file of rollouts: its name must end in {', '.join(SUFFIXES)}")
        return [path]
    if of_run := files_of_run(path):
        return list(of_run)
    files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    if not files:
        raise UserError(f"the folder {path} holds no rollouts: neither those of a run nor {', '.join(SUFFIXES)}")
    return files


@dataclass(frozen=True)
class RowReader:
    """How rows are read: the problems of rows without an answer, what a rollout has to hold, and which of a run's count."""

    references: References = field(default_factory=References)
    check: Check | None = None
    roles: tuple[str, ...] | None = None
    """Roles in a run's rollouts; ``None`` for all."""
    needs_prompt: bool = True

    def rows(self, files: Sequence[Path]) -> Iterator[list[SavedRollout] | BadRow]:
        """For every row its rollouts, one or more, or why it holds none; nothing for a rollout of another role."""
        for file, row in _rows(files):
            found = row.values if isinstance(row.values, str) else self._rollouts(file, row.place, row.values)
            if isinstance(found, str):
                yield BadRow(file, row.place, found)
                continue
            complaints = (self.check(rollout) for rollout in found) if self.check is not None else ()
            complaint = next((text for text in complaints if text is not None), None)
            if complaint is not None:
                yield BadRow(file, row.place, complaint)
            elif found:
                yield found

    def _rollouts(self, file: Path, place: str, values: Mapping[str, Any]) -> list[SavedRollout] | str:
        """The rollouts in a row, or what is wrong with it."""
        is_of_run = "segments" in values and "schema" in values
        if is_of_run and self.roles is not None and values.get("role") not in self.roles:
            return []
        if is_of_run and values["schema"] != SCHEMA_VERSION:
            return f"schema {values['schema']!r}, and this version reads schema {SCHEMA_VERSION}; use the version that wrote it"
        own_id = values.get("problem" if is_of_run else "id")
        default_id = f"{file.stem}-{place.split()[-1]}"
        problem = self._problem(default_id if own_id in (None, "") else str(own_id), values)
        if isinstance(problem, str):
            return problem
        prompt_ids = _ids(_first(values, PROMPT_IDS))
        if isinstance(prompt_ids, str):
            return f"the ids of the prompt {prompt_ids}"
        step, group = (values.get(key) if isinstance(values.get(key), int) else None for key in ("step", "group"))
        whole = SavedRollout(file, place, 0, problem, prompt_ids=prompt_ids, step=step, group=group)
        return _responses(replace(whole, is_truncated=_is_truncated(values)), values, is_of_run)

    def _problem(self, own_id: str, values: Mapping[str, Any]) -> Problem | str:
        prompt = _last_message(_first(values, PROMPT))
        if not isinstance(prompt, str) or not prompt.strip():
            if self.needs_prompt:
                return f"no prompt in {', '.join(PROMPT)}; the row has {_names(values)}"
            prompt = ""
        fault = _fault(prompt)
        if fault:
            return f"the prompt {fault}"
        reference = _reference(values)
        known = self.references.find(prompt) if self.references else None
        if reference is None:
            if known is None and self.references:
                return "no reference, and its prompt is none of the problems that were named; name those it is of"
            if known is None:
                return (
                    f"no reference in {', '.join(REFERENCE)} or reward_model.ground_truth; the row has {_names(values)}"
                )
            return known
        level, solution = values.get("level"), values.get("solution")
        if not isinstance(solution, str) or not solution.strip():
            solution = None if known is None else known.solution
        return Problem(own_id, prompt, reference, level=level if isinstance(level, int) else None, solution=solution)


def in_groups(rows: Iterable[list[SavedRollout] | BadRow]) -> Iterator[list[SavedRollout] | BadRow]:
    """Neighbouring rollouts of one problem together, in order, and rows that hold none between them."""
    waiting: list[SavedRollout] = []
    for item in rows:
        if isinstance(item, BadRow):
            yield item
        elif waiting and not _belong_together(waiting[-1], item[0]):
            yield waiting
            waiting = item
        else:
            waiting = [*waiting, *item]
    if waiting:
        yield waiting


def _belong_together(one: SavedRollout, other: SavedRollout) -> bool:
    return (one.file, one.step, one.group, one.problem.prompt) == (
        other.file,
        other.step,
        other.group,
        other.problem.prompt,
    )


def _rows(files: Sequence[Path]) -> Iterator[tuple[Path, Row]]:
    """Every row with the file to name for it. The files of a run are numbered through."""
    if not any(file.suffix == COMPRESSED for file in files):
        yield from ((file, row) for file in files for row in read_file(file))
        return
    rollouts, named = Rollouts(tuple(files)), files[0] if len(files) == 1 else files[-1].parent
    for number, record in rollouts.records():
        yield named, Row(f"rollout {number + 1}", record)
    for unreadable in rollouts.faults:
        yield named, Row(unreadable.what, "it cannot be read")


def _responses(whole: SavedRollout, values: Mapping[str, Any], is_of_run: bool) -> list[SavedRollout] | str:
    """The responses in a row, each as ``whole`` with its text and ids, or what is wrong with them."""
    texts, ids = _of_run(values) if is_of_run else (_texts(_first(values, RESPONSE)), _id_lists(values))
    if isinstance(texts, str) or isinstance(ids, str):
        return texts if isinstance(texts, str) else f"the ids of the response {ids}"
    if not texts and not ids:
        return f"no response in {', '.join((*RESPONSE, *RESPONSE_IDS))}; the row has {_names(values)}"
    if texts and ids and len(texts) != len(ids):
        return f"{len(texts)} response(s) and token ids of {len(ids)}; give ids for every response, or for none"
    count = max(len(texts), len(ids))
    return [
        replace(whole, number=i, text=texts[i] if texts else None, token_ids=ids[i] if ids else None)
        for i in range(count)
    ]


def _reference(values: Mapping[str, Any]) -> str | None:
    value = _first(values, REFERENCE)
    if value is None and isinstance(values.get("reward_model"), Mapping):
        value = values["reward_model"].get("ground_truth")
    return answer_text(value) or None


def _of_run(values: Mapping[str, Any]) -> tuple[list[str] | str, list[tuple[int, ...]] | str]:
    """Text and ids of a run's rollout."""
    segments = values["segments"]
    if not isinstance(segments, list) or not all(isinstance(segment, Mapping) for segment in segments):
        return "segments is no list of objects", []
    ids = _ids([token for segment in segments for token in segment.get("token_ids") or ()])
    text = "".join(str(segment.get("text", "")) for segment in segments)
    return [text], ids if isinstance(ids, str) else [ids] if ids else "are missing"


def _texts(value: Any) -> list[str] | str:
    """The responses in a cell: a text, a conversation, or a list of either."""
    if value is None:
        return []
    is_list = isinstance(value, list) and not _is_conversation(value)
    texts = [_last_message(one) for one in (value if is_list else [value])]
    for text in texts:
        if not isinstance(text, str):
            return f"a response must be text or a conversation, got {type(text).__name__}"
        fault = _fault(text)
        if fault:
            return f"a response {fault}"
    return texts


def _id_lists(values: Mapping[str, Any]) -> list[tuple[int, ...]] | str:
    """Token ids of the responses in a row: one list, or a list of lists."""
    value = _first(values, RESPONSE_IDS)
    if value is None:
        return []
    lists = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
    found = []
    for one in lists:
        ids = _ids(one)
        if isinstance(ids, str):
            return ids
        if not ids:
            return "are empty; leave out a response without tokens"
        found.append(ids)
    return found


def _ids(value: Any) -> tuple[int, ...] | str | None:
    """Token ids, or what is wrong with them; ``None`` where there are none."""
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in value):
        return "are no list of whole numbers from 0 on"
    return tuple(value)


def _is_truncated(values: Mapping[str, Any]) -> bool | None:
    for key in ("is_truncated", "truncated"):
        if isinstance(values.get(key), bool):
            return bool(values[key])
    return values["finish_reason"] == "length" if isinstance(values.get("finish_reason"), str) else None


def _first(values: Mapping[str, Any], names: Sequence[str]) -> Any:
    """The value of the first of some columns that has one."""
    return next((values[name] for name in names if values.get(name) is not None), None)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, Mapping) and "content" in m for m in value)


def _last_message(value: Any) -> Any:
    return value[-1]["content"] if _is_conversation(value) else value


def _fault(text: str) -> str | None:
    if len(text) > 10 * MAX_CHARS:
        return f"has {len(text):,} characters, more than {10 * MAX_CHARS:,}"
    if any("\ud800" <= char <= "\udfff" for char in text):
        return "holds half of a character (a lone surrogate)"
    return None


def _names(values: Mapping[str, Any]) -> str:
    return ", ".join(sorted(map(str, values))[:12]) or "nothing"


def fits_tokenizer(codec: TextCodec, num_tokens: int, special_texts: Sequence[str] = ()) -> Check:
    """A check that saved ids are ids of this tokenizer: in its range, and the saved text where there is one.

    ``special_texts`` (special tokens, which are not decoded) and white space at both ends are left out of the comparison.
    """

    def check(rollout: SavedRollout) -> str | None:
        ids = rollout.token_ids or ()
        highest = max((*ids, *(rollout.prompt_ids or ())), default=0)
        if highest >= num_tokens:
            return f"token id {highest}, and the tokenizer has {num_tokens} tokens; name the policy that wrote it by --policy"
        if not ids or rollout.text is None:
            return None
        saved, read = rollout.text, "".join(codec.pieces(ids))
        for text in special_texts:
            saved = saved.replace(text, "")
        if saved.strip() == read.strip():
            return None
        return (
            f"its token ids read {read[:40]!r}, its text {saved[:40]!r}: the tokenizer is another one; name the policy that "
            "wrote it by --policy"
        )

    return check
