"""One process at a time writes a folder."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from scope_rlvr.core.errors import UserError

LOCK_FILE = ".lock"

_logger = logging.getLogger(__name__)

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What a file system says that has no locks."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes ``folder``, which is made if it is not there, until the end of the block.

    The system takes the lock back when the process ends, also if it is killed. Raises :class:`UserError` if another process
    holds the lock, with its id, its machine and since when, and if the folder cannot be written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, locked(Path(folder)):
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['.lock']
    """
    path = folder / LOCK_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _opened(path)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written: {error.strerror or error}") from error
    try:
        file.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, file)
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _opened(path: Path) -> IO[str]:
    """The lock file, with the lock on it."""
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(_held_by(file, path.parent)) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _logger.warning("%s: no locks on this file system; do not let two processes write this folder", path.parent)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        # The process that held it has just removed it.
        file.close()


def _held_by(file: IO[str], folder: Path) -> str:
    """What to say of the process that holds the lock."""
    with file:
        file.seek(0)
        try:
            holder = json.loads(file.read())
        except ValueError:
            return f"{folder} is being written by another process; wait until it has ended"
    return (
        f"{folder} is being written by process {holder['pid']} on {holder['host']}, since {holder['since']}; wait until it "
        f"has ended, or end it there by: kill {holder['pid']}"
    )
