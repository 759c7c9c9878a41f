"""Disks that are full, and files that may not be written: one message that names the path, and nothing is lost.

    python -m tests.torture.full_disk [--seconds 600] [--trials 60]

The command runs in a fork in which a change of a file, chosen at random, fails as it does on a full or a read-only disk; so do all
later ones, as they would. Where this user may mount, it also runs on real small disks. Then there is room again, and the command is
taken up.
"""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

from tests.torture.bad_input import import_everything
from tests.torture.fault_points import at_file_events
from tests.torture.isolated import Ended, run_scope
from tests.torture.kills import (
    DEADLINE_SECONDS,
    Scenario,
    Whole,
    at_the_end,
    parser_of,
    resumable,
    try_in_turn,
    without_charts,
)

FAULTS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "over the quota": errno.EDQUOT, "broken": errno.EIO}
_MOST_FILE_EVENTS = 80
_FILE_SIZES = (100, 1000, 5000, 20_000, 100_000, 400_000, 1_000_000)
_DISK_KIB = (4, 16, 64, 256, 1024, 2048, 4096, 6000)


def fail_from_file_event(number: int, folder: Path, code: int) -> None:
    """From now on, this process's file event of this number, and each after it, fails with an error number of the system."""

    def act(count: int, path: str) -> None:
        if count >= number:
            raise OSError(code, os.strerror(code), path)

    at_file_events(folder, act)


def trial(scenario: Scenario, undisturbed: Whole, seed: int) -> tuple[str, str]:
    """How a fault ended, and what it was."""
    rng = Random(f"disk/{scenario.name}/{seed}")
    kinds = ["event", "size", *(["small disk"] if may_mount() else [])]
    kind = rng.choice(kinds)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "here"
        folder.mkdir()
        if kind == "small disk":
            kib = rng.choice(_DISK_KIB)
            with _small_disk(folder, kib) as make_room:
                return _trial(scenario, undisturbed, folder, without_charts, make_room), f"a disk of {kib} KiB"
        name, number, size = rng.choice(sorted(FAULTS)), rng.randint(1, _MOST_FILE_EVENTS), rng.choice(_FILE_SIZES)

        def prepare() -> None:
            without_charts()
            if kind == "event":
                fail_from_file_event(number, folder, FAULTS[name])
            else:
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        what = f"{name} at file event {number}" if kind == "event" else f"no file above {size} bytes"
        return _trial(scenario, undisturbed, folder, prepare), what


def _trial(
    scenario: Scenario,
    undisturbed: Whole,
    folder: Path,
    prepare: Callable[[], None],
    make_room: Callable[[], object] = lambda: None,
) -> str:
    scenario.prepare(folder)
    ended = run_scope(scenario.arguments, folder, DEADLINE_SECONDS, prepare)
    wrong = _what_is_wrong(ended)
    if wrong:
        return wrong
    make_room()
    return at_the_end(scenario, undisturbed, scenario.resume(folder), folder)


def _what_is_wrong(ended: Ended) -> str:
    """Empty where the command ended undisturbed, or with one message and the exit code for it."""
    if ended.code == 0:
        return ""
    if ended.has_traceback or ended.code not in (1, 2):
        last = (ended.err.strip().splitlines() or ["said nothing"])[-1]
        return f"exit code {ended.code}: {last[:160]}"
    names_a_path = "cannot be written" in ended.err or "/here/" in ended.err
    return "" if names_a_path else f"did not say what cannot be written: {ended.err[-160:]}"


def may_mount() -> bool:
    """Whether this user may make small disks."""
    return (
        os.geteuid() == 0 and Path("/proc/filesystems").is_file() and "tmpfs" in Path("/proc/filesystems").read_text()
    )


@contextmanager
def _small_disk(folder: Path, kib: int) -> Iterator[Callable[[], object]]:
    """A disk of so many KiB in place of a folder; what is given makes it large."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True)
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def _attempt(scenario: Scenario, undisturbed: Whole, seed: int) -> tuple[str, str, dict[str, Any]]:
    outcome, fault = trial(scenario, undisturbed, seed)
    return outcome, fault, {"fault": fault}


def main() -> None:
    """The command line."""
    arguments = parser_of(__doc__).parse_args()
    import_everything()
    try_in_turn("full_disk", arguments, resumable(), _attempt)


if __name__ == "__main__":
    main()
