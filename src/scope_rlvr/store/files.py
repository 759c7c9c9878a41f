"""Files that are there whole or not at all: they are written beside their place and then moved there."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

from scope_rlvr.core.errors import CannotWrite, UserError

_SAID_BY_LIBRARIES = re.compile(r"\(os error (\d+)\)|PytorchStreamWriter failed|unexpected pos")
"""How safetensors and torch say that a file could not be written."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise :class:`CannotWrite`, which names ``path`` or a file in it, where the block cannot write to the disk.

    >>> with writing(Path("model")):
    ...     raise RuntimeError("I/O error: No space left on device (os error 28)")
    Traceback (most recent call last):
    ...
    scope_rlvr.core.errors.CannotWrite: model cannot be written: No space left on device
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(error.errno, error.strerror or str(error), str(error.filename or path)) from error
    except Exception as error:
        found = _SAID_BY_LIBRARIES.search(str(error))
        if found is None:
            raise
        reason = os.strerror(int(found[1])) if found[1] else "the disk did not take all of it"
        raise CannotWrite(int(found[1] or errno.EIO), reason, str(path)) from error


@contextmanager
def replacing(file: Path, *, sync: bool = True) -> Iterator[Path]:
    """A path beside ``file`` to write to; at the end of the block what was written there takes the place of ``file``.

    If the block or the move fails, ``file`` stays as it was. The path is different every time, so several processes may
    write one file. ``sync`` waits until the content is on the disk, so that not even a power cut leaves half a file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, replacing(Path(folder) / "notes.txt") as beside:
    ...     _ = beside.write_text("whole")
    ...     sorted(path.name for path in Path(folder).iterdir()) == [beside.name]
    True
    """
    beside = file.with_name(f".{file.name}.{token_hex(4)}.tmp")
    try:
        with writing(file):
            yield beside
            give_usual_rights(beside)
            if sync:
                to_disk(beside)
            beside.replace(file)
            if sync:
                to_disk(file.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def making_folder(folder: Path) -> Iterator[Path]:
    """An empty folder to fill; at the end of the block it becomes ``folder``, with all that it holds.

    Where another process was faster and ``folder`` is there, its content stays.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as parent:
    ...     with making_folder(Path(parent) / "kept") as beside:
    ...         _ = (beside / "notes.txt").write_text("whole")
    ...     (Path(parent) / "kept" / "notes.txt").read_text()
    'whole'
    """
    beside = folder.with_name(f".{folder.name}.{token_hex(4)}.tmp")
    beside.mkdir(parents=True)
    try:
        yield beside
        give_usual_rights(beside)
        for file in beside.iterdir():
            to_disk(file)
        try:
            beside.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def give_usual_rights(path: Path) -> None:
    """Give a file, or every file in a folder, the rights that any new file of this process has, by its umask.

    Some libraries write files that only their owner can read, whatever the umask says.
    """
    umask = os.umask(0o077)
    os.umask(umask)
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(0o666 & ~umask)


def to_disk(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_leftover(path: Path) -> bool:
    """Whether a path is what a process that was killed left of a file it was writing.

    >>> is_leftover(Path(".config.toml.5f0c93a1.tmp")), is_leftover(Path("config.toml"))
    (True, False)
    """
    return path.name.startswith(".") and path.name.endswith(".tmp")


def write_text(file: Path, text: str, *, sync: bool = True) -> None:
    """Write a text as UTF-8, whole or not at all."""
    with replacing(file, sync=sync) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def write_json(file: Path, value: Any, *, sort_keys: bool = False) -> None:
    """Write a value as indented JSON, whole or not at all."""
    write_text(file, json.dumps(value, indent=2, sort_keys=sort_keys) + "\n")


def require_file(file: Path, what: str) -> None:
    """Raise :class:`UserError` where there is no file that could be read to its end."""
    try:
        file.stat()
    except (OSError, ValueError) as error:  # a name with a null byte is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{what} {file} cannot be read: {reason}; look at its name") from error
    refuse_other_than_file(file, what)


def refuse_other_than_file(path: Path, what: str) -> None:
    """Raise :class:`UserError` for what is there and is no file: from a pipe nothing may ever come, and a device has no end."""
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise UserError(f"{what} {path} cannot be read: it is {kind}, and a file is to be there")


def read_json(file: Path, what: str) -> Any:
    """What a JSON file holds; :class:`UserError` where it is none. ``what`` says in messages what it is."""
    require_file(file, what)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{what} {file} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits is a plain ValueError
        raise UserError(f"{what} {file} cannot be read as JSON: {error}; write it anew") from error


def require_new_file(file: Path, remedy: str = "name another with --out, or remove it") -> None:
    """Raise :class:`UserError` where a file exists or could not be written, before any work is done for it."""
    if file.exists():
        raise UserError(f"the output file {file} exists; {remedy}")
    if not file.parent.is_dir():
        raise UserError(f"the output file {file} cannot be written: there is no folder {file.parent}; make it first")
    if not os.access(file.parent, os.W_OK):
        raise UserError(f"the output file {file} cannot be written: no right to write in {file.parent}")


def require_new_folder(folder: Path, remedy: str = "name another with --out") -> None:
    """Raise :class:`UserError` where a folder holds anything but what a killed process left, or is a file."""
    if folder.exists() and (not folder.is_dir() or not all(map(is_leftover, folder.iterdir()))):
        raise UserError(f"the output folder {folder} exists and is not empty; {remedy}")


def read_tail(file: Path, num_bytes: int) -> str:
    """The last ``num_bytes`` of a text that may still grow; empty if there is no such file."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - num_bytes))
            return stream.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
