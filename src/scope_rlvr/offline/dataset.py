"""What an offline salvage writes: one object a failure with its provenance, and what others train on, made from those.

The fields are described in docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.core.groups import Member, SalvageOutcome
from scope_rlvr.core.ports import TextCodec
from scope_rlvr.core.steps import Step, StepRule, split_steps
from scope_rlvr.core.types import Origin, Outcome, Problem, Rollout, Segment
from scope_rlvr.problems.saved import SavedRollout
from scope_rlvr.store.files import replacing
from scope_rlvr.store.journal import rewrite_records
from scope_rlvr.store.records import member_record

Shown = str | list[dict[str, str]]
"""A prompt: a text, or the messages of a conversation up to the policy's turn."""

SCHEMA_VERSION = 1
TABLE_SUFFIXES = (".jsonl", ".parquet")


def failure_line(
    saved: SavedRollout, member: Member, shown: Shown, models: dict[str, Any], codec: TextCodec, rule: StepRule
) -> dict[str, Any]:
    """The object of one failure: where it stood, who worked on it, what it was, and what became of it.

    ``shown`` is what the policy is shown in the place of the problem.
    """
    return {
        "schema": SCHEMA_VERSION,
        "source": {"file": saved.file.name, "row": saved.place, "response": saved.number, "step": saved.step},
        "models": models,
        "problem": saved.problem.id,
        "level": saved.problem.level,
        "prompt": saved.problem.prompt,
        "reference": saved.problem.reference,
        "shown": shown,
        "token_ids_from": "text" if saved.token_ids is None else "source",
        **member_record(member, codec),
        "pair": step_pair(member, codec, rule),
    }


def step_pair(member: Member, codec: TextCodec, rule: StepRule) -> dict[str, str] | None:
    """The rejected step and the one in its place, after the same prefix.

    ``None`` where nothing right came of the failure, and where both say the same.
    """
    record = member.salvage
    if record is None or record.attempt is None or not record.is_admitted:
        return None
    if record.verdict is None or not record.verdict.is_right:
        return None
    cut, kept, written = record.num_kept_tokens, member.rollout.token_ids, record.attempt.token_ids
    pieces = codec.pieces(written)
    rejected = _text_from(cut, record.steps, codec.pieces(kept))
    chosen = _text_from(cut, split_steps(pieces, rule), pieces)
    if not chosen.strip() or chosen.strip() == rejected.strip():
        return None
    return {"prefix": "".join(pieces[:cut]), "chosen": chosen, "rejected": rejected}


def _text_from(token: int, steps: Iterable[Step], pieces: tuple[str, ...]) -> str:
    """What is written from a token to the end of the step that it belongs to."""
    end = next((step.end for step in steps if step.end > token), len(pieces))
    return "".join(pieces[token:end])


def name_of(line: dict[str, Any]) -> str:
    """Where a failure stood, in one text."""
    source = line["source"]
    return f"{source['file']}, {source['row']}, response {source['response']}"


def is_right(line: dict[str, Any]) -> bool:
    """Whether the verifier calls right what was made of the failure."""
    salvage = line["salvage"] or {}
    was_verified = (salvage.get("verdict") or {}).get("outcome") == Outcome.RIGHT
    return was_verified and salvage["outcome"] == SalvageOutcome.ADMITTED


def completion_of(line: dict[str, Any]) -> str:
    """The text of what was made of a failure."""
    return "".join(segment["text"] for segment in line["salvage"]["attempt"])


def sft_rows(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Prompt and completion of every salvaged rollout; as conversations where the policy was asked in one."""
    for line in lines:
        if is_right(line):
            prompt = line["shown"]
            yield {"prompt": prompt, "completion": _answer(prompt, completion_of(line)), "source": name_of(line)}


def dpo_rows(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Prompt, chosen and rejected step. The common prefix ends the prompt, or begins both turns of a conversation, whose
    log-probabilities then cancel."""
    for line in lines:
        pair = line["pair"]
        if pair is None:
            continue
        prompt, prefix = line["shown"], pair["prefix"]
        if isinstance(prompt, str):
            prompt, prefix = prompt + prefix, ""
        chosen, rejected = (_answer(prompt, prefix + pair[which]) for which in ("chosen", "rejected"))
        yield {"prompt": prompt, "chosen": chosen, "rejected": rejected, "source": name_of(line)}


def _answer(prompt: Shown, text: str) -> Shown:
    """A text as the answer to a prompt, in the form that the prompt has."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]


def replayed(lines: Iterable[dict[str, Any]]) -> Iterator[tuple[Problem, Rollout]]:
    """Every salvaged rollout as it was put together, token for token, with who wrote which part."""
    for line in lines:
        if is_right(line):
            segments = (
                Segment(tuple(part["token_ids"]), Origin(part["origin"])) for part in line["salvage"]["attempt"]
            )
            problem = Problem(line["problem"], line["prompt"], line["reference"], level=line["level"])
            yield problem, Rollout(tuple(line["prompt_ids"]), tuple(segments))


def write_table(rows: Iterable[dict[str, Any]], file: Path) -> int:
    """Write rows as JSON lines or Parquet, by the file's name, there whole or not at all; returns how many they are."""
    if file.suffix != ".parquet":
        return rewrite_records(file, rows)
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(list(rows))
    with replacing(file) as beside:
        pyarrow.parquet.write_table(table, beside)
    return int(table.num_rows)


def require_table_name(file: Path, option: str) -> None:
    """Refuse a file whose name does not say how it is to be written."""
    if file.suffix not in TABLE_SUFFIXES:
        raise UserError(f"{option} {file}: the name must end in {' or '.join(TABLE_SUFFIXES)}")
