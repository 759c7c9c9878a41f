"""The rows of a local file: JSON lines, Parquet, or CSV with a header."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.problems.rows import Row
from scope_rlvr.store.files import require_file
from scope_rlvr.store.journal import read_lines

SUFFIXES = (".jsonl", ".parquet", ".csv")


def read_file(path: Path) -> Iterator[Row]:
    """Every row, with its line or row number; :class:`UserError` where the file cannot be read at all."""
    readers = {".jsonl": _json_lines, ".parquet": _parquet, ".csv": _csv}
    if path.suffix not in readers:
        raise UserError(f"{path} is not a file of problems: its name must end in {', '.join(SUFFIXES)}")
    require_file(path, "the file")
    try:
        yield from readers[path.suffix](path)
    except OSError as error:
        raise UserError(f"the file {path} cannot be read: {error.strerror or error}; look at its name") from error


def _json_lines(path: Path) -> Iterator[Row]:
    for line in read_lines(path):
        yield Row(f"line {line.number}", line.fault or line.value)


def _parquet(path: Path) -> Iterator[Row]:
    for number, values in read_parquet(path):
        yield Row(f"row {number}", values)


def read_parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every row of a Parquet file with its number from 1; :class:`UserError` where it is no such file."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            rows = (values for batch in file.iter_batches() for values in batch.to_pylist())
            yield from enumerate(rows, start=1)
    except pyarrow.ArrowException as error:
        raise UserError(f"the file {path} cannot be read, it is not Parquet: {error}; write it anew") from error


def _csv(path: Path) -> Iterator[Row]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"the file {path} cannot be read: {error}; save it as UTF-8") from error
    # A null byte is told row by row, and a problem may be longer than the reader's own limit.
    csv.field_size_limit(max(csv.field_size_limit(), len(text) + 1))
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            yield Row(f"line {reader.line_num}", f"not CSV: {error}")
            continue
        if values is None:
            return
        beyond = values.pop("", None)  # type: ignore[arg-type]
        yield Row(
            f"line {reader.line_num}",
            f"{len(beyond)} value(s) more than the header has" if isinstance(beyond, list) else values,
        )
