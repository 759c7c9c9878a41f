"""Checkpoints that can be relied on: each ends with a marker, which names its files and their digests.

The marker is written last, once everything that it names is on the disk. So a checkpoint without a marker was not
written to its end, and one whose files differ from its marker was damaged later.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scope_rlvr.core.errors import UserError
from scope_rlvr.store.digests import file_digest
from scope_rlvr.store.files import give_usual_rights, to_disk, write_json

CHECKPOINT_MARKER = "COMPLETE"
MARKER_SCHEMA = 1
_DAMAGED = "damaged-"
_NUM_KEPT = 2


def step_of(checkpoint: Path | None) -> int:
    """The step that a checkpoint was saved after, 0 for none.

    >>> step_of(Path("checkpoints/checkpoint-250"))
    250
    """
    return 0 if checkpoint is None else int(checkpoint.name.rsplit("-", 1)[1])


def mark_complete(checkpoint: Path) -> None:
    """Write the marker of a checkpoint whose files are all there, and remove all but the two newest checkpoints.

    Waits until the files are on the disk.
    """
    give_usual_rights(checkpoint)
    files = sorted(_files(checkpoint))
    for path in (*files, *{file.parent for file in files}):
        to_disk(path)
    named = zip(files, _digests(files), strict=True)
    content = {
        file.relative_to(checkpoint).as_posix(): {"bytes": file.stat().st_size, "sha256": digest}
        for file, digest in named
    }
    write_json(checkpoint / CHECKPOINT_MARKER, {"schema": MARKER_SCHEMA, "files": content})
    _remove_old(checkpoint.parent)


def _remove_old(folder: Path) -> None:
    """Keep the newest complete checkpoints. The marker goes first, so that a kill leaves none that is half there."""
    kept = sorted(_complete(folder), key=step_of)[-_NUM_KEPT:]
    for old in folder.glob("checkpoint-*"):
        if step_of(old) < step_of(kept[0]):
            (old / CHECKPOINT_MARKER).unlink(missing_ok=True)
            shutil.rmtree(old)


def damage_of(checkpoint: Path) -> str:
    """What is wrong with a checkpoint that has its marker; empty if nothing is. Reads every file.

    An empty marker, as older versions wrote it, names no files, so nothing can be compared.
    """
    marker = checkpoint / CHECKPOINT_MARKER
    if not marker.stat().st_size:
        return ""
    try:
        content: dict[str, dict[str, Any]] = json.loads(marker.read_text(encoding="utf-8"))["files"]
        sizes = {name: int(file["bytes"]) for name, file in content.items()}
        digests = [str(file["sha256"]) for file in content.values()]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return f"{CHECKPOINT_MARKER} cannot be read"
    for name, size in sizes.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} bytes, and had {size:,}"
    found = _digests([checkpoint / name for name in content])
    changed = [name for name, before, now in zip(content, digests, found, strict=True) if before != now]
    return f"{changed[0]} has changed since it was written" if changed else ""


def last_sound_checkpoint(folder: Path, on_damage: Callable[[str], None]) -> Path | None:
    """The newest complete checkpoint of a folder that is not damaged; ``None`` where none is complete.

    ``on_damage`` is told of every newer one that is. Raises :class:`UserError` where all of them are.
    """
    faults = []
    for checkpoint in sorted(_complete(folder), key=step_of, reverse=True):
        damage = damage_of(checkpoint)
        if not damage:
            return checkpoint
        faults.append(f"{checkpoint.name} is damaged: {damage}")
        on_damage(faults[-1])
    if faults:
        raise UserError(
            f"no checkpoint in {folder} can be used: {'; '.join(faults)}. Put back the files, or remove the checkpoints to "
            "begin again from step 0"
        )
    return None


def set_aside_after(folder: Path, step: int) -> None:
    """Clear the way for checkpoints of steps after ``step``, which will be done again.

    Those that were not written to their end are removed. Damaged ones stay beside the others, as ``damaged-checkpoint-N``.
    """
    for checkpoint in list(folder.glob("checkpoint-*")):
        if step_of(checkpoint) <= step:
            continue
        if (checkpoint / CHECKPOINT_MARKER).is_file():
            aside = checkpoint.with_name(f"{_DAMAGED}{checkpoint.name}")
            shutil.rmtree(aside, ignore_errors=True)
            checkpoint.rename(aside)
        else:
            shutil.rmtree(checkpoint)


def _complete(folder: Path) -> Iterator[Path]:
    return (marker.parent for marker in folder.glob(f"checkpoint-*/{CHECKPOINT_MARKER}"))


def _files(checkpoint: Path) -> Iterator[Path]:
    return (path for path in checkpoint.rglob("*") if path.is_file() and path.name != CHECKPOINT_MARKER)


def _digests(files: list[Path]) -> list[str]:
    # Hashing releases the interpreter's lock: large files are read side by side.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:
        return list(threads.map(file_digest, files))
