"""Which weights and which data something was made with, in a few characters."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

_OF_A_MODEL = ("*.safetensors", "*.json", "*.model", "*.txt", "*.jinja")


def files_digest(files: Iterable[Path]) -> str:
    """A digest of the names and the contents of some files, in their order."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0")
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def model_digest(folder: Path) -> str:
    """A digest of all that decides what a model folder computes: weights, configuration, tokenizer."""
    return files_digest(sorted({file for pattern in _OF_A_MODEL for file in folder.glob(pattern)}))
