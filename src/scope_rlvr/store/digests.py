"""Which weights, data and settings something was made with, in a few characters: hexadecimal digits of SHA-256.

Every digest that is kept in a file is made here, so that equal things stay equal from one version to the next.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_OF_A_MODEL = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")
_SHORT = 16
_IS_DIGEST = re.compile("[0-9a-f]{64}").fullmatch
_PACKAGE = Path(__file__).parent.parent


def bytes_digest(pieces: Iterable[bytes]) -> str:
    """The 64 digits of some bytes, given in pieces of any length.

    >>> bytes_digest([b"ab", b"c"])[:8], bytes_digest([b"abc"])[:8]
    ('ba7816bf', 'ba7816bf')
    """
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def value_digest(value: Any) -> str:
    """64 digits that are equal for equal JSON values, whatever the order of their keys.

    >>> value_digest({"a": 1, "b": [2]}) == value_digest({"b": [2], "a": 1})
    True
    """
    return bytes_digest([json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()])


def file_digest(file: Path) -> str:
    """The 64 digits of a file's content."""
    target = file.resolve()
    # The Hub's cache names large files by their digest, so that gigabytes need not be read to know it.
    if file.is_symlink() and _IS_DIGEST(target.name):
        return target.name
    with target.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def files_digest(files: Iterable[Path]) -> str:
    """16 digits of the names and the contents of some files, in their order."""
    return bytes_digest(file.name.encode() + b"\0" + bytes.fromhex(file_digest(file)) for file in files)[:_SHORT]


def model_digest(folder: Path) -> str:
    """16 digits of all that decides what a model folder computes: weights, configuration, tokenizer."""
    return files_digest(sorted({file for pattern in _OF_A_MODEL for file in folder.glob(pattern)}))


def code_digest() -> str:
    """12 digits that are equal for equal source files of this package, whatever its version says."""
    files = sorted(_PACKAGE.rglob("*.py"))
    return bytes_digest(
        file.relative_to(_PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0" for file in files
    )[:12]
