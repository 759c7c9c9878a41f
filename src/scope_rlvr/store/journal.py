"""JSON lines: how they are appended, and how they are read wherever they come from.

A journal is a file of ours with one JSON object a line, in UTF-8. It grows at its end, and a process that is killed may
leave half a line there. Files of others are read line by line by :func:`read_lines`, which says what is wrong with each.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.files import read_tail, refuse_other_than_file, replacing, writing

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_SHOWN = 60
_TAIL_BYTES = 1 << 16
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a JSON-lines file, with its number from 1 and the byte at which it begins.

    ``fault`` says why it is no JSON object and is empty if it is one. ``value`` is what the JSON says, or ``None`` if the
    line is no JSON at all. Only the last line of a file can lack the line break at its end.
    """

    number: int
    offset: int
    value: Any
    fault: str
    has_line_break: bool


def append_records(journal: Path, records: Iterable[Mapping[str, Any]], *, sync: bool = False) -> int:
    """Append one line a record and return the size of the file in bytes. ``sync`` waits until all is on the disk."""
    with writing(journal), journal.open("ab") as file:
        file.writelines(map(encoded, records))
        if sync:
            file.flush()
            os.fsync(file.fileno())
        return file.tell()


def truncate_after(journal: Path, step: int) -> None:
    """Cut a journal behind its last line of ``step`` or an earlier one; a missing journal stays missing.

    Steps rise from line to line, so only what goes is read, however long the journal is. A torn last line goes, too.

    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile() as file:
    ...     journal = Path(file.name)
    ...     _ = journal.write_text('{"step": 1}\\n{"step": 2}\\n{"step": 3}\\n{"ste')
    ...     truncate_after(journal, 2)
    ...     journal.read_text()
    '{"step": 1}\\n{"step": 2}\\n'
    """
    if not journal.is_file():
        return
    with journal.open("rb+") as file:
        end, last = 0, b""
        for offset, line in _lines_backwards(file):
            value, fault = _parsed(line)
            if not fault and isinstance(value.get("step"), int) and value["step"] <= step:
                end, last = offset + len(line), line
                break
        file.truncate(end)
        if last and not last.endswith(b"\n"):
            file.seek(end)
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def has_torn_end(journal: Path) -> bool:
    """Whether the last line was not written to its end: it is no record, and lacks the line break."""
    with journal.open("rb") as file:
        last = next((line for _, line in _lines_backwards(file)), b"\n")
    return not last.endswith(b"\n") and bool(_parsed(last)[1])


def _lines_backwards(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with the byte at which each begins, the last one first."""
    start, tail = file.seek(0, os.SEEK_END), b""
    while start > 0:
        size = min(_CHUNK_BYTES, start)
        start -= size
        file.seek(start)
        head, *lines = BytesIO(file.read(size) + tail).readlines()
        offset = start + len(head) + sum(map(len, lines))
        for line in reversed(lines):
            offset -= len(line)
            yield offset, line
        tail = head
    if tail:
        yield 0, tail


def rewrite_records(journal: Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Put these records in the place of a journal, whole or not at all; returns how many they are."""
    count = 0
    with replacing(journal) as beside, beside.open("wb") as file:
        for record in records:
            file.write(encoded(record))
            count += 1
    return count


def encoded(value: Any) -> bytes:
    """A JSON value as a line. A lone surrogate in a model's text becomes a JSON escape instead of an error."""
    return (json.dumps(value, ensure_ascii=False) + "\n").encode("utf-8", errors="backslashreplace")


def read_records(journal: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal, one at a time; a broken last line is left out.

    Raises :class:`UserError` for a line that is broken in the middle: no interruption leaves that.
    """
    broken: Line | None = None
    for line in read_lines(journal):
        if broken is not None:
            raise UserError(
                f"line {broken.number} of {journal} is {broken.fault}, and lines follow it; mend or remove that line"
            )
        if line.fault:
            broken = line
        else:
            yield line.value


def read_lines(file: Path, start: int = 0) -> Iterator[Line]:
    """The lines of a JSON-lines file of any origin, from the byte ``start`` on; blank ones are passed over.

    >>> from tempfile import NamedTemporaryFile
    >>> with NamedTemporaryFile() as file:
    ...     _ = Path(file.name).write_text('{"a": 1}\\n[2]\\n{"b": ')
    ...     for line in read_lines(Path(file.name)):
    ...         print(line.number, line.offset, line.value, line.fault or "sound")
    1 0 {'a': 1} sound
    2 9 [2] expected an object, got list
    3 13 None not JSON: Expecting value, got '{"b":'
    """
    offset = start
    refuse_other_than_file(file, "the file")
    with file.open("rb") as stream:
        stream.seek(start)
        # Only "\n" ends a line: JSON strings may hold other line separators (U+2028) as they are.
        for number, raw in enumerate(stream, start=1):
            if raw.strip():
                value, fault = _parsed(raw.removeprefix(_BYTE_ORDER_MARK) if offset == 0 else raw)
                yield Line(number, offset, value, fault, raw.endswith(b"\n"))
            offset += len(raw)


def _parsed(raw: bytes) -> tuple[Any, str]:
    """What a line says, and what is wrong with it."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(text)
    except UnicodeDecodeError as error:
        return None, f"not UTF-8 at byte {error.start + 1}"
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        return None, f"not JSON: {getattr(error, 'msg', error)}, got {text.strip()[:_MAX_SHOWN]!r}"
    return value, "" if isinstance(value, dict) else f"expected an object, got {type(value).__name__}"


def last_record(journal: Path) -> dict[str, Any] | None:
    """The last whole record of a journal that may still grow; ``None`` without one."""
    for line in reversed(read_tail(journal, _TAIL_BYTES).split("\n")):
        value, fault = _parsed(line.encode("utf-8", errors="replace")) if line.strip() else (None, "blank")
        if not fault:
            return dict(value) if isinstance(value, dict) else None
    return None
