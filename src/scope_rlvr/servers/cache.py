"""Replies on disk, found by their question, so that a repeated run asks nothing twice."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from scope_rlvr.servers.replies import parsed
from scope_rlvr.store.digests import value_digest
from scope_rlvr.store.files import write_text

_logger = logging.getLogger(__name__)

_SCHEMA = 1


class ReplyCache:
    """One JSON file a reply, named by the digest of its question.

    Several processes may share a folder: a file appears whole or not at all, and equal questions have equal files. A file
    that is torn, altered or unreadable counts as missing, and so does one that answers another question. Where nothing can be
    written, nothing is kept, and that is logged once. A reply nested too deeply to be written is not kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._has_complained = False

    def get(self, question: Any) -> Any | None:
        """The reply that was kept for this question, ``None`` where there is none."""
        if self.folder is None:
            return None
        key = value_digest(question)
        try:
            entry = parsed(self._file(self.folder, key).read_bytes())
            is_whole = (
                entry["schema"] == _SCHEMA and entry["key"] == key and entry["digest"] == value_digest(entry["reply"])
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return entry["reply"] if is_whole else None

    def put(self, question: Any, reply: Any) -> None:
        """Keep a reply."""
        if self.folder is None:
            return
        try:
            key = value_digest(question)
            entry = {"schema": _SCHEMA, "key": key, "digest": value_digest(reply), "question": question, "reply": reply}
            file = self._file(self.folder, key)
            file.parent.mkdir(parents=True, exist_ok=True)
            # What a power cut leaves half written counts as missing, so nothing waits for the disk.
            write_text(file, json.dumps(entry), sync=False)
        except RecursionError:
            return
        except OSError as error:
            if not self._has_complained:
                _logger.warning(
                    "the cache %s cannot be written (%s); replies are not kept", self.folder, error.strerror
                )
            self._has_complained = True

    @staticmethod
    def _file(folder: Path, key: str) -> Path:
        return folder / key[:2] / f"{key}.json"
