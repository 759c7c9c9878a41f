"""The rollouts of runs in tests: as bytes, to be compared, and as older versions wrote them."""

from __future__ import annotations

import shutil
from pathlib import Path

from scope_rlvr.store.journal import append_records
from scope_rlvr.store.rollouts import FOLDER, PLAIN, Rollouts, rollout_files


def rollout_bytes(run: Path) -> list[tuple[str, bytes]]:
    """The files of a run's rollouts, name by name."""
    return [(file.name, file.read_bytes()) for file in rollout_files(run)]


def in_lines(run: Path) -> Path:
    """Give a run the form that older versions wrote, one JSON object a line; returns the file."""
    append_records(run / PLAIN, list(Rollouts((*(run / FOLDER).glob("*.zst"),))))
    shutil.rmtree(run / FOLDER)
    return run / PLAIN
